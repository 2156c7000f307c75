//! `diff` on histories made by dice, against a model that looks at every
//! second of what is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::SignedDuration;

use crate::graph::tests::notation::{host_key, records, second};
use crate::graph::tests::truth::{Dice, rounds};
use crate::graph::{Identity, NodeId};
use crate::recall::{Records, Selector};
use crate::study::diff::{Change, Moments, Thing};
use crate::study::tests::outcome_at;
use crate::study::{About, Finding, Outcome};

const END: usize = 4000;
const FROM: usize = 1500;
const WINDOW: usize = 800;
const TOLERANCE: usize = 30;
const REPORTS_S: usize = 120;

type Seconds = Vec<bool>;

fn between(from: usize, to: usize) -> Seconds {
    (0..END).map(|at| (from..to).contains(&at)).collect()
}

fn both(a: &Seconds, b: &Seconds) -> Seconds {
    a.iter().zip(b).map(|(a, b)| *a && *b).collect()
}

/// What happens to an edge or a service in the course of time.
fn life(dice: &mut Dice) -> Seconds {
    let at = |dice: &mut Dice| 300 + dice.below(END - 600);
    match dice.below(8) {
        0 | 1 => between(0, END),
        2 => between(at(dice), END),
        3 => between(0, at(dice)),
        4 => {
            let from = at(dice);
            between(from, from + 5 + dice.below(300))
        }
        // A restart.
        5 => {
            let when = at(dice);
            let pause = 1 + dice.below(60);
            (0..END).map(|at| !(when..when + pause).contains(&at)).collect()
        }
        // A job, perhaps until somebody removes it.
        _ => {
            let period = [60, 150, 250, 700, 1500][dice.below(5)];
            let (length, phase) = (1 + dice.below(40), dice.below(period));
            let end = if dice.chance(4) { at(dice) } else { END };
            (0..END).map(|at| at < end && (at + phase) % period < length).collect()
        }
    }
}

/// The spans of what its host saw, of which it was told at each second whether
/// it was there and whether its host was.
fn spans(seen: &Seconds, heard: &Seconds) -> String {
    let mut spans = String::new();
    let mut since = None;
    for at in 0..=END {
        let there = at < END && seen[at];
        match (since, there) {
            (None, true) => since = Some(at),
            (Some(from), false) => {
                let lost = at == END || !heard[at];
                let back = (at..END).any(|later| heard[later]);
                let end = if lost && !back { "" } else { "." };
                write!(spans, " {from}-{}{end}", at - 1).unwrap();
                since = None;
            }
            _ => {}
        }
    }
    spans
}

#[derive(Default)]
struct World {
    told: String,
    /// What is true, as far as it was told, by what it is called and who told.
    things: BTreeMap<String, BTreeMap<usize, Seconds>>,
    /// Who listens, by listener.
    processes: BTreeMap<String, Vec<(String, Seconds)>>,
}

const HOSTS: [&str; 3] = ["a", "b", "c"];

impl World {
    fn tell(&mut self, what: &str, teller: usize, line: &str, seen: &Seconds, heard: &[Seconds]) {
        let seen = both(seen, &heard[teller]);
        if seen.contains(&true) {
            writeln!(self.told, "{line}{}", spans(&seen, &heard[teller])).unwrap();
            let thing = self.things.entry(what.to_owned()).or_default();
            let told = thing.entry(teller).or_insert(between(0, 0));
            for (told, seen) in told.iter_mut().zip(&seen) {
                *told |= seen;
            }
        }
    }

    fn services(&mut self, dice: &mut Dice, heard: &[Seconds]) {
        for (host, name) in HOSTS.iter().enumerate() {
            for port in [80, 81] {
                let there = life(dice);
                let what = format!("listener {name}:{port}");
                let change = if dice.chance(3) { 500 + dice.below(END - 1000) } else { END };
                for (process, when) in
                    [("nginx", between(0, change)), ("haproxy", between(change + 3, END))]
                {
                    let seen = both(&there, &when);
                    let line = format!("{name} tcp 0.0.0.0:{port} listens {process}/{port}");
                    self.tell(&what, host, &line, &seen, heard);
                    let seen = both(&seen, &heard[host]);
                    self.processes
                        .entry(what.clone())
                        .or_default()
                        .push((process.to_owned(), seen));
                }
            }
        }
    }

