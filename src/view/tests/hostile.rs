//! Hostile names through every output: nothing raw comes out, the structure
//! holds, and a program reads the same name back.

use std::sync::Arc;

use jiff::SignedDuration;
use serde_json::Value;

use crate::graph::tests::notation::{process, records, records as notation, second};
use crate::recall::{Records, Selector};
use crate::study::About;
use crate::study::diff::Moments;
use crate::study::tests::outcome_at;
use crate::view::Format;
use crate::view::escape::{is_hidden, visible};
use crate::view::tests::{answer, finding, print};

pub(super) const NAMES: [&str; 22] = [
    "a) R 1 1\n2 (",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{9b}31m\u{7f}\u{85}",
    "<script>alert(1)</script>",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\tx",
    "\rx",
    "'; drop --\"`",
    "\"quoted\",comma",
    "\\xff\\",
    "\u{202e}gnp.exe\u{2066}\u{200e}\u{61c}",
    "zero\u{200b}width\u{feff}\u{2028}\u{2029}",
    "\u{e0041}tag",
    "{}[]|%n%s#;&amp;",
    "--> subgraph end %% //",
    "\"] --> n0; click n0 \"javascript:x",
    "\", shape=none, URL=\"x\\N",
    " ",
    "',pgid=1)\n10.0.0.1:80 ('nginx",
];

/// Both ends, their host and their scope have the name.
fn named(name: &str) -> Records {
    let mut records = records(
        "host a
        host b
        a has 10.0.0.1
        b has 10.0.0.2
        a@s tcp 10.0.0.1 -> 10.0.0.2:80 x/1
        b tcp 10.0.0.2:80 <- 10.0.0.1 x/2
        a@s tcp 10.0.0.1 -> 10.0.0.99:81 x/1",
    );
    for host in &mut records.hosts {
        host.name = name.to_owned();
        host.id = format!("{name}{}", host.id);
    }
    for record in &mut records.flows {
        let process = process(name);
        record.flow.key.process = Some(Arc::clone(&process));
        record.flow.owners[0].process = process;
        if !record.flow.key.scope.is_empty() {
            record.flow.key.scope = Arc::from(format!("netns:{name}"));
        }
    }
    for record in &mut records.addresses {
        if record.host == records.hosts[0].key {
            record.scope = Arc::from(format!("netns:{name}"));
        }
    }
    records
}

fn outputs(name: &str) -> [(Format, String); 9] {
    let answer = answer(named(name), Selector::Process(name.to_owned()), 1);
    Format::ALL.map(|format| (format, print(&answer, format)))
}

#[test]
fn no_hidden_character_comes_out_raw() {
    for name in NAMES {
        for (format, text) in outputs(name) {
            let raw = text.chars().find(|c| *c != '\n' && is_hidden(*c));
            assert_eq!(raw, None, "{name:?} in {format:?}: {text:?}");
        }
    }
}

#[test]
fn every_output_has_as_many_lines_as_with_a_tame_name() {
    let tame = outputs("nginx").map(|(_, text)| text.lines().count());
    for name in NAMES {
        let lines = outputs(name).map(|(_, text)| text.lines().count());
        assert_eq!(lines, tame, "{name:?}");
    }
}

#[test]
fn json_gives_the_same_name_back() {
    for name in NAMES {
        let (_, text) =
            outputs(name).into_iter().find(|(format, _)| *format == Format::Json).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        for node in &document["nodes"].as_array().unwrap()[..2] {
            assert_eq!(node["process"]["name"], name);
            assert_eq!(node["host"], name);
        }
        assert_eq!(document["query"]["selector"]["value"], name);
    }
}

