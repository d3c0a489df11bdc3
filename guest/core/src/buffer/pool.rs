//! Memory for rows: chunks of one size, lent to the buffers and taken back.
//!
//! Under `BucketBuffer`, which appends records to a chain of chunks. Invariant: a chunk is in
//! exactly one chain or in the pool; a chain holds no chunk that has no byte in it; no byte moves
//! once it is appended.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::words;

/// Bytes of one chunk.
///
/// What a chain wastes is at most one chunk, and there may be thousands of chains (partitions times
/// buckets): so the least size that still makes a new chunk rare. At rows of 100 bytes it is one
/// row in forty.
pub const CHUNK_BYTES: usize = 4 << 10;

type Chunk = Box<[u8; CHUNK_BYTES]>;

/// Chunks that no buffer uses at the moment.
///
/// It allocates when a row needs a chunk and none is free, and never gives memory back: in a
/// sandbox, linear memory does not shrink, so what was needed once is kept for the next time.
#[derive(Debug, Default)]
pub struct BufferPool {
    free: Vec<Chunk>,
    allocated: usize,
}

impl BufferPool {
    /// A pool without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of all chunks that were ever allocated, lent or free.
    pub fn allocated_bytes(&self) -> usize {
        self.allocated * CHUNK_BYTES
    }

    /// Bytes of the chunks that buffers hold at the moment.
    pub fn lent_bytes(&self) -> usize {
        (self.allocated - self.free.len()) * CHUNK_BYTES
    }

    fn lend(&mut self) -> Chunk {
        self.free.pop().unwrap_or_else(|| {
            self.allocated += 1;
            let zeroed = vec![0; CHUNK_BYTES].into_boxed_slice();
            zeroed.try_into().expect("the slice has the length of a chunk")
        })
    }
}

/// Bytes appended one after another, spread over chunks. Holds no memory while it is empty.
#[derive(Debug, Default)]
pub(super) struct Chain {
    chunks: Vec<Chunk>,
    length: usize,
}

impl Chain {
    /// Bytes appended so far.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Appends the bytes, across chunks if need be.
    #[inline]
    pub(super) fn append(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        let at = self.length % CHUNK_BYTES;
        let end = at + bytes.len();
        match self.chunks.last_mut() {
            // A position of zero is that of a chunk still to be lent.
            Some(chunk) if at > 0 && end <= CHUNK_BYTES => words::copy(&mut chunk[at..end], bytes),
            _ => return self.append_across(pool, bytes),
        }
        self.length += bytes.len();
    }

    #[cold]
    fn append_across(&mut self, pool: &mut BufferPool, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = self.length % CHUNK_BYTES;
            if at == 0 {
                self.chunks.push(pool.lend());
            }
            let (now, later) = bytes.split_at(bytes.len().min(CHUNK_BYTES - at));
            let chunk = self.chunks.last_mut().expect("one was lent, or the last has room");
            words::copy(&mut chunk[at..at + now.len()], now);
            self.length += now.len();
            bytes = later;
        }
    }

    /// The bytes of a range, chunk by chunk.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        assert!(range.end <= self.length, "a range ends within the chain");
        let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
        chunks.map(move |index| {
            let first = index * CHUNK_BYTES;
            let from = range.start.saturating_sub(first);
            let to = (range.end - first).min(CHUNK_BYTES);
            &self.chunks[index][from..to]
        })
    }

    /// Whether these bytes stand at `start`.
    pub(super) fn holds(&self, start: usize, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        self.pieces(start..start + bytes.len()).all(|piece| {
            let (now, later) = rest.split_at(piece.len());
            rest = later;
            words::same(piece, now)
        })
    }

    /// Empties the chain; its chunks go back.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        pool.free.append(&mut self.chunks);
        self.length = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_is_read_back_across_chunks() {
        let mut pool = BufferPool::new();
        let mut chain = Chain::default();
        let mut expected = Vec::new();
        for length in
            [0, 1, 7, 8, 300, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5]
        {
            let bytes: Vec<u8> = (0..length).map(|i| (i ^ length) as u8).collect();
            let start = chain.length();
            chain.append(&mut pool, &bytes);
            expected.extend_from_slice(&bytes);
            assert!(chain.holds(start, &bytes));
        }
        assert_eq!(chain.pieces(0..chain.length()).collect::<Vec<_>>().concat(), expected);
        let middle = 100..2 * CHUNK_BYTES;
        assert_eq!(chain.pieces(middle.clone()).collect::<Vec<_>>().concat(), expected[middle]);
        assert_eq!(pool.lent_bytes(), expected.len().next_multiple_of(CHUNK_BYTES));
    }

    #[test]
    fn a_chain_holds_memory_from_its_first_byte_until_it_is_released() {
        let mut pool = BufferPool::new();
        let mut chain = Chain::default();
        chain.append(&mut pool, &[]);
        assert_eq!(pool.allocated_bytes(), 0);
        chain.append(&mut pool, &[1; CHUNK_BYTES]);
        assert_eq!(pool.lent_bytes(), CHUNK_BYTES);
        chain.release(&mut pool);
        assert_eq!((pool.lent_bytes(), pool.allocated_bytes()), (0, CHUNK_BYTES));
        chain.append(&mut pool, &[2]);
        assert_eq!(pool.allocated_bytes(), CHUNK_BYTES);
    }
}
