//! Which rung of the ladder a probe stands on, from what the host offers.
//!
//! Pure: facts and a wish in, a decision or a refusal out. How the facts are
//! found stands in `support`.

use std::fmt::Write;

use crate::flow::host::Rung;
use crate::probe::support::{Feature, Support};

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The best that works.
    Auto,
    /// Streaming or nothing.
    Streaming,
    /// The best rung that reads at an interval.
    Polling,
    /// This rung or nothing.
    Only(Rung),
}

impl Mode {
    /// The best rung that it allows.
    pub const fn best(self) -> Rung {
        match self {
            Mode::Auto | Mode::Streaming => Rung::Streaming,
            Mode::Polling => Rung::Iterator,
            Mode::Only(rung) => rung,
        }
    }
}

/// What was decided, and what is not as good as it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The rung.
    pub rung: Rung,
    /// Better rungs that were allowed, best first, with what each lacks.
    pub better: Vec<(Rung, Vec<Feature>)>,
    /// What that costs which is missing on the rung itself.
    pub costs: Vec<Cost>,
}

/// What cannot be known, and what is missing for it.
pub type Cost = (&'static str, Vec<Feature>);

/// What a rung cannot do without.
fn needs(rung: Rung) -> &'static [Feature] {
    match rung {
        Rung::Streaming => &[
            Feature::MayLoad,
            Feature::MayTrace,
            Feature::Btf,
            Feature::Bpf,
            Feature::KernelReads,
            Feature::FileIterator,
            Feature::StateTracepoint,
            Feature::StreamingPrograms,
            Feature::OwnProc,
        ],
        Rung::Iterator => &[
            Feature::MayLoad,
            Feature::MayTrace,
            Feature::Btf,
            Feature::Bpf,
            Feature::KernelReads,
            Feature::FileIterator,
            Feature::IteratorPrograms,
            Feature::OwnProc,
        ],
        Rung::Netlink => &[Feature::SockDiag],
        Rung::Procfs => &[],
    }
}

/// What a rung is the poorer for without some features.
type Want = (&'static str, &'static [Feature]);

fn wants(rung: Rung) -> &'static [Want] {
    const PROGRAMS: Want = (
        "the programs of other users' processes are not known, only their names",
        &[Feature::Ptrace],
    );
    const ADDRESSES: Want =
        ("the addresses of other network namespaces are not known", &[Feature::EnterNamespaces]);
    match rung {
        Rung::Streaming => &[
            (
                "short connections are credited to who listens, not to the worker that serves, \
                 and UDP is only polled",
                &[Feature::LengthTracepoints],
            ),
            (
                "who unconnected UDP sockets talk to is not known",
                &[
                    Feature::LengthTracepoints,
                    Feature::MayAttach,
                    Feature::Cgroup2,
                    Feature::PeerHooks,
                ],
            ),
            PROGRAMS,
            ADDRESSES,
        ],
        Rung::Iterator => &[PROGRAMS, ADDRESSES],
        Rung::Netlink | Rung::Procfs => &[
            (
                "the owners of other users' sockets are not found",
                &[Feature::Ptrace, Feature::ReadSearch],
            ),
            ("the sockets of other network namespaces are not read", &[Feature::EnterNamespaces]),
        ],
    }
}

/// What keeps a probe from a rung. What could not be asked for, since another
/// thing is missing, is left out beside that.
fn missing(support: &Support, rung: Rung) -> Vec<Feature> {
    let missing = || needs(rung).iter().copied().filter(|&feature| !support.has(feature));
    let known: Vec<_> = missing().filter(|&feature| support.lacks(feature)).collect();
    if known.is_empty() { missing().collect() } else { known }
}

/// What a rung is the poorer for here, and the features that are missing.
fn costs(support: &Support, rung: Rung) -> Vec<Cost> {
    let wants = wants(rung).iter().map(|(cost, features)| {
        let missing = features.iter().copied().filter(|&feature| support.lacks(feature));
        (*cost, missing.collect::<Vec<_>>())
    });
    wants.filter(|(_, missing)| !missing.is_empty()).collect()
}

