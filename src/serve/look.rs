//! `GET /api/v1/look`: the graph as JSON (docs/look-json.md), asked for in the
//! words of `shawk look`. `GET /api/v1/look.svg`: the same as a picture.
//! `GET /api/v1/groups`: the same, folded (docs/groups-json.md).

use std::io::Write as _;

use jiff::Timestamp;

use crate::cli::{self, Asked, inquiry};
use crate::graph::group::{self, By};
use crate::graph::page::Page;
use crate::graph::search::Answer;
use crate::look;
use crate::recall::{Role, Selector};
use crate::serve::reply::{self, Refusal, Reply};
use crate::serve::trust::Caller;
use crate::serve::{State, recall};
use crate::view::{self, Format};

/// Most groups of one answer: more is no overview.
const MAX_GROUPS: usize = 150;

/// The word for grouping by whatever gives few groups.
const AUTO: &str = "auto";

/// What is asked of the graph, in words.
pub(crate) struct Words {
    asked: Asked,
    /// Nothing: by whatever fits.
    by: Option<By>,
    /// The one group that is asked about.
    group: Option<String>,
}

/// As a document or a picture.
pub(crate) async fn answer(
    state: &State,
    caller: Caller,
    query: &str,
    format: Format,
) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let words = understand(query, now, None).map_err(Refusal::of_words)?;
    let (by, group) = (words.by.unwrap_or(By::Host), words.group.clone());
    let _turn = recall::turn(state).await?;
    let page = words.asked.page;
    let answer = find(state, words.asked, now).await?;
    let path = if format == Format::Svg { "/api/v1/look.svg" } else { "/api/v1/look" };
    paged(answer, page, format, (path, query), |answer| {
        if let Some(group) = group {
            group::narrow(answer, by, |graph, common| view::group_word(graph, common) == group);
        }
    })
}

/// `GET /api/v1/export`: the same of everything at once, in any format that is
/// for programs; `only` that one, where the path says which.
pub(crate) async fn export(
    state: &State,
    caller: Caller,
    query: &str,
    only: Option<Format>,
) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let pairs = form_urlencoded::parse(query.as_bytes());
    let (asked, format) = inquiry::asked_export(pairs, now).map_err(Refusal::of_words)?;
    let path = if only.is_some() { "/api/v1/grafana/api/graph/data" } else { "/api/v1/export" };
    let format = only.unwrap_or(format);
    let page = asked.page;
    let _turn = recall::turn(state).await?;
    let answer = find(state, asked, now).await?;
    paged(answer, page, format, (path, query), |_| {})
}

/// The page that is asked for, of what `narrow` leaves, and where the next is.
fn paged(
    mut answer: Answer,
    page: Option<Page>,
    format: Format,
    (path, query): (&str, &str),
    narrow: impl FnOnce(&mut Answer),
) -> Result<Reply, Refusal> {
    let mut next = None;
    let reply = reply::printed(format.media_type(), |text| {
        narrow(&mut answer);
        if let Some(page) = page {
            answer.turn(&page);
        }
        next = answer.part.and_then(|part| part.next);
        view::write(&answer, format, false, text)
    });
    reply.map(|reply| reply::with_next(reply, path, query, next))
}

/// Folded, of all that is known unless something else is asked about.
pub(crate) async fn groups(state: &State, caller: Caller, query: &str) -> Result<Reply, Refusal> {
    caller.may(Role::Read)?;
    let now = Timestamp::now();
    let words = understand(query, now, Some(vec![Selector::All])).map_err(Refusal::of_words)?;
    let by = words.by;
    let _turn = recall::turn(state).await?;
    let answer = find(state, words.asked, now).await?;
    reply::printed("application/json", |text| {
        let by = by.unwrap_or_else(|| group::fitting(&answer));
        let groups = group::fold(&answer, by, MAX_GROUPS);
        text.write_all(view::groups(&answer, by, &groups)?.as_bytes())
    })
}

async fn find(state: &State, asked: Asked, now: Timestamp) -> Result<Answer, Refusal> {
    let question =
        look::question(asked.selectors, asked.window, asked.depth, asked.ways, state.labels.now());
    let cmdb = state.cmdb().map_err(|fault| Refusal::of_cmdb(&fault.into()))?;
    let answer = look::look(&cmdb, question, now).await;
    let answer = answer.map_err(|error| Refusal::of_cmdb(&error))?;
    state.metrics.questions.add(1);
    Ok(answer)
}

