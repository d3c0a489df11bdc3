//! From a row's value to the table's, and the rules by which that may not be.
//!
//! `encode` uses the rules on its fast path, `table_value` for everything else; `hash` uses it for
//! rare key types. Invariant: a value that passes is in the range of its column; the rule that it
//! breaks never quotes the value.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::value::Value;
use crate::batch::{Column, Slices, TimeUnit, Values};
use crate::schema::ColumnType;

/// The rule that a value breaks, in words.
pub(crate) type Rule = String;

/// The value of a row as the table has it; none if it is null.
pub fn table_value(
    column: &Column<'_>,
    row: usize,
    to: &ColumnType,
) -> Result<Option<Value>, Rule> {
    if column.is_null(row) {
        return Ok(None);
    }
    let value = match (&column.values, to) {
        (Values::Bool(bits), _) => Value::Bool(crate::batch::bit(bits, row)),
        (Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_), _) => {
            Value::Int(column.integer(row).expect("it is an integer and not null"))
        }
        (Values::Float32(values), ColumnType::Double) => {
            Value::Double(f64::from(f32::from_le_bytes(values[row])))
        }
        (Values::Float32(values), _) => Value::Float(f32::from_le_bytes(values[row])),
        (Values::Float64(values), _) => Value::Double(f64::from_le_bytes(values[row])),
        (Values::Decimal128 { scale, unscaled }, ColumnType::Decimal { precision, scale: to }) => {
            Value::Decimal(decimal(i128::from_le_bytes(unscaled[row]), *scale, *precision, *to)?)
        }
        (Values::Utf8(slices) | Values::Binary(slices), to) => {
            Value::Bytes(bytes(slices, row, to)?)
        }
        (Values::Date32(values), _) => {
            let days = date(i32::from_le_bytes(values[row]));
            Value::Date(days.ok_or_else(|| out_of_years("date"))?)
        }
        (Values::Timestamp(unit, values), ColumnType::Datetime) => {
            let millis = datetime(*unit, i64::from_le_bytes(values[row]));
            Value::Datetime(millis.ok_or_else(|| out_of_years("datetime"))?)
        }
        (Values::Timestamp(unit, values), _) => {
            let parts = timestamp(*unit, i64::from_le_bytes(values[row]));
            let (seconds, nanos) = parts.ok_or_else(|| out_of_years("timestamp"))?;
            Value::Timestamp { seconds, nanos }
        }
        (Values::Instant { seconds, nanos }, ColumnType::Datetime) => {
            let millis = instant(seconds[row], nanos[row]).map(datetime_of);
            Value::Datetime(millis.ok_or_else(|| out_of_years("datetime"))?)
        }
        (Values::Instant { seconds, nanos }, _) => {
            let parts = instant(seconds[row], nanos[row]);
            let (seconds, nanos) = parts.ok_or_else(|| out_of_years("timestamp"))?;
            Value::Timestamp { seconds, nanos }
        }
        (Values::Duration(unit, values), _) => {
            let (seconds, nanos) = parts(*unit, i64::from_le_bytes(values[row]));
            Value::DayTime { seconds, nanos: nanos as i32 }
        }
        (Values::Months(values), _) => Value::YearMonth(i64::from(i32::from_le_bytes(values[row]))),
        (nested, to) => nested_value(nested, row, to)?,
    };
    Ok(Some(value))
}

/// Arrays, maps and structs. Their depth is bounded by that of types.
fn nested_value(values: &Values<'_>, row: usize, to: &ColumnType) -> Result<Value, Rule> {
    match (values, to) {
        (Values::List(offsets, elements), ColumnType::Array(to)) => Ok(Value::Array(
            range(offsets, row).map(|i| table_value(elements, i, to)).collect::<Result<_, _>>()?,
        )),
        (Values::Map(offsets, entries), ColumnType::Map(to_key, to_value)) => {
            let (keys, values) = &**entries;
            let entry = |i: usize| -> Result<(Value, Option<Value>), Rule> {
                let key = table_value(keys, i, to_key)?.ok_or("a map's key is null")?;
                Ok((key, table_value(values, i, to_value)?))
            };
            Ok(Value::Map(range(offsets, row).map(entry).collect::<Result<_, _>>()?))
        }
        (Values::Struct(columns), ColumnType::Struct(fields)) => {
            let values: Result<Vec<_>, Rule> = columns
                .iter()
                .zip(fields)
                .map(|(column, (name, to))| {
                    table_value(column, row, to).map_err(|rule| format!("field {name}: {rule}"))
                })
                .collect();
            Ok(Value::Struct(values?))
        }
        _ => Err(format!("the plan lets no such value become {to}; this is a bug of the sink")),
    }
}

fn range(offsets: &[[u8; 4]], row: usize) -> core::ops::Range<usize> {
    crate::batch::offset(offsets, row)..crate::batch::offset(offsets, row + 1)
}

