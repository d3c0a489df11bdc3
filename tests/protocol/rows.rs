//! Decoded records as an engine would hand them over: Arrow columns and row kinds.
//!
//! Between `fixture.rs` and the sink. Invariant: a value that is absent is null, and nothing else
//! is.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array,
    DurationNanosecondArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, IntervalYearMonthArray, ListArray, MapArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{Field, Schema, SchemaRef};
use upsert_sink::RowKind;
use upsert_sink_format::record::{DecodedRecord, Op, Value};
use upsert_sink_format::schema::ColumnType;

/// Rows with these columns, the last of which are partition columns of one value each.
pub(crate) fn batch(
    columns: &[(String, ColumnType)],
    partition: &[(String, String)],
    records: &[DecodedRecord],
) -> (RecordBatch, Vec<RowKind>) {
    let mut arrays = Vec::new();
    for (at, (name, column)) in columns.iter().enumerate() {
        let values: Vec<Option<&Value>> =
            records.iter().map(|record| record.values[at].as_ref()).collect();
        arrays.push((name.clone(), array(column, &values)));
    }
    for (name, value) in partition {
        let values = StringArray::from(vec![value.as_str(); records.len()]);
        arrays.push((name.clone(), Arc::new(values) as ArrayRef));
    }
    let field =
        |(name, array): &(String, ArrayRef)| Field::new(name, array.data_type().clone(), true);
    let schema: SchemaRef = Arc::new(Schema::new(arrays.iter().map(field).collect::<Vec<_>>()));
    let kinds = records.iter().map(|record| match record.op {
        Op::Upsert => RowKind::Insert,
        Op::Delete => RowKind::Delete,
    });
    let arrays = arrays.into_iter().map(|(_, array)| array).collect();
    (RecordBatch::try_new(schema, arrays).expect("columns of one length"), kinds.collect())
}

fn integers<T: TryFrom<i64>>(values: &[Option<&Value>]) -> Vec<Option<T>> {
    let one = |value: &Value| match value {
        Value::Int(n) | Value::Date(n) | Value::Datetime(n) | Value::YearMonth(n) => {
            T::try_from(*n).ok()
        }
        other => panic!("{other:?} is no whole number"),
    };
    values.iter().map(|value| value.and_then(one)).collect()
}

fn texts<'a>(values: &[Option<&'a Value>]) -> Vec<Option<&'a [u8]>> {
    let one = |value: &'a Value| match value {
        Value::Bytes(bytes) => bytes.as_slice(),
        other => panic!("{other:?} has no bytes"),
    };
    values.iter().map(|value| value.map(one)).collect()
}

fn nanos(values: &[Option<&Value>]) -> Vec<Option<i64>> {
    let one = |value: &Value| match value {
        Value::Timestamp { seconds, nanos } => seconds * 1_000_000_000 + i64::from(*nanos),
        Value::DayTime { seconds, nanos } => seconds * 1_000_000_000 + i64::from(*nanos),
        other => panic!("{other:?} is no time"),
    };
    values.iter().map(|value| value.map(one)).collect()
}

