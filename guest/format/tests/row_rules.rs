//! The rules of the table: which rows are refused, by which column and why, and what conversions
//! keep.
//!
//! Invariant: a refused row leaves the output as it was, and its neighbours are written.

use upsert_sink_format::batch::{
    BatchBuilder, ColumnBuilder, RowBatch, RowFault, RowKind, TimeUnit,
};
use upsert_sink_format::record::{RecordBlock, RecordEncoder, Value, decode_pack, pack_trailer};
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// A table of a bigint key and one column of this type, and rows whose column has that row type.
fn table(column_type: &str, nullable: bool, row_type: &str) -> (TableSchema, RowPlan) {
    let describe = |name: &str, column_type: &str| ColumnDescription {
        name: name.into(),
        column_type: column_type.into(),
        nullable,
    };
    let schema = TableSchema::parse(&TableDescription {
        name: "t".into(),
        columns: vec![describe("id", "bigint"), describe("c", column_type)],
        partition_columns: vec![],
        primary_key: vec!["id".into()],
        buckets: 1,
    })
    .expect("a table");
    let rows = [("id".to_string(), "BIGINT".to_string()), ("c".to_string(), row_type.to_string())];
    let plan = RowPlan::new(&schema, &rows, &[]).expect("a plan");
    (schema, plan)
}

/// The result of each row of the column.
fn write(
    (schema, plan): &(TableSchema, RowPlan),
    rows: usize,
    column: ColumnBuilder,
) -> Vec<Result<Option<Value>, RowFault>> {
    let ids = ColumnBuilder::int64((0..rows as i64).map(Some));
    let bytes = BatchBuilder::new(rows).column(ids).column(column).build();
    let batch = RowBatch::parse(&bytes, plan).expect("a batch");
    let encoder = RecordEncoder::new(schema, plan);
    let mut in_blocks = Vec::new();
    while in_blocks.len() < rows {
        let mut block = RecordBlock::new();
        let count = encoder.encode_block(&batch, in_blocks.len(), &mut block);
        let record = |index| block.record(index).map(|(record, crc)| (record.to_vec(), crc));
        in_blocks.extend((0..count).map(record));
    }
    (0..rows)
        .map(|row| {
            let mut body = Vec::new();
            let written = encoder.encode(&batch, row, &mut body);
            assert_eq!(written.is_err(), body.is_empty(), "a refused row leaves no bytes");
            let plainly = written.as_ref().ok().map(|crc| (body.clone(), *crc));
            // Both ways keep the same rules, but for the size that a block has room for.
            assert!(in_blocks[row] == plainly || in_blocks[row].is_none() && body.len() > 8_000);
            let crc = written?;
            pack_trailer([crc].into_iter(), 1, &mut body);
            let mut value = None;
            decode_pack(&body, &schema.column_types(), &mut |mut record| {
                value = record.values.pop().flatten();
                Ok(())
            })
            .expect("what is written is read");
            Ok(value)
        })
        .collect()
}

fn rules(results: &[Result<Option<Value>, RowFault>]) -> Vec<Option<&str>> {
    results
        .iter()
        .map(|result| {
            result.as_ref().err().map(|fault| {
                assert_eq!(fault.column, "c");
                fault.rule.as_str()
            })
        })
        .collect()
}

#[test]
fn a_null_key_is_refused_for_upserts_and_deletes() {
    let (schema, plan) = table("string", true, "STRING");
    let builder = || {
        BatchBuilder::new(2)
            .column(ColumnBuilder::int64([None, Some(1)]))
            .column(ColumnBuilder::utf8([Some("a"), None]))
    };
    let encoder = RecordEncoder::new(&schema, &plan);
    let mut block = RecordBlock::new();
    for kind in [RowKind::Insert, RowKind::Delete] {
        let bytes = builder().kinds(&[kind, kind]).build();
        let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
        let mut out = Vec::new();
        let fault = encoder.encode(&batch, 0, &mut out).expect_err("a null key");
        assert_eq!(fault.column, "id");
        assert!(fault.to_string().contains("primary key") && out.is_empty());
        assert!(encoder.encode(&batch, 1, &mut out).is_ok());
        encoder.encode_block(&batch, 0, &mut block);
        assert!(block.record(0).is_none() && block.record(1).is_some());
    }
}

