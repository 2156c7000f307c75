//! The words of the questions that have a name of their own. The command line
//! and the collector's queries are read by the same.
#![expect(missing_docs, reason = "a doc comment here is a line of the manual")]

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::cli::args::{CmdbArguments, LabelsArguments, SelectorArguments, WindowArguments};

#[derive(Debug, Subcommand)]
pub enum InquiryWord {
    /// Print what listens where, by which process, and who calls it
    Listeners(ListenersArguments),
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
    /// Lines to pass over
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub offset: String,
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
