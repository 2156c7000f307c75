//! Names that a process chose to be a nuisance, through the whole path.

use crate::lab::network::Lab;
use crate::lab::program::python;
use crate::lab::ss::{self, listens};
use crate::lab::wait::{self, LIMIT};

/// What a process calls itself, and how that is written as text.
const NAMES: &[(&[u8], &str)] = &[
    (b"a) R 1 1\n2 (", "a) R 1 1\n2 ("),
    (b"\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
    (b"<script>x", "<script>x"),
    (b"=cmd|' /C'!A0", "=cmd|' /C'!A0"),
    (b"'; drop --\"`", "'; drop --\"`"),
    (b"\xff\xfe", "\\xff\\xfe"),
    ("\u{202e}live".as_bytes(), "\u{202e}live"),
    (b"tab\tand\rCR\x07", "tab\tand\rCR\x07"),
    (b"{}[]|%n%s\\", "{}[]|%n%s\\"),
    (b" ", " "),
];

#[test]
fn a_hostile_name_comes_back_exactly_and_reaches_no_terminal() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let client = lab.host("client-1", 20);
    python(&web, &["serve", "10.77.0.10", "9000"]);
    listens(&web, "10.77.0.10:9000");
    for (name, _) in NAMES {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        python(&client, &["hold", "10.77.0.10", "9000", &format!("comm={hex}")]);
    }
    // Asked where the names are tame: `ss` prints others as they are.
    wait::until("all to be connected", LIMIT, || {
        let sockets = ss::sockets(&web);
        let there = sockets.iter().filter(|line| line.is_connection()).count();
        (there == NAMES.len()).then_some(()).ok_or(format!("{there} are"))
    });
    let truth: Vec<String> = NAMES
        .iter()
        .map(|(_, name)| {
            format!("client-1/{name} 10.77.0.20 -> web-1/python3 10.77.0.10 tcp/9000 both")
        })
        .collect();
    let truth: Vec<&str> = truth.iter().map(String::as_str).collect();
    for cmdb in lab.recorded(&lab.hosts()) {
        cmdb.expect(&lab.hosts(), &truth);
        for form in ["tree", "table", "json", "csv", "dot", "mermaid"] {
            let text = cmdb.succeeds(&["look", "--host", "web-1", "-o", form]);
            assert!(text.contains("script"), "{form} has the names: {text}");
            let raw = text.chars().find(|character| is_raw(*character));
            assert_eq!(raw, None, "a raw control in {form}: {text:?}");
        }
    }
}

/// What a terminal or a reader of text acts upon, rather than shows.
fn is_raw(character: char) -> bool {
    let bidi = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    bidi || (character.is_control() && character != '\n')
}
