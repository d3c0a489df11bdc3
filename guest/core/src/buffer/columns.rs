//! Partial records of one key as one record, column by column.
//!
//! Within `BucketBuffer`, after `merge` has found that keys repeat and rows are partial. Invariant:
//! applied in their order, the merged records of a key have the same effect on any row as the
//! buffered ones: newer columns lie over older ones, down to the newest whole row; a delete below
//! partial rows stays before them, so that nothing older shows through.

use alloc::vec::Vec;
use core::ops::Range;

use upsert_sink_format::record::{Op, PartialRows, pack_trailer};

use super::merge::{Live, Note};
use super::pool::{BufferPool, Chain};
use super::{BucketBuffer, SealedPack};

/// The merged records of a buffer, keys in the order of their newest record.
#[derive(Debug, Default)]
pub(super) struct Merged {
    /// The records, one after another.
    pub(super) bytes: Vec<u8>,
    notes: Vec<MergedNote>,
    keys: Vec<u8>,
}

/// The note of one merged record.
#[derive(Debug)]
struct MergedNote {
    length: usize,
    crc: u32,
    /// Within `keys`.
    key: Range<usize>,
}

/// A record of the buffer.
struct Buffered<'a> {
    note: Note<'a>,
    /// Its place in the buffer.
    at: Range<usize>,
}

impl BucketBuffer {
    /// The merged records; none if rows are whole or no key repeats. The notes in the scratch
    /// memory are those of this buffer.
    pub(super) fn merged(&self, pool: &BufferPool, live: Live) -> Option<Merged> {
        let rows = pool.partial.as_ref()?;
        if live.records == self.records {
            return None;
        }
        let mut end = 0;
        let records = pool.scratch.notes().map(|note| {
            let start = end;
            end += note.length;
            Buffered { note, at: start..end }
        });
        let records: Vec<Buffered<'_>> = records.collect();
        let mut by_key: Vec<usize> = (0..records.len()).collect();
        by_key.sort_by(|a, b| records[*a].note.key.cmp(records[*b].note.key).then(a.cmp(b)));
        let mut keys: Vec<&[usize]> =
            by_key.chunk_by(|a, b| records[*a].note.key == records[*b].note.key).collect();
        keys.sort_by_key(|of_key| of_key.last().copied());
        let mut merged = Merged::default();
        for of_key in keys {
            let of_key = of_key.iter().map(|at| &records[*at]);
            merged.add_key(rows, &self.bytes, of_key);
        }
        Some(merged)
    }

    /// Takes everything out as one pack of the merged records.
    pub(super) fn take_merged(&mut self, pool: &mut BufferPool, merged: Merged) -> SealedPack {
        let bytes_freed = self.held();
        let Merged { bytes: mut body, notes, .. } = merged;
        let records = u32::try_from(notes.len()).expect("no more than were buffered");
        pack_trailer(notes.iter().map(|note| note.crc), records, &mut body);
        self.notes.release(pool);
        self.bytes.release(pool);
        *self = Self::default();
        SealedPack { cached: Vec::new(), body, records, bytes_freed }
    }

    /// Keeps the merged records in the place of those that were buffered.
    pub(super) fn keep_merged(&mut self, pool: &mut BufferPool, merged: &Merged) {
        self.notes.release(pool);
        self.bytes.release(pool);
        *self = Self::default();
        let mut rest = merged.bytes.as_slice();
        for note in &merged.notes {
            let (record, later) = rest.split_at(note.length);
            self.push_keyed(pool, record, note.crc, &merged.keys[note.key.clone()]);
            rest = later;
        }
    }
}

impl Merged {
    /// Adds the records of one key, oldest first, merged into one record, or into a delete and one.
    fn add_key<'a>(
        &mut self,
        rows: &PartialRows,
        bytes: &Chain,
        of_key: impl DoubleEndedIterator<Item = &'a Buffered<'a>>,
    ) {
        let mut older = of_key.rev().peekable();
        let newest = older.next().expect("a key has a record");
        let record = |of: &Buffered<'_>| {
            let mut record = Vec::with_capacity(of.note.length);
            bytes.pieces(of.at.clone()).for_each(|piece| record.extend_from_slice(piece));
            record
        };
        if older.peek().is_none() {
            return self.add(newest.note.key, newest.note.crc, &record(newest));
        }
        let mut merged = rows.read(&record(newest));
        for next in older {
            if !merged.is_partial() {
                break;
            }
            let under = record(next);
            let decoded = rows.read(&under);
            if decoded.op == Op::Delete {
                self.add(next.note.key, next.note.crc, &under);
                break;
            }
            rows.lay_under(&mut merged, decoded);
        }
        let mut written = Vec::new();
        let crc = rows.write(&merged, &mut written);
        self.add(newest.note.key, crc, &written);
    }

    fn add(&mut self, key: &[u8], crc: u32, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        let start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.notes.push(MergedNote { length: record.len(), crc, key: start..self.keys.len() });
    }
}
