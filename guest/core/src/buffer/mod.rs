//! Encoded rows of one bucket of one partition, waiting to be sent as one pack.
//!
//! After `record` in a row's way, before `flush`. Invariant: what `seal` takes out are the records
//! that `push` put in, in their order, without those that a later record of the same key replaced;
//! `held` is what they take, to the byte.

mod account;
mod merge;
mod pool;
#[cfg(test)]
mod tests;
pub(crate) mod words;

use alloc::vec::Vec;

use crate::record::pack_trailer;
use merge::{KeyedRecords, Slot};
use pool::Chain;

pub use account::BufferAccount;
pub use pool::{BufferPool, CHUNK_BYTES};

/// What a record takes beside its bytes when records are not merged: its checksum, in a list that
/// grows by doubling.
pub const RECORD_OVERHEAD_BYTES: usize = 8;

/// What a record takes beside its bytes when records are merged: its slot of 24 bytes and its place
/// in the index, both with the room that growth leaves, and a key of up to eight bytes.
pub const KEYED_RECORD_OVERHEAD_BYTES: usize = 48;

/// The buffer of one bucket. Holds no memory while it is empty.
///
/// Its held bytes are those of all records in it, live or dropped, plus those of keys longer than
/// eight bytes, plus one of the two overheads a record. Beside that it may waste less than one
/// chunk for the records and one for the keys.
#[derive(Debug, Default)]
pub struct BucketBuffer {
    bytes: Chain,
    records: Records,
    live_bytes: usize,
    live_records: u32,
    /// How many records the last packs had: a bucket that was full once will be again.
    expected: usize,
}

/// What is known of each record.
#[derive(Debug)]
enum Records {
    Keyed(KeyedRecords),
    /// The checksums.
    Plain(Vec<u32>),
}

impl Default for Records {
    fn default() -> Self {
        Self::Plain(Vec::new())
    }
}

/// A buffer's rows as the wire wants them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPack {
    /// The records and their trailer.
    pub body: Vec<u8>,
    /// How many records.
    pub records: u32,
    /// The bytes that the buffer held, and holds no more.
    pub bytes_freed: usize,
}

