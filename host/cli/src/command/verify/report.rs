//! The report of `verify`, as one JSON document or for people: what was compared, and the first
//! wrong keys with their values.
//!
//! The last step of `mod.rs`. Invariant: a value is written so that two different ones look
//! different, unless they are cut for their length; text of the table cannot move a terminal's
//! cursor.

use std::fmt::Write;

use serde::Serialize;
use upsert_sink_format::partition::write_date;
use upsert_sink_format::record::{Value, decimal_text};
use upsert_sink_format::schema::ColumnType;

use super::changes::Partitions;
use super::codec::{BucketPlace, RowCodec};
use super::compare::{Mismatch, WrongKey};
use crate::report::{bytes, thousands};

/// The result of `verify`.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct VerifyReport {
    /// The table.
    pub(super) table: String,
    /// The checkpoint that it was compared at.
    pub(super) checkpoint: u64,
    /// Events of the source before that checkpoint.
    pub(super) events: u64,
    /// Whether all rows are as they should be.
    pub(super) equal: bool,
    /// Partitions of either side.
    pub(super) partitions: u64,
    /// Buckets whose sums were compared: all of those partitions.
    pub(super) buckets: u64,
    /// Buckets whose sums differ.
    pub(super) buckets_differing: u64,
    /// Rows that the source leaves.
    pub(super) rows_expected: u64,
    /// Rows of the table.
    pub(super) rows_found: u64,
    /// Rows of the source that break a rule of the table, and were set aside by the sink.
    pub(super) rows_refused: u64,
    /// Times of the source that a datetime cuts to milliseconds.
    pub(super) times_cut: u64,
    /// Wrong keys that were found.
    pub(super) wrong_keys: u64,
    /// Whether these are all: a search that needs several rounds ends when enough are named.
    pub(super) wrong_keys_complete: bool,
    /// The first of them.
    pub(super) wrong: Vec<WrongRow>,
    /// Remarks, for people.
    pub(super) notes: Vec<String>,
    /// Bytes of rows that did not fit in memory, and were written to disk.
    pub(super) spilled_bytes: u64,
    /// Parts in which the rows were folded.
    pub(super) parts: u64,
    /// The most memory this process had, an embedded server included.
    pub(super) peak_rss_bytes: Option<u64>,
}

/// A wrong key, in words.
#[derive(Clone, Debug, Serialize)]
pub(super) struct WrongRow {
    /// `missing`, `stale` or `extra`.
    pub(super) mismatch: &'static str,
    /// Empty for a table without partitions.
    pub(super) partition: String,
    pub(super) bucket: u32,
    /// The columns of the primary key.
    pub(super) key: Vec<ShownValue>,
    /// The columns that differ: all but the key's if one side has no row.
    pub(super) columns: Vec<ShownDifference>,
}

/// A value, in words; null if it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownValue {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// A column of both sides. A side that has no row has no value either.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownDifference {
    pub(super) name: String,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
}

impl WrongRow {
    /// A wrong key with its values.
    pub(super) fn of(
        wrong: &WrongKey,
        codec: &RowCodec,
        partitions: &Partitions,
    ) -> anyhow::Result<Self> {
        let place = BucketPlace::of(&wrong.key);
        let none = || vec![None; codec.types.len()];
        let (mismatch, expected, found) = match &wrong.mismatch {
            Mismatch::Extra(found) => ("extra", none(), codec.values(found)?),
            Mismatch::Missing(expected) => ("missing", codec.values(expected)?, none()),
            Mismatch::Stale(expected, found) => {
                ("stale", codec.values(expected)?, codec.values(found)?)
            }
        };
        let columns = codec.schema.columns.iter().zip(expected.iter().zip(&found)).enumerate();
        let columns = columns.filter(|(at, (_, (expected, found)))| {
            !codec.schema.key.contains(at) && is_different(expected, found)
        });
        let columns = columns.map(|(_, (column, (expected, found)))| ShownDifference {
            name: column.name.clone(),
            expected: shown(&column.column_type, expected.as_ref()),
            found: shown(&column.column_type, found.as_ref()),
        });
        let values = codec.key_values(&wrong.key)?;
        let key = codec.schema.key_columns().zip(&values).map(|(column, value)| ShownValue {
            name: column.name.clone(),
            value: shown(&column.column_type, value.as_ref()),
        });
        Ok(Self {
            mismatch,
            partition: String::from(partitions.name(place.partition)),
            bucket: place.bucket,
            key: key.collect(),
            columns: columns.collect(),
        })
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| String::from("null"));
        let partition = match self.partition.as_str() {
            "" => String::new(),
            partition => format!("{partition}, "),
        };
        let key = self.key.iter().map(|key| format!("{}={}", key.name, text(&key.value)));
        let key: Vec<String> = key.collect();
        let column = |one: &ShownDifference| match self.mismatch {
            "extra" => format!("{}={}", one.name, text(&one.found)),
            "missing" => format!("{}={}", one.name, text(&one.expected)),
            _ => format!(
                "{}: the table says {}, the source {}",
                one.name,
                text(&one.found),
                text(&one.expected)
            ),
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!(
            "{:<7}  {partition}bucket {}, {}  ({})",
            self.mismatch,
            self.bucket,
            key.join(", "),
            columns.join("; ")
        )
    }
}

