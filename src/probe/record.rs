//! A snapshot as a file, and a file as a source of snapshots.
//!
//! JSON Lines: a header with `"shawk_snapshot": 1`, then a line for each
//! namespace, instance and socket, in this order, the first two with the
//! numbers by which sockets refer to them. A file may hold several snapshots,
//! one after another. Anybody may have edited it: what is not understood is
//! counted and passed over, and strings and addresses are brought into the
//! form in which the kernel's rungs have them.

use std::collections::HashMap;
use std::io::{BufRead, BufWriter, Read, Write};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::flow::host::{Coverage, Host, Namespace, Rung};
use crate::flow::process::{Instance, Process, decode};
use crate::flow::socket::{Snapshot, Socket};

/// The version that is written, and the newest that is read.
const VERSION: u64 = 1;

/// Longest line that is read, in bytes. A namespace with 65,536 IPv6
/// addresses has the longest that is written.
const LINE: u64 = 4 * 1024 * 1024;

/// Most namespaces, instances and sockets together that are read.
const LINES: u64 = 8_000_000;

#[derive(Deserialize)]
struct Version {
    shawk_snapshot: u64,
}

#[derive(Serialize, Deserialize)]
struct Header {
    shawk_snapshot: u64,
    taken: Timestamp,
    host: Host,
    rung: Rung,
    coverage: Coverage,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Out<'a> {
    Namespace(usize, &'a Namespace),
    Instance(usize, &'a Instance),
    Socket(&'a Socket),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Namespace(u32, Namespace),
    Instance(u32, Instance),
    Socket(Socket),
}

/// Writes a snapshot.
pub fn write(snapshot: &Snapshot, out: impl Write) -> Result<()> {
    let mut out = BufWriter::with_capacity(256 * 1024, out);
    let header = Header {
        shawk_snapshot: VERSION,
        taken: snapshot.taken,
        host: snapshot.host.clone(),
        rung: snapshot.rung,
        coverage: snapshot.coverage.clone(),
    };
    let namespaces = snapshot.namespaces.iter().enumerate();
    let instances = snapshot.instances.iter().enumerate();
    write_line(&mut out, &header)?;
    for (at, namespace) in namespaces {
        write_line(&mut out, &Out::Namespace(at, namespace))?;
    }
    for (at, instance) in instances {
        write_line(&mut out, &Out::Instance(at, instance))?;
    }
    for socket in &snapshot.sockets {
        write_line(&mut out, &Out::Socket(socket))?;
    }
    out.flush().context("write snapshot")
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, line).context("write snapshot")?;
    out.write_all(b"\n").context("write snapshot")
}

/// Reads the first snapshot of a file.
pub fn read(input: impl BufRead) -> Result<Snapshot> {
    Reader::new(input).read_next()?.context("no header line: this is not a snapshot of shawk's")
}

/// The snapshots of a file, one at a time.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    line: Vec<u8>,
    /// The header of the next one, already read.
    next: Option<Box<Snapshot>>,
}

/// What a line turned out to be.
enum Read1 {
    End,
    Malformed,
    Header(Box<Snapshot>),
    Line(Line),
}

impl<R: BufRead> Reader<R> {
    /// Reads nothing yet.
    pub fn new(input: R) -> Reader<R> {
        Reader { input, line: Vec::new(), next: None }
    }

    /// The next snapshot, or none at the end. A file that was cut off yields
    /// what is there. Fails where it cannot be read, or was written by a newer
    /// version.
    pub fn read_next(&mut self) -> Result<Option<Snapshot>> {
        let mut malformed = 0;
        let mut snapshot = loop {
            if let Some(header) = self.next.take() {
                break header;
            }
            match self.read_line()? {
                Read1::End => return Ok(None),
                Read1::Header(header) => break header,
                Read1::Malformed | Read1::Line(_) => malformed += 1,
            }
        };
        let mut body = Body::default();
        loop {
            match self.read_line()? {
                Read1::End => break,
                Read1::Header(header) => {
                    self.next = Some(header);
                    break;
                }
                Read1::Malformed => malformed += 1,
                Read1::Line(line) => malformed += body.add(&mut snapshot, line),
            }
        }
        snapshot.coverage.malformed += malformed;
        snapshot.coverage.flows_dropped += body.dropped;
        Ok(Some(*snapshot))
    }

