//! Writes records from values, and packs' trailers.
//!
//! The plain form of `encode`: what nested columns, the server, tests and fixtures use. Invariant:
//! for the same values it writes the same bytes and checksum as `RecordEncoder`.

use alloc::vec::Vec;

use super::crc::Crc;
use super::decimal::{DECIMAL_BYTES_MAX, write_decimal};
use super::value::Value;
use super::varint::{push_varint, zigzag};
use super::{Op, wire};
use crate::schema::ColumnType;

/// Appends one record of these values, one for each column; null values are left out. Returns its
/// checksum.
///
/// Panics if there are more or fewer values than columns, or one that does not fit its column.
pub fn encode_values(
    columns: &[ColumnType],
    values: &[Option<Value>],
    op: Op,
    out: &mut Vec<u8>,
) -> u32 {
    encode_partial(columns, values, op, &[], out)
}

/// The same of a record that may set only some columns, named by `value_columns`; none is all.
///
/// Panics as `encode_values` does.
pub fn encode_partial(
    columns: &[ColumnType],
    values: &[Option<Value>],
    op: Op,
    value_columns: &[i64],
    out: &mut Vec<u8>,
) -> u32 {
    let mut crc = push_fields(columns, values, out);
    let after = columns.len() as u32;
    push_varint(out, u64::from(wire::tag(after + wire::OPERATION, wire::VARINT)));
    push_varint(out, zigzag(i64::from(op.letter())));
    crc = crc.tagged(after + wire::OPERATION, u64::from(op.letter()));
    push_varint(out, u64::from(wire::tag(after + wire::VALUE_COLUMNS, wire::DELIMITED)));
    push_varint(out, value_columns.len() as u64);
    crc = crc.word(after + wire::VALUE_COLUMNS);
    for id in value_columns {
        // Elements of an array: each begins with its null flag.
        out.push(0);
        crc = push_integer(crc, *id, out);
    }
    end_record(crc, out)
}

/// Appends one row as a download has it: a record that does not say what it does to its key.
/// Returns its checksum.
///
/// Panics as `encode_values` does.
pub fn encode_row(columns: &[ColumnType], values: &[Option<Value>], out: &mut Vec<u8>) -> u32 {
    let crc = push_fields(columns, values, out);
    end_record(crc, out)
}

/// Appends what ends a pack: the number of its records and the checksum of their checksums, in
/// order.
pub fn pack_trailer(record_crcs: impl Iterator<Item = u32>, count: u32, out: &mut Vec<u8>) {
    let crc = record_crcs.fold(Crc::START, Crc::word).finish();
    stream_trailer(crc, i64::from(count), out);
}

/// The same for a stream whose records are not all in memory: `crc` is the checksum of their
/// checksums, each as four bytes, lowest first.
pub fn stream_trailer(crc: u32, count: i64, out: &mut Vec<u8>) {
    push_varint(out, u64::from(wire::tag(wire::COUNT, wire::VARINT)));
    push_varint(out, zigzag(count));
    push_varint(out, u64::from(wire::tag(wire::CHECKSUM, wire::VARINT)));
    push_varint(out, u64::from(crc));
}

fn push_fields(columns: &[ColumnType], values: &[Option<Value>], out: &mut Vec<u8>) -> Crc {
    assert_eq!(columns.len(), values.len(), "a record has one value for each column");
    let mut crc = Crc::START;
    for (index, (column, value)) in columns.iter().zip(values).enumerate() {
        let Some(value) = value else { continue };
        assert!(value.fits(column), "column {index} is {column}, which {value:?} is not");
        let number = index as u32 + 1;
        push_varint(out, u64::from(wire::tag(number, wire::wire_type(column))));
        crc = push_value(crc.word(number), column, value, out);
    }
    crc
}

fn end_record(crc: Crc, out: &mut Vec<u8>) -> u32 {
    let crc = crc.finish();
    push_varint(out, u64::from(wire::tag(wire::END_RECORD, wire::VARINT)));
    push_varint(out, u64::from(crc));
    crc
}

/// Appends a value without its tag and adds it to the checksum. It fits its column.
pub(super) fn push_value(crc: Crc, column: &ColumnType, value: &Value, out: &mut Vec<u8>) -> Crc {
    match value {
        Value::Bool(value) => {
            out.push(u8::from(*value));
            crc.byte(u8::from(*value))
        }
        Value::Int(value)
        | Value::Date(value)
        | Value::Datetime(value)
        | Value::YearMonth(value) => push_integer(crc, *value, out),
        Value::Float(value) => {
            out.extend(value.to_le_bytes());
            crc.word(value.to_bits())
        }
        Value::Double(value) => {
            out.extend(value.to_le_bytes());
            crc.bytes(&value.to_le_bytes())
        }
        Value::Bytes(bytes) => push_bytes(crc, bytes, out),
        Value::Decimal(unscaled) => {
            let scale = if let ColumnType::Decimal { scale, .. } = column { *scale } else { 0 };
            let mut text = [0; DECIMAL_BYTES_MAX];
            let start = write_decimal(*unscaled, scale, &mut text);
            push_bytes(crc, &text[start..], out)
        }
        Value::Timestamp { seconds, nanos } => push_time(crc, *seconds, *nanos as i32, out),
        Value::DayTime { seconds, nanos } => push_time(crc, *seconds, *nanos, out),
        Value::Array(_) | Value::Map(_) | Value::Struct(_) => push_nested(crc, column, value, out),
    }
}

fn push_nested(crc: Crc, column: &ColumnType, value: &Value, out: &mut Vec<u8>) -> Crc {
    match (column, value) {
        (ColumnType::Array(element), Value::Array(elements)) => {
            push_varint(out, elements.len() as u64);
            elements.iter().fold(crc, |crc, value| push_nullable(crc, element, value.as_ref(), out))
        }
        (ColumnType::Map(to_key, to_value), Value::Map(entries)) => {
            push_varint(out, entries.len() as u64);
            let crc = entries
                .iter()
                .fold(crc, |crc, (key, _)| push_nullable(crc, to_key, Some(key), out));
            push_varint(out, entries.len() as u64);
            entries
                .iter()
                .fold(crc, |crc, (_, value)| push_nullable(crc, to_value, value.as_ref(), out))
        }
        (ColumnType::Struct(fields), Value::Struct(values)) => fields
            .iter()
            .zip(values)
            .fold(crc, |crc, ((_, field), value)| push_nullable(crc, field, value.as_ref(), out)),
        _ => unreachable!("the caller has checked that the value fits its column"),
    }
}

/// A null flag, 1 for null, and the value. The flag is not part of the checksum.
fn push_nullable(crc: Crc, column: &ColumnType, value: Option<&Value>, out: &mut Vec<u8>) -> Crc {
    out.push(u8::from(value.is_none()));
    match value {
        Some(value) => push_value(crc, column, value, out),
        None => crc,
    }
}

fn push_integer(crc: Crc, value: i64, out: &mut Vec<u8>) -> Crc {
    push_varint(out, zigzag(value));
    crc.bytes(&value.to_le_bytes())
}

fn push_time(crc: Crc, seconds: i64, nanos: i32, out: &mut Vec<u8>) -> Crc {
    let crc = push_integer(crc, seconds, out);
    push_varint(out, zigzag(i64::from(nanos)));
    crc.word(nanos as u32)
}

fn push_bytes(crc: Crc, bytes: &[u8], out: &mut Vec<u8>) -> Crc {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    crc.bytes(bytes)
}
