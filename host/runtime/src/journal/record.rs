//! One record of the journal, as JSON: what the host notes can be read by people; what a guest
//! appended is bytes, in base64.
//!
//! Written and folded by `journal/mod.rs`. Invariant: records are only ever added to; an unknown
//! one is an error.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "kebab-case", deny_unknown_fields)]
pub enum JournalRecord {
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
    /// A guest has appended it, in place of what it appended before under this key.
    Appended {
        /// The guest's key.
        key: String,
        /// The guest's bytes; none if the key is to be forgotten.
        #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
        bytes: Vec<u8>,
    },
}

impl JournalRecord {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a record is plain data")
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(D::Error::custom)
}