/// The best rung that `mode` allows and that has all it needs; else the reason
/// and what would mend it, in one line.
pub fn choose(support: &Support, mode: Mode) -> Result<Choice, String> {
    let allowed = Rung::ALL.into_iter().filter(|&rung| match mode {
        Mode::Auto => true,
        Mode::Streaming => rung == Rung::Streaming,
        Mode::Polling => rung != Rung::Streaming,
        Mode::Only(only) => rung == only,
    });
    let mut better = Vec::new();
    for rung in allowed {
        let missing = missing(support, rung);
        if missing.is_empty() {
            return Ok(Choice { rung, better, costs: costs(support, rung) });
        }
        better.push((rung, missing));
    }
    Err(better
        .iter()
        .map(|(rung, missing)| format!("{} {}", rung.name(), lacking(support, missing)))
        .collect::<Vec<_>>()
        .join("; "))
}

/// `needs A and B (why; give them to the probe) and C (why; remedy)`.
fn lacking(support: &Support, missing: &[Feature]) -> String {
    let (rights, others): (Vec<Feature>, Vec<Feature>) =
        missing.iter().partition(|feature| feature.capability().is_some());
    let mut parts = Vec::new();
    if !rights.is_empty() {
        let names: Vec<_> = rights.iter().map(|feature| feature.name()).collect();
        let mut notes: Vec<&str> = rights.iter().filter_map(|&f| support.why(f)).collect();
        notes.dedup();
        notes.push(if names.len() == 1 {
            "give it to the probe"
        } else {
            "give them to the probe"
        });
        parts.push(format!("{} ({})", listed(&names), notes.join("; ")));
    }
    parts.extend(others.iter().map(|&feature| match support.why(feature) {
        Some(why) => format!("{} ({why}; {})", feature.name(), feature.remedy()),
        None => format!("{} ({})", feature.name(), feature.remedy()),
    }));
    format!("needs {}", parts.join(" and "))
}

/// `A, B and C`.
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

impl Choice {
    /// What is used and what would be better, in one line.
    pub fn line(&self, support: &Support) -> String {
        let mut line = format!("rung {}: {}", self.rung.name(), describe(self.rung));
        for (rung, missing) in &self.better {
            write!(line, "; {} {}", rung.name(), lacking(support, missing))
                .expect("a string takes all");
        }
        for (cost, missing) in &self.costs {
            write!(line, "; {cost}: {}", lacking(support, missing)).expect("a string takes all");
        }
        line
    }
}

/// What this host offers, rung by rung: a line each, and one below it for what
/// is missing; then what that costs which would work with more, and the rights
/// that would lift it.
pub fn report(support: &Support) -> String {
    let mut text = String::new();
    let mut poorer: Vec<(Vec<Feature>, &str, Vec<&str>)> = Vec::new();
    for rung in Rung::ALL {
        let missing = missing(support, rung);
        let word = if missing.is_empty() { "works" } else { "does not work" };
        writeln!(text, "{:<10} {word:<14} {}", rung.name(), describe(rung))
            .expect("a string takes all");
        if !missing.is_empty() {
            writeln!(text, "{:11}{}", "", lacking(support, &missing)).expect("a string takes all");
            continue;
        }
        for (cost, missing) in costs(support, rung) {
            match poorer.iter_mut().find(|(_, known, _)| *known == cost) {
                Some((_, _, rungs)) => rungs.push(rung.name()),
                None => poorer.push((missing, cost, vec![rung.name()])),
            }
        }
    }
    for (missing, cost, rungs) in poorer {
        let rungs = listed(&rungs);
        writeln!(text, "{rungs}: {cost}: {}", lacking(support, &missing))
            .expect("a string takes all");
    }
    let is_right = |feature: &Feature| feature.capability().is_some();
    if Feature::ALL.iter().any(|feature| is_right(feature) && support.lacks(*feature)) {
        // All of them, for setcap takes away what it is not told.
        let rights: Vec<String> =
            Feature::ALL.iter().filter(|f| is_right(f)).map(|f| f.name().to_lowercase()).collect();
        writeln!(
            text,
            "all rights: run it as root, or setcap {}=ep $(command -v shawk)",
            rights.join(",")
        )
        .expect("a string takes all");
    }
    if support.confined {
        text.push_str(
            "this is a pid namespace of its own: only its processes are seen, on every rung\n",
        );
    }
    text
}

