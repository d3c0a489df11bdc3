//! No session is left open: whatever the journal knows of has ended when the sink has.
//!
//! A session whose creation nobody heard of is nobody's; the service drops it in the end.
//! Invariant: asked when all of the input is committed and the sink is closed.

use anyhow::{Result, ensure};
use upsert_sink::journal::Contents;
use upsert_sink_server::Service;

/// Every session in the journal has ended.
pub(crate) fn left_open(journal: &Contents, service: &Service) -> Result<()> {
    for (id, session) in &journal.sessions {
        let status = service.session_status(id);
        let open = matches!(status, Some("normal" | "committing"));
        ensure!(!open, "session {id}, {session:?} in the journal, is left {status:?}");
    }
    Ok(())
}
