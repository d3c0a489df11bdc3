//! Where bytes of records and keys are written, and how.
//!
//! `block` writes records and `encode` keys with a `Cursor`; `buffer` copies from both. Invariant:
//! what `RecordBytes` shows is the last key that was written whole.
//!
//! In the sandbox a copy whose length is not a constant is a call to the outside, filling with
//! zeros is another, and every bounds check counts: bytes move in words of 8 and 16, into an array
//! of constant size that is never cleared, at places that a mask keeps inside it. What might not
//! fit there is written to a vector, the plain way.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Deref;

use super::crc::{Crc, word_of};
use super::varint::{varint_len, varint_word};

/// One key.
#[derive(Clone, Debug)]
pub struct RecordBytes {
    near: Box<[u8; NEAR_BYTES]>,
    /// How many bytes of `near` count.
    length: usize,
    /// Bytes that were too many for `near`; else empty.
    far: Vec<u8>,
}

/// Records and keys up to this size are written to an array.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The bytes by which a word may be written beyond those of it that count.
pub(super) const OVERRUN_BYTES: usize = 16;
/// A word written at the last place still has room.
pub(super) const NEAR_BYTES: usize = RECORD_BYTES_MAX + OVERRUN_BYTES;

impl RecordBytes {
    /// No bytes.
    pub fn new() -> Self {
        Self { near: Box::new([0; NEAR_BYTES]), length: 0, far: Vec::new() }
    }

    /// Forgets what was written.
    pub fn clear(&mut self) {
        self.length = 0;
        self.far.clear();
    }

    /// The bytes that were written.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        if self.far.is_empty() { &self.near[..self.length] } else { &self.far }
    }

    /// Begins to write to the array.
    #[inline(always)]
    pub(super) fn cursor(&mut self) -> Cursor<'_> {
        Cursor::new(&mut self.near, 0)
    }

    /// Shows what was written to the array up to `end`.
    #[inline(always)]
    pub(super) fn finish(&mut self, end: usize) {
        assert!(end <= RECORD_BYTES_MAX, "what is larger is written to the vector");
        self.length = end;
        self.far.clear();
    }

    /// Begins to write to the vector.
    pub(super) fn far(&mut self) -> &mut Vec<u8> {
        self.clear();
        &mut self.far
    }
}

impl Default for RecordBytes {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for RecordBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

/// A place in the array.
pub(super) struct Cursor<'a> {
    bytes: &'a mut [u8; NEAR_BYTES],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A place in an array.
    #[inline(always)]
    pub(super) fn new(bytes: &'a mut [u8; NEAR_BYTES], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next byte goes.
    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Writes a word, of which the first `length` bytes count.
    #[inline(always)]
    pub(super) fn word(&mut self, word: u64, length: usize) {
        *self.next() = word.to_le_bytes();
        self.at += length;
    }

    /// Writes a number of variable length.
    #[inline(always)]
    pub(super) fn varint(&mut self, value: u64) {
        let length = varint_len(value);
        if length > 8 {
            return self.long_varint(value, length);
        }
        self.word(varint_word(value, length), length);
    }

    /// Numbers of 9 and 10 bytes: 56 bits first, then the rest. No call: a loop that may call, even
    /// if it does not, reloads all that it knows for every row.
    #[inline(always)]
    fn long_varint(&mut self, value: u64, length: usize) {
        let low = varint_word(value & ((1 << 56) - 1), 8);
        self.word(low | 0x8080_8080_8080_8080, 8);
        // Of the eight bits that are left, the last one has a byte of its own, and in its place
        // says so.
        let high = value >> 56;
        self.word(high | (high << 1 & 0x100), length - 8);
    }

    /// Writes `source[from..to]`, and adds a number and these bytes to the checksum. There are 16
    /// bytes before `to`. The number and the first bytes are one step of the checksum, so that the
    /// number costs none of its own.
    #[inline(always)]
    pub(super) fn text(
        &mut self,
        crc: Crc,
        number: u32,
        source: &[u8],
        from: usize,
        to: usize,
    ) -> Crc {
        let text = &source[from..to];
        let Some((start, rest)) = text.split_first_chunk::<12>() else {
            let (low, high) = self.last(source, to, text.len());
            return crc.short_text(number, text.len(), low, high);
        };
        *self.next() = *start;
        self.at += 12;
        let mut crc = crc.text_start(number, start);
        let (blocks, rest) = rest.as_chunks::<16>();
        for block in blocks {
            *self.next() = *block;
            self.at += 16;
            crc = crc.text_block(block);
        }
        match rest.len() {
            0 => crc,
            length @ ..=8 => crc.short_tail(length, *self.tail(text, length)),
            length => crc.long_tail(length, self.tail(text, length)),
        }
    }

    /// Writes the last N bytes of a text, of which the last `length` are new: the others are there
    /// already, and to write them again takes less than to take them off.
    #[inline(always)]
    fn tail<'t, const N: usize>(&mut self, text: &'t [u8], length: usize) -> &'t [u8; N] {
        let last = text.last_chunk().expect("the text is longer");
        self.at = self.at + length - N;
        *self.next() = *last;
        self.at += N;
        last
    }

    /// Writes `source[from..to]`. There are 16 bytes before `to`.
    #[inline(always)]
    pub(super) fn copy(&mut self, source: &[u8], from: usize, to: usize) {
        let (blocks, rest) = source[from..to].as_chunks::<16>();
        for block in blocks {
            *self.next() = *block;
            self.at += 16;
        }
        self.last(source, to, rest.len());
    }

    /// Writes the last `length` bytes before `to`, fewer than 16. Returns them as two words, with
    /// zeros after them.
    #[inline(always)]
    fn last(&mut self, source: &[u8], to: usize, length: usize) -> (u64, u64) {
        let block = source[..to].last_chunk().expect("there are 16 bytes before the end");
        let (low, high) = (word_of(block, 0), word_of(block, 8));
        if length > 8 {
            let unused = (8 * (16 - length as u32)) & 63;
            let first = (low >> unused) | (high << 1 << (63 - unused));
            let second = high >> unused;
            self.word(first, 8);
            self.word(second, length - 8);
            return (first, second);
        }
        // Of no bytes nothing counts; a shift by all 64 bits there is not.
        let unused = (8 * (8 - length as u32)) & 63;
        let word = if length == 0 { 0 } else { high >> unused };
        self.word(word, length);
        (word, 0)
    }

    /// The next bytes.
    #[inline(always)]
    fn next<const N: usize>(&mut self) -> &mut [u8; N] {
        // The mask changes nothing, as `RecordBytes::finish` and `RecordBlock::begin` assert; by it
        // the compiler needs no check.
        let at = self.at & (RECORD_BYTES_MAX - 1);
        self.bytes[at..].first_chunk_mut().expect("the array is longer than the mask")
    }
}
