//! Encoded rows of one bucket of one partition, waiting to be sent as one pack.
//!
//! After `record` in a row's way, before `flush`. Invariant: a pack holds the records that
//! `push` put in, in their order, without those that a later record of the same key replaced, and
//! with partial records of one key merged; `held` is the memory that they take, to the byte.

mod account;
mod columns;
mod merge;
mod pool;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

pub use account::{BufferAccount, PartitionBytes};
use merge::{Live, MergeScratch, NOTE_BYTES};
use pool::Chain;
pub use pool::{BufferPool, CHUNK_BYTES};
use upsert_sink_format::record::crc::Crc;
use upsert_sink_format::record::{pack_trailer, stream_trailer};
use upsert_sink_format::words;

/// Bytes that a record takes beside its own and those of its key when records are merged: its
/// length, its checksum, and the length of the key. If they are not merged, it takes none.
pub const KEYED_RECORD_OVERHEAD_BYTES: usize = NOTE_BYTES;

/// The buffer of one bucket. Holds no memory while it is empty.
///
/// Its held bytes are those of all records in it, replaced ones included, and if they are merged
/// those of their keys and the overhead of each. Beside that it may waste less than two chunks.
#[derive(Clone, Debug, Default)]
pub struct BucketBuffer {
    bytes: Chain,
    /// The checksum of the records' checksums, if they are not merged: all of them are sent then.
    crcs: Crc,
    /// The length, the checksum and the key of each record, if records are merged.
    notes: Chain,
    records: u32,
    keyed: bool,
    /// The live records by the pass of this number, if no record was pushed since.
    found: Option<(u64, Live)>,
}

/// A buffer's rows as the wire wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPack {
    /// The records and their trailer.
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

    /// The bytes of the records in it, replaced ones included.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.bytes.length()
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
        self.bytes.length() + self.notes.length()
    }

    /// Takes everything out as one pack; the chunks go back to the pool.
    ///
    /// Panics if the buffer is empty: an empty pack is never sent.
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
    /// A pass over the buffer is paid for by a quarter of the limit in new records.
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
        if !self.keyed {
            return Live { bytes: self.bytes.length(), records: self.records };
        }
        match self.found {
            Some((pass, live)) if pass == pool.scratch.pass() => live,
            _ => {
                let live = pool.scratch.merge(&self.notes, self.records);
                self.found = Some((pool.scratch.pass(), live));
                live
            }
        }
    }

    fn take(&mut self, pool: &mut BufferPool, live: Live) -> SealedPack {
        assert!(!self.is_empty(), "only a buffer with records is sealed");
        let bytes_freed = self.held();
        let mut body = self.body(&pool.scratch, live);
        if self.keyed {
            let notes = pool.scratch.notes().filter(|note| !note.replaced);
            pack_trailer(notes.map(|note| note.crc), live.records, &mut body);
        } else {
            stream_trailer(self.crcs.finish(), i64::from(live.records), &mut body);
        }
        self.notes.release(pool);
        self.bytes.release(pool);
        *self = Self::default();
        SealedPack { body, records: live.records, bytes_freed }
    }

    /// The live records' bytes, with room for the trailer.
    fn body(&self, scratch: &MergeScratch, live: Live) -> Vec<u8> {
        let mut body = Vec::with_capacity(live.bytes + TRAILER_BYTES_MAX);
        if live.bytes == self.bytes.length() {
            let pieces = self.bytes.pieces(0..live.bytes);
            pieces.for_each(|piece| body.extend_from_slice(piece));
            return body;
        }
        body.resize(live.bytes, 0);
        let mut rest = body.as_mut_slice();
        for piece in scratch.live_runs().flat_map(|run| self.bytes.pieces(run)) {
            let (now, later) = rest.split_at_mut(piece.len());
            words::copy(now, piece);
            rest = later;
        }
        assert!(rest.is_empty(), "the live bytes are those of the live records");
        body
    }

    /// Keeps the live records only, in their order.
    fn drop_replaced(&mut self, pool: &mut BufferPool) {
        let scratch = core::mem::take(&mut pool.scratch);
        let mut bytes = core::mem::take(&mut self.bytes);
        for run in scratch.live_runs() {
            bytes.pieces(run).for_each(|piece| self.bytes.append(pool, piece));
        }
        bytes.release(pool);
        self.notes.release(pool);
        (self.records, self.found) = (0, None);
        for note in scratch.notes().filter(|note| !note.replaced) {
            merge::note(&mut self.notes, pool, note.length, note.crc, note.key);
            self.records += 1;
        }
        pool.scratch = scratch;
    }
}

fn difference(before: usize, after: usize) -> i64 {
    let signed = |n: usize| i64::try_from(n).expect("a buffer is far smaller than 2^63 bytes");
    signed(after) - signed(before)
}

/// Two tags of four bytes, a count and a checksum of at most ten each.
const TRAILER_BYTES_MAX: usize = 28;
