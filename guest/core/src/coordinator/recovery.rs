//! Recovery from dead attempts, and the retirement of sessions that no attempt needs any more.
//!
//! Under the coordinator, before its first session and behind its last writer. Invariant: nothing
//! is handed out before every writer has reported, what they restored is known to be committed, and
//! all other sessions of dead attempts are gone; a session that a writer may hold rows in is never
//! aborted; the intent is durable before an abort is sent.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::id::{Millis, SessionId};
use upsert_sink_format::tunnel::{Operation, SessionInfo, SessionRef, SessionStatus};

use super::{Coordinator, Recorded, SessionOperation, Standing};
use crate::io::{JournalAppend, Level};
use crate::journal::{JournalState, SessionRecord};
use crate::session::SessionName;

/// Records forgotten at once: a long-lived journal has tens of thousands that are past.
const FORGOTTEN_MOST: usize = 32;

/// The way from the start to the first session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Some writer has not reported.
    Gathering,
    /// Aborts of these sessions are awaited, and the commits of those that writers restored.
    Recovering { retiring: BTreeSet<SessionId>, unknown: BTreeSet<SessionId> },
    /// Sessions are handed out.
    Serving,
}

impl Phase {
    /// The commit of a session is known.
    pub(super) fn note_known(&mut self, session: &SessionId) {
        if let Self::Recovering { unknown, .. } = self {
            unknown.remove(session);
        }
    }

    fn note_gone(&mut self, session: &SessionId) {
        if let Self::Recovering { retiring, .. } = self {
            retiring.remove(session);
        }
    }
}

/// A session that is to end.
#[derive(Clone, Debug)]
pub(super) struct Retired {
    pub(super) session: SessionRef,
    /// The start that created it.
    pub(super) start: u64,
    /// Its name, if it is of this start.
    pub(super) name: Option<SessionName>,
}

impl Coordinator {
    /// Moves towards the first session as far as possible.
    pub(super) fn recover(&mut self, now: Millis) {
        if self.phase == Phase::Gathering && self.writers.iter().all(|view| view.number > 0) {
            self.begin_recovery(now);
        }
        if matches!(&self.phase, Phase::Recovering { retiring, unknown }
            if retiring.is_empty() && unknown.is_empty())
        {
            self.phase = Phase::Serving;
            self.outputs.log(Level::Info, String::from("the coordinator hands out sessions"));
        }
    }

    /// Every writer has reported: sessions that the journal calls open and no writer restored are
    /// of dead attempts.
    fn begin_recovery(&mut self, now: Millis) {
        let restored: BTreeSet<SessionId> =
            self.writers.iter().flat_map(|view| view.pending.iter().cloned()).collect();
        let unknown = restored.difference(&self.known).cloned().collect();
        let is_open = |state| matches!(state, JournalState::Aborting | JournalState::Open);
        let mut dead = core::mem::take(&mut self.journal);
        // A writer that received word of a commit before the last one reported no longer names it.
        dead.retain(|record| {
            let needed = restored.contains(&record.id) || self.known.contains(&record.id);
            is_open(record.state) && !needed
        });
        let retiring = dead.iter().map(|record| record.id.clone()).collect();
        for SessionRecord { id, partition, start, state, .. } in dead {
            let retired = Retired { session: SessionRef { id, partition }, start, name: None };
            match state {
                // A start before this one recorded the intent.
                JournalState::Aborting => self.send_abort(now, retired),
                _ => self.abort(now, retired),
            }
        }
        self.phase = Phase::Recovering { retiring, unknown };
    }

    /// Ends a session that no attempt needs any more: its commit is known, or nobody wrote to it.
    pub(super) fn retire(&mut self, now: Millis, name: SessionName, id: SessionId) {
        if self.known.remove(&id) {
            self.sessions.remove(&name);
            return;
        }
        self.sessions.insert(name.clone(), Standing::Retiring);
        let session = SessionRef { id, partition: name.partition.clone() };
        self.abort(now, Retired { session, start: name.start, name: Some(name) });
    }

    /// Ends a session: first the intent is made durable.
    fn abort(&mut self, now: Millis, retired: Retired) {
        let of = (retired.session.clone(), retired.start);
        self.record(now, of, JournalState::Aborting, Recorded::Aborting(retired));
    }

    /// Sends the abort of a session: the intent is durable.
    pub(super) fn send_abort(&mut self, now: Millis, retired: Retired) {
        let operation = Operation::AbortSession(retired.session.clone());
        self.submit(now, SessionOperation::AbortSession(retired), operation);
    }

    /// Goes on by the status of a session that could not be aborted.
    pub(super) fn retire_by_status(&mut self, now: Millis, retired: Retired, info: &SessionInfo) {
        match info.status {
            SessionStatus::Committed => {
                let line = format!(
                    "session {} of {} was to be retired, but it is committed",
                    retired.session.id, retired.session.partition
                );
                self.outputs.log(Level::Warn, line);
                self.gone(now, retired, JournalState::Committed);
            }
            SessionStatus::Aborted | SessionStatus::Expired => {
                self.gone(now, retired, JournalState::Aborted);
            }
            // The intent is durable already.
            SessionStatus::Committing | SessionStatus::Critical | SessionStatus::Normal => {
                self.send_abort(now, retired);
            }
        }
    }

    /// A session has ended. Nothing waits for its record: without it the next start would abort it
    /// once more.
    pub(super) fn gone(&mut self, now: Millis, retired: Retired, state: JournalState) {
        let Retired { session, start, name } = retired;
        self.phase.note_gone(&session.id);
        if let Some(name) = &name {
            self.sessions.remove(name);
            // A writer may want one of this name.
            self.agenda.make_stale();
        }
        let ended = Recorded::Ended(session.id.clone());
        self.record(now, (session, start), state, ended);
    }

    /// Forgets records that are past, some at a time: the journal would grow for ever.
    pub(super) fn forget_past(&mut self, now: Millis) {
        while self.forgetting() < FORGOTTEN_MOST
            && let Some(key) = self.past.pop()
        {
            let ticket = self
                .operations
                .begin(now, SessionOperation::Journal(Recorded::Forgotten(key.clone())));
            self.journal(JournalAppend { ticket, key, record: Vec::new() });
        }
    }
}