    fn calls(&mut self, dice: &mut Dice, heard: &[Seconds]) {
        for call in 0..8 {
            let (from, to) = (dice.below(3), dice.below(3));
            let (active, passive) = (HOSTS[from], HOSTS[to]);
            let (local, peer) = (from + 1, to + 1);
            let port = 8000 + call;
            let there = life(dice);
            match dice.below(4) {
                // A service without a probe.
                0 => {
                    let what = format!("edge {active}/cli>10.0.0.9:{port}");
                    let line = format!("{active} tcp 10.0.0.{local} -> 10.0.0.9:{port} cli/7");
                    self.tell(&what, from, &line, &there, heard);
                }
                // Callers from all over the world.
                1 => {
                    let what = format!("edge public>{passive}:{port}");
                    for caller in 1..4 {
                        let line =
                            format!("{passive} tcp 10.0.0.{peer}:{port} <- 8.8.8.{caller} web/9");
                        self.tell(&what, to, &line, &there, heard);
                    }
                }
                // Containers, each restart in another one.
                2 => {
                    let what = format!("edge {active}/box>10.0.0.9:{port}");
                    let when = FROM + 1 + dice.below(END - FROM - 100);
                    for (scope, part) in [("1", between(0, when)), ("2", between(when, END))] {
                        let line = format!(
                            "{active}@container:{scope}{call} tcp 172.17.0.{scope} -> 10.0.0.9:{port} box/7"
                        );
                        self.tell(&what, from, &line, &both(&there, &part), heard);
                    }
                }
                // Both ends, of which one may be silent.
                _ => {
                    let what = format!("edge {active}/cli>{passive}:{port}");
                    let line = format!("{active} tcp 10.0.0.{local} -> 10.0.0.{peer}:{port} cli/7");
                    self.tell(&what, from, &line, &there, heard);
                    let line =
                        format!("{passive} tcp 10.0.0.{peer}:{port} <- 10.0.0.{local} svc/9");
                    self.tell(&what, to, &line, &there, heard);
                }
            }
        }
    }

    /// When that was there which was there in a time: of a listener, the
    /// processes that listened then.
    fn then(&self, what: &str, seen: &Seconds, (since, until): (usize, usize)) -> Seconds {
        let Some(who) = self.processes.get(what) else { return seen.clone() };
        let there = who.iter().filter(|(_, seen)| seen[since..=until].contains(&true));
        let mut all = between(0, 0);
        for (_, seen) in there {
            all.iter_mut().zip(seen).for_each(|(all, seen)| *all |= seen);
        }
        all
    }
}

/// When each host was heard: always, until long before the second moment, not
/// around the first one, or not before it.
fn hearing(dice: &mut Dice, to: usize) -> Vec<Seconds> {
    let silent = |dice: &mut Dice| match dice.below(8) {
        0 => between(to.saturating_sub(WINDOW).max(FROM) - 60, END),
        1 => between(FROM - WINDOW - 60, FROM + 10),
        2 => between(0, FROM + 10),
        _ => between(0, 0),
    };
    HOSTS.iter().map(|_| silent(dice).iter().map(|silent| !silent).collect()).collect()
}

/// What the model says of one thing in the time before a moment, with its
/// longest pause.
#[derive(Debug, PartialEq)]
enum Was {
    Not,
    Rarely,
    Regularly(usize),
    Always(usize),
}

fn was(seen: &Seconds, since: usize, at: usize) -> Was {
    let Some(first) = seen.iter().position(|seen| *seen) else { return Was::Not };
    let inside: Vec<usize> = (since..=at).filter(|at| seen[*at]).collect();
    let Some(last) = inside.last() else { return Was::Not };
    let gaps = inside.windows(2).map(|pair| pair[1] - pair[0]);
    // Pauses no longer than the tolerance are none, but for how long it may be
    // quiet; and one of them may have begun before.
    let before = (since.saturating_sub(REPORTS_S)..inside[0]).rev().filter(|at| seen[*at]);
    let mut run = [inside[0]].into_iter().chain(before).collect::<Vec<_>>();
    let connected = run.windows(2).take_while(|pair| pair[0] - pair[1] <= TOLERANCE).count();
    run.truncate(connected + 1);
    let short = run.windows(2).map(|pair| pair[0] - pair[1]).chain(gaps.clone());
    let short = short.filter(|gap| *gap > 1).max().unwrap_or(0);
    let pauses: Vec<usize> = gaps.filter(|gap| *gap > TOLERANCE).collect();
    let tail = if is_there(seen, at) { 0 } else { at - last };
    let lead = inside[0] - since.max(first);
    let longer = |pause: usize| if pause > TOLERANCE { pause } else { 0 };
    let pause = pauses.iter().copied().chain([longer(lead), longer(tail)]).max().unwrap();
    match pauses.len() {
        0 if tail == 0 && pause == 0 => Was::Always(short),
        0 => Was::Rarely,
        _ if pause <= WINDOW / 4 => Was::Regularly(pause.max(short)),
        _ => Was::Rarely,
    }
}

