//! The inputs and effects of machines, in small words that states are made of.
//!
//! Between the production types of `io` and the world. Invariant: a word stands for one value, and
//! nothing that a machine could see of it is left out.

use upsert_sink_core::io::{
    BarrierKind, CheckpointOutcome, Completion, JournalAppend, TunnelCommand, WriterInput,
};
use upsert_sink_core::journal::{JournalState, SessionRecord};
use upsert_sink_core::session::SessionName;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, Ticket};
use upsert_sink_format::tunnel::{
    Answer, Operation, Outcome, Refusal, RefusalKind, SessionRef, SessionStatus,
};

use crate::task::{Rows, session_id, session_info, session_number};

/// The number of a byte string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Blob(pub(crate) u32);

/// A session's name: start, barrier, rollover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) u8, pub(crate) u8, pub(crate) u8);

/// A request of a machine to the Tunnel or to the journal; sessions by number, rows as bits of
/// their positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// Abort a session.
    Abort(u8),
    /// Append a record to the journal.
    Append(Journalled),
    /// Commit it.
    Commit(u8),
    /// Create one.
    Create,
    /// Write a pack.
    Put {
        /// Where to.
        session: u8,
        /// The bucket of the rows.
        bucket: u8,
        /// Which rows.
        rows: u16,
    },
    /// Ask for its status.
    Status(u8),
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answered {
    Done,
    Doubt,
    NoSuchSession,
    Refused,
    Session(u8, Status),
}

/// The status of a session, as the service reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Status {
    Aborted,
    Committed,
    Committing,
    Normal,
}

/// An input of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Input {
    Barrier(u8, bool),
    Completed(u8, Answered),
    Ended(u8, bool),
    Known(Blob),
    Prepared(u8, Vec<Blob>),
    Replied(Blob),
    Requested(u8, Blob),
    Row { key: u8, position: u8, full: bool },
    Timer,
}

/// How a machine is opened.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Opening {
    pub(crate) role: Role,
    pub(crate) start: u8,
    pub(crate) launch: u8,
    pub(crate) parallelism: u8,
}

/// Which machine, and what only it is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Committer(Vec<Journalled>),
    Coordinator(Vec<Journalled>),
    Writer(u8, Vec<Blob>),
}

/// One session in the journal: number, start, state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Journalled(pub(crate) u8, pub(crate) u8, pub(crate) JournalledAs);

/// The state of a session in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum JournalledAs {
    Aborted,
    Aborting,
    Committed,
    Open,
}

/// An effect that a machine asks for.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Known(Blob, Vec<u8>),
    Release(u8),
    Repeat(u8),
    Reply(u8, Blob, Vec<(u8, Name)>),
    Request(Asked),
    Restored(Vec<Blob>),
    Snapshot(u8, Blob, Vec<Blob>),
    Submit(u8, Op),
}

/// A writer's request, and what of it is looked at.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) body: Blob,
    pub(crate) number: u64,
    pub(crate) passed: u8,
    pub(crate) wanted: Vec<Name>,
}

/// Why an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Try again.
    Retry(String),
    /// A session that a checkpoint holds can no longer be committed.
    SessionLost(u8),
    /// A failure that should never happen here.
    Unexpected(String),
}

pub(crate) fn failure(error: &Error) -> Failure {
    match error.kind {
        ErrorKind::Retry => Failure::Retry(error.to_string()),
        ErrorKind::SessionLost => {
            let (_, session) = error.at.rsplit_once("session s").expect("it names the session");
            Failure::SessionLost(session.parse().expect("sessions are numbered"))
        }
        _ => Failure::Unexpected(error.to_string()),
    }
}

