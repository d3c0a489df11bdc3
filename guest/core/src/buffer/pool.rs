//! Memory for rows: chunks of one size, lent to the buffers and taken back.
//!
//! Under `BucketBuffer`, which appends records to a chain of chunks. Invariant: a chunk is in
//! exactly one chain or in the pool; a chain holds no chunk that has no byte in it; no byte moves
//! within the chain once it is appended.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use upsert_sink_format::record::PartialRows;
use upsert_sink_format::words;

use super::merge::MergeScratch;

/// Bytes of a whole chunk: it still makes a new chunk rare, one for forty rows of 100 bytes.
pub const CHUNK_BYTES: usize = 4 << 10;

/// Sizes of chunks. A chain begins with a small one, for there may be many thousands of chains
/// (partitions times buckets) of a few rows each; it moves to the next size when that is full, and
/// consists of whole chunks from the last size on.
const SIZES: [usize; 4] = [64, 256, 1 << 10, CHUNK_BYTES];

type Chunk = Box<[u8]>;

/// Chunks that no buffer uses at the moment, and the memory that merging works in.
///
/// It allocates when a row needs a chunk and none is free, and never gives memory back: in a
/// sandbox, linear memory does not shrink, so what was needed once is kept for the next time.
#[derive(Clone, Default)]
pub struct BufferPool {
    /// By size.
    free: [Vec<Chunk>; SIZES.len()],
    allocated_bytes: usize,
    /// One for all buffers, so that it stays in the cache.
    pub(super) scratch: MergeScratch,
    /// The rules by which records of one key are merged, if they may be partial.
    pub(super) partial: Option<PartialRows>,
}

/// Bytes of free chunks, and of the memory that merging works in, mean nothing.
impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("BufferPool");
        shown.field("free", &self.free.each_ref().map(Vec::len));
        shown.field("allocated_bytes", &self.allocated_bytes).finish_non_exhaustive()
    }
}

impl BufferPool {
    /// A pool without memory.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same for buffers of partial rows, if rows are partial.
    pub fn partial(self, partial: Option<PartialRows>) -> Self {
        Self { partial, ..self }
    }

    /// A pack for a session that knows the columns by these ids: partial rows name their columns.
    pub fn pack_for(&self, body: Vec<u8>, column_ids: &[i64]) -> Vec<u8> {
        match &self.partial {
            Some(rows) => rows.pack_for(body, column_ids),
            None => body,
        }
    }

    /// Bytes of all chunks that were ever allocated, lent or free.
    pub fn allocated_bytes(&self) -> usize {
        self.allocated_bytes
    }

    /// Bytes of the chunks that buffers hold at the moment.
    pub fn lent_bytes(&self) -> usize {
        let free = self.free.iter().zip(SIZES).map(|(chunks, size)| chunks.len() * size);
        self.allocated_bytes - free.sum::<usize>()
    }

    /// Lends a chunk of this size at least, or a whole one.
    fn lend(&mut self, least: usize) -> Chunk {
        let class = SIZES.iter().position(|size| *size >= least).unwrap_or(SIZES.len() - 1);
        self.free[class].pop().unwrap_or_else(|| {
            self.allocated_bytes += SIZES[class];
            vec![0; SIZES[class]].into_boxed_slice()
        })
    }

    fn give_back(&mut self, chunk: Chunk) {
        let class = SIZES.iter().position(|size| *size == chunk.len());
        self.free[class.expect("it was lent from here")].push(chunk);
    }
}

/// Bytes appended one after another, spread over chunks. Holds no memory while it is empty.
///
/// Only the last chunk is written in small pieces, and it stays the same chunk: when it is full,
/// its bytes go to another as a whole. So the chunks that rows are written to, one of each bucket,
/// stay in the cache, and what leaves it leaves in long runs: writing 90 bytes here and there in
/// memory that the cache does not hold took as long as encoding them.
#[derive(Clone, Default)]
pub(super) struct Chain {
    /// Whole chunks.
    full: Vec<Chunk>,
    last: Option<Chunk>,
    /// The number of bytes of `last` that count.
    at: usize,
}

/// The bytes that count, and no others.
impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pieces(0..self.length())).finish()
    }
}

impl Chain {
    /// Bytes appended so far.
    #[inline]
    pub(super) fn length(&self) -> usize {
        self.full.len() * CHUNK_BYTES + self.at
    }

    /// Appends the bytes, across chunks if need be.
    #[inline(always)]
    pub(super) fn append(&mut self, pool: &mut BufferPool, bytes: &[u8]) {
        let end = self.at + bytes.len();
        match &mut self.last {
            Some(chunk) if end <= chunk.len() => words::copy(&mut chunk[self.at..end], bytes),
            _ => return self.append_across(pool, bytes),
        }
        self.at = end;
    }

