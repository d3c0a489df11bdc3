//! The `columns` form of `wit/README.md` as bytes: its numbers, and the one place that writes it.
//!
//! Hosts write their rows through [`FormWriter`], tests and benchmarks through `build`; `parse`
//! reads them. Invariant: every buffer begins at a multiple of 8, and the lengths in header and
//! tables are those of what follows.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::schema::RowType;

/// The letters that a batch begins with.
pub(super) const MAGIC: [u8; 4] = *b"USRB";
/// The version of the form.
pub(super) const VERSION: u16 = 1;
/// The form `columns`.
pub(super) const FORM_COLUMNS: u16 = 1;
/// Bytes before the nodes.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of a node.
pub(super) const NODE_BYTES: usize = 16;
/// Bytes of a buffer's place.
pub(super) const BUFFER_BYTES: usize = 8;

/// How the values of a node lie in its buffers; the number is the one in the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[non_exhaustive]
pub enum Layout {
    /// One bit a value.
    Bool = 1,
    /// 8 bits.
    Int8 = 2,
    /// 16 bits.
    Int16 = 3,
    /// 32 bits.
    Int32 = 4,
    /// 64 bits.
    Int64 = 5,
    /// 32 bits, IEEE 754.
    Float32 = 6,
    /// 64 bits, IEEE 754.
    Float64 = 7,
    /// 128 bits, unscaled.
    Decimal128 = 8,
    /// 32-bit offsets, then text.
    Utf8 = 9,
    /// 32-bit offsets, then bytes.
    Binary = 10,
    /// Days since 1970-01-01, 32 bits.
    Date32 = 11,
    /// 64 bits since 1970-01-01T00:00:00 in a unit.
    Timestamp = 12,
    /// 64 bits in a unit.
    Duration = 13,
    /// Months, 32 bits.
    Months = 14,
    /// 32-bit offsets; one child.
    List = 15,
    /// 32-bit offsets; keys and values are children.
    Map = 16,
    /// No buffer of values; a child for each field.
    Struct = 17,
    /// Seconds of 64 bits, then nanoseconds of 32 bits: the second layout of timestamps.
    Instant = 18,
}

impl Layout {
    /// The layout of a row type's values; of timestamps the first one, for they may also be
    /// instants.
    pub const fn of(row_type: &RowType) -> Self {
        match row_type {
            RowType::Boolean => Self::Bool,
            RowType::TinyInt => Self::Int8,
            RowType::SmallInt => Self::Int16,
            RowType::Int => Self::Int32,
            RowType::BigInt => Self::Int64,
            RowType::Float => Self::Float32,
            RowType::Double => Self::Float64,
            RowType::Decimal { .. } => Self::Decimal128,
            RowType::String | RowType::Char(_) | RowType::Varchar(_) => Self::Utf8,
            RowType::Bytes => Self::Binary,
            RowType::Date => Self::Date32,
            RowType::Timestamp(_) | RowType::TimestampLtz(_) => Self::Timestamp,
            RowType::IntervalDaySecond => Self::Duration,
            RowType::IntervalYearMonth => Self::Months,
            RowType::Array(_) => Self::List,
            RowType::Map(..) => Self::Map,
            RowType::Row(_) => Self::Struct,
        }
    }
}

/// The head of a column, or of a child of one.
#[derive(Clone, Copy, Debug)]
pub struct FormNode {
    /// How its values lie.
    pub layout: Layout,
    /// The unit of timestamps and durations: 0 seconds, 1 milli-, 2 micro-, 3 nanoseconds; else 0.
    pub unit: u8,
    /// Digits after the point of decimals; else 0.
    pub scale: u8,
    /// How many nodes behind it are its children, depth first.
    pub children: usize,
    /// How many values it has.
    pub values: usize,
}

/// A batch would be larger than its 32-bit places can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The bytes that it would have.
    pub bytes: usize,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a batch of {} bytes: at most 4 GiB; hand over fewer rows", self.bytes)
    }
}

impl core::error::Error for TooLarge {}

/// Nodes and buffers in the order of the form, gathered first and then written at once. A buffer
/// is anything that lends its bytes, so that a host's are copied only once.
#[derive(Clone, Debug)]
pub struct FormWriter<B> {
    nodes: Vec<(FormNode, usize)>,
    buffers: Vec<B>,
}

impl<B: Deref<Target = [u8]>> FormWriter<B> {
    /// A batch without columns yet.
    pub const fn new() -> Self {
        Self { nodes: Vec::new(), buffers: Vec::new() }
    }

    /// Adds a node; the buffers that follow are its own, first the validity.
    pub fn node(&mut self, node: FormNode) {
        self.nodes.push((node, self.buffers.len()));
    }

    /// Adds a buffer of the last node.
    pub fn buffer(&mut self, buffer: B) {
        self.buffers.push(buffer);
    }

    /// The bytes of a batch with so many rows and columns. `kinds` holds a byte for each row, or
    /// nothing if all rows are inserts.
    pub fn finish(self, rows: usize, columns: usize, kinds: &[u8]) -> Result<Vec<u8>, TooLarge> {
        let tables =
            HEADER_BYTES + self.nodes.len() * NODE_BYTES + self.buffers.len() * BUFFER_BYTES;
        let bodies = self.buffers.iter().map(|buffer| buffer.len()).chain([kinds.len()]);
        let total: usize = tables + bodies.map(|length| length.next_multiple_of(8)).sum::<usize>();
        if u32::try_from(total).is_err() {
            return Err(TooLarge { bytes: total });
        }
        let mut out = Bytes(Vec::with_capacity(total));
        let kinds_at = total - kinds.len().next_multiple_of(8);
        out.header(&self, [rows, columns], total, [kinds_at, kinds.len()]);
        for (node, first_buffer) in &self.nodes {
            out.node(node, *first_buffer);
        }
        let mut at = tables;
        for buffer in &self.buffers {
            out.numbers(&[at, buffer.len()]);
            at += buffer.len().next_multiple_of(8);
        }
        for buffer in &self.buffers {
            out.body(buffer);
        }
        out.body(kinds);
        assert_eq!(out.0.len(), total, "a batch is as long as it was laid out");
        Ok(out.0)
    }
}

impl<B: Deref<Target = [u8]>> Default for FormWriter<B> {
    fn default() -> Self {
        Self::new()
    }
}

struct Bytes(Vec<u8>);

impl Bytes {
    fn header<B>(
        &mut self,
        form: &FormWriter<B>,
        size: [usize; 2],
        total: usize,
        kinds: [usize; 2],
    ) {
        self.0.extend(MAGIC);
        self.0.extend(VERSION.to_le_bytes());
        self.0.extend(FORM_COLUMNS.to_le_bytes());
        self.numbers(&size);
        self.numbers(&[form.nodes.len(), form.buffers.len()]);
        self.0.extend((total as u64).to_le_bytes());
        self.numbers(&kinds);
    }

    fn node(&mut self, node: &FormNode, first_buffer: usize) {
        self.0.extend([node.layout as u8, node.unit, node.scale, 0]);
        self.numbers(&[node.children, node.values, first_buffer]);
    }

    fn numbers(&mut self, numbers: &[usize]) {
        for number in numbers {
            let number = u32::try_from(*number).expect("the whole batch is below 4 GiB");
            self.0.extend(number.to_le_bytes());
        }
    }

    fn body(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(8), 0);
    }
}