#[test]
fn csv_keeps_its_fields_and_is_no_formula() {
    for name in NAMES {
        let (_, text) =
            outputs(name).into_iter().find(|(format, _)| *format == Format::Csv).unwrap();
        let mut lines = text.lines();
        let titles = fields(lines.next().unwrap());
        for line in lines {
            let record = fields(line);
            assert_eq!(record.len(), titles.len(), "{line}");
            for field in &record {
                assert!(!field.starts_with(['=', '+', '-', '@', '\t', '\r']), "{line}");
            }
            let guard = if name.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
            assert_eq!(record[4], format!("{guard}{}", visible(name)));
        }
    }
}

/// The fields of a record, by RFC 4180.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => field.extend(characters.next()),
            ('"', _) => quoted = !quoted,
            (',', false) => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    assert!(!quoted, "a quote is open: {line}");
    fields.push(field);
    fields
}

#[test]
fn a_name_stays_inside_its_quotes_in_tree_and_table() {
    // A line without its quoted strings is the same whatever the name.
    let bare = |text: &str| {
        let text = text.replace("\\\\", "").replace("\\'", "");
        let parts = text.lines().map(|line| {
            let parts = line.split('\'').step_by(2).map(str::trim).collect::<Vec<_>>();
            parts.join("Q").split_whitespace().collect::<Vec<_>>().join(" ")
        });
        parts.collect::<Vec<_>>().join("\n")
    };
    let tame = outputs("n n");
    for name in NAMES.iter().filter(|name| **name != "-1") {
        for ((format, text), (_, tame)) in outputs(name)[..2].iter().zip(&tame) {
            assert_eq!(bare(text), bare(tame), "{name:?} in {format:?}");
        }
    }
}

#[test]
fn dot_and_mermaid_strings_end_where_they_should() {
    for name in NAMES {
        for (format, text) in &outputs(name)[4..6] {
            for line in text.lines().filter(|line| line.contains('"')) {
                // One string a line, and no sign in it that its language or
                // HTML acts upon.
                assert_eq!(line.matches('"').count(), 2, "{name:?} in {format:?}: {line}");
                let inside = line.split('"').nth(1).unwrap();
                assert!(!inside.contains(['<', '>']), "{name:?} in {format:?}: {line}");
                let rest = line.replace(&format!("\"{inside}\""), "S");
                let shape = rest.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
                let known = [
                    "  n [label=S];",
                    "  n [label=S, style=dashed];",
                    "  n -> n [label=S];",
                    "  n[S]",
                    "  n -->|S| n",
                ];
                assert!(known.contains(&shape.as_str()), "{name:?} in {format:?}: {shape}");
                if *format == Format::Mermaid {
                    let plain = |c: char| c.is_alphanumeric() || " .:,_-+=/()'#;".contains(c);
                    assert!(inside.chars().all(plain), "{inside}");
                }
                if *format == Format::Dot {
                    let bare = inside.replace("\\\\", "");
                    assert!(!bare.contains('\\'), "{inside}");
                }
            }
        }
    }
}

/// Every finding with that name, as a table and as JSON.
fn findings(name: &str) -> Vec<(About, [String; 2])> {
    let mut records = named(name);
    let mut unit = (*process(name)).clone();
    unit.unit = Some(format!("{name}.service"));
    let unit = Arc::new(unit);
    let listens = notation(
        "a tcp 0.0.0.0:80 listens x/3\na tcp 10.0.0.1 -> 10.0.0.98:81 x/1 0-9 connecting=1",
    );
    for mut record in listens.flows {
        record.flow.key.process = Some(Arc::clone(&unit));
        record.flow.owners[0].process = Arc::clone(&unit);
        records.flows.push(record);
    }
    let moments = Moments {
        from: second(5),
        to: second(60),
        window: SignedDuration::from_secs(50),
        exit_code: false,
    };
    let all = [About::Listeners, About::Failing(false), About::Unexplained, About::Diff(moments)];
    let print = |about: &About| {
        let outcome = outcome_at(&records, Selector::All, about.clone(), second(70));
        [Format::Table, Format::Json].map(|format| finding::print(&outcome, format))
    };
    all.into_iter().map(|about| (about.clone(), print(&about))).collect()
}

