//! Counters of one client.
//!
//! Fed by `endpoint.rs` and `table/mod.rs`, read through `Client::metrics`. Invariant: counters
//! only rise; nothing here changes what the client does.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reading of a client's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientMetrics {
    /// Requests that reached the network, of which a first byte may have left.
    pub http_requests: u64,
    /// Bytes of their bodies, repetitions included.
    pub bytes_sent: u64,
    /// Sessions created.
    pub sessions_created: u64,
    /// Packs that the service has acknowledged.
    pub packs: u64,
    /// Records in these packs.
    pub records: u64,
}

/// Where the parts of one client count.
#[derive(Debug, Default)]
pub(crate) struct RequestMeter {
    http_requests: AtomicU64,
    bytes_sent: AtomicU64,
    sessions_created: AtomicU64,
    packs: AtomicU64,
    records: AtomicU64,
}

impl RequestMeter {
    pub(crate) fn read(&self) -> ClientMetrics {
        ClientMetrics {
            http_requests: self.http_requests.load(Ordering::Relaxed),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
            sessions_created: self.sessions_created.load(Ordering::Relaxed),
            packs: self.packs.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn request_sent(&self, body_bytes: usize) {
        let bytes = u64::try_from(body_bytes).unwrap_or(u64::MAX);
        self.http_requests.fetch_add(1, Ordering::Relaxed);
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn session_created(&self) {
        self.sessions_created.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn pack_acknowledged(&self, records: u32) {
        self.packs.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(records), Ordering::Relaxed);
    }
}
