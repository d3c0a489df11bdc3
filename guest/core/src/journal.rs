//! The records of the host's journal, each with all that is known of one session: opaque to the
//! host, given back to every later start.
//!
//! Under the coordinator and the committer, which append and are opened with all that was appended
//! (rule 6): a session's id is durable before a writer gets it, an abort before it is sent, a
//! commit before it counts as known. Invariant: a record says all that is known of its session, so
//! the newest alone counts; a damaged one is refused, never passed over.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{Millis, SessionId, Ticket};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};
use upsert_sink_format::tunnel::{Answer, Outcome, RefusalKind};

use crate::io::JournalAppend;

/// The newest that is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalState {
    /// Aborted, or unknown to the service after an abort.
    Aborted,
    /// An abort was about to be sent, or was sent.
    Aborting,
    /// Committed.
    Committed,
    /// Created; nothing else is known.
    Open,
}

/// One record: a session as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The service's id.
    pub id: SessionId,
    /// Its partition; empty for a table without partitions.
    pub partition: String,
    /// The start that created it.
    pub start: u64,
    /// Its state.
    pub state: JournalState,
    /// The time at which that became known.
    pub at: Millis,
}

impl SessionRecord {
    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let state = match self.state {
            JournalState::Open => 0,
            JournalState::Aborting => 1,
            JournalState::Aborted => 2,
            JournalState::Committed => 3,
        };
        let mut sealer = Sealer::new(Kind::Session);
        sealer.text(&self.id.0).text(&self.partition).u64(self.start).u32(state).u64(self.at.0);
        sealer.seal()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// Errors: `Corrupt` for damaged bytes, `InvalidConfig` for bytes of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Session, bytes)?;
        let id = SessionId(opener.text()?);
        let partition = opener.text()?;
        let start = opener.u64()?;
        let state = match opener.u32()? {
            0 => JournalState::Open,
            1 => JournalState::Aborting,
            2 => JournalState::Aborted,
            3 => JournalState::Committed,
            other => {
                let message = format!(
                    "the record of session {id} is damaged: {other} is no state; get the journal \
                     from a copy"
                );
                return Err(Error::corrupt("journal", message));
            }
        };
        let at = Millis(opener.u64()?);
        opener.finish()?;
        Ok(Self { id, partition, start, state, at })
    }

    /// The append that makes it durable.
    pub(crate) fn append(&self, ticket: Ticket) -> JournalAppend {
        JournalAppend { ticket, key: key(&self.id), record: self.to_bytes() }
    }

    /// Whether no start can ask about it any more: its outcome is older than any session's life,
    /// and it is of a start before this one.
    pub(crate) fn is_past(&self, now: Millis, start: u64) -> bool {
        let settled = matches!(self.state, JournalState::Aborted | JournalState::Committed);
        settled && self.start < start && self.at.plus(KEEP_OUTCOME) < now
    }
}

/// The newest record of each session; records of other kinds are left out.
///
/// Errors: as of [`SessionRecord::from_bytes`].
pub fn fold(records: &[Vec<u8>]) -> Result<BTreeMap<SessionId, SessionRecord>, Error> {
    let of_sessions = |bytes: &&Vec<u8>| Kind::of(bytes) != Some(Kind::Compaction);
    let read = |bytes: &Vec<u8>| {
        SessionRecord::from_bytes(bytes).map(|record| (record.id.clone(), record))
    };
    records.iter().filter(of_sessions).map(read).collect()
}

/// The key of a session's records.
pub(crate) fn key(session: &SessionId) -> String {
    key_of(&session.0)
}

