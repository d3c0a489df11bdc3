//! One record of the spool as bytes: length, CRC32C, and what it tells of a session.
//!
//! `spool.rs` writes them, `spool/recover.rs` reads them at a start. Invariant: a frame that
//! decodes is one that was written whole.

use std::ops::Range;

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::session::SessionFacts;

/// How a segment begins: the letters and the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"USSPOOL1";

/// What a record tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame<'a> {
    /// A session was aborted.
    Aborted(&'a SessionFacts),
    /// A session was created.
    Created(&'a SessionFacts),
    /// A session got a pack.
    Pack { session: &'a str, bucket: u32, records: u32, body: &'a [u8] },
}

impl Frame<'_> {
    pub(super) fn bucket(&self) -> u32 {
        match self {
            Self::Pack { bucket, .. } => *bucket,
            Self::Aborted(_) | Self::Created(_) => 0,
        }
    }

    pub(super) fn records(&self) -> u32 {
        match self {
            Self::Pack { records, .. } => *records,
            Self::Aborted(_) | Self::Created(_) => 0,
        }
    }

    /// The frame's bytes, and where in them the pack's body lies.
    pub(super) fn encode(&self) -> (Bytes, Range<usize>) {
        let mut bytes = BytesMut::with_capacity(HEADER + 64 + self.body().len());
        bytes.put_bytes(0, HEADER);
        match self {
            Self::Aborted(facts) => put_facts(&mut bytes, ABORTED, facts),
            Self::Created(facts) => put_facts(&mut bytes, CREATED, facts),
            Self::Pack { session, bucket, records, .. } => {
                bytes.put_u8(PACK);
                bytes.put_u16_le(u16::try_from(session.len()).expect("ids are short"));
                bytes.put_slice(session.as_bytes());
                bytes.put_u32_le(*bucket);
                bytes.put_u32_le(*records);
            }
        }
        let start = bytes.len();
        bytes.put_slice(self.body());
        let length = u32::try_from(bytes.len() - HEADER).expect("packs are bounded");
        let crc = crc32c::crc32c(&bytes[HEADER..]);
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes[4..HEADER].copy_from_slice(&crc.to_le_bytes());
        let body = start..bytes.len();
        (bytes.freeze(), body)
    }

    fn body(&self) -> &[u8] {
        match self {
            Self::Pack { body, .. } => body,
            Self::Aborted(_) | Self::Created(_) => &[],
        }
    }
}

/// A frame as it is read back; the pack's body stays where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    Aborted(SessionFacts),
    Created(SessionFacts),
    Pack { session: String, bucket: u32, records: u32, body: Range<usize> },
}

/// Reads the frame at `at`; answers it and where the next one begins, or none if it is not whole.
pub(super) fn decode(segment: &[u8], at: usize) -> Option<(Decoded, usize)> {
    let header = segment.get(at..at.checked_add(HEADER)?)?;
    let length = u32::from_le_bytes(header[..4].try_into().ok()?) as usize;
    let crc = u32::from_le_bytes(header[4..].try_into().ok()?);
    let start = at + HEADER;
    let end = start.checked_add(length)?;
    let payload = segment.get(start..end)?;
    if crc32c::crc32c(payload) != crc {
        return None;
    }
    let (kind, rest) = payload.split_first()?;
    let decoded = match *kind {
        ABORTED => Decoded::Aborted(serde_json::from_slice(rest).ok()?),
        CREATED => Decoded::Created(serde_json::from_slice(rest).ok()?),
        PACK => decode_pack(rest, end)?,
        _ => return None,
    };
    Some((decoded, end))
}

fn decode_pack(rest: &[u8], end: usize) -> Option<Decoded> {
    let (length, rest) = rest.split_first_chunk::<2>()?;
    let (session, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    let (bucket, rest) = rest.split_first_chunk::<4>()?;
    let (records, body) = rest.split_first_chunk::<4>()?;
    Some(Decoded::Pack {
        session: String::from_utf8(session.to_vec()).ok()?,
        bucket: u32::from_le_bytes(*bucket),
        records: u32::from_le_bytes(*records),
        body: end - body.len()..end,
    })
}

fn put_facts(bytes: &mut BytesMut, kind: u8, facts: &SessionFacts) {
    bytes.put_u8(kind);
    bytes.put_slice(&serde_json::to_vec(facts).expect("facts are strings and numbers"));
}

const HEADER: usize = 8;
const ABORTED: u8 = 3;
const CREATED: u8 = 1;
const PACK: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_cut_or_changed_anywhere_is_not_decoded() {
        let pack = Frame::Pack { session: "abc", bucket: 3, records: 2, body: b"rows" };
        let (bytes, body) = pack.encode();
        let expected = Decoded::Pack { session: "abc".into(), bucket: 3, records: 2, body };
        assert_eq!(decode(&bytes, 0), Some((expected, bytes.len())));
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at], 0), None);
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode(&changed, 0), None, "byte {at}");
        }
    }
}
