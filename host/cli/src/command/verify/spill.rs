//! Changes on disk while they do not fit in memory: sixteen slices of one fold, by the hash of
//! their keys.
//!
//! Under `bounded.rs`. Invariant: the changes of one key are in one slice, in their order; the
//! directory is this program's own, and is gone when the last of it is dropped.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::codec::{KeyState, RowKey};

/// The directory of all slices.
#[derive(Debug)]
pub(super) struct SpillDirectory {
    path: PathBuf,
}

/// Some of the keys: those whose hashes begin with these digits of four bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KeyRange {
    digits: u32,
    prefix: u64,
}

/// The slices of one range, open for writing.
pub(super) struct SpillSlices {
    range: KeyRange,
    files: Vec<(PathBuf, BufWriter<File>)>,
    /// Bytes that were written.
    pub(super) bytes: u64,
}

impl SpillDirectory {
    /// Within a state directory. An earlier run that was killed may have left some slices there:
    /// they are removed.
    pub(super) fn within(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(DIRECTORY);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                let remedy = "remove what an earlier `verify` has left";
                Err(error).with_context(|| format!("{}: {remedy}", path.display()))
            }
            _ => Ok(Self { path }),
        }
    }

    /// Begins the slices of a range.
    pub(super) fn slices(
        &self,
        range: KeyRange,
        buffer_bytes: usize,
    ) -> anyhow::Result<SpillSlices> {
        std::fs::create_dir_all(&self.path).with_context(|| at(&self.path))?;
        let mut files = Vec::with_capacity(SLICES);
        let parts = range.parts();
        anyhow::ensure!(!parts.is_empty(), "keys of one hash do not fit: give more --memory");
        for slice in parts {
            let path = self.path.join(slice.name());
            let file = File::create(&path).with_context(|| at(&path))?;
            files.push((path, BufWriter::with_capacity(buffer_bytes, file)));
        }
        Ok(SpillSlices { range, files, bytes: 0 })
    }

    /// The changes of one slice, in their order.
    pub(super) fn read(
        &self,
        slice: KeyRange,
        visit: &mut dyn FnMut(RowKey, KeyState) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let path = self.path.join(slice.name());
        let file = File::open(&path).with_context(|| at(&path))?;
        let mut reader = BufReader::new(file);
        while let Some((key, state)) = read_change(&mut reader).with_context(|| at(&path))? {
            visit(key, state)?;
        }
        Ok(())
    }

    /// Removes a slice that is not read any more.
    pub(super) fn remove(&self, slice: KeyRange) -> anyhow::Result<()> {
        let path = self.path.join(slice.name());
        std::fs::remove_file(&path).with_context(|| at(&path))
    }
}

impl Drop for SpillDirectory {
    fn drop(&mut self) {
        // It may never have been made; and what cannot be removed now is removed by the next run.
        let _left_behind = std::fs::remove_dir_all(&self.path);
    }
}

impl KeyRange {
    /// Whether a key is one of them.
    pub(super) fn contains(self, key: &[u8]) -> bool {
        self.digits == 0 || hash(key) >> (64 - DIGIT_BITS * self.digits) == self.prefix
    }

    /// The same keys in sixteen parts; none if they cannot be parted.
    pub(super) fn parts(self) -> Vec<Self> {
        if self.digits == DIGITS_MAX {
            return Vec::new();
        }
        let part = |digit: u64| Self {
            digits: self.digits + 1,
            prefix: self.prefix << DIGIT_BITS | digit,
        };
        (0..SLICES as u64).map(part).collect()
    }

    fn name(self) -> String {
        format!("slice-{:0width$x}", self.prefix, width = self.digits as usize)
    }
}

impl SpillSlices {
    /// Appends a change to the slice of its key.
    pub(super) fn write(&mut self, key: &[u8], state: &KeyState) -> anyhow::Result<()> {
        let shift = 64 - DIGIT_BITS * (self.range.digits + 1);
        let digit = (hash(key) >> shift) as usize % SLICES;
        let (path, file) = &mut self.files[digit];
        let row = state.row().unwrap_or_default();
        let mut head = [0; HEAD_BYTES];
        head[0] = mark(state);
        head[1..5].copy_from_slice(&length(key)?);
        head[5..].copy_from_slice(&length(row)?);
        for bytes in [&head, key, row] {
            file.write_all(bytes).with_context(|| at(path))?;
        }
        self.bytes += (HEAD_BYTES + key.len() + row.len()) as u64;
        Ok(())
    }

