//! What people call things: a file that gives names, roles and groups to
//! hosts, networks, units and processes. It must not know where a graph comes
//! from, nor how a label is printed.
//!
//! As in ssh_config(5), the first rule that says something about a thing is
//! the one that counts, for name, role and group each.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use wildmatch::WildMatch;

/// Most rules of a file.
const MAX_RULES: usize = 1_000;

/// Longest name, role or group, in characters.
const MAX_TEXT: usize = 100;

/// What people call something. At least one of the three is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// Its own name.
    pub name: Option<Arc<str>>,
    /// What it is for: a database, a proxy.
    pub role: Option<Arc<str>>,
    /// What it belongs to: a team, an application, a site.
    pub group: Option<Arc<str>>,
}

/// Something that may have a label.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thing<'a> {
    /// Name and id of its host, if that reports.
    pub host: Option<(&'a str, &'a str)>,
    /// The addresses it has.
    pub addresses: &'a [IpAddr],
    /// Its systemd unit.
    pub unit: Option<&'a str>,
    /// Its container.
    pub container: Option<&'a str>,
    /// Its process' name.
    pub process: Option<&'a str>,
}

/// The rules of a file, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    rules: Vec<Rule>,
}

/// Everything that is said must be true of what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default, deserialize_with = "one_or_many")]
    host: Vec<HostPattern>,
    #[serde(default, deserialize_with = "one_or_many")]
    cidr: Vec<Network>,
    #[serde(default, deserialize_with = "one_or_many")]
    unit: Vec<Pattern>,
    #[serde(default, deserialize_with = "one_or_many")]
    container: Vec<Pattern>,
    #[serde(default, deserialize_with = "one_or_many")]
    process: Vec<Pattern>,
    name: Option<Arc<str>>,
    role: Option<Arc<str>>,
    group: Option<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    label: Vec<Rule>,
}

/// `web-*`: a star stands for any characters, a question mark for one.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "String")]
struct Pattern(WildMatch);

impl Eq for Pattern {}

/// As [`Pattern`], without regard to case: names of hosts have none (RFC 4343).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "String")]
struct HostPattern(WildMatch);

impl Eq for HostPattern {}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

#[derive(Deserialize)]
#[serde(untagged, expecting = "it is no text, nor a list of texts")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Pattern(WildMatch::new(&text))
    }
}

impl From<String> for HostPattern {
    fn from(text: String) -> Self {
        HostPattern(WildMatch::new_case_insensitive(&text))
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = || text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        let network = text.parse::<IpNet>().or_else(|_| address());
        network.map(Network).map_err(|_| {
            format!("'{text}' is not an address or network; write 10.0.0.0/24 or fd00::10")
        })
    }
}

fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<String, Error: std::fmt::Display>,
{
    let texts = match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let read = |text| T::try_from(text).map_err(serde::de::Error::custom);
    texts.into_iter().map(read).collect()
}

impl Labels {
    /// Reads the text of a file. The error is one line that says where.
    pub fn parse(text: &str) -> Result<Labels, String> {
        let document: Document = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| 1 + before.matches('\n').count());
            let line = line.map_or(String::new(), |line| format!("line {line}: "));
            format!("{line}{}", error.message().replace('\n', " "))
        })?;
        if document.label.len() > MAX_RULES {
            return Err(format!("more than {MAX_RULES} rules; merge some with cidr, or *"));
        }
        for (number, rule) in document.label.iter().enumerate() {
            rule.check().map_err(|error| format!("[[label]] number {}: {error}", number + 1))?;
        }
        Ok(Labels { rules: document.label })
    }

    /// Whether no rule is there.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether some rule gives this name, role or group.
    pub fn gives(&self, word: &str) -> bool {
        self.rules.iter().any(|rule| is_any(&rule.name, &rule.role, &rule.group, word))
    }

    /// The names, roles and groups that have a text in them, in any case, sorted.
    pub fn with(&self, text: &str) -> BTreeSet<Arc<str>> {
        let text = text.to_lowercase();
        let words = self.rules.iter().flat_map(|rule| [&rule.name, &rule.role, &rule.group]);
        let words = words.flatten().filter(|word| word.to_lowercase().contains(&text));
        words.cloned().collect()
    }

    /// What a thing is called, if it is called anything.
    pub fn of(&self, thing: &Thing<'_>) -> Option<Label> {
        let mut label = Label::default();
        for rule in self.rules.iter().filter(|rule| rule.is_about(thing)) {
            for (has, says) in [
                (&mut label.name, &rule.name),
                (&mut label.role, &rule.role),
                (&mut label.group, &rule.group),
            ] {
                if has.is_none() {
                    has.clone_from(says);
                }
            }
        }
        (label != Label::default()).then_some(label)
    }
}

impl Label {
    /// Whether its name, role or group is this.
    pub fn is(&self, word: &str) -> bool {
        is_any(&self.name, &self.role, &self.group, word)
    }
}

