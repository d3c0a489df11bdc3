//! The sessions in a journal, for people: what the guest that this library ships with appends.
//!
//! Beside the row's way: read by `upsert-sink sessions`, and by suites. Invariant: nothing here is
//! asked by a running sink, to which its journal is opaque.

use std::collections::BTreeMap;

pub use upsert_sink_core::journal::{JournalState, SessionRecord};

use crate::error::Result;
use crate::journal::Contents;

/// The newest record of each session, by its id.
///
/// # Errors
/// `Corrupt` or `InvalidConfig` for a record that another guest, or a newer one, has appended.
pub fn of(journal: &Contents) -> Result<BTreeMap<String, SessionRecord>> {
    let records: Vec<Vec<u8>> = journal.records.values().cloned().collect();
    let sessions = upsert_sink_core::journal::fold(&records)?;
    Ok(sessions.into_iter().map(|(id, record)| (id.0, record)).collect())
}
