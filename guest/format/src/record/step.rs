//! How one column is written, and how a record ends.
//!
//! `encode` makes a step for each column at open and walks through them for each block of rows.
//! Everything that can be known at open is: tag, constant bytes and checksums, the longest form.
//! Invariant: for the same values it writes the same bytes and checksum as `encode_values`; no
//! value takes more room than `bytes_max` says, but for the bytes of texts and nested values, which
//! are measured first.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::block::{BLOCK_ROWS, RecordBlock, RowSet};
use super::bytes::Cursor;
use super::crc::Crc;
use super::decimal::{DECIMAL_BYTES_MAX, write_decimal};
use super::value_encode::push_value;
use super::varint::{
    SHORT_VARINT_END, VARINT_BYTES_MAX, push_varint, short_varint_word, varint_len, varint_word,
    zigzag,
};
use super::{Op, convert, table_value, wire};
use crate::batch::{Column, RowBatch, Slices, TimeUnit, Values, bit};
use crate::hash::NULL_KEY;
use crate::schema::{ColumnType, TableSchema};

/// How one column is written.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) name: String,
    /// The column of the batch.
    pub(super) source: usize,
    pub(super) column_type: ColumnType,
    /// The rule that a null breaks; none if it may be null.
    pub(super) null_rule: Option<&'static str>,
    /// Whether it belongs to the primary key, and so to the record of a delete.
    pub(super) of_key: bool,
    field: Field,
    /// A text of so many bytes needs no look at its characters.
    shortest_limit: usize,
}

/// A column as the wire sees it. Loops own a copy: what they read through a reference would be read
/// anew after each byte that they write.
#[derive(Clone, Copy, Debug)]
struct Field {
    /// Its number, as the checksum wants it.
    number: u32,
    /// Its tag as it stands on the wire: the first `tag_bytes` bytes.
    tag: u64,
    tag_bytes: usize,
    /// A word times this stands behind the tag; a shift by a variable would be a step more.
    after_tag: u64,
}

/// The end of every record of one operation, up to the value of its checksum.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordEnd {
    words: [u64; 2],
    length: usize,
    /// The number of the operation's field.
    number: u32,
    /// The contribution of the bytes after that number to the checksum.
    constant: u32,
}

/// The room that each row of a block has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes from the beginning of one row to that of the next.
    pub(super) stride: usize,
    /// How many of them are kept for whatever is not text.
    pub(super) fixed: usize,
}

impl Room {
    /// Where a text of the row at this place of its block may end.
    #[inline(always)]
    fn text_end_max(self, index: usize) -> usize {
        (index + 1) * self.stride - self.fixed
    }
}

impl RecordEnd {
    /// The most that it takes, the checksum included.
    pub(super) const BYTES_MAX: usize = 16 + VARINT_BYTES_MAX;

    pub(super) fn new(after: u32, op: Op) -> Self {
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

    /// Writes the end, the checksum included, and returns that.
    #[inline(always)]
    pub(super) fn write(&self, crc: Crc, out: &mut Cursor<'_>) -> Crc {
        out.word(self.words[0], 8);
        out.word(self.words[1], self.length - 8);
        let crc = crc.constant_block(self.number, self.constant);
        out.varint(u64::from(crc.finish()));
        crc
    }
}

impl Step {
    pub(super) fn new(schema: &TableSchema, index: usize, source: usize) -> Self {
        let column = &schema.columns[index];
        let number = index as u32 + 1;
        let tag = u64::from(wire::tag(number, wire::wire_type(&column.column_type)));
        let tag_bytes = varint_len(tag);
        let of_key = schema.key.contains(&index);
        Self {
            name: column.name.clone(),
            source,
            column_type: column.column_type.clone(),
            null_rule: match (of_key, column.nullable) {
                (true, _) => Some(NULL_KEY),
                (false, false) => Some("it is null, and the table does not let it be"),
                (false, true) => None,
            },
            of_key,
            field: Field {
                number,
                tag: varint_word(tag, tag_bytes),
                tag_bytes,
                after_tag: 1 << (8 * tag_bytes),
            },
            shortest_limit: convert::shortest_limit(&column.column_type),
        }
    }

    /// Its tag, as a number.
    pub(super) fn tag(&self) -> u64 {
        u64::from(wire::tag(self.field.number, wire::wire_type(&self.column_type)))
    }