fn is_any(
    name: &Option<Arc<str>>,
    role: &Option<Arc<str>>,
    group: &Option<Arc<str>>,
    word: &str,
) -> bool {
    [name, role, group].into_iter().flatten().any(|text| **text == *word)
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let says = [("name", &self.name), ("role", &self.role), ("group", &self.group)];
        if says.iter().all(|(_, text)| text.is_none()) {
            return Err("it gives no name, role or group".to_owned());
        }
        for (what, text) in says {
            match text.as_deref() {
                Some(text) if text.trim().is_empty() => return Err(format!("its {what} is empty")),
                Some(text) if text.chars().count() > MAX_TEXT => {
                    return Err(format!("its {what} is longer than {MAX_TEXT} characters"));
                }
                _ => {}
            }
        }
        let patterns = [&self.unit, &self.container, &self.process];
        let any = !self.host.is_empty() || !self.cidr.is_empty();
        if !any && patterns.iter().all(|patterns| patterns.is_empty()) {
            return Err("it is for nothing: give it host, cidr, unit, container or process".into());
        }
        Ok(())
    }

    fn is_about(&self, thing: &Thing<'_>) -> bool {
        let fits = |patterns: &[Pattern], text: Option<&str>| {
            patterns.is_empty()
                || text.is_some_and(|text| patterns.iter().any(|pattern| pattern.0.matches(text)))
        };
        let host = self.host.is_empty()
            || thing.host.is_some_and(|(name, id)| {
                self.host.iter().any(|pattern| pattern.0.matches(name) || pattern.0.matches(id))
            });
        let network = self.cidr.is_empty()
            || thing
                .addresses
                .iter()
                .any(|address| self.cidr.iter().any(|network| network.0.contains(address)));
        host && network
            && fits(&self.unit, thing.unit)
            && fits(&self.container, thing.container)
            && fits(&self.process, thing.process)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const FILE: &str = r#"
        [[label]]
        host = "web-*"
        role = "web server"

        [[label]]
        cidr = ["10.1.0.0/16", "fd01::/32"]
        group = "payments"

        [[label]]
        unit = "postgresql@*.service"
        host = ["db-1", "db-2"]
        name = "ledger"
        role = "database"

        [[label]]
        cidr = "0.0.0.0/0"
        group = "elsewhere"
    "#;

    fn says(thing: Thing<'_>) -> String {
        let labels = Labels::parse(FILE).expect("the file is right");
        let Some(Label { name, role, group }) = labels.of(&thing) else { return "-".into() };
        [name, role, group].map(|text| text.as_deref().unwrap_or("-").to_owned()).join(", ")
    }

    fn refused(text: &str, expected: Expect) {
        expected.assert_eq(&Labels::parse(text).expect_err("it is wrong"));
    }

    #[test]
    fn the_first_rule_that_says_something_counts() {
        let ip = |text: &str| [text.parse::<IpAddr>().expect("an address")];
        let web = Thing { host: Some(("WEB-1", "id")), ..Thing::default() };
        assert_eq!(says(Thing { addresses: &ip("10.1.2.3"), ..web }), "-, web server, payments");
        assert_eq!(says(Thing { addresses: &ip("10.2.2.3"), ..web }), "-, web server, elsewhere");
        assert_eq!(says(web), "-, web server, -");
        assert_eq!(says(Thing { addresses: &ip("fd01::1"), ..Thing::default() }), "-, -, payments");
        let db = Thing {
            host: Some(("db-1", "id")),
            unit: Some("postgresql@15-main.service"),
            ..Thing::default()
        };
        assert_eq!(says(db), "ledger, database, -");
        assert_eq!(says(Thing { host: Some(("db-3", "id")), ..db }), "-");
        assert_eq!(says(Thing { unit: None, ..db }), "-");
        assert_eq!(says(Thing::default()), "-");
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_place() {
        refused(
            "[[label]]\nhost = \"a\"\n",
            expect!["[[label]] number 1: it gives no name, role or group"],
        );
        refused(
            "[[label]]\nname = \"a\"\n",
            expect![
                "[[label]] number 1: it is for nothing: give it host, cidr, unit, container or process"
            ],
        );
        refused(
            "[[label]]\nname = \" \"\nhost = \"a\"\n",
            expect!["[[label]] number 1: its name is empty"],
        );
        refused(
            "\n[[label]]\ncidr = \"10.0.0.0/33\"\nname = \"a\"\n",
            expect![
                "line 3: '10.0.0.0/33' is not an address or network; write 10.0.0.0/24 or fd00::10"
            ],
        );
        refused(
            "[[label]]\nhots = \"a\"\nname = \"a\"\n",
            expect![
                "line 2: unknown field `hots`, expected one of `host`, `cidr`, `unit`, `container`, `process`, `name`, `role`, `group`"
            ],
        );
        refused(
            "[[label]]\nhost = 1\nname = \"a\"\n",
            expect!["line 2: it is no text, nor a list of texts"],
        );
        refused("[[label\n", expect!["line 1: unclosed array table, expected `]]`"]);
    }
}
