//! The commits of a table, one by one, as the log and its files hold them: for simulations.
//!
//! Beside the way of a query: it reads the records of the log and the files that they name, without
//! SQL and without merging, and each once. A compaction takes nothing from it, for the files of the
//! commits stay for a while. Invariant: rows come in the order in which their commits follow each
//! other in the log.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};

use crate::error::Error;
use crate::table::catalog::{BucketRun, Change, LogRecord, TableFile};
use crate::table::reader::OpenTableFile;
use crate::table::rows::META_COLUMNS;
use crate::tables::Tables;

/// The newest record that a reader has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen(Option<LogRecord>);

/// One commit that a reader had not seen.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The values of its partition.
    pub partition: Vec<String>,
    /// The session that was committed.
    pub session: String,
    /// Its rows: the table's columns, then `__operation` (85 upserts, 68 deletes) and `__sequence`.
    pub rows: Vec<RecordBatch>,
}

/// The commits of a table that have files and were not seen before; none while there is no such
/// table.
///
/// Errors: `Damaged` if the record that was seen last is there no more, or is another one; those of
/// reading files.
pub(crate) fn committed<'a>(
    tables: &'a Tables,
    table: &'a str,
    seen: &'a mut Seen,
) -> BoxFuture<'a, Result<Vec<Committed>, Error>> {
    async move {
        let newest = tables.catalog().version;
        let last = seen.0.as_ref().map_or(0, |record| record.version);
        if let Some(record) = &seen.0
            && (last > newest || tables.record(last).await? != *record)
        {
            return Err(Error::damaged("log", "a record that was seen is gone"));
        }
        let Ok(table) = tables.find(table) else { return Ok(Vec::new()) };
        let mut fresh = Vec::new();
        for version in last + 1..=newest {
            let record = tables.record(version).await?;
            if let Change::Commit(commits) = &record.change {
                for commit in commits.iter().filter(|c| c.table_id == table.definition.id) {
                    let Some(file) = &commit.file else { continue };
                    let rows = read(tables, file).await?;
                    let (partition, session) = (commit.partition.clone(), commit.session.clone());
                    fresh.push(Committed { partition, session, rows });
                }
            }
            seen.0 = Some(record);
        }
        Ok(fresh)
    }
    .boxed()
}

async fn read(tables: &Tables, file: &TableFile) -> Result<Vec<RecordBatch>, Error> {
    let unreadable =
        |error: &dyn std::fmt::Display| Error::damaged(file.path.clone(), error.to_string());
    let open = OpenTableFile::open(tables.objects(), Arc::new(file.clone())).await;
    let open = open.map_err(|error| unreadable(&error))?;
    let columns: Vec<usize> = (0..open.columns() + META_COLUMNS).collect();
    let last = file.runs.last().map_or(0, |run| run.first_row_group + run.row_groups);
    let whole = BucketRun { bucket: 0, first_row_group: 0, row_groups: last, rows: file.rows };
    let rows = open.stream(&whole, &columns).map_err(|error| unreadable(&error))?;
    rows.try_collect().await.map_err(|error| unreadable(&error))
}
