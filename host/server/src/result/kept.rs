//! Results on disk, until newer ones push them out.
//!
//! Written by queries and download sessions, read by `route/download.rs` and
//! `route/instance/mod.rs`, any range any number of times. Invariant: in memory there is a batch a
//! reader, on disk at most [`RESULTS_BYTES_MAX`] bytes besides what is being read; a start finds
//! none of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::{AsyncArrowWriter, ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::shape::Shape;
use crate::components::Directory;
use crate::error::Error;
use crate::table::file::{UPLOAD_BYTES, properties};
use crate::table::reader::FileBytes;

/// The results of this start.
pub(crate) struct Results {
    directory: Arc<dyn Directory>,
    kept: Mutex<KeptResults>,
}

#[derive(Default)]
struct KeptResults {
    last: u64,
    by_number: BTreeMap<ResultNumber, Arc<KeptRows>>,
    /// Pushed out, but perhaps still being read.
    leaving: Vec<Arc<KeptRows>>,
}

/// Names a result, for as long as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResultNumber(u64);

/// The rows of one result.
pub(crate) struct KeptRows {
    objects: Arc<dyn ObjectStore>,
    path: String,
    bytes: u64,
    pub(crate) shape: Shape,
    pub(crate) rows: u64,
}

impl Results {
    /// Forgets what the last start kept.
    pub(crate) async fn open(directory: Arc<dyn Directory>) -> Result<Self, Error> {
        let discarded = directory.discard_unfinished(FOLDER).await;
        discarded.map_err(|error| Error::disk(FOLDER, error))?;
        let objects = directory.objects();
        let listed = objects.list(Some(&Path::from(FOLDER))).try_collect::<Vec<_>>().await;
        for meta in listed.map_err(|error| Error::disk(FOLDER, error))? {
            let deleted = objects.delete(&meta.location).await;
            deleted.map_err(|error| Error::disk(meta.location.as_ref(), error))?;
        }
        Ok(Self { directory, kept: Mutex::default() })
    }

    /// Writes the rows of a result to disk.
    ///
    /// Errors: `Query` for a value that its column cannot hold, and for more bytes than all results
    /// may have together; those of the rows; `Disk`.
    pub(crate) async fn keep(
        &self,
        shape: Shape,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
    ) -> Result<ResultNumber, Error> {
        let number = {
            let mut kept = self.kept();
            kept.last += 1;
            ResultNumber(kept.last)
        };
        let path = format!("{FOLDER}/{:020}.parquet", number.0);
        let (rows, bytes) = self.write(&shape, batches, &path).await?;
        let rows = KeptRows { objects: self.directory.objects(), path, bytes, shape, rows };
        self.kept().push(number, Arc::new(rows));
        self.delete_unread().await?;
        Ok(number)
    }

    /// A result, if it is still kept.
    pub(crate) fn get(&self, number: ResultNumber) -> Option<Arc<KeptRows>> {
        self.kept().by_number.get(&number).cloned()
    }

    async fn write(
        &self,
        shape: &Shape,
        batches: impl Stream<Item = Result<RecordBatch, Error>> + Send,
        path: &str,
    ) -> Result<(u64, u64), Error> {
        let disk = |error: &dyn std::fmt::Display| Error::disk(path, error);
        let location = Path::from(path);
        let objects = self.directory.objects();
        let sink = BufWriter::with_capacity(Arc::clone(&objects), location.clone(), UPLOAD_BYTES);
        let mut writer = AsyncArrowWriter::try_new(sink, shape.schema(), Some(properties()))
            .map_err(|error| disk(&error))?;
        let mut rows = 0;
        let mut batches = std::pin::pin!(batches);
        while let Some(batch) = batches.next().await {
            let batch = shape.conform(&batch?).map_err(Error::Query)?;
            rows += batch.num_rows() as u64;
            writer.write(&batch).await.map_err(|error| disk(&error))?;
            if writer.bytes_written() as u64 > RESULTS_BYTES_MAX {
                return Err(Error::Query(format!(
                    "the result has more than {RESULTS_BYTES_MAX} bytes; select fewer rows or \
                     columns"
                )));
            }
        }
        writer.close().await.map_err(|error| disk(&error))?;
        let meta = objects.head(&location).await.map_err(|error| disk(&error))?;
        Ok((rows, meta.size))
    }

    /// Deletes what was pushed out and is not being read.
    async fn delete_unread(&self) -> Result<(), Error> {
        let unread = {
            let mut kept = self.kept();
            let leaving = std::mem::take(&mut kept.leaving);
            let (unread, read): (Vec<_>, Vec<_>) =
                leaving.into_iter().partition(|rows| Arc::strong_count(rows) == 1);
            kept.leaving = read;
            unread
        };
        for rows in unread {
            let deleted = rows.objects.delete(&Path::from(rows.path.as_str())).await;
            deleted.map_err(|error| Error::disk(&rows.path, error))?;
        }
        Ok(())
    }

    fn kept(&self) -> MutexGuard<'_, KeptResults> {
        self.kept.lock().expect("no holder panics")
    }
}