/// What has paused before may just be in a pause.
fn is_there(seen: &Seconds, at: usize) -> bool {
    let there: Vec<usize> = (0..=at).rev().filter(|at| seen[*at]).collect();
    let mut run =
        there.windows(2).map(|pair| pair[0] - pair[1]).take_while(|gap| *gap <= TOLERANCE);
    let quiet = there.first().map(|last| at - last);
    quiet == Some(0) || quiet.is_some_and(|quiet| quiet <= TOLERANCE) && run.any(|gap| gap > 1)
}

/// Whether something is at a host.
fn is_at(what: &str, host: usize) -> bool {
    let name = HOSTS[host];
    [format!(" {name}/"), format!(" {name}:"), format!(">{name}:")]
        .iter()
        .any(|end| what.contains(end))
}

/// What the model says that differs, of all or of what is at one host.
fn expected(world: &World, heard: &[Seconds], to: usize, asked: Option<usize>) -> BTreeSet<String> {
    let mut said = BTreeSet::new();
    let things = world.things.iter();
    for (what, told_by) in things.filter(|(what, _)| asked.is_none_or(|host| is_at(what, host))) {
        let seen: Seconds = (0..END).map(|at| told_by.values().any(|seen| seen[at])).collect();
        let seen = &seen;
        let later = to.saturating_sub(WINDOW).max(FROM);
        let (old, new) = ((FROM - WINDOW, FROM), (later, to));
        let [before, after] = [old, new].map(|around| world.then(what, seen, around));
        let (old, new) = (was(&before, old.0, old.1), was(&after, new.0, new.1));
        // A caller from the internet is another one each time, and a container.
        let anew = what.contains("/box") || what.contains("public");
        let known_since = if anew { FROM - WINDOW } else { 0 };
        let first_ever = !after[known_since..=FROM].contains(&true);
        let whole = to - later >= WINDOW;
        // Who told of it around one moment, or shortly before, must have been
        // heard at the other.
        let told = |(since, until): (usize, usize), at: usize, which: &str| {
            let since = since - REPORTS_S;
            // Whose addresses are asked about says that they are its own.
            let whose = |teller| asked.is_none_or(|host| host == teller || heard[host][at]);
            let by = told_by.iter().any(|(host, seen)| {
                seen[since..=until].contains(&true) && heard[*host][at] && whose(*host)
            });
            if by { format!("{which} {what}") } else { "unheard".to_owned() }
        };
        let new_by = || told((later, to), FROM, "new");
        let gone_by = || told((FROM - WINDOW, FROM), to, "gone");
        let last = |until: usize| (0..=until).rev().find(|at| seen[*at]);
        let quiet = match last(to) {
            Some(at) if at >= later && is_there(&after, to) => 0,
            Some(at) if at >= later => to - at,
            _ => last(FROM).map_or(0, |at| to - at),
        };
        match (&old, &new) {
            (Was::Not, Was::Rarely) if first_ever && what.starts_with("edge") && !anew => {
                said.insert(new_by());
            }
            (Was::Not, Was::Regularly(_) | Was::Always(_)) if first_ever || whole => {
                said.insert(new_by());
            }
            (Was::Regularly(pause) | Was::Always(pause), _) if quiet > 2 * pause => {
                said.insert(gone_by());
            }
            (Was::Not, _) | (_, Was::Not) => {}
            _ => {
                let at = |moment: usize| -> BTreeSet<&String> {
                    let who = world.processes.get(what).into_iter().flatten();
                    who.filter(|(_, seen)| seen[moment]).map(|(name, _)| name).collect()
                };
                let (old, new) = (at(FROM), at(to));
                if !old.is_empty() && !new.is_empty() && old != new {
                    said.insert(format!("process {what}"));
                }
            }
        }
    }
    said.remove("unheard");
    said
}

