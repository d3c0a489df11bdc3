//! A change feed made from a seed, with hot keys, deletes and nulls, and the table that it comes
//! to.
//!
//! Invariant: the fold knows nothing of the sink and the server, and every change says which one it
//! is: a table that lacks the last change of any key, or shows a deleted row, differs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Partitions of the table.
const DAYS: u64 = 4;
/// Keys of a partition that get half of all changes.
const HOT_KEYS: u64 = 30;
/// All keys of a partition.
const KEYS: u64 = 4_000;
/// One of so many changes is a delete.
const DELETES_ONE_IN: u64 = 6;

/// A feed on disk.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    /// The rows that are left of it, by partition and key.
    rows: BTreeMap<(String, u64), (u64, Option<String>)>,
}

impl Input {
    /// Writes a feed of so many changes.
    pub(crate) fn write(path: PathBuf, seed: u64, events: u64) -> Result<Self> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut file = BufWriter::new(File::create(&path)?);
        let mut rows = BTreeMap::new();
        for seq in 1..=events {
            let id = match random.bool() {
                true => random.u64(0..HOT_KEYS),
                false => random.u64(0..KEYS),
            };
            let day = format!("d{}", random.u64(0..DAYS));
            let change = if random.u64(0..DELETES_ONE_IN) == 0 {
                rows.remove(&(day.clone(), id));
                json!({"op": "D", "id": id, "day": day})
            } else {
                let note = note(&mut random);
                rows.insert((day.clone(), id), (seq, note.clone()));
                json!({"op": "U", "id": id, "seq": seq, "note": note, "day": day})
            };
            writeln!(file, "{change}")?;
        }
        file.flush()?;
        Ok(Self { path, rows })
    }

    /// The job that reads it, with more options of the sink.
    pub(crate) fn job(&self, options: &[(&str, &str)]) -> String {
        let mut text = format!(
            "[source]\nformat = \"json\"\npath = {:?}\nop-column = \"op\"\n\
             columns = [\"id BIGINT\", \"seq BIGINT\", \"note STRING\", \"day STRING\"]\n\
             [table]\nname = \"events\"\n\
             columns = [\"id BIGINT NOT NULL\", \"seq BIGINT\", \"note STRING\"]\n\
             primary-key = [\"id\"]\npartitioned-by = [\"day STRING\"]\nbuckets = 4\n\
             [sink]\n\"sink.parallelism\" = 2\n",
            self.path
        );
        for (name, value) in options {
            text += &format!("{name:?} = {value:?}\n");
        }
        text
    }

    /// The rows of [`SELECT`], as they are to be.
    fn expected(&self) -> Vec<Value> {
        let rows = self.rows.iter();
        rows.map(|((day, id), (seq, note))| json!([day, id, seq, note])).collect()
    }

    /// Compares the rows of [`SELECT`] with the fold.
    pub(crate) fn check(&self, rows: &Value) -> Result<()> {
        let found = rows.as_array().map(Vec::as_slice).unwrap_or_default();
        let expected = self.expected();
        let differ = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        ensure!(
            differ.is_none() && found.len() == expected.len(),
            "the table has {} rows, the fold of the input {}; the first that differ: {differ:?}",
            found.len(),
            expected.len()
        );
        Ok(())
    }
}

fn note(random: &mut fastrand::Rng) -> Option<String> {
    let length = random.usize(0..60);
    (length >= 5).then(|| (0..length).map(|_| random.choice(LETTERS).unwrap_or('x')).collect())
}

const LETTERS: [char; 8] = ['a', 'e', 'n', 'ß', '"', '\u{1f}', '漢', ' '];

/// The rows of the table, as [`Input::check`] takes them.
pub(crate) const SELECT: &str = "SELECT day, id, seq, note FROM events ORDER BY day, id";

/// Creates the table where no job does.
pub(crate) const CREATE: &str = "CREATE TABLE IF NOT EXISTS events (id BIGINT NOT NULL, \
     seq BIGINT, note STRING, PRIMARY KEY (id)) PARTITIONED BY (day STRING) \
     TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='4')";

/// Files below a directory whose names say that they were being written.
pub(crate) fn unfinished(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.contains('#') {
                found.push(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_wrong_missing_or_too_many_is_seen() -> Result<()> {
        let directory = tempfile::tempdir()?;
        let input = Input::write(directory.path().join("input.json"), 7, 1_000)?;
        let rows = input.expected();
        input.check(&json!(rows))?;
        let mut stale = rows.clone();
        stale[rows.len() / 2][2] = json!(0);
        let mut doubled = rows.clone();
        doubled.push(rows[0].clone());
        for wrong in [stale, rows[1..].to_vec(), doubled, Vec::new()] {
            assert!(input.check(&json!(wrong)).is_err(), "{} rows", wrong.len());
        }
        Ok(())
    }
}