impl KeptResults {
    fn push(&mut self, number: ResultNumber, rows: Arc<KeptRows>) {
        self.by_number.insert(number, rows);
        let mut bytes: u64 = self.by_number.values().map(|rows| rows.bytes).sum();
        while self.by_number.len() > RESULTS_MAX || bytes > RESULTS_BYTES_MAX {
            // The newest stays, whatever its size: it was bounded when it was written.
            if self.by_number.len() == 1 {
                break;
            }
            let Some((_, oldest)) = self.by_number.pop_first() else { break };
            bytes -= oldest.bytes;
            self.leaving.push(oldest);
        }
    }
}

impl KeptRows {
    /// Reads `count` rows from `start`, and of those the columns at these places, in this order.
    pub(crate) async fn read(
        self: &Arc<Self>,
        start: u64,
        count: u64,
        columns: &[usize],
    ) -> Result<BoxStream<'static, Result<RecordBatch, Error>>, Error> {
        let file = self.path.clone();
        let disk = move |error: &dyn std::fmt::Display| Error::disk(&*file, error);
        let bytes =
            FileBytes::new(Arc::clone(&self.objects), Path::from(self.path.as_str()), self.bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(bytes).await.map_err(|e| disk(&e))?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
        let stream = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_offset(usize::try_from(start).unwrap_or(usize::MAX))
            .with_limit(usize::try_from(count).unwrap_or(usize::MAX))
            .build()
            .map_err(|e| disk(&e))?;
        let order = places_among_sorted(columns);
        // The stream keeps the result: it is not deleted while it is read.
        let rows = Arc::clone(self);
        let batches = stream.map(move |batch| {
            let _read = &rows;
            let batch = batch.and_then(|batch| Ok(batch.project(&order)?));
            batch.map_err(|error| disk(&error))
        });
        Ok(batches.boxed())
    }
}

/// Files have their columns in their own order: where each wanted one is among those that are read.
fn places_among_sorted(columns: &[usize]) -> Vec<usize> {
    let place = |column: &usize| columns.iter().filter(|other| *other < column).count();
    columns.iter().map(place).collect()
}

const FOLDER: &str = "results";
/// Results that are kept, at most.
const RESULTS_MAX: usize = 256;
/// Bytes of all results on disk, at most.
const RESULTS_BYTES_MAX: u64 = 4 << 30;
/// Rows in memory as values, at most.
const BATCH_ROWS: usize = 1024;

#[cfg(test)]
mod tests {
    use upsert_sink_format::schema::ColumnType;

    use super::*;
    use crate::components::simulated::SimulatedDirectories;
    use crate::components::{Access, Directories};
    use crate::result::shape::ResultColumn;

    fn shape() -> Shape {
        let column =
            |name: &str| ResultColumn { name: name.into(), column_type: ColumnType::BigInt };
        Shape { columns: vec![column("a"), column("b")] }
    }

    fn batch(from: i64, rows: i64) -> RecordBatch {
        let column = |add: i64| {
            let numbers = (from..from + rows).map(|n| n + add);
            Arc::new(arrow_array::Int64Array::from_iter_values(numbers)) as arrow_array::ArrayRef
        };
        RecordBatch::try_new(shape().schema(), vec![column(0), column(1_000_000)]).expect("a batch")
    }

    async fn numbers(rows: &Arc<KeptRows>, start: u64, count: u64, columns: &[usize]) -> Vec<i64> {
        let batches = rows.read(start, count, columns).await.expect("it is there");
        let batches: Vec<RecordBatch> = batches.try_collect().await.expect("it is whole");
        let column = |batch: &RecordBatch| {
            let array = batch.column(0).as_any().downcast_ref::<arrow_array::Int64Array>();
            array.expect("integers").values().to_vec()
        };
        batches.iter().flat_map(column).collect()
    }

    #[tokio::test]
    async fn any_range_is_read_and_the_oldest_results_are_pushed_out() {
        let directory = SimulatedDirectories::new()
            .open(std::path::Path::new("/d"), Access::Serve)
            .expect("an empty disk");
        let results = Results::open(Arc::clone(&directory)).await.expect("nothing there");
        let batches = futures::stream::iter((0..3).map(|n| Ok(batch(n * 1000, 1000))));
        let first = results.keep(shape(), batches).await.expect("kept");
        let rows = results.get(first).expect("kept");
        assert_eq!(rows.rows, 3000);
        let expected: Vec<i64> = (999..2500).collect();
        assert_eq!(numbers(&rows, 999, 1501, &[0, 1]).await, expected);
        assert_eq!(numbers(&rows, 2999, 1, &[1, 0]).await, [1_002_999]);
        assert!(numbers(&rows, 3000, 0, &[0]).await.is_empty());
        for _ in 0..RESULTS_MAX {
            let one = futures::stream::iter([Ok(batch(0, 1))]);
            results.keep(shape(), one).await.expect("kept");
        }
        assert!(results.get(first).is_none());
        assert_eq!(numbers(&rows, 0, 1, &[0]).await, [0], "it is being read");
        drop(rows);
        results.keep(shape(), futures::stream::empty()).await.expect("kept");
        let listed = directory.objects().list(None).try_collect::<Vec<_>>().await.expect("a list");
        assert_eq!(listed.len(), RESULTS_MAX);
        Results::open(Arc::clone(&directory)).await.expect("opened");
        let listed = directory.objects().list(None).try_collect::<Vec<_>>().await.expect("a list");
        assert!(listed.is_empty());
    }
}
