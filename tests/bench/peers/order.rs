//! The order that a client receives for one run.
//!
//! One line of JSON, which `ours.rs`, `Peer.java` and `peer.py` read. Invariant: what a client
//! cannot do is not ordered.

use serde_json::{Value, json};

/// One run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) rows: u64,
    /// One of those that the client has.
    pub(crate) mode: &'static str,
    pub(crate) compression: &'static str,
    pub(crate) buffers: Buffers,
}

/// How much is sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buffers {
    /// As the client has it without a word.
    Default,
    /// All buckets at once, 4 MiB each, and memory for that.
    Wide,
}

impl Buffers {
    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Wide => "16 × 4 MiB",
        }
    }

    /// Bytes of one bucket.
    pub(crate) fn bucket_bytes(self) -> u64 {
        match self {
            Self::Default => 1 << 20,
            Self::Wide => 4 << 20,
        }
    }
}

impl Order {
    /// As a line.
    pub(crate) fn to_line(self) -> String {
        let Self { rows, mode, compression, buffers } = self;
        let wide = buffers == Buffers::Wide;
        json!({"rows": rows, "mode": mode, "compression": compression, "wide": wide}).to_string()
    }

    /// As our own client reads it.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let order: Value = serde_json::from_str(line).ok()?;
        let one_of = |name: &str, known: &[&'static str]| {
            known.iter().copied().find(|known| order[name] == *known)
        };
        Some(Self {
            rows: order["rows"].as_u64()?,
            mode: one_of("mode", &[MERGE, PLAIN, CACHED])?,
            compression: one_of("compression", &COMPRESSIONS)?,
            buffers: if order["wide"] == true { Buffers::Wide } else { Buffers::Default },
        })
    }
}

/// Our own: merging rows of a key, which is its default, and not; or with them in a file cache.
pub(crate) const MERGE: &str = "merge";
pub(crate) const PLAIN: &str = "plain";
pub(crate) const CACHED: &str = "cached";
/// The Java SDK's: the caller waits for a flush, or an executor flushes.
pub(crate) const SYNC: &str = "sync";
pub(crate) const ASYNC: &str = "async";
/// PyODPS's: with its counter of buffered bytes set right after each flush, and as it is.
pub(crate) const RESET: &str = "reset";
pub(crate) const SHIPPED: &str = "shipped";
/// The compressions that every client can do.
pub(crate) const COMPRESSIONS: [&str; 3] = ["none", "lz4", "zlib"];
