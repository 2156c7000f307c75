//! What a user types → what is done, or the one line that refuses it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::ffi::OsString;
use std::time::Duration;

use jiff::Timestamp;

use crate::cli::{Command, Invocation, LookOptions, ProbeOptions, inquiry, parse};
use crate::flow::filter::Filter;
use crate::graph::walk::Ways;
use crate::probe::choose::Mode;
use crate::recall::{Selector, Spot};

fn run(line: &str, environment: &[(&str, &str)]) -> Result<Invocation, String> {
    let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
    let pairs: Vec<(OsString, OsString)> =
        environment.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    parse(words.into_iter(), pairs.into_iter(), "2026-01-31T12:00:00Z".parse().unwrap())
}

fn probe(line: &str, environment: &[(&str, &str)]) -> Box<ProbeOptions> {
    match run(&format!("probe {line}"), environment).unwrap().command {
        Command::Probe(options) => options,
        other => panic!("not a probe: {other:?}"),
    }
}

fn look(line: &str) -> Box<LookOptions> {
    match run(&format!("look {line}"), &[]).unwrap().command {
        Command::Look(options) => options,
        other => panic!("not a look: {other:?}"),
    }
}

#[test]
fn moments_windows_and_formats_of_inquiries_are_refused_in_one_line() {
    refused("diff", &[], "--from");
    refused("diff --from yesterday", &[], "--from: 'yesterday' is not a moment");
    refused("diff --from 1h --to 2h", &[], "swap them");
    refused("diff --from 1h --window 0s", &[], "--window: '0s' is no length of time");
    refused("listeners --limit 0", &[], "--limit: '0' is not a number from 1 to 100000");
    refused("listeners --after 7", &[], "--after: '7' is where no page ended; take 'next'");
    refused("export --after x", &[], "--after: 'x' is where no page ended");
    refused("drain web --except 80", &[], "--except: '80' is not who connects");
    refused("failing -o csv", &[], "--output: 'csv' is not for this");
    refused("export -o tree", &[], "--output: 'tree' is no format of an export; choose from json");
    refused("export --limit many", &[], "--limit: 'many'");
    let inquiry = |line: &str| match run(line, &[]).unwrap().command {
        Command::Inquire(options) => options.inquiry,
        other => panic!("no inquiry: {other:?}"),
    };
    // A question about how things are is about the last day.
    let day = "2026-01-30T12:00:00Z".parse().ok();
    assert_eq!(inquiry("failing").window.since, day);
    assert_eq!(inquiry("unexplained").window.since, day);
    assert_eq!(inquiry("failing --since 1h").window.since, "2026-01-31T11:00:00Z".parse().ok());
    assert_eq!(inquiry("listeners").window.since, None);
    match run("export --limit 5 --at 1h -o graphml", &[]).unwrap().command {
        Command::Look(options) => {
            assert_eq!(options.asked.selectors, [Selector::All]);
            let limit = options.asked.page.map(|page| page.limit);
            assert_eq!((limit, options.asked.depth), (Some(5), 1));
        }
        other => panic!("no look: {other:?}"),
    }
}

#[test]
fn a_query_is_the_commands_words_without_the_dashes() {
    let now = "2026-01-31T12:00:00Z".parse().unwrap();
    let asked = |query: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        inquiry::asked("listeners", pairs, now)
    };
    let command = |line: &str| match run(line, &[]).unwrap().command {
        Command::Inquire(options) => options.inquiry,
        other => panic!("no inquiry: {other:?}"),
    };
    for (query, line) in [
        ("", "listeners"),
        ("what=web&limit=5", "listeners web --limit 5"),
        (
            "host=-web&since=2h&after=7-00000000000000ff-1769860000000000",
            "listeners --host=-web --since 2h --after 7-00000000000000ff-1769860000000000",
        ),
        ("at=1h&port=80", "listeners --port 80 --at 1h"),
    ] {
        assert_eq!(asked(query).unwrap(), command(line), "{query}");
    }
    // The words of a later page mean what they meant to the first.
    let later = asked("since=2h&after=7-00000000000000ff-1769860000000000").unwrap();
    assert_eq!(later.window.since, "2026-01-31T09:46:40Z".parse().ok());
    for (query, said) in [
        ("cmdb=sqlite:/etc/passwd", "'cmdb' is no parameter of this"),
        ("output=json", "'output' is no parameter"),
        ("debug=true", "'debug' is no parameter"),
        ("env-file=/etc/passwd", "'env-file' is no parameter"),
        ("help=true", "'help' is no parameter"),
        ("limit=0", "limit: '0' is not a number from 1 to 100000"),
        ("port=x", "port: 'x' is not a port"),
        ("what=a&what=b", "'what' stands there twice"),
        ("host=a&host=b", "host"),
        ("what=--cmdb", ""),
        ("at=1h&since=1h", "at"),
    ] {
        match asked(query) {
            Err(error) => {
                assert!(error.contains(said) && !error.contains('\n'), "{query}: {error}");
            }
            Ok(inquiry) => assert!(inquiry.selectors.contains(&Selector::Host("--cmdb".into()))),
        }
    }
}

