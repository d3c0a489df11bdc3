//! Validates a batch, once, column by column, so that every later read is a plain slice.
//!
//! The first thing that happens to the engine's bytes; the result is `RowBatch`. Invariant:
//! whatever the bytes are, it ends with a batch that keeps the promises of `column`, or with an
//! error that names place and rule; it never panics, and allocates in proportion to the plan, never
//! to a number in the bytes.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use super::column::{Column, Slices, TimeUnit, Values, offset};
use super::form::{BUFFER_BYTES, FORM_COLUMNS, HEADER_BYTES, Layout, MAGIC, NODE_BYTES, VERSION};
use super::{RowBatch, RowKind};
use crate::error::Error;
use crate::schema::{RowPlan, RowType};

/// The last nanosecond of a second.
const NANOS_MAX: u32 = 999_999_999;

pub(super) fn parse<'a>(bytes: &'a [u8], plan: &RowPlan) -> Result<RowBatch<'a>, Error> {
    let mut reader = Reader::new(bytes)?;
    let rows = reader.number(8)?;
    let columns = reader.number(12)?;
    if columns != plan.row_columns.len() {
        return Err(refuse(
            "columns",
            format!("{columns} columns, but the sink was opened with {}", plan.row_columns.len()),
        ));
    }
    let kinds = parse_kinds(&reader, rows)?;
    let mut parsed = Vec::with_capacity(plan.row_columns.len());
    for (name, row_type) in &plan.row_columns {
        let column = reader
            .column(row_type, Some(rows))
            .map_err(|error| Error { at: format!("column {name}, {}", error.at), ..error })?;
        parsed.push(column);
    }
    if reader.next_node != reader.nodes {
        return Err(refuse(
            "nodes",
            format!("{} nodes, but the columns have {}", reader.nodes, reader.next_node),
        ));
    }
    Ok(RowBatch { rows, bytes: bytes.len(), kinds, columns: parsed })
}

fn parse_kinds<'a>(reader: &Reader<'a>, rows: usize) -> Result<&'a [u8], Error> {
    let kinds = reader.range(reader.number(32)?, reader.number(36)?, &"row kinds")?;
    if !kinds.is_empty() && kinds.len() != rows {
        return Err(refuse("row kinds", format!("{} kinds for {rows} rows", kinds.len())));
    }
    if kinds.iter().fold(0, |all, byte| all | byte) <= RowKind::Delete as u8 {
        return Ok(kinds);
    }
    let row = kinds.iter().position(|byte| RowKind::from_byte(*byte).is_none()).unwrap_or(0);
    Err(refuse("row kinds", format!("row {row} has {}, not 0 to 3", kinds[row])))
}

/// Walks the nodes in step with the plan's types.
struct Reader<'a> {
    bytes: &'a [u8],
    nodes: usize,
    buffers: usize,
    next_node: usize,
}

/// A node as it stands in the bytes.
struct StoredNode {
    layout: u8,
    unit: u8,
    scale: i8,
    children: usize,
    values: usize,
    first_buffer: usize,
}

