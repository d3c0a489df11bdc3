//! The values that may name a partition, and how numbers and dates are written as one.
//!
//! Used for the values of rows, and for those that options fix. Invariant: two texts
//! that name the same partition are the same bytes.

use alloc::format;
use alloc::string::String;

use crate::schema::ColumnType;

/// Bytes of the longest value.
pub const TEXT_BYTES_MAX: usize = 255;

/// The rule of partition values, for messages.
pub const RULE: &str = "a partition value has 1 to 255 bytes, and no quote, slash, \
     backslash, comma, equals sign or control character, because it becomes part of a \
     partition's name";

/// Whether the text may name a partition. The error is the rule.
pub fn check_value(text: &str) -> Result<(), &'static str> {
    let reserved = |c: char| c.is_control() || RESERVED.contains(&c);
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.contains(reserved) {
        return Err(RULE);
    }
    Ok(())
}

/// The one text of a value that the user wrote for a column of this type.
///
/// Errors: the type's rule.
pub fn canonical_value(column_type: &ColumnType, text: &str) -> Result<String, String> {
    if let Some((low, high)) = column_type.integer_range() {
        let number: Option<i64> = text.parse().ok();
        let number = number.filter(|n| (low..=high).contains(n));
        let rule = || format!("a column of {column_type} holds whole numbers from {low} to {high}");
        return number.map(|n| format!("{n}")).ok_or_else(rule);
    }
    if *column_type == ColumnType::Date && !is_date(text) {
        return Err("a column of date is written as `2018-01-31`".into());
    }
    Ok(text.into())
}

/// Writes a whole number; returns its length.
pub fn write_integer(number: i64, to: &mut [u8]) -> usize {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    let text = &digits[at..];
    to[..text.len()].copy_from_slice(text);
    text.len()
}

/// Writes a date given in days since 1970-01-01; returns its length, or none outside of the years 1
/// to 9999.
pub fn write_date(days: i64, to: &mut [u8]) -> Option<usize> {
    if !(DAYS_MIN..=DAYS_MAX).contains(&days) {
        return None;
    }
    let (year, month, day) = civil(days);
    for (at, divisor, part) in [
        (0, 1000, year),
        (1, 100, year),
        (2, 10, year),
        (3, 1, year),
        (5, 10, month),
        (6, 1, month),
        (8, 10, day),
        (9, 1, day),
    ] {
        to[at] = b'0' + (part / divisor % 10) as u8;
    }
    to[4] = b'-';
    to[7] = b'-';
    Some(10)
}

/// Year, month and day of a count of days, in the proleptic Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is the last of its year; an era has 400 of
    // them.
    let from_march_0000 = days + 719_468;
    let era = from_march_0000.div_euclid(146_097);
    let day_of_era = from_march_0000.rem_euclid(146_097);
    let leaps = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// Whether the text is a day of the calendar, as `write_date` writes it.
fn is_date(text: &str) -> bool {
    if text.len() != 10 {
        return false;
    }
    let mut parts = text.splitn(3, '-').map(|part| part.parse::<i64>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    let (year, month, day) = (next(), next(), next());
    // A day of the text's year is at most 366 days from where 365.2425 days a year lead.
    let about = (year - 1970) * 146_097 / 400 + (month - 1) * 30;
    let mut written = [0; 10];
    (about - 40..about + 400).any(|days| {
        write_date(days, &mut written).is_some()
            && civil(days) == (year, month, day)
            && written == text.as_bytes()
    })
}

/// 0001-01-01.
const DAYS_MIN: i64 = -719_162;

/// 9999-12-31.
const DAYS_MAX: i64 = 2_932_896;

/// Characters that take a partition's name apart, or end a text in SQL.
const RESERVED: [char; 6] = ['\'', '"', '/', '\\', ',', '='];

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn dates_are_written_as_the_calendar_has_them() {
        let mut text = [0; 10];
        for (days, expected) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (-25_509, "1900-02-28"),
            (-25_508, "1900-03-01"),
            (-719_162, "0001-01-01"),
            (2_932_896, "9999-12-31"),
        ] {
            assert_eq!(write_date(days, &mut text), Some(10));
            assert_eq!(core::str::from_utf8(&text), Ok(expected));
            assert_eq!(canonical_value(&ColumnType::Date, expected), Ok(expected.into()));
        }
        assert_eq!(write_date(-719_163, &mut text), None);
        assert_eq!(write_date(2_932_897, &mut text), None);
        for wrong in [
            "1900-02-29",
            "2018-1-01",
            "2018-13-01",
            "2018-00-10",
            "20180101",
            "9999999999",
            "+201-01-01",
            "-201-01-01",
            "",
        ] {
            assert!(canonical_value(&ColumnType::Date, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn integers_are_written_like_everywhere() {
        for number in [0, 1, -1, 9, 10, 12_345, i64::MIN, i64::MAX] {
            let mut text = [0; 20];
            let length = write_integer(number, &mut text);
            assert_eq!(core::str::from_utf8(&text[..length]), Ok(number.to_string().as_str()));
        }
    }
}
