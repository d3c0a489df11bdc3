//! The partition that each row of a batch belongs to, and its name.
//!
//! After `batch` in a row's way, before `hash`. Invariant: one index is one partition until
//! `forget`; a name is made of values that keep the rule of partition values, so it needs no
//! escapes and can be taken apart again.

mod recent;

#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use hashbrown::HashTable;
use recent::{PartitionTexts, RecentPartitions};
use upsert_sink_format::batch::{Column, RowBatch, RowFault, Values};
use upsert_sink_format::error::Error;
use upsert_sink_format::partition::{RULE, TEXT_BYTES_MAX, check_value, write_date, write_integer};
use upsert_sink_format::schema::{ColumnType, PartitionSource, RowPlan, TableSchema};
use upsert_sink_format::words;

use crate::config::SinkConfig;

/// The number of a partition in one writer: dense from zero, in the order in which rows arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionIndex(pub u32);

impl PartitionIndex {
    /// Stands for a row that has no partition because it is refused.
    pub const REFUSED: Self = Self(u32::MAX);

    /// Whether the row is refused; its fault is listed.
    pub fn is_refused(self) -> bool {
        self == Self::REFUSED
    }
}

/// Finds the partition of rows, and numbers the partitions.
#[derive(Clone, Debug)]
pub struct Partitioner {
    levels: Vec<PartitionColumn>,
    /// The partition of rows whose column is NULL or empty.
    default: String,
    /// The number of partitions that there may be until `forget`.
    limit: u32,
    partitions: Vec<Partition>,
    /// Places in `partitions`. Looked up only, never walked: its order means nothing.
    index: HashTable<u32>,
    recent: RecentPartitions,
    /// The values of one row, joined.
    scratch: Vec<u8>,
}

/// One partition column.
#[derive(Clone, Debug)]
struct PartitionColumn {
    name: String,
    column_type: ColumnType,
    source: PartitionSource,
}

/// One partition that had rows.
#[derive(Clone, Debug)]
struct Partition {
    hash: u64,
    /// Its values, with a zero byte between levels: no value contains one.
    values: Vec<u8>,
    /// The texts of the row columns of the row that it was last looked up for. Rows may name one
    /// partition by several texts: an empty one names the default.
    texts: Vec<Box<[u8]>>,
    spec: String,
}

impl Partitioner {
    /// A partitioner that knows no partition yet.
    pub fn new(schema: &TableSchema, plan: &RowPlan, config: &SinkConfig) -> Self {
        let columns = schema.partition_columns.iter().zip(&plan.partition_columns);
        let levels: Vec<PartitionColumn> = columns
            .map(|(column, source)| PartitionColumn {
                name: column.name.clone(),
                column_type: column.column_type.clone(),
                source: source.clone(),
            })
            .collect();
        let scratch = vec![0; levels.len() * (TEXT_BYTES_MAX + 1)];
        Self {
            levels,
            default: config.default_partition.clone(),
            limit: config.dynamic_partition_limit.get(),
            partitions: Vec::new(),
            index: HashTable::new(),
            recent: RecentPartitions::new(),
            scratch,
        }
    }

    /// The same without `sink.dynamic-partition.limit`: for a router, which sees the partitions of
    /// all writers.
    pub fn without_limit(self) -> Self {
        Self { limit: u32::MAX, ..self }
    }

    /// Finds the partition of each row: fills `out` with one index a row, in order, and `faults`
    /// with the refused rows and why. Both are cleared first.
    ///
    /// Errors: `InvalidConfig` if rows arrive for more partitions than
    /// `sink.dynamic-partition.limit` allows.
    pub fn assign(
        &mut self,
        batch: &RowBatch<'_>,
        out: &mut Vec<PartitionIndex>,
        faults: &mut Vec<(usize, RowFault)>,
    ) -> Result<(), Error> {
        out.clear();
        faults.clear();
        let columns: Vec<&Column<'_>> = self.row_columns().map(|at| batch.column(at)).collect();
        if let Some(texts) = PartitionTexts::<1>::of(&columns) {
            return self.assign_by_texts(batch, &texts, out, faults);
        }
        if let Some(texts) = PartitionTexts::<2>::of(&columns) {
            return self.assign_by_texts(batch, &texts, out, faults);
        }
        self.assign_by_values(batch, &columns, out, faults)
    }

