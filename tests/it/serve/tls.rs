//! A private authority: who is believed, by whom, and what they may.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::cmdb::{open, report};
use crate::serve::collector::{Collector, said, shawk, until};

struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(directory: &Path, name: &str) -> Authority {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.join("ca.pem"), certificate.pem()).unwrap();
        Authority { directory, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes NAME.pem and NAME.key.
    fn sign(&self, name: &str, names: &[&str], uris: &[&str]) {
        self.sign_for(Duration::from_hours(1), name, names, uris);
    }

    /// As that, good for a while only.
    fn sign_for(&self, lifetime: Duration, name: &str, names: &[&str], uris: &[&str]) {
        self.sign_between((Duration::ZERO, now() + lifetime), name, names, uris);
    }

    /// As that, from when to when, since 1970.
    fn sign_between(
        &self,
        (from, until): (Duration, Duration),
        name: &str,
        names: &[&str],
        uris: &[&str],
    ) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        (params.not_before, params.not_after) = (epoch + from, epoch + until);
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The address of a collector that this authority vouches for, asked as
    /// somebody.
    fn url(&self, host: &str, port: u16, who: Option<&str>) -> String {
        let mut url = format!("https://{host}:{port}/?sslrootcert={}", self.file("ca.pem"));
        if let Some(who) = who {
            let (certificate, key) =
                (self.file(&format!("{who}.pem")), self.file(&format!("{who}.key")));
            url.push_str(&format!("&sslcert={certificate}&sslkey={key}"));
        }
        url
    }
}

fn now() -> Duration {
    UNIX_EPOCH.elapsed().unwrap()
}

fn probe(url: &str) -> Result<(), String> {
    let mut command = shawk(&["probe", "--once", "--mode", "netlink", "--cmdb", url]);
    let output = command.output().unwrap();
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn look(url: &str) -> Result<(), String> {
    let output = shawk(&["look", "served", "--cmdb", url]).output().unwrap();
    if output.status.success() { Ok(()) } else { Err(said(&output)) }
}

fn refused(outcome: Result<(), String>, why: &str) {
    let text = outcome.expect_err("refused");
    assert!(text.contains(why), "{text}");
}

#[test]
fn a_private_authority_is_believed_and_no_other() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = Authority::new(scratch.path(), "ours");
    let theirs = Authority::new(scratch.path(), "theirs");
    ours.sign("server", &["localhost"], &[]);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    let collector = Collector::start(&cmdb, &["--tls-cert", &certificate, "--tls-key", &key]);
    let port = collector.port;
    // The certificate is for localhost, not for its address.
    refused(probe(&ours.url("127.0.0.1", port, None)), "certificate");
    refused(probe(&theirs.url("localhost", port, None)), "certificate");
    refused(probe(&format!("http://localhost:{port}")), "");
    probe(&ours.url("localhost", port, None)).unwrap();
    look(&ours.url("localhost", port, None)).unwrap();
}

#[test]
fn who_shows_a_certificate_may_do_what_it_says() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = Authority::new(scratch.path(), "ours");
    let theirs = Authority::new(scratch.path(), "theirs");
    ours.sign("server", &["localhost"], &[]);
    // As the host that `shawk` is in these tests, and as another.
    ours.sign("served", &["served"], &[]);
    ours.sign("other", &["other"], &[]);
    ours.sign("reader", &[], &["shawk:role:read"]);
    ours.sign("admin", &[], &["shawk:role:admin"]);
    theirs.sign("served", &["served"], &[]);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    let authority = ours.file("ca.pem");
    let collector = Collector::start(
        &cmdb,
        &["--tls-cert", &certificate, "--tls-key", &key, "--client-ca", &authority],
    );
    let port = collector.port;
    let url = |who| ours.url("localhost", port, who);
    refused(probe(&url(None)), "client certificate");
    refused(look(&url(None)), "client certificate");
    // A forged host id, and a reader who reports: nothing is written.
    refused(probe(&url(Some("other"))), "itself only");
    refused(probe(&url(Some("reader"))), "may not report");
    let nobody = shawk(&["look", "served", "-o", "json", "--cmdb", &cmdb]).output().unwrap();
    let nobody: serde_json::Value = serde_json::from_slice(&nobody.stdout).unwrap();
    assert_eq!(nobody["hosts"], serde_json::json!([]));

    probe(&url(Some("served"))).unwrap();
    refused(look(&url(Some("served"))), "may not ask");
    look(&url(Some("reader"))).unwrap();
    look(&url(Some("admin"))).unwrap();
    probe(&url(Some("admin"))).unwrap();
    // One of another authority, of the same name.
    let (stranger, secret) = (theirs.file("served.pem"), theirs.file("served.key"));
    let url = format!("{}&sslcert={stranger}&sslkey={secret}", url(None));
    refused(probe(&url), "certificate");
}

