//! Writes records straight from a batch: the hot path.
//!
//! Rows come from `bucket` and their records go to `buffer`. They are written in blocks, column by
//! column (`block`, `step`); a row that a block leaves out, because it is large or breaks a rule,
//! is written or refused the plain way. Invariant: for the same values both ways write the same
//! bytes and checksum as `encode_values`, and a row that breaks a rule leaves nothing behind.
//!
//! How bytes move is told in `bytes`.

use alloc::vec;
use alloc::vec::Vec;

use super::block::{BLOCK_ROWS, RecordBlock, RowSet};
use super::bytes::{OVERRUN_BYTES, RECORD_BYTES_MAX, RecordBytes};
use super::crc::Crc;
use super::partial::PartialRows;
use super::step::{RecordEnd, Room, Step};
use super::value_encode::{encode_values, push_value};
use super::varint::push_varint;
use super::{Op, table_value};
use crate::batch::{RowBatch, RowFault, Values};
use crate::schema::{ColumnType, RowPlan, TableSchema};

/// Writes the records of one table from batches of one plan.
#[derive(Clone, Debug)]
pub struct RecordEncoder {
    /// The columns that rows bring, in the table's order.
    columns: Vec<Step>,
    /// Those of the primary key.
    key: Vec<Step>,
    /// How many columns the primary key has, if a record begins with them, a delete like an upsert,
    /// and is merged by them as they stand there; else none.
    leading_key: usize,
    upsert: RecordEnd,
    delete: RecordEnd,
    /// The types of all of the table's columns.
    types: Vec<ColumnType>,
    /// The most that a record takes beside the bytes of its texts and nested values.
    fixed_bytes: usize,
    partial: Option<PartialRows>,
}

impl RecordEncoder {
    /// An encoder for this table and plan.
    ///
    /// Panics if the table has more than a million columns; no catalog allows that.
    pub fn new(schema: &TableSchema, plan: &RowPlan) -> Self {
        assert!(schema.columns.len() <= 1_000_000, "a table has at most a million columns");
        let sources = plan.columns.iter().enumerate();
        let columns: Vec<Step> = sources
            .filter_map(|(index, source)| Some(Step::new(schema, index, (*source)?)))
            .collect();
        let after = schema.columns.len() as u32;
        let values: usize = columns.iter().map(Step::bytes_max).sum();
        Self {
            leading_key: 0,
            key: columns.iter().filter(|step| step.of_key).cloned().collect(),
            columns,
            upsert: RecordEnd::new(after, Op::Upsert),
            delete: RecordEnd::new(after, Op::Delete),
            types: schema.column_types(),
            fixed_bytes: values + RecordEnd::BYTES_MAX + OVERRUN_BYTES,
            partial: None,
        }
    }

    /// The same for rows that write some columns only, if they do: all of them the plain way.
    pub fn partial(mut self, partial: Option<PartialRows>) -> Self {
        if partial.is_some() {
            // A block has no room for a row.
            (self.fixed_bytes, self.leading_key) = (RECORD_BYTES_MAX, 0);
        }
        Self { partial, ..self }
    }

    /// The same for records that are merged by `merge_key`.
    pub fn merged(self, merged: bool) -> Self {
        let key = self.key.len();
        let leads = self.columns[..key].iter().all(|step| step.of_key);
        let leading_key = if merged && leads && self.partial.is_none() { key } else { 0 };
        Self { leading_key, ..self }
    }

    /// Writes the records of the rows from `first` to the end of the batch, or as many as a block
    /// takes, in place of what `block` held. Returns how many rows there are. Of a delete the
    /// primary key is written.
    pub fn encode_block(
        &self,
        batch: &RowBatch<'_>,
        first: usize,
        block: &mut RecordBlock,
    ) -> usize {
        let rest = batch.rows() - first;
        let Some(room) = self.room(batch) else {
            block.begin(0, RowSet::default(), RowSet::default());
            return rest.min(BLOCK_ROWS);
        };
        let count = rest.min(BLOCK_ROWS).min(RECORD_BYTES_MAX / room.stride);
        let deletes = match batch.only_inserts() {
            true => RowSet::default(),
            false => RowSet::of(count, |index| batch.kind(first + index).removes()),
        };
        block.begin(room.stride, RowSet::first(count).difference(deletes), deletes);
        for (index, step) in self.columns.iter().enumerate() {
            step.write(batch, first, room, block);
            if index + 1 == self.leading_key {
                block.end_keys();
            }
        }
        self.end(block);
        count
    }

