//! Rows as text: what an instance's `result` says of a query.
//!
//! Between `kept` and `route/instance/mod.rs`. Invariant: the first line names the columns, null is
//! `\N`, and texts are in double quotes, doubled within.

use std::fmt::Write;

use arrow_array::RecordBatch;
use arrow_array::temporal_conversions::{date32_to_datetime, timestamp_ms_to_datetime};
use upsert_sink_format::record::{Value, decimal_text};
use upsert_sink_format::schema::ColumnType;

use super::cells::cells;
use super::shape::Shape;

/// The line of the columns' names.
pub(crate) fn header(shape: &Shape, out: &mut String) {
    let names: Vec<String> = shape.columns.iter().map(|c| quoted(&c.name)).collect();
    out.push_str(&names.join(","));
    out.push('\n');
}

/// One line for each row.
pub(crate) fn rows(shape: &Shape, batch: &RecordBatch, out: &mut String) {
    let columns = shape.columns.iter().zip(batch.columns());
    let columns: Vec<_> = columns.map(|(c, array)| cells(&c.column_type, array)).collect();
    for row in 0..batch.num_rows() {
        for (at, values) in columns.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            let column = &shape.columns[at].column_type;
            match &values[row] {
                None => out.push_str(NULL),
                Some(value) => out.push_str(&field(column, value)),
            }
        }
        out.push('\n');
    }
}

fn field(column: &ColumnType, value: &Value) -> String {
    let text = text(column, value);
    let is_number = column.integer_range().is_some()
        || matches!(
            column,
            ColumnType::Float
                | ColumnType::Double
                | ColumnType::Decimal { .. }
                | ColumnType::Boolean
        );
    if is_number { text } else { quoted(&text) }
}

/// A value as MaxCompute shows it.
fn text(column: &ColumnType, value: &Value) -> String {
    match (column, value) {
        (_, Value::Bool(value)) => value.to_string(),
        (_, Value::Int(value)) => value.to_string(),
        (_, Value::Float(value)) => value.to_string(),
        (_, Value::Double(value)) => value.to_string(),
        (ColumnType::Decimal { scale, .. }, Value::Decimal(unscaled)) => {
            decimal_text(*unscaled, *scale)
        }
        (ColumnType::Binary, Value::Bytes(bytes)) => printable(bytes),
        (_, Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        (_, Value::Date(days)) => date(*days),
        (_, Value::Datetime(millis)) => datetime(*millis),
        (_, Value::Timestamp { seconds, nanos }) => timestamp(*seconds, *nanos),
        (_, Value::YearMonth(months)) => {
            let sign = if *months < 0 { "-" } else { "" };
            let months = months.unsigned_abs();
            format!("{sign}{}-{}", months / 12, months % 12)
        }
        (_, Value::DayTime { seconds, nanos }) => day_time(*seconds, *nanos),
        (ColumnType::Array(element), Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(|v| nested(element, v.as_ref())).collect();
            format!("[{}]", values.join(","))
        }
        (ColumnType::Map(of_key, of_value), Value::Map(entries)) => {
            let entry = |(key, value): &(Value, Option<Value>)| {
                format!("{}:{}", nested(of_key, Some(key)), nested(of_value, value.as_ref()))
            };
            let entries: Vec<String> = entries.iter().map(entry).collect();
            format!("{{{}}}", entries.join(","))
        }
        (ColumnType::Struct(fields), Value::Struct(values)) => {
            let field = |((name, column), value): (&(String, ColumnType), &Option<Value>)| {
                format!("{name}:{}", nested(column, value.as_ref()))
            };
            let fields: Vec<String> = fields.iter().zip(values).map(field).collect();
            format!("{{{}}}", fields.join(","))
        }
        (column, value) => unreachable!("{value:?} came out of a column of {column}"),
    }
}

fn nested(column: &ColumnType, value: Option<&Value>) -> String {
    match value {
        None => NULL.to_owned(),
        Some(value) if column.is_text() => {
            let text = text(column, value).replace('\\', "\\\\").replace('"', "\\\"");
            format!("\"{text}\"")
        }
        Some(value) => text(column, value),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// Bytes with all but the printable ones as `=` and two digits, as the vendor's Java client shows
/// them.
fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'=' | ..=0x1f | 0x7f.. => {
                write!(text, "={byte:02X}").expect("a string can be written to");
            }
            _ => text.push(char::from(*byte)),
        }
    }
    text
}

fn date(days: i64) -> String {
    let date = i32::try_from(days).ok().and_then(date32_to_datetime);
    date.map_or_else(|| format!("{days} days"), |time| time.date().to_string())
}

fn datetime(millis: i64) -> String {
    match timestamp_ms_to_datetime(millis) {
        Some(time) if millis.rem_euclid(1000) == 0 => time.format("%Y-%m-%d %H:%M:%S").to_string(),
        Some(time) => time.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
        None => format!("{millis} ms"),
    }
}

fn timestamp(seconds: i64, nanos: u32) -> String {
    let whole = seconds.checked_mul(1000).map(datetime).unwrap_or_default();
    match nanos {
        0 => whole,
        nanos => {
            let digits = format!("{nanos:09}");
            format!("{whole}.{}", digits.trim_end_matches('0'))
        }
    }
}

fn day_time(seconds: i64, nanos: i32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let sign = if total < 0 { "-" } else { "" };
    let (seconds, nanos) =
        (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let days = seconds / 86_400;
    let rest = seconds % 86_400;
    format!("{sign}{days} {:02}:{:02}:{:02}.{nanos:09}", rest / 3600, rest / 60 % 60, rest % 60)
}

const NULL: &str = "\\N";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_the_vendor_shows_them() {
        let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        for (column, value, shown) in [
            ("bigint", Value::Int(-7), "-7"),
            ("double", Value::Double(1e21), "1000000000000000000000"),
            ("decimal(10,2)", Value::Decimal(-12345), "-123.45"),
            ("boolean", Value::Bool(true), "true"),
            ("string", text("it's \"so\", he\nsaid"), "\"it's \"\"so\"\", he\nsaid\""),
            ("binary", Value::Bytes(b"a=\0\xff".to_vec()), "\"a=3D=00=FF\""),
            ("date", Value::Date(-1), "\"1969-12-31\""),
            ("datetime", Value::Datetime(-1), "\"1969-12-31 23:59:59.999\""),
            ("datetime", Value::Datetime(1000), "\"1970-01-01 00:00:01\""),
            (
                "timestamp",
                Value::Timestamp { seconds: -1, nanos: 50 },
                "\"1969-12-31 23:59:59.00000005\"",
            ),
            ("interval_year_month", Value::YearMonth(-14), "\"-1-2\""),
            (
                "interval_day_time",
                Value::DayTime { seconds: -1, nanos: 500_000_000 },
                "\"-0 00:00:00.500000000\"",
            ),
            ("array<bigint>", Value::Array(vec![Some(Value::Int(1)), None]), "\"[1,\\N]\""),
            ("map<string,int>", Value::Map(vec![(text("k"), None)]), "\"{\"\"k\"\":\\N}\""),
            (
                "struct<a:int,b:string>",
                Value::Struct(vec![Some(Value::Int(1)), Some(text("x"))]),
                "\"{a:1,b:\"\"x\"\"}\"",
            ),
        ] {
            let column = ColumnType::parse(column).expect("a type");
            assert_eq!(field(&column, &value), shown, "{column}");
        }
    }
}
