//! Everything that enters and leaves the machines, on one page.
//!
//! Between `wit/` and the machines: the component's shell turns calls into inputs and outputs into
//! calls, one to one. Invariant: inputs are past facts, outputs are imperatives; what must be
//! durable or sent together is one value.

use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::id::{CheckpointId, Millis, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{Operation, Outcome, TableDescription};

/// What every role is opened with; all roles of one sink are given the same.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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

/// The outcome of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Completion {
    /// The operation.
    pub ticket: Ticket,
    /// What became of it.
    pub outcome: Outcome,
}

/// What a barrier is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BarrierKind {
    /// A checkpoint, or a savepoint with which the sink is stopped: its end is told.
    Checkpoint,
    /// An intermediate savepoint: it never completes, and what it holds waits for the next
    /// checkpoint.
    Savepoint,
}

/// How a checkpoint of the engine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum WriterInput<'a> {
    /// A barrier has arrived.
    BarrierArrived(CheckpointId, BarrierKind),
    /// A checkpoint has ended.
    CheckpointEnded(CheckpointId, CheckpointOutcome),
    /// An operation has an outcome.
    Completed(Completion),
    /// The coordinator replied.
    Replied(#[cfg_attr(feature = "serde", serde(borrow, with = "serde_bytes"))] &'a [u8]),
    /// Rows came: one batch.
    RowsArrived(#[cfg_attr(feature = "serde", serde(borrow, with = "serde_bytes"))] &'a [u8]),
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CoordinatorInput<'a> {
    /// An operation has an outcome.
    Completed(Completion),
    /// The committer knows more.
    KnownCommits(#[cfg_attr(feature = "serde", serde(borrow, with = "serde_bytes"))] &'a [u8]),
    /// A writer asks; the number is the host's.
    Requested(u64, #[cfg_attr(feature = "serde", serde(borrow, with = "serde_bytes"))] &'a [u8]),
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
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
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
