//! Rows into buffers: the straight line of a row inside the core.
//!
//! batch → partition → hash → bucket → record → buffer; what is full goes to the flush queue
//! (`packs`). Invariant: a row is buffered exactly once, in the bucket that its key hashes to, or
//! refused by name.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::batch::{RowBatch, RowFault, RowKind};
use crate::buffer::words;
use crate::config::{InvalidRow, SinkConfig};
use crate::dead_letter;
use crate::error::Error;
use crate::hash::{Hasher, KeyHasher, bucket_of};
use crate::id::BucketId;
use crate::io::WriterOutput;
use crate::partition::{PartitionIndex, Partitioner};
use crate::record::{PartialRows, RecordBlock, RecordBytes, RecordEncoder};
use crate::schema::{RowPlan, TableSchema};
use crate::writer::Writer;
use crate::writer::packs::Partition;

/// What turns rows into records: built once, reused for every batch.
#[derive(Clone, Debug)]
pub(crate) struct RowPath {
    plan: RowPlan,
    partitioner: Partitioner,
    hasher: KeyHasher,
    pub(crate) encoder: RecordEncoder,
    /// The batch's columns of the primary key.
    key: Vec<usize>,
    merge_per_key: bool,
    hasher_name: Hasher,
    buckets: u32,
    /// Name and type of each of the table's columns, to hold against a session's.
    columns: Vec<(String, String)>,
    scratch: Scratch,
}

/// Memory that is reused from batch to batch.
#[derive(Clone, Default)]
pub(crate) struct Scratch {
    pub(crate) partitions: Vec<PartitionIndex>,
    faults: Vec<(usize, RowFault)>,
    hashes: Vec<i32>,
    block: RecordBlock,
    /// A record that its block left out.
    plain: Vec<u8>,
    pub(crate) key: RecordBytes,
    /// The key of a before-image, held against that of the next row.
    before_key: Vec<u8>,
}

/// Between two batches nothing in it means anything.
impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: PartitionIndex,
    pub(crate) bucket: BucketId,
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
        let columns = schema.columns.iter();
        Ok(Self {
            partitioner: Partitioner::new(schema, &plan, config),
            hasher: KeyHasher::new(config.hasher, schema, &plan)?,
            encoder: RecordEncoder::new(schema, &plan)
                .partial(partial)
                .merged(config.merge_per_key),
            key: schema.key.iter().filter_map(|column| plan.columns[*column]).collect(),
            plan,
            merge_per_key: config.merge_per_key,
            hasher_name: config.hasher,
            buckets: schema.buckets,
            columns: columns.map(|c| (c.name.clone(), c.column_type.to_string())).collect(),
            scratch: Scratch::default(),
        })
    }

    /// Nothing is held of any partition: each begins anew.
    pub(crate) fn forget_partitions(&mut self) {
        self.partitioner.forget();
    }

    /// A null key is no key: its row is refused where it is encoded.
    pub(crate) fn has_null_key(&self, batch: &RowBatch<'_>, row: usize) -> bool {
        self.key.iter().any(|at| batch.column(*at).is_null(row))
    }

    /// Shows what rows are encoded and routed for, to be held against a session.
    pub(crate) fn check_session(
        &self,
        check: impl FnOnce(u32, &str, &[(String, String)]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        check(self.buckets, self.hasher_name.name(), &self.columns)
    }
}

impl Writer {
    /// Takes a batch: every row is buffered or refused.
    ///
    /// Errors: `Corrupt` for a malformed batch, `InvalidRow` for a refused row unless
    /// `sink.invalid-row` is `dead-letter`, `InvalidConfig` for too many partitions, `Bug` if no
    /// rows are accepted now.
    pub(crate) fn take_rows(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if matches!(self.checkpoint, crate::checkpoint::CheckpointState::Draining { .. }) {
            return Err(Error::bug("host", "rows came while a barrier was being passed"));
        }
        let batch = RowBatch::parse(bytes, &self.path.plan)?;
        let mut scratch = core::mem::take(&mut self.path.scratch);
        let taken = self.take_batch(&batch, &mut scratch);
        self.path.scratch = scratch;
        for index in 0..self.partitions.len() {
            let index = u32::try_from(index).expect("indices are 32 bits wide");
            self.account_for(PartitionIndex(index));
        }
        taken?;
        self.seal_partitions();
        self.count("messaging.client.consumed.messages", batch.rows() as u64);
        self.relieve();
        Ok(())
    }