#[test]
fn without_a_certificate_there_is_no_question_of_one() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &[]);
    let told = report("web", 0, 1, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    assert_eq!(collector.report(&[&told]).status, 200);
    assert!(collector.log().contains("everybody who reaches"), "{}", collector.log());
}

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// A connection to a collector, as somebody.
fn connect(authority: &Authority, port: u16, who: Option<&str>) -> Secured {
    connect_by(&config(authority, who), port)
}

/// It goes on with a session of another by the same, where there was one.
fn connect_by(config: &Arc<ClientConfig>, port: u16) -> Secured {
    let tls = ClientConnection::new(Arc::clone(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(tls, TcpStream::connect(("127.0.0.1", port)).unwrap())
}

fn config(authority: &Authority, who: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match who {
        None => config.with_no_client_auth(),
        Some(who) => {
            let own = authority.file(&format!("{who}.pem"));
            let key = PrivateKeyDer::from_pem_file(authority.file(&format!("{who}.key")));
            let chain = vec![CertificateDer::from_pem_file(own).unwrap()];
            config.with_client_auth_cert(chain, key.unwrap()).unwrap()
        }
    })
}

/// The status of one answer of many on a connection, and whether it is the last.
fn again(stream: &mut Secured) -> (u16, bool) {
    let head = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head).unwrap();
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()]).unwrap();
    (text.split(' ').nth(1).unwrap().parse().unwrap(), text.contains("connection: close"))
}

/// The status of an answer to a name, over TLS.
fn status(authority: &Authority, port: u16, host: &str) -> u16 {
    let mut stream = connect(authority, port, None);
    let head = format!("GET /openapi.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = Vec::new();
    // It closes without a word of farewell once it has answered.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_certificate_that_is_renewed_brings_its_names() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = Authority::new(scratch.path(), "ours");
    ours.sign("server", &["localhost", "old.example"], &[]);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    let more = ["--tls-cert", &certificate, "--tls-key", &key, "--name", "own.example"];
    let collector = Collector::start(&cmdb, &more);
    let asked = |host| status(&ours, collector.port, host);
    assert_eq!([asked("old.example"), asked("new.example"), asked("own.example")], [200, 421, 200]);
    ours.sign("server", &["localhost", "new.example"], &[]);
    until("it goes by the new name", || asked("new.example") == 200);
    assert_eq!([asked("old.example"), asked("own.example")], [421, 200]);
}

#[test]
fn a_certificate_that_ends_is_told_of_where_it_is_renewed() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = Authority::new(scratch.path(), "ours");
    let day = Duration::from_hours(24);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    ours.sign_for(15 * day, "server", &["localhost"], &[]);
    let collector = Collector::start(&cmdb, &["--tls-cert", &certificate, "--tls-key", &key]);
    let url = ours.url("localhost", collector.port, None);
    let renewed = |from, end| {
        let count = || collector.log().matches("the certificate was read again").count();
        let before = count();
        ours.sign_between((from, end), "server", &["localhost"], &[]);
        until("it is read", || count() > before);
    };
    let long_ago = Duration::ZERO;
    let file = format!("the certificate in '{certificate}' ");
    renewed(long_ago, now() + 13 * day);
    until_log(&collector, &format!("{file}expires at 20"), 1);
    renewed(long_ago, 18_628 * day);
    until_log(&collector, &format!("{file}has expired at 2021-01-01T00:00:00Z"), 1);
    // No authority mends that, nor another name.
    let said = probe(&url).unwrap_err();
    assert!(said.contains("renew it where the collector runs"), "{said}");
    assert!(said.contains("expired") && !said.contains("its authority"), "{said}");
    renewed(now() + day, now() + 99 * day);
    let said = probe(&url).unwrap_err();
    assert!(said.contains("not valid yet") && said.contains("clock"), "{said}");
    renewed(long_ago, now() + 99 * day);
    // What is good for longer is no news, nor is what was said.
    assert_eq!(collector.log().matches(&file).count(), 2, "{}", collector.log());

    // At the start, as well; and it comes to its end while it is served.
    drop(collector);
    ours.sign_for(Duration::from_secs(4), "server", &["localhost"], &[]);
    let collector = Collector::start(&cmdb, &["--tls-cert", &certificate, "--tls-key", &key]);
    until_log(&collector, &format!("{file}has expired at"), 1);
    assert_eq!(collector.log().matches(&format!("{file}expires at")).count(), 1);
}

