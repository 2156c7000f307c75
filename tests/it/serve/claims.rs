//! Addresses that another host has: 409, and nothing written; until they move.

use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shawk::cmdb::Cmdb;
use shawk::cmdb::connect::Limits;
use shawk::cmdb::fault::is_refused;
use shawk::cmdb::token::{Token, TokenSource};
use shawk::cmdb::url::CmdbUrl;
use shawk::flow::report::{Report, ScopedAddress};
use sqlx::{AssertSqlSafe, Executor};

use crate::cmdb::{ip, open, report};
use crate::serve::collector::{Collector, said, shawk};
use crate::serve::{look, places};

fn writer(cmdb: &str, name: &str) -> String {
    let id = format!("id-of-{name}");
    let output = shawk(&["enrol", name, "--host-id", &id, "--cmdb", cmdb]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// What a host says that has looked a moment ago, of addresses that it has
/// since an hour, or had (`-`).
fn told(name: &str, sequence: u64, addresses: &[&str]) -> Report {
    static BEGAN: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);
    let since = *BEGAN - SignedDuration::from_hours(1);
    let now = Timestamp::now();
    let mut told = report(name, 0, sequence, 60, vec![open("10.0.0.1:22 . sshd", 0, 60)]);
    (told.from, told.until, told.sent, told.epoch) = (since, now, now, 1);
    let scoped = |word: &&str| ScopedAddress {
        scope: "".into(),
        address: ip(word.trim_start_matches('-')),
        since,
        ended: word.starts_with('-').then_some(now),
    };
    told.addresses = addresses.iter().map(scoped).collect();
    told
}

fn claimed(collector: &Collector, token: &str, told: &Report) {
    let reply = collector.report_as(token, &[told]);
    let code = (reply.status, reply.code());
    assert_eq!(code, (409, "address_claimed".to_owned()), "{}", reply.text());
    assert!(!reply.text().contains("victim"), "it is told to the log alone: {}", reply.text());
}

fn taken(collector: &Collector, token: &str, told: &Report) {
    let reply = collector.report_as(token, &[told]);
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[test]
fn what_another_host_has_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let (victim, liar) = (writer(&cmdb, "victim"), writer(&cmdb, "liar"));
        let shared = ["127.0.0.1", "::1", "fe80::1", "172.17.0.1", "10.89.3.1"];
        let own = [&["10.0.0.1", "fd00::1"][..], &shared].concat();
        taken(&collector, &victim, &told("victim", 1, &own));
        for (sequence, lie) in [(1, "10.0.0.1"), (2, "fd00::1")] {
            claimed(&collector, &liar, &told("liar", sequence, &["10.0.0.2", lie]));
        }
        assert_eq!(look(&cmdb, &["liar"])["hosts"], serde_json::json!([]));
        // Nor by a while ago, nor as what is over, nor as what is yet to end.
        let mut past = told("liar", 3, &["10.0.0.1"]);
        past.until -= SignedDuration::from_mins(10);
        claimed(&collector, &liar, &past);
        claimed(&collector, &liar, &told("liar", 4, &["-10.0.0.1"]));
        // What all have is nobody's, and its own goes on.
        taken(&collector, &liar, &told("liar", 5, &[&["10.0.0.2"][..], &shared].concat()));
        taken(&collector, &victim, &told("victim", 2, &own));
        // Once for each pair and address, however often.
        let log = collector.log();
        assert_eq!(log.matches("liar claims 10.0.0.1, which victim has").count(), 1, "{log}");
        let admin = shawk(&["enrol", "me", "--role", "admin", "--cmdb", &cmdb]).output().unwrap();
        let admin = String::from_utf8(admin.stdout).unwrap();
        let metrics = collector.get_as(admin.trim_end(), "/metrics").text();
        let count =
            Collector::metric_in(&metrics, "shawk_mistrusted_total{code=\"address_claimed\"}");
        assert_eq!(count, 4.0);
        // Who may report for all hosts is believed.
        taken(&collector, admin.trim_end(), &told("liar", 6, &["10.0.0.1"]));
    }
}

