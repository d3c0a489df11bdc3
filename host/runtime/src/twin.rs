//! A guest that is no component: where a simulation puts the native core in place of its sandbox,
//! looks at every call, and breaks an import.
//!
//! Beside `instance.rs`, which asks it in place of wasmtime. Invariant: a twin is given what a
//! component is given, and what it wants goes through the same tickets, timer and telemetry;
//! without a twin or a probe nothing is different.

use std::sync::Arc;

use upsert_sink_core::io::{
    CacheCommand, CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput,
    JournalAppend, Level, Task, Telemetry, TunnelCommand, WriterInput, WriterOutput,
};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{
    Answer, Operation, Outcome, RefusalKind, SessionRef, SessionStatus,
};

use crate::bindings::{
    committer, coordinator, file_cache, journal, telemetry, timers, tunnel, writer,
};
use crate::capability::Capabilities;
pub use crate::capability::watch::{Called, Probe};

/// The result of a call.
pub struct Turn<O> {
    /// Whether the role takes more: a writer rows, a coordinator requests for sessions, a committer
    /// checkpoints.
    pub ready: bool,
    /// A writer's held bytes, a committer's pending sessions.
    pub held: u64,
    /// A committer's newest committed checkpoint.
    pub committed: u64,
    /// When to call with the timer.
    pub deadline: Option<Millis>,
    /// All outputs, in their order.
    pub outputs: Vec<O>,
}

