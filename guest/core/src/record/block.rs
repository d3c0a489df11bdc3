//! Records of some rows that lie one after another, under construction side by side.
//!
//! `encode` writes here, column by column: the checksums of neighbouring rows do not wait for each
//! other, as those of neighbouring columns do, and what is known of a column is looked up once a
//! block. `writer` takes the records from here row by row. Invariant: the bytes of a row stay
//! within its own stretch of the array; a row that might not fit there, or that breaks a rule, is
//! left to the plain way and shows no record.

use alloc::boxed::Box;

use super::bytes::{Cursor, NEAR_BYTES, RECORD_BYTES_MAX};
use super::crc::Crc;

/// The records of up to [`BLOCK_ROWS`] rows.
#[derive(Clone, Debug)]
pub struct RecordBlock {
    bytes: Box<[u8; NEAR_BYTES]>,
    rows: [RowUnderWay; BLOCK_ROWS],
    count: usize,
    /// Bytes from the beginning of one row to that of the next.
    stride: usize,
}

/// Rows of one block, at most: with their bytes and the tables of the checksum they fit into the
/// nearest cache.
pub const BLOCK_ROWS: usize = 32;

/// A row of a block.
#[derive(Clone, Copy, Debug)]
struct RowUnderWay {
    fate: Fate,
    crc: Crc,
    /// Where its next byte goes.
    end: usize,
}

/// What is written of a row, from all to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Fate {
    /// All columns.
    Upsert,
    /// The columns of the primary key.
    Delete,
    /// Nothing here.
    Plain,
}

impl RecordBlock {
    /// A block without rows.
    pub fn new() -> Self {
        let none = RowUnderWay { fate: Fate::Plain, crc: Crc::START, end: 0 };
        Self {
            bytes: Box::new([0; NEAR_BYTES]),
            rows: [none; BLOCK_ROWS],
            count: 0,
            stride: RECORD_BYTES_MAX,
        }
    }

    /// The record of the row at this place of the block, and its checksum; none if it has to be
    /// written the plain way.
    #[inline]
    pub fn record(&self, index: usize) -> Option<(&[u8], u32)> {
        let row = self.rows[..self.count].get(index)?;
        if row.fate == Fate::Plain {
            return None;
        }
        Some((&self.bytes[index * self.stride..row.end], row.crc.finish()))
    }

    /// Begins anew with these rows, each with room for `stride` bytes.
    pub(super) fn begin(&mut self, stride: usize, fates: impl ExactSizeIterator<Item = Fate>) {
        self.count = fates.len();
        self.stride = stride;
        assert!(self.count <= BLOCK_ROWS, "a block has at most {BLOCK_ROWS} rows");
        assert!(self.count * stride <= RECORD_BYTES_MAX, "the rows fit into the array");
        for (index, (row, fate)) in self.rows.iter_mut().zip(fates).enumerate() {
            *row = RowUnderWay { fate, crc: Crc::START, end: index * stride };
        }
    }

    /// Adds something to each row of a fate up to `last`, given its place, its checksum and the
    /// place of its next byte. A row for which `write` returns none is left to the plain way.
    #[inline(always)]
    pub(super) fn each(
        &mut self,
        last: Fate,
        mut write: impl FnMut(usize, Fate, Crc, &mut Cursor<'_>) -> Option<Crc>,
    ) {
        let Self { bytes, rows, count, .. } = self;
        for (index, row) in rows[..*count].iter_mut().enumerate() {
            if row.fate > last {
                continue;
            }
            let mut cursor = Cursor::new(bytes, row.end);
            match write(index, row.fate, row.crc, &mut cursor) {
                Some(crc) => (row.crc, row.end) = (crc, cursor.at()),
                None => row.fate = Fate::Plain,
            }
        }
    }
}

impl Default for RecordBlock {
    fn default() -> Self {
        Self::new()
    }
}
