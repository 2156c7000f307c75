//! A private authority: who is believed, by whom, and what they may.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use crate::cmdb::{open, report};
use crate::serve::collector::{Collector, said, shawk};

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
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
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
