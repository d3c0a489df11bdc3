//! Batches in the `columns` form, as engines hand them over: `batch::RowBatch`.
//!
//! The first byte of an input picks the columns, the rest is a batch. Promises: rows of a batch
//! that is taken become records, and a batch built of what those records hold becomes the same
//! records; a refusal is `Corrupt` and names its place; a row that breaks a rule of the table says
//! which column and which rule.

use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowBatch, RowKind};
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::hash::{Hasher, KeyHasher};
use upsert_sink_format::record::{
    RecordBlock, RecordBytes, RecordEncoder, Value, decode_pack, pack_trailer,
};
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};
use upsert_sink_tests::fuzz::shape;

use crate::Memory;

/// Columns by the first byte of an input: the table's type, and the rows'. The first is the key.
const TABLES: [&[(&str, &str)]; 4] = [
    &[("bigint", "BIGINT"), ("string", "STRING")],
    &[
        ("bigint", "BIGINT"),
        ("boolean", "BOOLEAN"),
        ("tinyint", "TINYINT"),
        ("smallint", "SMALLINT"),
        ("int", "INT"),
        ("float", "FLOAT"),
        ("double", "DOUBLE"),
        ("decimal(10,2)", "DECIMAL(10,2)"),
        ("varchar(5)", "VARCHAR(5)"),
        ("binary", "BYTES"),
        ("date", "DATE"),
    ],
    &[
        ("string", "STRING"),
        ("datetime", "TIMESTAMP_LTZ(3)"),
        ("timestamp", "TIMESTAMP_LTZ(9)"),
        ("timestamp_ntz", "TIMESTAMP(6)"),
        ("interval_year_month", "INTERVAL YEAR TO MONTH"),
        ("interval_day_time", "INTERVAL DAY TO SECOND"),
        ("json", "STRING"),
    ],
    &[
        ("int", "INT"),
        ("array<string>", "ARRAY<STRING>"),
        ("map<string,array<int>>", "MAP<STRING, ARRAY<INT>>"),
        ("struct<a:bigint,b:boolean>", "ROW<a BIGINT, b BOOLEAN>"),
    ],
];

struct Table {
    schema: TableSchema,
    plan: RowPlan,
    encoder: RecordEncoder,
    hasher: KeyHasher,
}

static PLANS: LazyLock<Vec<Table>> = LazyLock::new(|| TABLES.iter().map(|t| table(t)).collect());

/// Reading takes a few words for each column of the plan, whatever the bytes say.
const MEMORY: Memory = Memory { fixed: 16 << 10, per_byte: 1 };
/// So many rows are built again: more of them promise nothing more.
const ROWS_REBUILT: usize = 200;

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let Some((first, bytes)) = input.split_first() else { return Ok(String::from("nothing")) };
    let number = usize::from(*first) % TABLES.len();
    let table = &PLANS[number];
    let batch = match MEMORY.bounds(input, || RowBatch::parse(bytes, &table.plan))? {
        Ok(batch) => batch,
        Err(error) => {
            ensure!(error.kind == ErrorKind::Corrupt, "a batch is refused as {:?}", error.kind);
            ensure!(!error.at.is_empty() && !error.message.is_empty(), "no place: {error}");
            return Ok(format!("{number} {}", shape(&error.to_string())));
        }
    };
    let mut hashes = Vec::new();
    table.hasher.hash_batch(&batch, &mut hashes);
    ensure!(hashes.len() == batch.rows(), "{} hashes of {} rows", hashes.len(), batch.rows());
    let (records, fault) = records(table, &batch)?;
    let kinds: Vec<RowKind> = records.iter().map(|record| batch.kind(record.row)).collect();
    let built = rebuilt(table, &records, &kinds);
    let again = RowBatch::parse(&built, &table.plan).context("a built batch is refused")?;
    for (row, record) in records.iter().enumerate() {
        let mut written = Vec::new();
        let encoded = table.encoder.encode(&again, row, &mut written);
        ensure!(encoded.is_ok(), "row {row} broke a rule only when it was built again");
        ensure!(written == record.bytes, "row {row} is another when it is built again");
        ensure!(again.kind(row) == kinds[row], "row {row} has another kind");
    }
    Ok(format!("{number} {} rows {fault}", batch.rows().min(3)))
}

