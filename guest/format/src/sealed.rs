//! Versioned, checksummed bytes: states, checkpoints and records of the journal, and the messages
//! of roles.
//!
//! Beside the row's way: the writer's snapshot, committables, requests, replies, records of the
//! journal, and the checkpoints of sink and command line are all written here. Invariant: what was
//! written is read back equal or refused; bytes of a newer version are refused by name, never
//! guessed at.
//!
//! Layout: the letters `USST`, u8 kind, u8 version, the fields, u32 CRC32C of everything before it.
//! Numbers are little-endian; texts and byte strings carry a u32 length; lists a u32 count.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Error, ErrorKind};
use crate::record::crc;

/// The kinds of sealed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A committable.
    Committable = 1,
    /// The committer's word on known commits.
    Known = 2,
    /// The coordinator's reply.
    Reply = 3,
    /// A writer's request.
    Request = 4,
    /// A session's record in the journal.
    Session = 6,
    /// A writer's state.
    Writer = 5,
    /// A checkpoint, which an engine stores of a sink.
    Checkpoint = 7,
    /// A job's state, which the command line stores.
    Job = 8,
    /// The commits of a partition since its last compaction, in the journal.
    Compaction = 9,
}

impl Kind {
    /// The kind of a sealed piece in the journal; none if it is of no such kind.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let kinds = [Self::Session, Self::Compaction];
        let code = bytes.get(MAGIC.len()).filter(|_| bytes.starts_with(&MAGIC))?;
        kinds.into_iter().find(|kind| *kind as u8 == *code)
    }

    /// Its name in messages.
    fn name(self) -> &'static str {
        match self {
            Self::Committable => "a committable",
            Self::Known => "a list of known commits",
            Self::Reply => "a coordinator's reply",
            Self::Request => "a writer's request",
            Self::Session => "a session's record in the journal",
            Self::Writer => "a writer's state",
            Self::Checkpoint => "a checkpoint",
            Self::Job => "a state file",
            Self::Compaction => "a partition's count in the journal",
        }
    }

    /// Where it comes from, and what to do if it is damaged.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::Session | Self::Compaction => ("journal", "get the journal from a copy"),
            Self::Checkpoint => ("checkpoint", "restore an older one"),
            Self::Job => ("state file", "remove it to go on from the checkpoint before it"),
            Self::Committable | Self::Known | Self::Reply | Self::Request | Self::Writer => {
                ("state", "restore an older checkpoint")
            }
        }
    }
}

/// The version that is written; older ones are read as long as golden files of them are kept.
const VERSION: u8 = 2;
const MAGIC: [u8; 4] = *b"USST";
const HEADER: usize = 6;
const TRAILER: usize = 4;

/// Writes one sealed piece.
#[derive(Debug)]
pub struct Sealer {
    bytes: Vec<u8>,
}

impl Sealer {
    /// Begins a piece of this kind.
    pub fn new(kind: Kind) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(kind as u8);
        bytes.push(VERSION);
        Self { bytes }
    }

    /// Appends a number.
    pub fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Appends a number.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes.extend_from_slice(&number.to_le_bytes());
        self
    }

    /// Appends a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(count(bytes.len()));
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Appends a list: its count, then each item as `write` writes it.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u32(count(items.len()));
        for item in items {
            write(self, item);
        }
        self
    }

    /// Ends the piece with its checksum.
    pub fn seal(&mut self) -> Vec<u8> {
        let crc = crc::crc32c(&self.bytes);
        self.u32(crc);
        core::mem::take(&mut self.bytes)
    }
}

/// Lengths of what is held in memory fit 32 bits on every target the core runs on with bounded
/// buffers.
fn count(length: usize) -> u32 {
    u32::try_from(length).expect("bounded buffers keep every list and text below 4 GiB")
}

/// Reads one sealed piece.
#[derive(Debug)]
pub struct Opener<'a> {
    kind: Kind,
    version: u8,
    rest: &'a [u8],
}

