//! Numbers of variable length, as protobuf writes them: seven bits a byte, lowest first.
//!
//! Used by `encode`, `value_encode` and `decode`. Invariant: what is written is the shortest form;
//! what is read may be longer, since another client writes checksums above 2³¹ sign-extended to ten
//! bytes.

use alloc::vec::Vec;

/// The most bytes that a number takes.
pub(crate) const VARINT_BYTES_MAX: usize = 10;

/// Turns small negative numbers into small positive ones.
#[inline(always)]
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of `zigzag`.
#[inline(always)]
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How many bytes a number takes.
#[inline(always)]
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    (bits * 9 + 64) / 64
}

/// A number below 2⁵⁶ as a word whose first `varint_len` bytes are its varint; no loop and no
/// branch.
#[inline(always)]
pub(crate) const fn varint_word(value: u64, length: usize) -> u64 {
    let halves = ((value & 0x00ff_ffff_f000_0000) << 4) | (value & 0x0fff_ffff);
    let quarters = ((halves & 0x0fff_c000_0fff_c000) << 2) | (halves & 0x0000_3fff_0000_3fff);
    let bytes = ((quarters & 0x3f80_3f80_3f80_3f80) << 1) | (quarters & 0x007f_007f_007f_007f);
    bytes | 0x0080_8080_8080_8080 >> (64 - 8 * length)
}

/// Numbers below this take at most four bytes.
pub(crate) const SHORT_VARINT_END: u64 = 1 << 28;

/// `varint_word` of a number below [`SHORT_VARINT_END`], in half the steps.
#[inline(always)]
pub(crate) const fn short_varint_word(value: u32, length: usize) -> u32 {
    let halves = ((value & 0x0fff_c000) << 2) | (value & 0x3fff);
    let bytes = ((halves & 0x3f80_3f80) << 1) | (halves & 0x007f_007f);
    bytes | 0x0080_8080 >> (32 - 8 * length)
}

/// Appends a number.
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a number and how many bytes it takes; none if the bytes end before it, or it is more than
/// 64 bits.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        if index == VARINT_BYTES_MAX - 1 && *byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_written_shortest_and_read_back() {
        let edges = (0..64).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit]).chain([u64::MAX]);
        for value in edges {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, value);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(read_varint(&bytes), Some((value, bytes.len())));
            assert_eq!(read_varint(&bytes[..bytes.len() - 1]), None);
            if value < 1 << 56 {
                let word = varint_word(value, bytes.len()).to_le_bytes();
                assert_eq!(word[..bytes.len()], bytes);
            }
            if value < SHORT_VARINT_END {
                let word = short_varint_word(value as u32, bytes.len()).to_le_bytes();
                assert_eq!(word[..bytes.len()], bytes);
            }
        }
    }

    #[test]
    fn zigzag_is_undone() {
        for value in [0, -1, 1, i64::MIN, i64::MAX, -70000] {
            assert_eq!(unzigzag(zigzag(value)), value);
        }
        assert_eq!(zigzag(-1), 1);
    }

    #[test]
    fn a_sign_extended_checksum_is_read_and_a_longer_number_is_not() {
        let extended = [0x9f, 0xe5, 0x98, 0xbc, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read_varint(&extended).map(|(value, _)| value as u32), Some(0xc786_329f));
        assert_eq!(read_varint(&[0xff; 11]), None);
        assert_eq!(read_varint(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), None);
    }
}
