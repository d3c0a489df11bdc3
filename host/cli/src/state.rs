//! What survives the process: one file per completed checkpoint, with the position of the input and
//! the sink's own state.
//!
//! `engine.rs` saves between the sink's flush and the completion of the checkpoint;
//! `command/run.rs` loads at the start. Invariant: a file appears whole and durable or not at all,
//! the newest ones are kept, and one process at a time has the directory.

use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use anyhow::bail;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;

use crate::failure::bad_input;
use crate::source::position::InputFile;
use crate::source::position::Offset;

/// Checkpoints kept: the newest, and two before it to go back to if a session of the newest is
/// lost.
pub(crate) const RETAINED: usize = 3;

const MAGIC: &[u8; 4] = b"USEN";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const DIGEST_BYTES: usize = 32;

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
    fn retained(&self) -> anyhow::Result<Vec<u64>> {
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
    let mut bytes = Vec::with_capacity(HEADER_BYTES + job.len() + stored.sink.len() + DIGEST_BYTES);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.extend((job.len() as u64).to_le_bytes());
    bytes.extend((stored.sink.len() as u64).to_le_bytes());
    bytes.extend(job);
    bytes.extend(&stored.sink);
    let digest = Sha256::digest(&bytes);
    bytes.extend(digest);
    bytes
}

/// Reads the bytes of the state file `path`.
///
/// Errors: damaged bytes, and those of a newer version.
pub(crate) fn decode(bytes: &[u8], path: &Path) -> anyhow::Result<Stored> {
    let damaged = || {
        bad_input(format!(
            "state file {}: it is damaged; remove it to go on from the checkpoint before it",
            path.display()
        ))
    };
    if bytes.len() < HEADER_BYTES + DIGEST_BYTES || !bytes.starts_with(MAGIC) {
        return Err(damaged());
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version > VERSION {
        return Err(bad_input(format!(
            "state file {}: version {version} is newer than {VERSION}, which this program reads; \
            use the program that wrote it, or a newer one",
            path.display()
        )));
    }
    let (body, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if Sha256::digest(body).as_slice() != digest {
        return Err(damaged());
    }
    let length = |at: usize| {
        let bytes: [u8; 8] = body[at..at + 8].try_into().expect("eight bytes");
        usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX)
    };
    let (job_bytes, sink_bytes) = (length(8), length(16));
    let rest = &body[HEADER_BYTES..];
    if job_bytes.checked_add(sink_bytes) != Some(rest.len()) {
        return Err(damaged());
    }
    let (job, sink) = rest.split_at(job_bytes);
    let job = serde_json::from_slice(job).map_err(|_| damaged())?;
    Ok(Stored { job, sink: sink.to_vec() })
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
    fn a_newer_version_is_refused_by_number() {
        let mut bytes = encode(&stored(1));
        bytes[4..6].copy_from_slice(&2_u16.to_le_bytes());
        let error = decode(&bytes, Path::new("x")).expect_err("newer").to_string();
        assert!(error.contains("version 2 is newer than 1"), "{error}");
    }

    /// The bytes of version 1: whoever changes them must raise the version.
    #[test]
    fn version_1_is_still_read() {
        let text = concat!(
            r#"{"checkpoint":1,"table":"local.t","#,
            r#""files":[{"path":"-","size":0,"fingerprint":""}],"#,
            r#""offset":{"file":0,"event":10,"byte":7},"events":10,"finished":false}"#,
        );
        let bytes = encode(&stored(1));
        assert_eq!(&bytes[HEADER_BYTES..HEADER_BYTES + text.len()], text.as_bytes());
        assert_eq!(&bytes[..8], b"USEN\x01\0\0\0");
    }
}
