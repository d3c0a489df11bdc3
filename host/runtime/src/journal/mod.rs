//! The journal of a sink: its lasting name, its starts, and the records that its guest appends,
//! which are opaque here.
//!
//! Between `capability/journal.rs`, which takes appends, `driver.rs`, which waits for them, and the
//! roles' `open`, which are given all of them back. Invariant: what `append` has returned from
//! survives a crash; a torn tail is cut off, any other damage is an error and never repaired
//! silently.

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use record::JournalRecord;
use upsert_sink_format::frame;

use crate::components::{AppendFile, Components, Disk};
use crate::error;
use crate::error::{Error, ErrorKind, Result};

/// The contents of a journal, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The sink's lasting name: 128 random bits, in hexadecimal. Empty in a journal that has not
    /// begun.
    pub identity: String,
    /// The table that it writes to.
    pub table: String,
    /// The number of the newest start.
    pub start: u64,
    /// The records that its guest has appended: of each key the newest.
    pub records: BTreeMap<String, Vec<u8>>,
}

/// The open journal of a running sink. Holds the lock of its directory.
pub(crate) struct Journal {
    path: PathBuf,
    identity: String,
    queue: Mutex<AppendQueue>,
    file: tokio::sync::Mutex<Box<dyn AppendFile>>,
    start: u64,
    nonce: u64,
    _lease: Box<dyn Send + Sync>,
}

/// Records that wait for the next write. One write, and one sync, takes all of them.
#[derive(Default)]
struct AppendQueue {
    bytes: Vec<u8>,
    queued: u64,
    durable: u64,
    /// A write has begun and not ended: true only inside it, or after it was cancelled.
    writing: bool,
    broken: Option<Error>,
}

impl Journal {
    /// Opens the journal in `directory` for a sink to `table`, or begins one, and begins the next
    /// start. With all that its guests have appended.
    ///
    /// # Errors
    /// `InvalidConfig` if another sink holds it, or it belongs to another table, or is of another
    /// version; `Corrupt` if it is damaged.
    pub(crate) async fn open(
        directory: &Path,
        table: &str,
        components: &Components,
    ) -> Result<(Arc<Self>, Vec<Vec<u8>>)> {
        let disk = &components.disk;
        let lease = lock(directory, disk.as_ref()).await?;
        let path = directory.join(FILE);
        let read = disk.read(&path).await.map_err(|error| error::disk(&path, &error))?;
        let (mut contents, whole_bytes) = fold(&read.unwrap_or_default(), &path)?;
        if contents.identity.is_empty() {
            contents.identity = identity(components);
            contents.table = String::from(table);
        }
        if contents.table != table {
            let message = format!(
                "the journal belongs to the table {}, not {table}; give each table a \
                 `sink.journal-dir` of its own",
                contents.table
            );
            return Err(Error::config(directory.display().to_string(), message));
        }
        let now_ms = components.clock.now_ms();
        let nonce = components.entropy.draw();
        let compacted = begin_start(&mut contents, nonce, now_ms);
        let written = disk.replace(&path, compacted).await;
        written.map_err(|error| error::disk(&path, &error))?;
        let file = disk.append(&path, None).await.map_err(|error| error::disk(&path, &error))?;
        tracing::info!(start = contents.start, whole_bytes, "journal opened");
        let records = contents.records.into_values().collect();
        let journal = Self {
            path,
            start: contents.start,
            nonce,
            identity: contents.identity,
            queue: Mutex::default(),
            file: tokio::sync::Mutex::new(file),
            _lease: lease,
        };
        Ok((Arc::new(journal), records))
    }

    /// The sink's lasting name.
    pub(crate) fn identity(&self) -> String {
        self.identity.clone()
    }

