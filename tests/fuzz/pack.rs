//! Packs, as clients send them: `record::decode_pack`.
//!
//! The first byte of an input picks the table, the rest is a pack. Promises: records that are read
//! mean the same when they are written again; what another writer may write is read as it was
//! meant; a refusal is `Corrupt` and names record and byte. Invariant: the other writer, in
//! `pack_writer.rs`, shares no code with the reader.

use std::sync::LazyLock;

use anyhow::{Result, ensure};
use fastrand::Rng;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::record::{DecodedRecord, decode_pack, encode_partial, pack_trailer};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_tests::fuzz::shape;

use crate::{Memory, pack_writer};

/// Tables by the first byte of an input.
const TABLES: [&[&str]; 5] = [
    &["bigint", "string", "string", "bigint"],
    &["bigint", "int", "smallint", "tinyint", "boolean", "float", "double", "date"],
    &["string", "varchar(8)", "char(3)", "binary", "json", "decimal(38,18)", "decimal(5,0)"],
    &["datetime", "timestamp", "timestamp_ntz", "interval_year_month", "interval_day_time"],
    &[
        "bigint",
        "array<string>",
        "map<string,bigint>",
        "struct<a:bigint,b:array<map<string,struct<c:double>>>>",
        "array<array<boolean>>",
    ],
];

static COLUMNS: LazyLock<Vec<Vec<ColumnType>>> = LazyLock::new(|| {
    let types = TABLES.iter().map(|types| types.iter().map(|text| column(text)));
    types.map(Iterator::collect).collect()
});

/// A value in memory is an enum of 48 bytes behind a null flag; two bytes of a pack may be one, and
/// a list doubles when it grows. A record of few bytes still has a value for each column.
const MEMORY: Memory = Memory { fixed: 16 << 10, per_byte: 400 };

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let Some((first, pack)) = input.split_first() else { return Ok(String::from("nothing")) };
    let table = usize::from(*first) % TABLES.len();
    let columns = &COLUMNS[table];
    read_as_meant(pack, columns)?;
    match MEMORY.bounds(input, || read(pack, columns))? {
        Ok(records) => {
            ensure!(records.len() * 5 <= pack.len(), "more records than there is room for");
            let written = write(&records, columns);
            let again = read(&written, columns)?;
            let same = write(&again, columns) == written && text(&again) == text(&records);
            ensure!(same, "read {records:?}, but written and read again {again:?}");
            let partial = records.iter().any(DecodedRecord::is_partial);
            let partial = if partial { " partial" } else { "" };
            Ok(format!("{table} {}{partial}", records.len().min(3)))
        }
        Err(error) => {
            ensure!(error.kind == ErrorKind::Corrupt, "a pack is refused as {:?}", error.kind);
            let place = error.at.starts_with("pack, record ") && error.at.contains(", byte ");
            ensure!(place && !error.message.is_empty(), "it does not say where: {error}");
            Ok(format!("{table} {}", shape(&error.message)))
        }
    }
}

/// Reads the pack that another writer makes, by chance that the input's bytes decide.
fn read_as_meant(bytes: &[u8], columns: &[ColumnType]) -> Result<()> {
    let seed = bytes.iter().fold(0, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(*byte));
    let mut rng = Rng::with_seed(seed);
    let meant = pack_writer::records(&mut rng, columns);
    let pack = pack_writer::write(&mut rng, &meant, columns);
    let found = read(&pack, columns)?;
    ensure!(text(&found) == text(&meant), "{meant:?} was written, {found:?} was read: {pack:02x?}");
    let cut = rng.usize(..pack.len());
    ensure!(read(&pack[..cut], columns).is_err(), "a pack may be cut at {cut}: {pack:02x?}");
    Ok(())
}

fn read(pack: &[u8], columns: &[ColumnType]) -> Result<Vec<DecodedRecord>, Error> {
    let mut records = Vec::new();
    let count = decode_pack(pack, columns, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    assert_eq!(usize::try_from(count), Ok(records.len()), "the count is that of the records");
    Ok(records)
}

/// The plain form.
fn write(records: &[DecodedRecord], columns: &[ColumnType]) -> Vec<u8> {
    let (mut pack, mut crcs) = (Vec::new(), Vec::new());
    for record in records {
        let DecodedRecord { op, values, value_columns } = record;
        crcs.push(encode_partial(columns, values, *op, value_columns, &mut pack));
    }
    let count = u32::try_from(crcs.len()).expect("an input has few records");
    pack_trailer(crcs.into_iter(), count, &mut pack);
    pack
}

/// Tells apart what equality does not: two zeros, and a NaN from itself.
fn text(records: &[DecodedRecord]) -> String {
    let values = records.iter().map(|record| (record.op, &record.values, &record.value_columns));
    format!("{:?}", values.collect::<Vec<_>>())
}

fn column(text: &str) -> ColumnType {
    ColumnType::parse(text).expect("a type of the list above")
}
