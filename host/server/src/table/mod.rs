//! Delta tables: a catalog folded from a commit log, Parquet files by commit, and their merged
//! view.
//!
//! Rows come from the spool through `delta`, become part of the table in `commit`, are read through
//! `merge` and `stream`, and are brought together in few files by `compact`. Invariant: what a
//! query sees is exactly the fold of a prefix of the log.

pub(crate) mod catalog;
mod class;
pub(crate) mod commit;
pub(crate) mod compact;
pub(crate) mod delta;
pub(crate) mod file;
pub(crate) mod log;
pub(crate) mod merge;
mod overlay;
pub(crate) mod partition;
pub(crate) mod read_error;
pub(crate) mod readable;
pub(crate) mod reader;
pub(crate) mod rows;
pub(crate) mod stream;
