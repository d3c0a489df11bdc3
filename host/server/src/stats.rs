//! Counts of a server since its start, and its open sessions: for operators and tests.
//!
//! `admission.rs`, `sessions.rs` and `compactions.rs` count, `/stats` and `Server::stats` show.
//! Invariant: a counter only rises.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::session::SessionFacts;
use crate::table::catalog::Catalog;
use crate::table::partition;

/// Counts since the server's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Requests that reached the service, except those for these counts and for fault rules.
    pub http_requests: u64,
    /// Requests that were answered with an error.
    pub refused: u64,
    /// Upsert sessions created.
    pub sessions_created: u64,
    /// Upsert sessions aborted.
    pub sessions_aborted: u64,
    /// Upsert sessions that are open now.
    pub sessions_open: u64,
    /// Upsert sessions committed.
    pub commits: u64,
    /// Partitions whose files a major compaction has merged.
    pub compactions: u64,
    /// Packs acknowledged.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The version of the commit log, over all starts.
    pub log_version: u64,
}

/// An upsert session that is neither committed nor aborted nor expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenSessionStats {
    /// Its id.
    pub id: String,
    /// Its table.
    pub table: String,
    /// Its partition, such as `day='2013-01-01'`; empty without partitions.
    pub partition: String,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created: u64,
    /// Hours after which it expires.
    pub lifecycle_hours: u32,
    /// Packs that it holds.
    pub packs: u64,
}

impl OpenSessionStats {
    pub(crate) fn new(facts: &SessionFacts, packs: usize, catalog: &Catalog) -> Self {
        let table = catalog.table_by_id(&facts.table_id);
        Self {
            id: facts.id.clone(),
            table: facts.table.clone(),
            partition: table.map_or_else(
                || facts.partition.join(","),
                |table| partition::display(&table.schema, &facts.partition),
            ),
            created: facts.created_ms,
            lifecycle_hours: facts.lifecycle_hours,
            packs: packs as u64,
        }
    }
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    http_requests: AtomicU64,
    refused: AtomicU64,
    sessions_created: AtomicU64,
    sessions_aborted: AtomicU64,
    commits: AtomicU64,
    compactions: AtomicU64,
    packs: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn count_request(&self) {
        add(&self.http_requests, 1);
    }

    pub(crate) fn count_refusal(&self) {
        add(&self.refused, 1);
    }

    pub(crate) fn count_session(&self) {
        add(&self.sessions_created, 1);
    }

    pub(crate) fn count_abort(&self) {
        add(&self.sessions_aborted, 1);
    }

    pub(crate) fn count_commit(&self) {
        add(&self.commits, 1);
    }

    pub(crate) fn count_compaction(&self) {
        add(&self.compactions, 1);
    }

    pub(crate) fn count_pack(&self, records: u32, bytes: usize) {
        add(&self.packs, 1);
        add(&self.records, u64::from(records));
        add(&self.bytes, bytes as u64);
    }

    pub(crate) fn stats(&self, sessions_open: u64, log_version: u64) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            http_requests: read(&self.http_requests),
            refused: read(&self.refused),
            sessions_created: read(&self.sessions_created),
            sessions_aborted: read(&self.sessions_aborted),
            sessions_open,
            commits: read(&self.commits),
            compactions: read(&self.compactions),
            packs: read(&self.packs),
            records: read(&self.records),
            bytes: read(&self.bytes),
            log_version,
        }
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
