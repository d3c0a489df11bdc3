//! A before-image at the end of a batch, whose after-image may begin the next one.
//!
//! Beside `rows`, for partial rows only: to delete a whole row and put it back loses nothing, but
//! to delete what a partial row leaves as it is would. Where batches are cut is chance. Invariant:
//! at most one row is held, never over a barrier; it is absorbed, or buffered before anything that
//! came after it.

use alloc::vec::Vec;

use crate::batch::{RowBatch, RowKind};
use crate::writer::Writer;
use crate::writer::rows::{Place, Scratch};

/// A before-image that is not buffered yet.
#[derive(Clone, Debug)]
pub(crate) struct HeldBefore {
    place: Place,
    /// Its record, a delete, and the record's checksum.
    record: Vec<u8>,
    crc: u32,
    key: Vec<u8>,
}

impl Writer {
    /// Holds the before-image of a row that is the last of its batch. False if it is not to be
    /// held, or breaks a rule: it is then buffered or refused like any other.
    #[cold]
    pub(crate) fn hold(
        &mut self,
        batch: &RowBatch<'_>,
        row: usize,
        place: Place,
        scratch: &mut Scratch,
    ) -> bool {
        if self.partial.is_none() || row + 1 < batch.rows() {
            return false;
        }
        let mut record = Vec::new();
        let Ok(crc) = self.path.encoder.encode(batch, row, &mut record) else { return false };
        self.path.encoder.key(batch, row, &mut scratch.key);
        let key = scratch.key.to_vec();
        self.held = Some(HeldBefore { place, record, crc, key });
        true
    }

    /// What is held is absorbed if the batch begins with its after-image, and buffered if not.
    pub(crate) fn settle_held(&mut self, batch: &RowBatch<'_>, scratch: &mut Scratch) {
        let Some(held) = &self.held else { return };
        if batch.rows() == 0 {
            return;
        }
        let may_be = batch.kind(0) == RowKind::UpdateAfter
            && scratch.partitions[0] == held.place.partition
            && !self.path.has_null_key(batch, 0);
        if may_be {
            self.path.encoder.key(batch, 0, &mut scratch.key);
            if *scratch.key == *held.key {
                self.held = None;
                return;
            }
        }
        self.release_held();
    }

    /// Buffers what is held: nothing comes any more that could absorb it.
    pub(crate) fn release_held(&mut self) {
        let Some(HeldBefore { place, record, crc, key }) = self.held.take() else { return };
        self.partitions[place.partition.0 as usize].slot(place.bucket).moved_out += 1;
        let key = self.config.merge_per_key.then_some(key.as_slice());
        self.keep(place, &record, crc, key);
        self.account_for(place.partition);
    }
}