/// The key of what is named so: the name, or the beginning of a longer one and a digest.
pub(crate) fn key_of(id: &str) -> String {
    if id.len() <= KEY_BYTES_MAX {
        return id.into();
    }
    let beginning = &id[..id.floor_char_boundary(KEY_BYTES_MAX - DIGEST_BYTES)];
    // FNV-1a. It parts ids that collide by accident, and a service has no reason to collide others.
    let digest = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
        (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{beginning}#{digest:016x}")
}

/// Whether an append is durable.
///
/// Errors: the reason for which the attempt ends if it is not. The next start reads the rest
/// that an append in doubt may have left.
pub(crate) fn check_durable(at: String, outcome: &Outcome) -> Result<(), Error> {
    let (kind, why) = match outcome {
        Outcome::Done(Answer::None) => return Ok(()),
        Outcome::Done(Answer::Bytes(_) | Answer::Session(_)) => {
            let message = "the host answered an append to its journal with something else";
            return Err(Error::bug("journal", message));
        }
        Outcome::InDoubt(why) => (ErrorKind::Retry, format!("{why}; start again")),
        Outcome::Refused(refusal) => {
            let why = &refusal.message;
            match refusal.kind {
                RefusalKind::Denied => (
                    ErrorKind::Denied,
                    format!("{why}; the host must grant its journal to coordinator and committer"),
                ),
                RefusalKind::Full => (
                    ErrorKind::Retry,
                    format!("{why}; make room on the disk of `sink.journal-dir`, then start again"),
                ),
                RefusalKind::Moved
                | RefusalKind::NotSent
                | RefusalKind::SlowDown
                | RefusalKind::Transient => (ErrorKind::Retry, format!("{why}; start again")),
                RefusalKind::Invalid
                | RefusalKind::NoSuchPartition
                | RefusalKind::NoSuchSession => (ErrorKind::Bug, why.clone()),
            }
        }
    };
    Err(Error::new(kind, at, format!("the journal did not take a record: {why}")))
}

/// The longest key that a host takes (`wit/journal.wit`).
const KEY_BYTES_MAX: usize = 256;
/// Bytes of the digest behind its sign.
const DIGEST_BYTES: usize = 17;
/// Twice the longest life of a session: after that the service has dropped it in any case.
const KEEP_OUTCOME: Millis = Millis(48 * 3_600_000);

#[cfg(test)]
mod tests {
    use upsert_sink_format::tunnel::Refusal;

    use super::*;

    fn record(id: &str, state: JournalState, at: u64) -> SessionRecord {
        let id = SessionId(id.into());
        let partition = "day='x'".into();
        SessionRecord { id, partition, start: 2, state, at: Millis(at) }
    }

    const STATES: [JournalState; 4] = [
        JournalState::Aborted,
        JournalState::Aborting,
        JournalState::Committed,
        JournalState::Open,
    ];

    #[test]
    fn a_record_is_read_back_as_written_and_a_damaged_one_is_refused() {
        for state in STATES {
            let bytes = record("s", state, 7).to_bytes();
            assert_eq!(SessionRecord::from_bytes(&bytes), Ok(record("s", state, 7)));
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x40;
                let error = SessionRecord::from_bytes(&damaged).unwrap_err();
                assert!(error.at == "journal", "byte {at}: {error}");
                assert!(SessionRecord::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
            }
        }
        let mut sealer = Sealer::new(Kind::Session);
        let bytes = sealer.text("s").text("").u64(1).u32(4).u64(0).seal();
        let error = SessionRecord::from_bytes(&bytes).unwrap_err();
        assert!(
            error.kind == ErrorKind::Corrupt && error.message.contains("4 is no state"),
            "{error}"
        );
    }

    #[test]
    fn the_newest_record_of_each_session_counts() {
        let records = [
            record("a", JournalState::Open, 1),
            record("b", JournalState::Open, 2),
            record("a", JournalState::Committed, 3),
        ];
        let bytes: Vec<Vec<u8>> = records.iter().map(SessionRecord::to_bytes).collect();
        let folded = fold(&bytes).unwrap();
        assert_eq!(
            folded.into_values().collect::<Vec<_>>(),
            [&records[2], &records[1]].map(Clone::clone)
        );
        assert!(fold(&[bytes[0].clone(), Vec::new()]).is_err(), "an empty one is none");
    }

    #[test]
    fn outcomes_are_past_after_two_days_and_open_sessions_never() {
        for state in STATES {
            let settled = matches!(state, JournalState::Aborted | JournalState::Committed);
            let record = record("s", state, 1);
            assert!(!record.is_past(Millis(1).plus(KEEP_OUTCOME), 3), "{state:?}");
            assert_eq!(record.is_past(Millis(2).plus(KEEP_OUTCOME), 3), settled, "{state:?}");
            assert!(!record.is_past(Millis(2).plus(KEEP_OUTCOME), 2), "this start's: {state:?}");
        }
    }

    #[test]
    fn every_id_has_a_key_of_its_own_that_a_host_takes() {
        let key = |id: &str| key(&SessionId(id.into()));
        assert_eq!(key("2026abc"), "2026abc");
        let longest = "ü".repeat(KEY_BYTES_MAX / 2);
        assert_eq!(key(&longest), longest);
        let one = alloc::format!("{longest}1");
        let other = alloc::format!("{longest}2");
        assert_ne!(key(&one), key(&other));
        assert!(key(&one).len() <= KEY_BYTES_MAX && key(&one).starts_with("üü"));
    }

    #[test]
    fn an_append_that_is_not_durable_ends_the_attempt_and_says_what_to_do() {
        let check = |outcome: &Outcome| check_durable("session s".into(), outcome);
        assert_eq!(check(&Outcome::Done(Answer::None)), Ok(()));
        let refused = |kind| {
            let code = String::new();
            let message = "no".into();
            let request_id = String::new();
            Outcome::Refused(Refusal { kind, code, message, request_id, retry_after: Millis(0) })
        };
        for (outcome, kind, named) in [
            (refused(RefusalKind::Denied), ErrorKind::Denied, "grant"),
            (refused(RefusalKind::Full), ErrorKind::Retry, "make room"),
            (refused(RefusalKind::Transient), ErrorKind::Retry, "start again"),
            (refused(RefusalKind::Invalid), ErrorKind::Bug, "no"),
            (Outcome::InDoubt("lost".into()), ErrorKind::Retry, "start again"),
            (Outcome::Done(Answer::Bytes(Vec::new())), ErrorKind::Bug, "something else"),
        ] {
            let error = check(&outcome).unwrap_err();
            assert!(error.kind == kind && error.message.contains(named), "{error:?}");
        }
    }
}