/// A query's words are those of the command line, without the dashes, and some
/// of its own; one without a selector means `otherwise`.
pub(crate) fn understand(
    query: &str,
    now: Timestamp,
    otherwise: Option<Vec<Selector>>,
) -> Result<Words, String> {
    let (mut ways, mut by, mut group) = (None, None, None);
    let mut rest = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let word = match name.as_ref() {
            "ways" => &mut ways,
            "by" => &mut by,
            // Groups are a whole in any case.
            "group" if otherwise.is_none() => &mut group,
            "limit" | "after" if otherwise.is_some() => {
                return Err(format!("'{name}' is no parameter of this"));
            }
            _ => {
                rest.push((name, value));
                continue;
            }
        };
        if word.replace(value.into_owned()).is_some() {
            return Err(format!("'{name}' stands there twice"));
        }
    }
    let mut words = inquiry::asked_look(rest.into_iter())?;
    (words.up, words.down) = match ways.as_deref() {
        None => (words.up, words.down),
        Some(_) if words.up || words.down => {
            return Err("ways stands beside up or down; give one of them".to_owned());
        }
        Some("both") => (true, true),
        Some("up") => (true, false),
        Some("down") => (false, true),
        Some(ways) => return Err(format!("ways: '{ways}' is neither up, down nor both")),
    };
    let by = match by.as_deref() {
        None => Some(By::Host),
        Some(AUTO) => None,
        Some(by) => {
            let known = By::ALL.into_iter().find(|known| known.name() == by);
            let names = By::ALL.map(By::name).join(", ");
            let error =
                || format!("by: '{by}' is nothing to group by; choose from {AUTO}, {names}");
            Some(known.ok_or_else(error)?)
        }
    };
    let mut asked = cli::asked(words, now).map_err(inquiry::undashed)?;
    if asked.selectors.is_empty() {
        asked.selectors =
            otherwise.ok_or("give one of what, ip, ipv4, ipv6, host, process, port and label")?;
    }
    Ok(Words { asked, by, group })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::collections::BTreeSet;

    use super::{inquiry, understand};
    use crate::graph::walk::Ways;
    use crate::recall::Selector;
    use crate::serve::openapi;
    use jiff::Timestamp;

    #[test]
    fn the_document_names_each_word_of_a_look() {
        let document: serde_json::Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
        for (path, own) in [
            ("/api/v1/look", &["ways", "by", "group"][..]),
            ("/api/v1/look.svg", &["ways", "by", "group"]),
            ("/api/v1/groups", &["ways", "by"]),
        ] {
            let told = document["paths"][path]["get"]["parameters"].as_array().unwrap().iter();
            let told: BTreeSet<_> =
                told.map(|one| one["name"].as_str().unwrap().to_owned()).collect();
            let mut known = inquiry::parameters("look");
            known.extend(own.iter().map(|&word| word.to_owned()));
            known.retain(|word| {
                !(path.ends_with("groups") && ["limit", "after"].contains(&word.as_str()))
            });
            assert_eq!(told, known, "{path}");
        }
    }

    #[test]
    fn a_word_that_is_none_or_stands_twice_is_refused() {
        let all = || Some(vec![Selector::All]);
        let read = |query, otherwise| understand(query, Timestamp::UNIX_EPOCH, otherwise);
        let words = read("host=web&ways=up&depth=2&limit=9", None).unwrap();
        assert_eq!((words.asked.ways, words.asked.depth), (Ways::Up, 2));
        assert_eq!(words.asked.selectors, [Selector::Host("web".to_owned())]);
        assert_eq!(words.asked.page.unwrap().limit, 9);
        for (query, ways) in [
            ("up=true", Ways::Up),
            ("down=true&up=false", Ways::Down),
            ("up=true&down=true", Ways::Both),
            ("ways=down", Ways::Down),
            ("up=false", Ways::Both),
        ] {
            assert_eq!(read(query, all()).unwrap().asked.ways, ways, "{query}");
        }
        assert_eq!(read("depth=2", all()).unwrap().asked.selectors, [Selector::All]);
        for query in [
            "",
            "depth=1",
            "host=a&host=b",
            "host=a&what=b",
            "ip=10.0.0.1&port=80",
            "host=a&at=1h&since=2h",
            "host=a&depth=1&depth=2",
            "host=a&depth=0",
            "host=a&ways=up&ways=down",
            "host=a&ways=sideways",
            "host=a&by=colour",
            "host=a&up=yes",
            "host=a&ways=up&up=true",
            "host=a&limit=0",
            "host=a&limit=1&limit=2",
            "host=a&output=csv",
            "host=a&cmdb=sqlite:/tmp/x",
            "host=a&labels=/etc/passwd",
            "host=a&offset=1",
        ] {
            assert!(read(query, None).is_err(), "{query}");
        }
        for query in ["limit=1", "after=1-0000000000000001-1", "group=host:a"] {
            assert!(read(query, all()).is_err(), "{query}");
        }
    }
}
