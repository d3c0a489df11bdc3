//! Encoded rows of one bucket of one partition, waiting to be sent as one pack.
//!
//! After `record` in a row's way, before `flush`. In memory, and the older part perhaps in the file
//! cache (`spill`). Invariant: a pack holds the records that `push` put in, in their order, without
//! those that a later record of the same key replaced, and with partial records of one key merged;
//! `held` is the memory that they take, to the byte.

mod account;
mod cached;
mod columns;
mod merge;
mod pool;
mod spill;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;

pub use account::{BufferAccount, PartitionBytes};
use cached::CachedRecords;
use merge::{Live, MergeScratch, NOTE_BYTES};
use pool::Chain;
pub use pool::{BufferPool, CHUNK_BYTES};
use upsert_sink_format::record::crc::Crc;
use upsert_sink_format::record::stream_trailer;
use upsert_sink_format::tunnel::CachedRange;
use upsert_sink_format::words;

/// Bytes that a record takes beside its own and those of its key when records are merged: its
/// length, its checksum, and the length of the key. If they are not merged, it takes none.
pub const KEYED_RECORD_OVERHEAD_BYTES: usize = NOTE_BYTES;

/// The buffer of one bucket. Holds no memory while it is empty.
///
/// Its records lie one after another: cached ones, then those that are on their way to the cache,
/// then those in memory. The oldest may be settled: they have no notes any more, and are all sent.
///
/// Its held bytes are those of all records in memory, replaced ones included, if they are merged
/// those of their keys and the overhead of each, and the places of the cached ones. Beside that it
/// may waste less than two chunks.
#[derive(Clone, Debug, Default)]
pub struct BucketBuffer {
    cached: CachedRecords,
    /// Bytes on their way to the file cache.
    spilling: usize,
    bytes: Chain,
    /// The checksum of the settled records' checksums: of all, if records are not merged.
    crcs: Crc,
    /// The length, the checksum and the key of each record that is not settled, if records are
    /// merged.
    notes: Chain,
    records: u32,
    keyed: bool,
    /// The records that are settled, if records are merged, and their bytes.
    settled: Settled,
    /// The live records by the pass of this number, if no record was pushed since.
    found: Option<(u64, Live)>,
}

/// The oldest records, which are merged no more.
#[derive(Clone, Copy, Debug, Default)]
struct Settled {
    records: u32,
    bytes: usize,
}

/// A buffer's rows as the wire wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPack {
    /// The first records, if they lie in the file cache.
    pub cached: Vec<CachedRange>,
    /// The records behind them, and the trailer of all.
    pub body: Vec<u8>,
    /// The number of records.
    pub records: u32,
    /// The bytes that the buffer held, and holds no more.
    pub bytes_freed: usize,
}

