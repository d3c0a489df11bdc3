//! The client of the Tunnel: what one attempt at an operation does on the wire.
//!
//! Between `driver.rs` and the network: operation → `upsert.rs` (the request) → `endpoint.rs`
//! (where, signed) → the transport → `response.rs` (what it means) → `session.rs` (what it holds).
//! Invariant: an attempt is made once; nothing here retries what may have been carried out.

pub(crate) mod compression;
pub(crate) mod endpoint;
pub(crate) mod keyring;
pub(crate) mod pack;
pub(crate) mod partition;
pub(crate) mod response;
pub(crate) mod session;
pub(crate) mod sign;
pub(crate) mod sql;
pub(crate) mod table;
pub(crate) mod upsert;
pub(crate) mod xml;

use upsert_sink_format::tunnel::SessionRef;

use crate::tunnel::pack::CachedPack;
use crate::tunnel::pack::Pack;

/// One request to the Tunnel, as the guest submitted it.
#[derive(Debug)]
pub(crate) enum Operation {
    CreatePartition(String),
    CreateSession {
        partition: String,
        lifecycle_hours: u32,
        slots: u32,
    },
    PutPack(Pack),
    /// A pack in the file cache, which no role is granted.
    PutCachedPack(CachedPack),
    CommitSession(SessionRef),
    AbortSession(SessionRef),
    SessionStatus(SessionRef),
    /// A major compaction, which no role is granted yet.
    CompactPartition(String),
}

impl Operation {
    /// Its name in `wit/tunnel.wit`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::CreatePartition(_) => "create-partition",
            Self::CreateSession { .. } => "create-session",
            Self::PutPack(_) | Self::PutCachedPack(_) => "put-pack",
            Self::CommitSession(_) => "commit-session",
            Self::AbortSession(_) => "abort-session",
            Self::SessionStatus(_) => "session-status",
            Self::CompactPartition(_) => "compact-partition",
        }
    }

    /// The bytes that the host keeps for it.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::PutPack(pack) => pack.body.plain_bytes(),
            _ => 0,
        }
    }
}