fn array(column: &ColumnType, values: &[Option<&Value>]) -> ArrayRef {
    match column {
        ColumnType::BigInt => Arc::new(Int64Array::from(integers::<i64>(values))),
        ColumnType::Int => Arc::new(Int32Array::from(integers::<i32>(values))),
        ColumnType::SmallInt => Arc::new(Int16Array::from(integers::<i16>(values))),
        ColumnType::TinyInt => Arc::new(Int8Array::from(integers::<i8>(values))),
        ColumnType::Date => Arc::new(Date32Array::from(integers::<i32>(values))),
        ColumnType::IntervalYearMonth => {
            Arc::new(IntervalYearMonthArray::from(integers::<i32>(values)))
        }
        ColumnType::Datetime => {
            let times = TimestampMillisecondArray::from(integers::<i64>(values));
            Arc::new(times.with_timezone("+00:00"))
        }
        ColumnType::Timestamp => {
            Arc::new(TimestampNanosecondArray::from(nanos(values)).with_timezone("+00:00"))
        }
        ColumnType::TimestampNtz => Arc::new(TimestampNanosecondArray::from(nanos(values))),
        ColumnType::IntervalDayTime => Arc::new(DurationNanosecondArray::from(nanos(values))),
        ColumnType::Binary => Arc::new(BinaryArray::from(texts(values))),
        ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) | ColumnType::Json => {
            let text = |bytes| std::str::from_utf8(bytes).expect("the decoder has checked it");
            let texts: Vec<Option<&str>> =
                texts(values).into_iter().map(|bytes| bytes.map(text)).collect();
            Arc::new(StringArray::from(texts))
        }
        ColumnType::Boolean => {
            let one = |value: &&Value| matches!(value, Value::Bool(true));
            let values: Vec<_> = values.iter().map(|value| value.as_ref().map(one)).collect();
            Arc::new(BooleanArray::from(values))
        }
        ColumnType::Float => {
            let one = |value: &Value| if let Value::Float(n) = value { *n } else { f32::NAN };
            let values: Vec<_> = values.iter().map(|value| value.map(one)).collect();
            Arc::new(Float32Array::from(values))
        }
        ColumnType::Double => {
            let one = |value: &Value| if let Value::Double(n) = value { *n } else { f64::NAN };
            let values: Vec<_> = values.iter().map(|value| value.map(one)).collect();
            Arc::new(Float64Array::from(values))
        }
        ColumnType::Decimal { precision, scale } => {
            let one = |value: &Value| if let Value::Decimal(n) = value { *n } else { 0 };
            let values: Vec<_> = values.iter().map(|value| value.map(one)).collect();
            let scale = i8::try_from(*scale).expect("at most 38");
            let values = Decimal128Array::from(values).with_precision_and_scale(*precision, scale);
            Arc::new(values.expect("a sound decimal"))
        }
        ColumnType::Array(element) => list(element, values),
        ColumnType::Map(key, value) => map(key, value, values),
        ColumnType::Struct(fields) => structure(fields, values),
    }
}

fn nulls(values: &[Option<&Value>]) -> NullBuffer {
    values.iter().map(Option::is_some).collect()
}

fn list(element: &ColumnType, values: &[Option<&Value>]) -> ArrayRef {
    let elements = |value: &&Value| match value {
        Value::Array(elements) => elements.len(),
        other => panic!("{other:?} is no array"),
    };
    let lengths = values.iter().map(|value| value.as_ref().map_or(0, elements));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let flat = values.iter().flatten().flat_map(|value| match value {
        Value::Array(elements) => elements.iter().map(Option::as_ref).collect(),
        _ => Vec::new(),
    });
    let flat = array(element, &flat.collect::<Vec<_>>());
    let field = Arc::new(Field::new("element", flat.data_type().clone(), true));
    Arc::new(ListArray::new(field, offsets, flat, Some(nulls(values))))
}

fn map(key: &ColumnType, value: &ColumnType, values: &[Option<&Value>]) -> ArrayRef {
    let entries: Vec<&[(Value, Option<Value>)]> = values
        .iter()
        .map(|value| match value {
            Some(Value::Map(entries)) => entries.as_slice(),
            _ => &[],
        })
        .collect();
    let offsets = OffsetBuffer::from_lengths(entries.iter().map(|entries| entries.len()));
    let flat: Vec<_> = entries.into_iter().flatten().collect();
    let keys = array(key, &flat.iter().map(|(key, _)| Some(key)).collect::<Vec<_>>());
    let of_keys = array(value, &flat.iter().map(|(_, value)| value.as_ref()).collect::<Vec<_>>());
    let field = |name: &str, array: &ArrayRef, nullable| {
        Arc::new(Field::new(name, array.data_type().clone(), nullable))
    };
    let fields = vec![field("keys", &keys, false), field("values", &of_keys, true)];
    let pairs = StructArray::new(fields.into(), vec![keys, of_keys], None);
    let entries = Arc::new(Field::new("entries", pairs.data_type().clone(), false));
    Arc::new(MapArray::new(entries, offsets, pairs, Some(nulls(values)), false))
}

fn structure(fields: &[(String, ColumnType)], values: &[Option<&Value>]) -> ArrayRef {
    let (mut arrays, mut described) = (Vec::new(), Vec::new());
    for (at, (name, column)) in fields.iter().enumerate() {
        let of_field = values.iter().map(|value| match value {
            Some(Value::Struct(values)) => values[at].as_ref(),
            _ => None,
        });
        let of_field = array(column, &of_field.collect::<Vec<_>>());
        described.push(Field::new(name, of_field.data_type().clone(), true));
        arrays.push(of_field);
    }
    Arc::new(StructArray::new(described.into(), arrays, Some(nulls(values))))
}
