//! Tokens: who shows one, what it is good for, and until when.

use std::fs::{Permissions, write};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shawk::cmdb::token::Token;

use crate::cmdb::{open, report};
use crate::serve::collector::{Collector, said, shawk, until};
use crate::serve::{connected, edges_to, look, places};

/// What `shawk enrol` printed, which is a token and nothing else.
fn enrol(cmdb: &str, words: &[&str]) -> String {
    let output = shawk(&["enrol", "--cmdb", cmdb]).args(words).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    let token = text.strip_suffix('\n').unwrap().to_owned();
    assert!(Token::parse(&token).is_some() && !said(&output).contains(&token));
    token
}

pub(crate) fn writer(cmdb: &str, host: &str) -> String {
    enrol(cmdb, &[host, "--host-id", host])
}

pub(crate) fn reader(cmdb: &str) -> String {
    enrol(cmdb, &["me", "--role", "read"])
}

fn file(directory: &Path, name: &str, token: &str) -> PathBuf {
    let path = directory.join(name);
    write(&path, format!("{token}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// A command with a token file.
fn with(token: &Path, words: &[&str]) -> Command {
    let mut command = shawk(words);
    command.env("SHAWK_TOKEN_FILE", token);
    command
}

fn probe(token: &Path, url: &str) -> Result<(), String> {
    let output = with(token, &["probe", "--once", "--mode", "netlink", "--cmdb", url]).output();
    let output = output.unwrap();
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn look_as(token: &Path, url: &str) -> Result<(), String> {
    let output = with(token, &["look", "served", "--cmdb", url]).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn refused(outcome: Result<(), String>, why: &str) {
    let text = outcome.expect_err("refused");
    assert!(text.contains(why), "{text}");
}

#[test]
fn who_shows_a_token_may_do_what_it_is_for() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let url = collector.url();
        let tell = |name: &str, text: &str| file(directory.path(), name, text);
        let (host, other) = (writer(&cmdb, "served"), writer(&cmdb, "other"));
        let (me, admin) = (reader(&cmdb), enrol(&cmdb, &["root", "--role", "admin"]));

        // Nobody, a stranger, and what is no token.
        for path in ["/metrics", "/api/v1/look?host=served"] {
            let stranger = Token::new().unwrap();
            for reply in [
                collector.get(path),
                collector.get_as(stranger.reveal(), path),
                collector.get_as("hunter2", path),
                collector.get_as(&me[..70], path),
            ] {
                assert_eq!((reply.status, reply.code().as_str()), (401, "unauthenticated"));
                assert!(reply.head.to_ascii_lowercase().contains("www-authenticate: bearer"));
            }
        }
        assert_eq!(collector.get("/healthz").status, 200);
        refused(probe(&tell("stranger", Token::new().unwrap().reveal()), &url), "not known");

        // A forged host id, and a reader who reports: nothing is written.
        refused(probe(&tell("other", &other), &url), "itself only");
        refused(probe(&tell("me", &me), &url), "may not report");
        assert_eq!(look(&cmdb, &["served"])["hosts"], serde_json::json!([]));

        // Each at once, though it was made after the collector began.
        probe(&tell("host", &host), &url).unwrap();
        refused(look_as(&tell("host", &host), &url), "may not ask");
        look_as(&tell("me", &me), &url).unwrap();
        look_as(&tell("admin", &admin), &url).unwrap();
        probe(&tell("admin", &admin), &url).unwrap();

        // A body that is played again is known, whoever plays it.
        let mut told = report("x", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
        told.host.id = "served".to_owned();
        assert_eq!(collector.report_as(&host, &[&told]).status, 200);
        let again = collector.report_as(&host, &[&told]);
        assert_eq!((again.status, again.code().as_str()), (409, "already_recorded"));
        assert_eq!(collector.report_as(&other, &[&told]).status, 403);
        // Of two hosts in one request, one that is another's refuses both.
        let mut own = told.clone();
        own.sequence = 2;
        let theirs = report("theirs", 0, 1, 60, Vec::new());
        assert_eq!(collector.report_as(&host, &[&own, &theirs]).status, 403);

        let text = collector.get_as(&me, "/metrics").text();
        let metric = |name| Collector::metric_in(&text, name);
        assert_eq!(metric("shawk_mistrusted_total{code=\"unauthenticated\"}"), 9.0);
        assert_eq!(metric("shawk_mistrusted_total{code=\"forbidden\"}"), 5.0);
        assert_eq!(metric("shawk_tokens"), 4.0);
    }
}

#[test]
fn what_is_revoked_or_over_is_refused_within_seconds() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let token = reader(&cmdb);
        assert_eq!(collector.get_as(&token, "/metrics").status, 200);
        let output = shawk(&["revoke", "me", "--cmdb", &cmdb]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let revoked = Instant::now();
        until("it is refused", || collector.get_as(&token, "/metrics").status == 401);
        assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
        let again = shawk(&["revoke", "me", "--cmdb", &cmdb]).output().unwrap();
        assert_eq!(again.status.code(), Some(1), "{}", said(&again));

        let short = enrol(&cmdb, &["brief", "--role", "read", "--expires", "2s"]);
        assert_eq!(collector.get_as(&short, "/metrics").status, 200);
        let made = Instant::now();
        until("it has expired", || collector.get_as(&short, "/metrics").status == 401);
        assert!(made.elapsed() < Duration::from_secs(5), "{:?}", made.elapsed());
        let listed = shawk(&["tokens", "--cmdb", &cmdb]).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("revoked") && listed.contains("expired"), "{listed}");
        assert!(!listed.contains(&token[6..40]), "{listed}");
    }
}

#[test]
fn a_token_that_is_shown_where_none_is_asked_for_counts() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, Vec::new());
    let reader = reader(&cmdb);
    assert_eq!(collector.report_as(&reader, &[&told]).status, 403);
    assert_eq!(collector.report_as(Token::new().unwrap().reveal(), &[&told]).status, 401);
    assert_eq!(collector.report(&[&told]).status, 200);
}