    /// By one or two texts, as nearly all tables have it: in a loop of their own.
    #[inline(never)]
    fn assign_by_texts<const N: usize>(
        &mut self,
        batch: &RowBatch<'_>,
        texts: &PartitionTexts<'_, N>,
        out: &mut Vec<PartitionIndex>,
        faults: &mut Vec<(usize, RowFault)>,
    ) -> Result<(), Error> {
        out.resize(batch.rows(), PartitionIndex::REFUSED);
        for (row, out) in out.iter_mut().enumerate() {
            *out = match self.recent.find(texts, row) {
                Some(index) => index,
                None => self.find_and_note(batch, row, faults, texts)?,
            };
        }
        Ok(())
    }

    #[inline(never)]
    fn find_and_note<const N: usize>(
        &mut self,
        batch: &RowBatch<'_>,
        row: usize,
        faults: &mut Vec<(usize, RowFault)>,
        texts: &PartitionTexts<'_, N>,
    ) -> Result<PartitionIndex, Error> {
        let texts_of = |index: PartitionIndex| &*self.partitions[index.0 as usize].texts;
        if let Some(index) = self.recent.find_longer(texts, row, texts_of) {
            return Ok(index);
        }
        let found = self.find(batch, row, faults)?;
        if !found.is_refused() {
            self.partitions[found.0 as usize].texts = texts.to_owned(row);
            self.recent.note(texts, row, found);
        }
        Ok(found)
    }

    fn assign_by_values(
        &mut self,
        batch: &RowBatch<'_>,
        columns: &[&Column<'_>],
        out: &mut Vec<PartitionIndex>,
        faults: &mut Vec<(usize, RowFault)>,
    ) -> Result<(), Error> {
        let mut before = None;
        for row in 0..batch.rows() {
            let known = before.filter(|_| columns.iter().all(|column| repeats(column, row)));
            let found = match known {
                Some(index) => index,
                None => self.find(batch, row, faults)?,
            };
            before = Some(found).filter(|index| !index.is_refused());
            out.push(found);
        }
        Ok(())
    }

    /// The name of a partition, such as `day='2013-01-01',hour='x'`; empty for a table without
    /// partitions.
    ///
    /// Panics if the index was not assigned since the last `forget`.
    pub fn spec(&self, partition: PartitionIndex) -> &str {
        &self.partitions[partition.0 as usize].spec
    }

    /// The number of partitions that had rows since the last `forget`.
    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Whether no row has arrived since the last `forget`.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Forgets all partitions: after a checkpoint, when nothing is held of any.
    pub fn forget(&mut self) {
        self.partitions.clear();
        self.index.clear();
        self.recent.forget();
    }

    /// The batch's columns that partitions are taken from.
    fn row_columns(&self) -> impl Iterator<Item = usize> {
        self.levels.iter().filter_map(|level| match level.source {
            PartitionSource::Row(at) => Some(at),
            PartitionSource::Static(_) => None,
        })
    }

    /// The partition of one row, which may be a new one; `REFUSED`, with its fault added, if its
    /// values name none.
    fn find(
        &mut self,
        batch: &RowBatch<'_>,
        row: usize,
        faults: &mut Vec<(usize, RowFault)>,
    ) -> Result<PartitionIndex, Error> {
        let mut refuse = |fault| {
            faults.push((row, fault));
            Ok(PartitionIndex::REFUSED)
        };
        let length = match self.join_values(batch, row) {
            Ok(length) => length,
            Err(fault) => return refuse(fault),
        };
        let values = &self.scratch[..length];
        let hash = words::hash(values);
        let partitions = &self.partitions;
        let is_it = |at: &u32| words::same(&partitions[*at as usize].values, values);
        if let Some(at) = self.index.find(hash, is_it) {
            return Ok(PartitionIndex(*at));
        }
        match self.name(values) {
            Ok(spec) => self.admit(hash, values.to_vec(), spec),
            Err(fault) => refuse(fault),
        }
    }

    /// Writes the values of a row into the scratch, with zero bytes between, and returns their
    /// length.
    fn join_values(&mut self, batch: &RowBatch<'_>, row: usize) -> Result<usize, RowFault> {
        let mut length = 0;
        for (at, level) in self.levels.iter().enumerate() {
            if at > 0 {
                self.scratch[length] = 0;
                length += 1;
            }
            length += level.write(batch, row, &self.default, &mut self.scratch[length..])?;
        }
        Ok(length)
    }

    /// The name of the partition with these values, if they can name one.
    fn name(&self, values: &[u8]) -> Result<String, RowFault> {
        let mut spec = String::new();
        let mut parts = values.split(|byte| *byte == 0);
        for level in &self.levels {
            let part = parts.next().unwrap_or_default();
            let text = level.checked(part).map_err(|rule| RowFault::new(&*level.name, rule))?;
            let comma = if spec.is_empty() { "" } else { "," };
            spec.push_str(&format!("{comma}{}='{text}'", level.name));
        }
        match (parts.next(), self.levels.last()) {
            // A zero byte within a value made one part more; without levels there is one, which is
            // empty.
            (Some(_), Some(level)) => Err(RowFault::new(&*level.name, RULE)),
            _ => Ok(spec),
        }
    }

    /// Numbers a new partition.
    fn admit(&mut self, hash: u64, values: Vec<u8>, spec: String) -> Result<PartitionIndex, Error> {
        let count = u32::try_from(self.partitions.len()).expect("limited to far fewer");
        if count >= self.limit {
            return Err(too_many(self.limit));
        }
        self.partitions.push(Partition { hash, values, texts: Vec::new(), spec });
        let partitions = &self.partitions;
        self.index.insert_unique(hash, count, |at| partitions[*at as usize].hash);
        Ok(PartitionIndex(count))
    }
}

impl PartitionColumn {
    /// Writes the value of one row to the beginning of `to`, and returns its length.
    fn write(
        &self,
        batch: &RowBatch<'_>,
        row: usize,
        default: &str,
        to: &mut [u8],
    ) -> Result<usize, RowFault> {
        let fault = |rule: &str| RowFault::new(&*self.name, rule);
        let text = match &self.source {
            PartitionSource::Static(value) => value.as_bytes(),
            PartitionSource::Row(at) => {
                let column = batch.column(*at);
                if let Some(number) = column.integer(row) {
                    return match self.column_type {
                        ColumnType::Date => write_date(number, to).ok_or_else(|| fault(DATE_RULE)),
                        _ => Ok(write_integer(number, to)),
                    };
                }
                match (column.bytes(row), &self.column_type) {
                    (Some(text), _) if !text.is_empty() => text,
                    (_, ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_)) => {
                        default.as_bytes()
                    }
                    _ => return Err(fault(NULL_RULE)),
                }
            }
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(fault(RULE));
        }
        words::copy(&mut to[..text.len()], text);
        Ok(text.len())
    }

