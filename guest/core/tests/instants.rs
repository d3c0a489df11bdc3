//! Timestamps in their two layouts: equal rows become equal bytes, hashes and keys; instants hold
//! every year that the table does.
//!
//! Invariant: each comparison is of the block's way and of the plain way.

use upsert_sink_core::bucket::Router;
use upsert_sink_core::io::Task;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowBatch, TimeUnit};
use upsert_sink_format::hash::{Hasher, KeyHasher};
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::record::{RecordBlock, RecordEncoder, Value, decode_pack, pack_trailer};
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// 0001-01-01T00:00:00 and 9999-12-31T23:59:59.
const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;

/// Seconds and nanoseconds, before 1970 and after it.
const INSTANTS: [Option<(i64, u32)>; 6] = [
    Some((0, 0)),
    Some((-1, 999_999_999)),
    Some((1_780_000_000, 123_456_789)),
    None,
    Some((-9_000_000_000, 1)),
    Some((9_000_000_000, 999_999)),
];

const UNITS: [(TimeUnit, &str); 4] = [
    (TimeUnit::Seconds, "TIMESTAMP(0)"),
    (TimeUnit::Millis, "TIMESTAMP_LTZ(3)"),
    (TimeUnit::Micros, "TIMESTAMP(6)"),
    (TimeUnit::Nanos, "TIMESTAMP_LTZ(9)"),
];

fn table(column_type: &str) -> TableDescription {
    let column = |name: &str, column_type: &str, nullable| ColumnDescription {
        name: name.into(),
        column_type: column_type.into(),
        nullable,
    };
    TableDescription {
        name: "t".into(),
        columns: vec![column("at", column_type, true), column("id", "bigint", false)],
        partition_columns: vec![],
        primary_key: vec!["id".into()],
        buckets: 8,
    }
}

fn columns(row_type: &str) -> Vec<(String, String)> {
    vec![("at".into(), row_type.into()), ("id".into(), "BIGINT".into())]
}

fn batch(rows: usize, column: ColumnBuilder) -> Vec<u8> {
    let ids = ColumnBuilder::int64((0..rows as i64).map(Some));
    BatchBuilder::new(rows).column(column).column(ids).build()
}

/// The record and checksum of each row, or the rule that it breaks.
type Written = Vec<Result<(Vec<u8>, u32), String>>;

fn write(column_type: &str, row_type: &str, rows: usize, column: ColumnBuilder) -> Written {
    let schema = TableSchema::parse(&table(column_type)).expect("a table");
    let plan = RowPlan::new(&schema, &columns(row_type), &[]).expect("a plan");
    let bytes = batch(rows, column);
    let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
    let encoder = RecordEncoder::new(&schema, &plan);
    let mut block = RecordBlock::new();
    assert_eq!(encoder.encode_block(&batch, 0, &mut block), rows);
    let row = |row| {
        let mut record = Vec::new();
        let written = encoder.encode(&batch, row, &mut record);
        let plainly = written.map(|crc| (record, crc)).map_err(|fault| fault.rule);
        let in_block = block.record(row).map(|(record, crc)| (record.to_vec(), crc));
        assert_eq!(in_block, plainly.clone().ok(), "row {row}");
        plainly
    };
    (0..rows).map(row).collect()
}

/// The value of `at` in a record.
fn read(column_type: &str, written: &Result<(Vec<u8>, u32), String>) -> Option<Value> {
    let (record, crc) = written.as_ref().expect("it is written");
    let mut body = record.clone();
    pack_trailer([*crc].into_iter(), 1, &mut body);
    let types = TableSchema::parse(&table(column_type)).expect("a table").column_types();
    let mut value = None;
    decode_pack(&body, &types, &mut |mut record| {
        value = record.values.swap_remove(0);
        Ok(())
    })
    .expect("what is written is read");
    value
}

/// An instant as far as a unit can show it: in the layout `timestamp`, and in the layout `instant`.
fn shown(unit: TimeUnit, (seconds, nanos): (i64, u32)) -> (i64, (i64, u32)) {
    let of_second = 1_000_000_000 / unit.per_second();
    let fraction = i64::from(nanos) / of_second;
    let nanos = u32::try_from(fraction * of_second).expect("less than a second");
    (seconds * unit.per_second() + fraction, (seconds, nanos))
}

#[test]
fn equal_rows_in_both_layouts_give_the_same_bytes() {
    for column_type in ["datetime", "timestamp", "timestamp_ntz"] {
        for (unit, row_type) in UNITS {
            let both = INSTANTS.map(|instant| instant.map(|instant| shown(unit, instant)));
            let counts = ColumnBuilder::timestamp(unit, both.map(|both| both.map(|both| both.0)));
            let instants = ColumnBuilder::instants(both.map(|both| both.map(|both| both.1)));
            let rows = INSTANTS.len();
            let one = write(column_type, row_type, rows, counts);
            assert_eq!(one, write(column_type, row_type, rows, instants), "{column_type} {unit:?}");
            assert!(one.iter().all(Result::is_ok), "{one:?}");
        }
    }
}

