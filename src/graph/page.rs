//! A part of a list, and where the next one begins.
//!
//! A list is made anew for each of its pages. So a page begins behind the thing
//! that ended the one before, wherever that stands now; where it stands
//! elsewhere, or is gone, the page says that the list has changed. Words of time
//! mean what they meant to the first page.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use jiff::Timestamp;

use crate::graph::search::Answer;
use crate::graph::walk::Step;
use crate::graph::{Identity, NodeId};

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Most entries.
    pub limit: usize,
    /// Behind what; from the beginning if absent.
    pub after: Option<Cursor>,
    /// When the first page was asked for.
    pub asked: Timestamp,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Entries up to there.
    offset: usize,
    /// The last of them.
    mark: u64,
    /// When the first page was asked for, in microseconds since 1970.
    asked: i64,
}

/// A part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Entries passed over.
    pub offset: usize,
    /// Entries in it.
    pub count: usize,
    /// Entries on all pages.
    pub total: usize,
    /// Where the next begins, if there is one.
    pub next: Option<Cursor>,
    /// The list is not what it was for the page before.
    pub moved: bool,
}

impl Page {
    /// The first page, of so many entries.
    pub fn first(limit: usize, asked: Timestamp) -> Page {
        Page { limit, after: None, asked }
    }

    /// The part of a list of `total` entries, of which `mark` gives what each is
    /// known by.
    pub fn part(&self, total: usize, mark: impl Fn(usize) -> u64) -> Part {
        let (offset, moved) = match self.after {
            None => (0, false),
            Some(cursor) => begin(cursor, total, &mark),
        };
        let count = self.limit.min(total - offset);
        let end = offset + count;
        let cursor =
            || Cursor { offset: end, mark: mark(end - 1), asked: self.asked.as_microsecond() };
        let next = (count > 0 && end < total).then(cursor);
        Part { offset, count, total, next, moved }
    }
}

/// Where the page behind a cursor begins, and whether the list has changed.
fn begin(cursor: Cursor, total: usize, mark: impl Fn(usize) -> u64) -> (usize, bool) {
    let ends = |end: usize| end <= total && mark(end - 1) == cursor.mark;
    if ends(cursor.offset) {
        return (cursor.offset, false);
    }
    // The nearest, should several look alike.
    let elsewhere = (1..=total).filter(|end| ends(*end));
    let elsewhere = elsewhere.min_by_key(|end| end.abs_diff(cursor.offset));
    (elsewhere.unwrap_or(cursor.offset.min(total)), true)
}

impl Part {
    /// All of a list.
    pub fn whole(total: usize) -> Part {
        Part { offset: 0, count: total, total, next: None, moved: false }
    }

    /// The entries of the list.
    pub fn of<'l, T>(&self, list: &'l [T]) -> &'l [T] {
        &list[self.offset..self.offset + self.count]
    }

    /// Whether it is all of the list.
    pub fn is_whole(&self) -> bool {
        self.count == self.total
    }
}

impl Cursor {
    /// When the first page was asked for.
    pub fn asked(&self) -> Option<Timestamp> {
        Timestamp::from_microsecond(self.asked).ok()
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.offset, self.mark, self.asked)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Cursor, String> {
        let cursor = || {
            let mut parts = text.splitn(3, '-');
            let offset = parts.next()?.parse().ok().filter(|offset| *offset > 0)?;
            let mark = u64::from_str_radix(parts.next()?, 16).ok()?;
            let cursor = Cursor { offset, mark, asked: parts.next()?.parse().ok()? };
            cursor.asked().map(|_| cursor)
        };
        cursor().ok_or_else(|| {
            format!("'{text}' is where no page ended; take 'next' of the page before")
        })
    }
}

/// What a thing is known by: the same in every build, for the next page may be
/// another collector's.
pub fn mark(thing: impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    thing.hash(&mut hasher);
    hasher.finish()
}