/// A daemon, ended with the test.
struct Daemon(Child, PathBuf);

impl Daemon {
    fn start(token: &Path, url: &str, directory: &Path) -> Daemon {
        let log = directory.join("probe.log");
        let mut command = with(token, &["probe", "--debug", "--mode", "netlink", "--cmdb", url]);
        command.args(["--interval", "100ms", "--flush-interval", "300ms", "--spool"]);
        command.arg(directory.join("spool")).stderr(std::fs::File::create(&log).unwrap());
        Daemon(command.spawn().unwrap(), log)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.1).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_rotation_takes_no_restart_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let (old, me) = (writer(&cmdb, "served"), reader(&cmdb));
    let path = file(directory.path(), "token", &old);
    let mut daemon = Daemon::start(&path, &collector.url(), directory.path());
    let early = connected();
    until("it has reported", || edges_to(&look(&cmdb, &["served"]), early.port) == 1);

    // The new one is there before the old one ends: nothing is to be noticed.
    let new = enrol(&cmdb, &["served", "--rotate", "--grace", "3s"]);
    file(directory.path(), "token", &new);
    until("the old one has ended", || collector.get_as(&old, "/metrics").status == 401);
    let between = connected();
    until("it reports on", || edges_to(&look(&cmdb, &["served"]), between.port) == 1);
    assert!(!daemon.log().contains("cannot be written"), "{}", daemon.log());

    // The old one ends first: it waits, says so, and goes on.
    let newest = enrol(&cmdb, &["served", "--rotate", "--grace", "0s"]);
    until("it is refused", || daemon.log().contains("cannot be written"));
    assert!(daemon.log().contains("not known, or was revoked"), "{}", daemon.log());
    let while_out = connected();
    let refusals = || {
        let text = collector.get_as(&me, "/metrics").text();
        Collector::metric_in(&text, "shawk_mistrusted_total{code=\"unauthenticated\"}")
    };
    let before = refusals();
    until("it has tried again", || refusals() >= before + 2.0);
    assert_eq!(edges_to(&look(&cmdb, &["served"]), while_out.port), 0);
    assert!(daemon.0.try_wait().unwrap().is_none(), "it goes on");
    file(directory.path(), "token", &newest);
    until("all of it is told", || edges_to(&look(&cmdb, &["served"]), while_out.port) == 1);
    assert_eq!(daemon.log().matches("cannot be written").count(), 1, "{}", daemon.log());
    assert!(daemon.log().contains("is back after"), "{}", daemon.log());
    for token in [new, newest] {
        assert!(!daemon.log().contains(&token[6..40]) && !collector.log().contains(&token[6..40]));
    }
}

#[test]
fn a_collector_that_begins_knows_the_tokens_or_says_that_it_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let server = crate::postgres::own_server(15, &[]);
    let cmdb = server.tcp_url_for_new_database();
    let created = shawk(&["create-scheme", "--cmdb", &cmdb]).output().unwrap();
    assert!(created.status.success(), "{}", said(&created));
    let token = reader(&cmdb);
    let path = file(directory.path(), "token", &token);
    for _ in 0..2 {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        look_as(&path, &collector.url()).unwrap();
    }
    let known = Collector::start(&cmdb, &["--require-auth"]);
    assert_eq!(known.get_as(&token, "/metrics").status, 200);
    server.stop();
    // Whom it knew it knows for a while; of others it says that it cannot know.
    assert_eq!(known.get_as(&token, "/metrics").status, 200);
    assert_eq!(known.get_as(Token::new().unwrap().reveal(), "/metrics").status, 503);
    let new = Collector::start(&cmdb, &["--require-auth"]);
    let reply = new.get_as(&token, "/metrics");
    assert_eq!((reply.status, reply.code().as_str()), (503, "away"));
    assert_eq!(new.get("/metrics").status, 401);
    server.start_again();
    until("it knows it", || new.get_as(&token, "/metrics").status == 200);
}

