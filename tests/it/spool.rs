//! The spool under the real binary: what was synced survives any kill, full
//! and read-only disks, and a second process.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::postgres;

/// Nothing is promised by it: a debug build takes a second of a processor for
/// each 25,000 spans of a backlog, and may get little of one.
const LIMIT: Duration = Duration::from_secs(120);

/// A probe that is killed when it goes out of scope.
pub(crate) struct Probe {
    child: Child,
    metrics: SocketAddr,
    says: Option<BufReader<ChildStderr>>,
}

/// Where nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A CMDB that is away.
pub(crate) fn away() -> String {
    format!("postgres://shawk@127.0.0.1:{}/shawk", free_port())
}

fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("cmdb.db").display())
}

impl Probe {
    fn start(cmdb: &str, spool: &Path) -> Probe {
        Probe::start_by(&[], cmdb, spool)
    }

    pub(crate) fn start_by(before: &[&str], cmdb: &str, spool: &Path) -> Probe {
        Probe::start_in("netlink", "500ms", before, cmdb, spool)
    }

    pub(crate) fn start_in(
        mode: &str,
        flush: &str,
        before: &[&str],
        cmdb: &str,
        spool: &Path,
    ) -> Probe {
        Probe::start_to(Stdio::piped(), mode, flush, before, cmdb, spool)
    }

    /// What it says goes there.
    pub(crate) fn start_to(
        stderr: Stdio,
        mode: &str,
        flush: &str,
        before: &[&str],
        cmdb: &str,
        spool: &Path,
    ) -> Probe {
        let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let words: Vec<&str> =
            before.iter().copied().chain([env!("CARGO_BIN_EXE_shawk")]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["probe", "--mode", mode, "--interval", "100ms"]);
        command.args(["--flush-interval", flush, "--cmdb", cmdb]);
        command.args(["--metrics", &metrics.to_string()]).arg("--spool").arg(spool);
        command.env("SHAWK_HOST_ID", "spooled").env("SHAWK_HOSTNAME", "spooled");
        let mut child = command.stderr(stderr).spawn().unwrap();
        let says = child.stderr.take().map(BufReader::new);
        Probe { child, metrics, says }
    }

    /// Reads what it says until it says that.
    pub(crate) fn says(&mut self, what: &str) {
        let says = self.says.as_mut().unwrap();
        let mut said = String::new();
        while !said.contains(what) {
            assert!(says.read_line(&mut said).unwrap() > 0, "it did not say {what:?}: {said}");
        }
    }

    /// Reads what it says and forgets it.
    pub(crate) fn unheard(mut self) -> Probe {
        let says = self.says.take();
        std::thread::spawn(move || {
            says.map(|mut says| std::io::copy(&mut says, &mut std::io::sink()))
        });
        self
    }

