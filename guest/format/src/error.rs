//! Errors: their kind says what the receiver does next, the rest what went wrong and where.
//!
//! Errors leave the core through the return value of a machine's input; the host acts on the kind
//! and shows the message. Invariant: a message names the option, row or session, its value, the
//! rule and the remedy, and never holds a secret.

use alloc::string::String;
use core::fmt;

/// The next step of an error's receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Bytes are not what their checksum or format says: get them again, or restore an older
    /// checkpoint.
    Corrupt,
    /// The service or the host refuses: correct credentials, grants or quotas, then start again.
    Denied,
    /// A rule of the contract between host and guest was broken: report it.
    Bug,
    /// An option, a schema or a combination of them is wrong: correct it; starting again will not
    /// help.
    InvalidConfig,
    /// A row breaks a rule of the table: correct it, or set `sink.invalid-row = dead-letter`.
    InvalidRow,
    /// Transient: start another attempt from the last completed checkpoint.
    Retry,
    /// A session that a checkpoint needs is gone: restore an older checkpoint and replay.
    SessionLost,
    /// The service asks for less: start again later, or with fewer writers.
    SlowDown,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The next step.
    pub kind: ErrorKind,
    /// Where: option, column, row, partition, bucket, session, as far as they are known. May be
    /// empty.
    pub at: String,
    /// The event, the rule, and the remedy.
    pub message: String,
}

impl Error {
    /// An error of `kind` at a place.
    pub fn new(kind: ErrorKind, at: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, at: at.into(), message: message.into() }
    }

    /// A malformed batch, state, request or record.
    pub fn corrupt(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, at, message)
    }

    /// A wrong option, schema or combination.
    pub fn config(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidConfig, at, message)
    }

    /// A row that breaks a rule of the table.
    pub fn row(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRow, at, message)
    }

    /// A broken rule of the contract.
    pub fn bug(at: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Bug, at, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.at, self.message)
    }
}

impl core::error::Error for Error {}
