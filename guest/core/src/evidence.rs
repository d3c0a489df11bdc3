//! The evidence that a session is committed.
//!
//! Under the committer. Invariant: a commit is known only with evidence; "not found" alone is none,
//! because an expired session answers the same (rule 5).

use alloc::format;
use alloc::string::String;

use upsert_sink_format::id::Millis;

use crate::journal::JournalState;
use crate::session::Committable;

/// The reason for which a commit is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The journal has it: an earlier attempt received the service's word.
    Journal,
    /// The service no longer knows the session, which is too young to have expired, was never
    /// aborted by this sink, and was never left alone for too long: only a commit can have ended
    /// it.
    NotFoundYoung,
    /// The service said so.
    Said,
}

const HOUR: u64 = 3_600_000;

/// Judges the answer "no such session".
///
/// Errors: the reason for which it proves nothing, in words.
pub fn judge_not_found(
    committable: &Committable,
    journal: Option<JournalState>,
    now: Millis,
    idle_limit: Millis,
) -> Result<Evidence, String> {
    match journal {
        Some(JournalState::Committed) => return Ok(Evidence::Journal),
        Some(JournalState::Aborted | JournalState::Aborting) => {
            return Err(String::from("a later start of this sink aborted it"));
        }
        Some(JournalState::Open) | None => {}
    }
    let age = now.since(committable.created_at);
    let lifecycle = Millis(u64::from(committable.lifecycle_hours) * HOUR);
    if age >= lifecycle {
        return Err(format!(
            "it is {} h old and may have expired at {} h",
            age.0 / HOUR,
            lifecycle.0 / HOUR
        ));
    }
    let idle = now.since(committable.contact_at);
    if idle > idle_limit {
        return Err(format!(
            "nothing was heard of it for {} s, more than sink.session.idle-limit of {} s",
            idle.0 / 1000,
            idle_limit.0 / 1000
        ));
    }
    Ok(Evidence::NotFoundYoung)
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::id::{CheckpointId, SessionId};

    use super::*;
    use crate::session::SessionName;

    const IDLE: Millis = Millis(HOUR);

    fn committable() -> Committable {
        let name = SessionName {
            partition: String::new(),
            start: 1,
            barrier: CheckpointId(0),
            rollover: 0,
        };
        Committable {
            identity: "sink".into(),
            name,
            session: SessionId("s".into()),
            created_at: Millis(HOUR),
            contact_at: Millis(24 * HOUR),
            lifecycle_hours: 24,
            packs: 1,
            records: 1,
            moved_out: 0,
            moved_to: Default::default(),
            after: Default::default(),
            before: Default::default(),
        }
    }

    #[test]
    fn not_found_proves_a_commit_only_while_the_session_is_young_and_in_contact() {
        let judge = |now| judge_not_found(&committable(), Some(JournalState::Open), now, IDLE);
        assert_eq!(judge(Millis(24 * HOUR + 5)), Ok(Evidence::NotFoundYoung));
        assert!(judge(Millis(25 * HOUR)).unwrap_err().contains("expired"));
        let mut idle = committable();
        idle.contact_at = Millis(2 * HOUR);
        let verdict = judge_not_found(&idle, None, Millis(4 * HOUR), IDLE);
        assert!(verdict.unwrap_err().contains("idle-limit"));
    }

    #[test]
    fn the_journal_decides_first() {
        let old = Millis(100 * HOUR);
        let judge = |state| judge_not_found(&committable(), Some(state), old, IDLE);
        assert_eq!(judge(JournalState::Committed), Ok(Evidence::Journal));
        for state in [JournalState::Aborted, JournalState::Aborting] {
            assert!(judge(state).unwrap_err().contains("aborted"), "{state:?}");
        }
    }
}