fn until_log(collector: &Collector, text: &str, count: usize) {
    until(text, || collector.log().matches(text).count() == count);
}

/// Probes keep a connection for as long as they run.
#[test]
fn an_open_connection_does_not_outlive_its_certificate_nor_its_authority() {
    let scratch = tempfile::tempdir().unwrap();
    let (ours, new) =
        (Authority::new(scratch.path(), "ours"), Authority::new(scratch.path(), "new"));
    ours.sign("server", &["localhost"], &[]);
    ours.sign("reader", &[], &["shawk:role:read"]);
    ours.sign_for(Duration::from_secs(6), "brief", &[], &["shawk:role:read"]);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    let authority = scratch.path().join("clients.pem");
    std::fs::copy(ours.file("ca.pem"), &authority).unwrap();
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--client-ca"];
    let collector = Collector::start(&cmdb, &[&tls[..], &[authority.to_str().unwrap()]].concat());
    let port = collector.port;
    let session = config(&ours, Some("brief"));
    let (mut reader, mut brief) =
        (connect(&ours, port, Some("reader")), connect_by(&session, port));
    assert_eq!((again(&mut reader), again(&mut brief)), ((200, false), (200, false)));
    let mut last = (200, false);
    until("the certificate has expired", || {
        last = again(&mut brief);
        last.0 != 200
    });
    // Another certificate takes another connection.
    assert_eq!((last, again(&mut reader)), ((401, true), (200, false)));
    // Nor does the session, in which nobody looks at it.
    let mut resumed = connect_by(&session, port);
    assert_eq!(again(&mut resumed), (401, true));
    assert_eq!(resumed.conn.handshake_kind(), Some(HandshakeKind::Resumed));

    // Who signs is another one from now on: SIGHUP has it read at once.
    std::fs::copy(new.file("ca.pem"), &authority).unwrap();
    let pid = rustix::process::Pid::from_raw(collector.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until("the authority is believed no more", || {
        last = again(&mut reader);
        last.0 != 200
    });
    assert_eq!(last, (401, true));
    assert_eq!(status(&ours, port, "localhost"), 200);
}

#[test]
fn behind_a_certificate_there_may_be_tokens() {
    let scratch = tempfile::tempdir().unwrap();
    let ours = Authority::new(scratch.path(), "ours");
    ours.sign("server", &["localhost"], &[]);
    ours.sign("admin", &[], &["shawk:role:admin"]);
    let cmdb = format!("sqlite:{}/cmdb.db", scratch.path().display());
    let (certificate, key) = (ours.file("server.pem"), ours.file("server.key"));
    let (authority, tls) = (ours.file("ca.pem"), ["--tls-cert", &certificate, "--tls-key", &key]);
    let enrolled = shawk(&["enrol", "served", "--host-id", "served", "--cmdb", &cmdb]).output();
    let token = String::from_utf8(enrolled.unwrap().stdout).unwrap();
    for more in [&["--require-auth"][..], &["--client-ca", &authority]] {
        let collector = Collector::start(&cmdb, &[&tls[..], more].concat());
        let url = ours.url("localhost", collector.port, None);
        let mut command = shawk(&["probe", "--once", "--mode", "netlink", "--cmdb", &url]);
        assert!(!command.output().unwrap().status.success());
        let output = command.env("SHAWK_TOKEN", token.trim_end()).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        // Who shows both is whom the certificate names.
        let url = ours.url("localhost", collector.port, Some("admin"));
        let look = shawk(&["look", "served", "--cmdb", &url]).env("SHAWK_TOKEN", &token).output();
        let asked = look.unwrap().status.success();
        assert_eq!(asked, more[0] == "--client-ca");
    }
}
