//! Partial rows: whatever is buffered, merged and sealed, the service ends up with the rows as they
//! were written, column by column.
//!
//! Invariant: the model folds the rows alone and knows nothing of records; the service applies the
//! records of packs alone and knows nothing of rows.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use upsert_sink_core::buffer::{BucketBuffer, BufferPool};
use upsert_sink_core::io::{BarrierKind, Task, WriterInput};
use upsert_sink_core::writer::Writer;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowBatch, RowKind};
use upsert_sink_format::id::{CheckpointId, Millis, WriterIndex};
use upsert_sink_format::record::{
    Op, PartialRows, RecordBytes, RecordEncoder, Value, WrittenColumns, decode_pack, pack_trailer,
};
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// The table of the recorded packs.
fn table() -> TableSchema {
    let column = |name: &str, column_type: &str| ColumnDescription {
        name: name.into(),
        column_type: column_type.into(),
        nullable: name != "id",
    };
    let columns = vec![
        column("id", "bigint"),
        column("a", "string"),
        column("b", "string"),
        column("c", "bigint"),
    ];
    TableSchema::parse(&TableDescription {
        name: "shop.orders".into(),
        columns,
        partition_columns: vec![],
        primary_key: vec!["id".into()],
        buckets: 4,
    })
    .expect("a table")
}

/// The columns beside the key that rows have.
type Have = [bool; 3];

const ALL: Have = [true; 3];

/// A row's values beside its key; where rows have no column, there is no value.
#[derive(Clone, Debug)]
struct Row {
    key: i64,
    deletes: bool,
    a: Option<String>,
    b: Option<String>,
    c: Option<i64>,
}

impl Row {
    fn values(&self, have: Have) -> [Option<Value>; 3] {
        let text = |text: &Option<String>| text.clone().map(|text| Value::Bytes(text.into()));
        let mut values = [text(&self.a), text(&self.b), self.c.map(Value::Int)];
        for (value, has) in values.iter_mut().zip(have) {
            value.take_if(|_| !has);
        }
        values
    }
}

/// The path from rows to records and packs.
struct Sink {
    have: Have,
    plan: RowPlan,
    rows: Option<PartialRows>,
    encoder: RecordEncoder,
    pool: BufferPool,
    buffer: BucketBuffer,
    held: i64,
}

impl Sink {
    fn new(written: WrittenColumns, have: Have) -> Self {
        let schema = table();
        let columns = [("a", "STRING"), ("b", "STRING"), ("c", "BIGINT")];
        let columns = columns.iter().zip(have).filter(|(_, has)| *has).map(|(column, _)| column);
        let columns: Vec<_> = std::iter::once(&("id", "BIGINT"))
            .chain(columns)
            .map(|(name, row_type)| (name.to_string(), row_type.to_string()))
            .collect();
        let plan = RowPlan::new(&schema, &columns, &[]).expect("a plan");
        let rows = PartialRows::of(&schema, &plan, written);
        Self {
            have,
            encoder: RecordEncoder::new(&schema, &plan).partial(rows.clone()),
            pool: BufferPool::new().partial(rows.clone()),
            buffer: BucketBuffer::new(),
            held: 0,
            plan,
            rows,
        }
    }

    fn batch(&self, row: &Row) -> Vec<u8> {
        let kind = if row.deletes { RowKind::Delete } else { RowKind::Insert };
        let key = ColumnBuilder::int64([Some(row.key)]);
        let mut batch = BatchBuilder::new(1).kinds(&[kind]).column(key);
        let texts = [&row.a, &row.b].into_iter().zip(self.have);
        for (text, _) in texts.filter(|(_, has)| *has) {
            batch = batch.column(ColumnBuilder::utf8([text.as_deref()]));
        }
        if self.have[2] {
            batch = batch.column(ColumnBuilder::int64([row.c]));
        }
        batch.build()
    }

    fn encode(&self, row: &Row) -> (Vec<u8>, u32) {
        let bytes = self.batch(row);
        let batch = RowBatch::parse(&bytes, &self.plan).expect("a batch");
        let mut record = Vec::new();
        let crc = self.encoder.encode(&batch, 0, &mut record).expect("no rule is broken");
        (record, crc)
    }

