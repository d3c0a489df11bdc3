//! The merged view of one partition: the last writer of each key wins, and a delete drops the key.
//!
//! Between the files and `table/stream.rs`, or `table/compact.rs`. Works bucket by bucket, in two
//! passes: the first reads keys only and finds the winning rows, the second reads the wanted
//! columns of those. A table whose rows may set some columns only goes through `overlay`.
//! Invariant: memory is bounded by one bucket's keys, and those by [`KEY_BYTES_MAX`]: a bucket with
//! more is merged in several passes over its keys.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions, UInt32Array,
    new_null_array,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take;
use futures::TryStreamExt;
use object_store::ObjectStore;
use tokio::sync::mpsc::Sender;
use upsert_sink_format::schema::TableSchema;

use super::catalog::{BucketRun, TableFile};
use super::class::Class;
use super::overlay::Overlay;
use super::read_error::ReadError;
use super::reader::{BATCH_ROWS, OpenTableFile};
use super::rows::{DELETE, data_type, parsed};

/// A read of a table: its columns and its source.
#[derive(Clone)]
pub(crate) struct Scan {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) table: Arc<TableSchema>,
    /// The wanted columns, by their index in the table's columns followed by its partition columns.
    pub(crate) projection: Vec<usize>,
    /// The schema of the wanted columns.
    pub(crate) schema: SchemaRef,
    pub(crate) key_bytes_max: usize,
}

/// One partition's values and files, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct PartitionFiles {
    pub(crate) values: Vec<String>,
    pub(crate) files: Vec<Arc<TableFile>>,
}

/// A partition whose files are open.
pub(crate) struct OpenPartition {
    files: Vec<OpenTableFile>,
    /// The value of each partition column.
    constants: Vec<ArrayRef>,
}

impl OpenPartition {
    /// The buckets that have rows.
    pub(crate) fn buckets(&self) -> BTreeSet<u32> {
        self.files.iter().flat_map(|f| f.file.runs.iter().map(|run| run.bucket)).collect()
    }
}

/// Whom the batches go to.
pub(crate) type Receiver = Sender<Result<RecordBatch, ReadError>>;

