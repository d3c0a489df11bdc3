//! Frames of an append-only file: a mark, the length with a checksum of its own, the payload's
//! checksum, the payload.
//!
//! Journals, recordings and spools are made of them. Invariant: a write that a crash cut off is
//! told from damage, because only the last frame can be torn; behind damage the next frame is found
//! by its mark.
//!
//! Layout: the letters `USFR`, u32 length, u32 CRC32C of both, u32 CRC32C of the payload, payload.
//! Numbers are little-endian.

use alloc::vec::Vec;
use core::ops::Range;

use crate::record::crc::crc32c;

/// Bytes before a payload.
pub const HEADER_BYTES: usize = 16;

/// The damage of a file, to follow its name.
pub type Damage = &'static str;

/// The header of a frame around `payload`.
///
/// Panics if the payload has 4 GiB or more.
pub fn header_of(payload: &[u8]) -> [u8; HEADER_BYTES] {
    let length = u32::try_from(payload.len()).expect("a payload is smaller than 4 GiB");
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MARK);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    let crc = crc32c(&header[..8]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header[12..].copy_from_slice(&crc32c(payload).to_le_bytes());
    header
}

/// One frame around `payload`.
pub fn enclose(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend(header_of(payload));
    frame.extend(payload);
    frame
}

/// A header, as far as it speaks of its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its bytes.
    pub length: usize,
    /// Its CRC32C.
    pub crc: u32,
}

impl Header {
    /// Reads a header whose payload has at most so many bytes.
    pub fn read(header: &[u8; HEADER_BYTES], payload_bytes_max: usize) -> Result<Self, Damage> {
        let number = |range: Range<usize>| {
            u32::from_le_bytes(header[range].try_into().expect("four bytes of a header"))
        };
        if header[..4] != MARK || crc32c(&header[..8]) != number(8..12) {
            return Err(HEADER_DAMAGE);
        }
        let length = number(4..8) as usize;
        if length > payload_bytes_max {
            return Err("a record is larger than any can be");
        }
        Ok(Self { length, crc: number(12..16) })
    }

    /// Whether these are the bytes that it was written for.
    pub fn vouches_for(&self, payload: &[u8]) -> bool {
        payload.len() == self.length && crc32c(payload) == self.crc
    }
}

/// A payload, and what follows its frame.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// The first payload, and what follows it. None at the end of the file, or where its last frame is
/// torn.
pub fn first(bytes: &[u8], payload_bytes_max: usize) -> Result<Option<Split<'_>>, Damage> {
    let Some((header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let header = match Header::read(header, payload_bytes_max) {
        // The zeros may begin within the header.
        Err(HEADER_DAMAGE) if is_unwritten(rest) => return Ok(None),
        read => read?,
    };
    let Some((payload, after)) = rest.split_at_checked(header.length) else { return Ok(None) };
    if header.vouches_for(payload) {
        return Ok(Some((payload, after)));
    }
    if is_unwritten(after) { Ok(None) } else { Err("a record does not match its checksum") }
}

/// Where the payload lies of the whole frame that begins at `at`; none if none does.
pub fn whole_at(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let (header, rest) = bytes.get(at..)?.split_first_chunk()?;
    let header = Header::read(header, rest.len()).ok()?;
    let start = at + HEADER_BYTES;
    let payload = start..start + header.length;
    header.vouches_for(&bytes[payload.clone()]).then_some(payload)
}

/// The payloads of the whole frames that begin at `from` or later, wherever their marks stand.
pub fn found_behind(bytes: &[u8], from: usize) -> impl Iterator<Item = Range<usize>> {
    let places = bytes.get(from..).unwrap_or_default().windows(MARK.len()).enumerate();
    let marked = places.filter(|(_, letters)| **letters == MARK);
    marked.filter_map(move |(place, _)| whole_at(bytes, from + place))
}

/// Space that a file system had reserved, but not yet written when it lost power.
fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// How a frame begins.
const MARK: [u8; 4] = *b"USFR";
const HEADER_DAMAGE: Damage = "a header does not match its checksum";

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 16;

    /// Two frames, with each byte of the first one damaged in turn.
    fn first_damaged() -> impl Iterator<Item = (usize, Vec<u8>)> {
        let mut file = enclose(b"one");
        let length = file.len();
        file.extend(enclose(b"two"));
        (0..length).map(move |index| {
            let mut damaged = file.clone();
            damaged[index] ^= 0x10;
            (index, damaged)
        })
    }

    #[test]
    fn damage_before_the_last_frame_is_an_error() {
        for (index, damaged) in first_damaged() {
            assert!(first(&damaged, MAX).is_err(), "byte {index}");
        }
    }

    #[test]
    fn a_torn_last_frame_is_the_end() {
        let whole = enclose(b"one");
        for cut in 0..whole.len() {
            assert_eq!(first(&whole[..cut], MAX), Ok(None), "cut at {cut}");
        }
        assert_eq!(first(&[0; 100], MAX), Ok(None));
    }

    /// A file system writes a file's blocks after its length, so a torn frame may be filled up.
    #[test]
    fn a_last_frame_that_goes_over_into_zeros_is_the_end() {
        let whole = enclose(b"one");
        for cut in 0..whole.len() {
            for length in [whole.len(), whole.len() + 1, 3 * whole.len()] {
                let mut torn = whole[..cut].to_vec();
                torn.resize(length, 0);
                assert_eq!(first(&torn, MAX), Ok(None), "cut at {cut} of {length}");
            }
        }
    }

    #[test]
    fn frames_behind_damage_are_found_by_their_mark() {
        for (index, damaged) in first_damaged() {
            assert_eq!(whole_at(&damaged, 0), None, "byte {index}");
            let found: Vec<_> = found_behind(&damaged, 1).map(|at| &damaged[at]).collect();
            assert_eq!(found, [b"two"], "byte {index}");
        }
    }
}
