//! An inquiry asked again and again, until it is answered as hoped for.

use std::io::Write;

use anyhow::{Context, Result};
use jiff::Timestamp;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::ask;
use crate::cli::inquiry::{InquiryOptions, Repeat};
use crate::cmdb::Cmdb;
use crate::daemon::Signals;
use crate::study::Outcome;
use crate::view::{self, Format};

/// What ended a wait.
enum Woken {
    Due,
    Late,
    Told,
}

/// Asks until the answer's exit code is 0, the time is over or a signal comes;
/// prints each answer that says something new. The exit code is the last
/// answer's.
pub(crate) async fn watch(options: InquiryOptions, repeat: Repeat, cmdb: &Cmdb) -> Result<u8> {
    let mut signals = Signals::watch()?;
    let end = repeat.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let (mut code, mut away) = (None, false);
    let mut said = String::new();
    loop {
        let inquiry = options.inquiry.clone();
        let asked = ask::ask(cmdb, inquiry, &options.labels, Timestamp::now());
        let answered = tokio::select! {
            answered = asked => Some(answered),
            () = signals.stop() => None,
        };
        match (answered, code) {
            (None, code) => return Ok(code.unwrap_or(4)),
            (Some(Ok(outcome)), _) => {
                if std::mem::take(&mut away) {
                    info!("the CMDB answers again");
                }
                code = Some(outcome.exit_code());
                print(&outcome, options.format, &mut said)?;
            }
            // A CMDB that was there comes back: the question stays.
            (Some(Err(error)), Some(_)) => {
                if !std::mem::replace(&mut away, true) {
                    warn!("{error:#}; it is asked again every {:?}", repeat.interval);
                }
            }
            (Some(Err(error)), None) => return Err(error),
        }
        if code == Some(0) {
            return Ok(0);
        }
        let woken = tokio::select! {
            () = sleep(repeat.interval) => Woken::Due,
            () = until(end) => Woken::Late,
            () = signals.stop() => Woken::Told,
        };
        match woken {
            Woken::Due => {}
            Woken::Late | Woken::Told => return Ok(code.unwrap_or(4)),
        }
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Prints an answer, if it says another thing than the one before.
fn print(outcome: &Outcome, format: Format, said: &mut String) -> Result<()> {
    let news = view::finding::news(outcome);
    if *said == news.what {
        return Ok(());
    }
    *said = news.what;
    let mut stdout = std::io::stdout().lock();
    let printed = match format {
        Format::Json => view::finding::write(outcome, format, false, &mut stdout),
        _ => writeln!(stdout, "{}", news.line),
    };
    printed.and_then(|()| stdout.flush()).context("write the answer")
}
