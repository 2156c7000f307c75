//! Durations and moments as a user writes them.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, civil};

/// How far ahead the clock may be by which somebody wrote a moment.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// Reads a duration as Go writes it (`1s`, `2h45m`, `1.5s`, `300ms`), with `d`
/// and `w` added as Prometheus has them. The grammar is that of Go's
/// `time.ParseDuration`, without a sign: every number needs a unit, and any of
/// them may have a fraction.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration; write it like 1s, 1.5s or 2h45m");
    let mut rest = text;
    let mut nanoseconds: u128 = 0;
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let part = scale(number, unit_nanoseconds(unit).ok_or_else(wrong)?).ok_or_else(wrong)?;
        nanoseconds = nanoseconds.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    // Go's own limit: 2^63 nanoseconds, about 292 years.
    let nanoseconds = i64::try_from(nanoseconds).map_err(|_| wrong())?;
    Ok(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    const SECOND: u128 = 1_000_000_000;
    Some(match unit {
        "ns" => 1,
        // U+00B5 and U+03BC, the micro sign and the Greek letter.
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3_600 * SECOND,
        "d" => 86_400 * SECOND,
        "w" => 7 * 86_400 * SECOND,
        _ => return None,
    })
}

/// `number` (digits, at most one point) times `unit`, in whole nanoseconds.
fn scale(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond the eighteenth are less than a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(18)];
    let parts: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let tenths = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(parts.checked_mul(unit)? / tenths)
}

/// Reads a moment: RFC 3339, or a duration, which means that long before `now`.
pub fn parse_moment(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "'{text}' is not a moment; write how long ago, like 15m or 2h45m, \
             or a time like 2026-01-31T12:00:00Z"
        )
    };
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    if let Some(refusal) = zoneless(text, now) {
        return Err(refusal);
    }
    let ago = SignedDuration::try_from(parse(text).map_err(|_| wrong())?).map_err(|_| wrong())?;
    now.checked_sub(ago).map_err(|_| wrong())
}

/// As [`parse_moment`], of what has been: an answer about what is yet to come
/// would look as if nothing were there.
pub fn parse_past(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let moment = parse_moment(text, now)?;
    if moment.duration_since(now) > SKEW {
        return Err(format!("'{text}' is in the future; it is {now:.0} here"));
    }
    Ok(moment)
}

/// What is said of a time without a zone. Whose clock it was read from is not
/// known, and a wrong guess would answer for another hour.
fn zoneless(text: &str, now: Timestamp) -> Option<String> {
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Some(format!(
            "'{text}' has no time zone; write {time}Z for UTC, or an offset like {time}+01:00"
        ));
    }
    let time: civil::Time = text.parse().ok().filter(|_| text.contains(':'))?;
    let time = Offset::UTC.to_datetime(now).date().to_datetime(time);
    Some(format!("'{text}' has no day and no time zone; write {time}Z for today in UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [
            ("0", 0),
            ("1s", 1_000),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1.s", 1_000),
            ("2h45m", 9_900_000),
            ("1.5h30m", 7_200_000),
            ("300ms", 300),
            ("1m0.5s", 60_500),
            ("1000us", 1),
            ("1000µs", 1),
            ("1000000ns", 1),
            ("7d", 604_800_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for text in [
            "",
            "1",
            "s",
            "-1s",
            "+1s",
            "1 s",
            "1x",
            "1.2.3s",
            ".s",
            "1s ",
            "∞",
            "1e3s",
            "999999999999h",
            "1mo",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_moment_is_a_time_or_a_while_ago() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        for (text, moment) in [
            ("15m", "2026-01-31T11:45:00Z"),
            ("2026-01-30T00:00:00Z", "2026-01-30T00:00:00Z"),
            ("2026-01-30T01:00:00+01:00", "2026-01-30T00:00:00Z"),
        ] {
            assert_eq!(parse_moment(text, now), Ok(moment.parse().expect("a time")), "{text}");
        }
        for text in ["yesterday", "2026-01-30", "10", "200000w"] {
            assert!(parse_moment(text, now).is_err(), "{text}");
        }
        for (text, remedy) in [
            ("2026-01-30 01:20:00", "no time zone; write 2026-01-30T01:20:00Z for UTC"),
            ("2026-01-30T01:20", "or an offset like 2026-01-30T01:20:00+01:00"),
            ("2026-01-30", "no time zone; write 2026-01-30T00:00:00Z for UTC"),
            ("11:30", "no day and no time zone; write 2026-01-31T11:30:00Z for today in UTC"),
            ("-5m", "is not a moment; write how long ago, like 15m"),
        ] {
            let refusal = parse_moment(text, now).expect_err(text);
            assert!(refusal.contains(remedy), "{refusal}");
        }
    }

    #[test]
    fn what_has_been_is_not_yet_to_come() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().expect("a time");
        // Clocks differ a little.
        for text in ["0s", "2026-01-31T12:00:59Z"] {
            assert!(parse_past(text, now).is_ok(), "{text}");
        }
        let refusal = parse_past("2026-01-31T12:01:01Z", now).expect_err("a minute ahead");
        let said = "'2026-01-31T12:01:01Z' is in the future; it is 2026-01-31T12:00:00Z here";
        assert_eq!(refusal, said);
    }
}
