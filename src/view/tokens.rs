//! `shawk tokens`: who may ask a collector, for people and for programs. The
//! names are those of whoever enrolled, and as hostile as any.

use std::io;

use jiff::Timestamp;
use serde::Serialize;

use crate::recall::{Role, TokenRecord};
use crate::view::columns::{self, Column, Row, words};
use crate::view::escape;
use crate::view::label::age;
use crate::view::paint::Paint;

const COLUMNS: [Column; 7] = [
    words("ID"),
    words("NAME"),
    words("ROLE"),
    words("HOST"),
    words("MADE"),
    words("ENDS"),
    words("STATE"),
];

/// Name and version of the document.
const SCHEMA: &str = "shawk.tokens/1";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    generated: Timestamp,
    tokens: Vec<TokenView<'a>>,
}

#[derive(Serialize)]
struct TokenView<'a> {
    id: &'a str,
    name: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_id: Option<&'a str>,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
    state: &'static str,
}

/// Tokens as a table.
pub fn table(tokens: &[TokenRecord], now: Timestamp) -> String {
    if tokens.is_empty() {
        return "no tokens; 'shawk enrol' makes them\n".to_owned();
    }
    let row = |token: &TokenRecord| {
        let ends = match token.expires {
            None => "-".to_owned(),
            Some(end) if end > now => format!("in {}", age(end, now)),
            Some(end) => format!("{} ago", age(now, end)),
        };
        let cells = vec![
            token.id.clone(),
            escape::word(&token.name),
            token.role.name().to_owned(),
            token.host.as_deref().map_or("-".to_owned(), escape::word),
            format!("{} ago", age(now, token.created)),
            ends,
            state(token, now).to_owned(),
        ];
        Row { cells, pieces: Vec::new(), alarm: false }
    };
    let rows: Vec<Row> = tokens.iter().map(row).collect();
    columns::table(&COLUMNS, &rows, Paint(false))
}

/// Tokens as a document.
pub fn json(tokens: &[TokenRecord], now: Timestamp) -> io::Result<String> {
    let tokens = tokens.iter().map(|token| view(token, now)).collect();
    let document = Document { schema: SCHEMA, generated: now, tokens };
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn view(token: &TokenRecord, now: Timestamp) -> TokenView<'_> {
    TokenView {
        id: &token.id,
        name: &token.name,
        role: token.role.name(),
        host_id: token.host.as_deref(),
        created: token.created,
        expires: token.expires,
        revoked: token.revoked,
        state: state(token, now),
    }
}

/// What `shawk enrol` says beside the token, in lines.
pub fn enrolled(token: &TokenRecord) -> String {
    let may = match (token.role, &token.host) {
        (Role::Read, _) => "may ask".to_owned(),
        (_, Some(host)) => format!("may report about the host {}", escape::word(host)),
        _ => "may report about any host, and ask".to_owned(),
    };
    let end = token.expires.map_or("it is revoked".to_owned(), |end| end.to_string());
    format!(
        "token {} of {}: {may}, until {end}; it is shown this once: write it into a file of \
         mode 0600, and name that in SHAWK_TOKEN_FILE",
        token.id,
        escape::word(&token.name),
    )
}

fn state(token: &TokenRecord, now: Timestamp) -> &'static str {
    match (token.revoked, token.expires) {
        (Some(_), _) => "revoked",
        (_, Some(end)) if end <= now => "expired",
        _ => "good",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use expect_test::expect;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn tokens() -> Vec<TokenRecord> {
        let web = TokenRecord {
            id: "0123456789ab".to_owned(),
            name: "web-1".to_owned(),
            role: Role::Write,
            host: Some("c50aee7b".to_owned()),
            created: at("2026-01-01T00:00:00Z"),
            expires: Some(at("2026-01-03T00:00:00Z")),
            revoked: None,
        };
        let hostile = TokenRecord { name: "a\u{1b}[2J b".to_owned(), ..web.clone() };
        let me = TokenRecord { role: Role::Read, host: None, expires: None, ..web.clone() };
        let gone = TokenRecord { revoked: Some(at("2026-01-01T12:00:00Z")), ..me.clone() };
        let over = TokenRecord { expires: Some(at("2026-01-01T00:00:01Z")), ..me.clone() };
        vec![web, hostile, me, gone, over]
    }

    #[test]
    fn tokens_stand_in_columns() {
        let text = table(&tokens(), at("2026-01-02T00:00:00Z"));
        expect![[r#"
            ID            NAME          ROLE   HOST      MADE     ENDS     STATE
            0123456789ab  web-1         write  c50aee7b  24h ago  in 24h   good
            0123456789ab  'a\x1b[2J b'  write  c50aee7b  24h ago  in 24h   good
            0123456789ab  web-1         read   -         24h ago  -        good
            0123456789ab  web-1         read   -         24h ago  -        revoked
            0123456789ab  web-1         read   -         24h ago  23h ago  expired
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn tokens_are_a_document() {
        let text = json(&tokens()[..1], at("2026-01-02T00:00:00Z")).unwrap();
        expect![[r#"
            {
              "schema": "shawk.tokens/1",
              "generated": "2026-01-02T00:00:00Z",
              "tokens": [
                {
                  "id": "0123456789ab",
                  "name": "web-1",
                  "role": "write",
                  "host_id": "c50aee7b",
                  "created": "2026-01-01T00:00:00Z",
                  "expires": "2026-01-03T00:00:00Z",
                  "state": "good"
                }
              ]
            }
        "#]]
        .assert_eq(&text);
    }
}
