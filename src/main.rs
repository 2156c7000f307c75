//! Arguments → one command → exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use jiff::Timestamp;

use shawk::cli;

fn main() -> ExitCode {
    // A bug is still one line, and ends the process whatever thread it is on: a
    // probe whose scans have died must be restarted, not kept.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), |at| format!(" ({at})"));
        let message = panic.payload_as_str().unwrap_or("no message");
        complain(&format!("internal error: {message}{place}; please report it"));
        std::process::exit(1);
    }));
    let invocation =
        match cli::parse(std::env::args_os().skip(1), std::env::vars_os(), Timestamp::now()) {
            Ok(invocation) => invocation,
            Err(refusal) => {
                complain(&refusal);
                return ExitCode::from(2);
            }
        };
    for warning in &invocation.warnings {
        complain(&format!("warning: {warning}"));
    }
    match shawk::run::run(invocation) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::from(1)
        }
    }
}

/// Whoever read our output has read enough, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().map(io::Error::kind)
    };
    error.chain().any(|cause| kind(cause) == Some(io::ErrorKind::BrokenPipe))
}

/// One line on standard error, safe for a terminal whatever it quotes.
fn complain(line: &str) {
    let line = shawk::view::escape::terminal(line);
    // Nobody is left to be told that standard error is closed.
    writeln!(io::stderr(), "shawk: {line}").ok();
}