    /// The value as text, if it can name a partition of this column.
    fn checked<'a>(&self, value: &'a [u8]) -> Result<&'a str, String> {
        let text = core::str::from_utf8(value).map_err(|_| RULE)?;
        check_value(text)?;
        let most = match self.column_type {
            ColumnType::Varchar(most) | ColumnType::Char(most) => most as usize,
            _ => TEXT_BYTES_MAX,
        };
        let count = text.chars().count();
        if count > most {
            return Err(format!(
                "{count} characters for a column of {}: at most {most}",
                self.column_type
            ));
        }
        Ok(text)
    }
}

/// Whether the row has the value of the row before it.
#[inline]
fn repeats(column: &Column<'_>, row: usize) -> bool {
    let Some(before) = row.checked_sub(1) else { return false };
    if column.has_nulls() && (column.is_null(row) || column.is_null(before)) {
        return column.is_null(row) && column.is_null(before);
    }
    match &column.values {
        Values::Utf8(slices) => words::same(slices.bytes(row), slices.bytes(before)),
        _ => column.integer(row) == column.integer(before),
    }
}

fn too_many(limit: u32) -> Error {
    Error::config(
        "option `sink.dynamic-partition.limit`",
        format!(
            "Too many dynamic partitions: rows came for more than {limit} between two checkpoints, \
             and each costs a session, a commit and buffers; check that the partition column is \
             the one that is meant, then raise the limit, checkpoint more often, or set \
             `sink.group-partition.enable` to `true` to spread the partitions over the writers"
        ),
    )
}

const DATE_RULE: &str = "a partition's date is between 0001-01-01 and 9999-12-31";

const NULL_RULE: &str = "it is NULL: only string, varchar and char columns have a default \
                         partition (`sink.partition.default-value`); give it a value";