    fn push(&mut self, row: &Row, merge: bool) {
        let bytes = self.batch(row);
        let batch = RowBatch::parse(&bytes, &self.plan).expect("a batch");
        let (record, crc) = self.encode(row);
        let mut key = RecordBytes::default();
        self.encoder.key(&batch, 0, &mut key);
        self.held += match merge {
            true => self.buffer.push_keyed(&mut self.pool, &record, crc, &key),
            false => self.buffer.push(&mut self.pool, &record, crc),
        } as i64;
        if self.buffer.bytes() >= LIMIT {
            self.held += self.buffer.relieve(&mut self.pool, LIMIT).unwrap_or(0);
        }
    }

    fn seal(&mut self, ids: &[i64; 4]) -> Option<(Vec<u8>, u32)> {
        if self.buffer.is_empty() {
            return None;
        }
        let pack = self.buffer.seal(&mut self.pool);
        self.held -= pack.bytes_freed as i64;
        let body = match &self.rows {
            Some(rows) => rows.pack_for(pack.body, ids),
            None => pack.body,
        };
        Some((body, pack.records))
    }
}

/// Rows by key, beside the key.
type Rows = BTreeMap<i64, [Option<Value>; 3]>;

/// The meaning of rows: the model.
fn fold(rows: &mut Rows, row: &Row, written: WrittenColumns, have: Have) {
    if row.deletes {
        rows.remove(&row.key);
        return;
    }
    let stored = rows.entry(row.key).or_default();
    for ((stored, value), has) in stored.iter_mut().zip(row.values(have)).zip(have) {
        let writes = match written {
            WrittenColumns::All => true,
            WrittenColumns::Declared => has,
            WrittenColumns::NonNull => value.is_some(),
        };
        if writes {
            *stored = value;
        }
    }
}

/// The effect of a pack at the service.
fn apply(rows: &mut Rows, body: &[u8], ids: &[i64; 4]) -> u32 {
    decode_pack(body, &table().column_types(), &mut |record| {
        let Some(Value::Int(key)) = record.values[0] else { panic!("every record has its key") };
        if record.op == Op::Delete {
            assert!(!record.is_partial(), "a delete names no columns");
            rows.remove(&key);
            return Ok(());
        }
        let stored = rows.entry(key).or_default();
        for at in 1..4 {
            let set = !record.is_partial() || record.value_columns.contains(&ids[at]);
            assert!(set || record.values[at].is_none(), "a value that is not named is not sent");
            if set {
                stored[at - 1] = record.values[at].clone();
            }
        }
        assert!(record.value_columns.iter().all(|id| ids.contains(id)));
        Ok(())
    })
    .expect("a sealed pack decodes")
}

#[derive(Clone, Debug)]
enum Step {
    Row(Row),
    Seal,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let text = || prop::option::weighted(0.5, "[a-z]{0,9}");
    let row = (0..5_i64, prop::bool::weighted(0.15), text(), text(), prop::option::of(0..9_i64))
        .prop_map(|(key, deletes, a, b, c)| Step::Row(Row { key, deletes, a, b, c }));
    vec(prop_oneof![30 => row, 1 => Just(Step::Seal)], 0..120)
}

fn ids() -> impl Strategy<Value = [i64; 4]> {
    prop_oneof![Just([0, 1, 2, 3]), Just([9, 200, -1, 4]), Just([3, 2, 1, 0])]
}

/// Small enough that a short life reaches it.
const LIMIT: usize = 500;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_packs_leave_is_the_fold_of_the_rows_column_by_column(
        steps in steps(),
        have in any::<Have>(),
        written in prop::sample::select(vec![
            WrittenColumns::All, WrittenColumns::Declared, WrittenColumns::NonNull,
        ]),
        merge in any::<bool>(),
        ids in ids(),
    ) {
        let mut sink = Sink::new(written, have);
        let (mut expected, mut found) = (Rows::new(), Rows::new());
        let (mut rows, mut keys) = (0, std::collections::BTreeSet::new());
        for step in steps.iter().chain([&Step::Seal]) {
            match step {
                Step::Row(row) => {
                    fold(&mut expected, row, written, have);
                    sink.push(row, merge);
                    rows += 1;
                    keys.insert(row.key);
                }
                Step::Seal => {
                    if let Some((body, records)) = sink.seal(&ids) {
                        prop_assert_eq!(apply(&mut found, &body, &ids), records);
                        let most = if merge { 2 * keys.len() } else { rows };
                        prop_assert!(records as usize <= most, "{} of {}", records, most);
                    }
                    prop_assert_eq!(&found, &expected);
                    (rows, keys) = (0, std::collections::BTreeSet::new());
                }
            }
            prop_assert_eq!(sink.held, sink.buffer.held() as i64, "the account is exact");
        }
        prop_assert_eq!(sink.pool.lent_bytes(), 0);
    }
}

