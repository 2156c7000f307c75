//! A collector that runs, and plain HTTP to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use shawk::flow::report::Report;
use shawk::wire;

/// `shawk`, with none of our own settings.
pub(crate) fn shawk(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shawk"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SHAWK_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command.env("SHAWK_HOST_ID", "served").env("SHAWK_HOSTNAME", "served");
    command
}

/// What a command that ends has said.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A collector; ended with the test.
pub(crate) struct Collector {
    child: Child,
    pub(crate) port: u16,
    log: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON document")
    }

    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().expect("a code").to_owned()
    }

    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Collector {
    /// Starts one and waits until it listens.
    pub(crate) fn start(cmdb: &str, more: &[&str]) -> Collector {
        Collector::start_at("127.0.0.1:0", cmdb, more)
    }

    pub(crate) fn start_at(listen: &str, cmdb: &str, more: &[&str]) -> Collector {
        let mut command = shawk(&["serve", "--listen", listen, "--cmdb", cmdb]);
        command.args(more);
        Collector::start_as(command)
    }

    /// By a command that becomes one.
    pub(crate) fn start_as(mut command: Command) -> Collector {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("shawk starts");
        let mut lines = BufReader::new(child.stderr.take().expect("was piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let mut port = None;
        while port.is_none() {
            let mut line = String::new();
            let read = lines.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended: {}", log.lock().unwrap());
            port = line.split_once("//127.0.0.1:").and_then(|(_, rest)| {
                rest.split(',').next().and_then(|number| number.trim().parse().ok())
            });
            log.lock().unwrap().push_str(&line);
        }
        let kept = Arc::clone(&log);
        let reading = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut kept = kept.lock().unwrap();
                kept.push_str(&line);
                kept.push('\n');
            }
        });
        Collector { child, port: port.unwrap_or(0), log, reading: Some(reading) }
    }

    /// Starts one with these settings, that says what it says there.
    pub(crate) fn start_to(
        stderr: Stdio,
        port: u16,
        cmdb: &str,
        settings: &[(&str, &str)],
    ) -> Collector {
        let listen = format!("127.0.0.1:{port}");
        let mut command = shawk(&["serve", "--listen", &listen, "--cmdb", cmdb]);
        let child = command.envs(settings.iter().copied()).stderr(stderr).spawn();
        let child = child.expect("shawk starts");
        until("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Collector { child, port, log: Arc::default(), reading: None }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Tells it to stop.
    pub(crate) fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signalled");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended; how, and what it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("waited");
        if let Some(reading) = self.reading.take() {
            reading.join().expect("read");
        }
        (status, self.log())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask(
            &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"),
            b"",
        )
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Reply {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.ask(&head, body)
    }

    /// As somebody: with a token, or what is none.
    pub(crate) fn get_as(&self, token: &str, path: &str) -> Reply {
        self.ask(
            &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"),
            b"",
        )
    }

    /// Sends reports as somebody.
    pub(crate) fn report_as(&self, token: &str, reports: &[&Report]) -> Reply {
        let body = wire::pack(&wire::encode(reports));
        let head = format!(
            "POST /v1/reports HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Type: application/x-protobuf\r\nContent-Encoding: zstd\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.ask(&head, &body)
    }

    /// Sends reports.
    pub(crate) fn report(&self, reports: &[&Report]) -> Reply {
        self.post("/v1/reports", &wire::pack(&wire::encode(reports)))
    }

    pub(crate) fn ask(&self, head: &str, body: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        stream.write_all(head.as_bytes()).expect("sent");
        // Who is refused by the headers alone need not read the rest.
        let _ = stream.write_all(body);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer to {head}: {bytes:?}"));
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
        Reply { status, head, body: bytes.split_off(end + 4) }
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        Collector::metric_in(&self.get("/metrics").text(), name)
    }

    /// The value of a metric in what was answered.
    pub(crate) fn metric_in(text: &str, name: &str) -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} in {text}"))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again, for a bounded time.
pub(crate) fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_true() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
