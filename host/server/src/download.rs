//! Download sessions: rows of a partition or of a query as they were when the session was created.
//!
//! Made and read by `route/download.rs`. Invariant: whatever is committed meanwhile, a session's
//! rows and their order stay the same until it is forgotten.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use crate::result::kept::ResultNumber;

/// What rows are of.
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
pub(crate) struct Downloads {
    by_id: BTreeMap<String, Arc<Download>>,
    oldest_first: VecDeque<String>,
}

impl Downloads {
    /// Remembers a session, and forgets the oldest of too many.
    pub(crate) fn remember(&mut self, download: &Arc<Download>) {
        self.oldest_first.push_back(download.id.clone());
        self.by_id.insert(download.id.clone(), Arc::clone(download));
        while self.oldest_first.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// A session by its id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Download>> {
        self.by_id.get(id).cloned()
    }
}

/// Sessions that are remembered.
const REMEMBERED_MAX: usize = 1000;