    fn take_batch(&mut self, batch: &RowBatch<'_>, scratch: &mut Scratch) -> Result<(), Error> {
        self.batches += 1;
        let Scratch { partitions, faults, .. } = scratch;
        self.path.partitioner.assign(batch, partitions, faults)?;
        for (row, fault) in faults {
            self.refuse(batch, *row, fault)?;
        }
        self.meet_partitions();
        self.path.hasher.hash_batch(batch, &mut scratch.hashes);
        self.settle_held(batch, scratch);
        let mut first = 0;
        while first < batch.rows() {
            let rows = self.path.encoder.encode_block(batch, first, &mut scratch.block);
            self.take_block(batch, first, rows, scratch)?;
            first += rows;
        }
        Ok(())
    }

    /// Buffers the rows of an encoded block.
    fn take_block(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        rows: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        if self.are_plain(batch, first, rows, scratch) {
            match self.path.merge_per_key {
                true => self.take_plain::<true>(batch, first, rows, scratch),
                false => self.take_plain::<false>(batch, first, rows, scratch),
            }
            return Ok(());
        }
        for index in 0..rows {
            if let Err(fault) = self.take_row(batch, first, index, scratch) {
                self.refuse(batch, first + index, &fault)?;
            }
        }
        Ok(())
    }

    /// Whether there is nothing to decide for any row of a block: each goes to its bucket.
    fn are_plain(
        &self,
        batch: &RowBatch<'_>,
        first: usize,
        rows: usize,
        scratch: &Scratch,
    ) -> bool {
        scratch.block.is_complete(rows)
            && scratch.block.row_bytes_max() <= self.config.bucket_buffer.0 as usize
            && scratch.faults.is_empty()
            && (batch.only_inserts()
                || !(first..first + rows).any(|row| batch.kind(row) == RowKind::UpdateBefore))
    }

    /// Buffers the rows of a block for which there is nothing to decide. What few rows need is kept
    /// out of this function, so that it stays small.
    #[inline(never)]
    fn take_plain<const KEYED: bool>(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        rows: usize,
        scratch: &mut Scratch,
    ) {
        let buckets = self.path.buckets;
        let partitions = &scratch.partitions[first..][..rows];
        let hashes = &scratch.hashes[first..][..rows];
        for (index, (partition, hash)) in partitions.iter().zip(hashes).enumerate() {
            let place = Place { partition: *partition, bucket: bucket_of(*hash, buckets) };
            let (record, crc) = scratch.block.written(index);
            let key = KEYED.then(|| {
                let written = scratch.block.key(index);
                self.path.encoder.merge_key(batch, first + index, written, &mut scratch.key)
            });
            self.keep(place, record, crc, key);
        }
    }

    /// Tells the account what was buffered of a partition since it was last told.
    pub(crate) fn account_for(&mut self, partition: PartitionIndex) {
        let bytes = core::mem::take(&mut self.partitions[partition.0 as usize].unaccounted);
        let bytes = i64::try_from(bytes).expect("a batch is far smaller than 2^63 bytes");
        self.account.add(partition, bytes);
    }

    /// Buffers one row, the one at `index` of the block that begins with `first`.
    #[inline(never)]
    fn take_row(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        index: usize,
        scratch: &mut Scratch,
    ) -> Result<(), RowFault> {
        let row = first + index;
        let partition = scratch.partitions[row];
        if partition.is_refused() {
            return Ok(());
        }
        let place = Place { partition, bucket: bucket_of(scratch.hashes[row], self.path.buckets) };
        let moved_out = batch.kind(row) == RowKind::UpdateBefore;
        if moved_out && !self.leaves(batch, first, index, place, scratch) {
            return Ok(());
        }
        let (record, crc, key) = match scratch.block.record(index) {
            Some((record, crc)) => (record, crc, scratch.block.key(index)),
            None => {
                let crc = self.path.encoder.encode(batch, row, &mut scratch.plain)?;
                (&*scratch.plain, crc, None)
            }
        };
        if record.len() > self.config.bucket_buffer.0 as usize {
            return Err(too_large(record.len(), &self.config));
        }
        if moved_out {
            self.partitions[place.partition.0 as usize].slot(place.bucket).moved_out += 1;
        }
        let merge_per_key = self.path.merge_per_key;
        let key =
            merge_per_key.then(|| self.path.encoder.merge_key(batch, row, key, &mut scratch.key));
        self.keep(place, record, crc, key);
        Ok(())
    }

