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
    /// What is missing on the rung itself, and what that costs.
    pub costs: Vec<(Feature, &'static str)>,
}

/// What a rung cannot do without.
fn needs(rung: Rung) -> &'static [Feature] {
    match rung {
        Rung::Streaming => &[
            Feature::Btf,
            Feature::Bpf,
            Feature::FileIterator,
            Feature::SocketStorage,
            Feature::StateTracepoint,
            Feature::OwnProc,
        ],
        Rung::Iterator => &[Feature::Btf, Feature::Bpf, Feature::FileIterator, Feature::OwnProc],
        Rung::Netlink => &[Feature::SockDiag],
        Rung::Procfs => &[],
    }
}

/// What a rung is the poorer for, and by how much.
fn wants(rung: Rung) -> &'static [(Feature, &'static str)] {
    const PROGRAMS: (Feature, &str) =
        (Feature::Ptrace, "the programs of other users' processes are not known, only their names");
    const ADDRESSES: (Feature, &str) =
        (Feature::EnterNamespaces, "the addresses of other network namespaces are not known");
    match rung {
        Rung::Streaming => &[
            (
                Feature::LengthTracepoints,
                "short connections are credited to who listens, not to the worker that serves, \
                 and UDP is only polled",
            ),
            (Feature::PeerHooks, "who unconnected UDP sockets talk to is not known"),
            PROGRAMS,
            ADDRESSES,
        ],
        Rung::Iterator => &[PROGRAMS, ADDRESSES],
        Rung::Netlink | Rung::Procfs => &[
            (Feature::Ptrace, "the owners of other users' sockets are not found"),
            (Feature::ReadSearch, "the owners of other users' sockets are not found"),
            (Feature::EnterNamespaces, "the sockets of other network namespaces are not read"),
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
            let lacks = wants(rung).iter().copied().filter(|(feature, _)| support.lacks(*feature));
            return Ok(Choice { rung, better, costs: lacks.collect() });
        }
        better.push((rung, missing));
    }
    Err(better
        .iter()
        .map(|(rung, missing)| format!("{} {}", rung.name(), lacking(support, missing)))
        .collect::<Vec<_>>()
        .join("; "))
}

/// `needs A (why; remedy) and B (remedy)`.
fn lacking(support: &Support, missing: &[Feature]) -> String {
    let parts: Vec<String> = missing
        .iter()
        .map(|&feature| match support.why(feature) {
            Some(why) => format!("{} ({why}; {})", feature.name(), feature.remedy()),
            None => format!("{} ({})", feature.name(), feature.remedy()),
        })
        .collect();
    format!("needs {}", parts.join(" and "))
}

impl Choice {
    /// What is used and what would be better, in one line.
    pub fn line(&self, support: &Support) -> String {
        let mut line = format!("rung {}: {}", self.rung.name(), describe(self.rung));
        for (rung, missing) in &self.better {
            write!(line, "; {} {}", rung.name(), lacking(support, missing))
                .expect("a string takes all");
        }
        for (feature, cost) in &self.costs {
            write!(line, "; {cost}: {}", lacking(support, &[*feature]))
                .expect("a string takes all");
        }
        line
    }
}

/// What this host offers, rung by rung: a line each, and one below it for each
/// thing that is missing.
pub fn report(support: &Support) -> String {
    let mut text = String::new();
    for rung in Rung::ALL {
        let missing = missing(support, rung);
        let word = if missing.is_empty() { "works" } else { "does not work" };
        writeln!(text, "{:<10} {word:<14} {}", rung.name(), describe(rung))
            .expect("a string takes all");
        for feature in missing {
            writeln!(text, "{:11}{}", "", lacking(support, &[feature]))
                .expect("a string takes all");
        }
        for (feature, cost) in wants(rung).iter().filter(|(feature, _)| support.lacks(*feature)) {
            writeln!(text, "{:11}{cost}: {}", "", lacking(support, &[*feature]))
                .expect("a string takes all");
        }
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
            (Feature::FileIterator, (Netlink, Netlink)),
            (Feature::SocketStorage, (Iterator, Iterator)),
            (Feature::StateTracepoint, (Iterator, Iterator)),
            (Feature::LengthTracepoints, (Streaming, Iterator)),
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

    #[test]
    fn nothing_at_all_leaves_proc() {
        let support = Support { confined: true, features: BTreeMap::new() };
        assert_eq!(rung(&support, Mode::Auto), Some(Rung::Procfs));
        assert_eq!(rung(&support, Mode::Only(Rung::Netlink)), None);
        assert_eq!(rung(&support, Mode::Only(Rung::Procfs)), Some(Rung::Procfs));
    }

    #[test]
    fn a_mode_that_cannot_work_says_why_and_what_mends_it() {
        let mut support = without(Feature::Bpf);
        support.features.insert(Feature::Bpf, Err(Some("Operation not permitted".into())));
        assert_eq!(
            choose(&support, Mode::Streaming).expect_err("it needs bpf()"),
            "streaming needs the bpf() system call (Operation not permitted; \
             give the probe CAP_BPF and CAP_PERFMON)"
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
            "; streaming needs the tracepoint inet_sock_set_state (the kernel must have it)"
        ));
        let support = without(Feature::Ptrace);
        assert!(line(&support).contains("not known, only their names: needs CAP_SYS_PTRACE"));
    }

    #[test]
    fn the_report_has_a_line_for_each_rung_and_each_lack() {
        let text = report(&without(Feature::Btf));
        let rungs = text.lines().filter(|line| !line.starts_with(' ')).count();
        assert_eq!(rungs, Rung::ALL.len());
        assert_eq!(text.matches("CONFIG_DEBUG_INFO_BTF=y").count(), 2, "{text}");
        assert!(!report(&everything()).contains("needs"));
    }
}
