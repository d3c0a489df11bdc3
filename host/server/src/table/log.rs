//! The commit log: one small JSON file a version, written once, each with its checksum.
//!
//! `sql/change.rs` and `table/commit.rs` write changes, `table/catalog.rs` is their fold.
//! Invariant: versions have no gaps, a version is put only where there is none (compare-and-swap),
//! and nobody hears of a change before it is durable.

use std::sync::{Arc, Mutex, MutexGuard};

use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions};

use super::catalog::{Catalog, Change, FIRST_FORMAT, LogRecord};
use crate::components::{Clock, Directory};
use crate::error::Error;

/// The log and its fold.
pub(crate) struct Log {
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    /// Held while a record is written; says why none can be any more.
    turn: tokio::sync::Mutex<Option<String>>,
    catalog: Mutex<Catalog>,
}

/// Why a change is not in the log.
#[derive(Debug)]
pub(crate) enum NotWritten<E> {
    /// It was decided against; nothing was written.
    Decided(E),
    /// It certainly has no record.
    Failed(Error),
    /// It may have a record; the next start will tell. Nothing can be written until then.
    InDoubt(Error),
}

impl Log {
    /// Reads the log, and begins it if there is none.
    pub(crate) async fn open(
        directory: Arc<dyn Directory>,
        clock: Arc<dyn Clock>,
        identity: impl FnOnce() -> String,
    ) -> Result<Self, Error> {
        let discarded = directory.discard_unfinished(FOLDER).await;
        discarded.map_err(|error| Error::disk(FOLDER, error))?;
        let Folded { catalog, torn } = fold(&*directory).await?;
        if let Some(name) = torn {
            directory.remove(&name).await.map_err(|e| Error::disk(&name, e))?;
        }
        if catalog.version > 0 {
            // The last server may have died between writing this record and making it durable.
            let name = record_name(catalog.version);
            directory.sync(&name).await.map_err(|e| Error::disk(&name, e))?;
        }
        let begun = catalog.version > 0;
        let turn = tokio::sync::Mutex::new(None);
        let log = Self { directory, clock, turn, catalog: Mutex::new(catalog) };
        if !begun {
            let change = Change::Begin { identity: identity(), format: FIRST_FORMAT };
            log.change(|_| Ok::<_, Error>(Some(change))).await.map_err(|error| match error {
                NotWritten::Decided(e) | NotWritten::Failed(e) | NotWritten::InDoubt(e) => e,
            })?;
        }
        Ok(log)
    }

    /// The fold of all durable records.
    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().expect("no holder panics")
    }

    /// Writes the change that `decide` makes of the newest catalog, if any, durably, and applies
    /// it. No other change comes between.
    pub(crate) async fn change<E>(
        &self,
        decide: impl FnOnce(&Catalog) -> Result<Option<Change>, E>,
    ) -> Result<(), NotWritten<E>> {
        let mut failed = self.turn.lock().await;
        if let Some(message) = &*failed {
            return Err(NotWritten::Failed(Error::disk(FOLDER, message)));
        }
        let (version, change) = {
            let catalog = self.catalog();
            (catalog.version + 1, decide(&catalog).map_err(NotWritten::Decided)?)
        };
        let Some(change) = change else { return Ok(()) };
        let record = LogRecord { version, at_ms: self.clock.now().0, change };
        let name = record_name(version);
        match self.write(&record, &name).await {
            Ok(()) => {}
            Err(WriteError::NotThere(error)) => return Err(NotWritten::Failed(error)),
            Err(WriteError::Unknown(error)) => {
                *failed = Some(format!("{error}; nothing more is accepted: restart the server"));
                return Err(NotWritten::InDoubt(error));
            }
        }
        let applied = self.catalog().apply(record, &name);
        applied.map_err(NotWritten::InDoubt)
    }

    /// Reads a record that is in the log.
    ///
    /// Errors: `Disk`, `Damaged`.
    pub(crate) async fn record(&self, version: u64) -> Result<LogRecord, Error> {
        let name = record_name(version);
        read(&*self.directory, &name).await?.ok_or_else(|| unreadable(&name))
    }

    async fn write(&self, record: &LogRecord, name: &str) -> Result<(), WriteError> {
        let location = Path::from(name);
        let objects = self.directory.objects();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        if let Err(error) = objects.put_opts(&location, encode(record).into(), options).await {
            let there = objects.head(&location).await;
            let error = Error::disk(name, error);
            return Err(match there {
                Err(object_store::Error::NotFound { .. }) => WriteError::NotThere(error),
                _ => WriteError::Unknown(error),
            });
        }
        let synced = self.directory.sync(name).await;
        synced.map_err(|error| WriteError::Unknown(Error::disk(name, error)))
    }
}

