//! The session of each of a writer's partitions: asked for, open, left.
//!
//! After `flush` in a row's way: a pack goes into the session that its partition has open.
//! Invariant: a session with a pack in doubt takes no further pack of this writer.

use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::id::{CheckpointId, Millis, SessionId};

use super::{Grant, SessionName};

/// The state of a partition's session in one writer.
///
/// | state | `ask` | `grant` of this name | `doubt` of this session | `leave` |
/// |---|---|---|---|---|
/// | `Absent` | → `Awaiting` | ignored | ignored | stays |
/// | `Awaiting` | stays | → `Open` | ignored | → `Absent` |
/// | `Open` | stays | ignored | → `Absent`, next rollover | → `Absent` |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SessionState {
    /// None is open and none was asked for; the next is of this rollover.
    #[default]
    Absent,
    /// The coordinator was asked.
    Awaiting(SessionName),
    /// Packs may go into it.
    Open(OpenSession),
}

/// A session that packs may go into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenSession {
    /// Its name.
    pub(crate) name: SessionName,
    /// The service's id.
    pub(crate) id: SessionId,
    /// A time at which it was certainly not older than this.
    pub(crate) created_at: Millis,
    /// The ids by which a partial row names columns.
    pub(crate) column_ids: Vec<i64>,
}

/// One partition's session, and the rollovers behind it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionSession {
    state: SessionState,
    rollover: u32,
}

impl PartitionSession {
    /// The session that packs may go into.
    pub(crate) fn open(&self) -> Option<&OpenSession> {
        match &self.state {
            SessionState::Open(open) => Some(open),
            SessionState::Absent | SessionState::Awaiting(_) => None,
        }
    }

    /// The name that is asked for.
    pub(crate) fn awaited(&self) -> Option<&SessionName> {
        match &self.state {
            SessionState::Awaiting(name) => Some(name),
            SessionState::Absent | SessionState::Open(_) => None,
        }
    }

    /// Asks for a session if there is none. True if that is new.
    pub(crate) fn ask(&mut self, partition: &str, start: u64, barrier: CheckpointId) -> bool {
        match self.state {
            SessionState::Awaiting(_) | SessionState::Open(_) => false,
            SessionState::Absent => {
                let partition = String::from(partition);
                let rollover = self.rollover;
                let name = SessionName { partition, start, barrier, rollover };
                self.state = SessionState::Awaiting(name);
                true
            }
        }
    }

    /// The coordinator has answered. False if this name is not asked for any more.
    pub(crate) fn grant(&mut self, grant: &Grant) -> bool {
        match &self.state {
            SessionState::Awaiting(name) if *name == grant.name => {
                self.state = SessionState::Open(OpenSession {
                    name: grant.name.clone(),
                    id: grant.info.id.clone(),
                    created_at: grant.created_at,
                    column_ids: grant.info.column_ids.clone(),
                });
                true
            }
            SessionState::Absent | SessionState::Awaiting(_) | SessionState::Open(_) => false,
        }
    }

    /// A pack of this session is in doubt: it takes no further pack. False if it is not the open
    /// one.
    pub(crate) fn doubt(&mut self, session: &SessionId) -> bool {
        match &self.state {
            SessionState::Open(open) if open.id == *session => {
                self.state = SessionState::Absent;
                self.rollover = self.rollover.saturating_add(1);
                true
            }
            SessionState::Absent | SessionState::Awaiting(_) | SessionState::Open(_) => false,
        }
    }

    /// A barrier was passed or skipped: later rows belong to a session of another name.
    pub(crate) fn leave(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::{grant, name};

    #[test]
    fn a_doubted_session_takes_no_further_pack() {
        let mut session = PartitionSession::default();
        assert!(session.ask("day='x'", 1, CheckpointId(3)));
        assert!(!session.ask("day='x'", 1, CheckpointId(3)));
        assert!(session.grant(&grant(&name(1, 3, 0), "a")));
        assert!(session.doubt(&SessionId("a".into())));
        assert!(session.open().is_none());
        session.ask("day='x'", 1, CheckpointId(3));
        assert_eq!(session.awaited(), Some(&name(1, 3, 1)));
        assert!(!session.grant(&grant(&name(1, 3, 0), "a")), "a late reply reopens it");
        assert!(!session.doubt(&SessionId("a".into())), "a second doubt rolls over again");
    }

    /// Every state × input of the table above.
    #[test]
    fn every_pair_of_state_and_input_is_decided_as_the_table_says() {
        let first = name(1, 3, 0);
        let second = name(1, 3, 1);
        let absent = PartitionSession::default();
        let mut awaiting = absent.clone();
        awaiting.ask("day='x'", 1, CheckpointId(3));
        let mut open = awaiting.clone();
        open.grant(&grant(&first, "a"));
        let after = |session: &PartitionSession, input: &dyn Fn(&mut PartitionSession) -> bool| {
            let mut session = session.clone();
            let changed = input(&mut session);
            (changed, session.awaited().cloned(), session.open().map(|open| open.id.0.clone()))
        };
        let ask = |session: &mut PartitionSession| session.ask("day='x'", 1, CheckpointId(3));
        let ours = |session: &mut PartitionSession| session.grant(&grant(&first, "a"));
        let other = |session: &mut PartitionSession| session.grant(&grant(&second, "b"));
        let doubt = |session: &mut PartitionSession| session.doubt(&SessionId("a".into()));
        let foreign = |session: &mut PartitionSession| session.doubt(&SessionId("b".into()));
        let leave = |session: &mut PartitionSession| {
            session.leave();
            true
        };
        let asked = Some(first.clone());
        let a = Some(String::from("a"));
        assert_eq!(after(&absent, &ask), (true, asked.clone(), None));
        assert_eq!(after(&awaiting, &ask), (false, asked.clone(), None));
        assert_eq!(after(&open, &ask), (false, None, a.clone()));
        assert_eq!(after(&absent, &ours), (false, None, None));
        assert_eq!(after(&awaiting, &ours), (true, None, a.clone()));
        assert_eq!(after(&open, &ours), (false, None, a.clone()));
        for state in [&absent, &awaiting, &open] {
            let held = after(state, &|_| false);
            assert_eq!(after(state, &other), held, "a session of another name was taken");
            assert_eq!(after(state, &foreign), held, "a doubt of another session was taken");
            assert_eq!(after(state, &leave), (true, None, None));
        }
        assert_eq!(after(&absent, &doubt), (false, None, None));
        assert_eq!(after(&awaiting, &doubt), (false, asked, None));
        assert_eq!(after(&open, &doubt), (true, None, None));
    }
}