fn describe(rung: Rung) -> &'static str {
    match rung {
        Rung::Streaming => "the kernel tells of every connection, however short",
        Rung::Iterator => "one pass of the kernel over all sockets and their owners",
        Rung::Netlink => "a socket dump of each namespace, and owners from /proc",
        Rung::Procfs => "the text of /proc/net, and owners from /proc",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;

    use super::*;

    fn everything() -> Support {
        Support { confined: false, features: Feature::ALL.map(|f| (f, Ok(()))).into() }
    }

    fn without(feature: Feature) -> Support {
        let mut support = everything();
        support.features.insert(feature, Err(None));
        support
    }

    fn rung(support: &Support, mode: Mode) -> Option<Rung> {
        choose(support, mode).ok().map(|choice| choice.rung)
    }

    #[test]
    fn taking_one_thing_away_takes_the_rungs_that_need_it() {
        use Rung::{Iterator, Netlink, Streaming};
        let table = BTreeMap::from([
            (Feature::Btf, (Netlink, Netlink)),
            (Feature::Bpf, (Netlink, Netlink)),
            (Feature::MayLoad, (Netlink, Netlink)),
            (Feature::MayTrace, (Netlink, Netlink)),
            (Feature::KernelReads, (Netlink, Netlink)),
            (Feature::FileIterator, (Netlink, Netlink)),
            (Feature::IteratorPrograms, (Streaming, Netlink)),
            (Feature::StateTracepoint, (Iterator, Iterator)),
            (Feature::StreamingPrograms, (Iterator, Iterator)),
            (Feature::LengthTracepoints, (Streaming, Iterator)),
            (Feature::Cgroup2, (Streaming, Iterator)),
            (Feature::MayAttach, (Streaming, Iterator)),
            (Feature::PeerHooks, (Streaming, Iterator)),
            (Feature::OwnProc, (Netlink, Netlink)),
            (Feature::SockDiag, (Streaming, Iterator)),
            (Feature::Ptrace, (Streaming, Iterator)),
            (Feature::ReadSearch, (Streaming, Iterator)),
            (Feature::EnterNamespaces, (Streaming, Iterator)),
        ]);
        assert_eq!(table.len(), Feature::ALL.len());
        for (feature, (auto, polling)) in table {
            let support = without(feature);
            assert_eq!(rung(&support, Mode::Auto), Some(auto), "auto without {feature:?}");
            assert_eq!(rung(&support, Mode::Polling), Some(polling), "polling without {feature:?}");
            let streams = (auto == Streaming).then_some(Streaming);
            assert_eq!(rung(&support, Mode::Streaming), streams, "streaming without {feature:?}");
        }
    }

    /// Whoever reads the report learns what is missing and what lifts it, once
    /// for each rung or cost, whichever it is.
    #[test]
    fn taking_one_thing_away_names_it_and_its_remedy() {
        assert_eq!(report(&everything()).lines().count(), Rung::ALL.len());
        for feature in Feature::ALL {
            let text = report(&without(feature));
            let named: Vec<_> = text.lines().filter(|line| line.contains("needs ")).collect();
            assert!(!named.is_empty(), "{feature:?} is missed by nobody");
            for line in named {
                assert!(line.contains(feature.name()), "{feature:?}: {line}");
                assert!(line.contains(feature.remedy()), "{feature:?}: {line}");
            }
            let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with(' ')).collect();
            lines.sort_unstable();
            lines.dedup();
            let unindented = text.lines().filter(|line| !line.starts_with(' ')).count();
            assert_eq!(lines.len(), unindented, "{text}");
            assert_eq!(text.contains("setcap cap_"), feature.capability().is_some(), "{text}");
        }
    }

    #[test]
    fn nothing_at_all_leaves_proc() {
        let support = Support { confined: true, features: BTreeMap::new() };
        assert_eq!(rung(&support, Mode::Auto), Some(Rung::Procfs));
        assert_eq!(rung(&support, Mode::Only(Rung::Netlink)), None);
        assert_eq!(rung(&support, Mode::Only(Rung::Procfs)), Some(Rung::Procfs));
    }

    /// As `Support::read` leaves it for somebody without rights: programs could
    /// not be tried, and are not blamed.
    #[test]
    fn without_rights_it_is_the_rights_that_are_named() {
        let mut support = everything();
        for feature in Feature::ALL {
            if feature.capability().is_some() {
                support.features.insert(feature, Err(None));
            }
        }
        let sysctl = "kernel.unprivileged_bpf_disabled is 2";
        support.features.insert(Feature::MayLoad, Err(Some(sysctl.into())));
        for untried in [
            Feature::Bpf,
            Feature::IteratorPrograms,
            Feature::StreamingPrograms,
            Feature::PeerHooks,
            Feature::Cgroup2,
        ] {
            support.features.remove(&untried);
        }
        expect![[r"
            streaming  does not work  the kernel tells of every connection, however short
                       needs CAP_BPF and CAP_PERFMON (kernel.unprivileged_bpf_disabled is 2; give them to the probe)
            iterator   does not work  one pass of the kernel over all sockets and their owners
                       needs CAP_BPF and CAP_PERFMON (kernel.unprivileged_bpf_disabled is 2; give them to the probe)
            netlink    works          a socket dump of each namespace, and owners from /proc
            procfs     works          the text of /proc/net, and owners from /proc
            netlink and procfs: the owners of other users' sockets are not found: needs CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH (give them to the probe)
            netlink and procfs: the sockets of other network namespaces are not read: needs CAP_SYS_ADMIN (give it to the probe)
            all rights: run it as root, or setcap cap_bpf,cap_perfmon,cap_net_admin,cap_sys_ptrace,cap_dac_read_search,cap_sys_admin=ep $(command -v shawk)
        "]]
        .assert_eq(&report(&support));
        support.features.insert(Feature::StateTracepoint, Err(None));
        let refusal = choose(&support, Mode::Streaming).expect_err("it needs rights");
        assert!(refusal.contains("CAP_BPF and CAP_PERFMON"), "{refusal}");
        assert!(refusal.contains("the tracepoint inet_sock_set_state"), "{refusal}");
    }

    #[test]
    fn a_mode_that_cannot_work_says_why_and_what_mends_it() {
        let mut support = everything();
        let why = "the kernel is locked down";
        support.features.insert(Feature::KernelReads, Err(Some(why.into())));
        assert_eq!(
            choose(&support, Mode::Streaming).expect_err("it reads the kernel"),
            "streaming needs BPF programs that may read the kernel's memory (the kernel is locked \
             down; boot without lockdown=confidentiality)"
        );
    }

    #[test]
    fn falling_back_is_said_in_one_line() {
        let line = |support: &Support| {
            choose(support, Mode::Auto).expect("there is always /proc").line(support)
        };
        let best = "rung streaming: the kernel tells of every connection, however short";
        assert_eq!(line(&everything()), best);
        assert!(line(&without(Feature::StateTracepoint)).contains(
            "; streaming needs the tracepoint inet_sock_set_state (a kernel 4.16 or newer has it)"
        ));
        let support = without(Feature::Ptrace);
        assert!(line(&support).contains("not known, only their names: needs CAP_SYS_PTRACE"));
    }
}
