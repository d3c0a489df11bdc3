//! Columns of the source as values of the table: the documented conversions, written a second time.
//!
//! Under `changes.rs`. Invariant: nothing here is shared with the conversion that the sink uses, so
//! a mistake there cannot hide here; a value that the table cannot hold is a rule that it breaks,
//! never another value. The one loss that is documented, times cut to the milliseconds of a
//! datetime, is counted.

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float32Type, Float64Type,
    Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::ColumnType;

use crate::source::parquet::plain_type;

/// A value, none for a null; or the rule of the table that it breaks.
pub(super) type Cell = Result<Option<Value>, String>;

/// Converts the columns of the source, and counts what is cut.
#[derive(Debug, Default)]
pub(super) struct Converter {
    /// Times that were cut to milliseconds.
    pub(super) cut: u64,
}

impl Converter {
    /// The values of a column.
    ///
    /// Errors: a type of column that has no place in this type of the table.
    pub(super) fn cells(
        &mut self,
        column: &ArrayRef,
        to: &ColumnType,
    ) -> anyhow::Result<Vec<Cell>> {
        let array = &plain(column)?;
        let whole = |value: i64| Ok(Value::Int(value));
        Ok(match array.data_type() {
            DataType::Boolean => {
                array.as_boolean().iter().map(|v| Ok(v.map(Value::Bool))).collect()
            }
            DataType::Int8 => each::<Int8Type>(array, |v| whole(v.into())),
            DataType::Int16 => each::<Int16Type>(array, |v| whole(v.into())),
            DataType::Int32 => each::<Int32Type>(array, |v| whole(v.into())),
            DataType::Int64 => each::<Int64Type>(array, whole),
            DataType::Float32 if *to == ColumnType::Double => {
                each::<Float32Type>(array, |v| Ok(Value::Double(v.into())))
            }
            DataType::Float32 => each::<Float32Type>(array, |v| Ok(Value::Float(v))),
            DataType::Float64 => each::<Float64Type>(array, |v| Ok(Value::Double(v))),
            DataType::Decimal128(_, scale) => {
                let scale = *scale;
                each::<Decimal128Type>(array, |v| decimal(v, scale, to))
            }
            DataType::Utf8 => {
                let texts = array.as_string::<i32>().iter();
                texts.map(|v| v.map(|v| bytes(v.as_bytes(), to)).transpose()).collect()
            }
            DataType::Binary => {
                let values = array.as_binary::<i32>().iter();
                values.map(|v| v.map(|v| bytes(v, to)).transpose()).collect()
            }
            DataType::Date32 => each::<Date32Type>(array, |v| date(v.into())),
            DataType::Timestamp(unit, _) => self.times(array, *unit, to),
            DataType::Duration(unit) => spans(array, *unit),
            DataType::Interval(IntervalUnit::YearMonth) => {
                each::<IntervalYearMonthType>(array, |v| Ok(Value::YearMonth(v.into())))
            }
            DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => {
                self.nested(array, to)?
            }
            other => anyhow::bail!("a column of {other} has no place in {to}"),
        })
    }

    fn times(&mut self, array: &ArrayRef, unit: TimeUnit, to: &ColumnType) -> Vec<Cell> {
        let is_datetime = *to == ColumnType::Datetime;
        let mut cut = 0;
        let mut time = |value: i64, per_second: i64| {
            let seconds = value.div_euclid(per_second);
            let nanos = value.rem_euclid(per_second) * (NANOS / per_second);
            if !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
                return Err(String::from("a time lies between the years 0001 and 9999"));
            }
            if !is_datetime {
                let nanos = u32::try_from(nanos).expect("less than a second");
                return Ok(Value::Timestamp { seconds, nanos });
            }
            cut += u64::from(nanos % NANOS_OF_MILLI != 0);
            Ok(Value::Datetime(seconds * 1000 + nanos / NANOS_OF_MILLI))
        };
        let cells = match unit {
            TimeUnit::Second => each::<TimestampSecondType>(array, |v| time(v, 1)),
            TimeUnit::Millisecond => each::<TimestampMillisecondType>(array, |v| time(v, 1000)),
            TimeUnit::Microsecond => {
                each::<TimestampMicrosecondType>(array, |v| time(v, 1_000_000))
            }
            TimeUnit::Nanosecond => each::<TimestampNanosecondType>(array, |v| time(v, NANOS)),
        };
        self.cut += cut;
        cells
    }

    /// Lists, maps and structs: the values of all rows at once, then dealt out.
    fn nested(&mut self, array: &ArrayRef, to: &ColumnType) -> anyhow::Result<Vec<Cell>> {
        match (array.data_type(), to) {
            (DataType::List(_), ColumnType::Array(to)) => {
                let list = array.as_list::<i32>();
                let values = self.cells(list.values(), to)?;
                let row = |range: std::ops::Range<usize>| {
                    values[range].iter().cloned().collect::<Result<_, _>>().map(Value::Array)
                };
                Ok(rows_of(array, list.value_offsets(), row))
            }
            (DataType::Map(_, _), ColumnType::Map(to_key, to_value)) => {
                let map = array.as_map();
                let keys = self.cells(map.keys(), to_key)?;
                let values = self.cells(map.values(), to_value)?;
                let entry = |at: usize| {
                    let key = keys[at].clone()?.ok_or("a map's key is null")?;
                    Ok((key, values[at].clone()?))
                };
                let row = |range: std::ops::Range<usize>| {
                    range.map(entry).collect::<Result<_, String>>().map(Value::Map)
                };
                Ok(rows_of(array, map.value_offsets(), row))
            }
            (DataType::Struct(_), ColumnType::Struct(fields)) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                let columns = columns.map(|(column, (_, to))| self.cells(column, to));
                let columns = columns.collect::<anyhow::Result<Vec<_>>>()?;
                let row = |at: usize| {
                    let values = columns.iter().map(|column| column[at].clone());
                    values.collect::<Result<_, _>>().map(|values| Some(Value::Struct(values)))
                };
                let rows = 0..array.len();
                Ok(rows.map(|at| if array.is_null(at) { Ok(None) } else { row(at) }).collect())
            }
            (other, to) => anyhow::bail!("a column of {other} has no place in {to}"),
        }
    }
}