/// One guest, with one role. Every call is one of `wit/`.
pub trait Twin: Send {
    /// # Errors
    /// The guest's.
    fn open_writer(
        &mut self,
        now: Millis,
        task: &Task,
        states: &[Vec<u8>],
    ) -> Result<Turn<WriterOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn writer(&mut self, now: Millis, input: WriterInput<'_>) -> Result<Turn<WriterOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn open_coordinator(
        &mut self,
        now: Millis,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CoordinatorOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn coordinator(
        &mut self,
        now: Millis,
        input: CoordinatorInput<'_>,
    ) -> Result<Turn<CoordinatorOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn open_committer(
        &mut self,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CommitterOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn committer(
        &mut self,
        now: Millis,
        input: CommitterInput,
    ) -> Result<Turn<CommitterOutput>, Error>;

    /// # Errors
    /// The guest's.
    fn open_router(&mut self, task: &Task) -> Result<(), Error>;

    /// # Errors
    /// The guest's.
    fn keys(&mut self, batch: &[u8]) -> Result<Vec<u32>, Error>;
}

/// Makes the twin of each instance.
pub type MakeTwin = Arc<dyn Fn() -> Box<dyn Twin> + Send + Sync>;

/// Opens a writer as a component does: it asks for the quota of its file cache.
pub(crate) fn open_writer(
    host: &mut Capabilities,
    twin: &mut dyn Twin,
    now: Millis,
    task: &Task,
    states: &[Vec<u8>],
) -> wasmtime::Result<crate::error::Result<writer::Progress>> {
    let cache_bytes = file_cache::Host::quota(host)?.granted_bytes;
    let task = Task { cache_bytes, ..task.clone() };
    writer(host, twin.open_writer(now, &task, states))
}

/// A writer's turn as a component would answer it.
pub(crate) fn writer(
    host: &mut Capabilities,
    turn: Result<Turn<WriterOutput>, Error>,
) -> wasmtime::Result<crate::error::Result<writer::Progress>> {
    let Turn { ready, held, deadline, outputs, .. } = match turn {
        Ok(turn) => turn,
        Err(error) => return Ok(Err(error)),
    };
    let mut kept = Vec::new();
    for output in outputs {
        match output {
            WriterOutput::Cache(wanted) => cache(host, wanted)?,
            WriterOutput::DeadLetter(lines) => kept.push(writer::Output::DeadLetter(lines)),
            WriterOutput::Request(request) => kept.push(writer::Output::Request(request)),
            WriterOutput::Restored(committables) => {
                kept.push(writer::Output::Restored(committables));
            }
            WriterOutput::Snapshot(taken) => {
                kept.push(writer::Output::Snapshot(writer::Snapshot {
                    checkpoint: taken.checkpoint.0,
                    state: taken.state,
                    committables: taken.committables,
                }));
            }
            WriterOutput::Tell(told) => tell(host, told)?,
            WriterOutput::Tunnel(wanted) => command(host, wanted)?,
        }
    }
    set_timer(host, deadline)?;
    Ok(Ok(writer::Progress { accepting: ready, held_bytes: held, outputs: kept }))
}

/// A coordinator's turn as a component would answer it.
pub(crate) fn coordinator(
    host: &mut Capabilities,
    turn: Result<Turn<CoordinatorOutput>, Error>,
) -> wasmtime::Result<crate::error::Result<coordinator::Progress>> {
    let Turn { ready, deadline, outputs, .. } = match turn {
        Ok(turn) => turn,
        Err(error) => return Ok(Err(error)),
    };
    let mut replies = Vec::new();
    for output in outputs {
        match output {
            CoordinatorOutput::Journal(wanted) => append(host, wanted)?,
            CoordinatorOutput::Reply(request, body) => {
                replies.push(coordinator::Reply { request, body });
            }
            CoordinatorOutput::Tell(told) => tell(host, told)?,
            CoordinatorOutput::Tunnel(wanted) => command(host, wanted)?,
        }
    }
    set_timer(host, deadline)?;
    Ok(Ok(coordinator::Progress { serving: ready, replies }))
}

/// A committer's turn as a component would answer it.
pub(crate) fn committer(
    host: &mut Capabilities,
    turn: Result<Turn<CommitterOutput>, Error>,
) -> wasmtime::Result<crate::error::Result<committer::Progress>> {
    let Turn { held, committed, deadline, outputs, .. } = match turn {
        Ok(turn) => turn,
        Err(error) => return Ok(Err(error)),
    };
    let mut known = Vec::new();
    for output in outputs {
        match output {
            CommitterOutput::Journal(wanted) => append(host, wanted)?,
            CommitterOutput::Known(bytes) => known.push(bytes),
            CommitterOutput::Tell(told) => tell(host, told)?,
            CommitterOutput::Tunnel(wanted) => command(host, wanted)?,
        }
    }
    set_timer(host, deadline)?;
    let pending = u32::try_from(held).unwrap_or(u32::MAX);
    Ok(Ok(committer::Progress { pending, committed, known }))
}

/// The name of an outcome, for whoever counts.
pub(crate) fn outcome(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done(Answer::Bytes(_)) => "done, bytes",
        Outcome::Done(Answer::None) => "done",
        Outcome::Done(Answer::Session(session)) => match session.status {
            SessionStatus::Aborted => "done, aborted",
            SessionStatus::Committed => "done, committed",
            SessionStatus::Committing => "done, committing",
            SessionStatus::Critical => "done, critical",
            SessionStatus::Expired => "done, expired",
            SessionStatus::Normal => "done, normal",
        },
        Outcome::InDoubt(_) => "in doubt",
        Outcome::Refused(refusal) => match refusal.kind {
            RefusalKind::Denied => "refused, denied",
            RefusalKind::Full => "refused, full",
            RefusalKind::Invalid => "refused, invalid",
            RefusalKind::Moved => "refused, moved",
            RefusalKind::NoSuchPartition => "refused, no such partition",
            RefusalKind::NoSuchSession => "refused, no such session",
            RefusalKind::NotSent => "not sent",
            RefusalKind::SlowDown => "refused, slow down",
            RefusalKind::Transient => "refused, transient",
        },
    }
}

/// Carries out what a twin wants, through the imports that a component would call.
fn command(host: &mut Capabilities, command: TunnelCommand) -> wasmtime::Result<()> {
    match command {
        TunnelCommand::Release(ticket) => tunnel::Host::release(host, ticket.0),
        TunnelCommand::Repeat(ticket) => tunnel::Host::repeat(host, ticket.0),
        TunnelCommand::Submit(ticket, submitted) => {
            tunnel::Host::submit(host, ticket.0, operation(submitted))
        }
    }
}

/// Uses the file cache as a twin wants.
fn cache(host: &mut Capabilities, wanted: CacheCommand) -> wasmtime::Result<()> {
    match wanted {
        CacheCommand::Append(ticket, segment, bytes) => {
            file_cache::Host::append(host, ticket.0, segment.0.into(), bytes.to_vec())
        }
        CacheCommand::Drop(segment) => file_cache::Host::drop_segment(host, segment.0.into()),
        CacheCommand::Seal(ticket, segment) => {
            file_cache::Host::seal(host, ticket.0, segment.0.into())
        }
    }
}

/// Appends what a twin wants in the journal.
fn append(host: &mut Capabilities, append: JournalAppend) -> wasmtime::Result<()> {
    let JournalAppend { ticket, key, record } = append;
    journal::Host::append(host, ticket.0, key, record)
}

/// Tells what a twin tells.
fn tell(host: &mut Capabilities, told: Telemetry) -> wasmtime::Result<()> {
    match told {
        Telemetry::Count(name, value) => telemetry::Host::count(host, name.to_owned(), value),
        Telemetry::Log(level, line) => {
            let level = match level {
                Level::Debug => telemetry::Level::Debug,
                Level::Info => telemetry::Level::Info,
                Level::Warn => telemetry::Level::Warn,
            };
            telemetry::Host::log(host, level, line)
        }
    }
}

/// Sets a twin's timer, as a component does after every call.
fn set_timer(host: &mut Capabilities, at: Option<Millis>) -> wasmtime::Result<()> {
    timers::Host::set(host, at.map(|at| at.0))
}

fn operation(operation: Operation) -> tunnel::Operation {
    let session =
        |session: SessionRef| tunnel::SessionRef { id: session.id.0, partition: session.partition };
    match operation {
        Operation::AbortSession(aborted) => tunnel::Operation::AbortSession(session(aborted)),
        Operation::CommitSession(committed) => tunnel::Operation::CommitSession(session(committed)),
        Operation::CompactPartition(partition) => tunnel::Operation::CompactPartition(partition),
        Operation::CreatePartition(partition) => tunnel::Operation::CreatePartition(partition),
        Operation::CreateSession { partition, lifecycle_hours, slots } => {
            let create = tunnel::CreateSession { partition, lifecycle_hours, slots };
            tunnel::Operation::CreateSession(create)
        }
        Operation::PutPack { session: into, bucket, records, cached, body } => {
            let body = match cached.is_empty() {
                true => tunnel::PackBody::Bytes(body),
                false => {
                    let ranges = cached.into_iter().map(|range| tunnel::CachedRange {
                        segment: range.segment.0.into(),
                        offset: range.offset.into(),
                        length: range.length.into(),
                    });
                    let ranges = ranges.collect();
                    tunnel::PackBody::Cached(tunnel::CachedPack { ranges, trailer: body })
                }
            };
            let session = session(into);
            let pack = tunnel::Pack { session, bucket: bucket.0, records, body };
            tunnel::Operation::PutPack(pack)
        }
        Operation::SessionStatus(asked) => tunnel::Operation::SessionStatus(session(asked)),
    }
}
