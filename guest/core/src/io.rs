//! Everything that enters and leaves the machines, on one page.
//!
//! Between `wit/` and the machines: the component's shell turns calls into inputs and outputs into
//! calls, one to one. Invariant: inputs are past facts, outputs are imperatives; what must be
//! durable or sent together is one value.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{BucketId, CheckpointId, Millis, SessionId, Ticket, WriterIndex};

/// What every role is opened with; all roles of one sink are given the same.
#[derive(Clone, Debug)]
pub struct Task {
    /// The sink's lasting name, kept beside the host's journal.
    pub identity: String,
    /// The number of this start: one more than the highest that the journal holds.
    pub start: u64,
    /// Random, drawn for this start.
    pub nonce: u64,
    /// The number of writers, at least one.
    pub parallelism: u32,
    /// Which writer this is; zero in the other roles.
    pub index: WriterIndex,
    /// The guest's options as the user wrote them: name, value.
    pub options: Vec<(String, String)>,
    /// The rows' columns: name, row type (`wit/README.md`).
    pub columns: Vec<(String, String)>,
    /// The target as its catalog describes it, not yet parsed.
    pub table: TableDescription,
    /// Whether the endpoint is the embedded local server.
    pub local: bool,
    /// The engine's checkpoint interval; zero if it is not known.
    pub checkpoint_interval: Millis,
    /// Whether the engine sends an update-before with every update that may move a row.
    pub before_images: bool,
}

/// The target table as its catalog describes it.
#[derive(Clone, Debug)]
pub struct TableDescription {
    /// Its full name, for messages.
    pub name: String,
    /// The columns stored in rows.
    pub columns: Vec<ColumnDescription>,
    /// The columns that name a partition, outermost first.
    pub partition_columns: Vec<ColumnDescription>,
    /// The names of the primary key's columns.
    pub primary_key: Vec<String>,
    /// Hash buckets of each partition.
    pub buckets: u32,
}

/// One column as the catalog writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type, such as `varchar(20)`.
    pub column_type: String,
    /// Whether a row may leave it empty.
    pub nullable: bool,
}

/// Names an upsert session to the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The service's id.
    pub id: SessionId,
    /// Its partition, such as `day='2013-01-01'`; empty without partitions.
    pub partition: String,
}

/// One request to the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Abort a session.
    AbortSession(SessionRef),
    /// Commit a session.
    CommitSession(SessionRef),
    /// Create a partition, if there is none.
    CreatePartition(String),
    /// Create a session.
    CreateSession {
        /// The partition it writes to.
        partition: String,
        /// Hours until the service may drop it.
        lifecycle_hours: u32,
        /// Tunnel slots to write through.
        slots: u32,
    },
    /// Write rows of one bucket.
    PutPack {
        /// Where they go.
        session: SessionRef,
        /// The bucket that all of them hash to.
        bucket: BucketId,
        /// How many records.
        records: u32,
        /// The pack, trailer included.
        body: Vec<u8>,
    },
    /// Ask for a session's status.
    SessionStatus(SessionRef),
}

/// What a machine asks of the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelCommand {
    /// Make the first attempt at an operation.
    Submit(Ticket, Operation),
    /// Make another attempt, with the same bytes.
    Repeat(Ticket),
    /// Forget the operation and free its bytes.
    Release(Ticket),
}

/// A record for the host's journal: durable before its completion is told.
///
/// It takes the place of earlier records of its key; an empty one forgets the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalAppend {
    /// Of the same numbers as the tickets of the Tunnel.
    pub ticket: Ticket,
    /// What it is of.
    pub key: String,
    /// The bytes, of which the host understands nothing.
    pub record: Vec<u8>,
}

/// What the service says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// Aborted.
    Aborted,
    /// Committed.
    Committed,
    /// A commit is under way.
    Committing,
    /// Broken; it can only be aborted.
    Critical,
    /// Dropped for its age.
    Expired,
    /// Open.
    Normal,
}

/// A session as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Its state.
    pub status: SessionStatus,
    /// The number of buckets.
    pub buckets: u32,
    /// How keys are hashed: `default` or `legacy`.
    pub hasher: String,
    /// The columns that are hashed.
    pub hash_key: Vec<String>,
    /// The columns of its records, in order, as the service writes them.
    pub columns: Vec<ColumnDescription>,
    /// The ids by which a partial row names these columns; empty if the service does not tell.
    pub column_ids: Vec<i64>,
    /// Whether it takes partial rows.
    pub partial_update: bool,
}

