//! Rows into buffers: the straight line of a row inside the core.
//!
//! batch → partition → hash → bucket → record → `buffers`, which say what is full. It knows of no
//! session and no pack. Invariant: a row is buffered exactly once, in the bucket that its key
//! hashes to, or refused by name, but for a before-image that is absorbed or held (`held`); at most
//! one row is held, never over a barrier, and no later row is buffered before it.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

use upsert_sink_format::batch::{RowBatch, RowFault, RowKind};
use upsert_sink_format::error::Error;
use upsert_sink_format::hash::{KeyHasher, bucket_of};
use upsert_sink_format::record::{PartialRows, RecordBlock, RecordBytes, RecordEncoder};
use upsert_sink_format::schema::{RowPlan, TableSchema};
use upsert_sink_format::words;

use crate::config::{InvalidRow, SinkConfig};
use crate::dead_letter;
use crate::partition::{PartitionIndex, Partitioner};
use crate::writer::buffers::{Buffers, Place};
use crate::writer::held::HeldBefore;

/// Turns rows into records: built once, reused for every batch.
#[derive(Clone, Debug)]
pub(crate) struct RowPath {
    plan: RowPlan,
    partitioner: Partitioner,
    hasher: KeyHasher,
    encoder: RecordEncoder,
    /// The batch's columns of the primary key.
    key: Vec<usize>,
    /// Whether rows may leave columns as they are.
    partial: bool,
    merge_per_key: bool,
    invalid_row: InvalidRow,
    buckets: u32,
    /// `upsert.writer.bucket.buffer-size`: no record is larger.
    record_bytes_max: usize,
    /// For each partition those that rows are known to have moved to from there.
    moved_to: Vec<BTreeSet<PartitionIndex>>,
    held: Option<HeldBefore>,
    scratch: Scratch,
}

/// Memory that is reused from batch to batch.
#[derive(Clone, Default)]
struct Scratch {
    partitions: Vec<PartitionIndex>,
    faults: Vec<(usize, RowFault)>,
    hashes: Vec<i32>,
    block: RecordBlock,
    /// A record that its block left out.
    plain: Vec<u8>,
    key: RecordBytes,
    /// The key of a before-image, held against that of the next row.
    before_key: Vec<u8>,
}

/// Between two batches nothing in it means anything.
impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// A batch that was taken, beside its rows in the buffers.
#[derive(Debug)]
pub(crate) struct TakenBatch {
    /// The number of its rows.
    pub(crate) rows: usize,
    /// A line for each row that was set aside.
    pub(crate) dead_letters: Vec<Vec<u8>>,
}

impl RowPath {
    /// Prepares the way.
    ///
    /// Errors: `InvalidConfig` for a key or partition column of a type that cannot be one.
    pub(crate) fn new(
        schema: &TableSchema,
        plan: RowPlan,
        config: &SinkConfig,
        partial: Option<PartialRows>,
    ) -> Result<Self, Error> {
        Ok(Self {
            partitioner: Partitioner::new(schema, &plan, config),
            hasher: KeyHasher::new(config.hasher, schema, &plan)?,
            key: schema.key.iter().filter_map(|column| plan.columns[*column]).collect(),
            partial: partial.is_some(),
            encoder: RecordEncoder::new(schema, &plan)
                .partial(partial)
                .merged(config.merge_per_key),
            plan,
            merge_per_key: config.merge_per_key,
            invalid_row: config.invalid_row,
            buckets: schema.buckets,
            record_bytes_max: config.bucket_buffer.0 as usize,
            moved_to: Vec::new(),
            held: None,
            scratch: Scratch::default(),
        })
    }

    /// Takes a batch: every row is buffered or refused.
    ///
    /// Errors: `Corrupt` for a malformed batch, `InvalidRow` for a refused row unless
    /// `sink.invalid-row` is `dead-letter`, `InvalidConfig` for too many partitions.
    pub(crate) fn take(
        &mut self,
        bytes: &[u8],
        buffers: &mut Buffers,
    ) -> Result<TakenBatch, Error> {
        let batch = RowBatch::parse(bytes, &self.plan)?;
        let Scratch { partitions, faults, .. } = &mut self.scratch;
        self.partitioner.assign(&batch, partitions, faults)?;
        let mut dead_letters = Vec::new();
        for (row, fault) in &self.scratch.faults {
            dead_letters.push(self.refuse(&batch, *row, fault)?);
        }
        self.moved_to.resize_with(self.partitioner.len(), BTreeSet::new);
        buffers.begin_batch(self.partitioner.len());
        self.hasher.hash_batch(&batch, &mut self.scratch.hashes);
        self.settle_held(&batch, buffers);
        let mut first = 0;
        while first < batch.rows() {
            let rows = self.encoder.encode_block(&batch, first, &mut self.scratch.block);
            self.take_block(&batch, first, rows, buffers, &mut dead_letters)?;
            first += rows;
        }
        Ok(TakenBatch { rows: batch.rows(), dead_letters })
    }

