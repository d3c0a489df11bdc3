//! The input as a checkpoint remembers it: which files, that they are still the same, and how
//! far they were read.
//!
//! `state.rs` stores it; `files.rs` makes it. Invariant: reading from an offset gives exactly the
//! events that followed it, because a file whose size or fingerprint changed is refused.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::failure::bad_input;

/// So many bytes are read from each end of a file for its fingerprint.
const FINGERPRINT_END_BYTES: u64 = 1 << 20;

/// How far the input was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Offset {
    /// Index of the file.
    pub(crate) file: usize,
    /// Events of that file before this point: rows of a Parquet file, lines of a text file.
    pub(crate) event: u64,
    /// Bytes of a text file before this point; 0 for Parquet.
    pub(crate) byte: u64,
}

/// A file, as it was when it was first read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputFile {
    /// Its absolute path, or `-` for standard input.
    pub(crate) path: String,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// SHA-256 of its first and last MiB and its size, as hexadecimal digits.
    pub(crate) fingerprint: String,
}

impl InputFile {
    /// Standard input, of which nothing is known beforehand.
    pub(crate) fn standard_input() -> Self {
        Self { path: String::from("-"), size: 0, fingerprint: String::new() }
    }

    /// Looks at a file.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let at = || format!("input file {}", path.display());
        let mut file = open(path)?;
        let size = file.metadata().with_context(at)?.len();
        let fingerprint = fingerprint(&mut file, size).with_context(at)?;
        let absolute = std::path::absolute(path).with_context(at)?;
        Ok(Self { path: absolute.display().to_string(), size, fingerprint })
    }

    /// Whether this is standard input.
    pub(crate) fn is_standard_input(&self) -> bool {
        self.path == "-"
    }

    /// Refuses a file that is not what it was.
    pub(crate) fn check_unchanged(&self) -> anyhow::Result<()> {
        if self.is_standard_input() {
            return Ok(());
        }
        let now = Self::read(Path::new(&self.path))?;
        if now == *self {
            return Ok(());
        }
        Err(bad_input(format!(
            "input file {}: it changed since it was first read ({} bytes then, {} now); a job goes \
            on only over the same input: restore the file, or start anew with an empty --state \
            directory",
            self.path, self.size, now.size
        )))
    }
}

/// Opens an input file; a missing one is wrong input.
pub(crate) fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).map_err(|error| {
        bad_input(format!(
            "input file {}: {error}; name a file that exists and can be read",
            path.display()
        ))
    })
}

fn fingerprint(file: &mut File, size: u64) -> std::io::Result<String> {
    let mut digest = Sha256::new();
    digest.update(size.to_le_bytes());
    let head = size.min(FINGERPRINT_END_BYTES);
    std::io::copy(&mut file.by_ref().take(head), &mut digest)?;
    let tail = (size - head).min(FINGERPRINT_END_BYTES);
    file.seek(SeekFrom::Start(size - tail))?;
    std::io::copy(&mut file.by_ref().take(tail), &mut digest)?;
    Ok(hex(&digest.finalize()))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_changes_the_fingerprint_at_equal_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("feed");
        std::fs::write(&path, b"one\n").expect("written");
        let before = InputFile::read(&path).expect("readable");
        assert!(before.check_unchanged().is_ok());
        std::fs::write(&path, b"two\n").expect("written");
        let error = before.check_unchanged().expect_err("it changed");
        assert!(error.to_string().contains("it changed since it was first read"));
    }

    #[test]
    fn both_ends_of_a_large_file_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("feed");
        let mut bytes = vec![7_u8; 3 << 20];
        std::fs::write(&path, &bytes).expect("written");
        let before = InputFile::read(&path).expect("readable");
        *bytes.last_mut().expect("not empty") = 8;
        std::fs::write(&path, &bytes).expect("written");
        assert!(before.check_unchanged().is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = InputFile::read(Path::new("/no/such/feed")).expect_err("missing");
        assert!(error.to_string().contains("/no/such/feed"));
        assert_eq!(crate::failure::exit_code(&error), 2);
    }
}