/// One batch of a writer: kinds, keys and values of a table of a key and two columns.
fn batch(rows: &[(RowKind, i64, Option<&str>)]) -> Vec<u8> {
    let kinds: Vec<_> = rows.iter().map(|(kind, ..)| *kind).collect();
    let texts = ColumnBuilder::utf8(rows.iter().map(|(.., text)| *text));
    BatchBuilder::new(rows.len())
        .kinds(&kinds)
        .column(ColumnBuilder::int64(rows.iter().map(|(_, key, _)| Some(*key))))
        .column(texts)
        .build()
}

fn writer(partial: bool) -> Writer {
    let column = |name: &str, column_type: &str| ColumnDescription {
        name: name.into(),
        column_type: column_type.into(),
        nullable: name != "id",
    };
    let text = |text: &str| String::from(text);
    let task = Task {
        identity: text("sink"),
        start: 1,
        nonce: 7,
        parallelism: 1,
        index: WriterIndex(0),
        options: vec![(text("upsert.partial-column.enable"), partial.to_string())],
        columns: vec![(text("id"), text("BIGINT")), (text("a"), text("STRING"))],
        table: TableDescription {
            name: text("t"),
            columns: vec![column("id", "bigint"), column("a", "string"), column("b", "string")],
            partition_columns: vec![],
            primary_key: vec![text("id")],
            buckets: 1,
        },
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    };
    let mut writer = Writer::open(Millis(0), &task, &[]).expect("a writer");
    while writer.poll_output().is_some() {}
    writer
}

/// The bytes that a writer holds after each of these inputs.
fn held(partial: bool, inputs: &[Result<Vec<u8>, CheckpointId>]) -> Vec<u64> {
    let mut writer = writer(partial);
    let held = inputs.iter().map(|input| {
        let input = match input {
            Ok(batch) => WriterInput::RowsArrived(batch),
            Err(barrier) => WriterInput::BarrierArrived(*barrier, BarrierKind::Checkpoint),
        };
        writer.handle_input(Millis(0), input).expect("a good input");
        while writer.poll_output().is_some() {}
        writer.held_bytes()
    });
    held.collect()
}

#[test]
fn a_batch_may_end_between_a_before_image_and_its_after_image() {
    use RowKind::{Insert, UpdateAfter, UpdateBefore};
    let rows = |rows: &[(RowKind, i64, Option<&str>)]| Ok(batch(rows));
    let (before, after) = ((UpdateBefore, 1, Some("x")), (UpdateAfter, 1, Some("y")));
    let alone = held(true, &[rows(&[after])])[0];
    let delete = held(true, &[rows(&[(RowKind::Delete, 1, None)])])[0];
    assert_eq!(held(true, &[rows(&[before, after])]), [alone], "in one batch");
    assert_eq!(held(true, &[rows(&[before]), rows(&[after])]), [0, alone], "in two");
    assert_eq!(held(true, &[rows(&[before]), rows(&[]), rows(&[after])]), [0, 0, alone]);
    for other in [(UpdateAfter, 2, Some("y")), (Insert, 1, Some("y")), before] {
        let found = held(true, &[rows(&[before]), rows(&[other])]);
        let of_other = if other.0 == UpdateBefore { 0 } else { alone };
        assert_eq!(found, [0, delete + of_other], "{other:?} is not its after-image");
    }
    let barrier = [rows(&[before]), Err(CheckpointId(1))];
    let found = held(true, &barrier);
    assert!(found[0] == 0 && found[1] > 0, "it does not wait for what is behind a barrier");
    // A whole row replaces what was deleted: nothing has to wait.
    let delete = rows(&[(RowKind::Delete, 1, None)]);
    assert_eq!(held(false, &[rows(&[before])]), held(false, &[delete]));
}

fn row(key: i64, a: Option<&str>, b: Option<&str>, c: Option<i64>) -> Row {
    let text = |text: Option<&str>| text.map(String::from);
    Row { key, deletes: false, a: text(a), b: text(b), c }
}

fn delete(key: i64) -> Row {
    Row { deletes: true, ..row(key, None, None, None) }
}