impl<'a> Reader<'a> {
    /// Checks the header's fixed part.
    fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.len() < 8 || bytes[..4] != MAGIC {
            return Err(refuse("header", "it does not begin with USRB"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        let form = u16::from_le_bytes([bytes[6], bytes[7]]);
        if version != VERSION {
            return Err(refuse("header", format!("version {version}; this sink reads {VERSION}")));
        }
        if form != FORM_COLUMNS {
            let message = format!("form {form} is not known; hand rows over as {FORM_COLUMNS}");
            return Err(refuse("header", message));
        }
        let mut reader = Self { bytes, nodes: 0, buffers: 0, next_node: 0 };
        reader.nodes = reader.number(16)?;
        reader.buffers = reader.number(20)?;
        reader.check_length()?;
        Ok(reader)
    }

    fn check_length(&self) -> Result<(), Error> {
        let told = u64::from_le_bytes(self.array(24)?);
        if told != self.bytes.len() as u64 {
            return Err(refuse(
                "header",
                format!("length {told}, but the batch has {} bytes", self.bytes.len()),
            ));
        }
        let tables = (self.nodes as u64)
            .saturating_mul(NODE_BYTES as u64)
            .saturating_add((self.buffers as u64).saturating_mul(BUFFER_BYTES as u64))
            .saturating_add(HEADER_BYTES as u64);
        if tables > told {
            return Err(refuse(
                "header",
                format!("{} nodes and {} buffers do not fit into it", self.nodes, self.buffers),
            ));
        }
        Ok(())
    }

    /// One column and its children, depth first. `values` is told by the parent where it is known.
    fn column(&mut self, row_type: &RowType, values: Option<usize>) -> Result<Column<'a>, Error> {
        let node = self.node()?;
        if let Some(values) = values.filter(|values| *values != node.values) {
            return Err(refuse("node", format!("{} values instead of {values}", node.values)));
        }
        check_node(&node, row_type)?;
        let validity = self.validity(&node)?;
        let values = match row_type {
            RowType::Array(element) => {
                let offsets = self.offsets(&node)?;
                let child = self.column(element, None)?;
                check_last(offsets, child.rows, &"elements")?;
                Values::List(offsets, Box::new(child))
            }
            RowType::Map(key, value) => self.map(&node, key, value)?,
            RowType::Row(fields) => {
                let mut columns = Vec::with_capacity(fields.len());
                for (_, field) in fields {
                    columns.push(self.column(field, Some(node.values))?);
                }
                Values::Struct(columns)
            }
            _ => self.leaf(&node, row_type, validity)?,
        };
        Ok(Column { values, validity, rows: node.values })
    }

    fn map(
        &mut self,
        node: &StoredNode,
        key: &RowType,
        value: &RowType,
    ) -> Result<Values<'a>, Error> {
        let offsets = self.offsets(node)?;
        let keys = self.column(key, None)?;
        let values = self.column(value, Some(keys.rows))?;
        check_last(offsets, keys.rows, &"entries")?;
        if (0..keys.rows).any(|row| keys.is_null(row)) {
            return Err(refuse("map keys", "a key is null"));
        }
        Ok(Values::Map(offsets, Box::new((keys, values))))
    }

