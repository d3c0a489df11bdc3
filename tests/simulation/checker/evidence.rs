//! The sink's beliefs are true: no commit is taken for granted without evidence.
//!
//! Asked after every attempt, of the journal that it left. Invariant: what the journal calls
//! committed is in the server's log, and what it calls aborted is not. The second half cannot be
//! promised of a service that forgets sessions which have ended: there an abort learns no more than
//! that the service does not know the session.

use anyhow::{Result, ensure};
use upsert_sink::journal::Contents;
use upsert_sink::sessions::{self, JournalState};
use upsert_sink_server::Service;

/// The journal and the server agree.
pub(crate) fn evidence(journal: &Contents, service: &Service, forgets: bool) -> Result<()> {
    for (id, session) in sessions::of(journal)? {
        let is_committed = service.session_status(&id) == Some("committed");
        match session.state {
            JournalState::Committed => {
                ensure!(is_committed, "the journal calls session {id} committed, which it is not");
            }
            JournalState::Aborted if !forgets => {
                ensure!(!is_committed, "the journal calls session {id} aborted: it is committed");
            }
            JournalState::Open | JournalState::Aborting | JournalState::Aborted => {}
        }
    }
    Ok(())
}
