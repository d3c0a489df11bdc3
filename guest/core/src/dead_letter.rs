//! A refused row as a line of JSON, for `sink.invalid-row = dead-letter`.
//!
//! Off a row's way: a row that breaks a rule leaves here instead of being buffered. Invariant: one
//! line a row, with the rule it broke and every value the engine handed over, so that it can be
//! corrected and replayed.
//!
//! Numbers are JSON numbers; decimals are texts; bytes are hexadecimal; dates are days, times are
//! counts of their column's unit since 1970-01-01 UTC, of nanoseconds if they are instants; maps
//! are lists of pairs; floats that JSON cannot hold are texts.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;

use upsert_sink_format::batch::{Column, RowBatch, RowFault, RowKind, Values};
use upsert_sink_format::record::decimal_text;
use upsert_sink_format::schema::RowType;

/// One line, with its line end.
pub(crate) fn line(
    batch: &RowBatch<'_>,
    row: usize,
    columns: &[(String, RowType)],
    fault: &RowFault,
) -> Vec<u8> {
    let kind = match batch.kind(row) {
        RowKind::Insert => "insert",
        RowKind::UpdateBefore => "update-before",
        RowKind::UpdateAfter => "update-after",
        RowKind::Delete => "delete",
    };
    let mut json = String::from("{\"column\":");
    text(&mut json, &fault.column);
    json.push_str(",\"rule\":");
    text(&mut json, &fault.rule);
    json.push_str(",\"kind\":");
    text(&mut json, kind);
    json.push_str(",\"row\":{");
    for (index, (name, _)) in columns.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        text(&mut json, name);
        json.push(':');
        value(&mut json, batch.column(index), row);
    }
    json.push_str("}}\n");
    json.into_bytes()
}

fn value(json: &mut String, column: &Column<'_>, row: usize) {
    if column.is_null(row) {
        json.push_str("null");
        return;
    }
    match &column.values {
        Values::Bool(bits) => {
            json.push_str(if upsert_sink_format::batch::bit(bits, row) { "true" } else { "false" });
        }
        Values::Int8(_) | Values::Int16(_) | Values::Int32(_) | Values::Int64(_) => {
            let integer = column.integer(row).expect("it is an integer and not null");
            json.push_str(&integer.to_string());
        }
        Values::Float32(values) => float(json, f64::from(f32::from_le_bytes(values[row]))),
        Values::Float64(values) => float(json, f64::from_le_bytes(values[row])),
        Values::Decimal128 { scale, unscaled } => {
            text(json, &decimal_text(i128::from_le_bytes(unscaled[row]), *scale));
        }
        Values::Utf8(slices) => text(json, &String::from_utf8_lossy(slices.bytes(row))),
        Values::Binary(slices) => {
            let hex: String = slices.bytes(row).iter().map(|byte| format!("{byte:02x}")).collect();
            text(json, &hex);
        }
        Values::Date32(values) | Values::Months(values) => {
            json.push_str(&i32::from_le_bytes(values[row]).to_string());
        }
        Values::Timestamp(_, values) | Values::Duration(_, values) => {
            json.push_str(&i64::from_le_bytes(values[row]).to_string());
        }
        Values::Instant { seconds, nanos } => {
            let seconds = i128::from(i64::from_le_bytes(seconds[row]));
            let nanos = i128::from(u32::from_le_bytes(nanos[row]));
            json.push_str(&(seconds * 1_000_000_000 + nanos).to_string());
        }
        Values::List(..) | Values::Map(..) | Values::Struct(_) => nested(json, column, row),
    }
}

/// Types bound the depth.
fn nested(json: &mut String, column: &Column<'_>, row: usize) {
    match &column.values {
        Values::List(offsets, elements) => {
            list(json, bounds(offsets, row), |json, at| value(json, elements, at));
        }
        Values::Map(offsets, entries) => {
            let keys = &entries.0;
            let values = &entries.1;
            list(json, bounds(offsets, row), |json, at| {
                json.push('[');
                value(json, keys, at);
                json.push(',');
                value(json, values, at);
                json.push(']');
            });
        }
        Values::Struct(fields) => {
            list(json, 0..fields.len(), |json, at| value(json, &fields[at], row))
        }
        _ => unreachable!("only nested columns come here"),
    }
}

fn bounds(offsets: &[[u8; 4]], row: usize) -> core::ops::Range<usize> {
    let at = |index: usize| {
        usize::try_from(i32::from_le_bytes(offsets[index])).expect("offsets were validated")
    };
    at(row)..at(row + 1)
}

fn list(
    json: &mut String,
    range: core::ops::Range<usize>,
    mut item: impl FnMut(&mut String, usize),
) {
    json.push('[');
    for (position, at) in range.enumerate() {
        if position > 0 {
            json.push(',');
        }
        item(json, at);
    }
    json.push(']');
}

fn float(json: &mut String, number: f64) {
    if number.is_finite() {
        json.push_str(&number.to_string());
    } else {
        text(json, &number.to_string());
    }
}

fn text(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => {
                write!(json, "\\u{:04x}", u32::from(control)).expect("a string takes all writes");
            }
            other => json.push(other),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder};
    use upsert_sink_format::schema::RowPlan;

    use super::*;

    /// Also of years that a count of 64 bits does not reach.
    #[test]
    fn an_instant_is_a_count_of_nanoseconds() {
        let instants = [Some((-1, 999_999_999)), Some((-70_000_000_000, 5)), None];
        let bytes = BatchBuilder::new(3).column(ColumnBuilder::instants(instants)).build();
        let row_columns = alloc::vec![("at".into(), RowType::TimestampLtz(3))];
        let plan =
            RowPlan { row_columns, columns: alloc::vec![], partition_columns: alloc::vec![] };
        let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
        let shown = |row| {
            let mut json = String::new();
            value(&mut json, batch.column(0), row);
            json
        };
        assert_eq!([0, 1, 2].map(shown), ["-1", "-69999999999999999995", "null"]);
    }

    #[test]
    fn texts_are_escaped_as_json_wants_them() {
        let mut json = String::new();
        text(&mut json, "a\"b\\c\n\u{1}é");
        assert_eq!(json, "\"a\\\"b\\\\c\\n\\u0001é\"");
    }
}
