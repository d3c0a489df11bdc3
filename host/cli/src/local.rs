//! The embedded server as a job sees it: started on a directory, with its table created, and read
//! back, batch by batch.
//!
//! `command/run.rs` and `command/demo/mod.rs` use it when the job names no endpoint. Invariant: the
//! sink talks to it over TCP like to any other endpoint; only reading back takes the short way over
//! the files.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::array_value_to_string;
use futures::TryStreamExt;
use upsert_sink_server::{Server, ServerComponents, ServerSettings, TableRows};

use crate::fold::{Comparison, Fold, FoldColumns};
use crate::job::JobTable;
use crate::sink;
use crate::sink::Options;

/// The server's one project.
pub(crate) const PROJECT: &str = "local";

/// Starts a server on `dir`.
pub(crate) async fn start(dir: &Path) -> anyhow::Result<Server> {
    Ok(Server::start(ServerSettings::new(dir), ServerComponents::system()).await?)
}

/// The options that lead a sink to the server, where the job does not set them.
pub(crate) fn point_at(server: &Server, options: &mut Options) {
    sink::set_default(options, sink::ENDPOINT, server.endpoint());
    sink::set_default(options, sink::TUNNEL_ENDPOINT, format!("http://{}", server.address()));
    sink::set_default(options, sink::PROJECT, PROJECT);
    // The local server takes any key.
    sink::set_default(options, sink::ACCESS_ID, "local");
    sink::set_default(options, sink::ACCESS_KEY, "local");
}

/// The rows of these columns of a table, as they are read.
pub(crate) async fn rows(
    dir: &Path,
    table: &JobTable,
    columns: &[String],
) -> anyhow::Result<TableRows> {
    let rows = upsert_sink_server::table_rows(dir, &table.name, Some(columns)).await;
    rows.with_context(|| format!("table {} of {}", table.name, dir.display()))
}

/// How many rows a table has, in how many partitions that are not empty.
pub(crate) async fn size(dir: &Path, table: &JobTable) -> anyhow::Result<(u64, u64)> {
    let names = table.partition_names();
    let mut batches = rows(dir, table, &names).await?;
    let (mut rows, mut partitions) = (0, BTreeSet::new());
    while let Some(batch) = batches.try_next().await? {
        rows += batch.num_rows() as u64;
        partitions.extend(partition_of(&batch)?);
    }
    let partitions = if names.is_empty() { 1 } else { partitions.len() as u64 };
    Ok((rows, partitions))
}

/// The values of the one partition that a batch of partition columns is of, if it has rows.
fn partition_of(batch: &RecordBatch) -> anyhow::Result<Option<Vec<String>>> {
    if batch.num_rows() == 0 {
        return Ok(None);
    }
    let value = |column: &ArrayRef| array_value_to_string(column, 0);
    let values: Result<Vec<String>, _> = batch.columns().iter().map(value).collect();
    Ok(Some(values?))
}

/// Compares a table with a fold of its feed, batch by batch.
pub(crate) async fn compare(
    dir: &Path,
    table: &JobTable,
    mut fold: Fold,
    columns: &FoldColumns,
) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    let mut batches = rows(dir, table, &columns.all).await?;
    while let Some(batch) = batches.try_next().await? {
        fold.take(&batch, columns, &mut found)?;
    }
    fold.finish(&mut found);
    Ok(found)
}