    /// Calls, and says nothing yet.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.metrics)
    }

    /// One scrape, if it answers.
    pub(crate) fn scrape(&self) -> Option<Metrics> {
        let mut stream = self.connect().ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let metrics = Metrics(text);
        metrics.add_up();
        Some(metrics)
    }

    /// Scrapes until it is so. Every scrape on the way must add up.
    pub(crate) fn until(&self, what: &str, is_true: impl Fn(&Metrics) -> bool) -> Metrics {
        let mut last = String::new();
        let deadline = Instant::now() + LIMIT;
        while Instant::now() < deadline {
            if let Some(metrics) = self.scrape() {
                if is_true(&metrics) {
                    return metrics;
                }
                last = metrics.0;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain until {what}; the last scrape: {last}");
    }

    /// SIGTERM; its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = until("it stops", || self.child.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) struct Metrics(String);

impl Metrics {
    pub(crate) fn get(&self, name: &str) -> f64 {
        let line =
            self.0.lines().find_map(|line| line.strip_prefix(&format!("shawk_probe_{name} ")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {}", self.0));
        line.parse().unwrap()
    }

    /// Every span is in one place.
    fn add_up(&self) {
        let dropped: f64 = self
            .0
            .lines()
            .filter(|line| line.starts_with("shawk_probe_spans_dropped_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum();
        let places = ["spans_stored_total", "spans_pending", "spans_spooled"];
        let places: f64 = places.iter().map(|name| self.get(name)).sum();
        let all = self.get("spans_observed_total") + self.get("spans_taken_over_total");
        assert_eq!(all, places + dropped, "{}", self.0);
    }
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Whether the CMDB knows a service at that port.
pub(crate) fn knows(cmdb: &str, port: u16) -> bool {
    let mut look = Command::new(env!("CARGO_BIN_EXE_shawk"));
    let look = look.args(["look", "--port", &port.to_string(), "-o", "csv", "--cmdb", cmdb]);
    let said = String::from_utf8(look.output().unwrap().stdout).unwrap();
    said.lines().any(|line| line.contains(&format!(",{port},")))
}

/// A service with one client, that a scan finds.
pub(crate) fn traffic() -> (u16, TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (address.port(), listener, TcpStream::connect(address).unwrap())
}

pub(crate) fn segments(spool: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(spool) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    found.sort();
    found
}

/// SHAWK_TEST_KILLS=1000 for the long form.
pub(crate) fn kills() -> usize {
    setting("SHAWK_TEST_KILLS").unwrap_or(10) as usize
}

/// SHAWK_TEST_SEED, so that a further long run takes other moments.
pub(crate) fn seed() -> u64 {
    setting("SHAWK_TEST_SEED").unwrap_or(0) * 1000
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Each life sees a service that no other sees, has it synced, and is killed a
/// moment later, in the middle of whatever it does. None fails to start, and
/// in the end the CMDB has all of them, each once.
#[test]
fn what_was_synced_survives_every_kill() {
    let directory = scratch();
    let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
    let mut ports = Vec::new();
    for life in 0..kills() {
        let (port, listener, client) = traffic();
        let probe = Probe::start(&away(), &spool);
        let seen = probe.until("all is on disk", |metrics| {
            metrics.get("spool_usable") == 1.0
                && metrics.get("spans_pending") == 0.0
                && metrics.get("spans_spooled") > metrics.get("spans_taken_over_total")
        });
        assert!(seen.get("spans_taken_over_total") > 0.0 || life == 0, "life {life}");
        // What a kill leaves half written was never synced, and is no damage.
        assert_eq!(seen.get("spool_damaged_total"), 0.0, "life {life}");
        std::thread::sleep(Duration::from_millis((life as u64 * 37) % 700));
        drop(probe);
        drop((listener, client));
        ports.push(port);
    }
    let mut probe = Probe::start(&cmdb, &spool);
    probe.until("the backlog is told", |metrics| {
        metrics.get("spans_spooled") == 0.0
            && metrics.get("spool_backlog_segments") == 0.0
            && metrics.get("spans_taken_over_total") > 0.0
    });
    assert_eq!(probe.stop(), Some(0));
    assert_eq!(segments(&spool), Vec::<PathBuf>::new());
    for port in ports {
        assert!(knows(&cmdb, port), "port {port} is lost");
    }
}

/// Killed at any moment while it delivers what an outage left, too.
#[test]
fn a_kill_while_the_backlog_is_told_loses_nothing() {
    let directory = scratch();
    let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
    let (port, listener, client) = traffic();
    let probe = Probe::start(&away(), &spool);
    probe
        .until("all is on disk", |m| m.get("spans_pending") == 0.0 && m.get("spans_spooled") > 0.0);
    drop(probe);
    drop((listener, client));
    for life in 0..kills() {
        let probe = Probe::start(&cmdb, &spool);
        std::thread::sleep(Duration::from_millis((life as u64 * 53) % 900));
        drop(probe);
    }
    let mut probe = Probe::start(&cmdb, &spool);
    probe.until("all is told", |m| {
        m.get("spans_spooled") == 0.0 && m.get("spans_stored_total") > 0.0
    });
    assert_eq!(probe.stop(), Some(0));
    assert!(knows(&cmdb, port), "port {port} is lost");
}

/// What the disk does not give back is said, counted, and told to whoever asks:
/// the answer is incomplete.
#[test]
fn what_is_damaged_is_said_counted_and_doubted() {
    let says = ["places in segments", "segments in"];
    for (at, says) in [60 + 80, 3].into_iter().zip(says) {
        let directory = scratch();
        let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
        let (_, _listener, _client) = traffic();
        let probe = Probe::start(&away(), &spool);
        probe.until("all is on disk", |metrics| {
            metrics.get("spans_pending") == 0.0 && metrics.get("spans_spooled") > 0.0
        });
        drop(probe);
        let segment = segments(&spool).remove(0);
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[at] ^= 1;
        // The head's other copy.
        bytes[at + 40] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        let mut probe = Probe::start(&cmdb, &spool);
        probe.says(&format!("1 {says}"));
        probe.until("it is told", |metrics| {
            metrics.get("spans_dropped_total{reason=\"damaged\"}") == 1.0
                && metrics.get("spans_spooled") == 0.0
                && metrics.get("spans_stored_total") > 0.0
        });
        assert_eq!(probe.stop(), Some(0));
        let answer = |words: &[&str]| {
            let mut shawk = Command::new(env!("CARGO_BIN_EXE_shawk"));
            let answer = shawk.args(words).args(["spooled", "--cmdb", &cmdb]).output().unwrap();
            String::from_utf8(answer.stdout).unwrap()
        };
        let dropped = "1 record dropped while the CMDB was away";
        for words in [&["look"][..], &["impact", "--decommission"]] {
            let answer = answer(words);
            assert!(answer.contains(dropped), "{words:?}: {answer}");
        }
    }
}

/// Somebody clears the directory of a probe that runs: what it holds is written
/// again, and nobody else takes its place.
#[test]
fn what_is_removed_under_a_probe_is_written_again() {
    let directory = scratch();
    let spool = directory.path().join("spool");
    let (_, _listener, _client) = traffic();
    let mut probe = Probe::start(&away(), &spool);
    let is_kept = |metrics: &Metrics| {
        metrics.get("spans_pending") == 0.0 && metrics.get("spans_spooled") > 0.0
    };
    probe.until("all is on disk", is_kept);
    for entry in std::fs::read_dir(&spool).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    probe.says("somebody removed what was kept");
    until("it is written again", || (segments(&spool).len() == 1).then_some(()));
    let kept = probe.until("all is on disk", is_kept).get("spans_spooled");
    let mut second = Probe::start(&away(), &spool);
    second.says("another process has it");
    drop((probe, second));
    let third = Probe::start(&away(), &spool);
    third.until("it is found", |metrics| metrics.get("spans_taken_over_total") >= kept);
}

#[test]
fn a_second_process_delivers_and_does_not_spool() {
    let directory = scratch();
    let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
    let first = Probe::start(&away(), &spool);
    first.until("it has the spool", |metrics| metrics.get("spool_usable") == 1.0);
    let mut second = Probe::start(&cmdb, &spool);
    second.says("another process has it");
    second.until("it delivers", |metrics| {
        metrics.get("deliveries_total") > 0.0 && metrics.get("spool_usable") == 0.0
    });
    // What the first one left is the second's as soon as the first is gone.
    drop(first);
    second.until("it has the spool", |metrics| {
        metrics.get("spans_taken_over_total") > 0.0 && metrics.get("spans_spooled") == 0.0
    });
    assert_eq!(second.stop(), Some(0));
}

/// A file system of 4 MiB, mounted where nobody else sees it.
const MOUNT: &str = r#"
mount -t tmpfs -o size=4m,mode=700 shawk-test "$1" && shift && exec "$@""#;

fn mounted(spool: &Path, cmdb: &str) -> Probe {
    std::fs::create_dir_all(spool).unwrap();
    let path = spool.to_str().unwrap();
    Probe::start_by(&["unshare", "-m", "sh", "-c", MOUNT, "sh", path], cmdb, spool)
}

/// The directory as the probe sees it.
fn inside(probe: &Probe, spool: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", probe.child.id()));
    root.join(spool.strip_prefix("/").unwrap())
}

#[test]
fn a_full_disk_stops_nothing_and_is_used_again_when_there_is_room() {
    let directory = scratch();
    let spool = directory.path().join("spool");
    let mut probe = mounted(&spool, &away());
    probe.until("it spools", |metrics| metrics.get("spool_bytes") > 0.0);
    let filler = inside(&probe, &spool).join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 4096]).is_ok() {}
    drop(file);
    let (_, _listener, _client) = traffic();
    probe.says("is full but for a reserve");
    let full = probe.until("it is full", |metrics| metrics.get("spool_usable") == 0.0);
    probe.until("it goes on", |m| m.get("scans_total") > full.get("scans_total") + 3.0);
    let freed = Instant::now();
    std::fs::remove_file(filler).unwrap();
    probe.until("it spools again", |m| {
        m.get("spool_usable") == 1.0 && m.get("spans_pending") == 0.0
    });
    assert!(freed.elapsed() < Duration::from_secs(10), "{:?}", freed.elapsed());
    assert_eq!(probe.stop(), Some(0));
}

#[test]
fn a_read_only_disk_stops_nothing() {
    let directory = scratch();
    let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
    std::fs::create_dir_all(&spool).unwrap();
    let readonly = MOUNT.replace("&& shift", "&& mount -o remount,ro \"$1\" && shift");
    let path = spool.to_str().unwrap();
    let words = ["unshare", "-m", "sh", "-c", &readonly, "sh", path];
    let mut probe = Probe::start_by(&words, &cmdb, &spool);
    probe.says("Read-only file system");
    probe.until("it delivers", |metrics| {
        metrics.get("deliveries_total") > 0.0 && metrics.get("spool_usable") == 0.0
    });
    assert_eq!(probe.stop(), Some(0));
}

/// Opening a FIFO for writing waits for a reader, who never comes: to the
/// thread that opens it, a disk that hangs.
#[test]
fn a_disk_that_hangs_stops_neither_scans_nor_deliveries() {
    use std::os::unix::fs::DirBuilderExt;
    let directory = scratch();
    let (spool, cmdb) = (directory.path().join("spool"), sqlite(directory.path()));
    std::fs::DirBuilder::new().mode(0o700).create(&spool).unwrap();
    let made = Command::new("mkfifo").arg(spool.join("lock")).status().unwrap();
    assert!(made.success());
    let mut probe = Probe::start(&cmdb, &spool);
    let before = probe.until("it delivers", |metrics| metrics.get("deliveries_total") > 0.0);
    probe.until("it goes on", |metrics| {
        metrics.get("deliveries_total") > before.get("deliveries_total") + 2.0
            && metrics.get("scans_total") > before.get("scans_total") + 5.0
            && metrics.get("spool_usable") == 0.0
    });
    assert_eq!(probe.stop(), Some(0));
    // With the CMDB away as well, nothing is left but to say so.
    let mut probe = Probe::start(&away(), &spool);
    probe.until("it scans", |metrics| metrics.get("scans_total") > 3.0);
    assert_eq!(probe.stop(), Some(1));
}

#[test]
fn only_the_owner_reads_a_spool_and_a_directory_of_all_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = scratch();
    let spool = directory.path().join("a/spool");
    let mut probe = Probe::start(&away(), &spool);
    probe.until("it spools", |metrics| metrics.get("spool_bytes") > 0.0);
    assert_eq!(mode(&spool), 0o700);
    for segment in segments(&spool) {
        assert_eq!(mode(&segment), 0o600);
    }
    assert_eq!(probe.stop(), Some(0));
    let open = directory.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut probe = Probe::start(&away(), &open);
    probe.says("others may write to it");
}

/// Whatever fails on the way to the CMDB, its password is in no word of the
/// probe's, on no scrape, and in no file.
#[test]
fn a_password_is_nowhere_however_a_delivery_fails() {
    const CANARY: &str = "c4n4ry-Passw0rd";
    let wrong = postgres::server(15).tcp_url_for_new_database();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = mute.local_addr().unwrap();
    for cmdb in [
        format!("postgres://shawk:{CANARY}@127.0.0.1:{}/x", free_port()),
        format!("postgres://shawk:{CANARY}@{mute}/x?sslmode=disable"),
        format!("postgres://shawk@{mute}/x?sslmode=disable&password={CANARY}"),
        wrong.replace(postgres::PASSWORD, CANARY),
    ] {
        let directory = scratch();
        let spool = directory.path().join("spool");
        let mut probe = Probe::start_by(&["env", "SHAWK_DEBUG=true"], &cmdb, &spool);
        let metrics = probe.until("it spools", |metrics| {
            metrics.get("deliveries_failed_total") > 0.0 && metrics.get("spool_bytes") > 0.0
        });
        assert!(!metrics.0.contains(CANARY), "{}", metrics.0);
        probe.stop();
        let mut said = String::new();
        probe.says.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("the CMDB cannot be written") && said.contains("DEBUG"), "{said}");
        assert!(!said.contains(CANARY), "{said}");
        let written = segments(&spool);
        assert!(!written.is_empty());
        for segment in written {
            let bytes = std::fs::read(segment).unwrap();
            assert!(!bytes.windows(CANARY.len()).any(|word| word == CANARY.as_bytes()));
        }
    }
}