/// What was answered, if all went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Bytes that were read.
    Bytes(Vec<u8>),
    /// Nothing but that it is done.
    None,
    /// A session.
    Session(SessionInfo),
}

/// Why an attempt certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Credentials, permission, or a grant of the host.
    Denied,
    /// The journal or the file cache has no room.
    Full,
    /// The service calls the request wrong: repeating it will not help.
    Invalid,
    /// The bucket has moved; repeat.
    Moved,
    /// No such partition.
    NoSuchPartition,
    /// No such session.
    NoSuchSession,
    /// Nothing was sent.
    NotSent,
    /// Busy, or a quota is used up.
    SlowDown,
    /// A reason of the moment: a conflict, or a pack damaged on its way; repeat.
    Transient,
}

/// A definite no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// The service's code; may be empty.
    pub code: String,
    /// The service's message, or the host's.
    pub message: String,
    /// The service's id of the request; may be empty.
    pub request_id: String,
    /// How long it asks to wait; zero if it does not say.
    pub retry_after: Millis,
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out, and the service said so.
    Done(Answer),
    /// It may have been carried out, or may yet be.
    InDoubt(String),
    /// It certainly had no effect.
    Refused(Refusal),
}

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The operation.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a barrier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarrierKind {
    /// A checkpoint, or a savepoint with which the sink is stopped: its end is told.
    Checkpoint,
    /// An intermediate savepoint: it never completes, and what it holds waits for the next
    /// checkpoint.
    Savepoint,
}

/// How a checkpoint of the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// It will never complete.
    Aborted,
    /// It is durable.
    Completed,
}

/// A line for the operator, or a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telemetry {
    /// Adds to a counter.
    Count(&'static str, u64),
    /// One line.
    Log(Level, String),
}

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug,
    /// The course of things.
    Info,
    /// Something to look at.
    Warn,
}

/// What a writer is told.
#[derive(Clone, Debug)]
pub enum WriterInput<'a> {
    /// A barrier has arrived.
    BarrierArrived(CheckpointId, BarrierKind),
    /// A checkpoint has ended.
    CheckpointEnded(CheckpointId, CheckpointOutcome),
    /// An operation has an outcome.
    Completed(Completion),
    /// The coordinator replied.
    Replied(&'a [u8]),
    /// Rows came: one batch.
    RowsArrived(&'a [u8]),
    /// The deadline has passed.
    TimerFired,
}

/// What a writer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterOutput {
    /// Keep refused rows: lines of JSON.
    DeadLetter(Vec<u8>),
    /// Ask the coordinator.
    Request(Vec<u8>),
    /// Hand restored committables to the committer.
    Restored(Vec<Vec<u8>>),
    /// Answer a barrier.
    Snapshot(Snapshot),
    /// Tell the operator.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}

/// What a barrier is answered with: stored together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The barrier.
    pub checkpoint: CheckpointId,
    /// The writer's state: versioned bytes.
    pub state: Vec<u8>,
    /// One for each session with rows of this writer whose commit is not known.
    pub committables: Vec<Vec<u8>>,
}

/// What a coordinator is told.
#[derive(Clone, Debug)]
pub enum CoordinatorInput<'a> {
    /// An operation has an outcome.
    Completed(Completion),
    /// The committer knows more.
    KnownCommits(&'a [u8]),
    /// A writer asks; the number is the host's.
    Requested(u64, &'a [u8]),
    /// The deadline has passed.
    TimerFired,
}

/// What a coordinator wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorOutput {
    /// Append to the journal.
    Journal(JournalAppend),
    /// Answer the host's request of this number.
    Reply(u64, Vec<u8>),
    /// Tell the operator.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}

/// What a committer is told.
#[derive(Clone, Debug)]
pub enum CommitterInput {
    /// A checkpoint has ended.
    CheckpointEnded(CheckpointId, CheckpointOutcome),
    /// An operation has an outcome.
    Completed(Completion),
    /// All writers passed a barrier; these are their committables.
    Prepared(CheckpointId, Vec<Vec<u8>>),
    /// The deadline has passed.
    TimerFired,
}

/// What a committer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitterOutput {
    /// Append to the journal.
    Journal(JournalAppend),
    /// Tell the coordinator which sessions have become known.
    Known(Vec<u8>),
    /// Tell the operator.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}