    /// Buffers the held before-image: no row can absorb it any more.
    pub(crate) fn release_held(&mut self, buffers: &mut Buffers) {
        if let Some(held) = self.held.take() {
            held.release(buffers, self.merge_per_key);
        }
    }

    /// A partition's name for the Tunnel.
    pub(crate) fn partition_name(&self, partition: PartitionIndex) -> &str {
        self.partitioner.spec(partition)
    }

    /// The names of the partitions that rows are known to have moved to from this one.
    pub(crate) fn moved_to(&self, partition: PartitionIndex) -> impl Iterator<Item = &str> {
        let targets = self.moved_to[partition.0 as usize].iter();
        targets.map(|target| self.partition_name(*target))
    }

    /// Nothing is held of any partition: each begins anew.
    pub(crate) fn forget_partitions(&mut self) {
        self.partitioner.forget();
        self.moved_to.clear();
    }

    /// Buffers the rows of an encoded block.
    fn take_block(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        rows: usize,
        buffers: &mut Buffers,
        dead_letters: &mut Vec<Vec<u8>>,
    ) -> Result<(), Error> {
        if self.are_plain(batch, first, rows) {
            match self.merge_per_key {
                true => self.take_plain::<true>(batch, first, rows, buffers),
                false => self.take_plain::<false>(batch, first, rows, buffers),
            }
            return Ok(());
        }
        for index in 0..rows {
            if let Err(fault) = self.take_row(batch, first, index, buffers) {
                dead_letters.push(self.refuse(batch, first + index, &fault)?);
            }
        }
        Ok(())
    }

    /// Whether there is nothing to decide for any row of a block: each goes to its bucket.
    fn are_plain(&self, batch: &RowBatch<'_>, first: usize, rows: usize) -> bool {
        self.scratch.block.is_complete(rows)
            && self.scratch.block.row_bytes_max() <= self.record_bytes_max
            && self.scratch.faults.is_empty()
            && (batch.only_inserts()
                || !(first..first + rows).any(|row| batch.kind(row) == RowKind::UpdateBefore))
    }

    /// Buffers the rows of a block for which there is nothing to decide. The work for few rows
    /// stands outside of this function, so that it stays small.
    #[inline(never)]
    fn take_plain<const KEYED: bool>(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        rows: usize,
        buffers: &mut Buffers,
    ) {
        let buckets = self.buckets;
        let scratch = &mut self.scratch;
        let partitions = &scratch.partitions[first..][..rows];
        let hashes = &scratch.hashes[first..][..rows];
        for (index, (partition, hash)) in partitions.iter().zip(hashes).enumerate() {
            let place = Place { partition: *partition, bucket: bucket_of(*hash, buckets) };
            let (record, crc) = scratch.block.written(index);
            let key = KEYED.then(|| {
                let written = scratch.block.key(index);
                self.encoder.merge_key(batch, first + index, written, &mut scratch.key)
            });
            buffers.keep(place, record, crc, key);
        }
    }

    /// Buffers one row, the one at `index` of the block that begins with `first`.
    #[inline(never)]
    fn take_row(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        index: usize,
        buffers: &mut Buffers,
    ) -> Result<(), RowFault> {
        let row = first + index;
        let partition = self.scratch.partitions[row];
        if partition.is_refused() {
            return Ok(());
        }
        let place = Place { partition, bucket: bucket_of(self.scratch.hashes[row], self.buckets) };
        let moved_out = batch.kind(row) == RowKind::UpdateBefore;
        if moved_out && !self.leaves(batch, first, index, place) {
            return Ok(());
        }
        let Scratch { block, plain, key, .. } = &mut self.scratch;
        let (record, crc, in_block) = match block.record(index) {
            Some((record, crc)) => (record, crc, block.key(index)),
            None => {
                let crc = self.encoder.encode(batch, row, plain)?;
                (&**plain, crc, None)
            }
        };
        if record.len() > self.record_bytes_max {
            return Err(too_large(record.len(), self.record_bytes_max));
        }
        if moved_out {
            buffers.note_moved_out(place);
        }
        let key = self.merge_per_key.then(|| self.encoder.merge_key(batch, row, in_block, key));
        buffers.keep(place, record, crc, key);
        Ok(())
    }

