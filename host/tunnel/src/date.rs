//! Times as text: RFC 3339 for the end of credentials, HTTP's form for headers and messages.
//!
//! Used by `credentials.rs`, `keyring.rs` and `endpoint.rs`. Invariant: what is no time is refused;
//! all numbers are milliseconds since the Unix epoch.

use std::time::{Duration, UNIX_EPOCH};

/// A time in the form of HTTP's headers, in whole seconds.
pub(crate) fn http_date(at_ms: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at_ms))
}

/// The time that such a text names.
pub(crate) fn parse_http_date(text: &str) -> Option<u64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// The time that a text such as `2026-03-26T08:00:00Z` names; none if it is no such text, or before
/// the epoch. Without a zone it is UTC.
pub(crate) fn parse_rfc_3339(text: &str) -> Option<u64> {
    let (date, time) = text.trim().split_once(['T', 't', ' '])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let zone = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (time, zone) = time.split_at(zone);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let in_bounds = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !digits || !in_bounds {
        return None;
    }
    let millis: i64 = fraction
        .bytes()
        .chain(*b"000")
        .take(3)
        .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    let minutes = (days(year, month, day) * 24 + hour) * 60 + minute - zone_minutes(zone)?;
    u64::try_from((minutes * 60 + second) * 1000 + millis).ok()
}

/// Minutes that a zone is ahead of UTC.
fn zone_minutes(zone: &str) -> Option<i64> {
    let (sign, zone) = match zone.as_bytes().first() {
        None | Some(b'Z' | b'z') => return (zone.len() <= 1).then_some(0),
        Some(b'-') => (-1, &zone[1..]),
        Some(_) => (1, &zone[1..]),
    };
    let [hours, minutes] = numbers(zone, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Numbers of so many digits each, and nothing else.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| part.len() == digits)?;
        let plain = part.bytes().all(|byte| byte.is_ascii_digit());
        *number = part.parse().ok().filter(|_| plain)?;
    }
    parts.next().is_none().then_some(numbers)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since the epoch, by the calendar that begins its years in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_their_zones_and_fractions() {
        for (text, at_ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-03-26T08:00:00Z", 1_774_512_000_000),
            ("2026-03-26T16:00:00+08:00", 1_774_512_000_000),
            ("2026-03-26T04:30:00.25-03:30", 1_774_512_000_250),
            ("2026-03-26 08:00:00.0009", 1_774_512_000_000),
            ("2000-02-29T23:59:59z", 951_868_799_000),
            ("2099-12-31T00:00:00Z", 4_102_358_400_000),
        ] {
            assert_eq!(parse_rfc_3339(text), Some(at_ms), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_time_is_refused() {
        for text in [
            "",
            "hush",
            "2026-03-26",
            "2026-02-29T08:00:00Z",
            "2026-13-01T08:00:00Z",
            "2026-03-26T24:00:00Z",
            "2026-03-26T08:00Z",
            "2026-03-26T08:00:00.Z",
            "2026-03-26T08:00:00Zulu",
            "2026-03-26T08:00:00+8",
            "1969-12-31T23:59:59Z",
            "+026-03-26T08:00:00Z",
        ] {
            assert_eq!(parse_rfc_3339(text), None, "{text}");
        }
    }

    #[test]
    fn headers_have_the_form_of_http() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(parse_http_date("yesterday"), None);
    }
}
