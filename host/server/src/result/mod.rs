//! Rows on their way to a client: from a query or a partition to a stream of records, or to text.
//!
//! A query's batches (`query/mod.rs`) or a partition's (`table/stream.rs`) are given a `shape` and
//! `kept` on disk; `route/download.rs` reads ranges of them as `records`, `route/instance/mod.rs`
//! the first of them as `csv`. Invariant: in here every column has one of a table's types, and its
//! values are what a client would have written to get them.

pub(crate) mod cells;
pub(crate) mod csv;
pub(crate) mod kept;
pub(crate) mod records;
pub(crate) mod shape;
