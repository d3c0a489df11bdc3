//! Everything that enters and leaves the machines, on one page.
//!
//! Between `wit/` and the machines: the component's shell turns calls into inputs and outputs into
//! calls, one to one. Invariant: inputs are past facts, outputs are imperatives; effects that
//! must be durable or sent together are one value.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use upsert_sink_format::id::{CheckpointId, Millis, SegmentId, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{Operation, Outcome, TableDescription};

/// The task that a role is opened with: the same for all roles of one sink but for the index.
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
    /// The number of this writer; zero in the other roles.
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
    /// The bytes of the file cache that the host grants this instance; zero if there is none.
    pub cache_bytes: u64,
}

/// A command to the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelCommand {
    /// Make the first attempt at an operation.
    Submit(Ticket, Operation),
    /// Make another attempt, with the same bytes.
    Repeat(Ticket),
    /// Forget the operation and free its bytes.
    Release(Ticket),
}

/// A command to the file cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheCommand {
    /// Append bytes to a segment; the first append begins it.
    Append(Ticket, SegmentId, Arc<Vec<u8>>),
    /// Forget a segment.
    Drop(SegmentId),
    /// Take no more appends to a segment.
    Seal(Ticket, SegmentId),
}

/// A record for the host's journal: durable before its completion.
///
/// It takes the place of earlier records of its key; an empty one forgets the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalAppend {
    /// Its ticket, of the same numbers as those of the Tunnel.
    pub ticket: Ticket,
    /// The key of the record.
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
    /// The outcome of the attempt.
    pub outcome: Outcome,
}

/// The purpose of a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BarrierKind {
    /// A checkpoint, or a savepoint with which the sink is stopped: it ends.
    Checkpoint,
    /// An intermediate savepoint: it never completes, and what it holds waits for the next
    /// checkpoint.
    Savepoint,
}

/// The end of a checkpoint of the engine.
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

/// The gravity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For developers.
    Debug,
    /// The course of things.
    Info,
    /// Something to look at.
    Warn,
}

/// An input of a writer.
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
    /// Rows have arrived: one batch.
    RowsArrived(#[cfg_attr(feature = "serde", serde(borrow, with = "serde_bytes"))] &'a [u8]),
    /// The deadline has passed.
    TimerFired,
}

/// An output of a writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriterOutput {
    /// Use the file cache.
    Cache(CacheCommand),
    /// Keep refused rows: lines of JSON.
    DeadLetter(Vec<u8>),
    /// Ask the coordinator.
    Request(Vec<u8>),
    /// Hand restored committables to the committer.
    Restored(Vec<Vec<u8>>),
    /// Answer a barrier.
    Snapshot(Snapshot),
    /// Give the operator a line or a count.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}

/// The answer to a barrier: stored together or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The barrier.
    pub checkpoint: CheckpointId,
    /// The writer's state: versioned bytes.
    pub state: Vec<u8>,
    /// One for each session with rows of this writer whose commit is not known.
    pub committables: Vec<Vec<u8>>,
}

/// An input of a coordinator.
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

/// An output of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoordinatorOutput {
    /// Append to the journal.
    Journal(JournalAppend),
    /// Answer the host's request of this number.
    Reply(u64, Vec<u8>),
    /// Give the operator a line or a count.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}

/// An input of a committer.
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

/// An output of a committer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitterOutput {
    /// Append to the journal.
    Journal(JournalAppend),
    /// Send the coordinator the sessions that have become known.
    Known(Vec<u8>),
    /// Give the operator a line or a count.
    Tell(Telemetry),
    /// Use the Tunnel.
    Tunnel(TunnelCommand),
}
