//! Edges as lines of text, and two lists of them compared.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::lab::ss::Line;

/// One end of an edge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    /// `web-1/nginx`, `box[netns:blue]/nginx`; empty where no probe is.
    pub(crate) label: String,
    pub(crate) address: String,
}

/// An edge, as far as a truth has to say it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) active: End,
    pub(crate) passive: End,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    pub(crate) told_by: String,
    pub(crate) failing: bool,
    pub(crate) direction_unknown: bool,
}

impl End {
    pub(crate) fn new(label: &str, address: IpAddr) -> End {
        End { label: label.to_owned(), address: address.to_string() }
    }

    /// An end that nobody reports for.
    pub(crate) fn nobody(address: IpAddr) -> End {
        End::new("", address)
    }

    fn text(&self) -> String {
        if self.label.is_empty() {
            self.address.clone()
        } else {
            format!("{} {}", self.label, self.address)
        }
    }
}

impl Edge {
    pub(crate) fn new(active: End, passive: End, line: &Line, port: u16, told_by: &str) -> Edge {
        Edge {
            active,
            passive,
            protocol: line.protocol.clone(),
            port,
            told_by: told_by.to_owned(),
            failing: false,
            direction_unknown: false,
        }
    }

    /// `client-1/wrk 10.77.0.20 -> web-1/nginx 10.77.0.10 tcp/80 both`
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} -> {} {}/{} {}",
            self.active.text(),
            self.passive.text(),
            self.protocol,
            self.port,
            self.told_by
        );
        if self.failing {
            line += " failing";
        }
        if self.direction_unknown {
            line += " direction-unknown";
        }
        line
    }
}

/// What is missing and what is too much; `Ok` where both lists have the same
/// lines, each as often.
pub(crate) fn compare(truth: &[&str], found: &[String]) -> Result<(), String> {
    let mut count: BTreeMap<&str, i32> = BTreeMap::new();
    for line in truth {
        *count.entry(line).or_default() -= 1;
    }
    for line in found {
        *count.entry(line).or_default() += 1;
    }
    let mut text = String::new();
    for (line, count) in count {
        let (word, times) = match count {
            0 => continue,
            missing if missing < 0 => ("missing", -missing),
            surplus => ("surplus", surplus),
        };
        for _ in 0..times {
            text += &format!("\n  {word}: {line}");
        }
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_names_what_is_missing_and_what_is_too_much() {
        let found = ["b", "c", "c"].map(str::to_owned);
        assert_eq!(
            compare(&["a", "b", "c"], &found),
            Err("\n  missing: a\n  surplus: c".to_owned())
        );
        assert_eq!(compare(&["c", "b", "c"], &found), Ok(()));
    }
}
