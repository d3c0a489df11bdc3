//! Changes inputs: bits, bytes, numbers, runs, words, and pieces of other inputs.
//!
//! Between the pool of `fuzz/mod.rs` and the body. Invariant: what comes out depends on the random
//! numbers and the arguments only, and is never longer than [`BYTES_MAX`].

use fastrand::Rng;

/// No input is longer: what a body must do with more, it must do with this.
pub(super) const BYTES_MAX: usize = 32 << 10;

/// `one`, changed a few times, perhaps with pieces of `other`.
pub(super) fn mutate(rng: &mut Rng, one: &[u8], other: &[u8], words: &[&str]) -> Vec<u8> {
    let mut bytes = one.to_vec();
    // Mostly few changes: many at once only make noise.
    let changes = 1 << rng.u32(0..4);
    for _ in 0..rng.u32(1..=changes) {
        change(rng, &mut bytes, other, words);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8], words: &[&str]) {
    match rng.u32(0..13) {
        0 => overwrite(rng, bytes, |rng, byte| byte ^ (1 << rng.u32(0..8))),
        1 => overwrite(rng, bytes, |rng, _| rng.u8(..)),
        2 => overwrite(rng, bytes, |rng, _| EDGES[rng.usize(..EDGES.len())]),
        3 => overwrite(rng, bytes, |rng, byte| byte.wrapping_add(rng.u8(0..17)).wrapping_sub(8)),
        4 => {
            let run = run(rng, bytes.len());
            bytes.drain(run);
        }
        5 => {
            let piece = bytes[run(rng, bytes.len())].to_vec();
            insert(rng, bytes, &piece);
        }
        6 => {
            let piece = &other[run(rng, other.len())];
            insert(rng, bytes, piece);
        }
        7 => {
            // The beginning of one and the end of the other.
            bytes.truncate(rng.usize(..=bytes.len()));
            bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
        }
        8 => bytes.truncate(rng.usize(..=bytes.len())),
        9 => word(rng, bytes),
        10 => digits(rng, bytes),
        _ if words.is_empty() => {
            let piece: Vec<u8> = (0..rng.usize(1..9)).map(|_| rng.u8(..)).collect();
            insert(rng, bytes, &piece);
        }
        11 => {
            let word = words[rng.usize(..words.len())];
            insert(rng, bytes, word.as_bytes());
        }
        _ => {
            let run = run(rng, bytes.len());
            bytes.splice(run, words[rng.usize(..words.len())].bytes());
        }
    }
}

fn overwrite(rng: &mut Rng, bytes: &mut [u8], with: impl FnOnce(&mut Rng, u8) -> u8) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    bytes[at] = with(rng, bytes[at]);
}

fn insert(rng: &mut Rng, bytes: &mut Vec<u8>, piece: &[u8]) {
    let at = rng.usize(..=bytes.len());
    if bytes.len() + piece.len() <= BYTES_MAX {
        bytes.splice(at..at, piece.iter().copied());
    }
}

/// A run of bytes, mostly a short one.
fn run(rng: &mut Rng, length: usize) -> std::ops::Range<usize> {
    let start = rng.usize(..=length);
    let longest = if rng.bool() { 8 } else { length };
    let end = (start + rng.usize(..=longest)).min(length);
    start..end
}

/// Puts an edge of a number's range in the place of 2, 4 or 8 bytes, in little-endian order.
fn word(rng: &mut Rng, bytes: &mut [u8]) {
    let width = 2 << rng.usize(0..3);
    if bytes.len() < width {
        return;
    }
    let at = rng.usize(..=bytes.len() - width);
    let near = [0, 1, 2, 127, 128, 255, 256, 32_767, 65_535, u64::from(u32::MAX) / 2];
    let far = [u64::from(u32::MAX), u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX];
    let all: Vec<u64> = near.into_iter().chain(far).collect();
    let value = all[rng.usize(..all.len())].wrapping_add(rng.u64(0..3)).wrapping_sub(1);
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

/// Puts another number in the place of one that is written in digits.
fn digits(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let found: Vec<usize> =
        (0..bytes.len()).filter(|at| bytes[*at].is_ascii_digit()).take(4096).collect();
    if found.is_empty() {
        return;
    }
    let start = found[rng.usize(..found.len())];
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = NUMBERS[rng.usize(..NUMBERS.len())];
    bytes.splice(start..start + length, number.bytes());
}

/// Bytes at which readers change their mind.
const EDGES: [u8; 20] = [
    0, 1, 0x0a, 0x0d, 0x20, b'"', b'\'', b'#', b'%', b'&', b',', b'/', b';', b'<', b'=', b'\\',
    0x7f, 0x80, 0xc0, 0xff,
];

const NUMBERS: [&str; 12] = [
    "0",
    "1",
    "-1",
    "7",
    "127",
    "128",
    "65536",
    "2147483647",
    "4294967296",
    "9223372036854775808",
    "99999999999999999999999999999999999999",
    "1e400",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_input() {
        let make = |seed| mutate(&mut Rng::with_seed(seed), b"one 12", b"other", &["word"]);
        let made: Vec<_> = (0..1000).map(make).collect();
        assert_eq!(made, (0..1000).map(make).collect::<Vec<_>>());
        let mut different = made;
        different.sort();
        different.dedup();
        assert!(different.len() > 500, "{}", different.len());
    }

    #[test]
    fn inputs_stay_small_and_may_begin_empty() {
        let mut rng = Rng::with_seed(1);
        let mut bytes = Vec::new();
        for _ in 0..20_000 {
            let other = bytes.clone();
            bytes = mutate(&mut rng, &bytes, &other, &[]);
            assert!(bytes.len() <= BYTES_MAX);
        }
    }
}