/// FNV-1a.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A node by what outlives its restart.
pub fn lasting(answer: &Answer, node: NodeId) -> impl Hash + use<'_> {
    match &answer.graph.nodes[node].identity {
        Identity::Process { place, process, .. } => (Some(place), Some(&process.name), None, None),
        Identity::Unseen { place, port } => (Some(place), None, None, *port),
        Identity::Peer { address, port, link } => (link.as_ref(), None, Some(*address), *port),
    }
}

impl Answer {
    /// Keeps one page of its edges, with their ends. The first has what is asked
    /// about and has no edge, too.
    pub fn turn(&mut self, page: &Page) {
        let steps = &self.walk.steps;
        let part = page.part(steps.len(), |at| self.mark(&steps[at]));
        self.part = Some(part);
        if part.is_whole() {
            return;
        }
        let ends = |steps: &[Step]| -> Vec<bool> {
            let mut ends = vec![false; self.graph.nodes.len()];
            for step in steps {
                (ends[step.from], ends[step.to]) = (true, true);
            }
            ends
        };
        let (all, here) = (ends(steps), ends(part.of(steps)));
        let steps = part.of(steps).iter().map(|step| Step { parent: None, ..*step }).collect();
        self.walk.roots.retain(|root| here[*root] || part.offset == 0 && !all[*root]);
        self.walk.steps = steps;
    }

    fn mark(&self, step: &Step) -> u64 {
        let edge = &self.graph.edges[step.edge];
        let ends = (lasting(self, edge.active), lasting(self, edge.passive));
        let at = (edge.active_address, edge.passive_address, edge.port, edge.active_port);
        mark((ends, edge.protocol, at))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    /// All pages of lists that stand for what is there when each is asked for.
    fn pages<'l>(lists: &[&'l str], limit: usize) -> (Vec<&'l str>, Vec<bool>) {
        let (mut given, mut moved) = (Vec::new(), Vec::new());
        let mut page = Page::first(limit, Timestamp::from_second(7).unwrap());
        for list in lists {
            let words: Vec<&str> = list.split(' ').collect();
            let part = page.part(words.len(), |at| mark(words[at]));
            given.extend(part.of(&words));
            moved.push(part.moved);
            match part.next {
                None => break,
                // As it travels.
                Some(next) => page.after = Some(next.to_string().parse().unwrap()),
            }
        }
        (given, moved)
    }

    #[test]
    fn pages_are_the_list_whatever_their_size() {
        let list = "a b c d e f g";
        for limit in 1..9 {
            let (given, moved) = pages(&[list; 8], limit);
            assert_eq!(given.join(" "), list, "{limit}");
            assert!(!moved.contains(&true));
        }
    }

    #[test]
    fn what_stays_is_given_once_whatever_comes_and_goes_before_it() {
        let lists = ["a b c d e f", "a x y b c d e f", "b d e f"];
        let (given, moved) = pages(&lists, 2);
        assert_eq!(given.join(" "), "a b c d e f");
        assert_eq!(moved, [false, true, true]);
    }

    #[test]
    fn a_list_without_the_last_entry_goes_on_at_its_place_and_says_so() {
        let (given, moved) = pages(&["a b c d", "a c d"], 2);
        assert_eq!((given.join(" ").as_str(), &moved[..]), ("a b d", &[false, true][..]));
        let (given, moved) = pages(&["a b c d", "z"], 2);
        assert_eq!((given.join(" ").as_str(), &moved[..]), ("a b", &[false, true][..]));
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "0-1-1", "1-x-1", "1-1", "-1-1-1", "1-1-99999999999999999999", "1-1-1-1"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
        let cursor: Cursor = "3-00000000000000ff-7000000".parse().unwrap();
        assert_eq!(cursor.to_string(), "3-00000000000000ff-7000000");
        assert_eq!(cursor.asked(), Timestamp::from_second(7).ok());
    }
}
