//! Writes records straight from a batch: the hot path.
//!
//! A row comes from `bucket` and its record goes to `buffer`. Everything that can be known at open
//! is: which column, which tag, which constant bytes and checksums. Invariant: for the same values
//! it writes the same bytes and checksum as `encode_values`, and a row that breaks a rule leaves
//! `out` as it was.
//!
//! How bytes move is told in `bytes`.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::bytes::{Cursor, RECORD_BYTES_MAX, RecordBytes};
use super::convert::{self, Rule};
use super::crc::Crc;
use super::decimal::{DECIMAL_BYTES_MAX, write_decimal};
use super::value_encode::{encode_values, push_value};
use super::varint::{push_varint, varint_len, varint_word, zigzag};
use super::{Op, table_value, wire};
use crate::batch::{Column, RowBatch, RowFault, TimeUnit, Values};
use crate::hash::NULL_KEY;
use crate::schema::{ColumnType, RowPlan, TableSchema};

/// Writes the records of one table from batches of one plan.
#[derive(Clone, Debug)]
pub struct RecordEncoder {
    /// The columns that rows bring, in the table's order.
    columns: Vec<Step>,
    /// Those of the primary key: all that a delete writes.
    key: Vec<Step>,
    upsert: Ending,
    delete: Ending,
    /// The types of all of the table's columns.
    types: Vec<ColumnType>,
    /// Where a text may end so that whatever else the record has still fits into the array.
    text_end_max: usize,
}

/// How one column is written.
#[derive(Clone, Debug)]
struct Step {
    name: String,
    /// The column of the batch.
    source: usize,
    column_type: ColumnType,
    /// The field's number, as the checksum wants it.
    number: u32,
    /// The field's tag as it stands on the wire: the first `tag_bytes` bytes.
    tag: u64,
    tag_bytes: usize,
    /// A text of so many bytes needs no look at its characters.
    shortest_limit: usize,
    /// What breaks if it is null; none if it may be.
    null_rule: Option<&'static str>,
}

/// What ends every record of one operation, up to the value of its checksum.
#[derive(Clone, Copy, Debug)]
struct Ending {
    words: [u64; 2],
    length: usize,
    /// The number of the operation's field.
    number: u32,
    /// What the bytes after that number contribute to the checksum.
    constant: u32,
}

/// Why a value is not written.
enum Stop {
    /// It breaks a rule.
    Fault(Rule),
    /// The array might not hold it.
    Large,
}

impl From<Rule> for Stop {
    fn from(rule: Rule) -> Self {
        Self::Fault(rule)
    }
}

impl RecordEncoder {
    /// An encoder for this table and plan.
    ///
    /// Panics if the table has more than a million columns; no catalog allows that.
    pub fn new(schema: &TableSchema, plan: &RowPlan) -> Self {
        assert!(schema.columns.len() <= 1_000_000, "a table has at most a million columns");
        let mut columns = Vec::with_capacity(schema.columns.len());
        let mut key = Vec::with_capacity(schema.key.len());
        for index in 0..schema.columns.len() {
            let Some(source) = plan.columns[index] else { continue };
            let step = Step::new(schema, index, source);
            if schema.key.contains(&index) {
                key.push(step.clone());
            }
            columns.push(step);
        }
        let after = schema.columns.len() as u32;
        let fixed_bytes = (columns.len() + 2) * COLUMN_BYTES_MAX;
        Self {
            columns,
            key,
            upsert: Ending::new(after, Op::Upsert),
            delete: Ending::new(after, Op::Delete),
            types: schema.column_types(),
            text_end_max: RECORD_BYTES_MAX.saturating_sub(fixed_bytes),
        }
    }

    /// Writes the record of a row, in place of what `out` held, and returns its checksum. A delete
    /// writes the primary key only.
    ///
    /// Errors: the rule of the table that the row breaks; `out` then holds nothing.
    pub fn encode(
        &self,
        batch: &RowBatch<'_>,
        row: usize,
        op: Op,
        out: &mut RecordBytes,
    ) -> Result<u32, RowFault> {
        let (steps, ending) = match op {
            Op::Delete => (&self.key, &self.delete),
            Op::Upsert => (&self.columns, &self.upsert),
        };
        if self.text_end_max == 0 {
            return self.encode_large(steps, batch, row, op, out);
        }
        let mut cursor = out.cursor();
        let mut crc = Crc::START;
        for step in steps {
            let column = batch.column(step.source);
            let written = if column.is_null(row) {
                step.null(crc)
            } else {
                step.value(crc, column, row, &mut cursor, self.text_end_max)
            };
            match written {
                Ok(next) => crc = next,
                Err(Stop::Large) => return self.encode_large(steps, batch, row, op, out),
                Err(Stop::Fault(rule)) => {
                    out.clear();
                    return Err(RowFault::new(&step.name, rule));
                }
            }
        }
        let crc = ending.write(crc, &mut cursor);
        let end = cursor.at();
        out.finish(end);
        Ok(crc)
    }

