//! Writes the delta file of one commit: its rows by bucket, each bucket's in order of arrival.
//!
//! Between the spool, where the session's packs lie, and the log record of `table/commit.rs`, which
//! makes the file part of the table. Invariant: a bucket is a run of whole row groups, and the file
//! is durable before its path is answered.

use std::sync::Arc;

use arrow_array::RecordBatch;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use upsert_sink_format::record::decode_pack;
use upsert_sink_format::schema::{ColumnType, TableSchema};

use super::catalog::{BucketRun, DeltaFile};
use super::rows::{Rows, file_schema};
use crate::components::Directory;
use crate::error::Error;
use crate::session::{PackRange, PacksByBucket};
use crate::spool::Spool;

/// Writes the packs of a session to `path`, one at a time. `types` are those of the packs' columns,
/// the first ones of the table; `partial` says whether rows may set some of them only.
pub(crate) async fn write(
    directory: &dyn Directory,
    spool: &Spool,
    (table, partial): (&TableSchema, bool),
    types: &[ColumnType],
    packs: &PacksByBucket,
    path: String,
) -> Result<DeltaFile, Error> {
    let objects = directory.objects();
    let location = Path::parse(&path).map_err(|error| Error::disk(&path, error))?;
    let sink = BufWriter::with_capacity(Arc::clone(&objects), location.clone(), UPLOAD_BYTES);
    let mut file = File {
        path: &path,
        writer: AsyncArrowWriter::try_new(sink, file_schema(table, partial), Some(properties()))
            .map_err(|error| Error::disk(&path, error))?,
        partial,
        rows: 0,
    };
    let mut runs = Vec::with_capacity(packs.len());
    for (bucket, packs) in packs {
        runs.push(file.write_bucket(spool, table, types, (*bucket, packs)).await?);
    }
    let rows = file.rows;
    file.writer.close().await.map_err(|error| Error::disk(&path, error))?;
    directory.sync(&path).await.map_err(|error| Error::disk(&path, error))?;
    let bytes = objects.head(&location).await.map_err(|error| Error::disk(&path, error))?.size;
    Ok(DeltaFile { path, bytes, rows, runs })
}

struct File<'a> {
    path: &'a str,
    writer: AsyncArrowWriter<BufWriter>,
    partial: bool,
    rows: u64,
}

impl File<'_> {
    async fn write_bucket(
        &mut self,
        spool: &Spool,
        table: &TableSchema,
        types: &[ColumnType],
        (bucket, packs): (u32, &[PackRange]),
    ) -> Result<BucketRun, Error> {
        let first = self.writer.flushed_row_groups().len();
        let rows_before = self.rows;
        let mut rows = Rows::new(table, self.partial);
        for pack in packs {
            let body = spool.read(pack).await?;
            for batch in decode(&body, types, &mut rows, self.path)? {
                self.write_batch(&batch).await?;
            }
            // A large commit leaves the runtime's workers to others between packs.
            tokio::task::yield_now().await;
        }
        let last = rows.take().map_err(|message| Error::damaged("spool", message))?;
        if let Some(batch) = last {
            self.write_batch(&batch).await?;
        }
        self.writer.flush().await.map_err(|error| Error::disk(self.path, error))?;
        let groups = self.writer.flushed_row_groups().len() - first;
        Ok(BucketRun {
            bucket,
            first_row_group: number(first),
            row_groups: number(groups),
            rows: self.rows - rows_before,
        })
    }

    async fn write_batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch).await.map_err(|error| Error::disk(self.path, error))
    }
}

/// Decodes a pack that was verified when it was received; only the disk can have changed it since.
fn decode(
    body: &[u8],
    types: &[ColumnType],
    rows: &mut Rows<'_>,
    path: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    decode_pack(body, types, &mut |record| {
        let batch = rows.push(record);
        let corrupt = |message| upsert_sink_format::error::Error::corrupt(path, message);
        batches.extend(batch.map_err(corrupt)?);
        Ok(())
    })
    .map_err(|error| Error::damaged("spool", error.to_string()))?;
    Ok(batches)
}

/// How files are written, those of results too.
pub(crate) fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        // Rows are found by bucket and key, never by a column's bounds.
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build()
}

fn number(count: usize) -> u32 {
    u32::try_from(count).expect("a file has few row groups")
}

/// Rows of a row group, at most: a reader holds one of each file in memory.
const ROW_GROUP_ROWS: usize = 64 * 1024;
/// Bytes of a row group, about.
const ROW_GROUP_BYTES: usize = 8 << 20;
/// Bytes that are gathered before they go to the file.
pub(crate) const UPLOAD_BYTES: usize = 1 << 20;