    fn read_line(&mut self) -> Result<Read1> {
        self.line.clear();
        let got = self.input.by_ref().take(LINE).read_until(b'\n', &mut self.line);
        if got.context("read snapshot")? == 0 {
            return Ok(Read1::End);
        }
        if !self.line.ends_with(b"\n") && self.line.len() as u64 == LINE {
            self.input.skip_until(b'\n').context("read snapshot")?;
            return Ok(Read1::Malformed);
        }
        if let Ok(line) = serde_json::from_slice(&self.line) {
            return Ok(Read1::Line(line));
        }
        let Ok(version) = serde_json::from_slice::<Version>(&self.line) else {
            return Ok(Read1::Malformed);
        };
        let version = version.shawk_snapshot;
        ensure!(
            version <= VERSION,
            "the snapshot has version {version} and this shawk reads {VERSION}; use a newer one"
        );
        match serde_json::from_slice::<Header>(&self.line) {
            Ok(header) => Ok(Read1::Header(Box::new(header.into_snapshot()))),
            Err(error) => bail!("the snapshot's header cannot be understood: {error}"),
        }
    }
}

impl Header {
    fn into_snapshot(self) -> Snapshot {
        let text = |text: String| decode(text.as_bytes());
        Snapshot {
            taken: self.taken,
            host: Host { id: text(self.host.id), name: text(self.host.name) },
            rung: self.rung,
            namespaces: Vec::new(),
            instances: Vec::new(),
            sockets: Vec::new(),
            coverage: self.coverage,
        }
    }
}

/// Where the file's numbers lead. They are those of the lines' order, unless
/// some are missing.
#[derive(Default)]
struct Body {
    namespaces: HashMap<u32, u32>,
    instances: HashMap<u32, u32>,
    lines: u64,
    dropped: u64,
}

impl Body {
    /// Adds a line, and returns how many things in it were not understood.
    fn add(&mut self, snapshot: &mut Snapshot, line: Line) -> u64 {
        self.lines += 1;
        if self.lines > LINES {
            self.dropped += 1;
            return 0;
        }
        match line {
            Line::Namespace(at, namespace) => {
                self.namespaces.insert(at, count(&snapshot.namespaces));
                snapshot.namespaces.push(clean_namespace(namespace));
            }
            Line::Instance(at, instance) => {
                self.instances.insert(at, count(&snapshot.instances));
                snapshot.instances.push(clean_instance(instance));
            }
            Line::Socket(mut socket) => {
                let Some(&namespace) = self.namespaces.get(&socket.namespace) else {
                    return 1;
                };
                socket.namespace = namespace;
                let all = socket.owners.len();
                socket.owners.retain(|owner| match self.instances.get(owner) {
                    Some(&at) => {
                        *owner = at;
                        true
                    }
                    None => false,
                });
                let missing = all - socket.owners.len();
                socket.owners.sort_unstable();
                socket.owners.dedup();
                socket.local.set_ip(socket.local.ip().to_canonical());
                if let Some(peer) = &mut socket.peer {
                    peer.set_ip(peer.ip().to_canonical());
                }
                snapshot.sockets.push(socket);
                return missing as u64;
            }
        }
        0
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).expect("the number of lines is limited")
}

fn clean_namespace(namespace: Namespace) -> Namespace {
    Namespace {
        scope: decode(namespace.scope.as_bytes()).into(),
        addresses: namespace.addresses.iter().map(|address| address.to_canonical()).collect(),
        ephemeral_ports: namespace.ephemeral_ports,
    }
}

fn clean_instance(instance: Instance) -> Instance {
    let text = |text: &String| decode(text.as_bytes());
    let process = &instance.process;
    let process = Process {
        name: text(&process.name),
        exe: process.exe.as_ref().map(text),
        user: process.user.as_ref().map(text),
        unit: process.unit.as_ref().map(text),
        container: process.container.as_ref().map(text),
        pod: process.pod.as_ref().map(text),
    };
    Instance { process: Arc::new(process), ..instance }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const HEADER: &str = r#"{"shawk_snapshot":1,"taken":"2026-01-02T03:04:05.6Z","host":{"id":"h","name":"n"},"rung":"netlink","coverage":{"sockets":3}}"#;
    const HOME: &str = r#"{"namespace":[0,{"scope":"","addresses":["10.0.0.1","::1"]}]}"#;
    const NGINX: &str = r#"{"instance":[0,{"process":{"name":"nginx"},"pid":7,"pgid":7,"started":"2026-01-01T00:00:00Z"}]}"#;
    const REDIS: &str = r#"{"instance":[1,{"process":{"name":"redis"},"pid":8,"pgid":8,"started":"2026-01-01T00:00:00Z"}]}"#;
    const SOCKET: &str = r#"{"socket":{"namespace":0,"protocol":"tcp","state":"listen","local":"0.0.0.0:80","inode":1,"owners":[0,1]}}"#;

    fn parse(lines: &[&str]) -> Snapshot {
        read(lines.join("\n").as_bytes()).unwrap()
    }

    fn names(snapshot: &Snapshot) -> Vec<&str> {
        let owners = snapshot.sockets.iter().flat_map(|socket| &socket.owners);
        owners.map(|&at| snapshot.instances[at as usize].process.name.as_str()).collect()
    }

    /// Others read these files: the bytes are a promise.
    #[test]
    fn what_is_read_is_written_again() {
        let text = [HEADER, HOME, NGINX, REDIS, SOCKET, ""].join("\n");
        let snapshot = read(text.as_bytes()).unwrap();
        assert_eq!(names(&snapshot), ["nginx", "redis"]);
        let mut written = Vec::new();
        write(&snapshot, &mut written).unwrap();
        let all = r#"{"confined":false,"namespaces":0,"namespaces_unreadable":0,"processes":0,"processes_vanished":0,"processes_unreadable":0,"sockets":3,"sockets_ownerless":0,"sockets_unattributed":0,"malformed":0,"flows_dropped":0,"scans_skipped":0}"#;
        let text = text.replace(r#"{"sockets":3}"#, all);
        assert_eq!(String::from_utf8(written).unwrap(), text);
    }

    #[test]
    fn a_line_that_is_missing_takes_nothing_else_with_it() {
        let snapshot =
            parse(&[HEADER, HOME, "{\"instance\":[0,", REDIS, SOCKET, "{}", "", "\u{1}"]);
        assert_eq!(names(&snapshot), ["redis"]);
        // The instance, the owner that it was, and three lines.
        assert_eq!(snapshot.coverage.malformed, 5);
        let snapshot = parse(&[HEADER, NGINX, SOCKET]);
        assert_eq!((snapshot.sockets.len(), snapshot.coverage.malformed), (0, 1));
    }

    #[test]
    fn a_file_that_was_cut_off_yields_what_is_there() {
        let text = [HEADER, HOME, NGINX, REDIS, SOCKET, SOCKET].join("\n");
        for cut in HEADER.len()..text.len() {
            let snapshot = read(&text.as_bytes()[..cut]).unwrap();
            assert!(snapshot.sockets.len() < 2 && snapshot.coverage.malformed <= 1, "{cut}");
        }
        assert_eq!(read(&text.as_bytes()[..text.len() - 1]).unwrap().sockets.len(), 1);
        let error = read(&HEADER.as_bytes()[..20]).unwrap_err();
        assert!(error.to_string().contains("no header"), "{error}");
    }

    #[test]
    fn a_newer_version_is_refused() {
        let error = read(&br#"{"shawk_snapshot":2,"all":"new"}"#[..]).unwrap_err().to_string();
        assert!(error.contains("version 2") && error.contains("newer"), "{error}");
        let error = read(&br#"{"shawk_snapshot":1,"taken":5}"#[..]).unwrap_err().to_string();
        assert!(error.contains("header"), "{error}");
    }

    #[test]
    fn a_line_too_long_is_passed_over() {
        let long = "x".repeat(usize::try_from(LINE).unwrap() + 1);
        let snapshot = parse(&[HEADER, HOME, &long, NGINX, REDIS, SOCKET]);
        assert_eq!((snapshot.sockets.len(), snapshot.coverage.malformed), (1, 1));
    }

    #[test]
    fn what_somebody_edited_is_brought_into_form() {
        let nginx = NGINX.replace("nginx", "a\\u0000b");
        let socket =
            SOCKET.replace("0.0.0.0:80", "[::ffff:1.2.3.4]:80").replace("[0,1]", "[1,0,1]");
        let snapshot = parse(&[HEADER, HOME, &nginx, REDIS, &socket]);
        assert_eq!(names(&snapshot), ["a\\x00b", "redis"]);
        assert_eq!(snapshot.sockets[0].local, "1.2.3.4:80".parse().unwrap());
    }

    #[test]
    fn snapshots_of_one_file_come_in_order() {
        let lines = [HEADER, HOME, HEADER, HOME, NGINX].join("\n");
        let mut reader = Reader::new(lines.as_bytes());
        let instances = |snapshot: Option<Snapshot>| snapshot.map(|s| s.instances.len());
        assert_eq!(instances(reader.read_next().unwrap()), Some(0));
        assert_eq!(instances(reader.read_next().unwrap()), Some(1));
        assert_eq!(instances(reader.read_next().unwrap()), None);
    }
}
