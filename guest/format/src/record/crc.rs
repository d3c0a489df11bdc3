//! CRC32C by tables, in steps of the sizes that records are made of.
//!
//! Used by `encode` for every column of every row, and by `decode`. WebAssembly has no instruction
//! for it. Invariant: any split of the same bytes into steps gives the same checksum.
//!
//! A step of n bytes moves the state n bytes on and adds what the bytes themselves contribute. Both
//! are sums of table entries, so the entries of one step do not wait for each other. Zeros at the
//! beginning contribute nothing: fewer bytes than a step has are put at its end, the state in front
//! of them.

/// The checksum of bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc::START.bytes(bytes).finish()
}

/// A checksum under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc(u32);

impl Default for Crc {
    fn default() -> Self {
        Self::START
    }
}

impl Crc {
    /// The state before any byte.
    pub const START: Self = Self(!0);

    /// The checksum of the bytes so far.
    #[inline(always)]
    pub const fn finish(self) -> u32 {
        !self.0
    }

    /// Adds 1 byte.
    #[inline(always)]
    pub const fn byte(self, byte: u8) -> Self {
        Self((self.0 >> 8) ^ TABLES[0][(self.0 as u8 ^ byte) as usize])
    }

    /// Adds 4 bytes.
    #[inline(always)]
    pub const fn word(self, word: u32) -> Self {
        Self(moved::<4>(self.0 ^ word))
    }

    /// Adds 8 bytes: the step of a tag and a float.
    #[inline(always)]
    pub const fn words(self, first: u32, second: u32) -> Self {
        Self(moved::<8>(self.0 ^ first) ^ moved::<4>(second))
    }

    /// Adds 12 bytes: the step of a tag and an integer.
    #[inline(always)]
    pub fn integer(self, tag: u32, value: i64) -> Self {
        match value as i32 {
            short if i64::from(short) == value => self.short_integer(tag, short),
            _ => self.tagged(tag, value as u64),
        }
    }

    /// The same for an integer of 32 bits: its high half is all zeros or all ones, and what those
    /// contribute is known.
    #[inline(always)]
    pub fn short_integer(self, tag: u32, value: i32) -> Self {
        let sign = if value < 0 { const { moved::<4>(u32::MAX) } } else { 0 };
        Self(moved::<12>(self.0 ^ tag) ^ moved::<8>(value as u32) ^ sign)
    }

    /// Adds 12 bytes: the step of a tag and a double.
    #[inline(always)]
    pub const fn tagged(self, tag: u32, value: u64) -> Self {
        Self(moved::<12>(self.0 ^ tag) ^ last_8(value))
    }

    /// Adds 16 bytes.
    #[inline(always)]
    pub const fn block(self, low: u64, high: u64) -> Self {
        Self(first_8(low ^ self.0 as u64) ^ last_8(high))
    }

    /// Adds 16 bytes: the step of a number and the first bytes of a text.
    #[inline(always)]
    pub fn text_start(self, number: u32, text: &[u8; 12]) -> Self {
        Self(moved::<16>(self.0 ^ number) ^ last_12(text))
    }

    /// Adds 16 bytes, of a text or of anything that is in memory.
    #[inline(always)]
    pub fn text_block(self, block: &[u8; 16]) -> Self {
        let [first, ..] = block.as_chunks::<4>().0 else { unreachable!("a block has 16 bytes") };
        let rest = block.last_chunk().expect("a block has 16 bytes");
        Self(moved::<16>(self.0 ^ u32::from_le_bytes(*first)) ^ last_12(rest))
    }

    /// Adds a number and a text of up to 11 bytes, with which two words begin; zeros follow it.
    #[inline(always)]
    pub fn short_text(self, number: u32, length: usize, low: u64, high: u64) -> Self {
        let first = u64::from(self.0 ^ number) | low << 32;
        if length <= 4 {
            return Self(last_8(first << (8 * (4 - length))));
        }
        let second = low >> 32 | high << 32;
        let zeros = 8 * (12 - length);
        Self(first_8(first << zeros) ^ last_8(second << zeros | first >> (64 - zeros)))
    }

