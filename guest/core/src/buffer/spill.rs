//! The way of a bucket's records from memory into the file cache, and back if it does not take
//! them.
//!
//! Within `BucketBuffer`. Invariant: records are on their way once, and from one buffer at a time
//! all that it has in memory; until the cache has them their bytes are held, and whoever holds them
//! gives them back as they were.

use alloc::vec::Vec;

use upsert_sink_format::tunnel::CachedRange;

use super::pool::BufferPool;
use super::{BucketBuffer, Settled, difference};

impl BucketBuffer {
    /// Appends the records in memory to `out`, where they wait for the file cache; replaced ones
    /// are dropped before. With `settle` their notes go too: they are merged no more. Returns the
    /// change of the held bytes.
    ///
    /// Panics if records are on their way already, or if rows are partial: those are merged by
    /// their bytes.
    pub fn start_spill(&mut self, pool: &mut BufferPool, settle: bool, out: &mut Vec<u8>) -> i64 {
        assert!(pool.partial.is_none(), "partial rows stay in memory");
        let before = self.held();
        let live = self.merge(pool);
        if self.keyed && live.bytes < self.bytes() {
            self.drop_replaced(pool);
        }
        self.spilling = self.bytes.length();
        let pieces = self.bytes.pieces(0..self.spilling);
        pieces.for_each(|piece| out.extend_from_slice(piece));
        self.bytes.release(pool);
        if settle && self.keyed {
            self.settle(pool);
        }
        difference(before, self.held())
    }

    /// The file cache has what was on its way, in this place. Returns the change of the held bytes.
    ///
    /// Panics if it is not as long as that.
    pub fn finish_spill(&mut self, range: CachedRange) -> i64 {
        let before = self.held();
        let spilled = core::mem::take(&mut self.spilling);
        assert_eq!(spilled, range.length as usize, "the cache has what was on its way");
        self.cached.push(range);
        difference(before, self.held())
    }

    /// Takes back what was on its way, before the records that came since. The held bytes stay.
    ///
    /// Panics if these are not as many bytes.
    pub fn take_back(&mut self, pool: &mut BufferPool, spilled: &[u8]) {
        assert_eq!(core::mem::take(&mut self.spilling), spilled.len(), "what was on its way");
        let mut since = core::mem::take(&mut self.bytes);
        self.bytes.append(pool, spilled);
        since.pieces(0..since.length()).for_each(|piece| self.bytes.append(pool, piece));
        since.release(pool);
    }

    /// The bytes that are on their way.
    pub fn bytes_spilling(&self) -> usize {
        self.spilling
    }

    /// The places of its records in the file cache.
    pub fn cached_ranges(&self) -> &[CachedRange] {
        self.cached.ranges()
    }

    /// The memory that is held whatever is spilled: notes, and places in the cache.
    pub fn held_after_spill(&self) -> usize {
        self.cached.held() + self.notes.length()
    }

    /// Drops the notes: all records of now are sent as they are.
    fn settle(&mut self, pool: &mut BufferPool) {
        pool.scratch.merge(&self.notes, self.records - self.settled.records);
        self.crcs = pool.scratch.notes().fold(self.crcs, |crcs, note| crcs.word(note.crc));
        self.settled = Settled { records: self.records, bytes: self.bytes() };
        self.notes.release(pool);
        self.found = None;
    }
}
