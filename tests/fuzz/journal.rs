//! The journal of a sink: `journal::read`, over files that a crash or a bad disk may have left.
//!
//! An input that begins like a journal, of whatever version, is the file; any other is its records,
//! one a line, which are framed here. Promises: what is read is read alike when it is written
//! again; a file that ends early holds what its whole records say; a damaged byte is noticed, or it
//! is in the last record, which then counts as torn. Invariant: the frames here are written from
//! their description.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use upsert_sink::components::{AppendFile, BoxFuture, Disk};
use upsert_sink::journal::{self, Contents, JournalRecord};
use upsert_sink::sessions;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_tests::fuzz::shape;

use crate::Memory;

pub(crate) const WORDS: &[&str] = &[
    "USJRNL03",
    "\n",
    "\"record\":\"appended\"",
    "\"record\":\"start\"",
    "\"record\":\"lease\"",
    "\"record\":\"identity\"",
    "\"key\":\"s1\"",
    "\"bytes\":\"\"",
    "\"bytes\":\"VVNTVAYC\"",
    "\"at_ms\":",
    "\"number\":",
];

/// The file, its records as trees, and the map of what was appended.
const MEMORY: Memory = Memory { fixed: 32 << 10, per_byte: 60 };
const LETTERS: &[u8] = b"USJRNL";
const MAGIC: &[u8] = b"USJRNL03";
const HEADER_BYTES: usize = 16;
const PAYLOAD_BYTES_MAX: usize = 96 << 10;

pub(crate) fn body(input: &[u8]) -> Result<String> {
    if input.starts_with(LETTERS) {
        return file(input);
    }
    let lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').take(40).collect();
    let mut bytes = MAGIC.to_vec();
    let mut ends = vec![bytes.len()];
    for line in lines.iter().filter(|line| line.len() <= PAYLOAD_BYTES_MAX) {
        bytes.extend(frame(line));
        ends.push(bytes.len());
    }
    let told = file(&bytes)?;
    if read(&bytes).is_ok() {
        cut(&bytes, &ends, input)?;
        damage(&bytes, &ends, input)?;
    }
    Ok(told)
}

fn file(bytes: &[u8]) -> Result<String> {
    match MEMORY.bounds(bytes, || read(bytes))? {
        Ok(contents) => {
            let again = read(&written(&contents))?;
            ensure!(again == contents, "{contents:?} became {again:?}");
            let shown = match sessions::of(&contents) {
                Ok(sessions) => format!("{} sessions", sessions.len().min(4)),
                Err(error) => shape(&error.message),
            };
            Ok(format!("{} records, {shown}", contents.records.len().min(4)))
        }
        Err(error) => {
            let kind = if is_of_another_version(bytes) {
                ErrorKind::InvalidConfig
            } else {
                ErrorKind::Corrupt
            };
            let named = error.kind == kind && error.at.contains("sink.journal");
            ensure!(named && !error.message.is_empty(), "a journal is refused as {error:?}");
            Ok(shape(&error.message))
        }
    }
}

fn is_of_another_version(bytes: &[u8]) -> bool {
    bytes.len() >= MAGIC.len() && bytes.starts_with(LETTERS) && !bytes.starts_with(MAGIC)
}

/// Wherever a write was cut off, the file holds the records before it.
fn cut(bytes: &[u8], ends: &[usize], input: &[u8]) -> Result<()> {
    let at = MAGIC.len() + place(input, bytes.len() - MAGIC.len() + 1);
    let whole = ends.iter().rev().find(|end| **end <= at).context("the letters are whole")?;
    let (found, expected) = (read(&bytes[..at])?, read(&bytes[..*whole])?);
    ensure!(found == expected, "cut at {at}: {found:?} instead of {expected:?}");
    Ok(())
}

/// A damaged byte is noticed; only the last record may count as one that was torn.
fn damage(bytes: &[u8], ends: &[usize], input: &[u8]) -> Result<()> {
    let [.., before, _] = ends else { return Ok(()) };
    let at = place(&input[input.len() / 2..], bytes.len());
    let mut damaged = bytes.to_vec();
    damaged[at] ^= 0x20;
    let Ok(found) = read(&damaged) else { return Ok(()) };
    let torn = at >= *before && found == read(&bytes[..*before])?;
    ensure!(torn, "byte {at} of {} is damaged and nobody noticed: {found:?}", bytes.len());
    Ok(())
}

/// A place below `end`, chosen by the input.
fn place(input: &[u8], end: usize) -> usize {
    let sum = input
        .iter()
        .fold(7_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    sum % end
}

/// The records that say what `contents` says.
fn written(contents: &Contents) -> Vec<u8> {
    let (identity, table) = (contents.identity.clone(), contents.table.clone());
    let mut records = vec![
        JournalRecord::Identity { identity, table },
        JournalRecord::Start { number: contents.start, nonce: 0, at_ms: 0 },
    ];
    for (key, bytes) in &contents.records {
        let (key, bytes) = (key.clone(), bytes.clone());
        records.push(JournalRecord::Appended { key, bytes });
    }
    let records = records.iter().map(|record| serde_json::to_vec(record).expect("plain data"));
    records.fold(MAGIC.to_vec(), |mut bytes, record| {
        bytes.extend(frame(&record));
        bytes
    })
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a record is small").to_le_bytes();
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend(b"USFR");
    frame.extend(length);
    let crc = crc32c::crc32c(&frame);
    frame.extend(crc.to_le_bytes());
    frame.extend(crc32c::crc32c(payload).to_le_bytes());
    frame.extend(payload);
    frame
}

/// The library's reading of a file; an empty journal if there is none.
fn read(bytes: &[u8]) -> Result<Contents, Error> {
    let disk = OneFile(bytes.to_vec());
    let read = journal::read(Path::new("state"), &disk).now_or_never();
    read.expect("a disk in memory answers at once").map(Option::unwrap_or_default)
}

/// A disk with one file, which nobody writes.
struct OneFile(Vec<u8>);

impl Disk for OneFile {
    fn read(&self, _: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        Box::pin(async { Ok(Some(self.0.clone())) })
    }

    fn replace(&self, _: &Path, _: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
    }

    fn append(&self, _: &Path, _: Option<u64>) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>> {
        Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
    }

    fn lock(&self, _: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        Box::pin(async { Err(io::ErrorKind::ReadOnlyFilesystem.into()) })
    }
}