    /// Whether the row of a before-image leaves its place. It does not if its after-image is the
    /// next row, of the same partition: an update in place has nothing to delete. If that is of
    /// another partition, it is noted where the row went. Kept out of the loop over all rows.
    #[inline(never)]
    fn leaves(&mut self, batch: &RowBatch<'_>, first: usize, index: usize, place: Place) -> bool {
        let row = first + index;
        if !self.has_after_image(batch, first, index) {
            return !self.hold(batch, row, place);
        }
        let target = self.scratch.partitions[row + 1];
        if target == place.partition {
            return false;
        }
        if !target.is_refused() {
            self.moved_to[place.partition.0 as usize].insert(target);
        }
        true
    }

    /// Whether the next row is the after-image of the same key.
    fn has_after_image(&mut self, batch: &RowBatch<'_>, first: usize, index: usize) -> bool {
        let row = first + index;
        let next = first + index + 1;
        let may_be = next < batch.rows()
            && batch.kind(next) == RowKind::UpdateAfter
            && self.scratch.hashes[next] == self.scratch.hashes[row];
        if !may_be {
            return false;
        }
        let block = &self.scratch.block;
        if let (Some(key), Some(of_next)) = (block.key(index), block.key(index + 1)) {
            return words::same(key, of_next);
        }
        if self.has_null_key(batch, row) || self.has_null_key(batch, next) {
            return false;
        }
        let Scratch { key, before_key, .. } = &mut self.scratch;
        self.encoder.key(batch, row, key);
        before_key.clear();
        before_key.extend_from_slice(key);
        self.encoder.key(batch, next, key);
        *before_key == **key
    }

    /// A null key is no key: its row is refused where it is encoded.
    fn has_null_key(&self, batch: &RowBatch<'_>, row: usize) -> bool {
        self.key.iter().any(|at| batch.column(*at).is_null(row))
    }

    /// Holds the before-image of a row that is the last of its batch. False if it is not to be
    /// held, or breaks a rule: it is then buffered or refused like any other.
    #[cold]
    fn hold(&mut self, batch: &RowBatch<'_>, row: usize, place: Place) -> bool {
        if !self.partial || row + 1 < batch.rows() {
            return false;
        }
        self.held = HeldBefore::of_row(&self.encoder, batch, row, place, &mut self.scratch.key);
        self.held.is_some()
    }

    /// A held before-image is absorbed if the batch begins with its after-image, and else buffered.
    fn settle_held(&mut self, batch: &RowBatch<'_>, buffers: &mut Buffers) {
        if batch.rows() == 0 {
            return;
        }
        let Some(held) = self.held.take() else { return };
        let may_be = batch.kind(0) == RowKind::UpdateAfter
            && held.is_in(self.scratch.partitions[0])
            && !self.has_null_key(batch, 0);
        if may_be {
            self.encoder.key(batch, 0, &mut self.scratch.key);
            if held.has_key(&self.scratch.key) {
                return;
            }
        }
        held.release(buffers, self.merge_per_key);
    }

    /// The line of a row that is set aside; an error if none may be.
    #[cold]
    fn refuse(&self, batch: &RowBatch<'_>, row: usize, fault: &RowFault) -> Result<Vec<u8>, Error> {
        match self.invalid_row {
            InvalidRow::Fail => {
                let at = format!("row {row} of a batch, column {}", fault.column);
                let message = format!(
                    "{}; correct the row, or set sink.invalid-row = dead-letter to set such rows \
                     aside",
                    fault.rule
                );
                Err(Error::row(at, message))
            }
            InvalidRow::DeadLetter => {
                Ok(dead_letter::line(batch, row, &self.plan.row_columns, fault))
            }
        }
    }
}

#[cold]
fn too_large(bytes: usize, limit: usize) -> RowFault {
    let rule = format!(
        "the encoded row has {bytes} bytes, more than upsert.writer.bucket.buffer-size = {limit}: \
         raise that option, and sink.memory.budget with it"
    );
    RowFault::new("(whole row)", rule)
}
