//! A day's outage, on a clock that the test moves: the loop of the daemon, the
//! spool on a real disk, a real CMDB.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use jiff::SignedDuration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::agent::journal::Journal;
use crate::agent::meter::Meter;
use crate::agent::spool::SpoolPlan;
use crate::agent::spool::tests::{FLUSH, at, number, observation, process};
use crate::agent::telling::Telling;
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::url::CmdbUrl;
use crate::daemon::lock;
use crate::flow::process::Process;
use crate::flow::tally::Tally;
use crate::recall::{Selector, Window};

const DAY: i64 = 86_400;

/// So often the flows that are alive change: eight of 1,000.
const CHANGE: i64 = 120;

/// One run of a daemon.
struct Run {
    tally: Arc<Mutex<Tally>>,
    journal: Arc<Journal>,
    scanned: watch::Sender<()>,
    telling: JoinHandle<()>,
    process: Arc<Process>,
}

impl Run {
    fn start(directory: &Path, second: i64, flows: &[u32]) -> Run {
        let process = process();
        let mut tally = Tally::new(at(second), SignedDuration::from_secs(FLUSH));
        tally.observe(observation(second, flows, &process));
        let tally = Arc::new(Mutex::new(tally));
        let url = CmdbUrl::parse(&format!("sqlite:{}/cmdb/cmdb.db", directory.display())).unwrap();
        let spool = SpoolPlan { path: directory.join("spool"), limit: 64 << 20 };
        let flush = Duration::from_secs(FLUSH as u64);
        let meter = Arc::new(Meter::default());
        let mut telling = Telling::start(&tally, &url, flush, Some(&spool), meter).unwrap();
        let journal = telling.journal.clone().unwrap();
        let (scanned, mut scans) = watch::channel(());
        let telling = tokio::spawn(async move { telling.go_on(&mut scans).await });
        Run { tally, journal, scanned, telling, process }
    }

    fn see(&self, second: i64, flows: &[u32]) {
        lock(&self.tally).observe(observation(second, flows, &self.process));
        self.scanned.send_replace(());
    }

    /// Lets time pass, and then everybody finish what they are at.
    async fn pass(&self, seconds: i64) {
        tokio::time::advance(Duration::from_secs(seconds as u64)).await;
        // What SQLite is asked is done by the one thread there is for it, and
        // the spool is locked while it is asked. Each step of a delivery takes
        // its turn with one of these.
        for _ in 0..16 {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            drop(self.journal.spool.lock().await);
        }
    }

    fn bytes(&self) -> u64 {
        self.journal.gauge.figures.bytes.get()
    }

    /// As by SIGKILL.
    async fn kill(self) {
        self.telling.abort();
        assert!(self.telling.await.unwrap_err().is_cancelled());
    }
}

fn alive(second: i64) -> Vec<u32> {
    let first = second / CHANGE * 8;
    (first as u32..first as u32 + 1000).collect()
}

/// What the CMDB has: the last moment by run and flow.
async fn known(directory: &Path) -> BTreeMap<(i64, u32), i64> {
    let url = CmdbUrl::parse(&format!("sqlite:{}/cmdb/cmdb.db", directory.display())).unwrap();
    let cmdb = Cmdb::open(&url, &Limits::STANDARD).await.unwrap();
    let window = Window::default();
    let hosts = cmdb.find(&Selector::Host("h".into()), &window).await.unwrap().hosts;
    let hosts: Vec<_> = hosts.into_iter().collect();
    let records = cmdb.around(&hosts, &[], &window).await.unwrap();
    cmdb.close().await;
    let second = |time: jiff::Timestamp| time.as_second() - at(0).as_second();
    let mut known = BTreeMap::new();
    for record in &records.flows {
        for span in &record.spans {
            let run = i64::from(second(span.since) >= DAY / 2);
            let last = known.entry((run, number(&record.flow.key))).or_default();
            *last = second(span.until).max(*last);
        }
    }
    known
}

/// A host with 1,000 flows has no CMDB for a day, and its probe is killed at
/// noon. All is told in the end, soon, and what is new does not wait for it.
#[test]
fn a_day_without_a_cmdb_costs_a_mebibyte_and_no_flow() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(2).build().unwrap();
    // While a thread is busy, the clock stands still unless it is moved.
    let (wait, waiting) = mpsc::channel::<()>();
    runtime.spawn_blocking(move || waiting.recv());
    runtime.block_on(day());
    drop(wait);
}

async fn day() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // Its directory cannot be made, so the CMDB is away.
    std::fs::write(path.join("cmdb"), "").unwrap();
    let mut run = Run::start(path, 0, &alive(0));
    let (mut truth, mut largest) = (BTreeMap::new(), 0);
    for second in (0..DAY).step_by(CHANGE as usize) {
        if second == DAY / 2 {
            run.kill().await;
            run = Run::start(path, second, &alive(second));
        }
        run.see(second, &alive(second));
        for number in alive(second) {
            truth.insert((i64::from(second >= DAY / 2), number), second);
        }
        run.pass(CHANGE).await;
        largest = largest.max(run.bytes());
    }
    assert!(largest > 0 && largest < 1 << 20, "{largest} bytes");
    assert!(lock(&run.tally).spans().taken_over > 1000);

    std::fs::remove_file(path.join("cmdb")).unwrap();
    let (mut second, mut late, mut new) = (DAY, 0, BTreeMap::new());
    let mut flows = alive(DAY - 1);
    while run.journal.gauge.has_backlog() || !new.is_empty() {
        assert!(second < DAY + 600, "it has not caught up within ten minutes");
        if run.journal.gauge.has_backlog() {
            let number = 1_000_000 + second as u32;
            flows.push(number);
            new.insert(number, second);
        }
        run.see(second, &flows);
        run.pass(1).await;
        second += 1;
        let known = known(path).await;
        new.retain(|number, began| {
            let told = known.contains_key(&(1, *number));
            if told {
                late = late.max(second - *began);
            }
            !told
        });
    }
    assert!(second > DAY, "there was no backlog");
    assert!(late <= 60, "what was new came {late} s late");
    let spans = lock(&run.tally).spans();
    assert_eq!((spans.spooled, spans.dropped), (0, [0; 4]));
    assert_eq!(run.bytes(), 0);
    let known = known(path).await;
    for ((life, number), last) in truth {
        let told = known.get(&(life, number)).copied();
        // Of what was alive when the probe was killed, and is alive now, the
        // CMDB knows by the host's last word.
        let end = if life == 0 { DAY / 2 } else { DAY };
        let open = last >= end - FLUSH - CHANGE;
        assert!(
            told == Some(last) || open && told.is_some(),
            "{number} of {life}: {told:?}, not {last}"
        );
    }
    run.kill().await;
}
