//! The file caches of a script's writers: appends that end when a command says so.
//!
//! Beside `world.rs`. Invariant: a pack is given its cached bytes when it is submitted, as a host
//! does that keeps them until it is released; nothing of a cache survives a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use upsert_sink_core::io::{CacheCommand, Completion, WriterInput};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::{SegmentId, Ticket};
use upsert_sink_format::tunnel::{Answer, CachedRange, Operation, Outcome, RefusalKind};

use super::tunnel::refused;
use super::world::World;

/// The caches of all writers.
#[derive(Default)]
pub(crate) struct Caches {
    /// The bytes that each writer is granted.
    pub(crate) granted: u64,
    segments: BTreeMap<(usize, SegmentId), Vec<u8>>,
    appends: Vec<(usize, Ticket, SegmentId, Arc<Vec<u8>>)>,
    /// Packs that had cached records.
    pub(crate) packs: usize,
    /// Appends that were refused.
    pub(crate) refused: usize,
}

impl Caches {
    pub(super) fn crash(&mut self) {
        self.segments.clear();
        self.appends.clear();
    }

    pub(super) fn command(&mut self, writer: usize, command: CacheCommand) {
        match command {
            CacheCommand::Append(ticket, segment, bytes) => {
                let busy = self.appends.iter().any(|(other, ..)| *other == writer);
                assert!(!busy || self.granted > 0, "a cache that is not granted is not used");
                self.appends.push((writer, ticket, segment, bytes));
            }
            CacheCommand::Drop(segment) => {
                self.segments.remove(&(writer, segment));
            }
            CacheCommand::Seal(..) => {}
        }
    }

    /// The operation with all its bytes.
    pub(super) fn resolve(&mut self, writer: usize, operation: Operation) -> Operation {
        let Operation::PutPack { session, bucket, records, cached, body } = operation else {
            return operation;
        };
        self.packs += usize::from(!cached.is_empty());
        let mut whole = Vec::new();
        for CachedRange { segment, offset, length } in cached {
            let bytes = &self.segments[&(writer, segment)];
            whole.extend_from_slice(&bytes[offset as usize..][..length as usize]);
        }
        whole.extend(body);
        Operation::PutPack { session, bucket, records, cached: Vec::new(), body: whole }
    }
}

impl World {
    /// Appends to the caches that have no outcome yet.
    pub(crate) fn cache_appends(&self) -> usize {
        self.caches.appends.len()
    }

    /// The append at this place is done, or refused for this reason.
    pub(crate) fn end_cache_append(
        &mut self,
        at: usize,
        refusal: Option<RefusalKind>,
    ) -> Result<(), Error> {
        let (writer, ticket, segment, bytes) = self.caches.appends.remove(at);
        let held = self.caches.segments.entry((writer, segment)).or_default();
        let outcome = match refusal {
            None => {
                held.extend_from_slice(&bytes);
                Outcome::Done(Answer::None)
            }
            Some(kind) => {
                self.caches.refused += 1;
                refused(kind, "the disk")
            }
        };
        self.writer(writer, WriterInput::Completed(Completion { ticket, outcome }))
    }
}
