//! The words of the questions that have a name of their own. The command line
//! and the collector's queries are read by the same.
#![expect(missing_docs, reason = "a doc comment here is a line of the manual")]

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cli::args::{
    CmdbArguments, LabelsArguments, LookArguments, SelectorArguments, WindowArguments,
};

#[derive(Debug, Subcommand)]
pub enum InquiryWord {
    /// Print what listens where, by which process, and who calls it
    Listeners(ListenersArguments),
    /// Print what depends on it, over all steps, and whether it can be taken away
    Impact(ImpactArguments),
    /// Print who still connects to it, until nobody does
    Drain(DrainArguments),
    /// Print rules for a firewall that let through what was seen, or hold a
    /// ruleset against it
    Policy(PolicyArguments),
    /// Print which edges and listeners are new, gone or changed between two moments
    Diff(DiffArguments),
    /// Print what is called in vain: which address, since when, why, and by whom
    Failing(FailingArguments),
    /// Print peers without a probe, the one with the most edges first
    Unexplained(UnexplainedArguments),
}

/// What the command line and a query of HTTP are both asked by.
#[derive(Debug, Subcommand)]
pub enum QueryWord {
    /// Print what depends on a host, process or port, and what it depends on
    Look(LookArguments),
    #[command(flatten)]
    Inquiry(InquiryWord),
    /// Print the whole graph of a time, or what is one step from something
    Export(ExportArguments),
}

/// One of them alone, as a query of HTTP asks it.
#[derive(Debug, Parser)]
#[command(name = "query", disable_help_flag = true, disable_help_subcommand = true)]
pub struct Query {
    #[command(subcommand)]
    pub word: QueryWord,
}

/// What all of them have.
#[derive(Debug, Args)]
pub struct InquiryArguments {
    #[command(flatten)]
    pub of: SelectorArguments,
    #[command(flatten)]
    pub cmdb: CmdbArguments,
    #[command(flatten)]
    pub labels: LabelsArguments,
    /// Most lines
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    pub limit: String,
    /// Go on where a page ended: 'next' of its JSON, or what stands below it
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// table or json
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "table")]
    pub output: String,
}

#[derive(Debug, Args)]
pub struct ListenersArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    #[command(flatten)]
    pub window: WindowArguments,
}

#[derive(Debug, Args)]
pub struct ImpactArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    #[command(flatten)]
    pub window: WindowArguments,
    /// How many steps to walk [default: to the end]
    #[arg(long, value_name = "STEPS", default_value = "100", hide_default_value = true)]
    pub depth: String,
    /// Judge whether it can be taken away: exit 0 safe, 3 unsafe, 4 not enough evidence
    #[arg(long, action = ArgAction::SetTrue, conflicts_with_all = ["since", "until", "at"])]
    pub decommission: bool,
    /// For how long it has to have been watched and unused
    #[arg(long, value_name = "TIME", default_value = "168h", requires = "decommission",
        conflicts_with_all = ["since", "until", "at"])]
    pub watched: String,
    /// Polled hosts are evidence, too: nothing that matters connects for less
    /// than a scan's interval
    #[arg(long, action = ArgAction::SetTrue, requires = "decommission",
        conflicts_with_all = ["since", "until", "at"])]
    pub trust_polling: bool,
}

#[derive(Debug, Args)]
pub struct DrainArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    /// For how long nobody may have connected
    #[arg(long = "for", value_name = "TIME", default_value = "5m")]
    pub time: String,
    /// Who does not count, a health check say: an address, a network, a host, a
    /// process or a label; may stand there several times
    #[arg(long, value_name = "WHO")]
    pub except: Vec<String>,
    /// Ask again and again, until nobody connects
    #[arg(long, action = ArgAction::SetTrue)]
    pub watch: bool,
    /// Between two questions
    #[arg(long, value_name = "TIME", default_value = "5s", requires = "watch")]
    pub interval: String,
    /// Give up after so long
    #[arg(long, value_name = "TIME", requires = "watch")]
    pub timeout: Option<String>,
}

#[derive(Debug, Args)]
pub struct PolicyArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    #[command(flatten)]
    pub window: WindowArguments,
    /// nftables, iptables, ip6tables or k8s-networkpolicy
    #[arg(long, value_name = "LANGUAGE", default_value = "nftables")]
    pub format: String,
    /// What may be opened from elsewhere (in), from here (out), or both
    #[arg(long, value_name = "WAY", default_value = "in")]
    pub direction: String,
    /// Allow whole networks of this prefix, as in /24 for IPv4 or /24,/64 for both
    #[arg(long, value_name = "PREFIX")]
    pub aggregate: Option<String>,
    /// Refuse what has no rule, in place of counting it
    #[arg(long, action = ArgAction::SetTrue)]
    pub enforce: bool,
    /// A ruleset as 'nft -j list ruleset' prints it: name the rules that nothing
    /// needed, and what it would have refused; exit 3 if there is any
    #[arg(long, value_name = "FILE")]
    pub audit: Option<String>,
}

#[derive(Debug, Args)]
pub struct DiffArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    /// The earlier moment, before the change: 15m, or 2026-01-31T12:00:00Z
    #[arg(long, value_name = "MOMENT")]
    pub from: String,
    /// The later moment [default: now]
    #[arg(long, value_name = "MOMENT")]
    pub to: Option<String>,
    /// How much time before each moment stands for it
    #[arg(long, value_name = "DURATION", default_value = "1h")]
    pub window: String,
    /// Exit with 3 if anything differs, with 4 if that cannot be told
    #[arg(long, action = ArgAction::SetTrue)]
    pub exit_code: bool,
}

#[derive(Debug, Args)]
pub struct FailingArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    #[command(flatten)]
    pub window: WindowArguments,
    /// Exit with 3 if anything fails
    #[arg(long, action = ArgAction::SetTrue)]
    pub exit_code: bool,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    #[command(flatten)]
    pub of: SelectorArguments,
    #[command(flatten)]
    pub cmdb: CmdbArguments,
    #[command(flatten)]
    pub labels: LabelsArguments,
    #[command(flatten)]
    pub window: WindowArguments,
    /// Most edges
    #[arg(long, value_name = "NUMBER", default_value = "100000")]
    pub limit: String,
    /// Go on where a page ended: 'next' of its JSON
    #[arg(long, value_name = "PLACE")]
    pub after: Option<String>,
    /// json, csv, dot, mermaid, graphml or grafana
    #[arg(long, short = 'o', value_name = "FORMAT", default_value = "json")]
    pub output: String,
}

#[derive(Debug, Args)]
pub struct UnexplainedArguments {
    #[command(flatten)]
    pub shared: InquiryArguments,
    #[command(flatten)]
    pub window: WindowArguments,
}
