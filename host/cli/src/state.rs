//! The state that survives the process: one file per completed checkpoint, with the position of the
//! input and the sink's own state.
//!
//! `engine.rs` saves between the sink's flush and the completion of the checkpoint;
//! `command/run.rs` loads at the start. Invariant: a file appears whole and durable or not at all,
//! the newest ones are kept, and one process at a time has the directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};

use crate::failure::bad_input;
use crate::source::position::{InputFile, Offset};

/// Checkpoints kept: the newest, and two before it to go back to if a session of the newest is
/// lost.
pub(crate) const RETAINED: usize = 3;

/// How state files of 0.1 begin.
const MAGIC_OF_0_1: &[u8; 4] = b"USEN";

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobState {
    /// The checkpoint's number.
    pub(crate) checkpoint: u64,
    /// The table written to, as `project.table`.
    pub(crate) table: String,
    /// The input, in the order it is read.
    pub(crate) files: Vec<InputFile>,
    /// Where reading goes on.
    pub(crate) offset: Offset,
    /// Events before that point, over all files.
    pub(crate) events: u64,
    /// Whether the input was read to its end and everything is known to be committed.
    pub(crate) finished: bool,
}

/// A loaded checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The engine's part.
    pub(crate) job: JobState,
    /// The sink's part, opaque.
    pub(crate) sink: Vec<u8>,
}

/// A state directory, locked.
#[derive(Clone, Debug)]
pub(crate) struct StateDirectory {
    dir: PathBuf,
    // Held, never read: the lock lives as long as the file is open.
    _lock: Arc<File>,
}

impl StateDirectory {
    /// Opens the directory, creating it if there is none.
    ///
    /// Errors: a directory that cannot be written, or that another job holds.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let at = || {
            format!("state directory {}: it must be a directory you may write to", dir.display())
        };
        std::fs::create_dir_all(dir).with_context(at)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let lock = options.open(dir.join("lock")).with_context(at)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => bail!(
                "state directory {}: another job is running on it; wait for it, stop it, or use \
                another --state",
                dir.display()
            ),
            Err(TryLockError::Error(error)) => Err(error).with_context(at),
        }
    }

    /// Opens a directory that a job has made, and makes nothing.
    ///
    /// Errors: as of `open`, and a directory that is not there.
    pub(crate) fn existing(dir: &Path) -> anyhow::Result<Self> {
        if dir.is_dir() {
            return Self::open(dir);
        }
        Err(bad_input(format!(
            "state directory {}: it is not there; name the job's --state, or run the job first",
            dir.display()
        )))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// The time at which a checkpoint was stored, in milliseconds since the Unix epoch; none where
    /// the disk does not tell.
    pub(crate) fn stored_at_ms(&self, id: u64) -> Option<u64> {
        let changed = std::fs::metadata(self.path_of(id)).ok()?.modified().ok()?;
        let since = changed.duration_since(std::time::UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    }

    /// Where the sink keeps its journal.
    pub(crate) fn journal_dir(&self) -> PathBuf {
        journal_dir(&self.dir)
    }

    /// Stores a checkpoint durably, and forgets those beyond the retained ones.
    pub(crate) fn save(&self, stored: &Stored) -> anyhow::Result<()> {
        let path = self.path_of(stored.job.checkpoint);
        self.write(&path, stored).map_err(|error| {
            let is_full = error.kind() == io::ErrorKind::StorageFull;
            let remedy = if is_full { "free some space" } else { "make the directory writable" };
            let context = format!("state file {}: {remedy}, then run again", path.display());
            anyhow::Error::new(error).context(context)
        })?;
        self.forget_old().with_context(|| format!("state file {}", path.display()))
    }

    fn write(&self, path: &Path, stored: &Stored) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&encode(stored))?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// The newest checkpoint, or the one asked for; none if the job never completed one.
    ///
    /// Errors: a damaged file, one of a newer version, or a number that is not retained.
    pub(crate) fn load(&self, wanted: Option<u64>) -> anyhow::Result<Option<Stored>> {
        let retained = self.retained()?;
        let id = match wanted {
            None => retained.last().copied(),
            Some(id) if retained.contains(&id) => Some(id),
            Some(id) => {
                let state = self.dir.display();
                return Err(bad_input(format!(
                    "--restore {id}: {state} retains only the checkpoints {retained:?}"
                )));
            }
        };
        let Some(id) = id else { return Ok(None) };
        let path = self.path_of(id);
        let bytes =
            std::fs::read(&path).with_context(|| format!("state file {}", path.display()))?;
        decode(&bytes, &path).map(Some)
    }

    /// Forgets checkpoints after `id`: the job goes back to it.
    pub(crate) fn forget_after(&self, id: u64) -> anyhow::Result<()> {
        for later in self.retained()?.into_iter().filter(|later| *later > id) {
            std::fs::remove_file(self.path_of(later))?;
        }
        Ok(())
    }

    fn path_of(&self, id: u64) -> PathBuf {
        self.dir.join(format!("checkpoint-{id:020}.state"))
    }

    /// The numbers of the checkpoints that are there, rising.
    pub(crate) fn retained(&self) -> anyhow::Result<Vec<u64>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let id = name.to_str().and_then(|name| {
                name.strip_prefix("checkpoint-")?.strip_suffix(".state")?.parse::<u64>().ok()
            });
            ids.extend(id);
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn forget_old(&self) -> anyhow::Result<()> {
        let retained = self.retained()?;
        for id in retained.iter().rev().skip(RETAINED) {
            std::fs::remove_file(self.path_of(*id))?;
        }
        Ok(())
    }
}

