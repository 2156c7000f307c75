//! Arguments → one command → exit code.

use std::io;
use std::process::ExitCode;

use jiff::Timestamp;

use shawk::cli;
use shawk::daemon::log::Log;

fn main() -> ExitCode {
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    names::stay_inside();
    // A bug is still one line, and ends the process whatever thread it is on: a
    // probe whose scans have died must be restarted, not kept.
    let log = Log::default();
    let last = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map_or(String::new(), |at| format!(" ({at})"));
        let message = panic.payload_as_str().unwrap_or("no message");
        complain(&last, &format!("internal error: {message}{place}; please report it"));
        last.finish();
        std::process::exit(1);
    }));
    let invocation =
        match cli::parse(std::env::args_os().skip(1), std::env::vars_os(), Timestamp::now()) {
            Ok(invocation) => invocation,
            Err(refusal) => {
                complain(&log, &refusal);
                return ExitCode::from(2);
            }
        };
    for warning in &invocation.warnings {
        complain(&log, &format!("warning: {warning}"));
    }
    let code = match shawk::run::run(invocation, &log) {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&log, &format!("{error:#}"));
            ExitCode::from(1)
        }
    };
    log.finish();
    code
}

/// Whoever read our output has read enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// One line on standard error, safe for a terminal whatever it quotes.
fn complain(log: &Log, line: &str) {
    let line = shawk::view::escape::terminal(line);
    log.say(format!("shawk: {line}\n").as_bytes());
}

/// Names of hosts and users in a static binary.
///
/// glibc asks the modules that nsswitch.conf(5) names, and would load those of
/// whatever glibc the host has into this one, which crashes. Files and DNS are
/// built in, and enough.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
mod names {
    use std::ffi::{CStr, c_char, c_int};

    const SOURCES: [(&CStr, &CStr); 2] = [(c"hosts", c"files dns"), (c"passwd", c"files")];

    #[expect(unsafe_code, reason = "glibc's own way to leave the modules out")]
    pub(super) fn stay_inside() {
        unsafe extern "C" {
            fn __nss_configure_lookup(database: *const c_char, sources: *const c_char) -> c_int;
        }
        for (database, sources) in SOURCES {
            // SAFETY: both are strings that end with NUL and live for ever, and
            // no other thread has been started (glibc's nss.h).
            let failed = unsafe { __nss_configure_lookup(database.as_ptr(), sources.as_ptr()) };
            debug_assert_eq!(failed, 0, "glibc knows these databases");
        }
    }
}
