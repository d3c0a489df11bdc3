//! One Parquet file of a table on its way to the disk, bucket by bucket.
//!
//! Under `delta.rs`, which writes the rows of a commit, and `compact.rs`, which writes those of a
//! partition. Invariant: a bucket is a run of whole row groups, and the file is durable before it
//! is answered.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use object_store::ObjectStoreExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::catalog::{BucketRun, TableFile};
use crate::components::Directory;
use crate::error::Error;

/// A file that is being written.
pub(super) struct NewFile<'a> {
    directory: &'a dyn Directory,
    location: Path,
    writer: AsyncArrowWriter<BufWriter>,
    /// The file so far.
    written: TableFile,
    /// The row groups and rows of the buckets that have ended.
    ended: (usize, u64),
}

impl<'a> NewFile<'a> {
    /// Begins a file; nobody sees it before it is finished.
    pub(super) fn begin(
        directory: &'a dyn Directory,
        schema: SchemaRef,
        path: String,
        base: bool,
    ) -> Result<Self, Error> {
        let location = Path::parse(&path).map_err(|error| Error::disk(&path, error))?;
        let objects = directory.objects();
        let sink = BufWriter::with_capacity(objects, location.clone(), UPLOAD_BYTES);
        let writer = AsyncArrowWriter::try_new(sink, schema, Some(properties()))
            .map_err(|error| Error::disk(&path, error))?;
        let written = TableFile { path, bytes: 0, rows: 0, runs: Vec::new(), base };
        Ok(Self { directory, location, writer, written, ended: (0, 0) })
    }

    pub(super) fn path(&self) -> &str {
        &self.written.path
    }

    pub(super) fn rows(&self) -> u64 {
        self.written.rows
    }

    /// Writes rows of the bucket that is being written.
    pub(super) async fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.written.rows += batch.num_rows() as u64;
        let written = self.writer.write(batch).await;
        written.map_err(|error| Error::disk(self.path(), error))
    }

    /// Ends the bucket that is being written.
    pub(super) async fn end_bucket(&mut self, bucket: u32) -> Result<(), Error> {
        let flushed = self.writer.flush().await;
        flushed.map_err(|error| Error::disk(self.path(), error))?;
        let (first, rows_before) = self.ended;
        self.ended = (self.writer.flushed_row_groups().len(), self.written.rows);
        self.written.runs.push(BucketRun {
            bucket,
            first_row_group: number(first),
            row_groups: number(self.ended.0 - first),
            rows: self.written.rows - rows_before,
        });
        Ok(())
    }

    /// Makes the file durable.
    pub(super) async fn finish(self) -> Result<TableFile, Error> {
        let path = &self.written.path;
        let disk = |error: &dyn std::fmt::Display| Error::disk(path, error);
        self.writer.close().await.map_err(|error| disk(&error))?;
        self.directory.sync(path).await.map_err(|error| disk(&error))?;
        let head = self.directory.objects().head(&self.location).await;
        let bytes = head.map_err(|error| disk(&error))?.size;
        Ok(TableFile { bytes, ..self.written })
    }
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
