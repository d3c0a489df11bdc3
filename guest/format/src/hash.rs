//! The hash of a primary key, bit for bit as MaxCompute's own clients compute it, and the bucket
//! that follows from it.
//!
//! A row comes from `partition` and goes on to `bucket`. Here and only here arithmetic wraps: these
//! are Java's ints. Invariant: for every key type the result is that of odps-sdk-core 0.57.1
//! (`tests/fixtures/hash_vectors.json`); where PyODPS differs (binary, decimals of scale 0,
//! fractions before 1970), Java is right.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::array;

use crate::batch::{Column, RowBatch, RowFault, Values};
use crate::error::Error;
use crate::id::BucketId;
use crate::record::{Value, table_value};
use crate::schema::{ColumnType, RowPlan, TableSchema};

/// Which of the service's two hash functions a session uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hasher {
    /// `default`.
    Default,
    /// `legacy`, of tables made long ago.
    Legacy,
}

impl Hasher {
    /// Reads the session's word for it.
    ///
    /// Errors: `InvalidConfig` for any other word: rows would go to wrong buckets.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "default" => Ok(Self::Default),
            "legacy" => Ok(Self::Legacy),
            _ => Err(Error::config(
                format!("hasher {text}"),
                "the session hashes keys by a function that this version does not know (it knows \
                 default and legacy); update the sink",
            )),
        }
    }

    /// The session's word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Legacy => "legacy",
        }
    }

    /// Java's hash of a long. `>>` keeps the sign, sums and products overflow.
    #[inline(always)]
    fn long(self, value: i64) -> i32 {
        match self {
            Self::Default => {
                let mut v = (!value).wrapping_add(value << 18);
                v ^= v >> 31;
                v = v.wrapping_mul(21);
                v ^= v >> 11;
                v = v.wrapping_add(v << 6);
                v ^= v >> 22;
                v as i32
            }
            Self::Legacy => ((value >> 32) ^ value) as i32,
        }
    }

    /// Java's hash of a byte string.
    #[inline(always)]
    fn bytes(self, bytes: &[u8]) -> i32 {
        self.end(bytes.iter().fold(0, |hash, byte| self.add(hash, *byte)))
    }

    /// The same of four byte strings: each byte waits for the one before it, but not for those of
    /// other strings, so that as far as the shortest reaches one instruction does it for all four.
    #[inline(always)]
    fn four(self, texts: [&[u8]; 4]) -> [i32; 4] {
        let shortest = texts.iter().map(|text| text.len()).min().unwrap_or(0);
        let words = texts.map(|text| text[..shortest].as_chunks::<4>().0);
        let mut hashes = [0; 4];
        for at in 0..shortest / 4 {
            let four = words.map(|words| u32::from_le_bytes(words[at]));
            for byte in 0..4 {
                hashes = array::from_fn(|i| self.add(hashes[i], (four[i] >> (8 * byte)) as u8));
            }
        }
        let done = shortest / 4 * 4;
        array::from_fn(|i| {
            self.end(texts[i][done..].iter().fold(hashes[i], |hash, byte| self.add(hash, *byte)))
        })
    }

    /// One byte more, which is signed in Java.
    #[inline(always)]
    fn add(self, hash: i32, byte: u8) -> i32 {
        let byte = i32::from(byte as i8);
        match self {
            Self::Default => {
                let hash = hash.wrapping_add(byte);
                let hash = hash.wrapping_add(hash << 10);
                hash ^ (hash >> 6)
            }
            Self::Legacy => hash.wrapping_mul(31).wrapping_add(byte),
        }
    }

    /// After the last byte.
    #[inline(always)]
    fn end(self, hash: i32) -> i32 {
        match self {
            Self::Default => {
                let hash = hash.wrapping_add(hash << 3);
                let hash = hash ^ (hash >> 11);
                hash.wrapping_add(hash << 15)
            }
            Self::Legacy => hash,
        }
    }
}

/// The bucket of a row: its hash modulo the number of buckets, which is at least one.
#[inline]
pub fn bucket_of(row_hash: i32, buckets: u32) -> BucketId {
    // A row's hash is never negative: its sign bit was xored with itself.
    BucketId(row_hash as u32 % buckets)
}