impl Scan {
    /// Sends the merged rows of a partition. Answers false if nobody wants more.
    pub(crate) async fn run(
        &self,
        partition: &PartitionFiles,
        rows: &Receiver,
    ) -> Result<bool, ReadError> {
        let open = self.open(partition).await?;
        for bucket in open.buckets() {
            if !self.send_bucket(&open, bucket, rows).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Opens the files of a partition.
    pub(crate) async fn open(
        &self,
        partition: &PartitionFiles,
    ) -> Result<OpenPartition, ReadError> {
        let mut files = Vec::with_capacity(partition.files.len());
        for file in &partition.files {
            files.push(OpenTableFile::open(Arc::clone(&self.objects), Arc::clone(file)).await?);
        }
        Ok(OpenPartition { files, constants: self.constants(&partition.values)? })
    }

    /// Sends the merged rows of one bucket. Answers false if nobody wants more.
    pub(crate) async fn send_bucket(
        &self,
        open: &OpenPartition,
        bucket: u32,
        rows: &Receiver,
    ) -> Result<bool, ReadError> {
        let OpenPartition { files, constants } = open;
        let runs: Vec<(&OpenTableFile, BucketRun)> = files
            .iter()
            .flat_map(|file| file.file.runs.iter().map(move |run| (file, *run)))
            .filter(|(_, run)| run.bucket == bucket)
            .collect();
        if files.iter().any(OpenTableFile::may_be_partial) {
            return Overlay::new(self, &runs, constants).send(rows).await;
        }
        let winners = self.winners(&runs).await?;
        self.send_winners(&runs, &winners, constants, rows).await
    }

    /// Which rows of the runs, counted through all of them, are the last of their key and no
    /// deletes.
    async fn winners(
        &self,
        runs: &[(&OpenTableFile, BucketRun)],
    ) -> Result<BooleanBuffer, ReadError> {
        let mut classes = 1;
        loop {
            if let Some(winners) = self.winners_in(runs, classes).await? {
                return Ok(winners);
            }
            classes *= 2;
        }
    }

    /// As `winners`, in as many passes as there are classes of keys; none if a class does not fit
    /// into memory.
    async fn winners_in(
        &self,
        runs: &[(&OpenTableFile, BucketRun)],
        classes: u32,
    ) -> Result<Option<BooleanBuffer>, ReadError> {
        let total = runs.iter().map(|(_, run)| run.rows).sum::<u64>();
        let total = usize::try_from(total)
            .map_err(|error| ArrowError::MemoryError(format!("{total} rows: {error}")))?;
        let mut winners = BooleanBufferBuilder::new(total);
        winners.append_n(total, false);
        for class in Class::division(classes) {
            let keys = LastKeys::new(class, self.key_bytes_max);
            let Some(last) = self.last_rows(runs, keys).await? else { return Ok(None) };
            for row in last.into_values().filter(|row| !row.deletes) {
                winners.set_bit(row.number, true);
            }
        }
        Ok(Some(winners.finish()))
    }

    async fn last_rows(
        &self,
        runs: &[(&OpenTableFile, BucketRun)],
        mut keys: LastKeys,
    ) -> Result<Option<HashMap<Box<[u8]>, LastRow>>, ReadError> {
        let fields = self.table.key_columns().map(|c| SortField::new(data_type(&c.column_type)));
        let converter = RowConverter::new(fields.collect())?;
        let mut before = 0;
        for (file, run) in runs {
            let mut columns = self.table.key.clone();
            // The operation of a row follows the file's own columns.
            columns.push(file.columns());
            let mut stream = file.stream(run, &columns)?;
            while let Some(batch) = stream.try_next().await? {
                let (operation, key) = batch.columns().split_last().expect("a key has a column");
                let operation = operation.as_any().downcast_ref::<Int8Array>();
                let operation = operation.ok_or_else(|| ReadError::malformed(&file.file.path))?;
                let converted = converter.convert_columns(key)?;
                for (at, row) in converted.iter().enumerate() {
                    let deletes = operation.value(at) == DELETE;
                    keys.insert(row.as_ref(), LastRow { number: before + at, deletes });
                }
                before += batch.num_rows();
                if keys.bytes > keys.bytes_max && keys.class.is_divisible() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(keys.last))
    }

    async fn send_winners(
        &self,
        runs: &[(&OpenTableFile, BucketRun)],
        winners: &BooleanBuffer,
        constants: &[ArrayRef],
        rows: &Receiver,
    ) -> Result<bool, ReadError> {
        let mut before = 0;
        for (file, run) in runs {
            let columns = self.columns_in(file);
            let length = usize::try_from(run.rows).expect("it was counted in memory");
            if columns.is_empty() {
                let mut left = winners.slice(before, length).count_set_bits();
                while left > 0 {
                    let some = left.min(BATCH_ROWS);
                    if rows.send(self.assemble(&columns, &[], constants, some)).await.is_err() {
                        return Ok(false);
                    }
                    left -= some;
                }
                before += length;
                continue;
            }
            let mut stream = file.stream(run, &columns)?;
            while let Some(batch) = stream.try_next().await? {
                let kept = BooleanArray::from(winners.slice(before, batch.num_rows()));
                before += batch.num_rows();
                if kept.true_count() == 0 {
                    continue;
                }
                let batch = filter_record_batch(&batch, &kept)?;
                let batch = self.assemble(&columns, batch.columns(), constants, batch.num_rows());
                if rows.send(batch).await.is_err() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The wanted columns that are in a file, in the file's order. Those that were added to the
    /// table later are not.
    fn columns_in(&self, file: &OpenTableFile) -> Vec<usize> {
        let in_file = |column: &usize| *column < file.columns().min(self.table.columns.len());
        let columns: BTreeSet<usize> = self.projection.iter().copied().filter(in_file).collect();
        columns.into_iter().collect()
    }

    /// Puts the columns of a file and the partition's values into the wanted order, and nulls in
    /// the place of columns that the file does not have.
    pub(super) fn assemble(
        &self,
        in_file: &[usize],
        from_file: &[ArrayRef],
        constants: &[ArrayRef],
        rows: usize,
    ) -> Result<RecordBatch, ReadError> {
        let mut arrays = Vec::with_capacity(self.projection.len());
        for column in &self.projection {
            arrays.push(match (in_file.binary_search(column), self.table.columns.get(*column)) {
                (Ok(at), _) => Arc::clone(&from_file[at]),
                (Err(_), Some(missing)) => new_null_array(&data_type(&missing.column_type), rows),
                (Err(_), None) => repeated(&constants[column - self.table.columns.len()], rows)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?)
    }

    /// The value of each partition column, as an array that has nothing else.
    fn constants(&self, values: &[String]) -> Result<Vec<ArrayRef>, ReadError> {
        let columns = self.table.partition_columns.iter();
        let constants = columns.zip(values).map(|(column, value)| parsed(column, [value.as_str()]));
        Ok(constants.collect::<Result<Vec<_>, _>>()?)
    }
}

/// An array's only value, so many times.
fn repeated(constant: &dyn Array, rows: usize) -> Result<ArrayRef, ArrowError> {
    take(constant, &UInt32Array::from_value(0, rows), None)
}

/// The newest row of each key that was seen, for one class of keys.
struct LastKeys {
    class: Class,
    bytes_max: usize,
    bytes: usize,
    last: HashMap<Box<[u8]>, LastRow>,
}

#[derive(Clone, Copy)]
struct LastRow {
    number: usize,
    deletes: bool,
}

impl LastKeys {
    fn new(class: Class, bytes_max: usize) -> Self {
        Self { class, bytes_max, bytes: 0, last: HashMap::new() }
    }

    fn insert(&mut self, key: &[u8], row: LastRow) {
        if !self.class.has(key) {
            return;
        }
        match self.last.get_mut(key) {
            Some(last) => *last = row,
            None => {
                self.bytes += key.len() + ENTRY_BYTES;
                self.last.insert(key.into(), row);
            }
        }
    }
}

/// Bytes of keys in memory, at most, while a bucket is merged.
pub(crate) const KEY_BYTES_MAX: usize = 48 << 20;
/// The cost of a key besides its bytes, about.
pub(super) const ENTRY_BYTES: usize = 56;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use upsert_sink_format::record::{Op, Value, encode_values, pack_trailer};
    use upsert_sink_format::schema::{ColumnType, TableColumn};

    use super::*;
    use crate::components::simulated::SimulatedDirectories;
    use crate::components::{Access, Directories, Directory};
    use crate::spool;
    use crate::spool::{Frame, Spool};
    use crate::table::delta;
    use crate::table::rows::query_schema;

    const KEYS: i64 = 500;

    fn table() -> TableSchema {
        let id =
            TableColumn { name: "id".into(), column_type: ColumnType::BigInt, nullable: false };
        let v = TableColumn { name: "v".into(), nullable: true, ..id.clone() };
        TableSchema {
            name: "t".into(),
            columns: vec![id, v],
            partition_columns: vec![],
            key: vec![0],
            buckets: 1,
        }
    }

    async fn delta_file(
        directory: &dyn Directory,
        spool: &Spool,
        table: &TableSchema,
        round: i64,
    ) -> Arc<TableFile> {
        let (mut body, mut crcs) = (Vec::new(), Vec::new());
        for id in 0..KEYS {
            let op = if id % 10 == round { Op::Delete } else { Op::Upsert };
            let values = [Some(Value::Int(id)), Some(Value::Int(round))];
            crcs.push(encode_values(&table.column_types(), &values, op, &mut body));
        }
        pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
        let frame = Frame::Pack { session: "s", bucket: 0, records: KEYS as u32, body: &body };
        let pack = spool.append(&frame).await.expect("spooled");
        let packs = [(0, vec![pack])].into();
        let path = format!("data/{round}.parquet");
        let types = table.column_types();
        let file = delta::write(directory, spool, (table, false), &types, &packs, path).await;
        Arc::new(file.expect("written"))
    }

    #[tokio::test]
    async fn a_bucket_whose_keys_do_not_fit_into_memory_is_merged_all_the_same() {
        let directory = SimulatedDirectories::new()
            .open(Path::new("/d"), Access::Serve)
            .expect("an empty disk");
        let recovered = spool::recover(&*directory, &|_| false).await.expect("nothing there");
        let spool = recovered.into_spool(Arc::clone(&directory), 1 << 20).await.expect("begun");
        let table = Arc::new(table());
        let mut files = Vec::new();
        for round in 0..3 {
            files.push(delta_file(&*directory, &spool, &table, round).await);
        }
        for key_bytes_max in [KEY_BYTES_MAX, 1000] {
            let scan = Scan {
                objects: directory.objects(),
                table: Arc::clone(&table),
                projection: vec![1, 0],
                schema: Arc::new(query_schema(&table).project(&[1, 0]).expect("two columns")),
                key_bytes_max,
            };
            let (send, mut receive) = tokio::sync::mpsc::channel(1000);
            let partition = PartitionFiles { values: vec![], files: files.clone() };
            assert!(scan.run(&partition, &send).await.expect("merged"));
            drop(send);
            let mut rows = 0;
            while let Some(batch) = receive.recv().await {
                let batch = batch.expect("a batch");
                let column = |at: usize| {
                    let array = batch.column(at).as_any();
                    array.downcast_ref::<arrow_array::Int64Array>().expect("integers").clone()
                };
                rows += batch.num_rows();
                assert!(column(0).values().iter().all(|round| *round == 2));
                assert!(column(1).values().iter().all(|id| id % 10 != 2));
            }
            assert_eq!(rows as i64, KEYS - KEYS / 10, "{key_bytes_max}");
        }
    }
}
