//! Short byte strings copied by blocks, compared and hashed by words of eight bytes.
//!
//! Used by `partition` and `buffer`, once or more for each row. In WebAssembly `memory.copy` is a
//! call into the host and `memcmp` a loop over bytes: for the lengths of keys and records, this is
//! several times faster. Invariant: the same results as the slice operations, whatever the
//! length.

/// Copies `from` into `to`, which has the same length.
#[inline(always)]
pub fn copy(to: &mut [u8], from: &[u8]) {
    assert_eq!(to.len(), from.len(), "a copy is as long as its original");
    match from.len() {
        ..8 => copy_few(to, from),
        8..=16 => _ = ends::<8>(to, from),
        17..=32 => _ = ends::<16>(to, from),
        33..=64 => _ = ends::<32>(to, from),
        65..=128 => two_ends(to, from),
        129..=BLOCKWISE_MAX => copy_blocks(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// The same for 32 bytes and more.
#[inline(never)]
fn copy_blocks(to: &mut [u8], from: &[u8]) {
    // The last block overlaps the one before it, which saves a loop over the rest.
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<32>(), from.last_chunk::<32>()) {
        *to = *from;
    }
    let blocks = to.as_chunks_mut::<32>().0.iter_mut().zip(from.as_chunks::<32>().0);
    for (to, from) in blocks {
        // Written in the other order, so that this stays a loop and is not made a `memory.copy`.
        to[16..].copy_from_slice(&from[16..]);
        to[..16].copy_from_slice(&from[..16]);
    }
}

/// The same for 64 to 128 bytes.
#[inline(always)]
fn two_ends(to: &mut [u8], from: &[u8]) {
    // In pieces that are moved by words: more at once is made a `memory.copy`.
    let last = from.len() - 64;
    ends::<32>(&mut to[..64], &from[..64]);
    ends::<32>(&mut to[last..], &from[last..]);
}

/// The same for fewer than 8 bytes.
#[inline(never)]
fn copy_few(to: &mut [u8], from: &[u8]) {
    if !ends::<4>(to, from) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
    }
}

/// Copies the first and the last N bytes, which is all of up to 2 N; false if there are fewer.
#[inline(always)]
fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> bool {
    let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) else {
        return false;
    };
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

/// Whether both are the same bytes.
#[inline]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (Some(last_a), Some(last_b)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else {
        return word(a) == word(b);
    };
    if whole(last_a) != whole(last_b) || word(a) != word(b) {
        return false;
    }
    // Up to sixteen bytes that is all, without a loop, which costs more than they.
    let Some(end_a) = a.len().checked_sub(16).filter(|rest| *rest > 0) else { return true };
    let (words_a, words_b) =
        (a[8..end_a + 8].as_chunks::<8>().0, b[8..end_a + 8].as_chunks::<8>().0);
    word(&a[end_a..]) == word(&b[end_a..])
        && words_a.iter().zip(words_b).all(|(a, b)| whole(a) == whole(b))
}

/// Up to eight bytes as one number. Strings of equal length up to eight are equal if their words
/// are.
#[inline]
pub fn word(bytes: &[u8]) -> u64 {
    if let Some(whole) = bytes.first_chunk::<8>() {
        return u64::from_le_bytes(*whole);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        // Each byte in its own place: a hash folds the halves, and what stands in both is gone.
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
        return u64::from(u32::from_le_bytes(*first)) | last;
    }
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Eight bytes as one number.
#[inline]
pub fn whole(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes)
}

/// A hash for look-ups in memory: never sent, never stored, the same in every process.
#[inline]
pub fn hash(bytes: &[u8]) -> u64 {
    let seed = mix(bytes.len() as u64);
    let Some(last) = bytes.last_chunk::<8>() else {
        return mix(seed ^ word(bytes));
    };
    let first = mix(seed ^ word(bytes));
    let words = bytes[8..].as_chunks::<8>().0.iter();
    let all = words.fold(first, |hash, word| mix(hash ^ whole(word)));
    mix(all ^ whole(last))
}

/// Spreads a number over all 64 bits, so that tables may use the highest and the lowest of them.
#[inline]
pub fn mix(n: u64) -> u64 {
    // The low half of the product is one instruction. Multiplication carries upwards only: the
    // shifts bring the high bits down.
    let product = u128::from(n ^ n >> 32) * 0x9e37_79b9_7f4a_7c15;
    let low = product as u64;
    low ^ low >> 29
}

/// Up to here blocks beat the call; measured in wasmtime.
const BLOCKWISE_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::record::varint::push_varint;

    #[test]
    fn every_length_is_copied_and_compared_like_a_slice() {
        for length in 0..600_usize {
            let from: Vec<u8> = (0..length).map(|i| (i * 7 + length) as u8).collect();
            let mut to = vec![0xee; length];
            copy(&mut to, &from);
            assert_eq!(to, from);
            assert!(same(&to, &from));
            assert_eq!(hash(&to), hash(&from));
            for at in 0..length {
                to[at] ^= 0x40;
                assert!(!same(&to, &from), "byte {at} of {length}");
                to[at] ^= 0x40;
            }
        }
    }

    #[test]
    fn a_prefix_is_neither_the_same_nor_hashed_the_same() {
        let bytes = [0_u8; 40];
        for length in 0..40 {
            assert!(!same(&bytes[..length], &bytes[..=length]));
            assert_ne!(hash(&bytes[..length]), hash(&bytes[..=length]));
        }
    }

    #[test]
    fn hashes_of_counted_keys_spread_over_both_ends() {
        let mut low = [0_u32; 128];
        let mut high = [0_u32; 128];
        for n in 0..12_800_u64 {
            let hash = hash(&n.to_le_bytes());
            low[(hash & 127) as usize] += 1;
            high[(hash >> 57) as usize] += 1;
        }
        assert!(low.iter().chain(&high).all(|n| (40..=180).contains(n)), "{low:?} {high:?}");
    }

    /// As records begin with them: a tag, and a number of variable length.
    #[test]
    fn hashes_of_short_keys_spread_whatever_their_length() {
        const KEYS: usize = 4096;
        for step in [1, 16, 1000, 70_000, 10_000_000, 3 << 40] {
            let key = |n: usize| {
                let mut key = vec![8];
                push_varint(&mut key, n as u64 * step);
                key
            };
            let places: BTreeSet<u64> = (0..KEYS).map(|n| hash(&key(n)) & 0x1fff).collect();
            let halves: BTreeSet<u64> = (0..KEYS).map(|n| hash(&key(n)) >> 32).collect();
            assert!(places.len() > KEYS / 2, "steps of {step}: {} places", places.len());
            assert!(halves.len() > KEYS / 2, "steps of {step}: {} halves", halves.len());
        }
    }
}
