//! No session is left open: whatever the journal knows of has ended when the sink has.
//!
//! A session whose creation nobody heard of is nobody's; the service drops it in the end.
//! Invariant: asked when all of the input is committed and the sink is closed.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use upsert_sink::journal::Contents;
use upsert_sink::sessions;
use upsert_sink_server::Service;

/// Every session in the journal has ended, and every one that a writer had: its id was durable
/// before.
pub(crate) fn left_open(
    journal: &Contents,
    written: &BTreeSet<String>,
    service: &Service,
) -> Result<()> {
    let journalled = sessions::of(journal)?;
    for id in journalled.keys().chain(written) {
        let status = service.session_status(id);
        let open = matches!(status, Some("normal" | "committing"));
        let known = journalled.get(id);
        ensure!(!open, "session {id}, {known:?} in the journal, is left {status:?}");
    }
    Ok(())
}
