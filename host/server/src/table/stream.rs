//! Streams of merged rows: partitions, one after another, read a little ahead.
//!
//! Between `merge.rs` and whoever reads: downloads, queries, users of the crate. Invariant: reading
//! ahead is bounded by [`BATCHES_AHEAD`], and nothing is read for a stream that was
//! dropped.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::catalog::Table;
use super::merge::{KEY_BYTES_MAX, PartitionFiles, Scan};
use super::read_error::ReadError;
use super::rows::query_schema;

/// Merged rows, as they are read. A batch is of one partition.
pub(crate) type Batches = BoxStream<'static, Result<RecordBatch, ReadError>>;

/// The wanted columns of a table, by their index in its columns followed by its partition columns.
pub(crate) fn scan(
    table: &Table,
    projection: Vec<usize>,
    objects: Arc<dyn ObjectStore>,
) -> Result<Scan, ReadError> {
    let schema = Arc::new(query_schema(&table.schema).project(&projection)?);
    let table = Arc::clone(&table.schema);
    Ok(Scan { objects, table, projection, schema, key_bytes_max: KEY_BYTES_MAX })
}

/// All columns of a table without those that name partitions, in the schema of its files.
pub(crate) fn whole_rows(
    table: &Table,
    file_schema: &SchemaRef,
    objects: Arc<dyn ObjectStore>,
) -> Result<Scan, ReadError> {
    let all: Vec<usize> = (0..table.schema.columns.len()).collect();
    let schema = Arc::new(file_schema.project(&all)?);
    Ok(Scan { schema, ..scan(table, all, objects)? })
}

/// The rows of these partitions, one after another, each in the same order whenever it is read.
pub(crate) fn merged(scan: Scan, partitions: Vec<PartitionFiles>) -> Batches {
    let (send, receive) = mpsc::channel(BATCHES_AHEAD);
    // It is aborted when the stream is dropped.
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        for partition in &partitions {
            if !scan.run(partition, &send).await? {
                break;
            }
        }
        Ok(())
    });
    futures::stream::unfold((receive, reading), next).boxed()
}

/// The rows of one partition: its columns, without those that name partitions.
pub(crate) fn partition_rows(
    table: &Table,
    values: &[String],
    objects: Arc<dyn ObjectStore>,
) -> Result<Batches, ReadError> {
    let scan = scan(table, (0..table.schema.columns.len()).collect(), objects)?;
    let files = table.partitions.get(values).cloned().unwrap_or_default();
    Ok(merged(scan, vec![PartitionFiles { values: values.to_vec(), files }]))
}

/// Where batches arrive, and the task that sends them.
type Reading = (mpsc::Receiver<Result<RecordBatch, ReadError>>, JoinSet<Result<(), ReadError>>);

/// The next batch; after the last one, why there are no more if that is an error.
async fn next(mut state: Reading) -> Option<(Result<RecordBatch, ReadError>, Reading)> {
    let (receive, reading) = &mut state;
    if let Some(batch) = receive.recv().await {
        return Some((batch, state));
    }
    let error = match reading.join_next().await? {
        Ok(Ok(())) => return None,
        Ok(Err(error)) => error,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => ReadError::Stopped,
        },
    };
    Some((Err(error), state))
}

/// Batches that are read before they are asked for.
const BATCHES_AHEAD: usize = 1;
