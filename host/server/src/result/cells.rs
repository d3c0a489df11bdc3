//! The values of a column of Arrow: what `table/rows.rs` does, undone.
//!
//! Between a result's batches and `records` or `csv`. Invariant: for a batch that conforms to its
//! shape there is one value a row, and building the column of these values again gives the same.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationNanosecondType, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, IntervalYearMonthType,
    TimestampMillisecondType, TimestampNanosecondType,
};
use arrow_array::{Array, ArrayRef, PrimitiveArray};
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::ColumnType;

/// One value for each row of a column.
///
/// Panics if the array is not of the column's type; `Shape::conform` makes it so.
pub(crate) fn cells(column: &ColumnType, array: &ArrayRef) -> Vec<Option<Value>> {
    match column {
        ColumnType::BigInt => primitive::<Int64Type>(array, Value::Int),
        ColumnType::Int => primitive::<Int32Type>(array, |v| Value::Int(v.into())),
        ColumnType::SmallInt => primitive::<Int16Type>(array, |v| Value::Int(v.into())),
        ColumnType::TinyInt => primitive::<Int8Type>(array, |v| Value::Int(v.into())),
        ColumnType::Float => primitive::<Float32Type>(array, Value::Float),
        ColumnType::Double => primitive::<Float64Type>(array, Value::Double),
        ColumnType::Date => primitive::<Date32Type>(array, |v| Value::Date(v.into())),
        ColumnType::Datetime => primitive::<TimestampMillisecondType>(array, Value::Datetime),
        ColumnType::Decimal { .. } => primitive::<Decimal128Type>(array, Value::Decimal),
        ColumnType::IntervalYearMonth => {
            primitive::<IntervalYearMonthType>(array, |v| Value::YearMonth(v.into()))
        }
        ColumnType::Timestamp | ColumnType::TimestampNtz => {
            primitive::<TimestampNanosecondType>(array, |v| Value::Timestamp {
                seconds: v.div_euclid(NANOS),
                nanos: u32::try_from(v.rem_euclid(NANOS)).expect("below a thousand million"),
            })
        }
        ColumnType::IntervalDayTime => {
            primitive::<DurationNanosecondType>(array, |v| Value::DayTime {
                seconds: v.div_euclid(NANOS),
                nanos: i32::try_from(v.rem_euclid(NANOS)).expect("below a thousand million"),
            })
        }
        ColumnType::Boolean => array.as_boolean().iter().map(|v| v.map(Value::Bool)).collect(),
        ColumnType::Binary => {
            let values = array.as_binary::<i32>().iter();
            values.map(|v| v.map(|bytes| Value::Bytes(bytes.to_vec()))).collect()
        }
        ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) | ColumnType::Json => {
            let values = array.as_string::<i32>().iter();
            values.map(|v| v.map(|text| Value::Bytes(text.as_bytes().to_vec()))).collect()
        }
        ColumnType::Array(element) => lists(element, array),
        ColumnType::Map(key, value) => maps(key, value, array),
        ColumnType::Struct(fields) => structs(fields, array),
    }
}

fn primitive<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    value: impl Fn(T::Native) -> Value,
) -> Vec<Option<Value>> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.iter().map(|v| v.map(&value)).collect()
}

fn lists(element: &ColumnType, array: &ArrayRef) -> Vec<Option<Value>> {
    let lists = array.as_list::<i32>();
    let row = |list: Option<ArrayRef>| list.map(|list| Value::Array(cells(element, &list)));
    lists.iter().map(row).collect()
}

fn maps(key: &ColumnType, value: &ColumnType, array: &ArrayRef) -> Vec<Option<Value>> {
    let maps = array.as_map();
    let row = |at: usize| {
        (!maps.is_null(at)).then(|| {
            let entries = maps.value(at);
            let keys = cells(key, entries.column(0)).into_iter();
            let values = cells(value, entries.column(1));
            // A map's key is never null.
            Value::Map(keys.zip(values).filter_map(|(k, v)| Some((k?, v))).collect())
        })
    };
    (0..maps.len()).map(row).collect()
}

fn structs(fields: &[(String, ColumnType)], array: &ArrayRef) -> Vec<Option<Value>> {
    let structs = array.as_struct();
    let columns = fields.iter().zip(structs.columns());
    let mut columns: Vec<_> = columns.map(|((_, t), c)| cells(t, c).into_iter()).collect();
    let mut row = |at: usize| {
        let values = columns.iter_mut().map(|column| column.next().flatten()).collect();
        (!structs.is_null(at)).then_some(Value::Struct(values))
    };
    (0..structs.len()).map(&mut row).collect()
}

const NANOS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rows::array;

    #[test]
    fn cells_undo_what_made_the_column() {
        let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        for (column, value) in [
            ("bigint", Value::Int(i64::MIN)),
            ("tinyint", Value::Int(-128)),
            ("boolean", Value::Bool(true)),
            ("float", Value::Float(1.5)),
            ("double", Value::Double(-0.0)),
            ("decimal(38,18)", Value::Decimal(-1)),
            ("varchar(9)", text("größer")),
            ("binary", Value::Bytes(vec![0, 255])),
            ("date", Value::Date(-1)),
            ("datetime", Value::Datetime(-1)),
            ("timestamp", Value::Timestamp { seconds: -1, nanos: 5 }),
            ("interval_year_month", Value::YearMonth(-14)),
            ("interval_day_time", Value::DayTime { seconds: -2, nanos: 1 }),
            ("array<bigint>", Value::Array(vec![Some(Value::Int(1)), None])),
            ("map<string,int>", Value::Map(vec![(text("k"), None)])),
            (
                "struct<a:int,b:array<string>>",
                Value::Struct(vec![None, Some(Value::Array(vec![Some(text("x"))]))]),
            ),
        ] {
            let column = ColumnType::parse(column).expect("a type");
            let values = [Some(value), None];
            let taken: Vec<Option<&Value>> = values.iter().map(Option::as_ref).collect();
            let built = array(&column, &taken).expect("a column");
            assert_eq!(cells(&column, &built), values, "{column}");
        }
    }
}
