//! A batch of rows in the `columns` form of `wit/README.md`, read in place.
//!
//! The engine's bytes arrive here by the plan of `schema`; next are `partition` and `hash`, which
//! read whole columns, and `record`, which reads row by row. Invariant: `RowBatch::parse` has
//! validated everything, so that no read after it can fail: layouts are those of the plan, offsets
//! rise within their buffers, text is UTF-8, kinds are kinds.

mod build;
mod column;
mod fault;
mod form;
mod parse;

use alloc::vec::Vec;

pub use build::{BatchBuilder, ColumnBuilder};
pub use column::{Column, ShortText, Slices, TimeUnit, Values, bit, offset};
pub use fault::RowFault;
pub use form::{FormNode, FormWriter, Layout, TooLarge};

use crate::error::Error;
use crate::schema::RowPlan;

/// The effect of a row on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RowKind {
    /// Adds a row.
    Insert = 0,
    /// Takes back the row as it was; an update-after follows.
    UpdateBefore = 1,
    /// Puts the row as it is now.
    UpdateAfter = 2,
    /// Removes the row.
    Delete = 3,
}

impl RowKind {
    /// The kind of a byte of a batch; none for a byte that is no kind.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Insert),
            1 => Some(Self::UpdateBefore),
            2 => Some(Self::UpdateAfter),
            3 => Some(Self::Delete),
            _ => None,
        }
    }

    /// Whether the row removes its key: a delete or an update-before.
    pub const fn removes(self) -> bool {
        matches!(self, Self::UpdateBefore | Self::Delete)
    }
}

/// A validated batch, borrowed from the engine's bytes.
#[derive(Clone, Debug)]
pub struct RowBatch<'a> {
    rows: usize,
    /// How long the engine's bytes are.
    bytes: usize,
    /// One byte a row, each a kind; empty if all rows are inserts.
    kinds: &'a [u8],
    columns: Vec<Column<'a>>,
}

impl<'a> RowBatch<'a> {
    /// Validates a batch against the plan's row columns.
    ///
    /// Errors: `Corrupt`, naming the place and the rule, for anything that `wit/README.md` does not
    /// allow.
    pub fn parse(bytes: &'a [u8], plan: &RowPlan) -> Result<Self, Error> {
        parse::parse(bytes, plan)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of the batch.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The kind of a row. `row` is less than `rows()`.
    pub fn kind(&self, row: usize) -> RowKind {
        match self.kinds.get(row) {
            Some(byte) => RowKind::from_byte(*byte).expect("parse has checked every kind"),
            None => RowKind::Insert,
        }
    }

    /// Whether no row is of another kind than insert, as far as can be told without a look at each.
    pub fn only_inserts(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The columns, in the order of the plan's row columns.
    pub fn columns(&self) -> &[Column<'a>] {
        &self.columns
    }

    /// One column, by its place among the plan's row columns.
    pub fn column(&self, index: usize) -> &Column<'a> {
        &self.columns[index]
    }
}

#[cfg(test)]
mod tests;
