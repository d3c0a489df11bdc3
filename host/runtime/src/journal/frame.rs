//! Frames of an append-only file: length and checksum of the header, checksum of the payload,
//! payload.
//!
//! Used by `journal/mod.rs`, and for larger ones by `recording/block.rs`. Invariant: a write that
//! was cut off by a crash is told from damage: only a last frame can be torn.

/// What is wrong with a file.
pub(crate) type Damage = &'static str;

/// A payload, and what follows its frame.
pub(crate) type Split<'a> = (&'a [u8], &'a [u8]);

/// One frame around `payload`.
pub(crate) fn encode(payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a record is small");
    enclose(payload)
}

/// One frame around a payload of any size.
pub(crate) fn enclose(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("whoever encloses keeps below 4 GiB");
    let length = length.to_le_bytes();
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend(length);
    frame.extend(crc32c::crc32c(&length).to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    frame.extend(payload);
    frame
}

/// The first payload, and what follows it. None at the end of the file, or where its last frame is
/// torn.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Split<'_>>, Damage> {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let header = header.first_chunk().expect("it was split off so");
    let (length, checksum) = match self::header(header, PAYLOAD_BYTES_MAX) {
        // The zeros may begin within the header.
        Err(HEADER_DAMAGE) if is_unwritten(rest) => return Ok(None),
        read => read?,
    };
    let Some((payload, after)) = rest.split_at_checked(length) else { return Ok(None) };
    if crc32c::crc32c(payload) == checksum {
        return Ok(Some((payload, after)));
    }
    if is_unwritten(after) { Ok(None) } else { Err("a record does not match its checksum") }
}

/// The length of a payload, and its checksum.
pub(crate) fn header(
    header: &[u8; HEADER_BYTES],
    payload_bytes_max: usize,
) -> Result<(usize, u32), Damage> {
    let word = |index: usize| {
        let bytes = header[index * 4..index * 4 + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    if crc32c::crc32c(&header[..4]) != word(1) {
        return Err(HEADER_DAMAGE);
    }
    let length = usize::try_from(word(0)).expect("a host has at least 32 bits");
    if length > payload_bytes_max {
        return Err("a record is larger than any can be");
    }
    Ok((length, word(2)))
}

/// Space that a file system had reserved, but not yet written when it lost power.
fn is_unwritten(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

const HEADER_DAMAGE: Damage = "a header does not match its checksum";
pub(crate) const HEADER_BYTES: usize = 12;
/// 64 KiB of a guest, in base64, and what stands around them.
const PAYLOAD_BYTES_MAX: usize = 96 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_before_the_last_frame_is_an_error() {
        let mut file = encode(b"one");
        let first = file.len();
        file.extend(encode(b"two"));
        for index in 0..first {
            let mut damaged = file.clone();
            damaged[index] ^= 0x10;
            assert!(decode(&damaged).is_err(), "byte {index}");
        }
    }

    #[test]
    fn a_torn_last_frame_is_the_end() {
        let whole = encode(b"one");
        for cut in 0..whole.len() {
            assert_eq!(decode(&whole[..cut]), Ok(None), "cut at {cut}");
        }
        assert_eq!(decode(&[0; 100]), Ok(None));
    }

    /// A file system writes a file's blocks after its length, so a torn frame may be filled up.
    #[test]
    fn a_last_frame_that_goes_over_into_zeros_is_the_end() {
        let whole = encode(b"one");
        for cut in 0..whole.len() {
            for length in [whole.len(), whole.len() + 1, 3 * whole.len()] {
                let mut torn = whole[..cut].to_vec();
                torn.resize(length, 0);
                assert_eq!(decode(&torn), Ok(None), "cut at {cut} of {length}");
            }
        }
    }
}