    /// Appends numbers of 32 bits and bytes after them, at the cost of one.
    #[inline(always)]
    pub(super) fn append_both<const N: usize>(
        &mut self,
        pool: &mut BufferPool,
        numbers: [u32; N],
        bytes: &[u8],
    ) {
        let end = self.at + 4 * N + bytes.len();
        let Some(chunk) = self.last.as_mut().filter(|chunk| end <= chunk.len()) else {
            numbers.iter().for_each(|number| self.append_across(pool, &number.to_le_bytes()));
            return self.append_across(pool, bytes);
        };
        let (to, rest) = chunk[self.at..end].split_at_mut(4 * N);
        for (to, number) in to.as_chunks_mut().0.iter_mut().zip(numbers) {
            *to = number.to_le_bytes();
        }
        words::copy(rest, bytes);
        self.at = end;
    }

    #[cold]
    #[inline(never)]
    fn append_across(&mut self, pool: &mut BufferPool, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let chunk = self.last_with_room(pool, bytes.len());
            let (now, later) = bytes.split_at(bytes.len().min(chunk.len()));
            words::copy(&mut chunk[..now.len()], now);
            self.at += now.len();
            bytes = later;
        }
    }

    /// The room of the last chunk, some at least: for so many bytes, or that of a whole chunk.
    fn last_with_room(&mut self, pool: &mut BufferPool, wanted: usize) -> &mut [u8] {
        let size = self.last.as_ref().map_or(0, |chunk| chunk.len());
        let room = size - self.at;
        if room < wanted && size < CHUNK_BYTES {
            let mut larger = pool.lend(self.at + wanted);
            if let Some(smaller) = self.last.take() {
                larger[..self.at].copy_from_slice(&smaller[..self.at]);
                pool.give_back(smaller);
            }
            self.last = Some(larger);
        } else if room == 0 {
            let last = self.last.as_ref().expect("it is full");
            let mut copy = pool.lend(CHUNK_BYTES);
            copy.copy_from_slice(last);
            self.full.push(copy);
            self.at = 0;
        }
        &mut self.last.as_mut().expect("it was just lent")[self.at..]
    }

    /// The bytes of a range, chunk by chunk.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        assert!(range.end <= self.length(), "a range ends within the chain");
        let chunks = range.start / CHUNK_BYTES..range.end.div_ceil(CHUNK_BYTES);
        chunks.map(move |index| {
            let first = index * CHUNK_BYTES;
            let from = range.start.saturating_sub(first);
            let to = (range.end - first).min(CHUNK_BYTES);
            &self.chunk(index)[from..to]
        })
    }

    fn chunk(&self, index: usize) -> &Chunk {
        let last = || self.last.as_ref().expect("what is not in a full chunk is in the last");
        self.full.get(index).unwrap_or_else(last)
    }

    /// Empties the chain; its chunks go back.
    pub(super) fn release(&mut self, pool: &mut BufferPool) {
        pool.free[SIZES.len() - 1].append(&mut self.full);
        if let Some(last) = self.last.take() {
            pool.give_back(last);
        }
        self.at = 0;
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
            assert_eq!(chain.length(), expected.len());
            assert_eq!(chain.pieces(start..expected.len()).collect::<Vec<_>>().concat(), bytes);
        }
        assert_eq!(chain.pieces(0..chain.length()).collect::<Vec<_>>().concat(), expected);
        let middle = 100..2 * CHUNK_BYTES;
        assert_eq!(chain.pieces(middle.clone()).collect::<Vec<_>>().concat(), expected[middle]);
        assert_eq!(pool.lent_bytes(), expected.len().next_multiple_of(CHUNK_BYTES));
    }

    #[test]
    fn two_pieces_at_once_are_the_same_as_one_after_another() {
        let mut pool = BufferPool::new();
        let mut one = Chain::default();
        let mut other = Chain::default();
        for length in (0..600).chain([CHUNK_BYTES - 12, CHUNK_BYTES, 3]) {
            let numbers = [length as u32, 7, !0];
            let bytes = vec![!length as u8; length];
            one.append_both(&mut pool, numbers, &bytes);
            numbers.iter().for_each(|number| other.append(&mut pool, &number.to_le_bytes()));
            other.append(&mut pool, &bytes);
        }
        let all = 0..other.length();
        let expected = other.pieces(all.clone()).collect::<Vec<_>>().concat();
        assert_eq!(one.pieces(all).collect::<Vec<_>>().concat(), expected);
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
        chain.append(&mut pool, &[2; CHUNK_BYTES]);
        assert_eq!(pool.allocated_bytes(), CHUNK_BYTES, "it is lent again");
    }

    /// Ten thousand partitions of sixteen buckets with a row each must fit into memory.
    #[test]
    fn a_chain_of_one_row_takes_little_more_than_the_row() {
        let mut pool = BufferPool::new();
        let mut chain = Chain::default();
        for (length, lent) in [(60, 64), (4, 64), (1, 256), (191, 256), (800, 4096), (9, 4096)] {
            chain.append(&mut pool, &vec![7; length]);
            assert_eq!(pool.lent_bytes(), lent, "{length} more");
        }
        let all: usize = [64, 256, 4096].iter().sum();
        assert_eq!(pool.allocated_bytes(), all, "smaller chunks are free for others");
        assert!(chain.pieces(0..chain.length()).flatten().all(|byte| *byte == 7));
    }
}