    /// Which of the table's columns it is.
    pub(super) fn index(&self) -> usize {
        self.field.number as usize - 1
    }

    /// The most that a value takes, its tag included; of texts and nested values the length only.
    pub(super) fn bytes_max(&self) -> usize {
        let value = match &self.column_type {
            ColumnType::Decimal { .. } => 1 + DECIMAL_BYTES_MAX,
            _ => 2 * VARINT_BYTES_MAX,
        };
        self.field.tag_bytes + value
    }

    /// Writes the column of the rows that begin with `first`, one for each row of the block.
    pub(super) fn write(
        &self,
        batch: &RowBatch<'_>,
        first: usize,
        room: Room,
        block: &mut RecordBlock,
    ) {
        let column = batch.column(self.source);
        let field = self.field;
        let mut rows = WrittenRows { step: self, column, first, block };
        match column.values {
            Values::Int64(values) => rows.each_of(values, move |value, crc, out| {
                Some(field.integer(crc, i64::from_le_bytes(value), out))
            }),
            Values::Int32(values) | Values::Months(values) => {
                rows.each_of(values, move |value, crc, out| {
                    Some(field.integer(crc, i64::from(i32::from_le_bytes(value)), out))
                })
            }
            Values::Int16(values) => rows.each_of(values, move |value, crc, out| {
                Some(field.integer(crc, i64::from(i16::from_le_bytes(value)), out))
            }),
            Values::Int8(values) => rows.each_of(values, move |value, crc, out| {
                Some(field.integer(crc, i64::from(value as i8), out))
            }),
            Values::Date32(values) => rows.each_of(values, move |value, crc, out| {
                let days = convert::date(i32::from_le_bytes(value))?;
                Some(field.integer(crc, days, out))
            }),
            Values::Float64(values) => rows.each_of(values, move |value, crc, out| {
                Some(field.double(crc, u64::from_le_bytes(value), out))
            }),
            Values::Float32(values) if self.column_type == ColumnType::Double => {
                rows.each_of(values, move |value, crc, out| {
                    let value = f64::from(f32::from_le_bytes(value));
                    Some(field.double(crc, value.to_bits(), out))
                });
            }
            Values::Float32(values) => rows.each_of(values, move |value, crc, out| {
                Some(field.float(crc, u32::from_le_bytes(value), out))
            }),
            Values::Bool(bits) => rows.each(move |index, crc, out| {
                Some(field.boolean(crc, bit(bits, first + index), out))
            }),
            Values::Utf8(slices) | Values::Binary(slices) => self.write_slices(slices, room, rows),
            Values::Timestamp(unit, values) if self.column_type == ColumnType::Datetime => {
                self.write_datetimes(unit, values, rows);
            }
            Values::Timestamp(unit, values) => rows.each_of(values, move |value, crc, out| {
                let value = i64::from_le_bytes(value);
                let (seconds, nanos) = convert::timestamp(unit, value)?;
                Some(field.time(crc, seconds, nanos, out))
            }),
            Values::Instant { seconds, nanos } => self.write_instants(seconds, nanos, rows),
            Values::Duration(unit, values) => rows.each_of(values, move |value, crc, out| {
                let (seconds, nanos) = convert::parts(unit, i64::from_le_bytes(value));
                Some(field.time(crc, seconds, nanos, out))
            }),
            Values::Decimal128 { scale, unscaled } => rows.each(|index, crc, out| {
                self.decimal(crc, scale, i128::from_le_bytes(unscaled[first + index]), out)
            }),
            Values::List(..) | Values::Map(..) | Values::Struct(_) => {
                rows.each(|index, crc, out| {
                    self.nested(crc, column, first + index, room.text_end_max(index), out)
                });
            }
        }
    }

    fn write_datetimes(&self, unit: TimeUnit, values: &[[u8; 8]], mut rows: WrittenRows<'_, '_>) {
        let field = self.field;
        match unit {
            // A loop of its own for the unit that needs no conversion: it only checks the range.
            TimeUnit::Millis => rows.each_of(values, move |value, crc, out| {
                field.datetime(crc, TimeUnit::Millis, i64::from_le_bytes(value), out)
            }),
            _ => rows.each_of(values, move |value, crc, out| {
                field.datetime(crc, unit, i64::from_le_bytes(value), out)
            }),
        }
    }

