//! The rows of a writer that are in no pack yet, and the count of all that it holds.
//!
//! After `path` in a row's way, before `outbox`. Rows wait in memory, and in the file cache if the
//! host grants one (`spill`). Invariant: whenever a method returns, the account is exact: the bytes
//! that it has for a partition are those of its buffers and of its packs that wait, and no buffer
//! holds as much as `upsert.writer.bucket.buffer-size`, cached rows included.

mod spill;
mod spool;
#[cfg(test)]
mod tests;

use alloc::vec;
use alloc::vec::Vec;

pub(crate) use spill::CacheNews;
pub(crate) use spool::Spool;
use upsert_sink_format::id::{BucketId, Millis, Ticket};
use upsert_sink_format::record::PartialRows;
use upsert_sink_format::tunnel::CachedRange;

use crate::buffer::{BucketBuffer, BufferAccount, BufferPool, PartitionBytes, SealedPack};
use crate::config::{FileCacheConfig, SinkConfig};
use crate::partition::PartitionIndex;

/// The bucket that a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: PartitionIndex,
    pub(crate) bucket: BucketId,
}

/// The rows of a bucket that have left its buffer together.
#[derive(Clone, Debug)]
pub(crate) struct BucketPack {
    pub(crate) place: Place,
    /// The first records, if they lie in the file cache.
    pub(crate) cached: Vec<CachedRange>,
    /// The records behind them, and the trailer of all.
    pub(crate) body: Vec<u8>,
    /// The number of records.
    pub(crate) records: u32,
    /// Before-images among them whose rows went elsewhere.
    pub(crate) moved_out: u64,
}

impl BucketPack {
    /// The memory that it takes.
    pub(crate) fn held(&self) -> usize {
        self.body.len() + self.cached.len() * CachedRange::HELD_BYTES
    }
}

/// The buffers of all buckets of all partitions.
#[derive(Clone, Debug)]
pub(crate) struct Buffers {
    partitions: Vec<PartitionBuffers>,
    pool: BufferPool,
    account: BufferAccount,
    /// The number of batches so far: by it the cold partitions are known.
    batches: u64,
    /// Packs of buckets that became full, until they are taken.
    full: Vec<BucketPack>,
    /// Records that a later one of their key replaced or took up, until they are taken.
    merged: u64,
    /// Buckets of each partition.
    buckets: u32,
    /// `upsert.writer.bucket.buffer-size`.
    bucket_bytes_max: usize,
    /// `upsert.writer.buffer-size`.
    partition_bytes_max: u64,
    /// `sink.memory.budget`.
    budget: u64,
    /// None if the host grants no file cache.
    spool: Option<Spool>,
    cache: FileCacheConfig,
    /// The memory over which the coldest partitions are spilled.
    spill_from: u64,
    /// `sink.file-cached.memory.segment-size`, or one byte.
    piece_bytes: u64,
    /// The bytes in memory of all partitions that spilling does not free.
    kept: u64,
    /// The next look at the sizes of partitions.
    check_at: Millis,
}

/// The buffers of one partition.
#[derive(Clone, Debug)]
struct PartitionBuffers {
    /// The batch that last had a row of it.
    last_batch: u64,
    bytes: PartitionBytes,
    /// Those of its bytes in memory that spilling does not free, as of its last spill.
    kept: u64,
    /// Slot of each bucket, `NO_SLOT` before its first row.
    slot_of: Vec<u32>,
    slots: Vec<BucketSlot>,
}

/// The buffer of one bucket.
#[derive(Clone, Debug, Default)]
struct BucketSlot {
    buffer: BucketBuffer,
    /// Before-images in the buffer whose rows went elsewhere.
    moved_out: u64,
}

const NO_SLOT: u32 = u32::MAX;
/// With so many partitions, the sum over them is checked at each pack.
const PARTITIONS_CHECKED: usize = 64;

impl Buffers {
    /// Buffers of no partition yet. If rows are partial, `partial` says how they are merged; then
    /// no row is cached.
    pub(crate) fn new(
        config: &SinkConfig,
        buckets: u32,
        partial: Option<PartialRows>,
        cache_bytes: u64,
    ) -> Self {
        let cache = config.file_cache.clone();
        let most = config.memory_budget.0 / 4 * 3;
        let spool = Spool::new(&cache, if partial.is_some() { 0 } else { cache_bytes });
        Self {
            spool,
            spill_from: if cache.enabled { cache.memory.0.min(most) } else { most },
            piece_bytes: if cache.gathers { cache.piece.0 } else { 1 },
            cache,
            kept: 0,
            check_at: Millis(0),
            partitions: Vec::new(),
            pool: BufferPool::new().partial(partial),
            account: BufferAccount::new(config.memory_budget),
            batches: 0,
            full: Vec::new(),
            merged: 0,
            buckets,
            bucket_bytes_max: config.bucket_buffer.0 as usize,
            partition_bytes_max: config.writer_buffer.0,
            budget: config.memory_budget.0,
        }
    }

