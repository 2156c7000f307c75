//! What `shawk enrol`, `shawk tokens` and `shawk revoke` were asked.

use std::time::Duration;

use crate::cli::args::{EnrolArguments, RevokeArguments, TokensArguments};
use crate::cli::inquiry::pause;
use crate::cli::settings::Settings;
use crate::cli::{Command, EnrolOptions, duration, stored, text};
use crate::cmdb::enrol::Enrolment;
use crate::cmdb::token::is_id;
use crate::recall::Role;
use crate::view::Format;

/// How much longer old tokens are good after a rotation.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Longest name, in bytes: it stands in a table.
const MAX_NAME: usize = 255;

pub(crate) fn enrol(words: EnrolArguments, settings: &Settings) -> Result<EnrolOptions, String> {
    let name = text(&words.name).map_err(|error| format!("the name {error}"))?;
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(format!(
            "the name has more than {MAX_NAME} bytes, or characters that do not show"
        ));
    }
    if is_id(&name) {
        return Err(format!("'{name}' looks like the id of a token; take another name"));
    }
    // clap overlooks that where --rotate could not stand.
    if let (Some(grace), false) = (&words.grace, words.rotate) {
        return Err(format!("--grace {grace} is for --rotate: no older token ends without it"));
    }
    let lifetime = words.expires.map(|text| pause("--expires", &text)).transpose()?;
    let role = if words.rotate { None } else { Some(role(words.role, words.host_id)?) };
    let grace = words.grace.map(|text| duration::parse(&text)).transpose();
    let grace = grace.map_err(|error| format!("--grace: {error}"))?.unwrap_or(GRACE);
    let grace = words.rotate.then_some(grace);
    Ok(EnrolOptions {
        cmdb: stored(words.cmdb.cmdb, settings)?,
        enrolment: Enrolment { name, role, lifetime, grace },
    })
}

fn role(word: Option<String>, host: Option<String>) -> Result<(Role, Option<String>), String> {
    let role = match word {
        None => Role::Write,
        Some(word) => Role::of(&word)
            .ok_or(format!("--role: '{word}' is no role; choose write, read or admin"))?,
    };
    match (role, host) {
        (Role::Write, None) => Err("a token to write is for one host: give its id with --host-id \
             ('shawk doctor' on that host says it), or take --role read"
            .to_owned()),
        (Role::Write, Some(id)) => {
            let id = text(&id).map_err(|error| format!("--host-id: {error}"))?;
            Ok((role, Some(id)))
        }
        (_, Some(_)) => {
            Err(format!("--host-id: a token to {} is for no host; leave it out", role.name()))
        }
        (_, None) => Ok((role, None)),
    }
}

pub(crate) fn tokens(words: TokensArguments, settings: &Settings) -> Result<Command, String> {
    let cmdb = stored(words.cmdb.cmdb, settings)?;
    match words.output.as_str() {
        "table" => Ok(Command::Tokens(cmdb, Format::Table)),
        "json" => Ok(Command::Tokens(cmdb, Format::Json)),
        other => {
            Err(format!("--output: tokens are not printed as '{other}'; choose table or json"))
        }
    }
}

pub(crate) fn revoke(words: RevokeArguments, settings: &Settings) -> Result<Command, String> {
    let what = text(&words.what).map_err(|error| format!("the id or name {error}"))?;
    Ok(Command::Revoke(stored(words.cmdb.cmdb, settings)?, what))
}
