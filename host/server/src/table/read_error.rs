//! Why the rows of a table cannot be read.
//!
//! Made in `reader.rs`, `merge.rs` and `overlay.rs`, passed on by everything that streams rows.
//! Invariant: an error of a file names the file.

use arrow_schema::ArrowError;
use parquet::errors::ParquetError;

/// Why the rows of a table cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file cannot be read.
    #[error("{file}: {source}")]
    File {
        /// The file, within the data directory.
        file: String,
        /// The error of the reader of Parquet.
        source: ParquetError,
    },
    /// A file can be read, but is none of a table's.
    #[error("{file}: it is no delta file of this version")]
    Malformed {
        /// The file, within the data directory.
        file: String,
    },
    /// Columns cannot be made what they have to be.
    #[error("columns of a table: {0}")]
    Columns(#[from] ArrowError),
    /// The runtime is shutting down.
    #[error("the reading of a table was stopped")]
    Stopped,
}

impl ReadError {
    pub(super) fn file(path: &str, source: ParquetError) -> Self {
        Self::File { file: path.to_owned(), source }
    }

    pub(super) fn malformed(path: &str) -> Self {
        Self::Malformed { file: path.to_owned() }
    }
}
