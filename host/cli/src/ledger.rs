//! The ledger of a job in its state directory: a line of JSON for each checkpoint, and the facts
//! that advice rests on.
//!
//! `engine.rs` appends when commits are known, `command/status.rs` reads, also while the job runs.
//! Invariant: the file is bounded, and the oldest lines fall; a line that is torn or not understood
//! costs that line alone; a ledger that cannot be written never stops a job.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use upsert_sink::ledger::{CheckpointRecord, Hint, SinkFacts, advise};

/// Lines that are kept, at most.
const LINES_MAX: usize = 1_000;
/// Bytes of all lines, at most.
const BYTES_MAX: usize = 1 << 20;
/// Records that are read, at most.
pub(crate) const SHOWN: usize = 128;
const RECORDS: &str = "ledger.jsonl";
const FACTS: &str = "ledger-facts.json";

/// The ledger of a job, as far as it is known.
#[derive(Debug, Default)]
pub(crate) struct JobLedger {
    /// The newest checkpoints, oldest first.
    pub(crate) records: Vec<CheckpointRecord>,
    /// The sink's facts; none if no run has told them.
    pub(crate) facts: Option<SinkFacts>,
}

impl JobLedger {
    /// Reads what a job has left in its state directory.
    ///
    /// Errors: files that cannot be read.
    pub(crate) fn read(state: &Path) -> anyhow::Result<Self> {
        let path = state.join(RECORDS);
        let text = read(&path).with_context(|| format!("ledger {}", path.display()))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        let mut records: Vec<CheckpointRecord> = lines.collect();
        records.drain(..records.len().saturating_sub(SHOWN));
        let path = state.join(FACTS);
        let facts = read(&path).with_context(|| format!("facts {}", path.display()))?;
        Ok(Self { records, facts: serde_json::from_str(&facts).ok() })
    }

    /// The advice that follows.
    pub(crate) fn advice(&self) -> Vec<Hint> {
        self.facts.as_ref().map(|facts| advise(&self.records, facts)).unwrap_or_default()
    }
}

/// Writes the ledger of a running job.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    path: PathBuf,
    /// The lines that are in the file.
    lines: VecDeque<String>,
    bytes: usize,
    /// The newest checkpoint of this start that was written.
    newest: Option<u64>,
    is_broken: bool,
}

impl LedgerFile {
    /// Goes on with the ledger in a state directory, and puts the facts beside it.
    pub(crate) fn open(state: &Path, facts: &SinkFacts) -> Self {
        let mut file = Self {
            path: state.join(RECORDS),
            lines: VecDeque::new(),
            bytes: 0,
            newest: None,
            is_broken: false,
        };
        let text = read(&file.path).unwrap_or_default();
        let whole = |line: &&str| serde_json::from_str::<CheckpointRecord>(line).is_ok();
        text.lines().filter(whole).for_each(|line| file.push(String::from(line)));
        // What was torn when a process ended is taken out before the next line is appended.
        let is_torn = file.bytes != text.len();
        let is_shorter = file.shorten();
        let kept = if is_torn || is_shorter { file.rewrite() } else { Ok(()) };
        let told = serde_json::to_vec(facts).map_err(io::Error::from);
        let told = told.and_then(|facts| replace(&state.join(FACTS), &facts));
        file.note(kept.and(told));
        file
    }

    /// Appends the records that are new. All of them are of this start, in their order.
    pub(crate) fn append(&mut self, records: &[CheckpointRecord]) {
        let newest = self.newest;
        let mut appended = String::new();
        for record in records.iter().filter(|record| newest.is_none_or(|id| record.id > id)) {
            self.newest = Some(record.id);
            let line = serde_json::to_string(record).expect("names and numbers are always JSON");
            appended += &line;
            appended.push('\n');
            self.push(line);
        }
        if appended.is_empty() || self.is_broken {
            return;
        }
        let written = match self.shorten() {
            true => self.rewrite(),
            false => append(&self.path, &appended),
        };
        self.note(written);
    }

    fn push(&mut self, line: String) {
        self.bytes += line.len() + 1;
        self.lines.push_back(line);
    }

    /// Drops the oldest lines if there are too many: a quarter, so that this is rare.
    fn shorten(&mut self) -> bool {
        let is_full = |file: &Self, part: usize| {
            file.lines.len() * part > LINES_MAX * 3 || file.bytes * part > BYTES_MAX * 3
        };
        if !is_full(self, 3) {
            return false;
        }
        while is_full(self, 4) {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len() + 1;
        }
        true
    }

    fn rewrite(&self) -> io::Result<()> {
        let text: String = self.lines.iter().flat_map(|line| [line, "\n"]).collect();
        replace(&self.path, text.as_bytes())
    }

    /// A ledger that cannot be written is told of once.
    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.is_broken = true;
            tracing::warn!("ledger {}: {error}; this run adds nothing to it", self.path.display());
        }
    }
}

/// The text of a file; nothing if there is none. What is no text is replaced.
fn read(path: &Path) -> io::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

/// Whoever reads meanwhile sees the old file or the new one. Neither need survive a loss of power.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)?;
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: std::ops::Range<u64>) -> Vec<CheckpointRecord> {
        ids.map(|id| CheckpointRecord { id, start: 1, ..CheckpointRecord::default() }).collect()
    }

    fn ids(state: &Path) -> Vec<u64> {
        let ledger = JobLedger::read(state).expect("readable");
        ledger.records.iter().map(|record| record.id).collect()
    }

    #[test]
    fn records_are_written_once_and_over_many_runs() {
        let dir = tempfile::tempdir().expect("a directory");
        let facts = SinkFacts { buckets: 8, ..SinkFacts::default() };
        assert!(ids(dir.path()).is_empty());
        for _ in 0..2 {
            let mut file = LedgerFile::open(dir.path(), &facts);
            file.append(&records(1..3));
            file.append(&records(1..4));
        }
        assert_eq!(ids(dir.path()), [1, 2, 3, 1, 2, 3]);
        let ledger = JobLedger::read(dir.path()).expect("readable");
        assert_eq!(ledger.facts, Some(facts));
        assert!(ledger.advice().is_empty());
    }

    #[test]
    fn the_oldest_lines_fall() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut file = LedgerFile::open(dir.path(), &SinkFacts::default());
        for id in 1..=3_000 {
            file.append(&records(id..id + 1));
            assert!(file.lines.len() <= LINES_MAX && file.bytes <= BYTES_MAX);
        }
        let bytes = std::fs::read(dir.path().join(RECORDS)).expect("written");
        assert_eq!(bytes.len(), file.bytes);
        assert_eq!(ids(dir.path()).last(), Some(&3_000));
        assert_eq!(ids(dir.path()).len(), SHOWN);
    }

    #[test]
    fn a_torn_or_foreign_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let facts = SinkFacts::default();
        LedgerFile::open(dir.path(), &facts).append(&records(1..3));
        let path = dir.path().join(RECORDS);
        let mut bytes = std::fs::read(&path).expect("written");
        bytes.splice(0..0, *b"not a record\n\xff\n");
        bytes.extend_from_slice(b"{\"id\":3,\"sta");
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(ids(dir.path()), [1, 2]);
        LedgerFile::open(dir.path(), &facts).append(&records(4..5));
        assert_eq!(ids(dir.path()), [1, 2, 4]);
    }

    #[test]
    fn a_ledger_that_cannot_be_written_stops_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(RECORDS)).expect("created");
        let mut file = LedgerFile::open(dir.path(), &SinkFacts::default());
        file.append(&records(1..3));
        assert!(file.is_broken);
    }
}
