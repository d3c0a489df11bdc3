//! Why a script fails, with the code that clients look for.
//!
//! Made wherever SQL is read or carried out, shown by `route/instance/mod.rs` as the job's result.
//! Invariant: a code and its words are the vendor's; the rest names the thing, the rule and the
//! remedy.

use std::fmt;

use crate::error::Error;

/// Why a script fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlFailure {
    /// It cannot be read.
    Parse(String),
    /// It names a table that there is not.
    NoTable(String),
    /// It cannot be done.
    Semantic(String),
    /// The server failed.
    Internal(String),
}

impl fmt::Display for SqlFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, words, message) = match self {
            Self::Parse(message) => ("ODPS-0130161:[1,1]", "Parse exception", message),
            Self::NoTable(message) => ("ODPS-0130131:[1,1]", "Table not found", message),
            Self::Semantic(message) => {
                ("ODPS-0130071:[1,1]", "Semantic analysis exception", message)
            }
            Self::Internal(message) => ("ODPS-0010000:", "System internal error", message),
        };
        write!(f, "{code} {words} - {message}")
    }
}

impl From<Error> for SqlFailure {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(message) => Self::Semantic(message),
            Error::NoSelect => Self::Semantic(error.to_string()),
            error => Self::Internal(error.to_string()),
        }
    }
}
