//! scratch
use std::time::Instant;
use shawk::cmdb::{Cmdb, Window};
use crate::cmdb::{LIMITS, Place, key, open, report, run, with_addresses};

async fn measure(place: Place) {
    let cmdb = place.cmdb().await;
    let told = |host: i32, seq: i64, n: i32, opened: u64| {
        let flows = (0..n).map(|i| {
            let mut f = open(&format!("10.0.0.{host} > 10.{}.{}.{}:{} app{}", i / 40000, (i / 200) % 200, i % 200, i % 50, i % 40), 1, seq * 30);
            f.flow.counters.opened = Some(opened);
            f
        }).collect();
        with_addresses(report(&format!("h{host}"), 0, seq as u64, seq * 30, flows), &[&format!("10.0.0.{host}")])
    };
    let which = if place.is_sqlite() { "sqlite" } else { "postgres" };
    for host in 1..=5 {
        let a = told(host, 1, 10_000, 1);
        let s = Instant::now();
        cmdb.record(&[&a]).await.unwrap();
        let insert = s.elapsed();
        let b = told(host, 2, 10_000, 2);
        let s = Instant::now();
        cmdb.record(&[&b]).await.unwrap();
        let update = s.elapsed();
        let s = Instant::now();
        cmdb.record(&[&b]).await.unwrap();
        let again = s.elapsed();
        let c = told(host, 3, 0, 2);
        let s = Instant::now();
        cmdb.record(&[&c]).await.unwrap();
        let beat = s.elapsed();
        let s = Instant::now();
        let n = cmdb.around(&[key(&format!("h{host}"))], &[], &Window::default()).await.unwrap().flows.len();
        eprintln!("{which} host {host}: new {insert:?} changed {update:?} same {again:?} heartbeat {beat:?} around {:?} ({n} flows)", s.elapsed());
    }
    if !place.is_sqlite() {
        let k = key("h1");
        let own = format!("'{{{k}}}'");
        for (name, st, third) in [("own", shawk::cmdb::sql::FLOWS_OF_HOSTS, own.as_str()), ("to", shawk::cmdb::sql::FLOWS_TO_ADDRESSES, "(SELECT array_agg(address) FROM address)")] {
            let mut e = st.to_owned();
            for (at, v) in ["0", "9000000000000000", third, "500001"].iter().enumerate().rev() {
                e = e.replace(&format!("${}", at + 1), v);
            }
            eprintln!("{name}\n{}", place.raw(&format!("EXPLAIN (ANALYZE, COSTS ON) {e}")).await.join("\n"));
        }
    }
    for host in 1..=3 {
        let small = told(100 + host, 1, 100, 1);
        cmdb.record(&[&small]).await.unwrap();
        let s = Instant::now();
        let n = cmdb.around(&[key(&format!("h{}", 100 + host))], &[], &Window::default()).await.unwrap().flows.len();
        eprintln!("{which} small host around {:?} ({n})", s.elapsed());
    }
    let (f, p) = if place.is_sqlite() { ("SELECT CAST(page_count*4096 AS TEXT) FROM pragma_page_count", "SELECT 'x'") } else { ("SELECT pg_total_relation_size('flow')::text || ' ' || pg_total_relation_size('span')::text", "SELECT indexrelname::text || ' ' || pg_relation_size(indexrelid)::text FROM pg_stat_user_indexes") };
    eprintln!("{:?} {:?}", place.raw(f).await, place.raw(p).await);
    let _ = Cmdb::open(&place.url, &LIMITS).await;
}
#[test] fn m_sqlite() { run(None, measure) }
#[test] fn m_15() { run(Some(15), measure) }
#[test] fn m_10() { run(Some(10), measure) }
