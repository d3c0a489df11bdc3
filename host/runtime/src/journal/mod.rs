//! The journal of a sink: which sessions it has created, and what is known to have become of them.
//!
//! Between `tunnel/upsert.rs`, which records, and the roles' `open`, which are told. Rule 6: a
//! session's id is durable before a writer gets it, an abort before it is sent, a commit once it is
//! known. Invariant: what `record` has returned from survives a crash; a torn tail is cut off, any
//! other damage is an error and never repaired silently.

pub(crate) mod frame;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use upsert_sink_core::id::SessionId;
use upsert_sink_core::io::JournalSession;
use upsert_sink_core::io::JournalState;

use crate::components::AppendFile;
use crate::components::Components;
use crate::components::Disk;
use crate::error;
use crate::error::Error;
use crate::error::ErrorKind;
use crate::error::Result;

pub use record::Record;
pub use record::SessionState;

/// What a journal holds, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// The sink's lasting name: 128 random bits, in hexadecimal. Empty in a journal that has not
    /// begun.
    pub identity: String,
    /// The table that it writes to.
    pub table: String,
    /// The number of the newest start.
    pub start: u64,
    /// Its sessions, by id.
    pub sessions: BTreeMap<String, Session>,
}

/// One session in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its partition; empty for a table without partitions.
    pub partition: String,
    /// The start that created it.
    pub start: u64,
    /// What is known of it.
    pub state: SessionState,
    /// When that became known, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// The open journal of a running sink. Holds the lock of its directory.
pub(crate) struct Journal {
    path: PathBuf,
    contents: Mutex<Contents>,
    queue: Mutex<Queue>,
    file: tokio::sync::Mutex<Box<dyn AppendFile>>,
    start: u64,
    nonce: u64,
    _lease: Box<dyn Send + Sync>,
}

/// Records that wait for the next write. One write, and one sync, takes all of them.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    queued: u64,
    durable: u64,
    /// A write has begun and not ended: true only inside it, or after it was cancelled.
    writing: bool,
    broken: Option<Error>,
}

impl Journal {
    /// Opens the journal in `directory` for a sink to `table`, or begins one, and begins the next
    /// start.
    ///
    /// # Errors
    /// `InvalidConfig` if another sink holds it or it belongs to another table; `Corrupt` if it is
    /// damaged.
    pub(crate) async fn open(
        directory: &Path,
        table: &str,
        components: &Components,
    ) -> Result<Arc<Self>> {
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
        let nonce = random_u64(components);
        let compacted = begin_start(&mut contents, nonce, now_ms);
        let written = disk.replace(&path, compacted).await;
        written.map_err(|error| error::disk(&path, &error))?;
        let file = disk.append(&path, None).await.map_err(|error| error::disk(&path, &error))?;
        tracing::info!(start = contents.start, whole_bytes, "journal opened");
        Ok(Arc::new(Self {
            path,
            start: contents.start,
            nonce,
            contents: Mutex::new(contents),
            queue: Mutex::default(),
            file: tokio::sync::Mutex::new(file),
            _lease: lease,
        }))
    }

    /// The sink's lasting name.
    pub(crate) fn identity(&self) -> String {
        self.contents().identity.clone()
    }

