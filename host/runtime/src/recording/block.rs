//! Blocks of a recording's file: entries, compressed, in a frame with checksums.
//!
//! Between `entry.rs` and the disk. Invariant: a block is read whole and as it was written, or it
//! is damage with its place in the file; only one that the end of the file has cut is no damage.

use std::io;
use std::io::Read;

use upsert_sink_format::frame;
use upsert_sink_format::frame::{HEADER_BYTES, Header};
use upsert_sink_tunnel::Compression;

/// One frame around these bytes.
pub(super) fn encode(plain: &[u8]) -> Vec<u8> {
    let length = u64::try_from(plain.len()).expect("a length has at most 64 bits");
    let mut payload = length.to_le_bytes().to_vec();
    match Compression::Zstd.compress(plain) {
        Some(compressed) => payload.extend(compressed),
        None => payload.extend(plain),
    }
    frame::enclose(&payload)
}

/// The next thing in a file.
pub(super) enum Next {
    /// A block, as it was before it was compressed.
    Block(Vec<u8>),
    /// The file ends here.
    End,
    /// The file ends within a block: its last write was cut off.
    Torn,
    /// The bytes there were not written so.
    Damaged(&'static str),
}

/// A file that is read block by block.
pub(super) struct Blocks<R> {
    file: R,
    /// Where the block begins that was read last.
    pub(super) at: u64,
    /// Where the next one begins.
    pub(super) next_at: u64,
}

impl<R: Read> Blocks<R> {
    /// `file` stands `at` its first block.
    pub(super) fn new(file: R, at: u64) -> Self {
        Self { file, at, next_at: at }
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        self.at = self.next_at;
        let header = self.take(HEADER_BYTES as u64)?;
        if header.is_empty() {
            return Ok(Next::End);
        }
        let Some(header) = header.first_chunk::<HEADER_BYTES>() else { return Ok(Next::Torn) };
        if header.iter().all(|byte| *byte == 0) {
            return self.reserved();
        }
        let header = match Header::read(header, PAYLOAD_BYTES_MAX) {
            Ok(header) => header,
            Err(damage) => return Ok(Next::Damaged(damage)),
        };
        let payload = self.take(header.length as u64)?;
        if payload.len() < header.length {
            return Ok(Next::Torn);
        }
        if !header.vouches_for(&payload) {
            return Ok(Next::Damaged("a block does not match its checksum"));
        }
        self.next_at += (HEADER_BYTES + header.length) as u64;
        Ok(plain(&payload).map_or_else(Next::Damaged, Next::Block))
    }

    /// Space that a file system had reserved, but not yet written when it lost power.
    fn reserved(&mut self) -> io::Result<Next> {
        loop {
            let bytes = self.take(64 << 10)?;
            if bytes.is_empty() {
                return Ok(Next::Torn);
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Ok(Next::Damaged("a header does not match its checksum"));
            }
        }
    }

    /// So many bytes, or what is left. Memory grows with what is there.
    fn take(&mut self, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(count).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn plain(payload: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (length, stored) = payload.split_first_chunk::<8>().ok_or("a block has no length")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > PLAIN_BYTES_MAX {
        return Err("a block is larger than any can be");
    }
    if stored.len() == length {
        return Ok(stored.to_vec());
    }
    // Memory grows with what comes out, not with the length that is said.
    let decoder = zstd::stream::read::Decoder::new(stored);
    let mut plain = Vec::new();
    let read = decoder
        .and_then(|decoder| decoder.take(length.saturating_add(1) as u64).read_to_end(&mut plain));
    match read {
        Ok(read) if read == length => Ok(plain),
        Ok(_) => Err("a block has another length than it says"),
        Err(_) => Err("a block cannot be decompressed"),
    }
}

/// The most that entries of one block have; a call with more is not recorded.
pub(super) const PLAIN_BYTES_MAX: usize = 512 << 20;
const PAYLOAD_BYTES_MAX: usize = PLAIN_BYTES_MAX + 8;
