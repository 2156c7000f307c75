//! Probes that go on: several at once on one CMDB, and a CMDB that goes away.

use std::time::{Duration, Instant};

use crate::lab::cmdb::Cmdb;
use crate::lab::network::Lab;
use crate::lab::program::{curl, haproxy, nginx_with_a_file, python, redis, redis_cli};
use crate::lab::shawk::SHAWK;
use crate::lab::ss::listens;
use crate::lab::truth;
use crate::lab::wait::{self, LIMIT};

/// How soon a probe writes again after its CMDB is back.
const BACK: Duration = Duration::from_secs(5);

/// Longer than any wait between two attempts.
const OUTAGE: Duration = Duration::from_secs(8);

#[test]
fn three_probes_on_one_postgresql_tell_the_truth_also_after_its_restart() {
    let lab = Lab::new();
    let balancer = lab.host("lb-1", 10);
    let web = lab.host("web-1", 11);
    let client = lab.host("client-1", 20);
    redis(&web, "10.77.0.11");
    nginx_with_a_file(&web, &["80"]);
    haproxy(&balancer, "10.77.0.10:8000", "10.77.0.11:80");
    listens(&web, "10.77.0.11:6379");
    listens(&web, "0.0.0.0:80");
    listens(&balancer, "10.77.0.10:8000");
    redis_cli(&balancer, "10.77.0.11");
    curl(&client, "http://10.77.0.10:8000/large");
    let mut truth = vec![
        "client-1/curl 10.77.0.20 -> lb-1/haproxy 10.77.0.10 tcp/8000 both",
        "lb-1/haproxy 10.77.0.10 -> web-1/nginx 10.77.0.11 tcp/80 both",
        "lb-1/redis-cli 10.77.0.10 -> web-1/redis-server 10.77.0.11 tcp/6379 both",
    ];
    lab.settle(&truth);

    let cmdb = lab.fresh_postgres();
    cmdb.create_scheme();
    let hosts = lab.hosts();
    let probes: Vec<_> = hosts.iter().map(|host| host.daemon(&cmdb)).collect();
    let tells = |truth: &[&str], limit| {
        wait::until("the CMDB to tell the truth", limit, || {
            truth::compare(truth, &cmdb.graph(&hosts))
        });
    };
    tells(&truth, LIMIT);

    // Flows that come and go give all three probes something to write.
    truth.push("client-1/redis-cli 10.77.0.20 -> web-1/redis-server 10.77.0.11 tcp/6379 both");
    for round in 0..4 {
        let come = redis_cli(&client, "10.77.0.11");
        lab.settle(&truth);
        if round == 3 {
            tells(&truth, LIMIT);
        }
        client.stop(&come);
        lab.settle(&truth[..3]);
    }

    let server = lab.server();
    server.stop();
    // While nobody takes it, something new begins.
    python(&web, &["serve", "10.77.0.11", "9000"]);
    listens(&web, "10.77.0.11:9000");
    python(&client, &["hold", "10.77.0.11", "9000"]);
    let mut now = truth[..3].to_vec();
    let new = "client-1/python3 10.77.0.20 -> web-1/python3 10.77.0.11 tcp/9000 both";
    now.push(new);
    lab.settle(&now);
    server.begin();
    truth.push(new);
    tells(&truth, BACK);

    for (host, probe) in hosts.iter().zip(&probes) {
        let status = host.stop(probe);
        assert!(status.success(), "{status}: {}", host.log(probe));
    }
    tells(&truth, LIMIT);
    let log = server.log();
    assert!(!log.contains("deadlock"), "PostgreSQL met a deadlock: {log}");
}

/// With the flush interval that is standard: what is new must not wait for it.
#[test]
fn a_collector_writes_to_a_postgresql_again_within_seconds_of_its_restart() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    let cmdb = lab.fresh_postgres();
    cmdb.create_scheme();
    let words = [SHAWK, "serve", "--listen", "127.0.0.1:7717"];
    let collector = web.start(&words, &[("SHAWK_CMDB_URL", &cmdb.url)]);
    listens(&web, "127.0.0.1:7717");
    let through = Cmdb {
        name: "a collector".to_owned(),
        url: "http://127.0.0.1:7717".to_owned(),
        needs_scheme: false,
        mode: cmdb.mode,
    };
    let probe = web.daemon_that_flushes(&through, "30s");
    let tells = |truth: &[&str], limit| {
        wait::until("the CMDB to tell the truth", limit, || {
            truth::compare(truth, &cmdb.graph(&lab.hosts()))
        });
    };
    let way = "web-1/shawk 127.0.0.1 -> web-1/shawk 127.0.0.1 tcp/7717 both";
    tells(&[way], LIMIT);

    let server = lab.server();
    let began = Instant::now();
    server.stop();
    python(&web, &["serve", "10.77.0.10", "9000"]);
    listens(&web, "10.77.0.10:9000");
    python(&web, &["hold", "10.77.0.10", "9000"]);
    // The waits between two attempts have grown to the longest.
    wait::until("the probe to be sent away for long", LIMIT, || {
        let log = web.log(&probe);
        let is_away = log.contains("the CMDB cannot be written") && began.elapsed() > OUTAGE;
        is_away.then_some(()).ok_or(log)
    });
    server.begin();
    let new = "web-1/python3 10.77.0.10 -> web-1/python3 10.77.0.10 tcp/9000 both";
    tells(&[way, new], BACK);
    for program in [&probe, &collector] {
        let status = web.stop(program);
        assert!(status.success(), "{status}: {}", web.log(program));
    }
}

#[test]
fn a_probe_that_is_stopped_writes_what_it_saw() {
    let lab = Lab::new();
    let web = lab.host("web-1", 10);
    redis(&web, "10.77.0.10");
    listens(&web, "10.77.0.10:6379");
    redis_cli(&web, "10.77.0.10");
    let truth = ["web-1/redis-cli 10.77.0.10 -> web-1/redis-server 10.77.0.10 tcp/6379 both"];
    lab.settle(&truth);
    for cmdb in lab.fresh_cmdbs() {
        cmdb.create_scheme();
        let probe = web.daemon_that_flushes(&cmdb, "10m");
        web.has_scanned(&probe);
        let status = web.stop(&probe);
        assert!(status.success(), "{status}: {}", web.log(&probe));
        cmdb.expect(&lab.hosts(), &truth);
    }
}
