//! A question answered: fetch, level by level, until the graph is complete.
//!
//! It decides nothing: what to fetch is [`Search`]'s matter, and how the
//! answer looks a view's.

use std::sync::Arc;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use tracing::debug;

use crate::cmdb::Cmdb;
use crate::cmdb::fault::Fault;
use crate::graph::search::{Answer, Otherwise, Question, Search};
use crate::graph::walk::{Reach, Ways};
use crate::labels::Labels;
use crate::recall::{Found, HostKey, Selector, Window};

/// Most hosts whose records are fetched only to say when something was last
/// heard of.
const OTHERWISE_HOSTS: usize = 16;

/// How far apart in time two hosts' words about one connection may be, and how
/// long a host may be silent until its flows are no longer taken to be alive:
/// four heartbeats at the standard flush interval, less what clocks differ by.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(120);

/// Most hosts whose records one question fetches; those beyond are counted in
/// the answer.
const MAX_HOSTS: usize = 1000;

/// Most edges in one answer; those beyond are counted in it.
const MAX_EDGES: usize = 100_000;

/// A question within the limits that hold for everybody who asks.
///
/// A word that no label has is not taken for one, unless that is all it can be.
pub fn question(
    mut selectors: Vec<Selector>,
    window: Window,
    depth: u32,
    ways: Ways,
    labels: Arc<Labels>,
) -> Question {
    if selectors.len() > 1 {
        selectors.retain(|selector| match selector {
            Selector::Label(word) => labels.gives(word),
            _ => true,
        });
    }
    Question {
        selectors,
        window,
        reach: Reach { depth, ways, edges: MAX_EDGES },
        hosts: MAX_HOSTS,
        tolerance: TOLERANCE,
        labels,
    }
}

/// Answers a question as of `now`.
pub async fn look(cmdb: &Cmdb, question: Question, now: Timestamp) -> Result<Answer> {
    let meant = meant(cmdb, &question.selectors, &question.window, &question.labels).await?;
    look_from(cmdb, question, meant, now).await
}

/// The same for who knows already where to begin: for two questions that are
/// compared, which must be of the same hosts.
pub async fn look_from(
    cmdb: &Cmdb,
    question: Question,
    meant: (Selector, Found),
    now: Timestamp,
) -> Result<Answer> {
    let mut answer = search(cmdb, question, meant, now).await?;
    if answer.walk.steps.is_empty() {
        answer.otherwise = otherwise(cmdb, &answer.question).await?;
    }
    Ok(answer)
}

/// Which of the selectors is meant, and where to begin: the first that
/// anything is known of in the window.
pub async fn meant(
    cmdb: &Cmdb,
    selectors: &[Selector],
    window: &Window,
    labels: &Labels,
) -> Result<(Selector, Found)> {
    let mut meant = None;
    for selector in selectors {
        let found = find(cmdb, selector, window, labels).await?;
        let known = !found.hosts.is_empty() || !found.addresses.is_empty();
        if known || meant.is_none() {
            meant = Some((selector.clone(), found));
        }
        if known {
            break;
        }
    }
    Ok(meant.unwrap_or_else(|| unreachable!("a question has a selector")))
}

/// Where to begin. The CMDB knows no labels, and finds every host for one; of a
/// word that no label gives there is none.
async fn find(cmdb: &Cmdb, selector: &Selector, window: &Window, labels: &Labels) -> Result<Found> {
    match selector {
        Selector::Label(word) if !labels.gives(word) => Ok(Found::default()),
        _ => cmdb.find(selector, window).await,
    }
}

async fn search(
    cmdb: &Cmdb,
    question: Question,
    (selector, found): (Selector, Found),
    now: Timestamp,
) -> Result<Answer> {
    let window = question.window;
    let mut search = Search::begin(question, selector, found);
    while let Some(ask) = search.ask() {
        search.take(cmdb.around(&ask.hosts, &ask.addresses, &window).await?);
    }
    let counted = search.counted();
    if counted.is_empty() {
        return Ok(search.answer(now, Some(&[])));
    }
    match cmdb.traffic(&counted, &window).await {
        Ok(traffic) => Ok(search.answer(now, Some(&traffic))),
        // More hours of more flows than it gives at once: the edges are known
        // all the same, and the answer says what is missing.
        Err(error) if matches!(error.downcast_ref(), Some(Fault::Refused(_))) => {
            debug!("{error:#}");
            Ok(search.answer(now, None))
        }
        Err(error) => Err(error),
    }
}

/// What is known at whatever time of something that has no edges in the
/// window.
async fn otherwise(cmdb: &Cmdb, question: &Question) -> Result<Option<Otherwise>> {
    let always = Window::default();
    for selector in &question.selectors {
        let found = find(cmdb, selector, &always, &question.labels).await?;
        if found.hosts.is_empty() && found.addresses.is_empty() {
            continue;
        }
        let hosts: Vec<HostKey> = found.hosts.iter().copied().take(OTHERWISE_HOSTS).collect();
        let addresses: Vec<_> = found.addresses.iter().copied().take(OTHERWISE_HOSTS).collect();
        let records = cmdb.around(&hosts, &addresses, &always).await?;
        let known = Otherwise::of(selector.clone(), &found, &records, question);
        // Of a label every host was found, and none of these may have it.
        if !known.hosts.is_empty() || !matches!(selector, Selector::Label(_)) {
            return Ok(Some(known));
        }
    }
    Ok(None)
}