    /// Ends all slices; answers which they are.
    pub(super) fn finish(self) -> anyhow::Result<Vec<KeyRange>> {
        for (path, mut file) in self.files {
            file.flush().with_context(|| at(&path))?;
        }
        Ok(self.range.parts())
    }
}

fn read_change(reader: &mut impl Read) -> anyhow::Result<Option<(RowKey, KeyState)>> {
    let mut head = [0; HEAD_BYTES];
    match reader.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => reader.read_exact(&mut head[1..])?,
    }
    let [mark, a, b, c, d, row @ ..] = head;
    let mut bytes = |length: [u8; 4]| -> anyhow::Result<Box<[u8]>> {
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut bytes)?;
        Ok(bytes.into())
    };
    let key = bytes([a, b, c, d])?;
    let row = bytes(row)?;
    Ok(Some((key, state(mark, row)?)))
}

fn mark(state: &KeyState) -> u8 {
    match state {
        KeyState::Gone => 0,
        KeyState::Part(_) => 1,
        KeyState::Whole(_) => 2,
    }
}

fn state(mark: u8, row: Box<[u8]>) -> anyhow::Result<KeyState> {
    match mark {
        0 => Ok(KeyState::Gone),
        1 => Ok(KeyState::Part(row)),
        2 => Ok(KeyState::Whole(row)),
        other => anyhow::bail!("{other} is no mark of a change: the file was changed meanwhile"),
    }
}

fn length(bytes: &[u8]) -> anyhow::Result<[u8; 4]> {
    Ok(u32::try_from(bytes.len()).context("a row has at most 4 GiB")?.to_le_bytes())
}

/// Always the same within one run.
fn hash(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish()
}

fn at(path: &Path) -> String {
    format!("spill file {}: free some space there, or give more --memory", path.display())
}

const DIRECTORY: &str = "verify";
const SLICES: usize = 16;
const DIGIT_BITS: u32 = 4;
const DIGITS_MAX: u32 = u64::BITS / DIGIT_BITS;
/// A mark, and two lengths.
const HEAD_BYTES: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> RowKey {
        number.to_be_bytes().into()
    }

    #[test]
    fn each_change_is_in_the_slice_of_its_key_and_in_its_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let spill = SpillDirectory::within(dir.path()).expect("writable");
        let mut slices = spill.slices(KeyRange::default(), 100).expect("writable");
        let row = |number: u64| KeyState::Whole(number.to_le_bytes().into());
        for number in 0..1000 {
            slices.write(&key(number % 300), &row(number)).expect("written");
            slices.write(&key(number % 300), &KeyState::Gone).expect("written");
        }
        let ranges = slices.finish().expect("written");
        assert_eq!(ranges.len(), SLICES);
        let mut read = 0;
        for range in ranges {
            let mut last = std::collections::BTreeMap::new();
            let read_all = spill.read(range, &mut |key, state| {
                assert!(range.contains(&key));
                if let Some(row) = state.row() {
                    let number = u64::from_le_bytes(row.try_into().expect("eight bytes"));
                    assert!(last.insert(key, number).is_none_or(|before| before < number));
                }
                read += 1;
                Ok(())
            });
            read_all.expect("readable");
            spill.remove(range).expect("removed");
        }
        assert_eq!(read, 2000);
    }

    #[test]
    fn every_key_is_in_one_part_of_its_range() {
        let whole = KeyRange::default();
        for number in 0..200 {
            let first: Vec<KeyRange> =
                whole.parts().into_iter().filter(|part| part.contains(&key(number))).collect();
            assert_eq!(first.len(), 1);
            let second = first[0].parts().into_iter().filter(|part| part.contains(&key(number)));
            assert_eq!(second.count(), 1);
        }
        let mut range = whole;
        while let Some(part) = range.parts().into_iter().next() {
            range = part;
        }
        assert_eq!(range.digits, DIGITS_MAX);
        assert!(range.contains(&key(0)) == (hash(&key(0)) == 0));
    }

    #[test]
    fn nothing_is_left_behind_and_what_was_left_is_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        let left = dir.path().join(DIRECTORY);
        std::fs::create_dir(&left).expect("made");
        std::fs::write(left.join("slice-0"), "left by a run that was killed").expect("written");
        let spill = SpillDirectory::within(dir.path()).expect("writable");
        assert!(!left.exists());
        drop(spill.slices(KeyRange::default(), 100).expect("writable"));
        assert!(left.exists());
        drop(spill);
        assert!(!left.exists());
    }
}