impl<'a> Opener<'a> {
    /// Checks kind, version and checksum.
    ///
    /// Errors: `Corrupt` if the bytes are not what was written, `InvalidConfig` if they are of a
    /// newer version.
    pub fn open(kind: Kind, bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() < HEADER + TRAILER || bytes[..4] != MAGIC || bytes[4] != kind as u8 {
            return Err(damaged(kind, "it does not begin as one"));
        }
        if bytes[5] > VERSION {
            let message = format!(
                "{} of version {} was written by a newer upsert-sink; this one reads versions up \
                 to {VERSION}: upgrade it",
                kind.name(),
                bytes[5]
            );
            return Err(Error::new(ErrorKind::InvalidConfig, kind.source().0, message));
        }
        let (body, trailer) = bytes.split_at(bytes.len() - TRAILER);
        let stated = u32::from_le_bytes(trailer.try_into().expect("split at four bytes"));
        if crc::crc32c(body) != stated || bytes[5] == 0 {
            return Err(damaged(kind, "its checksum does not match"));
        }
        Ok(Self { kind, version: bytes[5], rest: &body[HEADER..] })
    }

    /// The version it was written in.
    pub fn version(&self) -> u8 {
        self.version
    }

    /// Reads a number.
    pub fn u32(&mut self) -> Result<u32, Error> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }

    /// Reads a number.
    pub fn u64(&mut self) -> Result<u64, Error> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    /// Reads a byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// Reads a text.
    pub fn text(&mut self) -> Result<String, Error> {
        let bytes = self.bytes()?;
        core::str::from_utf8(bytes)
            .map(String::from)
            .map_err(|_| damaged(self.kind, "a text in it is not UTF-8"))
    }

    /// Reads a list, each item as `read` reads it.
    pub fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let items = self.u32()?;
        let mut list = Vec::new();
        for _ in 0..items {
            list.push(read(self)?);
        }
        Ok(list)
    }

    /// Checks that nothing is left over.
    pub fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(damaged(self.kind, "it is too long")) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| damaged(self.kind, "it ends early"))?;
        self.rest = rest;
        Ok(taken)
    }
}

fn damaged(kind: Kind, how: &str) -> Error {
    let (at, remedy) = kind.source();
    Error::corrupt(at, format!("{} is damaged: {how}; {remedy}", kind.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Vec<u8> {
        let write = |sealer: &mut Sealer, number: &u64| {
            sealer.u64(*number);
        };
        Sealer::new(Kind::Known).u32(3).text("day='x'").list(&[1_u64, 2], write).seal()
    }

    #[test]
    fn what_was_sealed_is_read_back() {
        let bytes = sealed();
        let mut opener = Opener::open(Kind::Known, &bytes).unwrap();
        assert_eq!(opener.u32().unwrap(), 3);
        assert_eq!(opener.text().unwrap(), "day='x'");
        assert_eq!(opener.list(Opener::u64).unwrap(), [1, 2]);
        opener.finish().unwrap();
    }

    #[test]
    fn every_damaged_byte_and_every_truncation_is_refused() {
        let bytes = sealed();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(Opener::open(Kind::Known, &damaged).is_err(), "byte {at} may be damaged");
            assert!(Opener::open(Kind::Known, &bytes[..at]).is_err(), "may be cut at {at}");
        }
    }

    #[test]
    fn a_piece_of_another_kind_is_refused_and_an_empty_one_is_read() {
        let bytes = Sealer::new(Kind::Known).seal();
        assert!(Opener::open(Kind::Known, &bytes).unwrap().finish().is_ok());
        assert!(Opener::open(Kind::Known, &sealed()).unwrap().finish().is_err(), "not read yet");
        let error = Opener::open(Kind::Reply, &bytes).unwrap_err();
        assert!(error.message.contains("a coordinator's reply"), "{error}");
        let mut another = Sealer::new(Kind::Known);
        another.bytes[0] ^= 1;
        assert!(Opener::open(Kind::Known, &another.seal()).is_err(), "its checksum is right");
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut bytes = sealed();
        bytes[5] = VERSION + 1;
        let error = Opener::open(Kind::Known, &bytes).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidConfig);
        let starts = error.message.starts_with("a list of known commits of version");
        assert!(starts && error.message.contains("newer"), "{error}");
    }
}
