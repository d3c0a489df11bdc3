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

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use upsert_sink::RowKind;

use crate::job::{Format, Job};
use crate::source::csv::CsvSource;
use crate::source::debezium::{DebeziumSource, RowPlace};
use crate::source::json::JsonSource;
use crate::source::lines::LineReader;
use crate::source::parquet::{ParquetFile, ParquetSource, Selection};
use crate::source::position::{InputFile, Offset};

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

/// Opens the input of a job at an offset, for batches of at most `batch_rows` rows. Envelopes of
/// Debezium need the place of their rows.
pub(crate) fn open(
    job: &Job,
    files: &[InputFile],
    place: Option<RowPlace>,
    offset: Offset,
    batch_rows: usize,
) -> anyhow::Result<Box<dyn Source>> {
    let lines = || LineReader::new(files.to_vec(), offset, batch_rows);
    Ok(match &job.format {
        Format::Parquet { columns, op } => {
            let files = files.iter().map(|file| ParquetFile::Disk(PathBuf::from(&file.path)));
            let selection = Selection { columns: columns.clone(), op: op.clone() };
            Box::new(ParquetSource::open(files.collect(), selection, offset, batch_rows)?)
        }
        Format::Json { schema, op } => {
            Box::new(JsonSource::new(lines(), Arc::clone(schema), op.clone()))
        }
        Format::Csv { schema, op, layout } => {
            let (schema, op, layout) = (Arc::clone(schema), op.clone(), layout.clone());
            Box::new(CsvSource::new(lines(), schema, op, layout))
        }
        Format::Debezium { schema } => {
            let place = place.context("envelopes are read with the place of their rows")?;
            Box::new(DebeziumSource::new(lines(), Arc::clone(schema), place))
        }
    })
}
