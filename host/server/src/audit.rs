//! The commits of a table, one by one, as the log and its files hold them: for simulations.
//!
//! Beside the way of a query: it reads the same files without SQL and without merging, and each
//! file once. Invariant: rows come in the order in which their commits follow each other in a
//! partition.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};

use crate::error::Error;
use crate::table::catalog::{BucketRun, DeltaFile};
use crate::table::reader::OpenDeltaFile;
use crate::tables::Tables;

/// The files of each partition that a reader has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen(BTreeMap<Vec<String>, Vec<Arc<DeltaFile>>>);

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

/// The commits of a table that have files and were not seen before.
///
/// Errors: `Damaged` if a commit that was seen is there no more; those of reading files.
pub(crate) fn committed<'a>(
    tables: &'a Tables,
    table: &'a str,
    seen: &'a mut Seen,
) -> BoxFuture<'a, Result<Vec<Committed>, Error>> {
    async move {
        let partitions = match tables.find(table) {
            Ok(table) => table.partitions.clone(),
            Err(_) => BTreeMap::new(),
        };
        if let Some((gone, _)) = seen.0.iter().find(|(name, _)| !partitions.contains_key(*name)) {
            return Err(Error::damaged(gone.join("/"), "a partition that was there is gone"));
        }
        let mut fresh = Vec::new();
        for (partition, files) in partitions {
            let known = seen.0.entry(partition.clone()).or_default();
            if !files.starts_with(known) {
                return Err(Error::damaged(partition.join("/"), "a commit that was seen is gone"));
            }
            for file in &files[known.len()..] {
                let rows = read(tables, Arc::clone(file)).await?;
                let session = file.path.rsplit('/').next().unwrap_or_default();
                let session = session.trim_end_matches(".parquet").to_owned();
                fresh.push(Committed { partition: partition.clone(), session, rows });
            }
            *known = files;
        }
        Ok(fresh)
    }
    .boxed()
}

async fn read(tables: &Tables, file: Arc<DeltaFile>) -> Result<Vec<RecordBatch>, Error> {
    let path = file.path.clone();
    let unreadable =
        |error: &dyn std::fmt::Display| Error::damaged(path.clone(), error.to_string());
    let open = OpenDeltaFile::open(tables.objects(), Arc::clone(&file)).await;
    let open = open.map_err(|error| unreadable(&error))?;
    let columns: Vec<usize> = (0..open.columns() + crate::table::rows::META_COLUMNS).collect();
    let last = file.runs.last().map_or(0, |run| run.first_row_group + run.row_groups);
    let whole = BucketRun { bucket: 0, first_row_group: 0, row_groups: last, rows: file.rows };
    let rows = open.stream(&whole, &columns).map_err(|error| unreadable(&error))?;
    rows.try_collect().await.map_err(|error| unreadable(&error))
}