enum WriteError {
    NotThere(Error),
    Unknown(Error),
}

/// The contents of a log.
pub(crate) struct Folded {
    pub(crate) catalog: Catalog,
    /// The last record, if it was not written whole: then it was never acknowledged.
    torn: Option<String>,
}

/// Reads all records.
pub(crate) async fn fold(directory: &dyn Directory) -> Result<Folded, Error> {
    let names = directory.list(FOLDER).await.map_err(|e| Error::disk(FOLDER, e))?;
    let mut versions: Vec<u64> = names.iter().filter_map(|name| record_version(name)).collect();
    versions.sort_unstable();
    let mut catalog = Catalog::default();
    for version in &versions {
        let name = record_name(*version);
        match read(directory, &name).await? {
            Some(record) => catalog.apply(record, &name)?,
            None if Some(version) == versions.last() => {
                return Ok(Folded { catalog, torn: Some(name) });
            }
            None => return Err(unreadable(&name)),
        }
    }
    Ok(Folded { catalog, torn: None })
}

/// Reads one record; none if it is not whole.
async fn read(directory: &dyn Directory, name: &str) -> Result<Option<LogRecord>, Error> {
    let disk = |error| Error::disk(name, error);
    let file = directory.objects().get(&Path::from(name)).await.map_err(disk)?;
    Ok(decode(&file.bytes().await.map_err(disk)?))
}

fn unreadable(name: &str) -> Error {
    Error::damaged(name, "it does not match its checksum")
}

/// The file of a version, within the directory.
fn record_name(version: u64) -> String {
    format!("{FOLDER}/{version:020}.json")
}

fn record_version(name: &str) -> Option<u64> {
    name.strip_suffix(".json").filter(|digits| digits.len() == 20)?.parse().ok()
}

/// A record is valid JSON, and its checksum covers exactly the bytes of the inner object.
fn encode(record: &LogRecord) -> Vec<u8> {
    let inner = serde_json::to_string(record).expect("a record is strings and numbers");
    format!("{START}{:08x}{MIDDLE}{inner}{END}", crc32c::crc32c(inner.as_bytes())).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<LogRecord> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (checksum, rest) = text.strip_prefix(START)?.split_at_checked(8)?;
    let inner = rest.strip_prefix(MIDDLE)?.strip_suffix(END)?;
    let expected = format!("{:08x}", crc32c::crc32c(inner.as_bytes()));
    (checksum == expected).then(|| serde_json::from_str(inner).ok())?
}

const FOLDER: &str = "log";
const START: &str = "{\"crc32c\":\"";
const MIDDLE: &str = "\",\"record\":";
const END: &str = "}\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_cut_or_changed_is_not_read() {
        let change = Change::DropTable { table_id: "t".into() };
        let record = LogRecord { version: 1, at_ms: 2, change };
        let bytes = encode(&record);
        assert_eq!(decode(&bytes), Some(record));
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        for at in 0..bytes.len() {
            assert_eq!(decode(&bytes[..at]), None);
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(decode(&changed), None, "byte {at}");
        }
    }
}
