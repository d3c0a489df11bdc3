//! The rows that all clients write: a key, two texts that do not repeat, a number, a time.
//!
//! The texts are drawn once and handed to every client as a file; the rest follows from the number
//! of the row. Rows after the first million have the texts of the first again, far beyond what a
//! compression can see, and keys of their own. Invariant: the same rows for every client.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use upsert_sink_format::record::{DecodedRecord, Value};

/// Rows with texts of their own.
pub(crate) const MILLION: u64 = 1_000_000;
/// Name and type of the columns, as a table describes them.
pub(crate) const COLUMNS: [(&str, &str); 5] =
    [("id", "bigint"), ("a", "string"), ("b", "string"), ("price", "double"), ("at", "timestamp")];
/// Letters of the two texts of a row.
const A: usize = 50;
const B: usize = 52;
/// Rows of one batch.
const BATCH_ROWS: u64 = 8192;
/// The time of the first row, in milliseconds.
const FIRST_AT: i64 = 1_780_000_000_000;

/// The texts of a million rows, and what follows from them.
pub(crate) struct Rows {
    texts: Vec<u8>,
}

impl Rows {
    /// Draws them.
    pub(crate) fn draw() -> Self {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut chance = fastrand::Rng::with_seed(0x9E37_79B9_7F4A_7C15);
        let mut texts = Vec::with_capacity((A + B) * MILLION as usize);
        while texts.len() < (A + B) * MILLION as usize {
            let drawn = chance.u64(..);
            // Ten letters of six bits each.
            texts.extend((0..10).map(|at| LETTERS[(drawn >> (6 * at)) as usize % 64]));
        }
        texts.truncate((A + B) * MILLION as usize);
        Self { texts }
    }

    /// Reads what another process has drawn.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let texts = std::fs::read(path)?;
        ensure!(texts.len() == (A + B) * MILLION as usize, "the texts are not whole");
        Ok(Self { texts })
    }

    /// Hands them to another process.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, &self.texts)?)
    }

    fn texts(&self, row: u64) -> (&str, &str) {
        let at = (A + B) * row as usize;
        let text = |from, to| {
            std::str::from_utf8(&self.texts[from..to]).expect("letters are drawn, one byte each")
        };
        (text(at, at + A), text(at + A, at + A + B))
    }

    /// The first million rows in batches.
    pub(crate) fn batches(&self) -> Result<Vec<RecordBatch>> {
        let batches = (0..MILLION).step_by(BATCH_ROWS as usize).map(|first| {
            let rows = || first..(first + BATCH_ROWS).min(MILLION);
            let a = StringArray::from_iter_values(rows().map(|row| self.texts(row).0));
            let b = StringArray::from_iter_values(rows().map(|row| self.texts(row).1));
            let prices = Float64Array::from_iter_values(rows().map(price));
            let times = TimestampMillisecondArray::from_iter_values(rows().map(at_ms));
            let keys = Int64Array::from_iter_values(rows().map(|row| row as i64));
            let arrays: [ArrayRef; 5] = [
                Arc::new(keys),
                Arc::new(a),
                Arc::new(b),
                Arc::new(prices),
                Arc::new(times.with_timezone("+00:00")),
            ];
            let names = COLUMNS.map(|(name, _)| name);
            let columns = names.into_iter().zip(arrays).map(|(name, array)| (name, array, true));
            Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
        });
        batches.collect()
    }

    /// The sum of [`digest_of`] over the first million records, in any order.
    pub(crate) fn digest(&self) -> u64 {
        let rows = (0..MILLION).map(|row| {
            let (a, b) = self.texts(row);
            let at_ms = at_ms(row);
            let (seconds, nanos) = (at_ms / 1000, (at_ms % 1000) as u32 * 1_000_000);
            hash((row as i64, a.as_bytes(), b.as_bytes()), (price(row).to_bits(), seconds, nanos))
        });
        rows.fold(0, u64::wrapping_add)
    }
}

/// The batch with the keys of a later million.
pub(crate) fn of_million(batch: &RecordBatch, million: u64) -> Result<RecordBatch> {
    if million == 0 {
        return Ok(batch.clone());
    }
    let first = million * MILLION;
    let keys = batch.column(0).as_primitive::<Int64Type>().values();
    let keys = Int64Array::from_iter_values(keys.iter().map(|key| key + first as i64));
    let mut columns = batch.columns().to_vec();
    columns[0] = Arc::new(keys);
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// A hash that tells the record from any other; the sum over all is the same in any order.
pub(crate) fn digest_of(record: &DecodedRecord) -> Option<u64> {
    let [id, a, b, price, at] = record.values.as_slice() else { return None };
    match (id, a, b, price, at) {
        (
            Some(Value::Int(id)),
            Some(Value::Bytes(a)),
            Some(Value::Bytes(b)),
            Some(Value::Double(price)),
            Some(Value::Timestamp { seconds, nanos }),
        ) => Some(hash((*id, a, b), (price.to_bits(), *seconds, *nanos))),
        _ => None,
    }
}

fn hash(key_and_texts: (i64, &[u8], &[u8]), numbers: (u64, i64, u32)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key_and_texts, numbers).hash(&mut hasher);
    hasher.finish()
}

fn price(row: u64) -> f64 {
    row as f64 / 7.0
}

fn at_ms(row: u64) -> i64 {
    FIRST_AT + row as i64
}