impl VerifyReport {
    /// The figures, one per line.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            (
                "table",
                format!(
                    "{} at checkpoint {}, after {} events",
                    self.table,
                    self.checkpoint,
                    thousands(self.events)
                ),
            ),
            (
                "rows",
                format!(
                    "{} in the fold of the source, {} in the table",
                    thousands(self.rows_expected),
                    thousands(self.rows_found)
                ),
            ),
            (
                "buckets",
                format!(
                    "{} of {} partitions compared, {} differ",
                    thousands(self.buckets),
                    thousands(self.partitions),
                    thousands(self.buckets_differing)
                ),
            ),
        ];
        if self.rows_refused > 0 {
            let refused = format!("{} rows that break a rule", thousands(self.rows_refused));
            lines.push(("set aside", refused));
        }
        if self.times_cut > 0 {
            let cut = format!("{} times, to the milliseconds of a datetime", self.times_cut);
            lines.push(("cut", cut));
        }
        if self.spilled_bytes > 0 {
            let parts = thousands(self.parts);
            lines.push(("spilled", format!("{} in {parts} parts", bytes(self.spilled_bytes))));
        }
        if let Some(peak) = self.peak_rss_bytes {
            lines.push(("memory", format!("{} at most", bytes(peak))));
        }
        lines.extend(self.notes.iter().map(|note| ("note", note.clone())));
        lines
    }
}

/// NaN is like itself here, as it is in the bytes of rows.
fn is_different(one: &Option<Value>, other: &Option<Value>) -> bool {
    format!("{one:?}") != format!("{other:?}")
}

/// A value in words.
fn shown(column: &ColumnType, value: Option<&Value>) -> Option<String> {
    value.map(|value| cut(&text(column, value)))
}

