//! The rows that a table must hold: a feed folded by key, independently of everything that the sink
//! and the server do.
//!
//! The demo and `run --verify` compare the table read back with it. Invariant: nothing
//! here comes from the other crates of this project, only Parquet and Arrow's own readers and a
//! hash map: a mistake there cannot hide here.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;

/// Examples of differences that are told; the others are counted.
const EXAMPLES_MAX: usize = 5;
/// Rows read from a feed at once.
const BATCH_ROWS: usize = 8192;

/// Which columns make a row, and which values of the op column remove it.
#[derive(Clone, Debug)]
pub(crate) struct FoldColumns {
    /// The columns that name a row: key and partition.
    pub(crate) key: Vec<String>,
    /// All columns to compare, the key's too.
    pub(crate) all: Vec<String>,
    /// The op column; none means that nothing is ever removed.
    pub(crate) op: Option<String>,
    /// Values of the op column that remove the row.
    pub(crate) removing: Vec<String>,
}

/// The rows that are left, by key.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    rows: HashMap<Box<str>, Box<str>>,
    /// Events folded.
    pub(crate) events: u64,
}

/// How a table differs from a fold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Rows of the table.
    pub(crate) rows: u64,
    /// Rows that differ, are missing, or should not be there.
    pub(crate) differences: u64,
    /// The first few, in words.
    pub(crate) examples: Vec<String>,
}

impl Fold {
    /// Adds the events of one Parquet file.
    pub(crate) fn add<C: ChunkReader + 'static>(
        &mut self,
        feed: C,
        columns: &FoldColumns,
    ) -> anyhow::Result<()> {
        let reader = ParquetRecordBatchReaderBuilder::try_new(feed)?;
        for batch in reader.with_batch_size(BATCH_ROWS).build()? {
            let batch = batch?;
            let keys = render(&batch, &columns.key)?;
            let rows = render(&batch, &columns.all)?;
            let ops = match &columns.op {
                Some(op) => texts(&batch, op)?,
                None => vec![None; keys.len()],
            };
            self.events += keys.len() as u64;
            for ((key, row), op) in keys.into_iter().zip(rows).zip(ops) {
                if op.is_some_and(|op| columns.removing.contains(&op)) {
                    self.rows.remove(&key);
                } else {
                    self.rows.insert(key, row);
                }
            }
        }
        Ok(())
    }

    /// Takes the rows of a batch of the table out of the fold, and notes what differs.
    pub(crate) fn take(
        &mut self,
        batch: &RecordBatch,
        columns: &FoldColumns,
        found: &mut Comparison,
    ) -> anyhow::Result<()> {
        let keys = render(batch, &columns.key)?;
        let rows = render(batch, &columns.all)?;
        for (key, row) in keys.into_iter().zip(rows) {
            found.rows += 1;
            match self.rows.remove(&key) {
                None => found.note(|| format!("{} is in the table, not in the feed", shown(&row))),
                Some(expected) if expected == row => {}
                Some(expected) => found.note(|| {
                    format!("the table says {}, the feed {}", shown(&row), shown(&expected))
                }),
            }
        }
        Ok(())
    }

    /// Notes what the table lacks: whatever was not taken out.
    pub(crate) fn finish(self, found: &mut Comparison) {
        let mut missing: Vec<Box<str>> = self.rows.into_values().collect();
        missing.sort_unstable();
        for row in missing {
            found.note(|| format!("{} is in the feed, not in the table", shown(&row)));
        }
    }
}

impl Comparison {
    fn note(&mut self, example: impl FnOnce() -> String) {
        self.differences += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

/// Separates values; a control character, so that no text of a feed runs into the next.
const SEPARATOR: char = '\u{1f}';

fn shown(row: &str) -> String {
    format!("({})", row.trim_end_matches(SEPARATOR).replace(SEPARATOR, ", "))
}

/// Each row as text, equal if and only if its values are.
fn render(batch: &RecordBatch, names: &[String]) -> anyhow::Result<Vec<Box<str>>> {
    let mut arrays = Vec::with_capacity(names.len());
    for name in names {
        let column =
            batch.column_by_name(name).with_context(|| format!("there is no column `{name}`"))?;
        arrays.push(canonical(column)?);
    }
    let options = FormatOptions::new().with_null("null");
    let formatters: Result<Vec<_>, _> =
        arrays.iter().map(|array| ArrayFormatter::try_new(array, &options)).collect();
    let formatters = formatters?;
    let mut rows = Vec::with_capacity(batch.num_rows());
    let mut text = String::new();
    for row in 0..batch.num_rows() {
        text.clear();
        for (array, formatter) in arrays.iter().zip(&formatters) {
            // Text that says "null" is not the same as no text.
            let mark = if array.is_null(row) { "" } else { "=" };
            write!(text, "{mark}{}{SEPARATOR}", formatter.value(row))?;
        }
        rows.push(Box::from(text.as_str()));
    }
    Ok(rows)
}

/// The values of a text column.
fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<Vec<Option<String>>> {
    let column =
        batch.column_by_name(name).with_context(|| format!("there is no column `{name}`"))?;
    let texts = cast_with_options(column, &DataType::Utf8, &CastOptions::default())?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.map(String::from)).collect())
}