pub(crate) fn tunnel_effect(command: TunnelCommand) -> Effect {
    let number = |session: &SessionRef| session_number(&session.id);
    match command {
        TunnelCommand::Release(ticket) => Effect::Release(small(ticket.0)),
        TunnelCommand::Repeat(ticket) => Effect::Repeat(small(ticket.0)),
        TunnelCommand::Submit(ticket, operation) => {
            let op = match &operation {
                Operation::AbortSession(session) => Op::Abort(number(session)),
                Operation::CommitSession(session) => Op::Commit(number(session)),
                Operation::CompactPartition(name) => panic!("{name}: compaction is off"),
                Operation::CreatePartition(name) => panic!("{name} is there"),
                Operation::CreateSession { .. } => Op::Create,
                Operation::PutPack { session, bucket, body, .. } => Op::Put {
                    session: number(session),
                    bucket: small(bucket.0.into()),
                    rows: Rows::positions(body),
                },
                Operation::SessionStatus(session) => Op::Status(number(session)),
            };
            Effect::Submit(small(ticket.0), op)
        }
    }
}

pub(crate) fn plain_writer_input(input: &Input) -> WriterInput<'static> {
    match input {
        Input::Barrier(id, savepoint) => {
            let kind = if *savepoint { BarrierKind::Savepoint } else { BarrierKind::Checkpoint };
            WriterInput::BarrierArrived(checkpoint(*id), kind)
        }
        Input::Completed(ticket, answered) => {
            WriterInput::Completed(completion(*ticket, *answered))
        }
        Input::Ended(id, completed) => {
            WriterInput::CheckpointEnded(checkpoint(*id), outcome(*completed))
        }
        Input::Timer => WriterInput::TimerFired,
        other => panic!("no writer is told {other:?}"),
    }
}

pub(crate) fn completion(ticket: u8, answered: Answered) -> Completion {
    let refused = |kind| {
        let (code, message) = (String::from("Refused"), String::from("the model says so"));
        let (request_id, retry_after) = (String::from("r"), Millis(0));
        Outcome::Refused(Refusal { kind, code, message, request_id, retry_after })
    };
    let outcome = match answered {
        Answered::Done => Outcome::Done(Answer::None),
        Answered::Doubt => Outcome::InDoubt(String::from("no answer")),
        Answered::NoSuchSession => refused(RefusalKind::NoSuchSession),
        Answered::Refused => refused(RefusalKind::Invalid),
        Answered::Session(number, status) => {
            let status = match status {
                Status::Aborted => SessionStatus::Aborted,
                Status::Committed => SessionStatus::Committed,
                Status::Committing => SessionStatus::Committing,
                Status::Normal => SessionStatus::Normal,
            };
            Outcome::Done(Answer::Session(session_info(number, status)))
        }
    };
    Completion { ticket: Ticket(ticket.into()), outcome }
}

/// The records as a machine is given them. When something became known is no part of a state: in
/// the hours of a model nothing is old enough to be forgotten.
pub(crate) fn records(journal: &[Journalled], now: u64) -> Vec<Vec<u8>> {
    let one = |Journalled(number, start, state): &Journalled| SessionRecord {
        id: session_id(*number),
        partition: String::new(),
        start: (*start).into(),
        state: match state {
            JournalledAs::Aborted => JournalState::Aborted,
            JournalledAs::Aborting => JournalState::Aborting,
            JournalledAs::Committed => JournalState::Committed,
            JournalledAs::Open => JournalState::Open,
        },
        at: Millis(now),
    };
    journal.iter().map(|journalled| one(journalled).to_bytes()).collect()
}

pub(crate) fn append_effect(append: &JournalAppend) -> Effect {
    let record = SessionRecord::from_bytes(&append.record).expect("a machine wrote it");
    let state = match record.state {
        JournalState::Aborted => JournalledAs::Aborted,
        JournalState::Aborting => JournalledAs::Aborting,
        JournalState::Committed => JournalledAs::Committed,
        JournalState::Open => JournalledAs::Open,
    };
    let journalled = Journalled(session_number(&record.id), small(record.start), state);
    Effect::Submit(small(append.ticket.0), Op::Append(journalled))
}

pub(crate) fn name(name: &SessionName) -> Name {
    Name(small(name.start), small(name.barrier.0), small(name.rollover.into()))
}

pub(crate) fn checkpoint(id: u8) -> CheckpointId {
    CheckpointId(id.into())
}

pub(crate) fn outcome(completed: bool) -> CheckpointOutcome {
    if completed { CheckpointOutcome::Completed } else { CheckpointOutcome::Aborted }
}

pub(crate) fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the bounds keep every number small")
}