    /// The plain way, for records that are too large for the array.
    #[cold]
    fn encode_large(
        &self,
        steps: &[Step],
        batch: &RowBatch<'_>,
        row: usize,
        op: Op,
        out: &mut RecordBytes,
    ) -> Result<u32, RowFault> {
        out.clear();
        let mut values = vec![None; self.types.len()];
        for step in steps {
            let column = batch.column(step.source);
            let value = table_value(column, row, &step.column_type)
                .and_then(|value| match (value, step.null_rule) {
                    (None, Some(rule)) => Err(rule.into()),
                    (value, _) => Ok(value),
                })
                .map_err(|rule| RowFault::new(&step.name, rule))?;
            values[step.number as usize - 1] = value;
        }
        Ok(encode_values(&self.types, &values, op, out.far()))
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
                    if cursor.at() + (to - from) > self.text_end_max {
                        return self.key_large(batch, row, out);
                    }
                    cursor.word((to - from) as u64, 4);
                    cursor.copy(slices.batch(), from, to);
                }
                _ => return self.key_large(batch, row, out),
            }
        }
        let end = cursor.at();
        out.finish(end);
    }

    /// The plain way, for keys of rare types and large ones.
    #[cold]
    fn key_large(&self, batch: &RowBatch<'_>, row: usize, out: &mut RecordBytes) {
        let out = out.far();
        for step in &self.key {
            // A key that was encoded is a value of its column.
            if let Ok(Some(value)) = table_value(batch.column(step.source), row, &step.column_type)
            {
                push_value(Crc::START, &step.column_type, &value, out);
            }
        }
    }
}

impl Ending {
    fn new(after: u32, op: Op) -> Self {
        let (operation, value_columns) = (after + wire::OPERATION, after + wire::VALUE_COLUMNS);
        let letter = zigzag(i64::from(op.letter()));
        let parts = [
            u64::from(wire::tag(operation, wire::VARINT)),
            letter,
            u64::from(wire::tag(value_columns, wire::DELIMITED)),
            0,
            u64::from(wire::tag(wire::END_RECORD, wire::VARINT)),
        ];
        let mut bytes = Vec::with_capacity(16);
        for part in parts {
            push_varint(&mut bytes, part);
        }
        let length = bytes.len();
        bytes.resize(16, 0);
        let constant = Crc::constant(u32::from(op.letter()), u64::from(value_columns) << 32);
        let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| bytes[at + i]));
        Self { words: [word(0), word(8)], length, number: operation, constant }
    }

    /// Writes the end and the checksum, which it returns.
    #[inline(always)]
    fn write(&self, crc: Crc, out: &mut Cursor<'_>) -> u32 {
        out.word(self.words[0], 8);
        out.word(self.words[1], self.length - 8);
        let crc = crc.constant_block(self.number, self.constant).finish();
        out.varint(u64::from(crc));
        crc
    }
}

impl Step {
    fn new(schema: &TableSchema, index: usize, source: usize) -> Self {
        let column = &schema.columns[index];
        let number = index as u32 + 1;
        let tag = u64::from(wire::tag(number, wire::wire_type(&column.column_type)));
        let tag_bytes = varint_len(tag);
        Self {
            name: column.name.clone(),
            source,
            column_type: column.column_type.clone(),
            number,
            tag: varint_word(tag, tag_bytes),
            tag_bytes,
            shortest_limit: convert::shortest_limit(&column.column_type),
            null_rule: match (schema.key.contains(&index), column.nullable) {
                (true, _) => Some(NULL_KEY),
                (false, false) => Some("it is null, and the table does not let it be"),
                (false, true) => None,
            },
        }
    }

    /// Nothing is written for null.
    #[inline(always)]
    fn null(&self, crc: Crc) -> Result<Crc, Stop> {
        match self.null_rule {
            Some(rule) => Err(Stop::Fault(rule.into())),
            None => Ok(crc),
        }
    }

    /// Writes a value that is not null, tag first; returns the checksum with both.
    #[inline(always)]
    fn value(
        &self,
        crc: Crc,
        column: &Column<'_>,
        row: usize,
        out: &mut Cursor<'_>,
        text_end_max: usize,
    ) -> Result<Crc, Stop> {
        out.word(self.tag, self.tag_bytes);
        Ok(match &column.values {
            Values::Int64(values) => self.integer(crc, i64::from_le_bytes(values[row]), out),
            Values::Int32(values) | Values::Months(values) => {
                self.integer(crc, i64::from(i32::from_le_bytes(values[row])), out)
            }
            Values::Int16(values) => {
                self.integer(crc, i64::from(i16::from_le_bytes(values[row])), out)
            }
            Values::Int8(values) => self.integer(crc, i64::from(values[row] as i8), out),
            Values::Date32(values) => {
                self.integer(crc, convert::date(i32::from_le_bytes(values[row]))?, out)
            }
            Values::Float64(values) => self.double(crc, u64::from_le_bytes(values[row]), out),
            Values::Float32(values) => self.float(crc, f32::from_le_bytes(values[row]), out),
            Values::Bool(bits) => self.boolean(crc, crate::batch::bit(bits, row), out),
            Values::Utf8(slices) | Values::Binary(slices) => {
                let (from, to) = slices.range(row);
                if out.at() + (to - from) > text_end_max {
                    return Err(Stop::Large);
                }
                if to - from > self.shortest_limit {
                    convert::check_length(slices.bytes(row), &self.column_type)?;
                }
                self.slice(crc, slices.batch(), from, to, out)
            }
            Values::Timestamp(unit, values) => {
                self.instant(crc, *unit, i64::from_le_bytes(values[row]), out)?
            }
            Values::Duration(unit, values) => {
                let (seconds, nanos) = convert::parts(*unit, i64::from_le_bytes(values[row]));
                self.time(crc, seconds, nanos, out)
            }
            Values::Decimal128 { scale, unscaled } => {
                let unscaled = i128::from_le_bytes(unscaled[row]);
                out.lend(|out| self.decimal(crc, *scale, unscaled, out))?
            }
            Values::List(..) | Values::Map(..) | Values::Struct(_) => {
                out.lend(|out| self.nested(crc, column, row, out, text_end_max))?
            }
        })
    }

