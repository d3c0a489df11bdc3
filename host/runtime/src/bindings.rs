//! The contract of `wit/` as Rust types, and their translation into the core's words.
//!
//! Between `instance.rs` (calls of exports) and `capability/` (imports). Invariant: the only
//! `bindgen!`; a translation is one to one and decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use upsert_sink_core::io;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::SessionId;
use upsert_sink_format::tunnel as format;
use upsert_sink_tunnel::PackBody;

use crate::file_cache::FileCache;
use crate::operation::{CachedBody, Operation, SubmittedBody, SubmittedPack};

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; documented in wit/")]
mod generated {
    #[cfg(not(packaged))]
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "sink",
        imports: { default: trappable },
    });
    // A package has no repository around it (`build.rs`).
    #[cfg(packaged)]
    wasmtime::component::bindgen!({
        path: "packaged/wit",
        world: "sink",
        imports: { default: trappable },
    });
}

pub(crate) use generated::exports::upsert_sink::plugin::{
    committer, coordinator, describe, writer,
};
pub(crate) use generated::upsert_sink::plugin::{
    events, file_cache, journal, telemetry, timers, tunnel, types,
};
pub(crate) use generated::{Sink, SinkPre};

impl From<types::Error> for Error {
    fn from(error: types::Error) -> Self {
        let kind = match error.kind {
            types::ErrorKind::Retry => ErrorKind::Retry,
            types::ErrorKind::SlowDown => ErrorKind::SlowDown,
            types::ErrorKind::SessionLost => ErrorKind::SessionLost,
            types::ErrorKind::InvalidConfig => ErrorKind::InvalidConfig,
            types::ErrorKind::InvalidRow => ErrorKind::InvalidRow,
            types::ErrorKind::Denied => ErrorKind::Denied,
            types::ErrorKind::Corrupt => ErrorKind::Corrupt,
            types::ErrorKind::Bug => ErrorKind::Bug,
        };
        Self::new(kind, error.at, error.message)
    }
}

impl From<&io::Task> for types::Task {
    fn from(task: &io::Task) -> Self {
        Self {
            identity: task.identity.clone(),
            start: task.start,
            nonce: task.nonce,
            parallelism: task.parallelism,
            index: task.index.0,
            options: pairs(&task.options, |name, value| types::Setting { name, value }),
            columns: pairs(&task.columns, |name, row_type| types::RowColumn { name, row_type }),
            table: types::Table::from(&task.table),
            local: task.local,
            checkpoint_interval: task.checkpoint_interval.0,
            before_images: task.before_images,
        }
    }
}

fn pairs<T>(list: &[(String, String)], build: impl Fn(String, String) -> T) -> Vec<T> {
    list.iter().map(|(first, second)| build(first.clone(), second.clone())).collect()
}

impl From<&format::TableDescription> for types::Table {
    fn from(table: &format::TableDescription) -> Self {
        Self {
            name: table.name.clone(),
            columns: columns(&table.columns),
            partition_columns: columns(&table.partition_columns),
            primary_key: table.primary_key.clone(),
            buckets: table.buckets,
        }
    }
}

fn columns(columns: &[format::ColumnDescription]) -> Vec<types::TableColumn> {
    let column = |column: &format::ColumnDescription| types::TableColumn {
        name: column.name.clone(),
        column_type: column.column_type.clone(),
        nullable: column.nullable,
    };
    columns.iter().map(column).collect()
}

impl From<io::BarrierKind> for types::BarrierKind {
    fn from(kind: io::BarrierKind) -> Self {
        match kind {
            io::BarrierKind::Checkpoint => Self::Checkpoint,
            io::BarrierKind::Savepoint => Self::Savepoint,
        }
    }
}

impl From<io::CheckpointOutcome> for types::CheckpointOutcome {
    fn from(outcome: io::CheckpointOutcome) -> Self {
        match outcome {
            io::CheckpointOutcome::Aborted => Self::Aborted,
            io::CheckpointOutcome::Completed => Self::Completed,
        }
    }
}

impl From<tunnel::SessionRef> for format::SessionRef {
    fn from(session: tunnel::SessionRef) -> Self {
        Self { id: SessionId(session.id), partition: session.partition }
    }
}