/// Who has an address as of the last minutes, by name.
fn owners(cmdb: &str, address: &str) -> Vec<String> {
    let found = look(cmdb, &[address, "--since", "10m"]);
    let hosts = found["hosts"].as_array().unwrap().iter();
    hosts.map(|host| host["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_claim_of_long_ago_does_not_come_to_life_by_a_heartbeat() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let (victim, liar) = (writer(&cmdb, "victim"), writer(&cmdb, "liar"));
        taken(&collector, &victim, &told("victim", 1, &["10.0.0.1"]));
        // As a host tells that had it before an outage.
        let mut past = told("liar", 1, &["10.0.0.1"]);
        past.until = past.from - SignedDuration::from_secs(1);
        past.from -= SignedDuration::from_hours(1);
        past.addresses[0].since = past.from;
        taken(&collector, &liar, &past);
        // Nothing has changed since, it says, and has it all the time.
        taken(&collector, &liar, &told("liar", 2, &[]));
        assert_eq!(owners(&cmdb, "10.0.0.1"), ["victim"]);
        let mut again = told("liar", 3, &["10.0.0.1"]);
        again.addresses[0].since = past.from;
        claimed(&collector, &liar, &again);
        claimed(&collector, &liar, &told("liar", 4, &["10.0.0.1"]));
        taken(&collector, &victim, &told("victim", 2, &["10.0.0.1"]));
    }
}

#[test]
fn of_two_that_come_at_once_the_first_has_it() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let tokens: Vec<(String, String)> = (0..6)
            .map(|number| format!("host-{number}"))
            .map(|name| (writer(&cmdb, &name), name))
            .collect();
        let first = tokens[0].clone();
        taken(&collector, &first.0, &told(&first.1, 1, &["10.0.0.1"]));
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let collector = &collector;
            let asked: Vec<_> = tokens
                .iter()
                .map(|(token, name)| {
                    scope.spawn(move || {
                        collector.report_as(token, &[&told(name, 2, &["10.0.0.1"])]).status
                    })
                })
                .collect();
            asked.into_iter().map(|asked| asked.join().unwrap()).collect()
        });
        assert_eq!(statuses[0], 200, "{statuses:?}");
        assert!(statuses[1..].iter().all(|status| *status == 409), "{statuses:?}");
    }
}

#[test]
fn an_address_that_moves_is_the_new_ones_when_the_old_one_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let (old, new) = (writer(&cmdb, "old"), writer(&cmdb, "new"));
        taken(&collector, &old, &told("old", 1, &["10.0.0.1", "10.0.0.9"]));
        taken(&collector, &new, &told("new", 1, &["10.0.0.2"]));
        let takeover = told("new", 2, &["10.0.0.2", "10.0.0.9"]);
        claimed(&collector, &new, &takeover);
        // A heartbeat says nothing of addresses: it still has it.
        taken(&collector, &old, &told("old", 2, &[]));
        claimed(&collector, &new, &takeover);
        taken(&collector, &old, &told("old", 3, &["10.0.0.1", "-10.0.0.9"]));
        taken(&collector, &new, &takeover);
        claimed(&collector, &old, &told("old", 4, &["10.0.0.1", "10.0.0.9"]));
    }
}

#[test]
fn a_probe_keeps_what_is_refused_and_tells_it_again() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let (old, new) = (writer(&cmdb, "old"), writer(&cmdb, "new"));
    taken(&collector, &old, &told("old", 1, &["10.0.0.9"]));
    let takeover = told("new", 1, &["10.0.0.9"]);
    let token = TokenSource::Given(Token::parse(&new).unwrap());
    let url = CmdbUrl::parse(&collector.url()).unwrap().with_token(Some(token));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let remote = Cmdb::open(&url, &Limits::STANDARD).await.unwrap();
        // Unlike what is recorded already, which is the same status.
        let refusal = remote.record(&[&takeover]).await.unwrap_err();
        let text = format!("{refusal:#}");
        assert!(is_refused(&refusal) && text.contains("has the address 10.0.0.9"), "{text}");
        assert!(text.contains("--shared-addresses"), "{text}");
        let (host, epoch) = (takeover.host.hash(), takeover.epoch);
        assert_eq!(remote.last_sequence(host, epoch).await.unwrap(), None);
        taken(&collector, &old, &told("old", 2, &["-10.0.0.9"]));
        for _ in 0..2 {
            assert_eq!(remote.record(&[&takeover]).await.unwrap().refused, 0);
        }
        assert_eq!(remote.last_sequence(host, epoch).await.unwrap(), Some(1));
    });
}

