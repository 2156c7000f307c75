//! Tokens in the CMDB: kept as hashes, told to whoever asks for the pulse.

use std::time::Duration;

use sha2::{Digest, Sha256};
use shawk::cmdb::enrol::{Enrolment, Holder};
use shawk::cmdb::scheme::Change;
use shawk::cmdb::token::Token;
use shawk::cmdb::{Cmdb, sql};
use shawk::recall::Role;

use crate::cmdb::{LIMITS, Place, key, on_every_engine, open, record, report};

on_every_engine! {
    a_token_is_kept_as_its_hash,
    the_mark_changes_with_the_tokens_and_not_without,
    what_is_revoked_or_over_lives_no_more,
    a_name_stands_for_one_role_and_host,
    a_rotation_gives_the_old_ones_a_while,
    tokens_that_are_over_are_forgotten,
    an_older_scheme_gets_tokens_and_keeps_what_it_has,
}

const DAY: Duration = Duration::from_secs(86_400);

fn writer(name: &str) -> Enrolment {
    let role = Some((Role::Write, Some(format!("id-of-{name}"))));
    Enrolment { name: name.to_owned(), role, lifetime: None, grace: None }
}

fn reader(name: &str) -> Enrolment {
    Enrolment { role: Some((Role::Read, None)), ..writer(name) }
}

async fn enrol(cmdb: &Cmdb, enrolment: Enrolment) -> [u8; 32] {
    let token = Token::new().expect("a token");
    cmdb.enrol(&token, enrolment).await.expect("enrolled");
    Sha256::digest(token.reveal()).into()
}

async fn holder(cmdb: &Cmdb, hash: &[u8; 32]) -> Option<Holder> {
    let pulse = cmdb.pulse(None).await.expect("a pulse");
    pulse.holders.expect("no mark was known").get(hash).copied()
}

async fn a_token_is_kept_as_its_hash(place: Place) {
    let cmdb = place.cmdb().await;
    let token = Token::new().expect("a token");
    cmdb.enrol(&token, writer("web")).await.expect("enrolled");
    let hash: [u8; 32] = Sha256::digest(token.reveal()).into();
    let known = holder(&cmdb, &hash).await.expect("it lives");
    assert_eq!(known, Holder { role: Role::Write, host: Some(key("web")), expires: None });
    let all = "SELECT hash || name || role || COALESCE(host_id, '') FROM token";
    let rows = place.raw(all).await.join(" ");
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(rows, format!("{hex}webwriteid-of-web"));
    let listed = cmdb.tokens().await.expect("listed");
    assert_eq!((listed.len(), listed[0].id.as_str()), (1, &hex[..12]));
    assert!(!format!("{listed:?} {rows}").contains(&token.reveal()[6..70]));
}

async fn the_mark_changes_with_the_tokens_and_not_without(place: Place) {
    let cmdb = place.cmdb().await;
    let first = cmdb.pulse(None).await.expect("a pulse");
    assert_eq!(first.holders.map(|holders| holders.len()), Some(0));
    let mut mark = first.mark;
    for _ in 0..2 {
        let same = cmdb.pulse(Some(mark)).await.expect("a pulse");
        assert!(same.holders.is_none() && same.mark == mark);
        enrol(&cmdb, reader("me")).await;
        let changed = cmdb.pulse(Some(mark)).await.expect("a pulse");
        assert!(changed.holders.is_some() && changed.mark != mark);
        mark = changed.mark;
    }
    assert_eq!(cmdb.revoke("me").await.expect("revoked"), 2);
    let changed = cmdb.pulse(Some(mark)).await.expect("a pulse");
    assert_eq!(changed.holders.map(|holders| holders.len()), Some(0));
}

