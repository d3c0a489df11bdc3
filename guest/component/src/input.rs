//! WIT arguments as the core's inputs. Invariant: the same facts under the core's types.

use upsert_sink_core::io;
use upsert_sink_format::id::{Millis, SessionId, Ticket, WriterIndex};
use upsert_sink_format::tunnel as to;

use crate::bindings::upsert_sink::plugin::{events, tunnel, types};

pub(crate) fn task(task: types::Task) -> io::Task {
    io::Task {
        identity: task.identity,
        start: task.start,
        nonce: task.nonce,
        parallelism: task.parallelism,
        index: WriterIndex(task.index),
        options: task.options.into_iter().map(|option| (option.name, option.value)).collect(),
        columns: task.columns.into_iter().map(|column| (column.name, column.row_type)).collect(),
        table: to::TableDescription {
            name: task.table.name,
            columns: task.table.columns.into_iter().map(column).collect(),
            partition_columns: task.table.partition_columns.into_iter().map(column).collect(),
            primary_key: task.table.primary_key,
            buckets: task.table.buckets,
        },
        local: task.local,
        checkpoint_interval: Millis(task.checkpoint_interval),
        before_images: task.before_images,
        cache_bytes: 0,
    }
}

fn column(column: types::TableColumn) -> to::ColumnDescription {
    let types::TableColumn { name, column_type, nullable } = column;
    to::ColumnDescription { name, column_type, nullable }
}

pub(crate) fn checkpoint_outcome(outcome: types::CheckpointOutcome) -> io::CheckpointOutcome {
    same!(outcome, types::CheckpointOutcome => io::CheckpointOutcome: Aborted, Completed)
}

pub(crate) fn completion(completion: events::Completion) -> io::Completion {
    use events::{Answer, Outcome};
    let outcome = match completion.outcome {
        Outcome::Done(Answer::Bytes(bytes)) => to::Outcome::Done(to::Answer::Bytes(bytes)),
        Outcome::Done(Answer::None) => to::Outcome::Done(to::Answer::None),
        Outcome::Done(Answer::Session(it)) => to::Outcome::Done(to::Answer::Session(session(it))),
        Outcome::InDoubt(doubt) => to::Outcome::InDoubt(doubt),
        Outcome::Refused(refused) => to::Outcome::Refused(refusal(refused)),
    };
    io::Completion { ticket: Ticket(completion.ticket), outcome }
}

fn session(session: tunnel::Session) -> to::SessionInfo {
    to::SessionInfo {
        id: SessionId(session.id),
        status: same!(session.status, tunnel::SessionStatus => to::SessionStatus:
            Aborted, Committed, Committing, Critical, Expired, Normal),
        buckets: session.buckets,
        hasher: session.hasher,
        hash_key: session.hash_key,
        columns: session.columns.into_iter().map(column).collect(),
        column_ids: session.column_ids,
        partial_update: session.partial_update,
    }
}

fn refusal(refusal: events::Refusal) -> to::Refusal {
    to::Refusal {
        kind: same!(refusal.kind, events::RefusalKind => to::RefusalKind: Denied, Full, Invalid,
            Moved, NoSuchPartition, NoSuchSession, NotSent, SlowDown, Transient),
        code: refusal.code,
        message: refusal.message,
        request_id: refusal.request_id,
        retry_after: Millis(refusal.retry_after),
    }
}
