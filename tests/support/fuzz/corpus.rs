//! The files of a corpus: text as it is, or bytes as hexadecimal digits with remarks.
//!
//! Read by `fuzz/mod.rs` before anything is changed. Invariant: files are read in the order of
//! their names; what `text` prints is read back as the same bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

/// All inputs of a folder. `.txt` is an input as it stands; in `.hex` white space is nothing, and a
/// remark begins with `#`.
pub(super) fn read(folder: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let at = || format!("corpus {}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(at)? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut inputs = Vec::new();
    for path in paths {
        let bytes = fs::read(&path)?;
        let input = match path.extension().and_then(|ending| ending.to_str()) {
            Some("txt") => bytes,
            Some("hex") => digits(&bytes).with_context(|| path.display().to_string())?,
            _ => bail!("{}: a corpus has files .txt and .hex only", path.display()),
        };
        inputs.push((path, input));
    }
    ensure!(!inputs.is_empty(), "{}: it is empty", at());
    Ok(inputs)
}

/// Bytes as the text of a `.hex` file.
pub(super) fn text(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(BYTES_A_LINE).map(|bytes| line(bytes) + "\n").collect()
}

fn digits(text: &[u8]) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(text)?;
    let mut digits = Vec::new();
    for line in text.lines() {
        let code = line.split('#').next().unwrap_or_default();
        for character in code.chars().filter(|c| !c.is_whitespace()) {
            let digit = character.to_digit(16);
            let digit = digit.with_context(|| format!("{character:?} is no hexadecimal digit"))?;
            digits.push(u8::try_from(digit).expect("a digit is below 16"));
        }
    }
    ensure!(digits.len().is_multiple_of(2), "half a byte is left over");
    Ok(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

const BYTES_A_LINE: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_back_as_they_were_printed() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(digits(text(&bytes).as_bytes()).expect("valid"), bytes);
        assert_eq!(digits(b"# a remark\n0a 0B # more\n").expect("valid"), [10, 11]);
        assert!(digits(b"0").is_err() && digits(b"0x").is_err());
    }
}
