//! One command, carried out.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use tracing::info;

use crate::agent::{self, Plan};
use crate::cli::{Command, Invocation, LookOptions, Mode, ProbeOptions};
use crate::cmdb::Cmdb;
use crate::flow::report::Report;
use crate::probe::{Probe, ProbeConfig, record};

/// The licences of everything the binary holds; a test keeps it current.
const CREDITS: &str = include_str!("../CREDITS");

/// Carries out one command. Standard output is its answer, standard error what
/// it has to say about it.
pub fn run(invocation: Invocation) -> Result<()> {
    let level = if invocation.debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    match invocation.command {
        Command::Print(text) => print(&text),
        Command::Credits => print(CREDITS),
        Command::CreateScheme(url) => {
            let change = runtime.block_on(Cmdb::create_scheme(&url))?;
            print(&format!("{change}\n"))
        }
        Command::Probe(options) => runtime.block_on(probe(*options)),
        Command::Look(options) => runtime.block_on(look(*options)),
    }
}

/// What a probe that is not a daemon has to say at the end.
fn summary(report: &Report, cmdb: &CmdbUrl) {
    let flows = report.flows.len();
    let coverage = &report.coverage;
    info!("{flows} host flows of {} recorded in {cmdb} ({})", report.host.name, report.rung.name());
    for line in coverage.unseen() {
        info!("{line}");
    }
}

async fn probe(options: ProbeOptions) -> Result<()> {
    let plan = Plan {
        cmdb: options.cmdb,
        interval: options.interval,
        flush: options.flush,
        filter: options.filter,
    };
    if let Some(recording) = &options.replay {
        let report = agent::replay(recording, &plan).await?;
        summary(&report, &plan.cmdb);
        return Ok(());
    }
    anyhow::ensure!(
        options.mode == Mode::Polling,
        "this build cannot stream; use --mode polling"
    );
    let config = ProbeConfig {
        host_id: options.host_id,
        hostname: options.hostname,
        proc: PathBuf::from("/proc"),
    };
    let probe = Probe::netlink(&config)?;
    let recorder = options.record.as_deref().map(agent::open_recorder).transpose()?;
    if options.once {
        let report = agent::once(probe, recorder, &plan).await?;
        summary(&report, &plan.cmdb);
        return Ok(());
    }
    agent::run(probe, recorder, plan).await
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("write to standard output")
}
