//! One record of the spool as the payload of a frame: how much of the segment was durable when it
//! was written, and a fact about a session.
//!
//! `spool/mod.rs` writes them, `spool/recover.rs` reads them at a start. Invariant: a frame that
//! decodes is one that was written whole.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use upsert_sink_format::frame;
use upsert_sink_format::frame::HEADER_BYTES;

use crate::session::SessionFacts;

/// How a segment begins: the letters and the version of the format.
pub(super) const MAGIC: [u8; 8] = *b"USSPOOL3";

/// The fact that a record holds.
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

    /// The frame's bytes, and where in them the pack's body lies; `durable` bytes of its segment
    /// were synced before.
    pub(super) fn encode(&self, durable: u64) -> (Bytes, Range<usize>) {
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + 72 + self.body().len());
        bytes.put_bytes(0, HEADER_BYTES);
        bytes.put_u64_le(durable);
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
        let header = frame::header_of(&bytes[HEADER_BYTES..]);
        bytes[..HEADER_BYTES].copy_from_slice(&header);
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

/// How much of the segment was durable before the last whole frame behind `at` was written; zero if
/// there is none. A frame at `at` that is not whole, but was durable, is damaged.
pub(super) fn durable_behind(segment: &[u8], at: usize) -> u64 {
    let payloads = frame::found_behind(segment, at.saturating_add(1));
    let durable = payloads.filter_map(|payload| split_durable(&segment[payload]));
    durable.map(|(durable, _)| durable).max().unwrap_or(0)
}

/// The durable bytes that a payload mentions, and the rest of it.
fn split_durable(payload: &[u8]) -> Option<(u64, &[u8])> {
    let (durable, rest) = payload.split_first_chunk()?;
    Some((u64::from_le_bytes(*durable), rest))
}

/// Reads the frame at `at`; answers it and where the next one begins, or none if it is not whole.
pub(super) fn decode(segment: &[u8], at: usize) -> Option<(Decoded, usize)> {
    let payload = frame::whole_at(segment, at)?;
    let end = payload.end;
    let (_, record) = split_durable(&segment[payload])?;
    let (kind, rest) = record.split_first()?;
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

const ABORTED: u8 = 3;
const CREATED: u8 = 1;
const PACK: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_that_was_cut_or_changed_anywhere_is_not_decoded() {
        let pack = Frame::Pack { session: "abc", bucket: 3, records: 2, body: b"rows" };
        let (bytes, body) = pack.encode(9);
        let expected = Decoded::Pack { session: "abc".into(), bucket: 3, records: 2, body };
        assert_eq!(decode(&bytes, 0), Some((expected, bytes.len())));
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at], 0), None);
            let mut changed = bytes.to_vec();
            changed[at] ^= 1;
            assert_eq!(decode(&changed, 0), None, "byte {at}");
        }
    }

    #[test]
    fn frames_behind_a_damaged_one_tell_what_was_durable() {
        let frame = Frame::Pack { session: "abc", bucket: 3, records: 2, body: b"rows" };
        let mut bytes = frame.encode(0).0.to_vec();
        let length = bytes.len();
        assert_eq!(durable_behind(&bytes, 0), 0);
        bytes.extend(frame.encode(0).0);
        assert_eq!(durable_behind(&bytes, 0), 0, "the first was not known to be durable yet");
        bytes.extend(frame.encode(length as u64).0);
        for at in 0..length {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(durable_behind(&damaged, 0), length as u64, "byte {at}");
        }
        assert_eq!(durable_behind(&bytes[..bytes.len() - 1], 0), 0, "the last is torn");
    }
}