/// The same values in the type that stands for all of its kind.
fn plain(column: &ArrayRef) -> anyhow::Result<ArrayRef> {
    let plain = plain_type(column.data_type());
    if plain == *column.data_type() {
        return Ok(column.clone());
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, &plain, &exact).context("a column that has no plain form")
}

fn each<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    mut value: impl FnMut(T::Native) -> Result<Value, String>,
) -> Vec<Cell> {
    array.as_primitive::<T>().iter().map(|v| v.map(&mut value).transpose()).collect()
}

fn rows_of(
    array: &ArrayRef,
    offsets: &[i32],
    row: impl Fn(std::ops::Range<usize>) -> Result<Value, String>,
) -> Vec<Cell> {
    let place = |at: usize| usize::try_from(offsets[at]).expect("offsets are not negative");
    let cell = |at: usize| match array.is_null(at) {
        true => Ok(None),
        false => row(place(at)..place(at + 1)).map(Some),
    };
    (0..array.len()).map(cell).collect()
}

fn spans(array: &ArrayRef, unit: TimeUnit) -> Vec<Cell> {
    let span = |value: i64, per_second: i64| {
        let nanos = value.rem_euclid(per_second) * (NANOS / per_second);
        let nanos = i32::try_from(nanos).expect("less than a second");
        Ok(Value::DayTime { seconds: value.div_euclid(per_second), nanos })
    };
    match unit {
        TimeUnit::Second => each::<DurationSecondType>(array, |v| span(v, 1)),
        TimeUnit::Millisecond => each::<DurationMillisecondType>(array, |v| span(v, 1000)),
        TimeUnit::Microsecond => each::<DurationMicrosecondType>(array, |v| span(v, 1_000_000)),
        TimeUnit::Nanosecond => each::<DurationNanosecondType>(array, |v| span(v, NANOS)),
    }
}

/// The same number at the table's scale.
fn decimal(unscaled: i128, scale: i8, to: &ColumnType) -> Result<Value, String> {
    let ColumnType::Decimal { precision, scale: to_scale } = to else {
        return Err(format!("a decimal is no {to}"));
    };
    let more = u32::try_from(i16::from(*to_scale) - i16::from(scale));
    let factor = more.ok().and_then(|digits| 10_i128.checked_pow(digits));
    let value = factor.and_then(|factor| unscaled.checked_mul(factor));
    let fits = |value: &i128| value.unsigned_abs() < 10_u128.pow(u32::from(*precision));
    value.filter(fits).map(Value::Decimal).ok_or_else(|| format!("it is no {to}"))
}

fn bytes(bytes: &[u8], to: &ColumnType) -> Result<Value, String> {
    let fits = match to {
        ColumnType::Char(most) | ColumnType::Varchar(most) => {
            String::from_utf8_lossy(bytes).chars().count() <= *most as usize
        }
        _ => bytes.len() <= TEXT_BYTES_MAX,
    };
    if fits { Ok(Value::Bytes(bytes.to_vec())) } else { Err(format!("it is too long for {to}")) }
}