#[test]
fn null_is_refused_only_where_the_table_refuses_it() {
    let column = || ColumnBuilder::utf8([None, Some("")]);
    let results = write(&table("string", true, "STRING"), 2, column());
    assert_eq!(results, [Ok(None), Ok(Some(Value::Bytes(vec![])))]);
    let results = write(&table("string", false, "STRING"), 2, column());
    let rules = rules(&results);
    assert!(rules[0].is_some_and(|rule| rule.contains("null")) && rules[1].is_none());
}

#[test]
fn a_delete_does_not_look_at_other_columns() {
    let (schema, plan) = table("varchar(2)", false, "STRING");
    let bytes = BatchBuilder::new(1)
        .kinds(&[RowKind::Delete])
        .column(ColumnBuilder::int64([Some(7)]))
        .column(ColumnBuilder::utf8([Some("too long")]))
        .build();
    let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
    let encoder = RecordEncoder::new(&schema, &plan);
    assert!(encoder.encode(&batch, 0, &mut Vec::new()).is_ok());
    let mut block = RecordBlock::new();
    encoder.encode_block(&batch, 0, &mut block);
    assert!(block.record(0).is_some());
}

#[test]
fn char_and_varchar_count_characters_not_bytes() {
    for column_type in ["varchar(3)", "char(3)"] {
        let texts = [
            Some("abc"),
            Some("äöü"),
            Some("阿里巴"),
            Some("💧💧💧"),
            Some("abcd"),
            Some("阿里巴巴"),
            None,
        ];
        let results = write(&table(column_type, true, "STRING"), 7, ColumnBuilder::utf8(texts));
        let rules = rules(&results);
        assert!(rules[..4].iter().chain(&rules[6..]).all(Option::is_none), "{rules:?}");
        for rule in &rules[4..6] {
            let rule = rule.expect("four characters are too many");
            assert!(rule.contains("4 characters") && rule.contains(column_type), "{rule}");
        }
    }
}

#[test]
fn a_string_ends_at_eight_mebibytes() {
    let most = "x".repeat(8 * 1024 * 1024);
    let over = format!("{most}y");
    let column = ColumnBuilder::utf8([Some(most.as_str()), Some(over.as_str())]);
    let results = write(&table("string", true, "STRING"), 2, column);
    let rules = rules(&results);
    assert_eq!(rules[0], None);
    assert!(rules[1].is_some_and(|rule| rule.contains("8388608")), "{rules:?}");
}

#[test]
fn a_decimal_is_rescaled_or_refused() {
    let decimals =
        [Some(12_345), Some(-5), Some(9_999_999), Some(-10_000_000), Some(i128::MAX), None];
    let column = ColumnBuilder::decimal128(2, decimals);
    let results = write(&table("decimal(9,4)", true, "DECIMAL(7, 2)"), 6, column);
    assert_eq!(results[0], Ok(Some(Value::Decimal(1_234_500))));
    assert_eq!(results[1], Ok(Some(Value::Decimal(-500))));
    assert_eq!(results[2], Ok(Some(Value::Decimal(999_999_900))));
    let rules = rules(&results);
    for rule in &rules[3..5] {
        assert!(rule.is_some_and(|rule| rule.contains("5 digits")), "{rules:?}");
    }
    assert_eq!(results[5], Ok(None));
}

#[test]
fn integers_and_floats_are_widened() {
    let results =
        write(&table("bigint", true, "TINYINT"), 2, ColumnBuilder::int8([Some(-128), None]));
    assert_eq!(results, [Ok(Some(Value::Int(-128))), Ok(None)]);
    let results = write(&table("int", true, "SMALLINT"), 1, ColumnBuilder::int16([Some(-300)]));
    assert_eq!(results, [Ok(Some(Value::Int(-300)))]);
    let results = write(&table("bigint", true, "INT"), 1, ColumnBuilder::int32([Some(i32::MIN)]));
    assert_eq!(results, [Ok(Some(Value::Int(i64::from(i32::MIN))))]);
    let results = write(&table("double", true, "FLOAT"), 1, ColumnBuilder::float32([Some(0.1)]));
    assert_eq!(results, [Ok(Some(Value::Double(f64::from(0.1f32))))]);
}

