//! Reads row groups of delta files from where the directory keeps whole files.
//!
//! Used by `table/merge.rs`; results are read through the same [`FileBytes`]. Invariant: a file's
//! footer is read once for a scan, and one row
//! group of it at a time.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::catalog::{BucketRun, TableFile};
use super::read_error::ReadError;
use super::rows::{META_COLUMNS, SET_COLUMN};

/// A delta file with its footer read.
pub(crate) struct OpenTableFile {
    bytes: FileBytes,
    metadata: ArrowReaderMetadata,
    pub(crate) file: Arc<TableFile>,
}

impl OpenTableFile {
    /// Reads the footer.
    pub(crate) async fn open(
        objects: Arc<dyn ObjectStore>,
        file: Arc<TableFile>,
    ) -> Result<Self, ReadError> {
        let wrong = |source| ReadError::file(&file.path, source);
        let path = Path::parse(&file.path);
        let path = path.map_err(|error| wrong(ParquetError::External(Box::new(error))))?;
        let mut bytes = FileBytes::new(objects, path, file.bytes);
        let footer = ArrowReaderMetadata::load_async(&mut bytes, ArrowReaderOptions::default());
        let metadata = footer.await.map_err(wrong)?;
        Ok(Self { bytes, metadata, file })
    }

    /// How many of its table's columns the file has: those that the table had when it was written.
    /// The operation of a row follows them.
    pub(crate) fn columns(&self) -> usize {
        let meta = META_COLUMNS + usize::from(self.may_be_partial());
        self.metadata.schema().fields().len().saturating_sub(meta)
    }

    /// Whether its rows may set some columns only; its last column says which.
    pub(crate) fn may_be_partial(&self) -> bool {
        self.metadata.schema().fields().last().is_some_and(|last| last.name() == SET_COLUMN)
    }

    /// Where that column is.
    pub(crate) fn set_column(&self) -> usize {
        self.columns() + META_COLUMNS
    }

    /// Streams columns, by their index in the file, of a bucket's rows.
    pub(crate) fn stream(
        &self,
        run: &BucketRun,
        columns: &[usize],
    ) -> Result<impl Stream<Item = Result<RecordBatch, ReadError>> + Unpin + use<'_>, ReadError>
    {
        let first = run.first_row_group as usize;
        let groups = (first..first + run.row_groups as usize).collect();
        let schema = self.metadata.parquet_schema();
        let mask = ProjectionMask::roots(schema, columns.iter().copied());
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(
            self.bytes.clone(),
            self.metadata.clone(),
        );
        let wrong = |source| ReadError::file(&self.file.path, source);
        let stream = builder
            .with_row_groups(groups)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(wrong)?;
        Ok(stream.map_err(wrong))
    }
}

/// The bytes of one file.
#[derive(Clone)]
pub(crate) struct FileBytes {
    objects: Arc<dyn ObjectStore>,
    path: Path,
    size: u64,
}

impl FileBytes {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, path: Path, size: u64) -> Self {
        Self { objects, path, size }
    }
}

impl AsyncFileReader for FileBytes {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let bytes = async move { self.objects.get_range(&self.path, range).await };
        bytes.map_err(|error| ParquetError::External(Box::new(error))).boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let bytes = async move { self.objects.get_ranges(&self.path, &ranges).await };
        bytes.map_err(|error| ParquetError::External(Box::new(error))).boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        let size = self.size;
        let reader = ParquetMetaDataReader::new().with_prefetch_hint(Some(FOOTER_BYTES));
        reader.load_and_finish(self, size).map_ok(Arc::new).boxed()
    }
}

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;
/// Bytes that are read from a file's end in the hope that its footer is in them.
const FOOTER_BYTES: usize = 64 * 1024;
