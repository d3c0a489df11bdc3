//! Why one row is refused.
//!
//! Made by partition and record while a row is on its way; the writer fails or writes it to the
//! dead letters, by `sink.invalid-row`. Invariant: it never holds the row's value, which may be
//! private, only the rule.

use alloc::string::String;
use core::fmt;

/// A rule of the table that a row breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowFault {
    /// The table's column, by name.
    pub column: String,
    /// The rule, and how the row breaks it.
    pub rule: String,
}

impl RowFault {
    /// A fault of a column.
    pub fn new(column: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { column: column.into(), rule: rule.into() }
    }
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.rule)
    }
}