/// Where the sink of a job keeps its journal.
pub(crate) fn journal_dir(state: &Path) -> PathBuf {
    state.join("journal")
}

/// The bytes of a state file.
pub(crate) fn encode(stored: &Stored) -> Vec<u8> {
    let job = serde_json::to_vec(&stored.job).expect("names and numbers are always JSON");
    Sealer::new(Kind::Job).bytes(&job).bytes(&stored.sink).seal()
}

/// Reads the bytes of the state file `path`.
///
/// Errors: damaged bytes, and those of another version.
pub(crate) fn decode(bytes: &[u8], path: &Path) -> anyhow::Result<Stored> {
    let at = path.display();
    if bytes.starts_with(MAGIC_OF_0_1) {
        return Err(bad_input(format!(
            "state file {at}: upsert-sink 0.1 wrote it; let that finish the job, or give the job \
            another --state and load its input anew"
        )));
    }
    let read = || -> Result<Option<Stored>, upsert_sink::Error> {
        let mut opener = Opener::open(Kind::Job, bytes)?;
        let job = serde_json::from_slice(opener.bytes()?);
        let sink = opener.bytes()?.to_vec();
        opener.finish()?;
        Ok(job.ok().map(|job| Stored { job, sink }))
    };
    match read() {
        Ok(Some(stored)) => Ok(stored),
        Ok(None) => Err(bad_input(format!(
            "state file {at}: it is not understood; remove it to go on from the checkpoint before \
            it"
        ))),
        Err(error) => Err(bad_input(format!("state file {at}: {}", error.message))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(checkpoint: u64) -> Stored {
        let job = JobState {
            checkpoint,
            table: String::from("local.t"),
            files: vec![InputFile::standard_input()],
            offset: Offset { file: 0, event: checkpoint * 10, byte: 7 },
            events: checkpoint * 10,
            finished: false,
        };
        Stored { job, sink: vec![1, 2, 3] }
    }

    #[test]
    fn the_newest_is_loaded_and_three_are_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let states = StateDirectory::open(dir.path()).expect("free");
        assert_eq!(states.load(None).expect("readable"), None);
        for id in 1..=12 {
            states.save(&stored(id)).expect("saved");
        }
        assert_eq!(states.load(None).expect("readable"), Some(stored(12)));
        assert_eq!(states.load(Some(10)).expect("readable"), Some(stored(10)));
        assert!(states.load(Some(9)).is_err());
        states.forget_after(10).expect("forgotten");
        assert_eq!(states.load(None).expect("readable"), Some(stored(10)));
    }

    #[test]
    fn a_second_job_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = StateDirectory::open(dir.path()).expect("free");
        let error = StateDirectory::open(dir.path()).expect_err("held").to_string();
        assert!(error.contains("another job is running on it"), "{error}");
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = encode(&stored(1));
        let path = Path::new("x");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged, path).is_err(), "byte {at}");
            assert!(decode(&bytes[..at], path).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_refused_by_number_and_with_the_remedy() {
        let mut bytes = encode(&stored(1));
        bytes[5] = 9;
        let error = decode(&bytes, Path::new("x")).expect_err("newer").to_string();
        assert!(error.contains("version 9 was written by a newer upsert-sink"), "{error}");
        let error = decode(b"USEN\x01\0", Path::new("x")).expect_err("older").to_string();
        assert!(error.contains("x: upsert-sink 0.1 wrote it; let that finish"), "{error}");
    }

    /// The bytes of version 2: whoever changes them must raise the version.
    #[test]
    fn version_2_is_still_read() {
        let text = concat!(
            r#"{"checkpoint":1,"table":"local.t","#,
            r#""files":[{"path":"-","size":0,"fingerprint":""}],"#,
            r#""offset":{"file":0,"event":10,"byte":7},"events":10,"finished":false}"#,
        );
        let bytes = encode(&stored(1));
        assert_eq!(&bytes[..6], b"USST\x08\x02");
        assert_eq!(&bytes[10..10 + text.len()], text.as_bytes());
    }
}