    /// Adds the last `length` bytes of 8, at least one.
    #[inline(always)]
    pub fn short_tail(self, length: usize, bytes: [u8; 8]) -> Self {
        let (word, state) = (u64::from_le_bytes(bytes), u64::from(self.0));
        let zeros = 8 * (8 - length);
        // What a step of fewer than four bytes does not reach of the state only moves.
        let moved = state >> 4 >> (8 * length - 4);
        Self(last_8((word >> zeros ^ state) << zeros) ^ moved as u32)
    }

    /// Adds the last `length` bytes of 16, more than 8 and not all.
    #[inline(always)]
    pub fn long_tail(self, length: usize, bytes: &[u8; 16]) -> Self {
        let (low, high) = (word_of(bytes, 0), word_of(bytes, 8));
        let (zeros, state) = (8 * (16 - length), u64::from(self.0));
        let low = (low >> zeros ^ state) << zeros;
        Self(first_8(low) ^ last_8(high ^ state >> (64 - zeros)))
    }

    /// Adds any bytes.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<16>();
        let state = blocks.iter().fold(self, |state, block| state.text_block(block));
        rest.iter().fold(state, |state, byte| state.byte(*byte))
    }

    /// The contribution of 12 constant bytes that end a step of 16 whose first 4 are
    /// `after_block`'s tag.
    pub const fn constant(low: u32, high: u64) -> u32 {
        moved::<12>(low) ^ last_8(high)
    }

    /// Adds a tag and 12 constant bytes, whose contribution is known.
    #[inline(always)]
    pub const fn constant_block(self, tag: u32, constant: u32) -> Self {
        Self(moved::<16>(self.0 ^ tag) ^ constant)
    }
}

/// The contribution of 4 bytes that begin a step of N bytes.
#[inline(always)]
const fn moved<const N: usize>(word: u32) -> u32 {
    let [a, b, c, d] = word.to_le_bytes();
    TABLES[N - 1][a as usize]
        ^ TABLES[N - 2][b as usize]
        ^ TABLES[N - 3][c as usize]
        ^ TABLES[N - 4][d as usize]
}

/// The contribution of a step's last 12 bytes. They are read one by one: to take them out of words
/// would take longer.
#[inline(always)]
fn last_12(bytes: &[u8; 12]) -> u32 {
    (0..12).fold(0, |sum, at| sum ^ TABLES[11 - at][usize::from(bytes[at])])
}

/// The contribution of the first 8 bytes of a step of 16.
#[inline(always)]
const fn first_8(word: u64) -> u32 {
    moved::<16>(word as u32) ^ moved::<12>((word >> 32) as u32)
}

/// The contribution of a step's last 8 bytes.
#[inline(always)]
const fn last_8(word: u64) -> u32 {
    moved::<8>(word as u32) ^ moved::<4>((word >> 32) as u32)
}

/// Eight of 16 bytes as a number.
#[inline(always)]
pub fn word_of(block: &[u8; 16], at: usize) -> u64 {
    u64::from_le_bytes(*block[at..].first_chunk().expect("a block has two words"))
}

/// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]` is what byte b contributes that k bytes follow.
static TABLES: [[u32; 256]; 16] = tables();

const fn tables() -> [[u32; 256]; 16] {
    let mut tables = [[0; 256]; 16];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            state = (state >> 1) ^ if state & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = state;
        byte += 1;
    }
    let mut table = 1;
    while table < 16 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
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
        let expected = |length: usize| bytes[..length].iter().fold(start, |s, b| s.byte(*b));
        for length in 0..12 {
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&bytes[4..length + 4]);
            let (low, high) = (word_of(&padded, 0), word_of(&padded, 8));
            let number = u32::from_le_bytes(*number);
            assert_eq!(start.short_text(number, length, low, high), expected(length + 4));
        }
        for length in 1..16 {
            let mut padded = [0xee; 16];
            padded[16 - length..].copy_from_slice(&bytes[..length]);
            if length > 8 {
                assert_eq!(start.long_tail(length, &padded), expected(length));
            } else {
                let last = *padded.last_chunk().expect("16 bytes");
                assert_eq!(start.short_tail(length, last), expected(length));
            }
        }
    }
}