async fn what_is_revoked_or_over_lives_no_more(place: Place) {
    let cmdb = place.cmdb().await;
    let by_name = enrol(&cmdb, reader("by-name")).await;
    let by_id = enrol(&cmdb, reader("by-id")).await;
    let short = Enrolment { lifetime: Some(Duration::ZERO), ..reader("short") };
    let short = enrol(&cmdb, short).await;
    let long = enrol(&cmdb, Enrolment { lifetime: Some(DAY), ..reader("long") }).await;
    assert_eq!(holder(&cmdb, &short).await, None);
    assert!(holder(&cmdb, &long).await.is_some_and(|holder| holder.expires.is_some()));
    assert!(holder(&cmdb, &by_name).await.is_some());

    let id: String = by_id[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(cmdb.revoke(&id).await.expect("revoked"), 1);
    assert_eq!(cmdb.revoke("by-name").await.expect("revoked"), 1);
    assert_eq!(cmdb.revoke("by-name").await.expect("none was left"), 0);
    for gone in [by_name, by_id] {
        assert_eq!(holder(&cmdb, &gone).await, None);
    }
    assert!(holder(&cmdb, &long).await.is_some());
    let revoked = cmdb.tokens().await.expect("listed");
    assert_eq!(revoked.iter().filter(|token| token.revoked.is_some()).count(), 2);
}

async fn a_name_stands_for_one_role_and_host(place: Place) {
    let cmdb = place.cmdb().await;
    enrol(&cmdb, writer("web")).await;
    enrol(&cmdb, writer("web")).await;
    let other = Some((Role::Write, Some("id-of-db".to_owned())));
    for wrong in [Enrolment { role: other, ..writer("web") }, reader("web")] {
        let token = Token::new().expect("a token");
        let refusal = cmdb.enrol(&token, wrong).await.expect_err("refused");
        assert!(format!("{refusal:#}").contains("another name"), "{refusal:#}");
    }
    assert_eq!(cmdb.tokens().await.expect("listed").len(), 2);
    // What is over binds nobody.
    cmdb.revoke("web").await.expect("revoked");
    enrol(&cmdb, reader("web")).await;
}

async fn a_rotation_gives_the_old_ones_a_while(place: Place) {
    let cmdb = place.cmdb().await;
    let rotated = |grace| Enrolment { role: None, grace: Some(grace), ..writer("web") };
    let token = Token::new().expect("a token");
    let refusal = cmdb.enrol(&token, rotated(DAY)).await.expect_err("nothing to rotate");
    assert!(format!("{refusal:#}").contains("--rotate"), "{refusal:#}");

    let old = enrol(&cmdb, writer("web")).await;
    let new = enrol(&cmdb, rotated(DAY)).await;
    let until = holder(&cmdb, &old).await.expect("it lives on").expires.expect("not for ever");
    let newest = holder(&cmdb, &new).await.expect("it lives");
    assert_eq!(newest, Holder { role: Role::Write, host: Some(key("web")), expires: None });
    // A longer while does not lengthen what ends sooner.
    enrol(&cmdb, rotated(2 * DAY)).await;
    assert_eq!(holder(&cmdb, &old).await.and_then(|holder| holder.expires), Some(until));
    let token = Token::new().expect("a token");
    // Done again, as after a commit whose answer was lost.
    for _ in 0..2 {
        cmdb.enrol(&token, rotated(Duration::ZERO)).await.expect("enrolled");
    }
    let last: [u8; 32] = Sha256::digest(token.reveal()).into();
    for gone in [old, new] {
        assert_eq!(holder(&cmdb, &gone).await, None);
    }
    assert!(holder(&cmdb, &last).await.is_some());
}

async fn tokens_that_are_over_are_forgotten(place: Place) {
    let cmdb = place.cmdb().await;
    for name in ["kept", "revoked"] {
        enrol(&cmdb, reader(name)).await;
    }
    enrol(&cmdb, Enrolment { lifetime: Some(Duration::ZERO), ..reader("over") }).await;
    cmdb.revoke("revoked").await.expect("revoked");
    let now = jiff::Timestamp::now();
    let hour = jiff::SignedDuration::from_hours(1);
    assert_eq!(cmdb.prune(now - hour).await.expect("pruned").tokens, 0);
    // By so much may the clocks differ.
    let now = now + jiff::SignedDuration::from_secs(30);
    assert_eq!(cmdb.prune(now).await.expect("pruned").tokens, 2);
    let left = cmdb.tokens().await.expect("listed");
    assert_eq!((left.len(), left[0].name.as_str()), (1, "kept"));
}

async fn an_older_scheme_gets_tokens_and_keeps_what_it_has(place: Place) {
    let cmdb = place.cmdb().await;
    record(&cmdb, &[report("web", 0, 1, 30, vec![open("10.0.0.1:22 . sshd", 0, 30)])]).await;
    cmdb.close().await;
    let before = place.dump().await;
    place.raw("DROP TABLE token").await;
    for column in ["polled", "blind", "unowned"] {
        place.raw(&format!("ALTER TABLE epoch DROP COLUMN {column}")).await;
    }
    place.raw("UPDATE meta SET value = 1 WHERE name = 'version'").await;
    if !place.is_sqlite() {
        let refusal = Cmdb::open(&place.url, &LIMITS).await.err().expect("refused");
        assert!(format!("{refusal:#}").contains("create-scheme"), "{refusal:#}");
    }
    let to = i64::try_from(sql::STEPS.len()).expect("few");
    let change = Cmdb::create_scheme(&place.url, &LIMITS).await.expect("migrated").change;
    assert_eq!(change, Change::Migrated { from: 1, to });
    let cmdb = Cmdb::open(&place.url, &LIMITS).await.expect("open");
    enrol(&cmdb, reader("me")).await;
    assert_eq!(place.dump().await, before);
}
