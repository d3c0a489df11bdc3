//! Every Arrow type, sliced and with nulls, goes through the form and is read by the core.
//! Invariant: what the core reads is what Arrow holds.

use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_schema::{Field, TimeUnit};
use upsert_sink_format::batch::RowBatch;
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::*;

fn column(name: &str, column_type: &str, nullable: bool) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable }
}

/// A table of a key and one column, and the plan of rows that have both.
fn plan(column_type: &str, row_columns: &[(String, String)]) -> RowPlan {
    let table = TableDescription {
        name: String::from("p.t"),
        columns: vec![column("id", "bigint", false), column("v", column_type, true)],
        partition_columns: Vec::new(),
        primary_key: vec![String::from("id")],
        buckets: 1,
    };
    let schema = TableSchema::parse(&table).expect("a table");
    RowPlan::new(&schema, row_columns, &[]).expect("the types fit")
}

fn rows(values: ArrayRef) -> RecordBatch {
    let ids = Int64Array::from_iter_values(0..i64::try_from(values.len()).expect("few"));
    RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("v", values)]).expect("rows")
}

/// Encodes the values, whole and every slice of them, and has the core parse each.
fn accepted(values: ArrayRef, row_type: &str, column_type: &str) {
    let whole = rows(values);
    let columns = row_columns(&whole.schema()).expect("a row type");
    assert_eq!(columns[1].1, row_type);
    let plan = plan(column_type, &columns);
    for first in 0..whole.num_rows() {
        for length in 0..=whole.num_rows() - first {
            let slice = whole.slice(first, length);
            let bytes = encode(&slice, &[]).expect("it is encoded");
            let parsed = RowBatch::parse(&bytes, &plan).expect("the core takes it");
            assert_eq!(parsed.rows(), length);
            let copied = arrow_select::concat::concat_batches(&slice.schema(), [&slice]);
            let unsliced = encode(&copied.expect("a copy"), &[]).expect("it is encoded");
            assert_eq!(bytes, unsliced, "a slice is encoded like a copy of it");
        }
    }
}

fn array(array: impl Array + 'static) -> ArrayRef {
    Arc::new(array)
}

#[test]
fn numbers_and_truth_are_read_by_the_core() {
    accepted(array(BooleanArray::from(vec![Some(true), None, Some(false)])), "BOOLEAN", "boolean");
    accepted(array(Int8Array::from(vec![Some(-1), None, Some(1)])), "TINYINT", "tinyint");
    accepted(array(Int16Array::from(vec![-1, 1])), "SMALLINT", "smallint");
    accepted(array(Int32Array::from(vec![-1, 1])), "INT", "int");
    accepted(array(Int64Array::from(vec![Some(i64::MIN), None])), "BIGINT", "bigint");
    accepted(array(Float32Array::from(vec![1.5, f32::NAN])), "FLOAT", "float");
    accepted(array(Float64Array::from(vec![Some(1.5), None])), "DOUBLE", "double");
    let decimals = Decimal128Array::from(vec![Some(-123), None, Some(5)]);
    let decimals = decimals.with_precision_and_scale(10, 2).expect("it fits");
    accepted(array(decimals), "DECIMAL(10, 2)", "decimal(10,2)");
}

#[test]
fn narrow_unsigned_numbers_are_widened() {
    accepted(array(UInt8Array::from(vec![255])), "SMALLINT", "smallint");
    accepted(array(UInt16Array::from(vec![u16::MAX])), "INT", "int");
    accepted(array(UInt32Array::from(vec![Some(u32::MAX), None])), "BIGINT", "bigint");
    accepted(array(UInt64Array::from(vec![u64::MAX])), "DECIMAL(20, 0)", "decimal(38,0)");
}

#[test]
fn texts_and_bytes_are_read_by_the_core() {
    let texts = vec![Some("a"), None, Some(""), Some("äöü€")];
    accepted(array(StringArray::from(texts.clone())), "STRING", "string");
    accepted(array(LargeStringArray::from(texts.clone())), "STRING", "string");
    accepted(array(StringViewArray::from(texts.clone())), "STRING", "string");
    let dictionary: DictionaryArray<types::Int32Type> = texts.into_iter().collect();
    accepted(array(dictionary), "STRING", "string");
    let bytes: Vec<Option<&[u8]>> = vec![Some(b"\xff\0"), None, Some(b"")];
    accepted(array(BinaryArray::from(bytes.clone())), "BYTES", "binary");
    accepted(array(LargeBinaryArray::from(bytes.clone())), "BYTES", "binary");
    accepted(array(BinaryViewArray::from(bytes)), "BYTES", "binary");
}

