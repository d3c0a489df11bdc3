//! One column of a batch: where its bytes lie, and how a row of it is read.
//!
//! Made by `parse`, read by partition, hash and record. Invariant: for every row less than `rows`
//! each read is in bounds; the values of null rows are arbitrary but in bounds, too.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A column and its null bits.
#[derive(Clone, Debug)]
pub struct Column<'a> {
    /// Its values.
    pub values: Values<'a>,
    /// One bit a row, lowest first, 1 for a value; none if no row is null.
    pub(super) validity: Option<&'a [u8]>,
    /// How many rows.
    pub(super) rows: usize,
}

/// The values of a column, by layout. Numbers are little-endian.
#[derive(Clone, Debug)]
pub enum Values<'a> {
    /// One bit a row, lowest first.
    Bool(&'a [u8]),
    /// 8 bits.
    Int8(&'a [u8]),
    /// 16 bits.
    Int16(&'a [[u8; 2]]),
    /// 32 bits.
    Int32(&'a [[u8; 4]]),
    /// 64 bits.
    Int64(&'a [[u8; 8]]),
    /// 32 bits.
    Float32(&'a [[u8; 4]]),
    /// 64 bits.
    Float64(&'a [[u8; 8]]),
    /// Unscaled, at the scale of the row type.
    Decimal128 {
        /// Digits after the point.
        scale: u8,
        /// 16 bytes a row.
        unscaled: &'a [[u8; 16]],
    },
    /// Text.
    Utf8(Slices<'a>),
    /// Bytes.
    Binary(Slices<'a>),
    /// Days since 1970-01-01.
    Date32(&'a [[u8; 4]]),
    /// Since 1970-01-01T00:00:00.
    Timestamp(TimeUnit, &'a [[u8; 8]]),
    /// Since 1970-01-01T00:00:00: seconds, rounded down, and the nanoseconds after them, which are
    /// less than a second unless the row is null.
    Instant {
        /// Whole seconds.
        seconds: &'a [[u8; 8]],
        /// Nanoseconds.
        nanos: &'a [[u8; 4]],
    },
    /// A span.
    Duration(TimeUnit, &'a [[u8; 8]]),
    /// Months.
    Months(&'a [[u8; 4]]),
    /// Where each row's elements begin and end, and the elements of all rows.
    List(&'a [[u8; 4]], Box<Column<'a>>),
    /// Where each row's entries begin and end; the keys and the values of all rows.
    Map(&'a [[u8; 4]], Box<(Column<'a>, Column<'a>)>),
    /// The fields, each with as many rows.
    Struct(Vec<Column<'a>>),
}

/// The unit of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// 1.
    Seconds,
    /// 1/1,000.
    Millis,
    /// 1/1,000,000.
    Micros,
    /// 1/1,000,000,000.
    Nanos,
}

impl TimeUnit {
    /// How many make a second.
    pub const fn per_second(self) -> i64 {
        match self {
            Self::Seconds => 1,
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    /// The unit that shows so many digits after the seconds; none but for 0, 3, 6 and 9.
    pub const fn of_digits(digits: u8) -> Option<Self> {
        match digits {
            0 => Some(Self::Seconds),
            3 => Some(Self::Millis),
            6 => Some(Self::Micros),
            9 => Some(Self::Nanos),
            _ => None,
        }
    }
}

/// Texts or byte strings that lie one after another in the batch.
#[derive(Clone, Copy, Debug)]
pub struct Slices<'a> {
    /// Where each begins, counted from `base`; one more than rows.
    pub(super) offsets: &'a [[u8; 4]],
    /// The whole batch. There are at least 16 bytes before `base`, so that 16 bytes can be read
    /// that end anywhere.
    pub(super) batch: &'a [u8],
    /// Where the first begins in the batch.
    pub(super) base: usize,
}

impl<'a> Slices<'a> {
    /// Where a row's bytes begin and end in `batch()`. The batch has at least 16 bytes before the
    /// beginning.
    #[inline]
    pub fn range(&self, row: usize) -> (usize, usize) {
        (self.base + offset(self.offsets, row), self.base + offset(self.offsets, row + 1))
    }

    /// The bytes of a row.
    #[inline]
    pub fn bytes(&self, row: usize) -> &'a [u8] {
        let (start, end) = self.range(row);
        &self.batch[start..end]
    }

    /// The bytes of four rows, from this one on.
    #[inline(always)]
    pub fn four_bytes(&self, row: usize) -> [&'a [u8]; 4] {
        let offsets: &[_; 5] =
            self.offsets[row..].first_chunk().expect("one offset more than rows");
        let ends = offsets.map(|offset| self.base + u32::from_le_bytes(offset) as usize);
        core::array::from_fn(|i| &self.batch[ends[i]..ends[i + 1]])
    }

    /// The bytes of a row, if there are at most 16.
    #[inline(always)]
    pub fn short(&self, row: usize) -> Option<ShortText> {
        let (start, end) = self.range(row);
        let length = end - start;
        let kept = KEPT.get(length)?;
        let block = self.batch[..end].last_chunk().expect("there are 16 bytes before any end");
        Some(ShortText { bytes: u128::from_le_bytes(*block) & kept, length: length as u32 })
    }

    /// Where the bytes of the rows from this one on begin, and last where they all end, counted
    /// from the place that comes with them.
    pub fn offsets_from(&self, row: usize) -> (&'a [[u8; 4]], usize) {
        (&self.offsets[row..], self.base)
    }

    /// The whole batch.
    #[inline]
    pub fn batch(&self) -> &'a [u8] {
        self.batch
    }
}

/// A text of up to 16 bytes, as one number. Two are equal if and only if their bytes are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShortText {
    /// The bytes, last in the highest; below them are zeros.
    bytes: u128,
    length: u32,
}

impl ShortText {
    /// The last eight bytes, after zeros if there are fewer.
    #[inline(always)]
    pub fn last_word(self) -> u64 {
        (self.bytes >> 64) as u64
    }
}

/// By the length of a text, which of the 16 bytes before its end are its own.
static KEPT: [u128; 17] = {
    let mut kept = [0; 17];
    let mut length = 1;
    while length <= 16 {
        kept[length] = u128::MAX << (8 * (16 - length));
        length += 1;
    }
    kept
};

/// One of the offsets of a validated column.
#[inline]
pub fn offset(offsets: &[[u8; 4]], index: usize) -> usize {
    u32::from_le_bytes(offsets[index]) as usize
}

impl<'a> Column<'a> {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether any row may be null.
    pub fn has_nulls(&self) -> bool {
        self.validity.is_some()
    }

    /// Whether a row is null. `row` is less than `rows()`.
    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        match self.validity {
            Some(bits) => bits[row >> 3] >> (row & 7) & 1 == 0,
            None => false,
        }
    }

    /// The bytes of a row of text or binary; none if it is null or of another layout.
    pub fn bytes(&self, row: usize) -> Option<&'a [u8]> {
        match &self.values {
            Values::Utf8(slices) | Values::Binary(slices) if !self.is_null(row) => {
                Some(slices.bytes(row))
            }
            _ => None,
        }
    }

    /// A row of text; none if it is null or of another layout.
    pub fn text(&self, row: usize) -> Option<&'a str> {
        match &self.values {
            Values::Utf8(slices) if !self.is_null(row) => {
                Some(core::str::from_utf8(slices.bytes(row)).expect("parse has checked every text"))
            }
            _ => None,
        }
    }

    /// A row of integers, or of date32 (days); none if it is null or of another layout.
    pub fn integer(&self, row: usize) -> Option<i64> {
        if self.is_null(row) {
            return None;
        }
        match &self.values {
            Values::Int8(values) => Some(i64::from(values[row] as i8)),
            Values::Int16(values) => Some(i64::from(i16::from_le_bytes(values[row]))),
            Values::Int32(values) | Values::Date32(values) => {
                Some(i64::from(i32::from_le_bytes(values[row])))
            }
            Values::Int64(values) => Some(i64::from_le_bytes(values[row])),
            _ => None,
        }
    }
}

/// A bit of a validated column of bits.
#[inline]
pub fn bit(bits: &[u8], row: usize) -> bool {
    bits[row >> 3] >> (row & 7) & 1 == 1
}
