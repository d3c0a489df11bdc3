//! Where rows come from: Parquet, CSV, newline-delimited JSON, and Debezium envelopes.
//!
//! `job.rs` says which one, `engine.rs` reads batches and hands them to the sink. Invariant: a
//! batch ends at the end of an event, and its `end` is where reading goes on if everything before
//! it is committed.

pub(crate) mod columns;
pub(crate) mod csv;
pub(crate) mod debezium;
pub(crate) mod files;
pub(crate) mod json;
pub(crate) mod kinds;
pub(crate) mod lines;
pub(crate) mod parquet;
pub(crate) mod position;
pub(crate) mod types;
pub(crate) mod value;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use position::Offset;
use upsert_sink::RowKind;

/// At most this many rows are read at once: what the sink takes in one call.
pub(crate) const BATCH_ROWS_MAX: usize = 8192;

/// A run of events, as rows.
#[derive(Debug)]
pub(crate) struct Events {
    /// The rows; one event may be two of them, or none.
    pub(crate) rows: RecordBatch,
    /// The kind of each row. Empty: all are inserts.
    pub(crate) kinds: Vec<RowKind>,
    /// How many events these are.
    pub(crate) events: u64,
    /// Where the next event begins.
    pub(crate) end: Offset,
}

/// A sequence of events that is always the same.
pub(crate) trait Source: Send {
    /// The columns of the rows.
    fn schema(&self) -> SchemaRef;

    /// The next events; none at the end.
    ///
    /// Errors: an input that cannot be read or understood, with its file and line or row.
    fn next(&mut self) -> anyhow::Result<Option<Events>>;
}