#[test]
fn times_are_read_by_the_core() {
    accepted(array(Date32Array::from(vec![Some(-1), None, Some(19_000)])), "DATE", "date");
    let datetime = TimestampMillisecondArray::from(vec![Some(-1), None]);
    accepted(array(datetime.clone()), "TIMESTAMP(3)", "datetime");
    accepted(array(datetime.with_timezone("UTC")), "TIMESTAMP_LTZ(3)", "timestamp");
    accepted(array(TimestampSecondArray::from(vec![1])), "TIMESTAMP(0)", "timestamp_ntz");
    accepted(array(TimestampMicrosecondArray::from(vec![1])), "TIMESTAMP(6)", "timestamp");
    accepted(array(TimestampNanosecondArray::from(vec![1])), "TIMESTAMP(9)", "timestamp");
    let durations = DurationMicrosecondArray::from(vec![Some(-1), None]);
    accepted(array(durations), "INTERVAL DAY TO SECOND", "interval_day_time");
    let months = IntervalYearMonthArray::from(vec![Some(-1), None]);
    accepted(array(months), "INTERVAL YEAR TO MONTH", "interval_year_month");
}

#[test]
fn nested_values_are_read_by_the_core() {
    let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(2)])];
    let list = ListArray::from_iter_primitive::<types::Int32Type, _, _>(lists.clone());
    accepted(array(list), "ARRAY<INT>", "array<int>");
    let large = LargeListArray::from_iter_primitive::<types::Int32Type, _, _>(lists);
    accepted(array(large), "ARRAY<INT>", "array<int>");
    let fields = vec![
        (Arc::new(Field::new("x", DataType::Int64, true)), array(Int64Array::from(vec![1, 2, 3]))),
        (
            Arc::new(Field::new("y z", DataType::Utf8, true)),
            array(StringArray::from(vec![Some("a"), None, Some("c")])),
        ),
    ];
    let row = StructArray::from(fields);
    let nulls = NullBuffer::from(vec![true, false, true]);
    let row = StructArray::new(row.fields().clone(), row.columns().to_vec(), Some(nulls));
    accepted(array(row.clone()), "ROW<x BIGINT, `y z` STRING>", "struct<x:bigint,`y z`:string>");
    let keys = array(StringArray::from(vec!["a", "b", "c"]));
    let values = array(Int32Array::from(vec![Some(1), None, Some(3)]));
    let entry = vec![
        (Arc::new(Field::new("keys", DataType::Utf8, false)), keys),
        (Arc::new(Field::new("values", DataType::Int32, true)), values),
    ];
    let entries = StructArray::from(entry);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let offsets = OffsetBuffer::from_lengths([2, 0, 1]);
    let nulls = NullBuffer::from(vec![true, false, true]);
    let map = MapArray::new(field, offsets, entries, Some(nulls), false);
    accepted(array(map), "MAP<STRING, INT>", "map<string,int>");
}

#[test]
fn row_kinds_are_carried() {
    let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
    let rows = rows(array(Int64Array::from(vec![1, 2, 3, 4])));
    let bytes = encode(&rows, &kinds).expect("it is encoded");
    let plan = plan("bigint", &row_columns(&rows.schema()).expect("row types"));
    let parsed = RowBatch::parse(&bytes, &plan).expect("the core takes it");
    let read: Vec<u8> = (0..4).map(|row| parsed.kind(row) as u8).collect();
    assert_eq!(read, [0, 1, 2, 3]);
    assert!(encode(&rows, &kinds[..3]).is_err());
}

#[test]
fn types_without_a_place_are_refused_with_a_remedy() {
    for data_type in [
        DataType::Null,
        DataType::Time64(TimeUnit::Microsecond),
        DataType::Decimal256(50, 2),
        DataType::Decimal128(10, -2),
        DataType::Interval(IntervalUnit::MonthDayNano),
    ] {
        let schema = Schema::new(vec![Field::new("odd", data_type.clone(), true)]);
        let error = row_columns(&schema).expect_err("it has no place");
        assert!(error.at == "odd" && error.message.contains("it"), "{error}");
    }
}