    #[inline(always)]
    fn integer(&self, crc: Crc, value: i64, out: &mut Cursor<'_>) -> Crc {
        out.varint(zigzag(value));
        crc.integer(self.number, value)
    }

    #[inline(always)]
    fn double(&self, crc: Crc, bits: u64, out: &mut Cursor<'_>) -> Crc {
        out.word(bits, 8);
        crc.tagged(self.number, bits)
    }

    #[inline(always)]
    fn float(&self, crc: Crc, value: f32, out: &mut Cursor<'_>) -> Crc {
        if self.column_type == ColumnType::Double {
            return self.double(crc, f64::from(value).to_bits(), out);
        }
        out.word(u64::from(value.to_bits()), 4);
        crc.words(self.number, value.to_bits())
    }

    #[inline(always)]
    fn boolean(&self, crc: Crc, value: bool, out: &mut Cursor<'_>) -> Crc {
        out.word(u64::from(value), 1);
        crc.word(self.number).byte(u8::from(value))
    }

    #[inline(always)]
    fn instant(
        &self,
        crc: Crc,
        unit: TimeUnit,
        value: i64,
        out: &mut Cursor<'_>,
    ) -> Result<Crc, Stop> {
        if matches!(self.column_type, ColumnType::Datetime) {
            return Ok(self.integer(crc, convert::datetime(unit, value)?, out));
        }
        let (seconds, nanos) = convert::timestamp(unit, value)?;
        Ok(self.time(crc, seconds, nanos, out))
    }

    #[inline(always)]
    fn time(&self, crc: Crc, seconds: i64, nanos: u32, out: &mut Cursor<'_>) -> Crc {
        out.varint(zigzag(seconds));
        out.varint(zigzag(i64::from(nanos)));
        let seconds = seconds as u64;
        let low = u64::from(self.number) | (seconds << 32);
        crc.block(low, (seconds >> 32) | (u64::from(nanos) << 32))
    }

    #[inline(never)]
    fn decimal(
        &self,
        crc: Crc,
        from: u8,
        unscaled: i128,
        out: &mut Cursor<'_>,
    ) -> Result<Crc, Stop> {
        let ColumnType::Decimal { precision, scale } = self.column_type else {
            return Err(Stop::Fault(
                "the plan lets no decimal become it: a bug of the sink".into(),
            ));
        };
        let unscaled = convert::decimal(unscaled, from, precision, scale)?;
        let mut text = [0; DECIMAL_BYTES_MAX];
        let start = write_decimal(unscaled, scale, &mut text);
        Ok(self.slice(crc, &text, start, DECIMAL_BYTES_MAX, out))
    }

    /// A length, and the bytes of `source` from `from` to `to`; there are 16 bytes before `to`.
    #[inline(always)]
    fn slice(&self, crc: Crc, source: &[u8], from: usize, to: usize, out: &mut Cursor<'_>) -> Crc {
        match to - from {
            short @ ..128 => out.word(short as u64, 1),
            long => out.varint(long as u64),
        }
        out.slice(crc.word(self.number), source, from, to)
    }

    #[inline(never)]
    fn nested(
        &self,
        crc: Crc,
        column: &Column<'_>,
        row: usize,
        out: &mut Cursor<'_>,
        text_end_max: usize,
    ) -> Result<Crc, Stop> {
        let Some(value) = table_value(column, row, &self.column_type)? else {
            return Err(Stop::Large);
        };
        // `copy` may read 16 bytes before the end.
        let mut bytes = vec![0; 16];
        let crc = push_value(crc.word(self.number), &self.column_type, &value, &mut bytes);
        if out.at() + bytes.len() > text_end_max {
            return Err(Stop::Large);
        }
        out.copy(&bytes, 16, bytes.len());
        Ok(crc)
    }
}

/// No column takes more, but for the bytes of its text: tag, length or number, nanoseconds,
/// decimal.
const COLUMN_BYTES_MAX: usize = 56;