fn date(days: i64) -> Result<Value, String> {
    let years = SECONDS_MIN / DAY..=SECONDS_MAX / DAY;
    match years.contains(&days) {
        true => Ok(Value::Date(days)),
        false => Err(String::from("a date lies between the years 0001 and 9999")),
    }
}

const NANOS: i64 = 1_000_000_000;
const NANOS_OF_MILLI: i64 = 1_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01T00:00:00 and 9999-12-31T23:59:59.
const SECONDS_MIN: i64 = -62_135_596_800;
const SECONDS_MAX: i64 = 253_402_300_799;
/// The longest string or binary of a table.
const TEXT_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
    use arrow_array::{
        Date32Array, Decimal128Array, Float32Array, Int32Array, LargeStringArray, ListArray,
        StringArray, StructArray, TimestampMicrosecondArray, UInt64Array,
    };
    use arrow_schema::{Field, Fields};

    use super::*;

    fn cells(array: impl Array + 'static, to: &str) -> (Vec<Cell>, u64) {
        let mut converter = Converter::default();
        let to = ColumnType::parse(to).expect("a type");
        let cells = converter.cells(&(Arc::new(array) as ArrayRef), &to).expect("it has a place");
        (cells, converter.cut)
    }

    fn one(array: impl Array + 'static, to: &str) -> Cell {
        cells(array, to).0.remove(0)
    }

    #[test]
    fn values_become_those_of_the_table() {
        let text = |text: &str| Ok(Some(Value::Bytes(text.into())));
        assert_eq!(one(Int32Array::from(vec![-3]), "bigint"), Ok(Some(Value::Int(-3))));
        assert_eq!(one(Int32Array::from(vec![None]), "bigint"), Ok(None));
        assert_eq!(one(Float32Array::from(vec![1.5]), "double"), Ok(Some(Value::Double(1.5))));
        assert_eq!(one(LargeStringArray::from(vec!["ü"]), "varchar(1)"), text("ü"));
        let cents = Decimal128Array::from(vec![-150]).with_precision_and_scale(5, 2);
        let cents = cents.expect("they fit");
        assert_eq!(one(cents, "decimal(12,4)"), Ok(Some(Value::Decimal(-15_000))));
        let large = UInt64Array::from(vec![u64::MAX]);
        assert_eq!(one(large, "decimal(20,0)"), Ok(Some(Value::Decimal(u64::MAX.into()))));
    }

    #[test]
    fn times_that_are_cut_are_counted() {
        let times = || TimestampMicrosecondArray::from(vec![Some(-1), Some(2_000), None]);
        let datetime = vec![Ok(Some(Value::Datetime(-1))), Ok(Some(Value::Datetime(2))), Ok(None)];
        assert_eq!(cells(times(), "datetime"), (datetime, 1));
        let (exact, cut) = cells(times(), "timestamp");
        assert_eq!(exact[0], Ok(Some(Value::Timestamp { seconds: -1, nanos: 999_999_000 })));
        assert_eq!(cut, 0);
    }

    #[test]
    fn a_value_that_the_table_cannot_hold_is_a_broken_rule() {
        assert!(one(StringArray::from(vec!["abcdef"]), "varchar(5)").is_err());
        assert!(one(StringArray::from(vec!["abcde"]), "varchar(5)").is_ok());
        assert!(one(Date32Array::from(vec![i32::MAX]), "date").is_err());
        let times = TimestampMicrosecondArray::from(vec![i64::MIN]);
        assert!(one(times, "datetime").is_err());
        let large = UInt64Array::from(vec![1000]);
        assert!(one(large, "decimal(3,0)").is_err());
    }

    #[test]
    fn nested_values_keep_their_shape_and_their_nulls() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let (lists, _) = cells(list.slice(1, 2), "array<bigint>");
        assert_eq!(lists, [Ok(None), Ok(Some(Value::Array(Vec::new())))]);
        let whole = Value::Array(vec![Some(Value::Int(1)), None]);
        assert_eq!(one(list, "array<bigint>"), Ok(Some(whole)));
        let field = Field::new("a", DataType::Utf8, true);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None]));
        let nulls = Some(vec![true, false].into());
        let structs = StructArray::new(Fields::from(vec![field]), vec![texts], nulls);
        let inner = Value::Struct(vec![Some(Value::Bytes(b"x".to_vec()))]);
        assert_eq!(cells(structs, "struct<a:string>").0, [Ok(Some(inner)), Ok(None)]);
        let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        map.keys().append_value("k");
        map.values().append_null();
        map.append(true).expect("as many keys as values");
        let entry = (Value::Bytes(b"k".to_vec()), None);
        let entries = Ok(Some(Value::Map(vec![entry])));
        assert_eq!(one(map.finish(), "map<string,int>"), entries);
    }
}