    #[inline(never)]
    fn end(&self, block: &mut RecordBlock) {
        let (upsert, delete) = (self.upsert, self.delete);
        block.each(block.upserts(), move |_, crc, out| Some(upsert.write(crc, out)));
        block.each(block.deletes(), move |_, crc, out| Some(delete.write(crc, out)));
    }

    /// Twice what the batch's rows take on average, so that few do not fit; none if a block cannot
    /// hold a row.
    fn room(&self, batch: &RowBatch<'_>) -> Option<Room> {
        let average = batch.bytes() / batch.rows().max(1);
        let stride = (self.fixed_bytes + 2 * average).next_multiple_of(STRIDE_BYTES);
        let stride = stride.min(RECORD_BYTES_MAX);
        (self.fixed_bytes < stride).then_some(Room { stride, fixed: self.fixed_bytes })
    }

    /// Writes the record of a row the plain way, in place of what `out` held, and returns its
    /// checksum.
    ///
    /// Errors: the rule of the table that the row breaks; `out` then holds nothing.
    #[cold]
    pub fn encode(
        &self,
        batch: &RowBatch<'_>,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<u32, RowFault> {
        out.clear();
        let op = Op::of(batch.kind(row));
        let steps = if op == Op::Delete { &self.key } else { &self.columns };
        let mut values = vec![None; self.types.len()];
        for step in steps {
            let column = batch.column(step.source);
            let value = table_value(column, row, &step.column_type)
                .and_then(|value| match (value, step.null_rule) {
                    (None, Some(rule)) => Err(rule.into()),
                    (value, _) => Ok(value),
                })
                .map_err(|rule| RowFault::new(&step.name, rule))?;
            values[step.index()] = value;
        }
        match &self.partial {
            Some(partial) => Ok(partial.encode(&values, op, out)),
            None => Ok(encode_values(&self.types, &values, op, out)),
        }
    }

    /// The bytes by which records are merged: they are equal for two rows that have been encoded if
    /// and only if their keys are. For a row that a block has written, `in_block` is what that says
    /// of its key.
    #[inline(always)]
    pub fn merge_key<'a>(
        &self,
        batch: &RowBatch<'_>,
        row: usize,
        in_block: Option<&'a [u8]>,
        out: &'a mut RecordBytes,
    ) -> &'a [u8] {
        if let Some(key) = in_block {
            return key;
        }
        match self.leading_key {
            0 => self.key(batch, row, out),
            _ => self.key_plain(batch, row, out, |step, out| push_varint(out, step.tag())),
        }
        out
    }

    /// Writes, in place of what `out` held, bytes that are equal for two rows if and only if their
    /// keys are. The row has been encoded before.
    pub fn key(&self, batch: &RowBatch<'_>, row: usize, out: &mut RecordBytes) {
        let mut cursor = out.cursor();
        for step in &self.key {
            let column = batch.column(step.source);
            match &column.values {
                Values::Int64(values) => cursor.word(u64::from_le_bytes(values[row]), 8),
                Values::Int32(values) => cursor.word(u64::from(u32::from_le_bytes(values[row])), 4),
                Values::Utf8(slices) => {
                    let (from, to) = slices.range(row);
                    if cursor.at() + (to - from) > KEY_TEXT_END_MAX {
                        return self.key_plain(batch, row, out, |_, _| {});
                    }
                    cursor.word((to - from) as u64, 4);
                    cursor.copy(slices.batch(), from, to);
                }
                _ => return self.key_plain(batch, row, out, |_, _| {}),
            }
        }
        let end = cursor.at();
        out.finish(end);
    }

    /// The plain way, for keys of rare types and large ones: each value after what `before` writes.
    #[cold]
    fn key_plain(
        &self,
        batch: &RowBatch<'_>,
        row: usize,
        out: &mut RecordBytes,
        before: impl Fn(&Step, &mut Vec<u8>),
    ) {
        let out = out.far();
        for step in &self.key {
            // A key that was encoded is a value of its column.
            if let Ok(Some(value)) = table_value(batch.column(step.source), row, &step.column_type)
            {
                before(step, out);
                push_value(Crc::START, &step.column_type, &value, out);
            }
        }
    }
}

/// A row's stretch of a block is a multiple of this: a line of the cache.
const STRIDE_BYTES: usize = 64;
/// Where the text of a key may end in the array: the numbers of a key that follow it still fit.
const KEY_TEXT_END_MAX: usize = RECORD_BYTES_MAX / 2;
