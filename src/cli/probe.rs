//! What `shawk probe` was asked.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::agent::spool::SpoolPlan;
use crate::cli::args::ProbeArguments;
use crate::cli::settings::Settings;
use crate::cli::{ProbeOptions, cmdb, duration, pick, state_directory, text};
use crate::flow::filter::Filter;
use crate::flow::host::Rung;
use crate::probe::choose::Mode;

/// Longest interval: a day. Longer is a mistake in the unit.
const MAX_INTERVAL: Duration = Duration::from_secs(86_400);

/// Shortest interval between scans.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How large the spool may become, unless told otherwise, and at least: less
/// would not hold one segment beside its successor.
const SPOOL_LIMIT: u64 = 64 << 20;
const MIN_SPOOL_LIMIT: u64 = 1 << 20;

pub(crate) fn probe(words: ProbeArguments, settings: &Settings) -> Result<ProbeOptions, String> {
    let mode = |text: &str| {
        match text {
        "auto" => Ok(Mode::Auto),
        "polling" => Ok(Mode::Polling),
        "streaming" => Ok(Mode::Streaming),
        _ => Rung::ALL.into_iter().find(|rung| rung.name() == text).map(Mode::Only).ok_or_else(
            || {
                format!(
                    "'{text}' is not a mode; write polling, streaming, auto, iterator, netlink or procfs"
                )
            },
        ),
    }
    };
    let filter = |text: &str| match text {
        "all" => Ok(Filter::All),
        "public" => Ok(Filter::Public),
        "private" => Ok(Filter::Private),
        _ => Err(format!("'{text}' is not a filter; write all, public or private")),
    };
    let period = |text: &str| {
        let period = duration::parse(text)?;
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&period) {
            return Err(format!("'{text}' is out of range; choose from 10ms to 24h"));
        }
        Ok(period)
    };
    let flush_names = ["SHAWK_FLUSH_INTERVAL", "SHAWK_PROBE_FLUSH_INTERVAL"];
    let interval = pick(words.interval, "--interval", settings, &["SHAWK_PROBE_INTERVAL"], period)?;
    let flush = pick(words.flush_interval, "--flush-interval", settings, &flush_names, period)?;
    let interval = interval.unwrap_or(Duration::from_secs(1));
    let flush = flush.unwrap_or(Duration::from_secs(30));
    if interval > flush {
        return Err(format!(
            "the probe's interval {interval:?} is longer than the flush interval {flush:?}; \
             make --interval shorter or --flush-interval longer"
        ));
    }
    Ok(ProbeOptions {
        cmdb: cmdb(words.cmdb.cmdb, settings)?,
        mode: pick(words.mode, "--mode", settings, &["SHAWK_PROBE_MODE"], mode)?
            .unwrap_or(Mode::Polling),
        interval,
        flush,
        once: words.once,
        filter: pick(words.filter, "--filter", settings, &["SHAWK_PROBE_FILTER"], filter)?
            .unwrap_or(Filter::All),
        host_id: pick(words.host_id, "--host-id", settings, &["SHAWK_HOST_ID"], text)?,
        hostname: pick(words.hostname, "--hostname", settings, &["SHAWK_HOSTNAME"], text)?,
        record: words.record.map(PathBuf::from),
        replay: words.replay.map(PathBuf::from),
        spool: spool(words.spool, words.spool_limit, settings)?,
        metrics: pick(words.metrics, "--metrics", settings, &["SHAWK_METRICS"], listener)?,
    })
}

/// Beside the embedded CMDB, also where the CMDB is elsewhere.
fn spool(
    path: Option<String>,
    limit: Option<String>,
    settings: &Settings,
) -> Result<Option<SpoolPlan>, String> {
    let limit = pick(limit, "--spool-limit", settings, &["SHAWK_SPOOL_LIMIT"], bytes)?;
    let limit = limit.unwrap_or(SPOOL_LIMIT);
    let path = match pick(path, "--spool", settings, &["SHAWK_SPOOL"], text)?.as_deref() {
        Some("none") => return Ok(None),
        Some(path) => Some(PathBuf::from(path)),
        None => state_directory().map(|state| state.join("spool")),
    };
    Ok(path.map(|path| SpoolPlan { path, limit }))
}

/// A size: a number with KiB, MiB or GiB.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a size; write it like 64MiB");
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30)];
    let unit = units.into_iter().find_map(|(unit, bits)| Some((text.strip_suffix(unit)?, bits)));
    let (number, bits) = unit.ok_or_else(wrong)?;
    let number: u64 = number.trim().parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << bits).ok_or_else(wrong)?;
    if bytes < MIN_SPOOL_LIMIT {
        return Err(format!("'{text}' is too small; choose 1MiB or more"));
    }
    Ok(bytes)
}

/// An address with a port, or a port, which is one of this machine's own.
fn listener(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text).parse();
    let alone = port.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    alone.or_else(|_| text.parse()).map_err(|_| {
        format!("'{text}' is not an address to listen at; write 127.0.0.1:9469 or 9469")
    })
}