    /// The number of this start.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The random number of this start.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// Records, durably when it returns. Records of callers that wait at the same time share one
    /// sync.
    pub(crate) async fn record(&self, record: Record) -> Result<()> {
        let mine = {
            let mut queue = self.queue();
            queue.bytes.extend(frame::encode(&record.to_bytes()));
            queue.queued += 1;
            queue.queued
        };
        let mut file = self.file.lock().await;
        let (bytes, newest) = {
            let mut queue = self.queue();
            if let Some(broken) = &queue.broken {
                return Err(broken.clone());
            }
            if queue.durable >= mine {
                drop(queue);
                self.contents().apply(record);
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
        drop(queue);
        self.contents().apply(record);
        Ok(())
    }

    /// Records that a session is committed, if that is news: the service may say it again, and the
    /// committer names also those of which it has said so.
    pub(crate) async fn committed(&self, id: String, at_ms: u64) -> Result<()> {
        let known = self.contents().sessions.get(&id).map(|session| session.state);
        match known {
            Some(SessionState::Committed) => Ok(()),
            _ => self.record(Record::Committed { id, at_ms }).await,
        }
    }

    /// The sessions as the coordinator is told them: those that it may still have to retire, and
    /// known commits.
    pub(crate) fn for_coordinator(&self) -> Vec<JournalSession> {
        self.sessions(|session| session.state != SessionState::Aborted)
    }

    /// The sessions as the committer is told them: also those that are aborted, which it must never
    /// take for committed.
    pub(crate) fn for_committer(&self) -> Vec<JournalSession> {
        self.sessions(|_| true)
    }

    fn sessions(&self, of_interest: impl Fn(&Session) -> bool) -> Vec<JournalSession> {
        let contents = self.contents();
        let sessions = contents.sessions.iter().filter(|(_, session)| of_interest(session));
        let told = sessions.map(|(id, session)| JournalSession {
            id: SessionId(id.clone()),
            partition: session.partition.clone(),
            start: session.start,
            state: match session.state {
                SessionState::Open => JournalState::Open,
                SessionState::Committed => JournalState::Committed,
                SessionState::Aborting | SessionState::Aborted => JournalState::Aborting,
            },
        });
        told.collect()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
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
    fn apply(&mut self, record: Record) {
        match record {
            Record::Identity { identity, table } => {
                self.identity = identity;
                self.table = table;
            }
            Record::Start { number, .. } => self.start = self.start.max(number),
            Record::Lease { .. } => {}
            Record::SessionCreated { id, partition, start, at_ms } => {
                let session = Session { partition, start, state: SessionState::Open, at_ms };
                self.sessions.insert(id, session);
            }
            Record::Aborting { id, at_ms } => self.became(&id, SessionState::Aborting, at_ms),
            Record::Aborted { id, at_ms } => self.became(&id, SessionState::Aborted, at_ms),
            Record::Committed { id, at_ms } => self.became(&id, SessionState::Committed, at_ms),
        }
    }

    /// Of a session that the journal never held, nothing is recorded: it is not this sink's.
    fn became(&mut self, id: &str, state: SessionState, at_ms: u64) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.state = state;
            session.at_ms = at_ms;
        }
    }

    /// Drops what no start can ask about any more: outcomes older than any session's life, of
    /// starts before the last.
    fn forget_old(&mut self, now_ms: u64) {
        let (start, keep_ms) = (self.start, KEEP_OUTCOME_MS);
        self.sessions.retain(|_, session| {
            let settled = matches!(session.state, SessionState::Committed | SessionState::Aborted);
            let old = session.at_ms.saturating_add(keep_ms) < now_ms;
            !(settled && old && session.start < start)
        });
    }

    fn records(&self, nonce: u64, now_ms: u64) -> Vec<Record> {
        let (identity, table) = (self.identity.clone(), self.table.clone());
        let mut records = vec![
            Record::Identity { identity, table },
            Record::Start { number: self.start, nonce, at_ms: now_ms },
            Record::Lease { process: std::process::id(), at_ms: now_ms },
        ];
        for (id, session) in &self.sessions {
            let (id, partition) = (id.clone(), session.partition.clone());
            let (start, at_ms) = (session.start, session.at_ms);
            records.push(Record::SessionCreated { id: id.clone(), partition, start, at_ms });
            match session.state {
                SessionState::Open => {}
                SessionState::Aborting => records.push(Record::Aborting { id, at_ms }),
                SessionState::Aborted => records.push(Record::Aborted { id, at_ms }),
                SessionState::Committed => records.push(Record::Committed { id, at_ms }),
            }
        }
        records
    }
}

/// The journal of the next start, compacted.
fn begin_start(contents: &mut Contents, nonce: u64, now_ms: u64) -> Vec<u8> {
    contents.forget_old(now_ms);
    contents.start += 1;
    let mut bytes = MAGIC.to_vec();
    for record in contents.records(nonce, now_ms) {
        bytes.extend(frame::encode(&record.to_bytes()));
    }
    bytes
}

/// What the bytes say, and how many of them are whole.
fn fold(bytes: &[u8], path: &Path) -> Result<(Contents, usize)> {
    let at = path.display().to_string();
    let mut contents = Contents::default();
    // A journal is begun by an atomic replacement: an empty file is one that was never begun.
    if bytes.is_empty() {
        return Ok((contents, 0));
    }
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else {
        let message = "this is no journal, or one of a newer version; use the host that wrote it";
        return Err(Error::corrupt(at, message));
    };
    while let Some((payload, after)) = frame::decode(rest).map_err(|damage| {
        let offset = bytes.len() - rest.len();
        let message = format!(
            "{damage} at byte {offset}; if the machine lost power while it wrote the file, \
             cut it to its first {offset} bytes, for nobody was told of what came later; else \
             restore it from a copy"
        );
        Error::corrupt(&at, message)
    })? {
        let record = Record::from_bytes(payload).map_err(|error| {
            let offset = bytes.len() - rest.len();
            Error::corrupt(&at, format!("the record at byte {offset} is not understood: {error}"))
        })?;
        contents.apply(record);
        rest = after;
    }
    Ok((contents, bytes.len() - rest.len()))
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
    format!("{:016x}{:016x}", random_u64(components), random_u64(components))
}

fn random_u64(components: &Components) -> u64 {
    let mut bytes = [0; 8];
    components.entropy.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

const FILE: &str = "sink.journal";
const LOCK: &str = "sink.lock";
/// The format and its version.
const MAGIC: &[u8] = b"USJRNL01";
/// Twice the longest life of a session: after that the service has dropped it, whatever became of
/// it.
const KEEP_OUTCOME_MS: u64 = 48 * 3_600_000;
