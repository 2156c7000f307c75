//! Names are hostile: any process may call itself anything, and a view prints
//! into terminals, spreadsheets, browsers and parsers.
//!
//! First what a reader cannot see is made visible, for all outputs alike; then
//! each output quotes what it would act upon.

use std::fmt::Write;

/// Whether a character shows nothing of its own, or changes what others show:
/// controls (C0, C1, DEL), bidirectional controls (UAX 9), zero-width and
/// other format characters, line and paragraph separators, tags.
pub fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Text for a terminal: what is hidden becomes `\n`, `\x1b`, `\u{202e}`.
pub fn terminal(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same, and it can be read back: a backslash of the text's own is
/// doubled.
pub fn visible(text: &str) -> String {
    escaped(text, |character| character == '\\')
}

/// The same between single quotes, its own ones behind a backslash.
pub fn quoted(text: &str) -> String {
    format!("'{}'", escaped(text, |character| matches!(character, '\\' | '\'')))
}

/// A name that stands among words: as it is where it looks like a host name,
/// else between quotes, so that it cannot be taken for what a view says.
pub fn word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-:/@".contains(character);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { quoted(text) }
}

fn escaped(text: &str, slashed: impl Fn(char) -> bool) -> String {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !slashed(char::from(byte));
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            hidden if is_hidden(hidden) => {
                // Writing to a String cannot fail.
                let code = u32::from(hidden);
                match u8::try_from(code) {
                    Ok(byte) => write!(out, "\\x{byte:02x}").ok(),
                    Err(_) => write!(out, "\\u{{{code:x}}}").ok(),
                };
            }
            plain => {
                if slashed(plain) {
                    out.push('\\');
                }
                out.push(plain);
            }
        }
    }
    out
}

/// A field of a CSV record (RFC 4180). A spreadsheet would run a field that
/// begins like a formula, so that gets an apostrophe in front (OWASP, CSV
/// injection).
pub fn csv(text: &str) -> String {
    let visible = visible(text);
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if formula { format!("'{visible}") } else { visible };
    if guarded.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

/// The text of an XML element or of an attribute. XML has no way to write a
/// control, so what is hidden is made visible first.
pub fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in visible(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            // No character of XML 1.0, section 2.2.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            plain => out.push(plain),
        }
    }
    out
}

/// A quoted string of Graphviz' language. In a label a backslash begins an
/// escape and an ampersand an entity, so both are written as such.
pub fn dot(text: &str) -> String {
    let mut out = String::from("\"");
    for character in terminal(text).chars() {
        match character {
            '"' => out.push_str("&quot;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' => out.push_str("\\\\"),
            plain => out.push(plain),
        }
    }
    out.push('"');
    out
}

/// A quoted string of Mermaid's language, which ends up as HTML. It has
/// entities of its own, `#NUMBER;`; everything but letters, digits and a few
/// signs becomes one.
pub fn mermaid(text: &str) -> String {
    let mut out = String::from("\"");
    for character in terminal(text).chars() {
        if character.is_alphanumeric() || " .:,_-+=/()'".contains(character) {
            out.push(character);
        } else {
            write!(out, "#{};", u32::from(character)).ok();
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::{csv, dot, mermaid, quoted, terminal, visible, word, xml};

    #[test]
    fn what_is_hidden_becomes_visible() {
        assert_eq!(terminal("a\u{1b}[31m\n\u{85}\u{7f}\0"), "a\\x1b[31m\\n\\x85\\x7f\\x00");
        assert_eq!(
            terminal("\u{202e}gnp\u{2066}\u{200b}\u{2028}\u{61c}"),
            "\\u{202e}gnp\\u{2066}\\u{200b}\\u{2028}\\u{61c}"
        );
        assert_eq!(terminal("C:\\temp naïve 日本"), "C:\\temp naïve 日本");
        assert_eq!(visible("\\n\n"), "\\\\n\\n");
        assert_eq!(quoted("it's \\x1b"), "'it\\'s \\\\x1b'");
        assert_eq!(word("web-1.example"), "web-1.example");
        assert_eq!(word("web-1, tcp, both ends"), "'web-1, tcp, both ends'");
    }

    #[test]
    fn each_output_quotes_what_it_would_act_upon() {
        assert_eq!(csv("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(csv("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv("\tx"), "'\\tx");
        assert_eq!(csv("10.0.0.1"), "10.0.0.1");
        assert_eq!(dot("\"];<b>\\N&"), "\"&quot;];&lt;b&gt;\\\\N&amp;\"");
        assert_eq!(xml("<b a='1'>&\u{1b}\u{ffff}"), "&lt;b a=&apos;1&apos;&gt;&amp;\\x1b\u{fffd}");
        assert_eq!(mermaid("\"]-->`#<script>"), "\"#34;#93;--#62;#96;#35;#60;script#62;\"");
    }
}
