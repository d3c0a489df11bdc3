//! The core's outputs as calls of the imports.
//!
//! Between `sink.rs`, `writer.rs` and the host. Invariant: one output, one call.

use upsert_sink_core::io::{CacheCommand, JournalAppend, Level, Telemetry, TunnelCommand};
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::Ticket;
use upsert_sink_format::tunnel::{CachedRange, Operation, SessionRef};

use crate::bindings::upsert_sink::plugin::{file_cache, journal, telemetry, timers, tunnel, types};

pub(crate) fn command(command: TunnelCommand) {
    match command {
        TunnelCommand::Release(ticket) => tunnel::release(ticket.0),
        TunnelCommand::Repeat(ticket) => tunnel::repeat(ticket.0),
        TunnelCommand::Submit(ticket, submitted) => tunnel::submit(ticket.0, &operation(submitted)),
    }
}

pub(crate) fn append(JournalAppend { ticket, key, record }: JournalAppend) {
    journal::append(ticket.0, &key, &record);
}

fn operation(operation: Operation) -> tunnel::Operation {
    match operation {
        Operation::AbortSession(session) => tunnel::Operation::AbortSession(reference(session)),
        Operation::CommitSession(session) => tunnel::Operation::CommitSession(reference(session)),
        Operation::CompactPartition(partition) => tunnel::Operation::CompactPartition(partition),
        Operation::CreatePartition(partition) => tunnel::Operation::CreatePartition(partition),
        Operation::CreateSession { partition, lifecycle_hours, slots } => {
            let create = tunnel::CreateSession { partition, lifecycle_hours, slots };
            tunnel::Operation::CreateSession(create)
        }
        Operation::PutPack { session, bucket, records, cached, body } => {
            let (session, body) = (reference(session), pack_body(cached, body));
            tunnel::Operation::PutPack(tunnel::Pack { session, bucket: bucket.0, records, body })
        }
        Operation::SessionStatus(session) => tunnel::Operation::SessionStatus(reference(session)),
    }
}

fn pack_body(cached: Vec<CachedRange>, body: Vec<u8>) -> tunnel::PackBody {
    if cached.is_empty() {
        return tunnel::PackBody::Bytes(body);
    }
    let range = |CachedRange { segment, offset, length }| tunnel::CachedRange {
        segment: u64::from(segment.0),
        offset: u64::from(offset),
        length: u64::from(length),
    };
    let ranges = cached.into_iter().map(range).collect();
    tunnel::PackBody::Cached(tunnel::CachedPack { ranges, trailer: body })
}

pub(crate) fn cache(command: CacheCommand) {
    match command {
        CacheCommand::Append(Ticket(ticket), segment, bytes) => {
            file_cache::append(ticket, u64::from(segment.0), &bytes);
        }
        CacheCommand::Drop(segment) => file_cache::drop_segment(u64::from(segment.0)),
        CacheCommand::Seal(Ticket(ticket), segment) => {
            file_cache::seal(ticket, u64::from(segment.0));
        }
    }
}

fn reference(session: SessionRef) -> tunnel::SessionRef {
    tunnel::SessionRef { id: session.id.0, partition: session.partition }
}

pub(crate) fn tell(telemetry: Telemetry) {
    match telemetry {
        Telemetry::Count(name, value) => telemetry::count(name, value),
        Telemetry::Log(level, line) => {
            let level = same!(level, Level => telemetry::Level: Debug, Info, Warn);
            telemetry::log(level, &line);
        }
    }
}

pub(crate) fn set_timer(deadline: Option<upsert_sink_format::id::Millis>) {
    timers::set(deadline.map(|deadline| deadline.0));
}

pub(crate) fn error(error: Error) -> types::Error {
    let kind = same!(error.kind, ErrorKind => types::ErrorKind:
        Bug, Corrupt, Denied, InvalidConfig, InvalidRow, Retry, SessionLost, SlowDown);
    types::Error { kind, at: error.at, message: error.message }
}