    fn write_instants(
        &self,
        seconds: &[[u8; 8]],
        nanos: &[[u8; 4]],
        mut rows: WrittenRows<'_, '_>,
    ) {
        let (field, first) = (self.field, rows.first);
        let instant = |index: usize| convert::instant(seconds[first + index], nanos[first + index]);
        match self.column_type {
            ColumnType::Datetime => rows.each(|index, crc, out| {
                Some(field.integer(crc, convert::datetime_of(instant(index)?), out))
            }),
            _ => rows.each(|index, crc, out| {
                let (seconds, nanos) = instant(index)?;
                Some(field.time(crc, seconds, nanos, out))
            }),
        }
    }

    fn write_slices(&self, slices: Slices<'_>, room: Room, mut rows: WrittenRows<'_, '_>) {
        if self.shortest_limit < room.stride {
            rows.leave_too_long(slices);
        }
        let field = self.field;
        let (offsets, base) = slices.offsets_from(rows.first);
        let mut padded = [[0; 4]; BLOCK_ROWS + 1];
        let offsets: &[_; BLOCK_ROWS + 1] = whole(offsets, &mut padded);
        let source = slices.batch();
        rows.each(move |index, crc, out| {
            let from = base + u32::from_le_bytes(offsets[index]) as usize;
            let to = base + u32::from_le_bytes(offsets[index + 1]) as usize;
            if out.at() + (to - from) > room.text_end_max(index) {
                return None;
            }
            Some(field.slice(crc, source, from, to, out))
        });
    }

    #[inline(never)]
    fn decimal(&self, crc: Crc, from: u8, unscaled: i128, out: &mut Cursor<'_>) -> Option<Crc> {
        let ColumnType::Decimal { precision, scale } = self.column_type else { return None };
        let unscaled = convert::decimal(unscaled, from, precision, scale).ok()?;
        let mut text = [0; DECIMAL_BYTES_MAX];
        let start = write_decimal(unscaled, scale, &mut text);
        Some(self.field.slice(crc, &text, start, DECIMAL_BYTES_MAX, out))
    }

