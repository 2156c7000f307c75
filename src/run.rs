//! One command, carried out.

use std::io::{self, IsTerminal, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use tracing::info;

use crate::agent::recorder::Recorder;
use crate::agent::{self, Plan};
use crate::ask;
use crate::cli::inquiry::InquiryOptions;
use crate::cli::{Command, EnrolOptions, Invocation, LookOptions, ProbeOptions};
use crate::cmdb::Cmdb;
use crate::cmdb::connect::Limits;
use crate::cmdb::token::Token;
use crate::cmdb::url::CmdbUrl;
use crate::daemon::log::Log;
use crate::flow::report::Report;
use crate::look;
use crate::probe::choose::Mode;
use crate::probe::support::Support;
use crate::probe::{Probe, ProbeConfig, choose, machine};
use crate::recall::{Selector, Window};
use crate::serve;
use crate::view::{self, Format, escape};

mod watch;

/// The licences of everything the binary holds; a test keeps it current.
const CREDITS: &str = include_str!("../CREDITS");

/// Carries out one command. Standard output is its answer, standard error what
/// it has to say about it. What it gives back is the exit code.
pub fn run(invocation: Invocation, log: &Log) -> Result<u8> {
    if matches!(invocation.command, Command::Probe(_) | Command::Serve(_)) {
        log.hand_over()?;
    }
    begin_to_log(invocation.debug, log.clone());
    // Only a collector has work for several threads.
    let mut builder = match invocation.command {
        Command::Serve(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build().context("start the runtime")?;
    let mut code = 0;
    let done = match invocation.command {
        Command::Print(text) => print(&text),
        Command::Credits => print(CREDITS),
        Command::Doctor(host_id) => doctor(host_id),
        Command::CreateScheme(url) => runtime.block_on(create_scheme(&url)),
        Command::Prune(url, before) => runtime.block_on(prune(&url, before)),
        Command::Enrol(options) => runtime.block_on(enrol(*options)),
        Command::Tokens(url, format) => runtime.block_on(tokens(&url, format)),
        Command::Revoke(url, what) => runtime.block_on(revoke(&url, &what)),
        Command::Probe(options) => runtime.block_on(probe(*options, log)),
        Command::Serve(options) => runtime.block_on(serve::run(*options, log)),
        Command::Look(options) => runtime.block_on(look(*options)),
        Command::Inquire(options) => runtime.block_on(inquire(*options)).map(|told| code = told),
    };
    // A look-up of a name that hangs in the C library is not waited for.
    runtime.shutdown_background();
    done.map(|()| code)
}

fn begin_to_log(debug: bool, log: Log) {
    let level = if debug { tracing::Level::DEBUG } else { tracing::Level::INFO };
    let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    // What could go wrong within would be written to standard error, and wait.
    lines.log_internal_errors(false).with_writer(move || log.clone()).init();
}

fn doctor(host_id: Option<String>) -> Result<()> {
    let config = config(host_id, None);
    let (support, _) = Support::read(&config, Mode::Auto.best())?;
    let who = match machine::read_host(&config) {
        Ok(host) => format!("it reports as the host with the id {}", escape::word(&host.id)),
        Err(error) => format!("it reports as nobody: {error:#}"),
    };
    print(&format!("{}{who}\n", choose::report(&support)))
}

async fn create_scheme(url: &CmdbUrl) -> Result<()> {
    let created = Cmdb::create_scheme(url, &Limits::STANDARD).await?;
    print(&format!("{created}\n"))
}

async fn prune(url: &CmdbUrl, before: Timestamp) -> Result<()> {
    let cmdb = Cmdb::open(url, &Limits::STANDARD).await?;
    let gone = cmdb.prune(before).await?;
    cmdb.close().await;
    print(&format!(
        "forgotten, of before {before}: {} flows, {} spans, {} hours, {} addresses, {} processes and runs, {} hosts, {} tokens\n",
        gone.flows, gone.spans, gone.hours, gone.addresses, gone.others, gone.hosts, gone.tokens
    ))
}

/// The token is all that goes to standard output, so that it can go to a file.
async fn enrol(options: EnrolOptions) -> Result<()> {
    let token = Token::new()?;
    let cmdb = Cmdb::open(&options.cmdb, &Limits::STANDARD).await?;
    let enrolled = cmdb.enrol(&token, options.enrolment).await?;
    cmdb.close().await;
    info!("{}", view::tokens::enrolled(&enrolled));
    print(&format!("{}\n", token.reveal()))
}

async fn tokens(url: &CmdbUrl, format: Format) -> Result<()> {
    url.path().map_or(Ok(()), can_be_read)?;
    let cmdb = Cmdb::open(url, &Limits::STANDARD).await?;
    let tokens = cmdb.tokens().await?;
    cmdb.close().await;
    let now = Timestamp::now();
    print(&match format {
        Format::Json => view::tokens::json(&tokens, now).context("write the answer")?,
        _ => view::tokens::table(&tokens, now),
    })
}

async fn revoke(url: &CmdbUrl, what: &str) -> Result<()> {
    url.path().map_or(Ok(()), can_be_read)?;
    let cmdb = Cmdb::open(url, &Limits::STANDARD).await?;
    let revoked = cmdb.revoke(what).await?;
    cmdb.close().await;
    let what = escape::word(what);
    anyhow::ensure!(
        revoked > 0,
        "no token has the id or name {what}, or it is revoked already: see 'shawk tokens'"
    );
    print(&format!("revoked {revoked} of {what}; collectors refuse it within seconds\n"))
}

/// What a probe that is not a daemon has to say at the end.
fn summary(report: &Report, cmdb: &CmdbUrl) {
    let flows = report.flows.len();
    let coverage = &report.coverage;
    info!("{flows} host flows of {} recorded in {cmdb} ({})", report.host.name, report.rung.name());
    if let Some(unseen) = coverage.unseen() {
        info!("not seen: {unseen}");
    }
}

fn config(host_id: Option<String>, hostname: Option<String>) -> ProbeConfig {
    ProbeConfig { host_id, hostname, proc: PathBuf::from("/proc") }
}

async fn probe(options: ProbeOptions, log: &Log) -> Result<()> {
    let plan = Plan {
        cmdb: options.cmdb,
        interval: options.interval,
        flush: options.flush,
        filter: options.filter,
        spool: options.spool,
        metrics: options.metrics,
        log: log.clone(),
    };
    if let Some(recording) = &options.replay {
        let report = agent::replay::replay(recording, &plan).await?;
        summary(&report, &plan.cmdb);
        return Ok(());
    }
    let config = config(options.host_id, options.hostname);
    let (support, loaded) = Support::read(&config, options.mode.best())?;
    let choice = choose::choose(&support, options.mode)
        .map_err(|why| anyhow::anyhow!("this host cannot be probed that way: {why}"))?;
    info!("{}", choice.line(&support));
    let probe = Probe::open(&config, choice.rung, loaded)?;
    let recorder = options.record.as_deref().map(Recorder::open).transpose()?;
    if options.once {
        let report = agent::once(probe, recorder, &plan).await?;
        summary(&report, &plan.cmdb);
        return Ok(());
    }
    agent::daemon::run(probe, recorder, plan).await
}

fn print(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("write to standard output")
}

/// Whoever looks makes no CMDB: an empty one would answer that nothing is known.
/// A reader writes to SQLite's log beside the file, too (sqlite.org/wal.html).
fn can_be_read(file: &Path) -> Result<()> {
    use rustix::fs::{Access, access};
    let name = file.display();
    anyhow::ensure!(
        file.exists(),
        "there is no CMDB at '{name}': run 'shawk probe' first, or name another with --cmdb \
         (root's is at /var/lib/shawk/cmdb.db)"
    );
    anyhow::ensure!(!file.is_dir(), "'{name}' is a directory; name a file with --cmdb");
    let directory = file.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let may = |path: &Path| access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    anyhow::ensure!(
        may(file) && may(directory),
        "'{name}' and its directory cannot be read and written by uid {}; use sudo, or name another with --cmdb",
        rustix::process::geteuid().as_raw()
    );
    Ok(())
}

async fn look(options: LookOptions) -> Result<()> {
    let asked = options.asked;
    let mut selectors = asked.selectors;
    let mut here = None;
    if selectors.is_empty() {
        let host = machine::read_host(&config(options.host_id, None))?;
        selectors.push(Selector::Host(host.id));
        here = Some(Selector::Host(host.name));
    }
    let question = look::question(selectors, asked.window, asked.depth, asked.ways, options.labels);
    let cmdb = read(&options.cmdb).await?;
    let mut answer = look::look(&cmdb, question, Timestamp::now()).await?;
    if let Some(here) = here.filter(|_| answer.walk.steps.is_empty() && answer.otherwise.is_none())
        && cmdb.find(&here, &Window::default()).await?.hosts.is_empty()
    {
        // People know their machine by its name, and not by what it reports as.
        answer.question.selectors = vec![here];
    }
    cmdb.close().await;
    if let Some(page) = asked.page {
        answer.turn(&page);
        // Where people read it, they stand below.
        let beside = !matches!(options.format, Format::Tree | Format::Table);
        for remark in view::remarks(&answer).iter().filter(|_| beside) {
            info!("{remark}");
        }
    }
    let (mut stdout, colour) = stdout();
    view::write(&answer, options.format, colour, &mut stdout).context("write the answer")
}

/// An inquiry answered; the exit code is what scripts ask for.
async fn inquire(options: InquiryOptions) -> Result<u8> {
    let cmdb = read(&options.cmdb).await?;
    if let Some(repeat) = options.watch {
        return watch::watch(options, repeat, &cmdb).await;
    }
    let outcome = ask::ask(&cmdb, options.inquiry, &options.labels, Timestamp::now()).await?;
    cmdb.close().await;
    let (mut stdout, colour) = stdout();
    view::finding::write(&outcome, options.format, colour, &mut stdout)
        .context("write the answer")?;
    Ok(outcome.exit_code())
}

/// A CMDB that is asked and not written to.
async fn read(url: &CmdbUrl) -> Result<Cmdb> {
    url.path().map_or(Ok(()), can_be_read)?;
    Cmdb::open(url, &Limits::STANDARD).await
}

/// Standard output, and whether it takes colour.
fn stdout() -> (StdoutLock<'static>, bool) {
    let stdout = io::stdout();
    // https://no-color.org: set and not empty.
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = stdout.is_terminal() && !no_colour;
    (stdout.lock(), colour)
}