#[test]
fn strangers_who_guess_cost_the_database_four_questions_a_second() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let me = reader(&cmdb);
    let checks = || {
        let text = collector.get_as(&me, "/metrics").text();
        Collector::metric_in(&text, "shawk_checks_total")
    };
    let (before, began) = (checks(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let guess = Token::new().unwrap();
                    assert_eq!(collector.get_as(guess.reveal(), "/metrics").status, 401);
                }
            });
        }
    });
    // Four a second for them, one each two seconds for itself.
    let most = 2.0 + 4.5 * began.elapsed().as_secs_f64();
    let asked = checks() - before;
    assert!(asked <= most && asked < 100.0, "{asked} in {:?}", began.elapsed());
}

/// Who holds one host's token takes one host's room.
#[test]
fn a_host_that_begins_many_bodies_keeps_nobody_else_out() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let (liar, honest) = (writer(&cmdb, "liar"), writer(&cmdb, "served"));
    let mut told = report("x", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    told.host.id = "served".to_owned();
    assert_eq!(collector.report_as(&honest, &[&told]).status, 200);
    let begin = |path: &str, length: usize| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {liar}\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut stream = TcpStream::connect(("127.0.0.1", collector.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    // All but one are answered at once.
    let first = |stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let mut text = [0; 12];
        let read = { stream }.read_exact(&mut text);
        read.ok().map(|()| String::from_utf8_lossy(&text[9..]).into_owned())
    };
    // Who may only ask of itself needs little for that.
    assert_eq!(first(&begin("/v1/recall", 5000)).as_deref(), Some("413"));
    let begun: Vec<_> = (0..40).map(|_| begin("/v1/reports", 4 << 20)).collect();
    let asked: Vec<_> = (0..40).map(|_| begin("/v1/recall", 4000)).collect();
    for begun in [begun, asked] {
        let statuses: Vec<_> = begun.iter().map(first).collect();
        assert_eq!(statuses.iter().filter(|status| status.is_none()).count(), 1, "{statuses:?}");
        assert!(statuses.iter().flatten().all(|status| status == "503"), "{statuses:?}");
    }
    for sequence in 2..4 {
        let began = Instant::now();
        told.sequence = sequence;
        assert_eq!(collector.report_as(&honest, &[&told]).status, 200);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[test]
fn a_token_is_found_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth", "--debug"]);
    let (host, me) = (writer(&cmdb, "served"), reader(&cmdb));
    let secrets = [&host[6..40], &me[6..40], &host[40..78], &me[40..78]];
    let clean = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    };
    let daemon =
        Daemon::start(&file(directory.path(), "t", &host), &collector.url(), directory.path());
    let path = file(directory.path(), "me", &me);
    // By environment, too; refused, away, and torn.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://127.0.0.1:{}", closed.local_addr().unwrap().port());
    for (url, token) in [
        (collector.url(), me.as_str()),
        (collector.url(), &host),
        (closed.clone(), &me),
        (collector.url(), &me[..77]),
        ("http://collector.example".to_owned(), &me),
        (format!("https://{me}@localhost"), &host),
        (format!("https://localhost/?token={me}"), &host),
    ] {
        let mut command = shawk(&["look", "served", "--debug", "--cmdb", &url]);
        let output = command.env("SHAWK_TOKEN", token).output().unwrap();
        clean(&url, &format!("{}{}", said(&output), String::from_utf8_lossy(&output.stdout)));
    }
    let mut looking = with(&path, &["look", "served", "--debug", "--cmdb", &closed]);
    clean("look", &said(&looking.output().unwrap()));
    until("it has reported", || collector.get_as(&me, "/metrics").status == 200);
    for path in ["/metrics", "/api/v1/look?host=served", "/v1/reports"] {
        clean(path, &collector.get_as(&me, path).text());
        clean(path, &collector.get_as(&me[..77], path).text());
    }
    for pid in [daemon.0.id(), collector.pid()] {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        clean("a command line", &String::from_utf8_lossy(&words));
    }
    clean("the probe", &daemon.log());
    clean("the collector", &collector.log());
    drop(daemon);
    collector.terminate();
    collector.ended();
    let listed = shawk(&["tokens", "-o", "json", "--cmdb", &cmdb]).stdout(Stdio::piped()).output();
    clean("the list", &String::from_utf8_lossy(&listed.unwrap().stdout));
    for entry in std::fs::read_dir(directory.path()).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("cmdb.db") {
            clean(&name, &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
}