#[track_caller]
fn refused(line: &str, environment: &[(&str, &str)], said: &str) {
    let error = run(line, environment).expect_err(line);
    assert!(error.contains(said), "{line}: {error}");
    assert!(!error.contains('\n'), "{line}: more than one line: {error}");
}

#[test]
fn the_defaults_are_those_of_the_manual() {
    let options = probe("", &[]);
    assert_eq!(options.mode, Mode::Polling);
    assert_eq!(options.interval, Duration::from_secs(1));
    assert_eq!(options.flush, Duration::from_secs(30));
    assert_eq!(options.filter, Filter::All);
    assert!(!options.once);
}

#[test]
fn the_spool_and_the_metrics_have_a_place() {
    let spool = |line: &str| probe(line, &[]).spool;
    let plan = spool("--spool /s --spool-limit 2GiB").unwrap();
    assert_eq!((plan.path.to_str(), plan.limit), (Some("/s"), 2 << 30));
    assert!(spool("--spool none").is_none());
    refused("probe --spool-limit 64M", &[], "--spool-limit: '64M' is not a size");
    refused("probe", &[("SHAWK_SPOOL_LIMIT", "1KiB")], "'1KiB' is too small");
    let metrics = |text: &str| probe(&format!("--metrics {text}"), &[]).metrics.unwrap();
    assert_eq!(metrics("9469"), "127.0.0.1:9469".parse().unwrap());
    assert_eq!(metrics("[::]:1"), "[::]:1".parse().unwrap());
    refused("probe --metrics 70000", &[], "--metrics: '70000' is not an address");
}

#[test]
fn a_flag_goes_before_the_environment_and_the_new_name_before_the_old() {
    let environment = [
        ("SHAWK_PROBE_INTERVAL", "2s"),
        ("SHAWK_FLUSH_INTERVAL", "1m"),
        ("SHAWK_PROBE_FLUSH_INTERVAL", "2m"),
        ("SHAWK_PROBE_MODE", "streaming"),
        ("SHAWK_HOST_ID", "a"),
    ];
    let options = probe("--interval 3s --host-id b", &environment);
    assert_eq!(options.interval, Duration::from_secs(3));
    assert_eq!(options.flush, Duration::from_secs(60));
    assert_eq!(options.mode, Mode::Streaming);
    assert_eq!(options.host_id.as_deref(), Some("b"));
    let options = probe("", &[("SHAWK_PROBE_FLUSH_INTERVAL", "2m")]);
    assert_eq!(options.flush, Duration::from_secs(120));
}

