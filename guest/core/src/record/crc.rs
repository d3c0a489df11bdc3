//! CRC32C by tables, in steps of the sizes that records are made of.
//!
//! Used by `encode` for every column of every row, and by `decode`. WebAssembly has no instruction
//! for it. Invariant: any split of the same bytes into steps gives the same checksum.
//!
//! A step of n bytes moves the state n bytes on and adds what the bytes themselves contribute. Both
//! are sums of table entries, so the entries of one step do not wait for each other.

/// The checksum of bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc::START.bytes(bytes).finish()
}

/// A checksum under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self::START
    }
}

impl Crc {
    /// Of no bytes yet.
    pub(crate) const START: Self = Self(!0);

    /// The checksum of the bytes so far.
    #[inline(always)]
    pub(crate) const fn finish(self) -> u32 {
        !self.0
    }

    /// Adds 1 byte.
    #[inline(always)]
    pub(crate) const fn byte(self, byte: u8) -> Self {
        Self((self.0 >> 8) ^ TABLES[NONE_FOLLOW][(self.0 as u8 ^ byte) as usize])
    }

    /// Adds 4 bytes.
    #[inline(always)]
    pub(crate) const fn word(self, word: u32) -> Self {
        Self(moved::<4>(self.0 ^ word))
    }

    /// Adds 8 bytes: the step of a tag and a float.
    #[inline(always)]
    pub(crate) const fn words(self, first: u32, second: u32) -> Self {
        Self(moved::<8>(self.0 ^ first) ^ moved::<4>(second))
    }

    /// Adds 12 bytes: the step of a tag and an integer.
    #[inline(always)]
    pub(crate) fn integer(self, tag: u32, value: i64) -> Self {
        match value as i32 {
            short if i64::from(short) == value => self.short_integer(tag, short),
            _ => self.tagged(tag, value as u64),
        }
    }

    /// The same for an integer of 32 bits: its high half is all zeros or all ones, and what those
    /// contribute is known.
    #[inline(always)]
    pub(crate) fn short_integer(self, tag: u32, value: i32) -> Self {
        let sign = if value < 0 { const { moved::<4>(u32::MAX) } } else { 0 };
        Self(moved::<12>(self.0 ^ tag) ^ moved::<8>(value as u32) ^ sign)
    }

    /// Adds 12 bytes: the step of a tag and a double.
    #[inline(always)]
    pub(crate) const fn tagged(self, tag: u32, value: u64) -> Self {
        Self(moved::<12>(self.0 ^ tag) ^ contribution(value))
    }

    /// Adds 16 bytes.
    #[inline(always)]
    pub(crate) const fn block(self, low: u64, high: u64) -> Self {
        let first = moved::<16>(self.0 ^ low as u32) ^ moved::<12>((low >> 32) as u32);
        Self(first ^ contribution(high))
    }

    /// Adds 16 bytes: the step of a number and the first bytes of a text.
    #[inline(always)]
    pub(crate) fn text_start(self, number: u32, text: &[u8; 12]) -> Self {
        Self(moved::<16>(self.0 ^ number) ^ last_12(text))
    }

    /// Adds 16 bytes, of a text or of anything that is in memory.
    #[inline(always)]
    pub(crate) fn text_block(self, block: &[u8; 16]) -> Self {
        let [first, ..] = block.as_chunks::<4>().0 else { unreachable!("a block has 16 bytes") };
        let rest = block.last_chunk().expect("a block has 16 bytes");
        Self(moved::<16>(self.0 ^ u32::from_le_bytes(*first)) ^ last_12(rest))
    }

    /// Adds the first `length` bytes of a word, at most 8; the bytes after them must be zero.
    #[inline(always)]
    pub(crate) fn short_tail(self, length: usize, word: u64) -> Self {
        Self(by_tables((word ^ u64::from(self.0)).to_le_bytes(), tables_of_tail(length)))
    }

    /// Adds the first `length` bytes of two words, at most 16; the bytes after them must be zero.
    #[inline(always)]
    pub(crate) fn long_tail(self, length: usize, low: u64, high: u64) -> Self {
        let bytes = u128::from(low ^ u64::from(self.0)) | u128::from(high) << 64;
        Self(by_tables(bytes.to_le_bytes(), tables_of_tail(length)))
    }

    /// Adds any bytes.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<16>();
        let state = blocks.iter().fold(self, |state, block| state.text_block(block));
        rest.iter().fold(state, |state, byte| state.byte(*byte))
    }

    /// What 12 constant bytes contribute when they end a step of 16 whose first 4 are
    /// `after_block`'s tag.
    pub(crate) const fn constant(low: u32, high: u64) -> u32 {
        moved::<12>(low) ^ contribution(high)
    }

    /// Adds a tag and 12 constant bytes, whose contribution is known.
    #[inline(always)]
    pub(crate) const fn constant_block(self, tag: u32, constant: u32) -> Self {
        Self(moved::<16>(self.0 ^ tag) ^ constant)
    }
}