/// The same values in the widest type of their family: a feed and a table need not agree on more.
fn canonical(array: &ArrayRef) -> anyhow::Result<ArrayRef> {
    let wide = match array.data_type() {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => DataType::Int64,
        DataType::Float32 => DataType::Float64,
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Dictionary(_, _) => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Nanosecond, None),
        other => other.clone(),
    };
    // A value that does not fit must be an error: as null it would equal every other such value.
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(array, &wide, &exact)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::StringArray;
    use bytes::Bytes;

    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../data/flights_cdc_2013_01.parquet");

    fn columns() -> FoldColumns {
        let names = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        FoldColumns {
            key: names(&["day", "carrier", "flight", "origin"]),
            all: names(&["day", "carrier", "flight", "origin", "dest", "sched_dep", "distance"]),
            op: Some(String::from("op")),
            removing: names(&["D"]),
        }
    }

    fn sample() -> Fold {
        let mut fold = Fold::default();
        fold.add(Bytes::from_static(SAMPLE), &columns()).expect("the sample is readable");
        fold
    }

    /// The rows that a right table would have: of each key the last event, unless it removes.
    fn table() -> RecordBatch {
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from_static(SAMPLE));
        let reader = reader.expect("readable").with_batch_size(1 << 20).build().expect("readable");
        let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("readable")).collect();
        let batch = &batches[0];
        assert_eq!(batches.len(), 1);
        let keys = render(batch, &columns().key).expect("renders");
        let ops = batch.column_by_name("op").expect("there").as_string::<i32>();
        let last: HashMap<&str, usize> =
            keys.iter().enumerate().map(|(row, key)| (key.as_ref(), row)).collect();
        let kept: Vec<bool> = (0..keys.len())
            .map(|row| last[keys[row].as_ref()] == row && ops.value(row) != "D")
            .collect();
        arrow_select::filter::filter_record_batch(batch, &kept.into()).expect("filters")
    }

    #[test]
    fn the_sample_folds_to_its_documented_rows() {
        let fold = sample();
        assert_eq!((fold.events, fold.rows.len()), (80_406, 26_483));
        let (mut fold, mut found) = (fold, Comparison::default());
        fold.take(&table(), &columns(), &mut found).expect("comparable");
        fold.finish(&mut found);
        assert_eq!(found, Comparison { rows: 26_483, ..Comparison::default() });
    }

    #[test]
    fn one_corrupted_row_is_seen() {
        let table = table();
        let index = table.schema().index_of("dest").expect("there");
        let mut dest: Vec<Option<String>> =
            table.column(index).as_string::<i32>().iter().map(|d| d.map(String::from)).collect();
        dest[12_345] = Some(String::from("ZZZ"));
        let mut arrays = table.columns().to_vec();
        arrays[index] = Arc::new(StringArray::from(dest));
        let corrupted = RecordBatch::try_new(table.schema(), arrays).expect("same types");
        let (mut fold, mut found) = (sample(), Comparison::default());
        fold.take(&corrupted, &columns(), &mut found).expect("comparable");
        fold.finish(&mut found);
        assert_eq!(found.differences, 1);
        assert!(found.examples[0].contains("ZZZ"), "{found:?}");
    }

    #[test]
    fn one_missing_row_and_one_too_many_are_seen() {
        let table = table();
        let (mut fold, mut found) = (sample(), Comparison::default());
        fold.take(&table.slice(1, table.num_rows() - 1), &columns(), &mut found).expect("fine");
        fold.take(&table.slice(1, 1), &columns(), &mut found).expect("fine");
        fold.finish(&mut found);
        assert_eq!(found.differences, 2);
    }
}