fn bytes(slices: &Slices<'_>, row: usize, to: &ColumnType) -> Result<Vec<u8>, Rule> {
    let bytes = slices.bytes(row);
    if bytes.len() > shortest_limit(to) && !fits(bytes, to) {
        return Err(too_long(bytes, to));
    }
    Ok(bytes.to_vec())
}

/// A length in bytes up to which a value certainly keeps its column's limit.
pub(crate) const fn shortest_limit(to: &ColumnType) -> usize {
    match to {
        ColumnType::Varchar(most) | ColumnType::Char(most) => *most as usize,
        _ => TEXT_BYTES_MAX,
    }
}

/// Whether a value that is longer than `shortest_limit` keeps its column's limit.
pub(crate) fn fits(bytes: &[u8], to: &ColumnType) -> bool {
    match to {
        ColumnType::Varchar(most) | ColumnType::Char(most) => characters(bytes) <= *most as usize,
        _ => false,
    }
}

fn too_long(bytes: &[u8], to: &ColumnType) -> Rule {
    match to {
        ColumnType::Varchar(most) | ColumnType::Char(most) => {
            format!("it has {} characters; {to} holds at most {most}", characters(bytes))
        }
        _ => format!("it has {} bytes; {to} holds at most {TEXT_BYTES_MAX}", bytes.len()),
    }
}

/// How many characters a text has: every byte but a continuation byte begins one.
fn characters(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// A decimal at the column's scale, within its precision.
pub(crate) fn decimal(unscaled: i128, from: u8, precision: u8, to: u8) -> Result<i128, Rule> {
    let factor = 10i128.pow(u32::from(to.saturating_sub(from)));
    unscaled
        .checked_mul(factor)
        .filter(|value| value.unsigned_abs() < 10u128.pow(u32::from(precision)))
        .ok_or_else(|| {
            let digits = precision.saturating_sub(to);
            format!("decimal({precision},{to}) holds at most {digits} digits before the point")
        })
}

/// Days since 1970-01-01; none if they are out of the years.
pub(crate) fn date(days: i32) -> Option<i64> {
    let days = i64::from(days);
    (SECONDS_MIN / 86_400..=SECONDS_MAX / 86_400).contains(&days).then_some(days)
}

/// Milliseconds, cut towards the past; none if they are out of the years.
#[inline]
pub(crate) fn datetime(unit: TimeUnit, value: i64) -> Option<i64> {
    let millis = match unit {
        TimeUnit::Seconds => value.saturating_mul(1_000),
        TimeUnit::Millis => value,
        TimeUnit::Micros => value.div_euclid(1_000),
        TimeUnit::Nanos => value.div_euclid(1_000_000),
    };
    (SECONDS_MIN * 1_000..(SECONDS_MAX + 1) * 1_000).contains(&millis).then_some(millis)
}

/// Seconds, rounded down, and the nanoseconds after them; none if they are out of the years.
#[inline]
pub(crate) fn timestamp(unit: TimeUnit, value: i64) -> Option<(i64, u32)> {
    let (seconds, nanos) = parts(unit, value);
    (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then_some((seconds, nanos))
}

/// The same of the other layout, whose seconds are rounded down already.
#[inline]
pub(crate) fn instant(seconds: [u8; 8], nanos: [u8; 4]) -> Option<(i64, u32)> {
    let (seconds, nanos) = (i64::from_le_bytes(seconds), u32::from_le_bytes(nanos));
    (SECONDS_MIN..=SECONDS_MAX).contains(&seconds).then_some((seconds, nanos))
}

/// Milliseconds of an instant within the years, cut towards the past.
#[inline]
pub(crate) fn datetime_of((seconds, nanos): (i64, u32)) -> i64 {
    seconds * 1_000 + i64::from(nanos / 1_000_000)
}

/// A span or an instant as seconds, rounded down, and the nanoseconds after them.
#[inline]
pub(crate) fn parts(unit: TimeUnit, value: i64) -> (i64, u32) {
    // Constant divisors are several times cheaper.
    let (seconds, fraction) = match unit {
        TimeUnit::Seconds => (value, 0),
        TimeUnit::Millis => split::<1_000>(value),
        TimeUnit::Micros => split::<1_000_000>(value),
        TimeUnit::Nanos => split::<1_000_000_000>(value),
    };
    (seconds, fraction as u32)
}

/// Seconds, and the rest in nanoseconds.
#[inline(always)]
fn split<const PER_SECOND: i64>(value: i64) -> (i64, i64) {
    let seconds = value.div_euclid(PER_SECOND);
    (seconds, (value - seconds * PER_SECOND) * (1_000_000_000 / PER_SECOND))
}

fn out_of_years(what: &str) -> Rule {
    format!("a {what} lies between the years 0001 and 9999")
}

/// The service's limit for string and binary.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// 0001-01-01T00:00:00.
const SECONDS_MIN: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59.
const SECONDS_MAX: i64 = 253_402_300_799;
