//! Major compaction of one partition: its files become one base, with the last row of each key.
//!
//! Between `compactions.rs`, which decides when, and `tables.rs`, which puts the result into the
//! log. It reads the files of one version, as a query does, and writes nothing else. Invariant: a
//! reader finds in the base what it found in the files, in the same order, and memory is bounded as
//! in `merge.rs`.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use futures::future::try_join;
use tokio::sync::mpsc;

use super::catalog::{Compaction, Table, TableFile};
use super::file::NewFile;
use super::merge::{OpenPartition, PartitionFiles, Scan};
use super::rows::{base_rows, file_schema};
use super::{partition, stream};
use crate::components::Directory;
use crate::error::Error;

/// Whether there is anything to merge.
pub(crate) fn is_due(files: &[Arc<TableFile>]) -> bool {
    match files {
        [] => false,
        [only] => !only.base,
        _ => true,
    }
}

/// Merges the files of a partition into one, which is part of no table yet. `name` is one that no
/// other file has.
///
/// Errors: `Read`, `Disk`.
pub(crate) async fn merge(
    directory: &dyn Directory,
    table: &Table,
    values: &[String],
    name: &str,
) -> Result<Compaction, Error> {
    let files = table.partitions.get(values).cloned().unwrap_or_default();
    let schema = file_schema(&table.schema, false);
    let scan = stream::whole_rows(table, &schema, directory.objects())?;
    let replaced = files.iter().map(|file| file.path.clone()).collect();
    let open = scan.open(&PartitionFiles { values: values.to_vec(), files }).await?;
    let table_id = &table.definition.id;
    let name = format!("base-{name}");
    let path = partition::file_path(&table.schema, table_id, values, &name);
    let mut base = NewFile::begin(directory, Arc::clone(&schema), path, true)?;
    for bucket in open.buckets() {
        write_bucket(&mut base, &schema, &scan, &open, bucket).await?;
    }
    let base = if base.rows() > 0 { Some(base.finish().await?) } else { None };
    let (table_id, partition) = (table_id.clone(), values.to_vec());
    Ok(Compaction { table_id, partition, replaced, base })
}

async fn write_bucket(
    base: &mut NewFile<'_>,
    schema: &SchemaRef,
    scan: &Scan,
    open: &OpenPartition,
    bucket: u32,
) -> Result<(), Error> {
    let (send, mut receive) = mpsc::channel(1);
    let read = async move { scan.send_bucket(open, bucket, &send).await.map_err(Error::Read) };
    let write = async {
        while let Some(rows) = receive.recv().await {
            let rows = base_rows(schema, &rows?, base.rows());
            base.write(&rows.map_err(|error| Error::Read(error.into()))?).await?;
            // Others go on between batches, also where there is one thread for all.
            tokio::task::yield_now().await;
        }
        Ok::<_, Error>(())
    };
    try_join(read, write).await?;
    base.end_bucket(bucket).await
}
