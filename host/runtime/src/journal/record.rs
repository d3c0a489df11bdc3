//! One record of the journal, as JSON: the file can be read by people.
//!
//! Written and folded by `journal/mod.rs`. Invariant: records are only ever added to; an unknown
//! one is an error.

use serde::Deserialize;
use serde::Serialize;

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Record {
    /// The first record: whose journal this is.
    Identity {
        /// 128 random bits, in hexadecimal.
        identity: String,
        /// The full name of the table.
        table: String,
    },
    /// A start of the sink.
    Start {
        /// One more than the start before.
        number: u64,
        /// Random, drawn for this start.
        nonce: u64,
        /// When.
        at_ms: u64,
    },
    /// Who holds the lock, for people.
    Lease {
        /// The process.
        process: u32,
        /// Since when.
        at_ms: u64,
    },
    /// The service has created a session, and nobody has been told yet.
    SessionCreated {
        /// The service's id.
        id: String,
        /// Its partition.
        partition: String,
        /// The start that asked for it.
        start: u64,
        /// When.
        at_ms: u64,
    },
    /// An abort is about to be sent.
    Aborting {
        /// The session.
        id: String,
        /// When.
        at_ms: u64,
    },
    /// The service has said that the session is aborted, or that it knows none.
    Aborted {
        /// The session.
        id: String,
        /// When.
        at_ms: u64,
    },
    /// The service has said that the session is committed.
    Committed {
        /// The session.
        id: String,
        /// When.
        at_ms: u64,
    },
}

/// What is known of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Created; nothing else is known.
    Open,
    /// An abort was about to be sent, or was sent.
    Aborting,
    /// Aborted, or unknown to the service after an abort.
    Aborted,
    /// Committed.
    Committed,
}

impl Record {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain data")
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}
