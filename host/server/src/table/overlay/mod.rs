//! The merged view of a bucket whose rows may set some columns only: of each key every column is of
//! the row that set it last, and a delete or a whole row shuts out what was before.
//!
//! Beside `merge.rs`, for tables with that property. Two passes: the first reads keys and finds the
//! row of each cell, the second gathers the wanted columns, some keys at a time. Invariant: memory
//! is bounded, for keys as in `merge.rs` and for values by [`GROUP_BYTES_MAX`]: keys that do not
//! fit are split into classes, groups that do not fit are halved. Rows come in the same order
//! whenever they are read.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use arrow_array::{
    Array, ArrayRef, BinaryArray, Int8Array, RecordBatch, UInt64Array, new_null_array,
};
use arrow_row::{RowConverter, SortField};
use arrow_select::concat::concat;
use arrow_select::take::take;
use futures::TryStreamExt;

use super::catalog::BucketRun;
use super::class::Class;
use super::merge::{ENTRY_BYTES, Receiver, Scan};
use super::read_error::ReadError;
use super::reader::{BATCH_ROWS, OpenTableFile};
use super::rows::{DELETE, data_type, is_set};

/// One bucket on its way to a query.
pub(super) struct Overlay<'a> {
    scan: &'a Scan,
    /// Oldest first; their rows are counted through all of them.
    runs: &'a [(&'a OpenTableFile, BucketRun)],
    constants: &'a [ArrayRef],
    /// The wanted columns that are stored in rows, rising.
    wanted: Vec<usize>,
    /// Values in memory, at most.
    group_bytes_max: usize,
}

/// The rows of a key, laid over each other.
struct Latest {
    /// The last row.
    last: usize,
    deleted: bool,
    /// For each wanted column the row that it is of, or [`NONE`].
    cells: Box<[usize]>,
}

/// A class of keys, with their rows so far.
struct OverlaidKeys {
    class: Class,
    bytes: usize,
    latest: HashMap<Box<[u8]>, Latest>,
}

/// The effect of a row on its key.
enum Effect<'a> {
    Delete,
    Whole,
    Set(&'a [u8]),
}

