//! How the text of one option becomes a number, a size, a span of time or a yes, and how numbers
//! are written back.
//!
//! Called by the option tables, and wherever a size or a span is read. Invariant: a text is either
//! read completely or refused with the forms that are accepted; no unit is ever guessed. The forms
//! are those of Flink's configuration, so that options can be copied from it.

use alloc::format;
use alloc::string::{String, ToString};

use crate::id::{ByteCount, Millis};

/// `true` or `false`, in any case.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.trim() {
        t if t.eq_ignore_ascii_case("true") => Ok(true),
        t if t.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(format!("`{text}` is not a boolean: write `true` or `false`")),
    }
}

/// A whole number without a unit.
pub fn count(text: &str) -> Result<u32, String> {
    let digits = text.trim();
    let wrong = || format!("`{text}` is not a whole number: write digits only, such as `16`");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse().map_err(|_| format!("`{text}` is too large: at most {}", u32::MAX))
}

/// A number of bytes. As in Flink, kb, mb and gb count by 1024, and a bare number is bytes.
pub fn size(text: &str) -> Result<ByteCount, String> {
    let wrong = || {
        format!(
            "`{text}` is not a size: write a whole number and a unit, such as `64mb`, `64 MiB` or \
             `1048576` (bytes); kb, mb and gb count by 1024"
        )
    };
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let shift = match unit.as_str() {
        "" | "b" | "byte" | "bytes" => 0,
        "k" | "kb" | "kib" | "kibibytes" => 10,
        "m" | "mb" | "mib" | "mebibytes" => 20,
        "g" | "gb" | "gib" | "gibibytes" => 30,
        "t" | "tb" | "tib" | "tebibytes" => 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).map(ByteCount).ok_or_else(wrong)
}

/// The unit of a span of time that is written without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// Milliseconds, as everywhere in Flink.
    Milliseconds,
    /// Seconds, where the vendor's connector documents a bare number of seconds.
    Seconds,
    /// Nothing: the unit must be written, as on a command line.
    Refused,
}

/// A span of time.
pub fn span(text: &str, bare: Bare) -> Result<Millis, String> {
    let wrong = || {
        let without = match bare {
            Bare::Milliseconds => "a bare number is milliseconds",
            Bare::Seconds => "a bare number is seconds, as the vendor's connector documents it",
            Bare::Refused => "a bare number could be any of them",
        };
        format!(
            "`{text}` is not a duration of whole milliseconds: write a number and a unit, such as \
             `500 ms`, `2.5s`, `10s`, `1 min`, `24 h` or `1 d`; {without}"
        )
    };
    let (number, part, unit) = split_decimal(text).ok_or_else(wrong)?;
    let factor = match (unit.as_str(), bare) {
        ("", Bare::Milliseconds)
        | ("ms" | "milli" | "millis" | "millisecond" | "milliseconds", _) => 1,
        ("", Bare::Seconds) | ("s" | "sec" | "secs" | "second" | "seconds", _) => SECOND,
        ("m" | "min" | "mins" | "minute" | "minutes", _) => MINUTE,
        ("h" | "hour" | "hours", _) => HOUR,
        ("d" | "day" | "days", _) => 24 * HOUR,
        _ => return Err(wrong()),
    };
    let part = part_of(factor, part).ok_or_else(wrong)?;
    let whole = number.checked_mul(factor).and_then(|whole| whole.checked_add(part));
    whole.map(Millis).ok_or_else(wrong)
}

/// Splits `2.5 s` into 2, the digits behind its point, and `s`.
fn split_decimal(text: &str) -> Option<(u64, &str, String)> {
    let Some((whole, rest)) = text.trim().split_once('.') else {
        return split(text).map(|(number, unit)| (number, "", unit));
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (part, unit) = rest.split_at_checked(digits).filter(|_| digits > 0)?;
    let is_number = whole.bytes().all(|b| b.is_ascii_digit());
    let number = whole.parse().ok().filter(|_| is_number)?;
    Some((number, part, unit.trim().to_ascii_lowercase()))
}

/// So much of a unit: none unless it is a whole number.
fn part_of(unit: u64, digits: &str) -> Option<u64> {
    let digits = digits.trim_end_matches('0');
    let tenths = 10_u64.checked_pow(u32::try_from(digits.len()).ok()?)?;
    let part = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let product = unit.checked_mul(part)?;
    (product % tenths == 0).then_some(product / tenths)
}

/// Splits `64 MiB` into 64 and `mib`.
fn split(text: &str) -> Option<(u64, String)> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text.get(..digits)?.parse().ok()?;
    Some((number, text.get(digits..)?.trim().to_ascii_lowercase()))
}

