//! The remains, after a loss of power, of a file whose last bytes were not synced yet.
//!
//! The processes are dead while this works on their files. Invariant: bytes before `durable` are
//! never touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use upsert_sink_format::frame;

/// Tears what a file has beyond its first `durable` bytes; tells how.
pub(crate) fn tear(path: &Path, durable: usize, random: &mut fastrand::Rng) -> Result<String> {
    let mut bytes = fs::read(path)?;
    let length = bytes.len();
    ensure!(durable < length, "{} has no unsynced byte", path.display());
    let cut = random.usize(durable..length);
    let how = match random.u8(0..4) {
        0 => "cut",
        1 => {
            bytes[cut..].fill_with(|| random.u8(..));
            "random bytes from there"
        }
        2 => {
            bytes[cut..].fill(0);
            "zeros from there"
        }
        _ => {
            bytes[cut] ^= 1 << random.u8(0..8);
            "one bit changed"
        }
    };
    if how == "cut" {
        bytes.truncate(cut);
    }
    fs::write(path, bytes)?;
    let name = path.file_name().unwrap_or_default().display();
    Ok(format!("{name}: {how}, at byte {cut} of {length}, {durable} durable"))
}

/// How much of a segment of the spool was synced, as its own records say: no power cut takes that
/// back. The payload of each begins with that number.
pub(crate) fn synced(path: &Path) -> Result<usize> {
    let bytes = fs::read(path)?;
    // Behind the eight letters of a segment; of the first record there may be a part only.
    let first = bytes.get(8..12);
    let mark = &frame::enclose(&[])[..4];
    ensure!(first.is_none_or(|found| found == mark), "{}: another form", path.display());
    let payloads = frame::found_behind(&bytes, 0);
    let marks = payloads.filter_map(|payload| bytes[payload].first_chunk().copied());
    Ok(usize::try_from(marks.map(u64::from_le_bytes).max().unwrap_or_default())?)
}

/// Adds the beginning of one more record, as long as a whole one but for some bytes.
pub(crate) fn begin_record(
    path: &Path,
    whole: &[u8],
    random: &mut fastrand::Rng,
) -> Result<String> {
    let kept = random.usize(0..whole.len());
    let mut bytes = fs::read(path).unwrap_or_default();
    let length = bytes.len();
    bytes.extend(&whole[..kept]);
    let zeros = if random.bool() { whole.len() - kept } else { 0 };
    bytes.resize(bytes.len() + zeros, 0);
    fs::write(path, bytes)?;
    let name = path.file_name().unwrap_or_default().display();
    Ok(format!("{name}: {kept} bytes of a record and {zeros} zeros after byte {length}"))
}

/// The files of a folder, with their lengths.
pub(crate) fn lengths(folder: &Path) -> Result<BTreeMap<PathBuf, usize>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let length = usize::try_from(path.metadata()?.len())?;
        found.insert(path, length);
    }
    Ok(found)
}

/// The file of a folder whose name is the last with this ending.
pub(crate) fn newest(folder: &Path, ending: &str) -> Result<PathBuf> {
    let mut paths = lengths(folder)?.into_keys();
    let newest = paths.rfind(|path| path.to_string_lossy().ends_with(ending));
    newest.with_context(|| format!("no {ending} in {}", folder.display()))
}

/// The path with the number in its name one higher.
pub(crate) fn next(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let at = name.find(|c: char| c.is_ascii_digit()).context("a number in its name")?;
    let digits: String = name[at..].chars().take_while(char::is_ascii_digit).collect();
    let number: u64 = digits.parse()?;
    let next = format!("{:0width$}", number + 1, width = digits.len());
    Ok(path.with_file_name(name.replacen(&digits, &next, 1)))
}
