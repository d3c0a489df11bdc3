//! Rows of an Arrow `RecordBatch` as the `columns` form of `wit/README.md`, and their types as row
//! types.
//!
//! First step of a row in this library: `sink.rs` → here → `shuffle.rs` → a writer's queue.
//! Invariant: every buffer of the result begins at a multiple of 8 and every offset at 0, whatever
//! slice the rows were; no value is changed but by a lossless cast.

pub(crate) mod row_type;
#[cfg(test)]
mod tests;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, types};
use arrow_buffer::Buffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, IntervalUnit, Schema};
pub use upsert_sink_format::batch::RowKind;
use upsert_sink_format::batch::{FormNode, FormWriter};

use crate::error::{Error, Result};

/// The columns of rows with this schema, as `task.columns` names them: name and row type.
///
/// # Errors
/// `InvalidConfig` naming the column whose type has no place in the contract.
pub(crate) fn row_columns(schema: &Schema) -> Result<Vec<(String, String)>> {
    let columns = schema.fields().iter().map(|field| {
        let row_type = row_type::of(field.data_type()).map_err(|why| {
            Error::config(field.name(), format!("the column's type {} {why}", field.data_type()))
        })?;
        Ok((field.name().clone(), row_type.to_string()))
    });
    columns.collect()
}

/// One batch in the `columns` form. `kinds` is empty if all rows are inserts.
///
/// # Errors
/// `Bug` if `kinds` has another length than the rows, or the batch is larger than 4 GiB.
pub(crate) fn encode(rows: &RecordBatch, kinds: &[RowKind]) -> Result<Vec<u8>> {
    if !kinds.is_empty() && kinds.len() != rows.num_rows() {
        let message = format!("{} row kinds for {} rows", kinds.len(), rows.num_rows());
        return Err(Error::bug("batch", message));
    }
    let mut columns = Columns(FormWriter::new());
    for (column, field) in rows.columns().iter().zip(rows.schema().fields()) {
        columns.column(column).map_err(|why| Error::config(field.name(), why))?;
    }
    let kinds: Vec<u8> = kinds.iter().map(|kind| *kind as u8).collect();
    let written = columns.0.finish(rows.num_rows(), rows.num_columns(), &kinds);
    written.map_err(|too_large| Error::bug("batch", too_large.to_string()))
}

/// Arrow's buffers as those of the form: lent, not copied, until the batch is written.
struct Columns(FormWriter<Buffer>);

type Outcome = std::result::Result<(), String>;

impl Columns {
    fn column(&mut self, column: &ArrayRef) -> Outcome {
        let normal = row_type::normal(column.data_type())?;
        if normal == *column.data_type() {
            return self.node(column);
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let cast = cast_with_options(column, &normal, &options);
        self.node(&cast.map_err(|error| format!("it cannot be read as {normal}: {error}"))?)
    }

    /// One array of a normal type, then its children, depth first.
    fn node(&mut self, array: &ArrayRef) -> Outcome {
        let children = children(array);
        let head = row_type::head(array.data_type())?;
        self.0.node(FormNode { children: children.len(), values: array.len(), ..head });
        self.0.buffer(validity(array));
        self.values(array)?;
        children.iter().try_for_each(|child| self.node(child))
    }

    fn values(&mut self, array: &ArrayRef) -> Outcome {
        match array.data_type() {
            DataType::Struct(_) => {}
            DataType::Boolean => self.0.buffer(array.as_boolean().values().sliced()),
            DataType::Utf8 => {
                let strings = array.as_string::<i32>();
                self.bytes(strings.value_offsets(), strings.values());
            }
            DataType::Binary => {
                let binary = array.as_binary::<i32>();
                self.bytes(binary.value_offsets(), binary.values());
            }
            DataType::List(_) => self.offsets(array.as_list::<i32>().value_offsets()),
            DataType::Map(..) => self.offsets(array.as_map().value_offsets()),
            _ => self.0.buffer(numbers(array)?),
        }
        Ok(())
    }

    fn bytes(&mut self, offsets: &[i32], values: &Buffer) {
        self.offsets(offsets);
        let (first, last) = bounds(offsets);
        self.0.buffer(values.slice_with_length(first, last - first));
    }

    /// Offsets of a slice begin anywhere; those of the form begin at 0.
    fn offsets(&mut self, offsets: &[i32]) {
        let first = offsets.first().copied().unwrap_or_default();
        let moved: Vec<i32> = offsets.iter().map(|offset| offset - first).collect();
        self.0.buffer(if moved.is_empty() {
            Buffer::from_vec(vec![0_i32])
        } else {
            Buffer::from_vec(moved)
        });
    }
}

/// The children in the order of the form, cut to what the array's slice covers.
fn children(array: &ArrayRef) -> Vec<ArrayRef> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (first, last) = bounds(list.value_offsets());
            vec![list.values().slice(first, last - first)]
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (first, last) = bounds(map.value_offsets());
            let entries = [map.keys(), map.values()];
            entries.into_iter().map(|entries| entries.slice(first, last - first)).collect()
        }
        DataType::Struct(_) => array.as_struct().columns().to_vec(),
        _ => Vec::new(),
    }
}

fn bounds(offsets: &[i32]) -> (usize, usize) {
    let bound = |offset: Option<&i32>| usize::try_from(*offset.unwrap_or(&0)).unwrap_or_default();
    (bound(offsets.first()), bound(offsets.last()))
}

fn validity(array: &ArrayRef) -> Buffer {
    match array.nulls() {
        Some(nulls) if nulls.null_count() > 0 => nulls.inner().sliced(),
        _ => Buffer::default(),
    }
}

/// The values of an array of fixed width. `values()` is already cut to the slice.
fn numbers(array: &ArrayRef) -> std::result::Result<Buffer, String> {
    macro_rules! values {
        ($type:ty) => {
            array.as_primitive::<$type>().values().inner().clone()
        };
    }
    use arrow_schema::TimeUnit::*;
    Ok(match array.data_type() {
        DataType::Int8 => values!(types::Int8Type),
        DataType::Int16 => values!(types::Int16Type),
        DataType::Int32 => values!(types::Int32Type),
        DataType::Int64 => values!(types::Int64Type),
        DataType::Float32 => values!(types::Float32Type),
        DataType::Float64 => values!(types::Float64Type),
        DataType::Decimal128(..) => values!(types::Decimal128Type),
        DataType::Date32 => values!(types::Date32Type),
        DataType::Timestamp(Second, _) => values!(types::TimestampSecondType),
        DataType::Timestamp(Millisecond, _) => values!(types::TimestampMillisecondType),
        DataType::Timestamp(Microsecond, _) => values!(types::TimestampMicrosecondType),
        DataType::Timestamp(Nanosecond, _) => values!(types::TimestampNanosecondType),
        DataType::Duration(Second) => values!(types::DurationSecondType),
        DataType::Duration(Millisecond) => values!(types::DurationMillisecondType),
        DataType::Duration(Microsecond) => values!(types::DurationMicrosecondType),
        DataType::Duration(Nanosecond) => values!(types::DurationNanosecondType),
        DataType::Interval(IntervalUnit::YearMonth) => values!(types::IntervalYearMonthType),
        other => return Err(format!("{other} has no fixed width")),
    })
}