    fn leaf(
        &self,
        node: &StoredNode,
        row_type: &RowType,
        validity: Option<&'a [u8]>,
    ) -> Result<Values<'a>, Error> {
        Ok(match row_type {
            RowType::Boolean => {
                Values::Bool(self.buffer(node, 1, node.values.div_ceil(8), &"bits")?)
            }
            RowType::TinyInt => Values::Int8(self.buffer(node, 1, node.values, &"values")?),
            RowType::SmallInt => Values::Int16(self.words(node)?),
            RowType::Int => Values::Int32(self.words(node)?),
            RowType::BigInt => Values::Int64(self.words(node)?),
            RowType::Float => Values::Float32(self.words(node)?),
            RowType::Double => Values::Float64(self.words(node)?),
            RowType::Decimal { scale, .. } => {
                Values::Decimal128 { scale: *scale, unscaled: self.words(node)? }
            }
            RowType::Date => Values::Date32(self.words(node)?),
            RowType::Timestamp(_) | RowType::TimestampLtz(_)
                if node.layout == Layout::Instant as u8 =>
            {
                self.instants(node, validity)?
            }
            RowType::Timestamp(_) | RowType::TimestampLtz(_) => {
                Values::Timestamp(unit(node)?, self.words(node)?)
            }
            RowType::IntervalDaySecond => Values::Duration(unit(node)?, self.words(node)?),
            RowType::IntervalYearMonth => Values::Months(self.words(node)?),
            RowType::Bytes => Values::Binary(self.slices(node)?),
            RowType::String | RowType::Char(_) | RowType::Varchar(_) => {
                let slices = self.slices(node)?;
                check_utf8(&slices, node.values, validity)?;
                Values::Utf8(slices)
            }
            RowType::Array(_) | RowType::Map(..) | RowType::Row(_) => {
                return Err(Error::bug("batch", "a nested column was read as a leaf"));
            }
        })
    }

    fn node(&mut self) -> Result<StoredNode, Error> {
        if self.next_node == self.nodes {
            return Err(refuse("nodes", format!("the columns have more than {}", self.nodes)));
        }
        let at = HEADER_BYTES + self.next_node * NODE_BYTES;
        self.next_node += 1;
        let [layout, unit, scale, zero] = self.array(at)?;
        if zero != 0 {
            return Err(refuse("node", "its fourth byte is not zero"));
        }
        Ok(StoredNode {
            layout,
            unit,
            scale: scale as i8,
            children: self.number(at + 4)?,
            values: self.number(at + 8)?,
            first_buffer: self.number(at + 12)?,
        })
    }

    fn validity(&self, node: &StoredNode) -> Result<Option<&'a [u8]>, Error> {
        let bits = self.any_buffer(node, 0, &"validity")?;
        if bits.is_empty() {
            return Ok(None);
        }
        at_least(bits, node.values.div_ceil(8), &"validity").map(Some)
    }

    /// Fixed-size values.
    fn words<const N: usize>(&self, node: &StoredNode) -> Result<&'a [[u8; N]], Error> {
        self.words_at(node, 1)
    }

    /// The same, in the buffer of this number.
    fn words_at<const N: usize>(
        &self,
        node: &StoredNode,
        at: usize,
    ) -> Result<&'a [[u8; N]], Error> {
        let bytes = self.buffer(node, at, times(node.values, N, &"values")?, &"values")?;
        Ok(bytes.as_chunks().0)
    }

    /// Seconds, and the nanoseconds after them, which are less than a second unless null.
    fn instants(&self, node: &StoredNode, validity: Option<&'a [u8]>) -> Result<Values<'a>, Error> {
        let (seconds, nanos) = (self.words(node)?, self.words_at(node, 2)?);
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        if nanos.iter().fold(0, |most, bytes| number(bytes).max(most)) > NANOS_MAX {
            let is_null =
                |row: usize| validity.is_some_and(|bits| bits[row >> 3] >> (row & 7) & 1 == 0);
            let wrong = nanos
                .iter()
                .enumerate()
                .find(|(row, bytes)| number(bytes) > NANOS_MAX && !is_null(*row));
            if let Some((row, bytes)) = wrong {
                let message = format!(
                    "value {row} has {} nanoseconds, at most {NANOS_MAX} are less than a second",
                    number(bytes)
                );
                return Err(refuse("nanoseconds", message));
            }
        }
        Ok(Values::Instant { seconds, nanos })
    }

    /// Offsets that begin at zero and rise.
    fn offsets(&self, node: &StoredNode) -> Result<&'a [[u8; 4]], Error> {
        let count = node.values.checked_add(1).ok_or_else(|| too_large(&"offsets"))?;
        let bytes = self.buffer(node, 1, times(count, 4, &"offsets")?, &"offsets")?;
        let offsets: &[[u8; 4]] = bytes.as_chunks().0;
        let number = |bytes: &[u8; 4]| i32::from_le_bytes(*bytes);
        // No early end, so that the compiler may look at several pairs at once.
        let pairs = offsets.iter().zip(&offsets[1..]);
        let falls = pairs.fold(false, |falls, (one, next)| falls | (number(next) < number(one)));
        match falls || number(&offsets[0]) != 0 {
            true => Err(refuse("offsets", "they must begin with 0 and rise")),
            false => Ok(offsets),
        }
    }

    fn slices(&self, node: &StoredNode) -> Result<Slices<'a>, Error> {
        let offsets = self.offsets(node)?;
        let bytes = self.any_buffer(node, 2, &"bytes")?;
        check_last(offsets, bytes.len(), &"bytes")?;
        let (start, _) = self.place(node, 2, &"bytes")?;
        // An empty buffer may be told to lie anywhere; its texts are all empty, wherever they are.
        let base = if bytes.is_empty() { HEADER_BYTES } else { start };
        Ok(Slices { offsets, batch: self.bytes, base })
    }

    /// A buffer of the node of at least `length` bytes, cut to them.
    fn buffer(
        &self,
        node: &StoredNode,
        index: usize,
        length: usize,
        what: &dyn Display,
    ) -> Result<&'a [u8], Error> {
        at_least(self.any_buffer(node, index, what)?, length, what)
    }

    fn any_buffer(
        &self,
        node: &StoredNode,
        index: usize,
        what: &dyn Display,
    ) -> Result<&'a [u8], Error> {
        let (start, length) = self.place(node, index, what)?;
        self.range(start, length, what)
    }

    fn place(
        &self,
        node: &StoredNode,
        index: usize,
        what: &dyn Display,
    ) -> Result<(usize, usize), Error> {
        let number = node.first_buffer.saturating_add(index);
        if number >= self.buffers {
            return Err(refuse(what, format!("buffer {number} of {}", self.buffers)));
        }
        let at = HEADER_BYTES + self.nodes * NODE_BYTES + number * BUFFER_BYTES;
        Ok((self.number(at)?, self.number(at + 4)?))
    }

    fn range(&self, start: usize, length: usize, what: &dyn Display) -> Result<&'a [u8], Error> {
        if length == 0 {
            return Ok(&[]);
        }
        let tables = HEADER_BYTES + self.nodes * NODE_BYTES + self.buffers * BUFFER_BYTES;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len());
        match end {
            Some(end) if start.is_multiple_of(8) && start >= tables => Ok(&self.bytes[start..end]),
            _ => Err(refuse(
                what,
                format!(
                    "{length} bytes at {start}; it must lie between {tables} and {}, and begin at \
                     a multiple of 8",
                    self.bytes.len()
                ),
            )),
        }
    }

    /// The u32 at `at`.
    fn number(&self, at: usize) -> Result<usize, Error> {
        Ok(u32::from_le_bytes(self.array(at)?) as usize)
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], Error> {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().ok_or_else(|| refuse("header", "the batch ends before it"))
    }
}