#[test]
fn a_mistake_is_one_line_with_the_value_and_the_remedy() {
    refused("", &[], "no command given; see 'shawk --help'");
    refused("prob", &[], "prob");
    refused("probe --bogus", &[], "--bogus");
    let bogus = "unexpected argument '--bogus' found; see 'shawk --help'";
    assert_eq!(run("look --bogus", &[]).unwrap_err(), bogus);
    refused("look --since -5m", &[], "no value begins with '-5': write it without the '-'");
    refused("drain x --for -5m", &[], "no value begins with '-5'");
    refused("probe --interval abc", &[], "--interval: 'abc' is not a duration; write it like 1s");
    refused(
        "probe",
        &[("SHAWK_PROBE_INTERVAL", "1")],
        "SHAWK_PROBE_INTERVAL: '1' is not a duration",
    );
    refused("probe --interval 1ms", &[], "out of range");
    refused("probe --interval 31s", &[], "longer than the flush interval");
    refused("probe --mode fast", &[], "--mode: 'fast' is not a mode; write polling, streaming");
    refused("probe --filter some", &[], "'some' is not a filter");
    refused("probe --record a --replay b", &[], "cannot be used with");
    refused(
        "probe",
        &[("SHAWK_DEBUG", "perhaps")],
        "SHAWK_DEBUG: 'perhaps' is neither true nor false",
    );
    refused("probe --cmdb mysql://root:hunter2@h/d", &[], "--cmdb");
    refused("look 10.0.0.300", &[], "'10.0.0.300' is not an address");
    refused("look 10.0.0.300:80", &[], "'10.0.0.300:80' is not an address");
    refused("look 10.0.0.10:0", &[], "10.0.0.10:0: '0' is not a port; choose from 1 to 65535");
    refused("look web-1:70000", &[], "web-1:70000: '70000' is not a port");
    refused("look web-1:", &[], "'web-1:' is not an address");
    refused("look web-1:http", &[], "'web-1:http' is not an address");
    refused("drain web --except web-1:80", &[], "--except: 'web-1:80' is not who connects");
    refused("look 10.0.0.0/33", &[], "'10.0.0.0/33' is not an address");
    refused("look --ipv4 fd00::1", &[], "'fd00::1' is of the other IP family");
    refused("look --ip nonsense", &[], "--ip: 'nonsense' is not an address");
    refused("look --port 0", &[], "--port: '0' is not a port");
    refused("look 70000", &[], "'70000' is not a port");
    refused("look --host a --port 1", &[], "cannot be used with");
    refused("look a --host b", &[], "cannot be used with");
    refused("look --depth 0", &[], "--depth: '0' is not a number of steps");
    refused("look -o yaml", &[], "'yaml'");
    refused("look --since yesterday", &[], "--since: 'yesterday' is not a moment");
    refused("look --since 1h --until 2h", &[], "is later than --until");
    refused("look --at 1h --since 2h", &[], "cannot be used with");
    refused("serve --listen here", &[], "--listen: 'here' is not an address and a port");
    refused("serve --listen 0.0.0.0:1", &[], "give --tls-cert and --tls-key");
    refused("serve --listen 0.0.0.0:1 --require-auth", &[], "must be encrypted");
    refused("enrol a", &[], "give its id with --host-id");
    refused("enrol a --role root", &[], "--role: 'root' is no role; choose write, read or admin");
    refused("enrol a --role read --host-id b", &[], "--host-id: a token to read is for no host");
    refused("enrol a --rotate --role read", &[], "cannot be used with");
    refused("enrol a --grace 1h", &[], "--rotate");
    refused("enrol a --role read --grace 1h", &[], "--grace 1h is for --rotate");
    refused("enrol a --role read --expires 0s", &[], "--expires: '0s' is no time at all");
    refused("enrol a --host-id b --expires soon", &[], "--expires: 'soon' is not a duration");
    refused("enrol 0123456789ab --host-id b", &[], "looks like the id of a token");
    refused("enrol a\u{7f}b --host-id b", &[], "do not show");
    refused("tokens -o dot", &[], "choose table or json");
    refused("serve --tls-cert c", &[], "give both");
    refused("serve", &[("SHAWK_CLIENT_CA", "a")], "--client-ca needs TLS");
    refused("serve --cmdb http://localhost:1", &[], "is a collector");
    refused("create-scheme --cmdb https://c:1", &[], "https://c:1 is a collector");
    refused(
        "prune --older-than 2999-01-01T00:00:00Z",
        &[],
        "--older-than: '2999-01-01T00:00:00Z' is in the future",
    );
    refused(
        "prune --older-than 59m",
        &[],
        "--older-than: '59m' is less than an hour ago; write 1h",
    );
    refused("prune --older-than 1h --cmdb https://c:1", &[], "is a collector");
    refused("probe --cmdb http://collector:7717", &[], "unencrypted");
}