    /// The number of this start.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The random number of this start.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Appends a record, durably when what it returns has ended. Records are in the order of the
    /// calls; those that wait at the same time share one sync.
    pub(crate) fn append(
        self: &Arc<Self>,
        key: String,
        bytes: Vec<u8>,
    ) -> impl Future<Output = Result<()>> + Send + 'static {
        let record = JournalRecord::Appended { key, bytes };
        let mine = {
            let mut queue = self.queue();
            queue.bytes.extend(frame::enclose(&record.to_bytes()));
            queue.queued += 1;
            queue.queued
        };
        let journal = Arc::clone(self);
        async move { journal.durable(mine).await }
    }

    /// Waits until the record of this number is durable.
    async fn durable(&self, mine: u64) -> Result<()> {
        let mut file = self.file.lock().await;
        let (bytes, newest) = {
            let mut queue = self.queue();
            if let Some(broken) = &queue.broken {
                return Err(broken.clone());
            }
            if queue.durable >= mine {
                return Ok(());
            }
            if queue.writing {
                let at = self.path.display().to_string();
                let message = "a write was cancelled; what is on disk is not known; start again";
                return Err(Error::new(ErrorKind::Retry, at, message));
            }
            queue.writing = true;
            (std::mem::take(&mut queue.bytes), queue.queued)
        };
        let written = file.append(bytes).await;
        let mut queue = self.queue();
        if let Err(error) = written {
            // What is on disk is not known: nothing more may be said to be durable.
            let error = error::disk(&self.path, &error);
            queue.broken = Some(error.clone());
            return Err(error);
        }
        queue.durable = newest;
        queue.writing = false;
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, AppendQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the journal in `directory` without locking it: for people, also while a sink runs. None if
/// there is none.
///
/// # Errors
/// `Corrupt` if it is damaged, `Retry` if it cannot be read.
pub async fn read(directory: &Path, disk: &dyn Disk) -> Result<Option<Contents>> {
    let path = directory.join(FILE);
    let read = disk.read(&path).await.map_err(|error| error::disk(&path, &error))?;
    read.map(|bytes| fold(&bytes, &path).map(|(contents, _)| contents)).transpose()
}

impl Contents {
    fn apply(&mut self, record: JournalRecord) {
        match record {
            JournalRecord::Identity { identity, table } => {
                self.identity = identity;
                self.table = table;
            }
            JournalRecord::Start { number, .. } => self.start = self.start.max(number),
            JournalRecord::Lease { .. } => {}
            JournalRecord::Appended { key, bytes } => {
                match bytes.is_empty() {
                    true => self.records.remove(&key),
                    false => self.records.insert(key, bytes),
                };
            }
        }
    }

    fn records(&self, nonce: u64, now_ms: u64) -> Vec<JournalRecord> {
        let (identity, table) = (self.identity.clone(), self.table.clone());
        let mut records = vec![
            JournalRecord::Identity { identity, table },
            JournalRecord::Start { number: self.start, nonce, at_ms: now_ms },
            JournalRecord::Lease { process: std::process::id(), at_ms: now_ms },
        ];
        let appended = self.records.iter();
        records.extend(appended.map(|(key, bytes)| {
            let (key, bytes) = (key.clone(), bytes.clone());
            JournalRecord::Appended { key, bytes }
        }));
        records
    }
}

/// The journal of the next start, compacted.
fn begin_start(contents: &mut Contents, nonce: u64, now_ms: u64) -> Vec<u8> {
    contents.start += 1;
    let mut bytes = MAGIC.to_vec();
    for record in contents.records(nonce, now_ms) {
        bytes.extend(frame::enclose(&record.to_bytes()));
    }
    bytes
}

/// The contents of the bytes, and how many of them are whole.
fn fold(bytes: &[u8], path: &Path) -> Result<(Contents, usize)> {
    let at = path.display().to_string();
    let mut contents = Contents::default();
    // A journal is begun by an atomic replacement: an empty file is one that was never begun.
    if bytes.is_empty() {
        return Ok((contents, 0));
    }
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return Err(foreign(at, bytes)) };
    while let Some((payload, after)) = frame::first(rest, RECORD_BYTES_MAX).map_err(|damage| {
        let offset = bytes.len() - rest.len();
        let message = format!(
            "{damage} at byte {offset}; if the machine lost power while it wrote the file, \
             cut it to its first {offset} bytes, for nobody was told of what came later; else \
             restore it from a copy"
        );
        Error::corrupt(&at, message)
    })? {
        let record = JournalRecord::from_bytes(payload).map_err(|error| {
            let offset = bytes.len() - rest.len();
            Error::corrupt(&at, format!("the record at byte {offset} is not understood: {error}"))
        })?;
        contents.apply(record);
        rest = after;
    }
    Ok((contents, bytes.len() - rest.len()))
}

/// An error for a journal of another version, or no journal at all.
fn foreign(at: String, bytes: &[u8]) -> Error {
    let (format, ours) = MAGIC.split_at(MAGIC.len() - VERSION_BYTES);
    let theirs = bytes.strip_prefix(format).and_then(|rest| rest.get(..VERSION_BYTES));
    match theirs {
        Some(theirs) => {
            let (theirs, ours) = (theirs.escape_ascii(), ours.escape_ascii());
            let message = format!(
                "the journal has version {theirs}, this host reads {ours}; finish or restore the \
                 job with the host that wrote it, or begin with a fresh `sink.journal-dir`"
            );
            Error::config(at, message)
        }
        None => Error::corrupt(at, "this is no journal; restore it from a copy"),
    }
}

/// The lease is a lock of the operating system: it ends with its process, however that ends.
async fn lock(directory: &Path, disk: &dyn Disk) -> Result<Box<dyn Send + Sync>> {
    let path = directory.join(LOCK);
    let locked = disk.lock(&path).await.map_err(|error| error::disk(&path, &error))?;
    locked.ok_or_else(|| {
        let message = "a second job on the same state: another sink holds this journal; stop it, \
                       or give this job a `sink.journal-dir` of its own";
        Error::new(ErrorKind::InvalidConfig, directory.display().to_string(), message)
    })
}

fn identity(components: &Components) -> String {
    let entropy = &components.entropy;
    format!("{:016x}{:016x}", entropy.draw(), entropy.draw())
}

const FILE: &str = "sink.journal";
const LOCK: &str = "sink.lock";
/// The format and its version.
const MAGIC: &[u8] = b"USJRNL03";
/// 64 KiB of a guest, in base64, and what stands around them.
const RECORD_BYTES_MAX: usize = 96 << 10;
const VERSION_BYTES: usize = 2;
