//! The binary as a user meets it: exit codes, one-line refusals, pipes, signals.

use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

fn shawk(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shawk"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHAWK_") {
            command.env_remove(name);
        }
    }
    command.env("SHAWK_CMDB_URL", format!("sqlite:{}/cmdb.db", directory.display()));
    command.env("SHAWK_SPOOL", directory.join("spool"));
    command.env("SHAWK_HOST_ID", "cli-test").env("SHAWK_HOSTNAME", "cli-test");
    command
}

fn scratch() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("shawk runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// Stops a child by its pid, with a signal it can handle.
fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
}

/// Asks again and again, for a bounded time.
fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait(child: &mut Child, limit: Duration) -> std::process::ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("waited") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("killed");
            panic!("shawk did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_users_mistake_is_one_line_and_exit_code_2() {
    let directory = scratch();
    for arguments in [
        &["look", "10.0.0.300"][..],
        &["look", "--since", "yesterday"],
        &["look", "-o", "yaml"],
        &["look", "--bogus"],
        &["probe", "--interval", "1x"],
        &["probe", "--interval", "1h"],
        &["probe", "--mode", "\u{1b}[31mred"],
        &["probe", "--cmdb", "mysql://root:hunter2@localhost/x"],
        &["frobnicate"],
        &[],
    ] {
        let output = output(shawk(directory.path()).args(arguments));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
        assert!(said.starts_with("shawk: ") && output.stdout.is_empty(), "{said}");
        assert!(!said.contains("hunter2") && !said.contains('\u{1b}'), "{said}");
    }
    assert!(!directory.path().join("cmdb.db").exists(), "something was opened");
}