impl BucketBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an encoded record and its checksum. Given a key, the earlier record of the same key is
    /// dropped: it does not count any more and is not sent. Returns the change of the held bytes,
    /// which is negative when holes were closed.
    ///
    /// Panics if the record is empty, or if only some records of a buffer have keys.
    #[inline]
    pub fn push(
        &mut self,
        pool: &mut BufferPool,
        record: &[u8],
        crc: u32,
        key: Option<&[u8]>,
    ) -> i64 {
        assert!(!record.is_empty(), "a record has at least its end");
        let before = self.held();
        let start = self.bytes.length();
        self.bytes.append(pool, record);
        self.live_bytes += record.len();
        self.live_records += 1;
        match key {
            None => self.plain().push(crc),
            Some(key) => self.push_keyed(pool, key, (start, record.len(), crc)),
        }
        difference(before, self.held())
    }

    /// The checksums of records without keys.
    fn plain(&mut self) -> &mut Vec<u32> {
        match &mut self.records {
            Records::Plain(crcs) => crcs,
            Records::Keyed(_) => panic!("all records of a buffer have keys, or none has"),
        }
    }

    fn push_keyed(&mut self, pool: &mut BufferPool, key: &[u8], record: (usize, usize, u32)) {
        if let Records::Plain(crcs) = &self.records {
            assert!(crcs.is_empty(), "all records of a buffer have keys, or none has");
            self.records = Records::Keyed(KeyedRecords::default());
        }
        let Records::Keyed(keyed) = &mut self.records else { unreachable!("it was just made so") };
        let dropped = keyed.insert(pool, key, record, self.expected);
        if dropped > 0 {
            self.live_bytes -= dropped;
            self.live_records -= 1;
            self.close_holes(pool);
        }
    }

    /// Moves the live records together once holes take more than they do, so that a hot key cannot
    /// fill the memory. Each move is paid for by as many dropped bytes.
    fn close_holes(&mut self, pool: &mut BufferPool) {
        let Records::Keyed(keyed) = &mut self.records else { return };
        let live = self.live_bytes + self.live_records as usize * KEYED_RECORD_OVERHEAD_BYTES;
        let all = self.bytes.length() + keyed.slots().len() * KEYED_RECORD_OVERHEAD_BYTES;
        let holes = all - live;
        if holes <= live || holes < HOLES_MIN {
            return;
        }
        let mut moved = Chain::default();
        keyed.compact(|slot| {
            let start = moved.length();
            for piece in self.bytes.pieces(range(slot)) {
                moved.append(pool, piece);
            }
            start
        });
        self.bytes.release(pool);
        self.bytes = moved;
    }

    /// The records' bytes as they would be sent, without the trailer.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.live_bytes
    }

    /// How many records would be sent.
    #[inline]
    pub fn records(&self) -> u32 {
        self.live_records
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.live_records == 0
    }

    /// The bytes that it takes, as defined above.
    #[inline]
    pub fn held(&self) -> usize {
        match &self.records {
            Records::Plain(crcs) => self.bytes.length() + crcs.len() * RECORD_OVERHEAD_BYTES,
            Records::Keyed(keyed) => {
                let overhead = keyed.slots().len() * KEYED_RECORD_OVERHEAD_BYTES;
                self.bytes.length() + keyed.key_bytes() + overhead
            }
        }
    }

    /// Takes everything out as one pack; the chunks go back to the pool.
    ///
    /// Panics if the buffer is empty: an empty pack is never sent.
    pub fn seal(&mut self, pool: &mut BufferPool) -> SealedPack {
        assert!(!self.is_empty(), "only a buffer with records is sealed");
        let (records, bytes_freed) = (self.live_records, self.held());
        let mut body = self.body();
        match core::mem::take(&mut self.records) {
            Records::Plain(crcs) => pack_trailer(crcs.iter().copied(), records, &mut body),
            Records::Keyed(keyed) => {
                let live = keyed.slots().iter().filter(|slot| slot.is_live());
                pack_trailer(live.map(|slot| slot.crc), records, &mut body);
                keyed.release(pool);
            }
        }
        self.bytes.release(pool);
        // A pack that a barrier cut short says little: half of what was expected still is.
        let expected = (records as usize).max(self.expected / 2);
        *self = Self { expected, ..Self::default() };
        SealedPack { body, records, bytes_freed }
    }

    /// The live records' bytes, with room for the trailer.
    fn body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.live_bytes + TRAILER_BYTES_MAX);
        match &self.records {
            Records::Keyed(keyed) if self.live_bytes < self.bytes.length() => {
                body.resize(self.live_bytes, 0);
                let live = keyed.slots().iter().filter(|slot| slot.is_live());
                let pieces = live.flat_map(|slot| self.bytes.pieces(range(slot)));
                let mut rest = body.as_mut_slice();
                for piece in pieces {
                    let (now, later) = rest.split_at_mut(piece.len());
                    words::copy(now, piece);
                    rest = later;
                }
                assert!(rest.is_empty(), "the live bytes are those of the live records");
            }
            _ => self
                .bytes
                .pieces(0..self.bytes.length())
                .for_each(|piece| body.extend_from_slice(piece)),
        }
        body
    }
}

fn range(slot: &Slot) -> core::ops::Range<usize> {
    slot.start..slot.start + slot.length
}

fn difference(before: usize, after: usize) -> i64 {
    let signed = |n: usize| i64::try_from(n).expect("a buffer is far smaller than 2^63 bytes");
    signed(after) - signed(before)
}

/// Holes of less than this are left: closing them would save less than it costs.
const HOLES_MIN: usize = 4 * CHUNK_BYTES;

/// Two tags of four bytes, a count and a checksum of at most ten each.
const TRAILER_BYTES_MAX: usize = 28;
