//! The sessions in a journal and in a checkpoint, for people: what the guest that this library
//! ships with appends, and what its writers stand for.
//!
//! Beside the row's way: read by `upsert-sink sessions` and `verify`, and by suites. Invariant:
//! nothing here is asked by a running sink, to which journal and states are opaque.

use std::collections::BTreeMap;

pub use upsert_sink_core::journal::{JournalState, SessionRecord};
use upsert_sink_core::session::Committable;
use upsert_sink_format::sealed::{Kind, Opener};
use upsert_sink_format::tunnel::SessionRef;

use crate::checkpoint::Checkpoint;
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

/// The sessions that a checkpoint stands for, by their ids: they hold rows before its barrier, and
/// their commits were not known when it was taken.
///
/// # Errors
/// `Corrupt` or `InvalidConfig` for a state that another guest, or a newer one, has made.
pub fn of_checkpoint(checkpoint: &Checkpoint) -> Result<BTreeMap<String, SessionRef>> {
    let mut sessions = BTreeMap::new();
    for state in &checkpoint.states {
        let mut opener = Opener::open(Kind::Writer, state)?;
        opener.text()?;
        for bytes in opener.list(Opener::bytes)? {
            let session = Committable::from_bytes(bytes)?.session_ref();
            sessions.insert(session.id.0.clone(), session);
        }
        opener.finish()?;
    }
    Ok(sessions)
}