fn found(outcome: &Outcome) -> BTreeSet<String> {
    let Finding::Diff(_, difference) = &outcome.finding else { panic!("another finding") };
    let entries = difference.entries.iter().map(|entry| {
        let change = match entry.change {
            Change::New => "new",
            Change::Gone => "gone",
            Change::Process { .. } => "process",
            Change::Fails | Change::Works => panic!("nothing fails here"),
        };
        let (answer, thing) = match (entry.after, entry.before) {
            (Some(thing), _) => (&outcome.answers[1], thing),
            (None, Some(thing)) => (&outcome.answers[0], thing),
            (None, None) => panic!("nothing differs"),
        };
        let host = |node: NodeId| match &answer.graph.nodes[node].identity {
            // Whose it is, everybody knows here, be it silent or not.
            Identity::Peer { address: peer, .. } => {
                let peer = peer.to_string();
                let whose = HOSTS.iter().find(|name| address(name) == peer);
                whose.map_or(peer, |name| (*name).to_owned())
            }
            identity => answer.graph.hosts[&identity.place().unwrap().host].name.clone(),
        };
        let what = match thing {
            Thing::Listener(node, listen) => format!("listener {}:{}", host(node), listen.port),
            Thing::Edge(id) => {
                let edge = &answer.graph.edges[id];
                let process = answer.graph.nodes[edge.active].identity.process();
                let active = match process {
                    Some(process) => format!("{}/{}", host(edge.active), process.name),
                    None if host(edge.active).starts_with('8') => "public".to_owned(),
                    None => format!("{}/cli", host(edge.active)),
                };
                format!("edge {active}>{}:{}", host(edge.passive), edge.port)
            }
        };
        format!("{change} {what}")
    });
    entries.collect()
}

/// Each host has its address for as long as it says so: while it is heard.
fn fleet(world: &World, heard: &[Seconds]) -> Records {
    let mut text = world.told.clone();
    for (name, heard) in HOSTS.iter().zip(heard) {
        writeln!(text, "host {name}").unwrap();
        let address = address(name);
        for (from, to) in ranges(heard) {
            writeln!(text, "{name} has {address} 127.0.0.1 {from}-{to}").unwrap();
        }
    }
    let mut records = records(&text);
    let at = |at: usize| second(i64::try_from(at).unwrap());
    for (name, heard) in HOSTS.iter().zip(heard) {
        let record = records.hosts.iter_mut().find(|record| record.key == host_key(name)).unwrap();
        record.watched = ranges(heard).map(|(from, to)| (at(from), at(to))).collect();
        record.first_seen = record.watched[0].0;
        record.last_seen = record.watched.last().unwrap().1;
    }
    records
}

/// The first and the last second of each time that something was so.
fn ranges(so: &Seconds) -> impl Iterator<Item = (usize, usize)> {
    let begins = |at: &usize| so[*at] && (*at == 0 || !so[at - 1]);
    let end = |at: usize| (at..END).take_while(|at| so[*at]).last().unwrap();
    (0..END).filter(begins).map(move |at| (at, end(at)))
}

fn address(name: &str) -> String {
    format!("10.0.0.{}", HOSTS.iter().position(|host| *host == name).unwrap() + 1)
}

#[test]
fn what_differs_is_what_the_model_says() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 1..=rounds(200) {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let to = FROM + 60 + dice.below(END - FROM - 100);
        let heard = hearing(&mut dice, to);
        let mut world = World::default();
        world.services(&mut dice, &heard);
        world.calls(&mut dice, &heard);
        // Not each host has a flow as long as it is heard.
        for (host, name) in HOSTS.iter().enumerate().filter(|_| dice.chance(2)) {
            let line = format!("{name} tcp 0.0.0.0:22 listens sshd/1");
            world.tell(&format!("listener {name}:22"), host, &line, &between(0, END), &heard);
        }
        let moment = |at: usize| second(i64::try_from(at).unwrap());
        let window = SignedDuration::from_secs(i64::try_from(WINDOW).unwrap());
        let moments = Moments { from: moment(FROM), to: moment(to), window, exit_code: true };
        let fleet = fleet(&world, &heard);
        // Whose an address is while its host is silent, others cannot say.
        let speaks = |host: &usize| heard.get(*host).is_some_and(|heard| !heard.contains(&false));
        let asked = Some(dice.below(6)).filter(speaks);
        let selector = asked.map_or(Selector::All, |host| Selector::Host(HOSTS[host].to_owned()));
        let outcome = outcome_at(&fleet, selector, About::Diff(moments), moment(to));
        let (found, expected) = (found(&outcome), expected(&world, &heard, to, asked));
        assert_eq!(found, expected, "seed {seed}, to {to}, {asked:?}:\n{}", world.told);
        for said in &expected {
            let kind = said.split(' ').take(2).collect::<Vec<_>>().join(" ");
            *counts.entry(kind).or_default() += 1;
        }
    }
    // Histories without differences would prove nothing.
    for kind in ["new edge", "gone edge", "new listener", "gone listener", "process listener"] {
        assert!(counts.get(kind).is_some_and(|count| *count > 20), "{counts:?}");
    }
}