    /// Whether further batches are welcome.
    pub(crate) fn accepting(&self) -> bool {
        self.account.accepting()
    }

    /// Bytes of rows in buffers and in packs that are not acknowledged.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.account.held()
    }

    /// A batch begins, with rows of so many partitions as the writer knows by now.
    pub(crate) fn begin_batch(&mut self, partitions: usize) {
        self.batches += 1;
        let buckets = self.buckets;
        self.partitions.resize_with(partitions, || PartitionBuffers::new(buckets));
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
        let full = slot.buffer.bytes() >= self.bucket_bytes_max;
        self.account.grow(&mut partition.bytes, grown);
        if full {
            self.relieve(place);
        }
    }

    /// The next record of this bucket is a before-image whose row went elsewhere.
    pub(crate) fn note_moved_out(&mut self, place: Place) {
        self.partitions[place.partition.0 as usize].slot(place.bucket).moved_out += 1;
    }

    /// Seals a full buffer, so that no pack grows beyond the limit, unless it is full of what later
    /// rows have replaced.
    #[cold]
    fn relieve(&mut self, place: Place) {
        self.take_back(place);
        let partition = &mut self.partitions[place.partition.0 as usize];
        let slot = partition.slot(place.bucket);
        let (records, cached) = (slot.buffer.records(), slot.buffer.cached_ranges().to_vec());
        match slot.buffer.relieve(&mut self.pool, self.bucket_bytes_max) {
            Some(change) => {
                self.merged += merged_away(records, slot.buffer.records());
                self.account.change(&mut partition.bytes, change);
                self.keep_cached(place, &cached);
            }
            None => {
                let pack = self.seal(place);
                self.full.extend(pack);
            }
        }
    }

    /// Makes a pack of what is buffered of a bucket; none if that is nothing.
    pub(crate) fn seal(&mut self, place: Place) -> Option<BucketPack> {
        self.take_back(place);
        let partition = &mut self.partitions[place.partition.0 as usize];
        let slot = partition.slot(place.bucket);
        if slot.buffer.is_empty() {
            return None;
        }
        let (before, cached) = (slot.buffer.records(), slot.buffer.cached_ranges().to_vec());
        let SealedPack { cached: left, body, records, bytes_freed } =
            slot.buffer.seal(&mut self.pool);
        self.merged += merged_away(before, records);
        let moved_out = core::mem::take(&mut slot.moved_out);
        let pack = BucketPack { place, cached: left, body, records, moved_out };
        self.account.seal(&mut partition.bytes, bytes_freed, pack.held());
        partition.check();
        if let Some(spool) = self.spool.as_mut().filter(|_| !cached.is_empty()) {
            spool.keep(&cached, &pack.cached);
        }
        self.keep_cached(place, &[]);
        Some(pack)
    }

    /// The packs of buckets that became full, oldest first.
    pub(crate) fn take_full(&mut self) -> Vec<BucketPack> {
        core::mem::take(&mut self.full)
    }

    /// How many records were merged into later ones since the last time.
    pub(crate) fn take_merged(&mut self) -> u64 {
        core::mem::take(&mut self.merged)
    }

    /// Whether rows of the bucket are in no pack.
    pub(crate) fn has_rows(&self, place: Place) -> bool {
        self.partitions[place.partition.0 as usize].has_rows(place.bucket.0 as usize)
    }

    /// Every bucket with rows: a barrier has arrived.
    pub(crate) fn all(&self) -> Vec<Place> {
        (0..self.partitions.len()).flat_map(|index| self.with_rows(index)).collect()
    }

    /// The buckets to flush after a batch: those of partitions that had rows of it and hold more
    /// than `upsert.writer.buffer-size`; and over the budget those of the coldest partitions, until
    /// half of it would be free.
    ///
    /// In file cache mode rows wait for their checkpoint in the cache, as long as that takes them.
    pub(crate) fn due(&self) -> Vec<Place> {
        let partitions = self.partitions.iter().enumerate();
        let large = partitions.filter(|(_, partition)| {
            !self.cache.enabled
                && partition.last_batch == self.batches
                && partition.bytes.waiting() >= self.partition_bytes_max
        });
        let mut due: Vec<Place> = large.flat_map(|(index, _)| self.with_rows(index)).collect();
        if !self.account.accepting() {
            self.add_coldest(&mut due);
        }
        due
    }

    fn add_coldest(&self, due: &mut Vec<Place>) {
        let mut excess = self.account.held().saturating_sub(self.budget / 2);
        excess = excess.saturating_sub(self.account.in_flight());
        for index in self.coldest_first() {
            if excess == 0 {
                return;
            }
            excess = excess.saturating_sub(self.partitions[index].bytes.waiting());
            due.extend(self.with_rows(index));
        }
    }

    fn coldest_first(&self) -> Vec<usize> {
        let mut coldest: Vec<usize> = (0..self.partitions.len()).collect();
        coldest.sort_by_key(|index| self.partitions[*index].last_batch);
        coldest
    }

    /// The buckets of a partition that have rows, in order.
    fn with_rows(&self, index: usize) -> impl Iterator<Item = Place> {
        let partition = &self.partitions[index];
        let index = PartitionIndex(u32::try_from(index).expect("indices are 32 bits wide"));
        let buckets = (0..self.buckets).filter(|bucket| partition.has_rows(*bucket as usize));
        buckets.map(move |bucket| Place { partition: index, bucket: BucketId(bucket) })
    }

    /// A pack for a session that knows the columns by these ids.
    pub(crate) fn pack_for(&self, body: Vec<u8>, column_ids: &[i64]) -> Vec<u8> {
        self.pool.pack_for(body, column_ids)
    }

    /// A pack of this partition that waited as `sealed` bytes went into flight as `sent` bytes.
    pub(crate) fn submit(
        &mut self,
        partition: PartitionIndex,
        sealed: usize,
        ticket: Ticket,
        sent: usize,
    ) {
        let bytes = &mut self.partitions[partition.0 as usize].bytes;
        self.account.submit(bytes, sealed, ticket, sent);
        self.check_if_few();
    }

    /// A pack was acknowledged: its bytes are held no more, in memory and in the file cache.
    pub(crate) fn release(&mut self, ticket: Ticket, cached: &[CachedRange]) {
        self.account.release(ticket).expect("submitted with this ticket");
        if let Some(spool) = self.spool.as_mut().filter(|_| !cached.is_empty()) {
            spool.release(cached);
        }
        self.check_if_few();
    }

    /// Forgets all partitions: after a barrier nothing is held of any.
    pub(crate) fn forget_partitions(&mut self) {
        self.check();
        self.partitions.clear();
        self.kept = 0;
        self.check();
        if let Some(spool) = &mut self.spool {
            spool.pass_barrier();
        }
    }

    /// Over thousands of partitions, a sum for each pack would cost more than the packs.
    fn check_if_few(&self) {
        if self.partitions.len() <= PARTITIONS_CHECKED {
            self.check();
        }
    }

    fn check(&self) {
        let waiting: u64 = self.partitions.iter().map(|partition| partition.bytes.waiting()).sum();
        assert_eq!(waiting, self.account.waiting(), "what waits is the sum over partitions");
    }
}