#[test]
fn an_unreachable_cmdb_is_one_line_within_five_seconds() {
    // A listener that never answers, as a firewall that drops would look, and a
    // port where nobody listens.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").port();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    for port in [silent, closed] {
        let started = Instant::now();
        let url = format!("postgres://shawk:hunter2@127.0.0.1:{port}/shawk");
        let output = output(shawk(scratch().path()).args(["look", "x", "--cmdb", &url]));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn one_scan_is_recorded_and_looked_at() {
    let directory = scratch();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let (server, _) = listener.accept().expect("accepted");

    let probe = output(shawk(directory.path()).args(["probe", "--once"]));
    assert!(probe.status.success(), "{}", stderr(&probe));
    // Names of hosts have no case.
    let look = output(shawk(directory.path()).args(["look", "CLI-test", "-o", "json"]));
    assert!(look.status.success(), "{}", stderr(&look));
    let answer: serde_json::Value = serde_json::from_slice(&look.stdout).expect("JSON");
    let edges = answer["edges"].as_array().expect("edges");
    let to_port: Vec<_> = edges.iter().filter(|edge| edge["port"] == port).collect();
    assert_eq!(to_port.len(), 1, "{to_port:#?}");
    assert_eq!(to_port[0]["told_by"], "both");
    assert!(
        !stdout(&output(shawk(directory.path()).args(["look", "cli-test"]))).contains('\u{1b}')
    );
    drop((client, server));
}

#[test]
fn a_recording_replays_into_the_same_graph_twice() {
    let (directory, replayed) = (scratch(), scratch());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let file = directory.path().join("snapshot");
    let probe = output(shawk(directory.path()).args(["probe", "--once", "--record"]).arg(&file));
    assert!(probe.status.success(), "{}", stderr(&probe));
    drop((client, server));

    let edges = |directory: &Path| {
        let look = output(shawk(directory).args(["look", &port, "-o", "csv"]));
        assert!(look.status.success(), "{}", stderr(&look));
        stdout(&look)
    };
    for _ in 0..2 {
        let probe = output(shawk(replayed.path()).args(["probe", "--replay"]).arg(&file));
        assert!(probe.status.success(), "{}", stderr(&probe));
        let strip = |text: String| text.lines().count();
        assert_eq!(strip(edges(replayed.path())), strip(edges(directory.path())));
    }
    assert!(edges(replayed.path()).contains(&port));
}

#[test]
fn nothing_found_says_whether_the_host_is_known() {
    let directory = scratch();
    assert!(output(shawk(directory.path()).args(["probe", "--once"])).status.success());
    for what in ["203.0.113.77", "no-such-host", "1", "203.0.113.0/28"] {
        let look = output(shawk(directory.path()).args(["look", what]));
        assert_eq!(look.status.code(), Some(0), "{}", stderr(&look));
        assert!(stdout(&look).contains(what), "{}", stdout(&look));
    }
}

#[test]
fn a_host_without_a_probe_is_called_by_its_name() {
    let directory = scratch();
    assert!(output(shawk(directory.path()).args(["probe", "--once"])).status.success());
    let look = output(shawk(directory.path()).env("SHAWK_HOST_ID", "another").arg("look"));
    assert_eq!(look.status.code(), Some(0), "{}", stderr(&look));
    let (said, name) = (stdout(&look), rustix::system::uname());
    let name = name.nodename().to_str().expect("text");
    assert!(said.starts_with(&format!("nothing is known of host '{name}'")), "{said}");
}

#[test]
fn a_closed_pipe_is_silent() {
    let directory = scratch();
    for arguments in [&["credits"][..], &["probe", "--help"]] {
        let mut command = shawk(directory.path());
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("shawk runs");
        drop(child.stdout.take());
        let status = wait(&mut child, Duration::from_secs(10));
        let mut said = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut said).expect("text");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_daemon_tells_systemd_reports_and_stops_with_the_last_report_done() {
    let directory = scratch();
    let (path, record) = (directory.path().join("notify"), directory.path().join("snapshots"));
    let notify = UnixDatagram::bind(&path).expect("a socket");
    notify.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let mut child = shawk(directory.path())
        .args(["probe", "--interval", "100ms", "--flush-interval", "1h", "--record"])
        .arg(&record)
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::piped())
        .spawn()
        .expect("shawk runs");
    let mut buffer = [0; 256];
    let length = notify.recv(&mut buffer).expect("told");
    assert!(buffer[..length].starts_with(b"READY=1"), "{:?}", &buffer[..length]);
    // A flow that begins after the first report is in the last one, since the
    // next regular one is an hour away.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let seen =
        || std::fs::read_to_string(&record).is_ok_and(|text| text.contains(&format!(":{port}\"")));
    until("the flow is in a snapshot", seen);
    terminate(&child);
    let status = wait(&mut child, Duration::from_secs(15));
    let said: Vec<_> = BufReader::new(child.stderr.take().expect("stderr"))
        .lines()
        .map_while(Result::ok)
        .collect();
    assert_eq!(status.code(), Some(0), "{said:#?}");
    drop((client, server));
    let look = output(shawk(directory.path()).args(["look", &port, "-o", "csv"]));
    let to_port = stdout(&look).lines().filter(|line| line.contains(&format!(",{port},"))).count();
    assert_eq!(to_port, 1, "{}", stdout(&look));
}

#[test]
fn a_daemon_without_a_cmdb_keeps_collecting_and_says_so_once() {
    let directory = scratch();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address").port()
    };
    let url = format!("postgres://shawk:hunter2@127.0.0.1:{closed}/shawk");
    let mut child = shawk(directory.path())
        .args(["probe", "--interval", "100ms", "--flush-interval", "200ms", "--cmdb", &url])
        .stderr(Stdio::piped())
        .spawn()
        .expect("shawk runs");
    let mut lines = BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    while !said.contains("cannot be written") {
        assert!(lines.read_line(&mut said).expect("text") > 0, "{said}");
    }
    // Long enough for several more attempts, which must pass in silence.
    std::thread::sleep(Duration::from_secs(3));
    terminate(&child);
    let status = wait(&mut child, Duration::from_secs(15));
    lines.read_to_string(&mut said).expect("text");
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        said.contains("the last report did not reach the CMDB and waits in the spool"),
        "{said}"
    );
    assert_eq!(said.matches("cannot be written").count(), 1, "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn look_makes_no_cmdb() {
    let directory = scratch();
    let look = output(shawk(directory.path()).args(["look", "x"]));
    assert_eq!(look.status.code(), Some(1));
    assert!(stderr(&look).contains("there is no CMDB at"), "{}", stderr(&look));
    assert_eq!(std::fs::read_dir(directory.path()).expect("a directory").count(), 0);
}

#[test]
fn a_cmdb_that_is_removed_under_a_daemon_is_told_everything_again() {
    let directory = scratch();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let mut child = shawk(directory.path())
        .args(["probe", "--interval", "100ms", "--flush-interval", "200ms"])
        .stderr(Stdio::null())
        .spawn()
        .expect("shawk runs");
    let known = || {
        let look = output(shawk(directory.path()).args(["look", &port, "-o", "csv"]));
        stdout(&look).contains(&format!(",{port},"))
    };
    until("the flow is recorded", known);
    for name in ["cmdb.db", "cmdb.db-wal", "cmdb.db-shm"] {
        std::fs::remove_file(directory.path().join(name)).ok();
    }
    until("the flow is recorded again", known);
    terminate(&child);
    assert_eq!(wait(&mut child, Duration::from_secs(15)).code(), Some(0));
    drop((client, server));
}

#[test]
fn a_recording_that_cannot_be_written_costs_no_report() {
    let directory = scratch();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port().to_string();
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let (server, _) = listener.accept().expect("accepted");
    let probe = output(shawk(directory.path()).args(["probe", "--once", "--record", "/dev/full"]));
    assert_eq!(probe.status.code(), Some(1), "{}", stderr(&probe));
    let look = output(shawk(directory.path()).args(["look", &port, "-o", "csv"]));
    assert!(stdout(&look).contains(&format!(",{port},")), "{}", stdout(&look));
    drop((client, server));
}