fn text(column: &ColumnType, value: &Value) -> String {
    match (value, column) {
        (Value::Bytes(bytes), ColumnType::Binary) => {
            let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
            format!("0x{}", digits.collect::<String>())
        }
        (Value::Bytes(bytes), _) => format!("{:?}", String::from_utf8_lossy(bytes)),
        (Value::Bool(value), _) => value.to_string(),
        (Value::Int(number), _) => number.to_string(),
        (Value::Float(number), _) => format!("{number:?}"),
        (Value::Double(number), _) => format!("{number:?}"),
        (Value::Decimal(unscaled), ColumnType::Decimal { scale, .. }) => {
            decimal_text(*unscaled, *scale)
        }
        (Value::Decimal(unscaled), _) => unscaled.to_string(),
        (Value::Date(days), _) => day(*days),
        (Value::Datetime(millis), _) => {
            let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
            format!("{}.{millis:03}", time(seconds))
        }
        (Value::Timestamp { seconds, nanos }, _) => format!("{}.{nanos:09}", time(*seconds)),
        (Value::DayTime { seconds, nanos }, _) => format!("{seconds} s {nanos} ns"),
        (Value::YearMonth(months), _) => format!("{months} months"),
        (Value::Array(values), ColumnType::Array(of)) => {
            let values = values.iter().map(|value| or_null(of, value.as_ref()));
            format!("[{}]", values.collect::<Vec<_>>().join(", "))
        }
        (Value::Map(entries), ColumnType::Map(key, of)) => {
            let entry = |(k, v): &(Value, Option<Value>)| {
                format!("{}: {}", text(key, k), or_null(of, v.as_ref()))
            };
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        (Value::Struct(values), ColumnType::Struct(fields)) => {
            let field = |((name, of), value): (&(String, ColumnType), &Option<Value>)| {
                format!("{name}: {}", or_null(of, value.as_ref()))
            };
            let fields = fields.iter().zip(values).map(field);
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        (other, _) => format!("{other:?}"),
    }
}

fn or_null(column: &ColumnType, value: Option<&Value>) -> String {
    value.map_or_else(|| String::from("null"), |value| text(column, value))
}

fn day(days: i64) -> String {
    let mut text = [0; 10];
    match write_date(days, &mut text) {
        Some(_) => String::from_utf8_lossy(&text).into_owned(),
        None => format!("day {days}"),
    }
}

fn time(seconds: i64) -> String {
    let of_day = seconds.rem_euclid(DAY);
    let (hours, minutes, seconds_left) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let day = day(seconds.div_euclid(DAY));
    format!("{day} {hours:02}:{minutes:02}:{seconds_left:02}")
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        None => String::from(text),
        Some((end, _)) => {
            let mut shown = String::from(&text[..end]);
            let left = text[end..].chars().count();
            write!(shown, "… and {left} characters more").expect("a string takes all writes");
            shown
        }
    }
}

const DAY: i64 = 86_400;
/// Characters of a value that are shown.
const SHOWN_MAX: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::verify::codec::tests::{codec, text as text_value};

    fn show(column: &str, value: Value) -> String {
        shown(&ColumnType::parse(column).expect("a type"), Some(&value)).expect("a value")
    }

    #[test]
    fn values_are_shown_as_people_write_them() {
        let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
        for (column, value, expected) in [
            ("bigint", Value::Int(-7), "-7"),
            ("string", bytes(b"a\"\x1b["), "\"a\\\"\\u{1b}[\""),
            ("binary", bytes(&[0, 255]), "0x00ff"),
            ("decimal(5,2)", Value::Decimal(-150), "-1.50"),
            ("date", Value::Date(15_706), "2013-01-01"),
            ("datetime", Value::Datetime(-1), "1969-12-31 23:59:59.999"),
            (
                "timestamp",
                Value::Timestamp { seconds: 3_661, nanos: 5 },
                "1970-01-01 01:01:01.000000005",
            ),
            ("array<int>", Value::Array(vec![Some(Value::Int(1)), None]), "[1, null]"),
            ("map<string,int>", Value::Map(vec![(bytes(b"k"), None)]), "{\"k\": null}"),
            ("struct<a:double>", Value::Struct(vec![Some(Value::Double(1.0))]), "{a: 1.0}"),
        ] {
            assert_eq!(show(column, value), expected, "{column}");
        }
        let long = show("string", bytes(&[b'x'; 500]));
        assert!(long.ends_with("xx… and 382 characters more"), "{long}");
    }

    #[test]
    fn a_stale_row_names_the_columns_that_differ_with_both_values() {
        let codec = codec(&["a string", "b string"]);
        let row = |a, b| codec.row(vec![Some(Value::Int(9)), a, b]);
        let key = codec.key(0, &[Some(Value::Int(9)), None, None]).expect("hashable");
        let mut partitions = Partitions::default();
        partitions.number("day='mon'");
        let shown = |mismatch| {
            let wrong = WrongKey { key: key.clone(), mismatch };
            WrongRow::of(&wrong, &codec, &partitions).expect("rows of this table").line()
        };
        let bucket = BucketPlace::of(&key).bucket;
        let (new, old) = (row(text_value("x"), text_value("new")), row(text_value("x"), None));
        assert_eq!(
            shown(Mismatch::Stale(new.clone(), old)),
            format!(
                "stale    day='mon', bucket {bucket}, id=9  (b: the table says null, the source \
                 \"new\")"
            )
        );
        assert_eq!(
            shown(Mismatch::Missing(new)),
            format!("missing  day='mon', bucket {bucket}, id=9  (a=\"x\"; b=\"new\")")
        );
    }
}
