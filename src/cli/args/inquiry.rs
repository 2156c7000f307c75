//! The words of the questions that have a name of their own. The command line
//! and the collector's queries are read by the same.
#![expect(missing_docs, reason = "a doc comment here is a line of the manual")]

use clap::{Args, Parser, Subcommand};

use crate::cli::args::{CmdbArguments, LabelsArguments, SelectorArguments, WindowArguments};

#[derive(Debug, Subcommand)]
pub enum InquiryWord {
    /// Print what listens where, by which process, and who calls it
    Listeners(ListenersArguments),
}

/// An inquiry alone, as a query of HTTP asks it.
#[derive(Debug, Parser)]
#[command(name = "query", disable_help_flag = true, disable_help_subcommand = true)]
pub struct Query {
    #[command(subcommand)]
    pub word: InquiryWord,
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