/// The hash of a key: columns with their values, null ones contribute nothing.
///
/// Errors: `InvalidConfig` for a type that cannot be hashed; `Bug` for a value that is not of its
/// column's type.
pub fn hash_values(hasher: Hasher, key: &[(&ColumnType, Option<&Value>)]) -> Result<i32, Error> {
    let mut sum = 0i32;
    for (column, value) in key {
        check_hashable(column)?;
        let Some(value) = value else { continue };
        let hash = hash_value(hasher, column, value).ok_or_else(|| {
            Error::bug("hash", format!("a key column is {column}, but its value is not"))
        })?;
        sum = sum.wrapping_add(hash);
    }
    Ok(finish(sum))
}

/// Hashes the keys of batches, column by column.
#[derive(Clone, Debug)]
pub struct KeyHasher {
    hasher: Hasher,
    columns: Vec<KeyColumn>,
}

/// One column of the key.
#[derive(Clone, Debug)]
struct KeyColumn {
    name: String,
    source: usize,
    column_type: ColumnType,
}

impl KeyHasher {
    /// A hasher for the keys of the plan's batches.
    ///
    /// Errors: `InvalidConfig` for a key column of a type that cannot be hashed (json,
    /// interval_year_month, array, map, struct).
    pub fn new(hasher: Hasher, schema: &TableSchema, plan: &RowPlan) -> Result<Self, Error> {
        let mut columns = Vec::with_capacity(schema.key.len());
        for index in &schema.key {
            let column = &schema.columns[*index];
            check_hashable(&column.column_type).map_err(|error| Error {
                at: format!("{}, primary key {}", schema.name, column.name),
                ..error
            })?;
            let source = plan.columns[*index].ok_or_else(|| {
                Error::bug(
                    &schema.name,
                    format!("the plan has no source of the key column {}", column.name),
                )
            })?;
            let (name, column_type) = (column.name.clone(), column.column_type.clone());
            columns.push(KeyColumn { name, source, column_type });
        }
        Ok(Self { hasher, columns })
    }

    /// Puts the hash of each row into `out`, in place of what was there. A row that `fault` or the
    /// encoder refuses has a hash without meaning.
    pub fn hash_batch(&self, batch: &RowBatch<'_>, out: &mut Vec<i32>) {
        out.clear();
        out.resize(batch.rows(), 0);
        for key in &self.columns {
            add_column(self.hasher, &key.column_type, batch.column(key.source), out);
        }
        out.iter_mut().for_each(|sum| *sum = finish(*sum));
    }

    /// Whether a row's key is refused because a column of it is null.
    pub fn fault(&self, batch: &RowBatch<'_>, row: usize) -> Option<RowFault> {
        let null = self.columns.iter().find(|key| batch.column(key.source).is_null(row))?;
        Some(RowFault::new(&null.name, NULL_KEY))
    }
}

/// The rule of null keys.
pub(crate) const NULL_KEY: &str = "it is null, but belongs to the primary key, which is never null";

/// Adds the hashes of a column to the sums of its rows.
fn add_column(hasher: Hasher, to: &ColumnType, column: &Column<'_>, sums: &mut [i32]) {
    match &column.values {
        Values::Int64(values) if !column.has_nulls() => {
            for (sum, value) in sums.iter_mut().zip(*values) {
                *sum = sum.wrapping_add(hasher.long(i64::from_le_bytes(*value)));
            }
        }
        Values::Int32(values) if !column.has_nulls() => {
            for (sum, value) in sums.iter_mut().zip(*values) {
                *sum = sum.wrapping_add(hasher.long(i64::from(i32::from_le_bytes(*value))));
            }
        }
        Values::Utf8(slices) if !column.has_nulls() => {
            let (fours, rest) = sums.as_chunks_mut::<4>();
            let after = 4 * fours.len();
            for (index, sums) in fours.iter_mut().enumerate() {
                let texts = slices.four_bytes(4 * index);
                let hashes = hasher.four(texts);
                *sums = array::from_fn(|i| sums[i].wrapping_add(hashes[i]));
            }
            for (index, sum) in rest.iter_mut().enumerate() {
                *sum = sum.wrapping_add(hasher.bytes(slices.bytes(after + index)));
            }
        }
        _ => {
            for (row, sum) in sums.iter_mut().enumerate() {
                // A value that breaks a rule is refused by the encoder; until then its hash is that
                // of null.
                let hash = match table_value(column, row, to) {
                    Ok(Some(value)) => hash_value(hasher, to, &value),
                    Ok(None) | Err(_) => None,
                };
                *sum = sum.wrapping_add(hash.unwrap_or(0));
            }
        }
    }
}

