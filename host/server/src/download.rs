//! Download sessions: rows of a partition or of a query as they were when the session was created.
//!
//! Made and read by `route/download.rs`. Invariant: whatever is committed meanwhile, a session's
//! rows and their order stay the same until it is forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::result::kept::ResultNumber;

/// The owner of a session's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DownloadOf {
    /// A partition's values, within the table of this id.
    Partition(String, Vec<String>),
    /// A job, by its id.
    Instance(String),
}

/// One session.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) id: String,
    pub(crate) of: DownloadOf,
    pub(crate) result: ResultNumber,
    /// How many of the result's rows it shows.
    pub(crate) rows: u64,
}

/// The sessions of this start.
#[derive(Debug, Default)]
pub(crate) struct DownloadSessions {
    remembered: Mutex<RememberedDownloads>,
}

#[derive(Debug, Default)]
struct RememberedDownloads {
    by_id: BTreeMap<String, Arc<Download>>,
    oldest_first: VecDeque<String>,
}

impl DownloadSessions {
    /// Remembers a session, and forgets the oldest of too many.
    pub(crate) fn remember(&self, download: &Arc<Download>) {
        let mut remembered = self.remembered();
        remembered.oldest_first.push_back(download.id.clone());
        remembered.by_id.insert(download.id.clone(), Arc::clone(download));
        while remembered.oldest_first.len() > REMEMBERED_MAX {
            if let Some(oldest) = remembered.oldest_first.pop_front() {
                remembered.by_id.remove(&oldest);
            }
        }
    }

    /// A session by its id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Download>> {
        self.remembered().by_id.get(id).cloned()
    }

    fn remembered(&self) -> MutexGuard<'_, RememberedDownloads> {
        self.remembered.lock().expect("no holder panics")
    }
}

/// Sessions that are remembered.
const REMEMBERED_MAX: usize = 1000;