/// The records that the sink sends of these rows: the operation of each, its values beside the key,
/// and the columns that it names.
fn sent(sink: &mut Sink, rows: &[Row]) -> Vec<(Op, [Option<Value>; 3], Vec<i64>)> {
    rows.iter().for_each(|row| sink.push(row, true));
    let (body, _) = sink.seal(&[0, 1, 2, 3]).expect("there are rows");
    let mut records = Vec::new();
    decode_pack(&body, &table().column_types(), &mut |record| {
        let [_, a, b, c] = <[_; 4]>::try_from(record.values).expect("four columns");
        records.push((record.op, [a, b, c], record.value_columns));
        Ok(())
    })
    .expect("it decodes");
    records
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Bytes(text.into()))
}

#[test]
fn a_later_partial_row_lies_over_an_earlier_one() {
    let mut sink = Sink::new(WrittenColumns::NonNull, ALL);
    let rows = [row(1, Some("old"), Some("b"), None), row(1, Some("new"), None, None)];
    let expected = vec![(Op::Upsert, [text("new"), text("b"), None], vec![1, 2])];
    assert_eq!(sent(&mut sink, &rows), expected);
}

#[test]
fn a_delete_stays_before_a_partial_row_and_shuts_out_what_was_before() {
    let mut sink = Sink::new(WrittenColumns::NonNull, ALL);
    let before = row(1, Some("a"), None, Some(5));
    let rows = [before, delete(1), row(1, None, Some("b"), None)];
    let expected = vec![
        (Op::Delete, [None, None, None], vec![]),
        (Op::Upsert, [None, text("b"), None], vec![2]),
    ];
    assert_eq!(sent(&mut sink, &rows), expected);
    let rows = [delete(1), row(1, Some("a"), None, Some(5)), row(1, None, Some("b"), None)];
    let whole = vec![(Op::Upsert, [text("a"), text("b"), Some(Value::Int(5))], vec![])];
    assert_eq!(sent(&mut sink, &rows), whole, "a whole row replaces what was deleted");
    let rows = [row(1, None, Some("b"), None), delete(1)];
    assert_eq!(sent(&mut sink, &rows), vec![(Op::Delete, [None, None, None], vec![])]);
}

#[test]
fn a_row_with_all_columns_is_a_whole_row_and_one_with_none_names_its_key() {
    let mut sink = Sink::new(WrittenColumns::NonNull, ALL);
    let rows = [row(1, Some("a"), Some("b"), Some(1)), row(2, None, None, None)];
    let expected = vec![
        (Op::Upsert, [text("a"), text("b"), Some(Value::Int(1))], vec![]),
        (Op::Upsert, [None, None, None], vec![0]),
    ];
    assert_eq!(sent(&mut sink, &rows), expected);
}

#[test]
fn only_static_mode_sets_a_column_to_null() {
    let have = [false, true, true];
    let rows = [row(1, None, Some("b"), Some(1)), row(1, None, None, Some(2))];
    let mut sink = Sink::new(WrittenColumns::Declared, have);
    let expected = vec![(Op::Upsert, [None, None, Some(Value::Int(2))], vec![2, 3])];
    assert_eq!(sent(&mut sink, &rows), expected);
    let mut sink = Sink::new(WrittenColumns::NonNull, have);
    let expected = vec![(Op::Upsert, [None, text("b"), Some(Value::Int(2))], vec![2, 3])];
    assert_eq!(sent(&mut sink, &rows), expected);
}

#[test]
fn rows_with_every_column_are_whole_in_static_mode() {
    assert!(Sink::new(WrittenColumns::Declared, ALL).rows.is_none());
    assert!(Sink::new(WrittenColumns::All, [false; 3]).rows.is_none());
}

#[test]
fn a_static_row_is_written_as_java_writes_it() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/exchanges/");
    let sink = Sink::new(WrittenColumns::Declared, [false, true, true]);
    for (key, file) in [(0, "004_PUT"), (2, "006_PUT"), (1, "007_PUT")] {
        let path = format!("{root}java_partial_update/{file}.json");
        let recorded = std::fs::read_to_string(path).expect("it is in the repository");
        let recorded: serde_json::Value = serde_json::from_str(&recorded).expect("it is JSON");
        let (mut body, crc) = sink.encode(&row(key, None, Some(&format!("b{key}")), None));
        pack_trailer([crc].into_iter(), 1, &mut body);
        let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, recorded["body_hex"].as_str().expect("a body"), "{file}");
    }
}