/// Java spreads the sum's high bits downwards, keeping the sign; so the result is never negative.
#[inline(always)]
fn finish(sum: i32) -> i32 {
    sum ^ (sum >> 8)
}

fn check_hashable(column: &ColumnType) -> Result<(), Error> {
    match column {
        ColumnType::Json
        | ColumnType::IntervalYearMonth
        | ColumnType::Array(_)
        | ColumnType::Map(..)
        | ColumnType::Struct(_) => Err(Error::config(
            "primary key",
            format!(
                "{column} cannot be part of a primary key: MaxCompute has no hash of it; use an \
                 integer, string or date column"
            ),
        )),
        _ => Ok(()),
    }
}

/// The hash of one value; none if it is not of the column's type.
fn hash_value(hasher: Hasher, column: &ColumnType, value: &Value) -> Option<i32> {
    if !value.fits(column) {
        return None;
    }
    Some(match value {
        Value::Bool(true) => 0x172b_a9c7,
        Value::Bool(false) => -0x3a59_cb12,
        Value::Int(value) | Value::Datetime(value) => hasher.long(*value),
        Value::Date(days) => hasher.long(days.wrapping_mul(86_400)),
        Value::Timestamp { seconds, nanos } => hasher.long((seconds << 30) | i64::from(*nanos)),
        Value::DayTime { seconds, nanos } => hasher.long((seconds << 30) | i64::from(*nanos)),
        Value::Float(value) => hasher.long(i64::from(float_bits(*value))),
        Value::Double(value) => hasher.long(double_bits(*value)),
        Value::Decimal(unscaled) => hash_decimal(hasher, column, *unscaled),
        Value::Bytes(bytes) if *column == ColumnType::Binary => {
            let text = bytes.iter().flat_map(|byte| quoted_printable(*byte));
            hasher.end(text.fold(0, |hash, byte| hasher.add(hash, byte)))
        }
        Value::Bytes(bytes) => hasher.bytes(bytes),
        Value::Array(_) | Value::Map(_) | Value::Struct(_) | Value::YearMonth(_) => return None,
    })
}

/// Decimals of more than 18 digits are two longs.
fn hash_decimal(hasher: Hasher, column: &ColumnType, unscaled: i128) -> i32 {
    let low = hasher.long(unscaled as i64);
    match column {
        ColumnType::Decimal { precision: 19.., .. } => {
            low.wrapping_add(hasher.long((unscaled >> 64) as i64))
        }
        _ => low,
    }
}

/// Java's `Float.floatToIntBits`: there is one NaN.
fn float_bits(value: f32) -> i32 {
    if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() as i32 }
}

/// Java's `Double.doubleToLongBits`: there is one NaN.
fn double_bits(value: f64) -> i64 {
    if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() as i64 }
}

/// A byte as Java's `Binary.toString` writes it: itself if it is printable, else `=` and two
/// hexadecimal digits.
fn quoted_printable(byte: u8) -> impl Iterator<Item = u8> {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let plain = matches!(byte, b'\t' | b' '..=b'<' | b'>'..=b'~');
    let text = if plain {
        [byte, 0, 0]
    } else {
        [b'=', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
    };
    text.into_iter().take(if plain { 1 } else { 3 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_texts_of_any_lengths_hash_like_each_alone() {
        let bytes: Vec<u8> = (0..64_u32).map(|i| (i * 151 + 77) as u8).collect();
        for seed in 0..4_000_usize {
            let texts = array::from_fn(|i| {
                let length = (seed * (2 * i + 3) / 5 + seed / 19 * i) % 30;
                &bytes[(seed + 7 * i) % 30..][..length]
            });
            for hasher in [Hasher::Default, Hasher::Legacy] {
                assert_eq!(hasher.four(texts), texts.map(|text| hasher.bytes(text)), "{texts:?}");
            }
        }
    }
}