/// A row as a record, and what that holds.
struct Record {
    row: usize,
    bytes: Vec<u8>,
    values: Vec<Option<Value>>,
}

/// The rows that break no rule as records, and the shape of the first fault.
fn records(table: &Table, batch: &RowBatch<'_>) -> Result<(Vec<Record>, String)> {
    let (mut records, mut fault) = (Vec::new(), String::new());
    let (mut block, mut first, mut in_block) = (RecordBlock::new(), 0, 0);
    let (mut out, mut key) = (Vec::new(), RecordBytes::new());
    for row in 0..batch.rows().min(ROWS_REBUILT) {
        if row == first + in_block {
            first = row;
            in_block = table.encoder.encode_block(batch, first, &mut block);
            ensure!(in_block > 0, "a block takes no row");
        }
        let plain = table.encoder.encode(batch, row, &mut out);
        if let Some((bytes, crc)) = block.record(row - first) {
            ensure!(plain == Ok(crc) && bytes == out, "a block has another record of row {row}");
        }
        match plain {
            Ok(crc) => {
                let values = values(table, &out, crc)?;
                if !values.iter().flatten().any(is_far_span) {
                    records.push(Record { row, bytes: out.clone(), values });
                }
                table.encoder.key(batch, row, &mut key);
            }
            Err(broken) => {
                ensure!(out.is_empty(), "a refused row leaves {} bytes", out.len());
                ensure!(!broken.column.is_empty() && !broken.rule.is_empty(), "no rule: {broken}");
                fault = shape(&broken.to_string());
            }
        }
    }
    Ok((records, fault))
}

/// The values of a record.
fn values(table: &Table, record: &[u8], crc: u32) -> Result<Vec<Option<Value>>> {
    let mut pack = record.to_vec();
    pack_trailer([crc].into_iter(), 1, &mut pack);
    let mut values = Vec::new();
    decode_pack(&pack, &table.schema.column_types(), &mut |record| {
        values = record.values;
        Ok(())
    })?;
    Ok(values)
}

/// Whether the builder, which writes spans in nanoseconds, cannot write it.
fn is_far_span(value: &Value) -> bool {
    matches!(value, Value::DayTime { seconds, .. } if seconds.unsigned_abs() > 9_000_000_000)
}

/// A batch of what the records hold.
fn rebuilt(table: &Table, records: &[Record], kinds: &[RowKind]) -> Vec<u8> {
    let columns = table.plan.row_columns.iter().enumerate();
    let batch = columns.fold(BatchBuilder::new(records.len()), |batch, (index, (_, row_type))| {
        let values: Vec<_> = records.iter().map(|record| record.values[index].clone()).collect();
        batch.column(ColumnBuilder::of(row_type, &values))
    });
    batch.kinds(kinds).build()
}

fn table(columns: &[(&str, &str)]) -> Table {
    let describe = |(index, (column, _)): (usize, &(&str, &str))| ColumnDescription {
        name: format!("c{index}"),
        column_type: String::from(*column),
        nullable: index > 0,
    };
    let schema = TableSchema::parse(&TableDescription {
        name: String::from("t"),
        columns: columns.iter().enumerate().map(describe).collect(),
        partition_columns: Vec::new(),
        primary_key: vec![String::from("c0")],
        buckets: 4,
    });
    let schema = schema.expect("a table of the list above");
    let rows = columns.iter().enumerate();
    let rows: Vec<_> =
        rows.map(|(index, (_, row))| (format!("c{index}"), String::from(*row))).collect();
    let plan = RowPlan::new(&schema, &rows, &[]).expect("rows of the list above");
    let encoder = RecordEncoder::new(&schema, &plan);
    let hasher = KeyHasher::new(Hasher::Default, &schema, &plan).expect("the keys can be hashed");
    Table { schema, plan, encoder, hasher }
}