/// An operation as the guest submits it; what it says of its file cache is looked up there.
pub(crate) fn operation(operation: tunnel::Operation, cache: Option<&Arc<FileCache>>) -> Operation {
    match operation {
        tunnel::Operation::CreatePartition(partition) => Operation::CreatePartition(partition),
        tunnel::Operation::CreateSession(create) => Operation::CreateSession {
            partition: create.partition,
            lifecycle_hours: create.lifecycle_hours,
            slots: create.slots,
        },
        tunnel::Operation::PutPack(pack) => {
            let tunnel::Pack { session, bucket, records, body } = pack;
            let (session, body) = (session.into(), submitted(body, cache));
            Operation::PutPack(SubmittedPack { session, bucket, records, body })
        }
        tunnel::Operation::CommitSession(session) => Operation::CommitSession(session.into()),
        tunnel::Operation::AbortSession(session) => Operation::AbortSession(session.into()),
        tunnel::Operation::SessionStatus(session) => Operation::SessionStatus(session.into()),
        tunnel::Operation::CompactPartition(partition) => Operation::CompactPartition(partition),
    }
}

fn submitted(body: tunnel::PackBody, cache: Option<&Arc<FileCache>>) -> SubmittedBody {
    match body {
        tunnel::PackBody::Bytes(bytes) => SubmittedBody::Held(PackBody::new(Bytes::from(bytes))),
        tunnel::PackBody::Cached(tunnel::CachedPack { ranges, trailer }) => {
            let held = ranges.iter().map(|range| {
                let tunnel::CachedRange { segment, offset, length } = range;
                cache?.hold(*segment, *offset, *length)
            });
            SubmittedBody::Cached(CachedBody::new(held.collect(), trailer))
        }
    }
}

impl From<io::Completion> for events::Event {
    fn from(completion: io::Completion) -> Self {
        let outcome = match completion.outcome {
            format::Outcome::Done(answer) => events::Outcome::Done(match answer {
                format::Answer::Bytes(bytes) => events::Answer::Bytes(bytes),
                format::Answer::None => events::Answer::None,
                format::Answer::Session(session) => events::Answer::Session(session.into()),
            }),
            format::Outcome::InDoubt(why) => events::Outcome::InDoubt(why),
            format::Outcome::Refused(refusal) => events::Outcome::Refused(refusal.into()),
        };
        Self::Completed(events::Completion { ticket: completion.ticket.0, outcome })
    }
}

impl From<format::SessionInfo> for tunnel::Session {
    fn from(session: format::SessionInfo) -> Self {
        let status = match session.status {
            format::SessionStatus::Aborted => tunnel::SessionStatus::Aborted,
            format::SessionStatus::Committed => tunnel::SessionStatus::Committed,
            format::SessionStatus::Committing => tunnel::SessionStatus::Committing,
            format::SessionStatus::Critical => tunnel::SessionStatus::Critical,
            format::SessionStatus::Expired => tunnel::SessionStatus::Expired,
            format::SessionStatus::Normal => tunnel::SessionStatus::Normal,
        };
        Self {
            id: session.id.0,
            status,
            buckets: session.buckets,
            hasher: session.hasher,
            hash_key: session.hash_key,
            columns: columns(&session.columns),
            column_ids: session.column_ids,
            partial_update: session.partial_update,
        }
    }
}

impl From<format::Refusal> for events::Refusal {
    fn from(refusal: format::Refusal) -> Self {
        let kind = match refusal.kind {
            format::RefusalKind::Denied => events::RefusalKind::Denied,
            format::RefusalKind::Full => events::RefusalKind::Full,
            format::RefusalKind::Invalid => events::RefusalKind::Invalid,
            format::RefusalKind::Moved => events::RefusalKind::Moved,
            format::RefusalKind::NoSuchPartition => events::RefusalKind::NoSuchPartition,
            format::RefusalKind::NoSuchSession => events::RefusalKind::NoSuchSession,
            format::RefusalKind::NotSent => events::RefusalKind::NotSent,
            format::RefusalKind::SlowDown => events::RefusalKind::SlowDown,
            format::RefusalKind::Transient => events::RefusalKind::Transient,
        };
        Self {
            kind,
            code: refusal.code,
            message: refusal.message,
            request_id: refusal.request_id,
            retry_after: refusal.retry_after.0,
        }
    }
}