/// The records of a buffer that are left out of what became of it.
fn merged_away(buffered: u32, left: u32) -> u64 {
    u64::from(buffered.checked_sub(left).expect("merging never adds a record"))
}

impl PartitionBuffers {
    fn new(buckets: u32) -> Self {
        Self {
            last_batch: 0,
            bytes: PartitionBytes::default(),
            kept: 0,
            slot_of: vec![NO_SLOT; buckets as usize],
            slots: Vec::new(),
        }
    }

    /// The slot of a bucket, made on its first row.
    #[inline]
    fn slot(&mut self, bucket: BucketId) -> &mut BucketSlot {
        let mut at = self.slot_of[bucket.0 as usize];
        if at == NO_SLOT {
            at = self.new_slot(bucket);
        }
        &mut self.slots[at as usize]
    }

    #[cold]
    fn new_slot(&mut self, bucket: BucketId) -> u32 {
        let at = u32::try_from(self.slots.len()).expect("at most one slot a bucket");
        self.slots.push(BucketSlot::default());
        self.slot_of[bucket.0 as usize] = at;
        at
    }

    fn has_rows(&self, bucket: usize) -> bool {
        let at = self.slot_of[bucket];
        at != NO_SLOT && !self.slots[at as usize].buffer.is_empty()
    }

    /// The bytes of its buffers that spilling does not free.
    fn kept_now(&self) -> u64 {
        let kept: usize = self.slots.iter().map(|slot| slot.buffer.held_after_spill()).sum();
        kept as u64
    }

    /// All bytes of its rows, cached ones included.
    fn bytes_all(&self) -> u64 {
        let cached: usize = self.slots.iter().map(|slot| slot.buffer.bytes_cached()).sum();
        self.bytes.waiting() + cached as u64
    }

    fn check(&self) {
        let held: usize = self.slots.iter().map(|slot| slot.buffer.held()).sum();
        assert_eq!(held as u64, self.bytes.buffered(), "accounted bytes are the buffers' bytes");
    }
}