/// The shortest exact text of a size that `size` reads back.
pub fn size_text(bytes: ByteCount) -> String {
    let ByteCount(n) = bytes;
    match n {
        0 => "0".to_string(),
        n if n % (1 << 30) == 0 => format!("{} GiB", n >> 30),
        n if n % (1 << 20) == 0 => format!("{} MiB", n >> 20),
        n if n % (1 << 10) == 0 => format!("{} KiB", n >> 10),
        n => format!("{n} bytes"),
    }
}

/// The shortest exact text of a span that `span` reads back.
pub fn span_text(span: Millis) -> String {
    let Millis(n) = span;
    match n {
        0 => "0 ms".to_string(),
        n if n % HOUR == 0 => format!("{} h", n / HOUR),
        n if n % MINUTE == 0 => format!("{} min", n / MINUTE),
        n if n % SECOND == 0 => format!("{} s", n / SECOND),
        n => format!("{n} ms"),
    }
}

/// Milliseconds of a second.
pub const SECOND: u64 = 1_000;
/// Milliseconds of a minute.
pub const MINUTE: u64 = 60 * SECOND;
/// Milliseconds of an hour.
pub const HOUR: u64 = 60 * MINUTE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_by_1024_as_in_flink() {
        for text in ["64mb", "64 MB", "64m", "64 MiB", " 67108864 ", "65536kb", "67108864 bytes"] {
            assert_eq!(size(text), Ok(ByteCount(64 << 20)), "{text}");
        }
    }

    #[test]
    fn spans_are_read_in_every_unit() {
        for text in ["60 s", "1min", "1 m", "60000", "60000ms", "60 seconds"] {
            assert_eq!(span(text, Bare::Milliseconds), Ok(Millis(60_000)), "{text}");
        }
        assert_eq!(span("600", Bare::Seconds), Ok(Millis(600_000)));
        assert_eq!(span("1 d", Bare::Seconds), Ok(Millis(24 * HOUR)));
        for (text, ms) in [("2.5s", 2500), ("2.50 s", 2500), ("0.001 s", 1), ("1.5", 1500)] {
            assert_eq!(span(text, Bare::Seconds), Ok(Millis(ms)), "{text}");
        }
        assert_eq!(span("7.0 ms", Bare::Refused), Ok(Millis(7)));
    }

    #[test]
    fn what_has_a_wrong_unit_or_no_number_is_refused() {
        for text in ["", "mb", "1.5mb", "-1", "64 parsecs", "64 m b", "99999999999999999 tb"] {
            let refused = size(text).expect_err(text);
            assert!(refused.contains("64 MiB") && refused.contains(text), "{refused}");
        }
        let wrong = "|s|-1s|3 fortnights|10 us|99999999999999999 d|1.5 ms|2.0005s|.5s|2.s|2. 5s|\
                     2 .5s|+2.5s|1.2.3s|2.5 parsecs|0.99999999999999999999s";
        for text in wrong.split('|') {
            let refused = span(text, Bare::Milliseconds).expect_err(text);
            assert!(refused.contains("10s") && refused.contains(text), "{refused}");
        }
        for text in ["", "1.0", "+1", "-1", "0x10", "99999999999", "1 000"] {
            assert!(count(text).is_err(), "{text}");
        }
        assert!(flag("yes").is_err());
    }

    #[test]
    fn written_sizes_and_spans_read_back() {
        for n in [0, 1, 1023, 1024, 1 << 20, 3 << 20, 1 << 31] {
            assert_eq!(size(&size_text(ByteCount(n))), Ok(ByteCount(n)));
        }
        for n in [0, 1, 999, 1_000, 90_000, HOUR, 24 * HOUR] {
            assert_eq!(span(&span_text(Millis(n)), Bare::Seconds), Ok(Millis(n)));
        }
    }
}