/// The layout, unit, scale and number of children that a row type must have.
fn check_node(node: &StoredNode, row_type: &RowType) -> Result<(), Error> {
    let layout = Layout::of(row_type) as u8;
    let is_time = matches!(row_type, RowType::Timestamp(_) | RowType::TimestampLtz(_));
    let is_instant = is_time && node.layout == Layout::Instant as u8;
    if node.layout != layout && !is_instant {
        return Err(refuse(
            "node",
            format!("layout {}, but {row_type} has layout {layout}", node.layout),
        ));
    }
    let children = match row_type {
        RowType::Array(_) => 1,
        RowType::Map(..) => 2,
        RowType::Row(fields) => fields.len(),
        _ => 0,
    };
    if node.children != children {
        return Err(refuse(
            "node",
            format!("{} children, but {row_type} has {children}", node.children),
        ));
    }
    let scale = if let RowType::Decimal { scale, .. } = row_type { *scale as i8 } else { 0 };
    let unit = match row_type {
        _ if is_instant => 0,
        RowType::Timestamp(digits) | RowType::TimestampLtz(digits) => digits / 3,
        RowType::IntervalDaySecond => node.unit.min(3),
        _ => 0,
    };
    if (node.scale, node.unit) != (scale, unit) {
        return Err(refuse(
            "node",
            format!(
                "scale {} and unit {}, but {row_type} has {scale} and {unit}",
                node.scale, node.unit
            ),
        ));
    }
    Ok(())
}

fn unit(node: &StoredNode) -> Result<TimeUnit, Error> {
    TimeUnit::of_digits(node.unit.saturating_mul(3))
        .ok_or_else(|| refuse("node", format!("unit {} is not known", node.unit)))
}

fn check_last(offsets: &[[u8; 4]], most: usize, what: &dyn Display) -> Result<(), Error> {
    let last = offset(offsets, offsets.len() - 1);
    if last > most {
        return Err(refuse("offsets", format!("they end at {last}, but there are {most} {what}")));
    }
    Ok(())
}

/// Checks all texts at once where that is possible, and one by one only if nulls may hide bytes
/// that are no text.
fn check_utf8(slices: &Slices<'_>, rows: usize, validity: Option<&[u8]>) -> Result<(), Error> {
    let last = offset(slices.offsets, rows);
    let all = &slices.batch[slices.base..][..last];
    if is_ascii(all) {
        return Ok(());
    }
    if let Ok(text) = core::str::from_utf8(all)
        && slices.offsets.iter().all(|at| text.is_char_boundary(u32::from_le_bytes(*at) as usize))
    {
        return Ok(());
    }
    let is_null = |row: usize| validity.is_some_and(|bits| bits[row >> 3] >> (row & 7) & 1 == 0);
    let wrong =
        (0..rows).find(|row| !is_null(*row) && core::str::from_utf8(slices.bytes(*row)).is_err());
    match wrong {
        Some(row) => Err(refuse("text", format!("value {row} is not UTF-8"))),
        None => Ok(()),
    }
}

/// Whether no byte has its highest bit, 64 bytes a step.
fn is_ascii(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let high = |chunk: &[u8; 64]| {
        let words = chunk.as_chunks::<8>().0;
        words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word)) & 0x8080_8080_8080_8080
    };
    chunks.iter().all(|chunk| high(chunk) == 0) && rest.iter().all(u8::is_ascii)
}

fn at_least<'a>(bytes: &'a [u8], length: usize, what: &dyn Display) -> Result<&'a [u8], Error> {
    bytes
        .get(..length)
        .ok_or_else(|| refuse(what, format!("{} bytes instead of {length}", bytes.len())))
}

fn times(values: usize, bytes: usize, what: &dyn Display) -> Result<usize, Error> {
    values.checked_mul(bytes).ok_or_else(|| too_large(what))
}

fn too_large(what: &dyn Display) -> Error {
    refuse(what, "more than memory can hold")
}

fn refuse(place: impl Display, message: impl Into<String>) -> Error {
    Error::corrupt(format!("batch, {place}"), message)
}