    #[inline(never)]
    fn nested(
        &self,
        crc: Crc,
        column: &Column<'_>,
        row: usize,
        end_max: usize,
        out: &mut Cursor<'_>,
    ) -> Option<Crc> {
        let value = table_value(column, row, &self.column_type).ok()??;
        // `copy` may read 16 bytes before the end.
        let mut bytes = vec![0; 16];
        self.field.tag(out);
        let crc = push_value(crc.word(self.field.number), &self.column_type, &value, &mut bytes);
        if out.at() + bytes.len() > end_max {
            return None;
        }
        out.copy(&bytes, 16, bytes.len());
        Some(crc)
    }
}

/// The rows of a block in one column.
struct WrittenRows<'a, 'b> {
    step: &'a Step,
    column: &'a Column<'b>,
    first: usize,
    block: &'a mut RecordBlock,
}

impl WrittenRows<'_, '_> {
    /// Writes tag and value of each row that has one; `write` is given its place in the block.
    ///
    /// A function of its own for each kind of value: in a small one the sandbox's compiler keeps in
    /// registers what it would reload from the stack at every access in a large one.
    #[inline(never)]
    fn each(&mut self, write: impl FnMut(usize, Crc, &mut Cursor<'_>) -> Option<Crc>) {
        let rows = self.with_value();
        self.block.each(rows, write);
    }

    /// The same for values of one size.
    #[inline(never)]
    fn each_of<T: Copy + Default>(
        &mut self,
        values: &[T],
        mut write: impl FnMut(T, Crc, &mut Cursor<'_>) -> Option<Crc>,
    ) {
        let rows = self.with_value();
        let mut padded = [T::default(); BLOCK_ROWS];
        let values: &[T; BLOCK_ROWS] = whole(&values[self.first..], &mut padded);
        self.block.each(rows, move |index, crc, out| write(values[index], crc, out));
    }

    /// Leaves rows to the plain way whose text is longer than the column holds: what is called in
    /// a loop is paid for by every row of it.
    #[inline(never)]
    fn leave_too_long(&mut self, slices: Slices<'_>) {
        let (first, step) = (self.first, self.step);
        let too_long = RowSet::of(self.rows_left(), |index| {
            let text = slices.bytes(first + index);
            text.len() > step.shortest_limit && !convert::fits(text, &step.column_type)
        });
        let with_value = self.with_value();
        self.block.leave(too_long.intersection(with_value));
    }

    /// How many rows of the batch the block can have.
    fn rows_left(&self) -> usize {
        BLOCK_ROWS.min(self.column.rows() - self.first)
    }

    /// The rows that have a value. Of one that is null nothing is written, if it may be; if not, it
    /// is left to the plain way, which says so.
    fn with_value(&mut self) -> RowSet {
        let mut rows = self.block.upserts();
        if self.step.of_key {
            rows = rows.union(self.block.deletes());
        }
        if !self.column.has_nulls() {
            return rows;
        }
        let nulls = RowSet::of(self.rows_left(), |index| self.column.is_null(self.first + index));
        if self.step.null_rule.is_some() {
            self.block.leave(nulls.intersection(rows));
        }
        rows.difference(nulls)
    }
}

/// The first values, or all and others after them if they are fewer: an array needs no check.
fn whole<'a, T: Copy, const N: usize>(values: &'a [T], padded: &'a mut [T; N]) -> &'a [T; N] {
    match values.first_chunk() {
        Some(values) => values,
        None => {
            padded[..values.len()].copy_from_slice(values);
            padded
        }
    }
}

impl Field {
    /// Writes the tag, and a word of which the first `length` bytes count, at most four.
    #[inline(always)]
    fn short(self, word: u32, length: usize, out: &mut Cursor<'_>) {
        let word = u64::from(word).wrapping_mul(self.after_tag);
        out.word(self.tag | word, self.tag_bytes + length);
    }

    #[inline(always)]
    fn tag(self, out: &mut Cursor<'_>) {
        out.word(self.tag, self.tag_bytes);
    }

    #[inline(always)]
    fn integer(self, crc: Crc, value: i64, out: &mut Cursor<'_>) -> Crc {
        let number = zigzag(value);
        if number < SHORT_VARINT_END {
            let length = varint_len(number);
            self.short(short_varint_word(number as u32, length), length, out);
            return crc.short_integer(self.number, value as i32);
        }
        self.tag(out);
        out.varint(number);
        crc.integer(self.number, value)
    }

    #[inline(always)]
    fn double(self, crc: Crc, bits: u64, out: &mut Cursor<'_>) -> Crc {
        self.tag(out);
        out.word(bits, 8);
        crc.tagged(self.number, bits)
    }

    #[inline(always)]
    fn float(self, crc: Crc, bits: u32, out: &mut Cursor<'_>) -> Crc {
        self.short(bits, 4, out);
        crc.words(self.number, bits)
    }

    #[inline(always)]
    fn boolean(self, crc: Crc, value: bool, out: &mut Cursor<'_>) -> Crc {
        self.short(u32::from(value), 1, out);
        crc.word(self.number).byte(u8::from(value))
    }

    #[inline(always)]
    fn datetime(self, crc: Crc, unit: TimeUnit, value: i64, out: &mut Cursor<'_>) -> Option<Crc> {
        Some(self.integer(crc, convert::datetime(unit, value)?, out))
    }

    #[inline(always)]
    fn time(self, crc: Crc, seconds: i64, nanos: u32, out: &mut Cursor<'_>) -> Crc {
        self.tag(out);
        out.varint(zigzag(seconds));
        out.varint(zigzag(i64::from(nanos)));
        let seconds = seconds as u64;
        let low = u64::from(self.number) | (seconds << 32);
        crc.block(low, (seconds >> 32) | (u64::from(nanos) << 32))
    }

    /// A length, and the bytes of `source` from `from` to `to`; there are 16 bytes before `to`.
    #[inline(always)]
    fn slice(self, crc: Crc, source: &[u8], from: usize, to: usize, out: &mut Cursor<'_>) -> Crc {
        match to - from {
            short @ ..128 => self.short(short as u32, 1, out),
            long => {
                self.tag(out);
                out.varint(long as u64);
            }
        }
        out.text(crc, self.number, source, from, to)
    }
}