#[test]
fn times_of_every_unit_are_cut_towards_the_past() {
    let units = [
        (TimeUnit::Seconds, 0),
        (TimeUnit::Millis, 3),
        (TimeUnit::Micros, 6),
        (TimeUnit::Nanos, 9),
    ];
    for (unit, digits) in units {
        let column = || ColumnBuilder::timestamp(unit, [Some(-1), Some(1)]);
        let row_type = format!("TIMESTAMP({digits})");
        let datetimes = write(&table("datetime", true, &row_type), 2, column());
        let (before, after) = match unit {
            TimeUnit::Seconds => (-1_000, 1_000),
            TimeUnit::Millis => (-1, 1),
            TimeUnit::Micros | TimeUnit::Nanos => (-1, 0),
        };
        assert_eq!(
            datetimes,
            [Ok(Some(Value::Datetime(before))), Ok(Some(Value::Datetime(after)))]
        );
        let step = (1_000_000_000 / unit.per_second()) as u32;
        for column_type in ["timestamp", "timestamp_ntz"] {
            let results = write(&table(column_type, true, &row_type), 2, column());
            let nanos = (1_000_000_000 - step) % 1_000_000_000;
            let before = Value::Timestamp { seconds: -1, nanos };
            let whole = i64::from(step == 1_000_000_000);
            let after = Value::Timestamp { seconds: whole, nanos: step % 1_000_000_000 };
            assert_eq!(results, [Ok(Some(before)), Ok(Some(after))]);
        }
    }
}

#[test]
fn times_outside_the_years_of_the_table_are_refused() {
    let (first, last) = (-62_135_596_800, 253_402_300_799);
    for column_type in ["datetime", "timestamp", "timestamp_ntz"] {
        let times = [first, last, first - 1, last + 1, i64::MIN, i64::MAX].map(Some);
        let column = ColumnBuilder::timestamp(TimeUnit::Seconds, times);
        let results = write(&table(column_type, true, "TIMESTAMP_LTZ(0)"), 6, column);
        let rules = rules(&results);
        assert!(rules[..2].iter().all(Option::is_none), "{rules:?}");
        assert!(
            rules[2..].iter().flatten().filter(|rule| rule.contains("0001 and 9999")).count() == 4
        );
    }
    let days = [-719_162, 2_932_896, -719_163, 2_932_897].map(Some);
    let results = write(&table("date", true, "DATE"), 4, ColumnBuilder::date32(days));
    let rules = rules(&results);
    assert_eq!(results[0], Ok(Some(Value::Date(-719_162))));
    assert!(rules[1].is_none() && rules[2].is_some() && rules[3].is_some());
}

#[test]
fn spans_are_seconds_and_nanoseconds() {
    let column = ColumnBuilder::duration(TimeUnit::Millis, [Some(-1), Some(86_402_003)]);
    let results = write(&table("interval_day_time", true, "INTERVAL DAY TO SECOND"), 2, column);
    let span = |seconds, nanos| Ok(Some(Value::DayTime { seconds, nanos }));
    assert_eq!(results, [span(-1, 999_000_000), span(86_402, 3_000_000)]);
}

#[test]
fn a_rule_broken_inside_a_nested_value_names_the_field() {
    let table = table("array<struct<a:varchar(2)>>", true, "ARRAY<ROW<a STRING>>");
    let fields =
        ColumnBuilder::fields(&[true, true], vec![ColumnBuilder::utf8([Some("ab"), Some("abc")])]);
    let results = write(&table, 2, ColumnBuilder::list([Some(1), Some(1)], fields));
    let rules = rules(&results);
    assert!(rules[0].is_none());
    assert!(
        rules[1].is_some_and(|rule| rule.contains("field a") && rule.contains("3 characters")),
        "{rules:?}"
    );
}