    /// Buffers a record where it belongs, with its key if records are merged.
    #[inline(always)]
    pub(crate) fn keep(&mut self, place: Place, record: &[u8], crc: u32, key: Option<&[u8]>) {
        let partition = &mut self.partitions[place.partition.0 as usize];
        partition.last_batch = self.batches;
        let slot = partition.slot(place.bucket);
        let grown = match key {
            Some(key) => slot.buffer.push_keyed(&mut self.pool, record, crc, key),
            None => slot.buffer.push(&mut self.pool, record, crc),
        };
        let full = slot.buffer.bytes() >= self.config.bucket_buffer.0 as usize;
        partition.unaccounted += grown;
        if full {
            self.relieve_bucket(place);
        }
    }

    /// Seals a full buffer, unless it is full of what later rows have replaced.
    #[cold]
    fn relieve_bucket(&mut self, place: Place) {
        self.account_for(place.partition);
        let limit = self.config.bucket_buffer.0 as usize;
        let slot = self.partitions[place.partition.0 as usize].slot(place.bucket);
        match slot.buffer.relieve(&mut self.pool, limit) {
            Some(change) => self.account.add(place.partition, change),
            None => self.seal_full(place.partition, place.bucket),
        }
    }

    /// Whether the row of a before-image leaves its place. It does not if its after-image is the
    /// next row, of the same partition: an update in place has nothing to delete. If that is of
    /// another partition, it is noted where the row went. Kept out of the loop over all rows.
    #[inline(never)]
    fn leaves(
        &mut self,
        batch: &RowBatch<'_>,
        first: usize,
        index: usize,
        place: Place,
        scratch: &mut Scratch,
    ) -> bool {
        let row = first + index;
        if !self.has_after_image(batch, first, index, scratch) {
            return !self.hold(batch, row, place, scratch);
        }
        let target = scratch.partitions[row + 1];
        if target == place.partition {
            return false;
        }
        if !target.is_refused() {
            self.partitions[place.partition.0 as usize].moved_to.insert(target);
        }
        true
    }

    /// Whether the next row is the after-image of the same key.
    fn has_after_image(
        &self,
        batch: &RowBatch<'_>,
        first: usize,
        index: usize,
        scratch: &mut Scratch,
    ) -> bool {
        let (row, next) = (first + index, first + index + 1);
        let may_be = next < batch.rows()
            && batch.kind(next) == RowKind::UpdateAfter
            && scratch.hashes[next] == scratch.hashes[row];
        if !may_be {
            return false;
        }
        if let (Some(key), Some(of_next)) = (scratch.block.key(index), scratch.block.key(index + 1))
        {
            return words::same(key, of_next);
        }
        if self.path.has_null_key(batch, row) || self.path.has_null_key(batch, next) {
            return false;
        }
        self.path.encoder.key(batch, row, &mut scratch.key);
        scratch.before_key.clear();
        scratch.before_key.extend_from_slice(&scratch.key);
        self.path.encoder.key(batch, next, &mut scratch.key);
        scratch.before_key == *scratch.key
    }

    /// Makes room for partitions that this batch was the first to name.
    fn meet_partitions(&mut self) {
        for index in self.partitions.len()..self.path.partitioner.len() {
            let index = PartitionIndex(u32::try_from(index).expect("indices are 32 bits wide"));
            let spec = String::from(self.path.partitioner.spec(index));
            self.partitions.push(Partition::new(spec, self.path.buckets));
        }
    }

    /// Flushes partitions that hold more than `upsert.writer.buffer-size`.
    fn seal_partitions(&mut self) {
        for index in 0..self.partitions.len() {
            let partition = PartitionIndex(u32::try_from(index).expect("indices are 32 bits wide"));
            if self.partitions[index].last_batch == self.batches
                && self.account.buffered_of(partition) >= self.config.writer_buffer.0
            {
                self.queue_partition(index);
            }
        }
    }

    #[cold]
    fn refuse(&mut self, batch: &RowBatch<'_>, row: usize, fault: &RowFault) -> Result<(), Error> {
        match self.config.invalid_row {
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
                let line = dead_letter::line(batch, row, &self.path.plan.row_columns, fault);
                self.count("upsert_sink.rows.dead_letter", 1);
                self.outputs.push_back(WriterOutput::DeadLetter(line));
                Ok(())
            }
        }
    }
}

#[cold]
fn too_large(bytes: usize, config: &SinkConfig) -> RowFault {
    let rule = format!(
        "the encoded row has {bytes} bytes, more than upsert.writer.bucket.buffer-size = {}: raise \
         that option, and sink.memory.budget with it",
        config.bucket_buffer.0
    );
    RowFault::new("(whole row)", rule)
}