#[test]
fn a_password_is_never_repeated() {
    let error = run("probe --cmdb mysql://root:hunter2@h/d", &[]).expect_err("a wrong scheme");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_bare_word_may_mean_any_of_them() {
    let ip = |text: &str| Selector::Address(text.parse().unwrap());
    let at = |text: &str, port| Selector::Service(Spot::Address(text.parse().unwrap()), port);
    for (word, selectors) in [
        ("10.0.0.10", vec![ip("10.0.0.10")]),
        ("::ffff:10.0.0.10", vec![ip("10.0.0.10")]),
        ("[fd00::1]", vec![ip("fd00::1")]),
        ("10.0.0.9/24", vec![Selector::Network("10.0.0.0/24".parse().unwrap())]),
        ("5432", vec![Selector::Port(5432)]),
        (":5432", vec![Selector::Port(5432)]),
        ("*", vec![Selector::All]),
        ("10.0.0.10:80", vec![at("10.0.0.10", 80)]),
        ("[fd00::1]:80", vec![at("fd00::1", 80)]),
        ("[::ffff:10.0.0.10]:80", vec![at("10.0.0.10", 80)]),
        ("fd00::1:80", vec![ip("fd00::1:80")]),
        (
            "web-1:80",
            vec![
                Selector::Label("web-1:80".into()),
                Selector::Host("web-1:80".into()),
                Selector::Service(Spot::Host("web-1".into()), 80),
            ],
        ),
        (
            "web-1",
            vec![
                Selector::Label("web-1".into()),
                Selector::Host("web-1".into()),
                Selector::Process("web-1".into()),
            ],
        ),
        ("--ipv4 10.0.0.10", vec![ip("10.0.0.10")]),
        ("--ipv6 fd00::/64", vec![Selector::Network("fd00::/64".parse().unwrap())]),
        ("--process 80", vec![Selector::Process("80".into())]),
        ("", vec![]),
    ] {
        assert_eq!(look(word).asked.selectors, selectors, "{word}");
    }
}

#[test]
fn a_walk_goes_both_ways_unless_told_one() {
    for (line, ways) in
        [("", Ways::Both), ("--up", Ways::Up), ("--down", Ways::Down), ("--up --down", Ways::Both)]
    {
        assert_eq!(look(line).asked.ways, ways, "{line}");
    }
}

#[test]
fn windows_are_moments_or_whiles_ago() {
    let moment = |text: &str| Some(text.parse::<Timestamp>().unwrap());
    let window = look("--since 2h --until 2026-01-31T11:30:00Z").asked.window;
    assert_eq!(window.since, moment("2026-01-31T10:00:00Z"));
    assert_eq!(window.until, moment("2026-01-31T11:30:00Z"));
    let window = look("--at 1h").asked.window;
    assert_eq!(
        (window.since, window.until),
        (moment("2026-01-31T11:00:00Z"), moment("2026-01-31T11:00:00Z"))
    );
}

#[test]
fn words_and_flags_for_help_version_and_credits() {
    for line in ["--help", "-h", "help", "probe --help", "help look"] {
        let command = run(line, &[]).unwrap().command;
        assert!(
            matches!(command, Command::Print(ref text) if text.contains("Usage: shawk")),
            "{line}"
        );
    }
    for line in ["--version", "version", "-V"] {
        let command = run(line, &[]).unwrap().command;
        let version = concat!("shawk ", env!("CARGO_PKG_VERSION"), "\n");
        assert!(matches!(command, Command::Print(ref text) if text == version), "{line}");
    }
    for line in ["--credits", "credits"] {
        assert!(matches!(run(line, &[]).unwrap().command, Command::Credits), "{line}");
    }
}

#[test]
fn questions_about_something_need_to_be_told_what() {
    for (line, remedy) in [
        ("impact", "name a host"),
        ("drain", "name a host"),
        ("policy", "name a host"),
        ("impact x --decommission --since 1h", "cannot be used with"),
        ("impact x --watched 1h", "--decommission"),
        ("impact x --depth 0", "choose from 1 to 100"),
        ("drain x --interval 1s", "--watch"),
        ("impact x --watched 1h --since 2h", "cannot be used with"),
        ("impact x --trust-polling --since 2h", "cannot be used with"),
        ("drain x --for 0s", "no time at all"),
        ("policy x --format pf", "choose from nftables, iptables"),
        ("policy x --aggregate /33", "write /24"),
        ("policy x --direction up", "choose in, out or both"),
        ("policy x --audit /nonexistent", "cannot be read"),
    ] {
        let refusal = run(line, &[]).unwrap_err();
        assert!(refusal.contains(remedy) && !refusal.contains('\n'), "{line}: {refusal}");
    }
}

#[test]
fn everything_is_no_answer_to_what_is_about_something() {
    for command in ["impact", "drain", "policy"] {
        let without = run(command, &[]).unwrap_err();
        assert_eq!(run(&format!("{command} *"), &[]).unwrap_err(), without);
        let asked = inquiry::asked(command, [("what", "*")].into_iter(), Timestamp::UNIX_EPOCH);
        assert_eq!(asked.unwrap_err(), without);
    }
    assert_eq!(look("*").asked.selectors, [Selector::All]);
}

#[test]
fn what_is_yet_to_come_was_not_seen() {
    for line in [
        "look --at 2999-01-01T00:00:00Z",
        "look --since 2999-01-01T00:00:00Z",
        "diff --from 1h --to 2999-01-01T00:00:00Z",
        "diff --from 2999-01-01T00:00:00Z",
        "export --at 2026-01-31T12:01:01Z",
    ] {
        refused(line, &[], "is in the future; it is 2026-01-31T12:00:00Z here");
    }
    // As good as no end.
    look("--until 2026-01-31T23:59:59Z");
}

#[test]
fn an_edges_page_is_asked_for_like_any_other() {
    assert_eq!(look("web").asked.page, None);
    assert_eq!(look("web --limit 5").asked.page.map(|page| page.limit), Some(5));
    // The words of a later page mean what they meant to the first.
    let later = look("web --since 2h --after 7-00000000000000ff-1769860000000000").asked;
    assert_eq!(later.window.since, "2026-01-31T09:46:40Z".parse().ok());
    refused("look --limit 0", &[], "--limit: '0' is not a number");
    refused("look --after x", &[], "--after: 'x' is where no page ended");
}

#[test]
fn help_says_what_a_command_takes_and_last_what_all_take() {
    let help = |line: &str| match run(line, &[]).unwrap().command {
        Command::Print(text) => text,
        other => panic!("{other:?}"),
    };
    for command in ["look", "drain", "probe", "serve", "enrol", "doctor"] {
        let text = help(&format!("{command} --help"));
        let (own, all) = text.split_once("Of every command:").unwrap();
        assert!(!own.contains("--env-file") && !own.contains("--debug"), "{text}");
        assert!(all.contains("--env-file") && all.contains("--debug"), "{text}");
        assert_eq!(all.matches("--").count(), 2, "{text}");
    }
    for command in ["serve", "enrol", "tokens", "revoke", "prune", "create-scheme"] {
        let text = help(&format!("{command} --help"));
        assert!(!text.contains("collector that has it"), "{text}");
    }
    assert!(help("look --help").contains("collector that has it"));
}

#[test]
fn a_name_that_is_no_setting_warns() {
    let invocation = run("version", &[("SHAWK_PROBE_INTERVALL", "1s")]).unwrap();
    assert_eq!(invocation.warnings.len(), 1);
    assert!(invocation.warnings[0].contains("SHAWK_PROBE_INTERVALL"));
}

#[test]
fn who_can_be_reached_by_others_knows_everybody_who_asks() {
    let serve =
        |line: &str, environment: &[(&str, &str)]| match run(&format!("serve {line}"), environment)
            .unwrap()
            .command
        {
            Command::Serve(options) => options.must_be_known,
            other => panic!("{other:?}"),
        };
    let tls = "--tls-cert c --tls-key k";
    assert!(!serve("", &[]));
    assert!(!serve(tls, &[]));
    assert!(serve("--require-auth", &[]));
    assert!(serve("", &[("SHAWK_REQUIRE_AUTH", "1")]));
    assert!(serve(&format!("{tls} --client-ca a"), &[]));
    assert!(serve(&format!("{tls} --listen 0.0.0.0:1"), &[]));
    // It cannot be switched off there.
    assert!(serve(&format!("{tls} --listen [::]:1"), &[("SHAWK_REQUIRE_AUTH", "0")]));
}

#[test]
fn a_token_comes_by_environment_and_is_never_said() {
    let remote = ("SHAWK_CMDB_URL", "https://collector:7717");
    let token = crate::cmdb::token::Token::new().unwrap();
    let (text, torn) = (token.reveal(), &token.reveal()[..40]);
    let invocation = run("look", &[remote, ("SHAWK_TOKEN", text)]).unwrap();
    assert!(!format!("{invocation:?}").contains(torn), "{invocation:?}");
    for (environment, says) in [
        (&[remote, ("SHAWK_TOKEN", torn)][..], "SHAWK_TOKEN: it holds no whole token"),
        (&[remote, ("SHAWK_TOKEN_FILE", "/no/such")], "'/no/such' cannot be used"),
        (&[remote, ("SHAWK_TOKEN", text), ("SHAWK_TOKEN_FILE", "/f")], "leave out SHAWK_TOKEN"),
        (&[("SHAWK_CMDB_URL", "http://far:7717"), ("SHAWK_TOKEN", text)], "unencrypted"),
    ] {
        let refusal = run("look", environment).unwrap_err();
        assert!(refusal.contains(says) && !refusal.contains(torn), "{refusal}");
        assert_eq!(refusal.lines().count(), 1, "{refusal}");
    }
    // Who asks no collector shows it to nobody.
    run("look", &[("SHAWK_CMDB_URL", "sqlite:/x"), ("SHAWK_TOKEN", torn)]).unwrap();
}