/// What 4 bytes contribute that begin a step of N bytes.
#[inline(always)]
const fn moved<const N: usize>(word: u32) -> u32 {
    let [a, b, c, d] = word.to_le_bytes();
    TABLES[NONE_FOLLOW + N - 1][a as usize]
        ^ TABLES[NONE_FOLLOW + N - 2][b as usize]
        ^ TABLES[NONE_FOLLOW + N - 3][c as usize]
        ^ TABLES[NONE_FOLLOW + N - 4][d as usize]
}

/// What the last 12 bytes of a step contribute. They are read one by one: to take them out of words
/// would take longer.
#[inline(always)]
fn last_12(bytes: &[u8; 12]) -> u32 {
    (0..12).fold(0, |sum, at| sum ^ TABLES[NONE_FOLLOW + 11 - at][usize::from(bytes[at])])
}

/// The tables of a tail of so many bytes, that of the first byte last.
#[inline(always)]
fn tables_of_tail(length: usize) -> &'static [[u32; 256]; 16] {
    TABLES[length..].first_chunk().expect("a tail has at most 16 bytes")
}

/// What the first bytes of a tail contribute whose tables are these.
#[inline(always)]
fn by_tables<const N: usize>(bytes: [u8; N], tables: &[[u32; 256]; 16]) -> u32 {
    (0..N).fold(0, |sum, at| sum ^ tables[15 - at][usize::from(bytes[at])])
}

/// What the last 8 bytes of a step contribute.
#[inline(always)]
const fn contribution(word: u64) -> u32 {
    moved::<8>(word as u32) ^ moved::<4>((word >> 32) as u32)
}

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[NONE_FOLLOW + k][b]` is what byte b contributes that k bytes follow. The four tables
/// before stand for bytes of the state that a short step does not reach, and those before them for
/// zeros after the bytes of a tail.
static TABLES: [[u32; 256]; NONE_FOLLOW + 16] = tables();

/// The table of the last byte of a step.
const NONE_FOLLOW: usize = 16;

const fn tables() -> [[u32; 256]; NONE_FOLLOW + 16] {
    let mut tables = [[0; 256]; NONE_FOLLOW + 16];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = (state >> 1) ^ if state & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[NONE_FOLLOW][byte] = state;
        let mut short = 0;
        while short < 4 {
            tables[NONE_FOLLOW - 1 - short][byte] = (byte as u32) << (8 * short);
            short += 1;
        }
        byte += 1;
    }
    let mut table = NONE_FOLLOW + 1;
    while table < NONE_FOLLOW + 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[NONE_FOLLOW][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn byte_by_byte(bytes: &[u8]) -> u32 {
        bytes.iter().fold(Crc::START, |state, byte| state.byte(*byte)).finish()
    }

    #[test]
    fn the_published_check_value_comes_out() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn every_step_equals_its_bytes() {
        let bytes: [u8; 20] = core::array::from_fn(|i| (i * 37 + 11) as u8);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let start = Crc::START.word(word(0));
        assert_eq!(start.finish(), byte_by_byte(&bytes[..4]));
        assert_eq!(start.words(word(4), word(8)).finish(), byte_by_byte(&bytes[..12]));
        assert_eq!(start.tagged(word(4), long(8)).finish(), byte_by_byte(&bytes[..16]));
        for value in [0, 1, -1, i64::from(i32::MIN), i64::from(i32::MAX) + 1, i64::MIN] {
            let tagged = start.tagged(9, value as u64);
            assert_eq!(start.integer(9, value), tagged);
        }
        assert_eq!(start.block(long(4), long(12)).finish(), byte_by_byte(&bytes));
        let constant = Crc::constant(word(8), long(12));
        assert_eq!(start.constant_block(word(4), constant).finish(), byte_by_byte(&bytes));
    }

    #[test]
    fn texts_of_every_length_equal_their_bytes() {
        let bytes: [u8; 16] = core::array::from_fn(|i| (i * 91 + 3) as u8);
        let start = Crc::START.byte(7);
        let all = bytes.iter().fold(start, |state, byte| state.byte(*byte));
        assert_eq!(start.text_block(&bytes), all);
        let (number, text) = bytes.split_first_chunk().expect("16 bytes");
        let text = text.first_chunk().expect("12 bytes");
        assert_eq!(start.text_start(u32::from_le_bytes(*number), text), all);
        for length in 0..=16 {
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&bytes[..length]);
            let padded = u128::from_le_bytes(padded);
            let (low, high) = (padded as u64, (padded >> 64) as u64);
            let expected = bytes[..length].iter().fold(start, |state, byte| state.byte(*byte));
            assert_eq!(start.long_tail(length, low, high), expected);
            if length <= 8 {
                assert_eq!(start.short_tail(length, low), expected);
            }
        }
    }
}
