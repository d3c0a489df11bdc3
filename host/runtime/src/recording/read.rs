//! A recording as it is read: head first, then block by block.
//!
//! Before `replay.rs`. Invariant: memory is bounded by one block; every refusal names the file, the
//! byte and the remedy.

use std::io::{BufReader, Read};

use upsert_sink_format::frame::{HEADER_BYTES, Header};

use crate::error::{Error, Result};
use crate::recording::block::{Blocks, Next};
use crate::recording::codec;
use crate::recording::entry::{Head, MAGIC, RecordedEntry};

/// An open recording.
pub struct Recording<R> {
    name: String,
    head: Head,
    blocks: Blocks<BufReader<R>>,
}

/// How a file ends that does not end with an entry that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEnd {
    /// With a whole block.
    Whole,
    /// Within a block, which begins at this byte.
    Torn(u64),
}

impl<R: Read> Recording<R> {
    /// Reads the head of the recording that `file` holds from its first byte; `name` is what it is
    /// called in messages.
    ///
    /// # Errors
    /// `Corrupt` if it is no recording or its head is damaged, `InvalidConfig` if it is one of
    /// another version, `Retry` if it cannot be read.
    pub fn open(name: impl Into<String>, file: R) -> Result<Self> {
        let name = name.into();
        let mut file = BufReader::new(file);
        let at = |error: std::io::Error| unreadable(&name, &error);
        let magic = taken(&mut file, MAGIC.len()).map_err(at)?;
        if magic != MAGIC {
            return Err(foreign(&name, &magic));
        }
        let header = taken(&mut file, HEADER_BYTES).map_err(at)?;
        let damaged = |what: &str| damage(&name, MAGIC.len() as u64, what);
        let header = header.first_chunk().ok_or_else(|| damaged("the head is cut"))?;
        let header = Header::read(header, HEAD_BYTES_MAX).map_err(damaged)?;
        let json = taken(&mut file, header.length).map_err(at)?;
        if !header.vouches_for(&json) {
            return Err(damaged("the head does not match its checksum"));
        }
        let head = serde_json::from_slice(&json);
        let head =
            head.map_err(|error| damaged(&format!("the head is not understood: {error}")))?;
        let first = (MAGIC.len() + HEADER_BYTES + header.length) as u64;
        Ok(Self { name, head, blocks: Blocks::new(file, first) })
    }

    /// Its subject.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The entries of all blocks as they were before they were compressed, to look for what must
    /// not be in them.
    #[doc(hidden)]
    pub fn plain(mut self) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        while let Ok(block) = self.block()? {
            plain.extend(block);
        }
        Ok(plain)
    }

    /// The next block, or how the file ends.
    pub(super) fn block(&mut self) -> Result<std::result::Result<Vec<u8>, FileEnd>> {
        let next = self.blocks.next().map_err(|error| unreadable(&self.name, &error))?;
        match next {
            Next::Block(entries) => Ok(Ok(entries)),
            Next::End => Ok(Err(FileEnd::Whole)),
            Next::Torn => Ok(Err(FileEnd::Torn(self.blocks.at))),
            Next::Damaged(what) => Err(self.damaged(what)),
        }
    }

    /// Takes the entry at the front of a block's rest.
    pub(super) fn entry<'a>(&self, rest: &mut &'a [u8]) -> Result<RecordedEntry<'a>> {
        let (entry, after) = codec::decode(rest).map_err(|what| self.damaged(what))?;
        *rest = after;
        Ok(entry)
    }

    /// Damage in the block that was read last.
    pub(super) fn damaged(&self, what: &str) -> Error {
        damage(&self.name, self.blocks.at, what)
    }
}

fn taken(file: &mut impl Read, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn foreign(name: &str, magic: &[u8]) -> Error {
    let (format, version) = MAGIC.split_at(MAGIC.len() - VERSION_BYTES);
    match magic.strip_prefix(format) {
        Some(theirs) if theirs.len() == VERSION_BYTES => {
            let (theirs, ours) = (theirs.escape_ascii(), version.escape_ascii());
            let message = format!(
                "the recording has version {theirs}, this host reads {ours}; use the host that \
                 wrote it"
            );
            Error::config(name, message)
        }
        _ => Error::corrupt(name, "this is no recording; name a file of `record.dir`"),
    }
}

fn damage(name: &str, at: u64, what: &str) -> Error {
    let message = format!("the recording is damaged at byte {at}: {what}; get it from a copy");
    Error::corrupt(name, message)
}

fn unreadable(name: &str, error: &std::io::Error) -> Error {
    crate::error::disk(std::path::Path::new(name), error)
}

const VERSION_BYTES: usize = 2;
const HEAD_BYTES_MAX: usize = 64 << 10;
