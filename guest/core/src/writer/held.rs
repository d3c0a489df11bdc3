//! A before-image at the end of a batch, whose after-image may begin the next one.
//!
//! Beside `path`, for partial rows only: to delete a whole row and put it back loses nothing, but a
//! delete loses the columns that a partial row leaves as they are. Batches are cut by chance.
//! Invariant: it is absorbed by its own after-image alone, or buffered as it would have been at
//! once.

use alloc::vec::Vec;

use upsert_sink_format::batch::RowBatch;
use upsert_sink_format::record::{RecordBytes, RecordEncoder};

use crate::partition::PartitionIndex;
use crate::writer::buffers::{Buffers, Place};

/// A before-image that is not buffered yet.
#[derive(Clone, Debug)]
pub(crate) struct HeldBefore {
    place: Place,
    /// Its record, a delete, and the record's checksum.
    record: Vec<u8>,
    crc: u32,
    key: Vec<u8>,
}

impl HeldBefore {
    /// Takes up a row of a batch; none if it breaks a rule. `key` is memory for its key.
    pub(crate) fn of_row(
        encoder: &RecordEncoder,
        batch: &RowBatch<'_>,
        row: usize,
        place: Place,
        key: &mut RecordBytes,
    ) -> Option<Self> {
        let mut record = Vec::new();
        let crc = encoder.encode(batch, row, &mut record).ok()?;
        encoder.key(batch, row, key);
        Some(Self { place, record, crc, key: key.to_vec() })
    }

    /// Whether it was in this partition.
    pub(crate) fn is_in(&self, partition: PartitionIndex) -> bool {
        self.place.partition == partition
    }

    /// Whether it has this key.
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        *self.key == *key
    }

    /// Buffers it, by its key if records are merged.
    pub(crate) fn release(self, buffers: &mut Buffers, merge_per_key: bool) {
        buffers.note_moved_out(self.place);
        let key = merge_per_key.then_some(self.key.as_slice());
        buffers.keep(self.place, &self.record, self.crc, key);
    }
}