#[test]
fn equal_keys_in_both_layouts_have_the_same_hash_and_the_same_key() {
    for column_type in ["datetime", "timestamp", "timestamp_ntz"] {
        let schema = TableDescription { primary_key: vec!["at".into()], ..table(column_type) };
        let schema = TableDescription {
            columns: schema
                .columns
                .into_iter()
                .map(|column| ColumnDescription { nullable: false, ..column })
                .collect(),
            ..schema
        };
        let both = INSTANTS.map(|instant| shown(TimeUnit::Nanos, instant.unwrap_or_default()));
        let counts = ColumnBuilder::timestamp(TimeUnit::Nanos, both.map(|both| Some(both.0)));
        let instants = ColumnBuilder::instants(both.map(|both| Some(both.1)));
        let mut found = Vec::new();
        for column in [counts, instants] {
            let bytes = batch(INSTANTS.len(), column);
            let parsed = TableSchema::parse(&schema).expect("a table");
            let plan = RowPlan::new(&parsed, &columns("TIMESTAMP(9)"), &[]).expect("a plan");
            let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
            let mut hashes = Vec::new();
            for hasher in [Hasher::Default, Hasher::Legacy] {
                let mut of_one = Vec::new();
                let hasher = KeyHasher::new(hasher, &parsed, &plan).expect("it can be a key");
                hasher.hash_batch(&batch, &mut of_one);
                hashes.extend(of_one);
            }
            let mut router = Router::open(&task(schema.clone())).expect("the task is right");
            found.push((hashes, router.keys(&bytes).expect("the batch is well-formed")));
        }
        assert_eq!(found[0], found[1], "{column_type}");
        assert!(found[0].1.iter().any(|key| *key != 0), "{column_type}");
    }
}

fn task(table: TableDescription) -> Task {
    Task {
        identity: "sink".into(),
        start: 1,
        nonce: 2,
        parallelism: 4,
        index: WriterIndex(0),
        options: vec![],
        columns: columns("TIMESTAMP(9)"),
        table,
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    }
}

/// A 64-bit count of nanoseconds holds the years 1678 to 2261.
#[test]
fn the_first_and_the_last_instants_of_the_years_1_and_9999_survive() {
    let year = 366 * 86_400;
    let ends = [
        (FIRST, 0),
        (FIRST, 1),
        (FIRST + 365 * 86_400 - 1, 999_999_999),
        (LAST - year, 0),
        (LAST, 999_999_998),
        (LAST, 999_999_999),
    ];
    let column = || ColumnBuilder::instants(ends.map(Some));
    for column_type in ["timestamp", "timestamp_ntz"] {
        let written = write(column_type, "TIMESTAMP(9)", ends.len(), column());
        for (written, (seconds, nanos)) in written.iter().zip(ends) {
            assert_eq!(read(column_type, written), Some(Value::Timestamp { seconds, nanos }));
        }
    }
    let written = write("datetime", "TIMESTAMP_LTZ(9)", ends.len(), column());
    for (written, (seconds, nanos)) in written.iter().zip(ends) {
        // Towards the past.
        let millis = seconds * 1_000 + i64::from(nanos / 1_000_000);
        assert_eq!(read("datetime", written), Some(Value::Datetime(millis)));
    }
}

#[test]
fn an_instant_out_of_the_years_is_refused_like_a_count_out_of_them() {
    let beyond = [(FIRST - 1, 999_999_999), (LAST + 1, 0)];
    let far = [(i64::MIN, 0), (i64::MAX, 999_999_999)];
    for column_type in ["datetime", "timestamp", "timestamp_ntz"] {
        let counts = ColumnBuilder::timestamp(TimeUnit::Seconds, beyond.map(|(s, _)| Some(s)));
        let expected = write(column_type, "TIMESTAMP(0)", 2, counts);
        assert!(expected.iter().all(|row| {
            row.as_ref().is_err_and(|rule| rule.contains("between the years 0001 and 9999"))
        }));
        for instants in [beyond, far] {
            let instants = ColumnBuilder::instants(instants.map(Some));
            assert_eq!(write(column_type, "TIMESTAMP(0)", 2, instants), expected, "{column_type}");
        }
    }
}

#[test]
fn nested_instants_are_those_of_the_other_layout() {
    let nanos = |rows: &[Option<(i64, u32)>]| {
        let count = |instant| shown(TimeUnit::Nanos, instant).0;
        ColumnBuilder::timestamp(TimeUnit::Nanos, rows.iter().map(|row| row.map(count)))
    };
    let instants = |rows: &[Option<(i64, u32)>]| ColumnBuilder::instants(rows.iter().copied());
    let (all, keys) = (&INSTANTS[..], [INSTANTS[0], INSTANTS[1], INSTANTS[2]]);
    let list = |elements| ColumnBuilder::list([Some(4), None, Some(2)], elements);
    let map = |keys, values| ColumnBuilder::map([Some(2), Some(1), None], keys, values);
    let row = |one, other| ColumnBuilder::fields(&[true, false, true], vec![one, other]);
    let three = &INSTANTS[1..4];
    for (column_type, row_type, one, other) in [
        ("array<timestamp>", "ARRAY<TIMESTAMP(9)>", list(nanos(all)), list(instants(all))),
        (
            "map<timestamp,datetime>",
            "MAP<TIMESTAMP(9), TIMESTAMP(9)>",
            map(nanos(&keys), nanos(three)),
            // Each node has a layout of its own.
            map(instants(&keys), nanos(three)),
        ),
        (
            "struct<a:timestamp,b:timestamp_ntz>",
            "ROW<a TIMESTAMP_LTZ(9), b TIMESTAMP(9)>",
            row(nanos(three), nanos(three)),
            row(nanos(three), instants(three)),
        ),
    ] {
        let expected = write(column_type, row_type, 3, one);
        assert!(expected.iter().all(Result::is_ok), "{expected:?}");
        assert_eq!(write(column_type, row_type, 3, other), expected, "{column_type}");
    }
}