#[test]
fn findings_show_no_hidden_character_and_keep_their_lines() {
    let tame: Vec<_> = findings("nginx");
    for name in NAMES {
        for ((about, texts), (_, tame)) in findings(name).iter().zip(&tame) {
            for (text, tame) in texts.iter().zip(tame) {
                let raw = text.chars().find(|c| *c != '\n' && is_hidden(*c));
                assert_eq!(raw, None, "{name:?} in {about:?}: {text:?}");
                // A long name makes a row go on below, and no other line.
                let count =
                    |text: &str| text.lines().filter(|line| !line.starts_with("        ")).count();
                assert_eq!(count(text), count(tame), "{name:?}: {text}");
                assert!(!name.contains('\n') || !text.contains(name), "{name:?}: {text}");
            }
            let document: Value = serde_json::from_str(&texts[1]).unwrap();
            let items = document["items"].as_array().unwrap();
            assert!(!items.is_empty(), "{about:?}");
            assert_eq!(document["hosts"][0]["name"], name);
        }
    }
}

#[test]
fn the_text_of_graphml_is_no_markup() {
    for name in NAMES {
        let (_, text) =
            outputs(name).into_iter().find(|(format, _)| *format == Format::GraphMl).unwrap();
        for line in text.lines().filter(|line| line.contains("<data")) {
            let mut kinds = Vec::new();
            for part in line.split('<').skip(1) {
                let (tag, inside) = part.split_once('>').unwrap();
                kinds.push(tag.split([' ', '"']).next().unwrap().to_owned());
                assert!(!inside.contains(['>', '"']), "{name:?}: {line}");
                for rest in inside.split('&').skip(1) {
                    let (entity, _) = rest.split_once(';').unwrap();
                    assert!(["amp", "lt", "gt", "quot", "apos"].contains(&entity), "{line}");
                }
            }
            let element = line.trim().strip_prefix('<').unwrap().split(' ').next().unwrap();
            let (first, last) = (kinds.first().unwrap(), kinds.last().unwrap());
            assert_eq!((first.as_str(), last.as_str()), (element, &*format!("/{element}")));
            let data = &kinds[1..kinds.len() - 1];
            assert!(data.chunks(2).all(|pair| pair == ["data", "/data"]), "{name:?}: {kinds:?}");
        }
    }
}

#[test]
fn grafana_gives_the_same_structure_back() {
    for name in NAMES {
        let (_, text) =
            outputs(name).into_iter().find(|(format, _)| *format == Format::Grafana).unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let (nodes, edges) = (&document["nodes"], &document["edges"]);
        assert_eq!(nodes.as_array().unwrap().len(), 3);
        assert_eq!(edges.as_array().unwrap().len(), 2);
        for node in nodes.as_array().unwrap() {
            let arcs = ["arc__failing", "arc__alive", "arc__quiet"];
            let sum: f64 = arcs.iter().map(|arc| node[arc].as_f64().unwrap()).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{node}");
        }
    }
}

#[test]
fn a_picture_is_made_of_the_same_elements_whatever_the_names() {
    // Where a node stands depends on its name; what it is made of does not.
    let shape = |name: &str| {
        let (_, text) =
            outputs(name).into_iter().find(|(format, _)| *format == Format::Svg).unwrap();
        let mut elements: Vec<String> = text
            .split('<')
            .skip(1)
            .map(|rest| {
                let (element, text) = rest.split_once('>').unwrap();
                assert!(!text.contains('>'), "{name:?}: {text}");
                element.chars().filter(|c| !c.is_ascii_digit()).collect()
            })
            .collect();
        elements.sort();
        elements
    };
    let tame = shape("nginx");
    for name in NAMES {
        assert_eq!(shape(name), tame, "{name:?}");
    }
}