/// Sets a host back, as if it had not spoken since.
async fn silence(cmdb: &str, seconds: i64) {
    let back = format!("UPDATE epoch SET until = until - {seconds} * 1000000");
    match cmdb.strip_prefix("sqlite:") {
        Some(path) => {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(20)).unwrap();
            connection.execute(&back, []).unwrap();
        }
        None => {
            let mut connection = crate::postgres::connect(cmdb).await;
            let back = back.replace("epoch", "shawk.epoch");
            connection.execute(sqlx::raw_sql(AssertSqlSafe(back))).await.unwrap();
        }
    }
}

#[test]
fn an_address_of_a_host_that_is_silent_for_a_minute_is_free() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for cmdb in places(&directory) {
        let collector = Collector::start(&cmdb, &["--require-auth"]);
        let (old, new) = (writer(&cmdb, "old"), writer(&cmdb, "new"));
        taken(&collector, &old, &told("old", 1, &["10.0.0.9"]));
        runtime.block_on(silence(&cmdb, 30));
        claimed(&collector, &new, &told("new", 1, &["10.0.0.9"]));
        runtime.block_on(silence(&cmdb, 31));
        taken(&collector, &new, &told("new", 1, &["10.0.0.9"]));
        // Who had it, and did not say that it is gone, is not kept out by who
        // took it meanwhile: perhaps both have it by design. A third is.
        taken(&collector, &old, &told("old", 2, &["10.0.0.9"]));
        let third = writer(&cmdb, "third");
        claimed(&collector, &third, &told("third", 1, &["10.0.0.9"]));
    }
}

#[test]
fn a_network_is_nobodys_only_where_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    let services = ["10.100.0.5", "10.43.0.5", "10.89.0.5", "192.168.0.1", "192.168.16.1"];
    let collector = Collector::start(&cmdb, &["--require-auth"]);
    let (first, second) = (writer(&cmdb, "first"), writer(&cmdb, "second"));
    taken(&collector, &first, &told("first", 1, &services));
    for (sequence, service) in (1..).zip(services) {
        claimed(&collector, &second, &told("second", sequence, &[service]));
    }
    drop(collector);
    let named = "10.96.0.0/12,10.43.0.0/16,10.89.0.0/16,192.168.0.1,192.168.16.1";
    let collector = Collector::start(&cmdb, &["--require-auth", "--shared-addresses", named]);
    taken(&collector, &second, &told("second", 1, &services));
}

#[test]
fn what_is_shared_by_design_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let cmdb = format!("sqlite:{}/cmdb.db", directory.path().display());
    for (number, (shared, is_taken)) in
        [("10.9.0.0/16", false), ("10.0.0.9", true), ("0.0.0.0/0, ::/0", true)].iter().enumerate()
    {
        let collector = Collector::start(&cmdb, &["--require-auth", "--shared-addresses", shared]);
        let names = [format!("a{number}"), format!("b{number}")];
        let [first, second] = names.clone().map(|name| writer(&cmdb, &name));
        let address = if number == 2 { "fd00::9" } else { "10.0.0.9" };
        let admin =
            shawk(&["enrol", &format!("admin{number}"), "--role", "admin", "--cmdb", &cmdb]);
        let admin = { admin }.output().unwrap();
        let admin = String::from_utf8(admin.stdout).unwrap();
        taken(&collector, admin.trim_end(), &told(&names[0], 1, &[address]));
        let told = told(&names[1], 1, &[address]);
        if *is_taken {
            taken(&collector, &second, &told);
        } else {
            claimed(&collector, &second, &told);
        }
        drop(first);
    }
    let wrong = |list: &str| -> Command {
        shawk(&["serve", "--shared-addresses", list, "--cmdb", "sqlite::memory:"])
    };
    let output = wrong("10.0.0.0/8,docker0").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("'docker0' is no address"), "{}", said(&output));
}
