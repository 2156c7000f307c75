//! An address that goes over to another host, and one that is only claimed:
//! real probes with tokens before a collector.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cmdb::sqlite;
use crate::lab::host::{self, Host, Program};
use crate::lab::network::Lab;
use crate::lab::program::python;
use crate::lab::shawk::SHAWK;
use crate::lab::ss::listens;
use crate::lab::wait::{self, LIMIT};

/// A collector on a host, which knows who asks by their tokens.
struct Collector<'a> {
    host: &'a Host,
    process: Program,
    cmdb: PathBuf,
    certificate: String,
}

impl<'a> Collector<'a> {
    fn start(lab: &Lab, host: &'a Host, address: &str) -> Collector<'a> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec![address.to_owned()]).expect("an address");
        let certificate = params.self_signed(&key).expect("signed");
        let certificate = host.file("server.pem", &certificate.pem());
        let key = host.file("server.key", &key.serialize_pem());
        let cmdb = lab.path("cmdb.db");
        let listen = format!("{address}:7717");
        let words =
            [SHAWK, "serve", "--listen", &listen, "--tls-cert", &certificate, "--tls-key", &key];
        let process = host.start(&words, &[("SHAWK_CMDB_URL", &url(&cmdb))]);
        listens(host, &listen);
        Collector { host, process, cmdb, certificate }
    }

    /// A probe on a host that may report about that host alone.
    fn probe(&self, host: &Host) -> Program {
        let words = ["enrol", &host.name, "--host-id", &host.name, "--cmdb", &url(&self.cmdb)];
        let mut command = Command::new(SHAWK);
        host::clean(&mut command);
        let token = host.file("token", &wait::success(command.args(words), LIMIT));
        fs::set_permissions(&token, Permissions::from_mode(0o600)).expect("its owner sets it");
        let url = format!("https://10.77.0.2:7717/?sslrootcert={}", self.certificate);
        let spool = host.directory.join("spool").display().to_string();
        let settings = [
            ("SHAWK_CMDB_URL", url.as_str()),
            ("SHAWK_TOKEN_FILE", &token),
            ("SHAWK_HOST_ID", &host.name),
            ("SHAWK_HOSTNAME", &host.name),
            ("SHAWK_PROBE_MODE", "netlink"),
            ("SHAWK_PROBE_INTERVAL", "200ms"),
            ("SHAWK_FLUSH_INTERVAL", "500ms"),
            ("SHAWK_SPOOL", &spool),
        ];
        host.start(&[SHAWK, "probe"], &settings)
    }

    /// The names that a statement gives.
    fn names(&self, statement: &str) -> Vec<String> {
        sqlite(&self.cmdb, statement, 0)
    }

    /// Waits until this host has the address, and no other.
    fn expect_owner(&self, address: &str, owner: &Host) {
        let number: Ipv4Addr = address.parse().expect("an address");
        let bytes = u128::from(number.to_ipv6_mapped());
        let owners = format!(
            "SELECT e.name FROM address a JOIN epoch e USING (host, epoch)
            WHERE a.ended IS NULL AND hex(a.address) = '{bytes:032X}'"
        );
        wait::until(&format!("{address} to be of {}", owner.name), LIMIT, || {
            let names = self.names(&owners);
            if names == [owner.name.clone()] { Ok(()) } else { Err(format!("{names:?}")) }
        });
    }

    fn log(&self) -> String {
        self.host.log(&self.process)
    }
}

fn url(cmdb: &Path) -> String {
    format!("sqlite:{}", cmdb.display())
}

fn says(host: &Host, probe: &Program, what: &str) {
    wait::until(&format!("{} to say {what:?}", host.name), LIMIT, || {
        let log = host.log(probe);
        if log.contains(what) { Ok(()) } else { Err(log) }
    });
}

#[test]
fn an_address_fails_over_without_loss_and_a_lie_is_kept_out() {
    const SERVES: &str = "SELECT name FROM flow JOIN host USING (host) WHERE local_port = 9000";
    let lab = Lab::new();
    let keeper = lab.host("collector-1", 2);
    let (first, second) = (lab.host("db-1", 10), lab.host("db-2", 11));
    let liar = lab.host("liar-1", 20);
    let moves = |host: &Host, how: &str, address: &str| {
        host.succeeds(&["ip", "addr", how, &format!("{address}/32"), "dev", "lo"]);
    };
    moves(&first, "add", "10.77.0.99");
    let collector = Collector::start(&lab, &keeper, "10.77.0.2");
    let hosts = [&first, &second, &liar];
    let probes = hosts.map(|host| collector.probe(host));
    collector.expect_owner("10.77.0.99", &first);
    collector.expect_owner("10.77.0.11", &second);

    // The new one has it before the old one knows that it is gone.
    moves(&second, "add", "10.77.0.99");
    says(&second, &probes[1], "has the address 10.77.0.99");
    python(&second, &["serve", "10.77.0.11", "9000"]);
    listens(&second, "10.77.0.11:9000");
    collector.expect_owner("10.77.0.99", &first);
    assert_eq!(collector.names(SERVES), [""; 0], "it waits at the probe");
    moves(&first, "del", "10.77.0.99");
    collector.expect_owner("10.77.0.99", &second);
    says(&second, &probes[1], "is back after");
    assert_eq!(collector.names(SERVES), ["db-2"]);

    // Nobody gives this one up.
    moves(&liar, "add", "10.77.0.11");
    says(&liar, &probes[2], "has the address 10.77.0.11");
    collector.expect_owner("10.77.0.11", &second);
    assert!(collector.log().contains("liar-1 claims 10.77.0.11, which db-2 has"));
    assert_eq!(collector.log().matches(" claims ").count(), 2, "{}", collector.log());

    // Each keeps what it could not tell, and none has given up.
    for (host, probe) in hosts.iter().zip(&probes) {
        let status = host.stop(probe);
        assert!(status.success(), "{status}: {}", host.log(probe));
    }
}
