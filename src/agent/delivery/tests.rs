//! What is told, and under which number, step by step on a real disk and a real
//! CMDB.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::agent::delivery::{Delivery, Part};
use crate::agent::journal::{Going, Journal};
use crate::agent::meter::Meter;
use crate::agent::spool::disk::{Job, Reply};
use crate::agent::spool::tests::{FLUSH, at, number, observation, process};
use crate::agent::spool::{Spool, SpoolPlan};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::url::CmdbUrl;
use crate::daemon::lock;
use crate::flow::tally::Tally;
use crate::recall::{Selector, Window};

const LONG: Duration = Duration::from_secs(20);

/// A run of a probe, whose steps the test takes.
struct Run {
    tally: Arc<Mutex<Tally>>,
    journal: Arc<Journal>,
    delivery: Delivery,
}

fn cmdb(directory: &Path) -> CmdbUrl {
    CmdbUrl::parse(&format!("sqlite:{}/cmdb.db", directory.display())).unwrap()
}

impl Run {
    async fn start(directory: &Path, second: i64, flows: &[u32]) -> Run {
        let mut tally = Tally::new(at(second), SignedDuration::from_secs(FLUSH));
        tally.observe(observation(second, flows, &process()));
        let plan = SpoolPlan { path: directory.join("spool"), limit: 64 << 20 };
        let (mut spool, gauge) = Spool::start(&plan, tally.who().unwrap()).unwrap();
        // The thread of the run before may have its lock for a moment still.
        let opened = async {
            loop {
                match spool.ask(Job::Open).await {
                    Ok(Reply::Found { spans, damaged }) => break (spans, damaged),
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let (spans, damaged) = tokio::time::timeout(LONG, opened).await.unwrap();
        tally.take_over(spans, damaged);
        let tally = Arc::new(Mutex::new(tally));
        let journal = Arc::new(Journal { spool: tokio::sync::Mutex::new(spool), gauge });
        let going = watch::channel(Going { delivered: Instant::now(), failing: None }).0;
        let meter = Arc::new(Meter::default());
        let (url, kept) = (cmdb(directory), Some(Arc::clone(&journal)));
        let delivery = Delivery::new(url, Arc::clone(&tally), kept, meter, going);
        Run { tally, journal, delivery }
    }

    fn see(&self, second: i64, flows: &[u32]) {
        lock(&self.tally).observe(observation(second, flows, &process()));
    }

    async fn tell(&mut self, part: Part) {
        assert!(self.delivery.flush(part, LONG).await);
    }

    async fn tell_backlog(&mut self) {
        while self.journal.gauge.has_backlog() {
            assert!(self.delivery.tell_backlog(LONG).await);
        }
    }
}

/// What the CMDB knows of what a flow has sent.
async fn sent(directory: &Path, flow: u32) -> Option<u64> {
    let cmdb = Cmdb::open(&cmdb(directory), &Limits::STANDARD).await.unwrap();
    let window = Window::default();
    let found = cmdb.find(&Selector::Host("h".into()), &window).await.unwrap();
    let hosts: Vec<_> = found.hosts.into_iter().collect();
    let records = cmdb.around(&hosts, &[], &window).await.unwrap();
    cmdb.close().await;
    let flow = records.flows.iter().find(|record| number(&record.flow.key) == flow);
    flow.and_then(|record| record.flow.counters.bytes_sent)
}

/// A probe goes on for long without its CMDB; what is removed from its spool
/// meanwhile is in its memory still.
#[tokio::test]
async fn what_was_removed_is_written_again_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let run = Run::start(path, 0, &[1, 2]).await;
    run.journal.write(&run.tally).await.unwrap();
    for entry in std::fs::read_dir(path.join("spool")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    run.see(1, &[1, 2]);
    run.journal.write(&run.tally).await.unwrap();
    drop(run);
    let run = Run::start(path, 10, &[]).await;
    assert_eq!(lock(&run.tally).spans().taken_over, 2);
}

/// What was journaled counts on, and is told neither by a report of what is new
/// alone nor by the backlog, both of which have a higher number.
#[tokio::test]
async fn what_is_new_takes_no_journals_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut run = Run::start(path, 0, &[1]).await;
    run.tell(Part::Whole).await;
    run.see(FLUSH + 10, &[1]);
    run.journal.write(&run.tally).await.unwrap();
    run.see(FLUSH + 11, &[1, 2]);
    run.tell(Part::News).await;
    drop(run);

    let mut run = Run::start(path, FLUSH + 20, &[]).await;
    run.tell_backlog().await;
    assert_eq!(sent(path, 1).await, Some(1));
    assert_eq!(sent(path, 2).await, Some(0));
}
