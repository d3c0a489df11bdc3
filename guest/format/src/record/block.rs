//! Records of some rows that lie one after another, under construction side by side.
//!
//! `encode` writes here, column by column: the checksums of neighbouring rows do not wait for each
//! other, as those of neighbouring columns do, and what is known of a column is looked up once a
//! block. `writer` takes the records from here row by row. Invariant: the bytes of a row stay
//! within its own stretch of the array; a row that might not fit there, or that breaks a rule, is
//! left to the plain way and shows no record.

use alloc::boxed::Box;
use core::num::NonZeroU32;

use super::bytes::{Cursor, NEAR_BYTES, RECORD_BYTES_MAX};
use super::crc::Crc;

/// The records of up to [`BLOCK_ROWS`] rows.
#[derive(Clone, Debug)]
pub struct RecordBlock {
    bytes: Box<[u8; NEAR_BYTES]>,
    rows: [RowUnderWay; BLOCK_ROWS],
    /// Where the primary key of each row ends, if the records are known to begin with it.
    key_ends: [u32; BLOCK_ROWS],
    keys_lead: bool,
    /// The rows of which all columns are written.
    upserts: RowSet,
    /// Those of which only the primary key is.
    deletes: RowSet,
    /// Bytes from the beginning of one row to that of the next.
    stride: usize,
}

/// Rows of one block, at most: with their bytes and the tables of the checksum they fit into the
/// nearest cache, and a set of them into a word.
pub const BLOCK_ROWS: usize = 32;

/// Some rows of a block.
///
/// Whether a column of a row is written (deletes, nulls, rows that broke a rule) is
/// decided for all rows of a block at once, so that loops over rows decide nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RowSet(u32);

/// A row of a block.
#[derive(Clone, Copy, Debug)]
struct RowUnderWay {
    crc: Crc,
    /// Where its next byte goes.
    end: u32,
}

impl RowSet {
    /// Those of the first `count` rows that the condition holds for.
    pub(super) fn of(count: usize, holds: impl Fn(usize) -> bool) -> Self {
        (0..count).filter(|index| holds(*index)).fold(Self(0), |set, index| set.with(index))
    }

    /// The first `count` rows.
    pub(super) fn first(count: usize) -> Self {
        assert!(count <= BLOCK_ROWS, "a block has at most {BLOCK_ROWS} rows");
        Self(((1_u64 << count) - 1) as u32)
    }

    fn with(self, index: usize) -> Self {
        Self(self.0 | 1 << index)
    }

    /// The rows of either.
    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rows of both.
    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The rows that the other does not have.
    pub(super) fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    fn has(self, index: usize) -> bool {
        index < BLOCK_ROWS && self.0 >> index & 1 == 1
    }
}

impl RecordBlock {
    /// A block without rows.
    pub fn new() -> Self {
        Self {
            bytes: Box::new([0; NEAR_BYTES]),
            rows: [RowUnderWay { crc: Crc::START, end: 0 }; BLOCK_ROWS],
            key_ends: [0; BLOCK_ROWS],
            keys_lead: false,
            upserts: RowSet::default(),
            deletes: RowSet::default(),
            stride: RECORD_BYTES_MAX,
        }
    }

    /// The record of the row at this place of the block, and its checksum; none if it has to be
    /// written the plain way.
    #[inline]
    pub fn record(&self, index: usize) -> Option<(&[u8], u32)> {
        if !self.with_record().has(index) {
            return None;
        }
        Some(self.written(index))
    }

    /// The same of a row that has been written.
    #[inline]
    pub fn written(&self, index: usize) -> (&[u8], u32) {
        let row = &self.rows[index];
        (&self.bytes[index * self.stride..row.end as usize], row.crc.finish())
    }

    /// The fields of the primary key of a row, if its record is written here and known to begin
    /// with them.
    #[inline]
    pub fn key(&self, index: usize) -> Option<&[u8]> {
        let known = self.keys_lead && self.with_record().has(index);
        known.then(|| &self.bytes[index * self.stride..self.key_ends[index] as usize])
    }

    /// Whether it has the records of all of the first `count` rows.
    pub fn is_complete(&self, count: usize) -> bool {
        RowSet::first(count).difference(self.with_record()) == RowSet::default()
    }

    /// The most bytes that a record takes.
    pub fn row_bytes_max(&self) -> usize {
        self.stride
    }

    /// Begins anew with these rows, each with room for `stride` bytes.
    pub(super) fn begin(&mut self, stride: usize, upserts: RowSet, deletes: RowSet) {
        let rows = BLOCK_ROWS - upserts.union(deletes).0.leading_zeros() as usize;
        assert!(rows * stride <= RECORD_BYTES_MAX, "the rows fit into the array");
        (self.upserts, self.deletes, self.stride) = (upserts, deletes, stride);
        self.keys_lead = false;
        for (index, row) in self.rows[..rows].iter_mut().enumerate() {
            *row = RowUnderWay { crc: Crc::START, end: (index * stride) as u32 };
        }
    }

    /// The primary keys end here: they are written first.
    pub(super) fn end_keys(&mut self) {
        for (end, row) in self.key_ends.iter_mut().zip(&self.rows) {
            *end = row.end;
        }
        self.keys_lead = true;
    }

    /// The rows that are not left to the plain way.
    fn with_record(&self) -> RowSet {
        self.upserts.union(self.deletes)
    }

    /// The rows of which all columns are written.
    pub(super) fn upserts(&self) -> RowSet {
        self.upserts
    }

    /// The rows of which the primary key is written.
    pub(super) fn deletes(&self) -> RowSet {
        self.deletes
    }

    /// Leaves rows to the plain way.
    pub(super) fn leave(&mut self, rows: RowSet) {
        self.upserts = self.upserts.difference(rows);
        self.deletes = self.deletes.difference(rows);
    }

    /// Adds something to each of these rows, given its place, its checksum and the place of its
    /// next byte. A row for which `write` returns none is left to the plain way.
    #[inline(always)]
    pub(super) fn each(
        &mut self,
        rows: RowSet,
        mut write: impl FnMut(usize, Crc, &mut Cursor<'_>) -> Option<Crc>,
    ) {
        let bytes = &mut *self.bytes;
        let (mut rest, mut left) = (rows.0, RowSet::default());
        while let Some(bits) = NonZeroU32::new(rest) {
            let index = bits.trailing_zeros() as usize;
            rest &= rest - 1;
            let row = &mut self.rows[index];
            let mut cursor = Cursor::new(bytes, row.end as usize);
            match write(index, row.crc, &mut cursor) {
                Some(crc) => *row = RowUnderWay { crc, end: cursor.at() as u32 },
                None => left = left.with(index),
            }
        }
        self.leave(left);
    }
}

impl Default for RecordBlock {
    fn default() -> Self {
        Self::new()
    }
}