impl BucketBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an encoded record and its checksum. Returns by how much the held bytes grew.
    ///
    /// Panics if the record is empty, or if the buffer's records have keys.
    #[inline(always)]
    pub fn push(&mut self, pool: &mut BufferPool, record: &[u8], crc: u32) -> usize {
        assert!(!self.keyed, "all records of a buffer have keys, or none has");
        self.add(pool, record);
        self.crcs = self.crcs.word(crc);
        record.len()
    }

    /// The same for a record with its key: an earlier record of that key is not sent any more.
    ///
    /// Panics if the record is empty, or if a record of the buffer has no key.
    #[inline(always)]
    pub fn push_keyed(
        &mut self,
        pool: &mut BufferPool,
        record: &[u8],
        crc: u32,
        key: &[u8],
    ) -> usize {
        assert!(self.keyed || self.records == 0, "all records of a buffer have keys, or none has");
        (self.keyed, self.found) = (true, None);
        self.add(pool, record);
        merge::note(&mut self.notes, pool, record.len(), crc, key);
        record.len() + key.len() + KEYED_RECORD_OVERHEAD_BYTES
    }

    #[inline(always)]
    fn add(&mut self, pool: &mut BufferPool, record: &[u8]) {
        assert!(!record.is_empty(), "a record has at least its end");
        self.records = self.records.checked_add(1).expect("a buffer has fewer than 4 G records");
        self.bytes.append(pool, record);
    }

    /// The bytes of the records in it, replaced and cached ones included.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.cached.bytes() + self.spilling + self.bytes.length()
    }

    /// The bytes of its records that are in memory and not on their way to the file cache.
    pub fn bytes_in_memory(&self) -> usize {
        self.bytes.length()
    }

    /// The bytes of its records that lie in the file cache.
    pub fn bytes_cached(&self) -> usize {
        self.cached.bytes()
    }

    /// The number of records in it, replaced ones included.
    #[inline]
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// The bytes that it takes, as defined above.
    #[inline]
    pub fn held(&self) -> usize {
        self.cached.held() + self.spilling + self.bytes.length() + self.notes.length()
    }

    /// Takes everything out as one pack; the chunks go back to the pool.
    ///
    /// Panics if the buffer is empty: an empty pack is never sent; or if records are on their way
    /// to the file cache.
    pub fn seal(&mut self, pool: &mut BufferPool) -> SealedPack {
        let live = self.merge(pool);
        match self.merged(pool, live) {
            Some(merged) => self.take_merged(pool, merged),
            None => self.take(pool, live),
        }
    }

    /// Makes room when `bytes` has reached a limit: if replaced records take a quarter of it, they
    /// are dropped, so that a hot key cannot fill the memory. Returns the change of the held bytes,
    /// or none if the buffer is full, and should be sealed.
    ///
    /// A pass over the buffer is paid for by a quarter of the limit in new records. Panics if
    /// records are on their way to the file cache.
    pub fn relieve(&mut self, pool: &mut BufferPool, limit: usize) -> Option<i64> {
        let live = self.merge(pool);
        let merged = self.merged(pool, live);
        let bytes = merged.as_ref().map_or(live.bytes, |merged| merged.bytes.len());
        if !self.keyed || bytes >= limit / 4 * 3 {
            return None;
        }
        let before = self.held();
        match merged {
            Some(merged) => self.keep_merged(pool, &merged),
            None => self.drop_replaced(pool),
        }
        Some(difference(before, self.held()))
    }

    /// Finds what is replaced; the notes in the scratch memory are then those of this buffer.
    fn merge(&mut self, pool: &mut BufferPool) -> Live {
        assert!(self.spilling == 0, "what is on its way to the cache is taken back before");
        if !self.keyed {
            return Live { bytes: self.bytes(), records: self.records };
        }
        match self.found {
            Some((pass, live)) if pass == pool.scratch.pass() => live,
            _ => {
                let noted = self.records - self.settled.records;
                let live = pool.scratch.merge(&self.notes, noted).with(self.settled);
                self.found = Some((pool.scratch.pass(), live));
                live
            }
        }
    }

    fn take(&mut self, pool: &mut BufferPool, live: Live) -> SealedPack {
        assert!(!self.is_empty(), "only a buffer with records is sealed");
        let bytes_freed = self.held();
        let (cached, mut body) = self.live_parts(&pool.scratch, live);
        let mut crcs = self.crcs;
        if self.keyed {
            let notes = pool.scratch.notes().filter(|note| !note.replaced);
            crcs = notes.fold(crcs, |crcs, note| crcs.word(note.crc));
        }
        stream_trailer(crcs.finish(), i64::from(live.records), &mut body);
        self.notes.release(pool);
        self.bytes.release(pool);
        *self = Self::default();
        SealedPack { cached: cached.into_ranges(), body, records: live.records, bytes_freed }
    }

    /// The live records: those in the cache, and the bytes of those in memory, with room for the
    /// trailer.
    fn live_parts(&mut self, scratch: &MergeScratch, live: Live) -> (CachedRecords, Vec<u8>) {
        let in_memory = self.cached.bytes();
        if live.bytes == self.bytes() {
            let mut body = Vec::with_capacity(live.bytes - in_memory + TRAILER_BYTES_MAX);
            let pieces = self.bytes.pieces(0..live.bytes - in_memory);
            pieces.for_each(|piece| body.extend_from_slice(piece));
            return (core::mem::take(&mut self.cached), body);
        }
        let cached = self.cached.cut(self.live_runs(scratch));
        let length = live.bytes - cached.bytes();
        let mut body = Vec::with_capacity(length + TRAILER_BYTES_MAX);
        body.resize(length, 0);
        let mut rest = body.as_mut_slice();
        let runs = self.live_runs(scratch).filter_map(|run| behind(run, in_memory));
        for piece in runs.flat_map(|run| self.bytes.pieces(run)) {
            let (now, later) = rest.split_at_mut(piece.len());
            words::copy(now, piece);
            rest = later;
        }
        assert!(rest.is_empty(), "the live bytes are those of the live records");
        (cached, body)
    }

    /// The places of the live records among all of the buffer, those next to each other as one.
    fn live_runs<'a>(
        &self,
        scratch: &'a MergeScratch,
    ) -> impl Iterator<Item = Range<usize>> + use<'a> {
        let settled = self.settled.bytes;
        let first = (settled > 0).then_some(0..settled);
        first
            .into_iter()
            .chain(scratch.live_runs().map(move |run| settled + run.start..settled + run.end))
    }

    /// Keeps the live records only, in their order.
    fn drop_replaced(&mut self, pool: &mut BufferPool) {
        let scratch = core::mem::take(&mut pool.scratch);
        let in_memory = self.cached.bytes();
        self.cached = self.cached.cut(self.live_runs(&scratch));
        let mut bytes = core::mem::take(&mut self.bytes);
        for run in self.live_runs(&scratch).filter_map(|run| behind(run, in_memory)) {
            bytes.pieces(run).for_each(|piece| self.bytes.append(pool, piece));
        }
        bytes.release(pool);
        self.notes.release(pool);
        (self.records, self.found) = (self.settled.records, None);
        for note in scratch.notes().filter(|note| !note.replaced) {
            merge::note(&mut self.notes, pool, note.length, note.crc, note.key);
            self.records += 1;
        }
        pool.scratch = scratch;
    }
}

impl Live {
    /// The same with the settled records, all of which live.
    fn with(self, settled: Settled) -> Self {
        let records = self.records + settled.records;
        Self { bytes: self.bytes + settled.bytes, records }
    }
}

/// The part of a run behind so many bytes, counted from there.
fn behind(run: Range<usize>, bytes: usize) -> Option<Range<usize>> {
    let start = run.start.max(bytes) - bytes;
    let end = run.end.max(bytes) - bytes;
    (start < end).then_some(start..end)
}

fn difference(before: usize, after: usize) -> i64 {
    let signed = |n: usize| i64::try_from(n).expect("a buffer is far smaller than 2^63 bytes");
    signed(after) - signed(before)
}

/// Two tags of four bytes, a count and a checksum of at most ten each.
const TRAILER_BYTES_MAX: usize = 28;
