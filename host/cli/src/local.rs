//! The embedded server as a job sees it: started on a directory, with its table created, and read
//! back by queries.
//!
//! `command/run.rs` and `command/demo.rs` use it when the job names no endpoint. Invariant: the
//! sink talks to it over TCP like to any other endpoint; only reading back takes the short way over
//! the files.

use std::path::Path;

use anyhow::Context;
use arrow_array::Array;
use arrow_array::Int64Array;
use arrow_array::RecordBatch;
use arrow_array::StringArray;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::DataType;
use upsert_sink_server::Components;
use upsert_sink_server::Server;
use upsert_sink_server::ServerSettings;

use crate::fold::Comparison;
use crate::fold::Fold;
use crate::fold::FoldColumns;
use crate::job::TableDefinition;
use crate::sink;
use crate::sink::Options;

/// The server's one project.
pub(crate) const PROJECT: &str = "local";

/// Queries that read a table back: each opens the directory anew, and holds its rows in memory.
const PARTS_MAX: usize = 16;

/// Starts a server on `dir`.
pub(crate) async fn start(dir: &Path) -> anyhow::Result<Server> {
    Ok(Server::start(ServerSettings::new(dir), Components::system()).await?)
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

/// Runs a query over the directory.
pub(crate) async fn query(dir: &Path, sql: &str) -> anyhow::Result<Vec<RecordBatch>> {
    upsert_sink_server::query(dir, sql).await.with_context(|| format!("query {sql:?}"))
}

/// The numbers of a query's only row; a sum over no rows is 0.
pub(crate) async fn numbers(dir: &Path, sql: &str) -> anyhow::Result<Vec<i64>> {
    let batches = query(dir, sql).await?;
    let row = batches.iter().find(|batch| batch.num_rows() > 0).context("a query without a row")?;
    let mut numbers = Vec::with_capacity(row.num_columns());
    for column in row.columns() {
        let column = arrow_cast::cast(column, &DataType::Int64)?;
        let column: &Int64Array = column.as_primitive::<Int64Type>();
        numbers.push(if column.is_null(0) { 0 } else { column.value(0) });
    }
    Ok(numbers)
}

/// How many rows a table has, in how many partitions that are not empty.
pub(crate) async fn size(dir: &Path, table: &TableDefinition) -> anyhow::Result<(u64, u64)> {
    let rows = format!("SELECT count(*) FROM {}", table.name);
    let rows = numbers(dir, &rows).await?[0];
    let partitions = match table.partition_names().as_slice() {
        [] => 1,
        names => {
            let sql = format!(
                "SELECT count(*) FROM (SELECT DISTINCT {} FROM {})",
                quoted(names),
                table.name
            );
            numbers(dir, &sql).await?[0]
        }
    };
    Ok((rows.unsigned_abs(), partitions.unsigned_abs()))
}

/// Compares a table with a fold of its feed, some partitions at a time.
pub(crate) async fn compare(
    dir: &Path,
    table: &TableDefinition,
    mut fold: Fold,
    columns: &FoldColumns,
) -> anyhow::Result<Comparison> {
    let mut found = Comparison::default();
    let select = format!("SELECT {} FROM {}", quoted(&columns.all), table.name);
    for condition in conditions(dir, table).await? {
        for batch in query(dir, &format!("{select}{condition}")).await? {
            fold.take(&batch, columns, &mut found)?;
        }
    }
    fold.finish(&mut found);
    Ok(found)
}

/// Conditions that split a table into parts that fit into memory, by its first partition column.
async fn conditions(dir: &Path, table: &TableDefinition) -> anyhow::Result<Vec<String>> {
    let Some(name) = table.partition_names().into_iter().next() else {
        return Ok(vec![String::new()]);
    };
    let sql = format!("SELECT DISTINCT \"{name}\" FROM {}", table.name);
    let mut values = Vec::new();
    for batch in query(dir, &sql).await? {
        let column = arrow_cast::cast(batch.column(0), &DataType::Utf8)?;
        let column: &StringArray = column.as_string::<i32>();
        values.extend(column.iter().flatten().map(|v| format!("'{}'", v.replace('\'', "''"))));
    }
    values.sort_unstable();
    let parts = values.chunks(values.len().div_ceil(PARTS_MAX).max(1));
    let mut conditions: Vec<String> =
        parts.map(|part| format!(" WHERE \"{name}\" IN ({})", part.join(", "))).collect();
    conditions.push(format!(" WHERE \"{name}\" IS NULL"));
    Ok(conditions)
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
}