impl<'a> Overlay<'a> {
    pub(super) fn new(
        scan: &'a Scan,
        runs: &'a [(&'a OpenTableFile, BucketRun)],
        constants: &'a [ArrayRef],
    ) -> Self {
        let stored = |column: &usize| *column < scan.table.columns.len();
        let wanted: BTreeSet<usize> = scan.projection.iter().copied().filter(stored).collect();
        let wanted = wanted.into_iter().collect();
        Self { scan, runs, constants, wanted, group_bytes_max: GROUP_BYTES_MAX }
    }

    /// Sends the merged rows. Answers false if nobody wants more.
    pub(super) async fn send(&self, rows: &Receiver) -> Result<bool, ReadError> {
        let mut classes = vec![Class::ALL];
        while let Some(class) = classes.pop() {
            match self.keys(class).await? {
                Some(keys) => {
                    if !self.send_keys(keys, rows).await? {
                        return Ok(false);
                    }
                }
                None => classes.extend(class.halves()),
            }
        }
        Ok(true)
    }

    /// Finds the row of each cell; none if the class does not fit into memory.
    async fn keys(&self, class: Class) -> Result<Option<OverlaidKeys>, ReadError> {
        let table = &self.scan.table;
        let fields = table.key_columns().map(|c| SortField::new(data_type(&c.column_type)));
        let converter = RowConverter::new(fields.collect())?;
        let mut keys = OverlaidKeys { class, bytes: 0, latest: HashMap::new() };
        let mut before = 0;
        for (file, run) in self.runs {
            let mut columns = table.key.clone();
            columns.push(file.columns());
            columns.extend(file.may_be_partial().then(|| file.set_column()));
            let in_file: Vec<bool> = self.wanted.iter().map(|c| *c < file.columns()).collect();
            let mut stream = file.stream(run, &columns)?;
            while let Some(batch) = stream.try_next().await? {
                let (key, meta) = batch.columns().split_at(table.key.len());
                let operation = meta[0].as_any().downcast_ref::<Int8Array>();
                let operation = operation.ok_or_else(|| ReadError::malformed(&file.file.path))?;
                let set = meta.get(1).map(|set| set.as_any().downcast_ref::<BinaryArray>());
                let set = set
                    .map(|set| set.ok_or_else(|| ReadError::malformed(&file.file.path)))
                    .transpose()?;
                let converted = converter.convert_columns(key)?;
                for (at, row) in converted.iter().enumerate() {
                    let bits = set.filter(|set| set.is_valid(at)).map(|set| set.value(at));
                    let effect = match (operation.value(at), bits) {
                        (DELETE, _) => Effect::Delete,
                        (_, None) => Effect::Whole,
                        (_, Some(bits)) => Effect::Set(bits),
                    };
                    self.apply(&mut keys, row.as_ref(), before + at, &effect, &in_file);
                }
                before += batch.num_rows();
                if keys.bytes > self.scan.key_bytes_max && class.is_divisible() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(keys))
    }

    fn apply(
        &self,
        keys: &mut OverlaidKeys,
        key: &[u8],
        number: usize,
        effect: &Effect<'_>,
        in_file: &[bool],
    ) {
        if !keys.class.has(key) {
            return;
        }
        let latest = match keys.latest.entry(key.into()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                keys.bytes += key.len() + ENTRY_BYTES + size_of::<usize>() * self.wanted.len();
                let cells = vec![NONE; self.wanted.len()].into_boxed_slice();
                entry.insert(Latest { last: number, deleted: true, cells })
            }
        };
        latest.last = number;
        latest.deleted = matches!(effect, Effect::Delete);
        for (at, cell) in latest.cells.iter_mut().enumerate() {
            let column = self.wanted[at];
            let sets = match effect {
                Effect::Delete => false,
                Effect::Whole => true,
                Effect::Set(bits) => is_set(bits, column) || self.scan.table.key.contains(&column),
            };
            if sets {
                *cell = if in_file[at] { number } else { NONE };
            } else if latest.deleted {
                *cell = NONE;
            }
        }
    }

    async fn send_keys(&self, keys: OverlaidKeys, rows: &Receiver) -> Result<bool, ReadError> {
        let mut left: Vec<Latest> =
            keys.latest.into_values().filter(|latest| !latest.deleted).collect();
        left.sort_unstable_by_key(|latest| latest.last);
        let mut left = left.as_slice();
        let mut most = GROUP_ROWS_MAX;
        while !left.is_empty() {
            let (group, later) = left.split_at(left.len().min(most));
            let Some(arrays) = self.gather(group).await? else {
                most = (group.len() / 2).max(1);
                continue;
            };
            for start in (0..group.len()).step_by(BATCH_ROWS) {
                let count = BATCH_ROWS.min(group.len() - start);
                let batch = self.batch(&arrays, start..start + count);
                if rows.send(batch).await.is_err() {
                    return Ok(false);
                }
            }
            left = later;
        }
        Ok(true)
    }

    fn batch(&self, arrays: &[ArrayRef], rows: Range<usize>) -> Result<RecordBatch, ReadError> {
        let slices = arrays.iter().map(|array| array.slice(rows.start, rows.len()));
        let slices: Vec<ArrayRef> = slices.collect();
        self.scan.assemble(&self.wanted, &slices, self.constants, rows.len())
    }

    /// The wanted columns of some keys, one value for each; none if they do not fit into memory.
    async fn gather(&self, group: &[Latest]) -> Result<Option<Vec<ArrayRef>>, ReadError> {
        let sources: Vec<Vec<usize>> = (0..self.wanted.len())
            .map(|at| {
                let cells = group.iter().map(|latest| latest.cells[at]);
                let mut sources: Vec<usize> = cells.filter(|row| *row != NONE).collect();
                sources.sort_unstable();
                sources
            })
            .collect();
        let mut found: Vec<Vec<ArrayRef>> = vec![Vec::new(); self.wanted.len()];
        let (mut before, mut bytes) = (0, 0);
        for (file, run) in self.runs {
            let rows = usize::try_from(run.rows).expect("they were counted in memory");
            let in_run = |at: &usize| !within(&sources[*at], before..before + rows).is_empty();
            let present: Vec<usize> = (0..self.wanted.len()).filter(in_run).collect();
            let mut at = before;
            before += rows;
            if present.is_empty() {
                continue;
            }
            let columns: Vec<usize> = present.iter().map(|at| self.wanted[*at]).collect();
            let mut stream = file.stream(run, &columns)?;
            while let Some(batch) = stream.try_next().await? {
                for (column, wanted) in batch.columns().iter().zip(&present) {
                    let rows = within(&sources[*wanted], at..at + batch.num_rows());
                    if rows.is_empty() {
                        continue;
                    }
                    let places = rows.iter().map(|row| (row - at) as u64);
                    let taken = take(column, &UInt64Array::from_iter_values(places), None)?;
                    bytes += taken.get_array_memory_size();
                    found[*wanted].push(taken);
                }
                if bytes > self.group_bytes_max && group.len() > 1 {
                    return Ok(None);
                }
                at += batch.num_rows();
            }
        }
        let arrays = found.iter().zip(&sources).enumerate();
        let arrays = arrays.map(|(at, (found, sources))| self.align(at, group, found, sources));
        arrays.collect::<Result<Vec<_>, _>>().map(Some)
    }

    /// Values that were found in the order of their rows, in the order of the keys.
    fn align(
        &self,
        at: usize,
        group: &[Latest],
        found: &[ArrayRef],
        sources: &[usize],
    ) -> Result<ArrayRef, ReadError> {
        if found.is_empty() {
            let column = &self.scan.table.columns[self.wanted[at]];
            return Ok(new_null_array(&data_type(&column.column_type), group.len()));
        }
        let found: Vec<&dyn Array> = found.iter().map(|array| &**array).collect();
        let found = concat(&found)?;
        let place = |latest: &Latest| sources.binary_search(&latest.cells[at]).ok();
        let places = group.iter().map(|latest| place(latest).map(|place| place as u64));
        Ok(take(&found, &places.collect::<UInt64Array>(), None)?)
    }
}

/// Those of the sorted rows that are within a range.
fn within(sorted: &[usize], range: Range<usize>) -> &[usize] {
    let first = sorted.partition_point(|row| *row < range.start);
    let end = sorted.partition_point(|row| *row < range.end);
    &sorted[first..end]
}

/// No row: the cell is null.
const NONE: usize = usize::MAX;
/// Keys that are gathered at a time, at most: each time, the files are read once more.
const GROUP_ROWS_MAX: usize = 64 * 1024;
/// Bytes of values in memory, about.
const GROUP_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests;
