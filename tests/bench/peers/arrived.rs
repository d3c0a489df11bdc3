//! The data that has arrived at the discarding server in one run, and whether it is as expected.
//!
//! Told by `server.rs`, judged by `measure.rs`. Invariant: a pack counts only if its session is
//! open and its own trailer tells as many records as the request does; in a run that is checked it
//! is decoded too, and every record adds to the digest.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use upsert_sink_format::record::decode_pack;
use upsert_sink_format::schema::ColumnType;

use crate::rows::{COLUMNS, digest_of};

/// The sums of one run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
    pub(crate) records: u64,
    pub(crate) digest: u64,
    pub(crate) commits: u64,
    /// The first thing that was wrong.
    pub(crate) wrong: Option<String>,
}

/// One pack, as its request told of it.
pub(crate) struct Pack {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    pub(crate) encoding: Option<String>,
    /// All of it if it is to be decoded, its last bytes otherwise.
    pub(crate) kept: Vec<u8>,
    pub(crate) whole: bool,
}

impl Pack {
    /// Takes the next bytes of the body.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if self.whole {
            return self.kept.extend_from_slice(bytes);
        }
        let last = &bytes[bytes.len().saturating_sub(TRAILER_BYTES_MAX)..];
        let room = TRAILER_BYTES_MAX - last.len();
        let drop = self.kept.len().saturating_sub(room);
        self.kept.drain(..drop);
        self.kept.extend_from_slice(last);
    }

    /// The sum of the records' digests; zero if it was not decoded.
    pub(crate) fn check(&self) -> Result<u64> {
        if self.whole {
            return self.decode();
        }
        if self.encoding.is_none() {
            let told = told(&self.kept).context("a pack without a trailer")?;
            ensure!(told == self.records, "{told} records in a pack of {}", self.records);
        }
        Ok(0)
    }

    fn decode(&self) -> Result<u64> {
        let mut plain = Vec::new();
        match self.encoding.as_deref() {
            None => plain.clone_from(&self.kept),
            Some("deflate") => {
                flate2::read::ZlibDecoder::new(self.kept.as_slice()).read_to_end(&mut plain)?;
            }
            Some("x-lz4-frame") => {
                let mut frames = lz4_flex::frame::FrameDecoder::new(self.kept.as_slice());
                frames.read_to_end(&mut plain)?;
            }
            Some(other) => bail!("an encoding that nobody was asked for: {other}"),
        }
        let columns = COLUMNS.map(|(_, text)| ColumnType::parse(text).expect("a type of a table"));
        let (mut digest, mut others) = (0_u64, 0);
        let records = decode_pack(&plain, &columns, &mut |record| {
            match digest_of(&record) {
                Some(one) => digest = digest.wrapping_add(one),
                None => others += 1,
            }
            Ok(())
        });
        let records = u64::from(records.map_err(|error| anyhow::anyhow!("{error}"))?);
        ensure!(records == self.records, "{records} records in a pack of {}", self.records);
        ensure!(others == 0, "{others} records are no rows of ours");
        Ok(digest)
    }
}

/// The number of records that a plain pack tells in its trailer: its tag, the number, the tag of
/// the checksum, the checksum to the end.
fn told(end: &[u8]) -> Option<u64> {
    (0..end.len()).find_map(|at| {
        let rest = end[at..].strip_prefix(&COUNT_TAG)?;
        let (zigzag, rest) = varint(rest)?;
        let (_, rest) = varint(rest.strip_prefix(&CHECKSUM_TAG)?)?;
        (rest.is_empty() && zigzag % 2 == 0).then_some(zigzag / 2)
    })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at(length);
    let value = number.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F));
    Some((value, rest))
}

const COUNT_TAG: [u8; 4] = [0xF0, 0xFF, 0xFF, 0x7F];
const CHECKSUM_TAG: [u8; 4] = [0xF8, 0xFF, 0xFF, 0x7F];
/// Two tags of 4 bytes and two numbers of at most 10: PyODPS writes some of them that long.
const TRAILER_BYTES_MAX: usize = 28;
