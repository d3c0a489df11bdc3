//! The import `file-cache`: its place. No host grants it yet: the quota is zero, and whatever is
//! asked for is answered with `denied`.
//!
//! Invariant: nothing is written to disk for a guest, and none of its bytes is kept.

use crate::bindings::file_cache;
use crate::bindings::file_cache::{CacheQuota, CachedRange};
use crate::capability::Capabilities;
use crate::operation::not_granted;

impl file_cache::Host for Capabilities {
    fn quota(&mut self) -> wasmtime::Result<CacheQuota> {
        self.imported("quota")?;
        Ok(CacheQuota { granted_bytes: 0, used_bytes: 0 })
    }

    fn append(&mut self, ticket: u64, segment: u64, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.denied(ticket, "cache-append", segment, bytes.len() as u64)
    }

    fn seal(&mut self, ticket: u64, segment: u64) -> wasmtime::Result<()> {
        self.denied(ticket, "cache-seal", segment, 0)
    }

    fn read(&mut self, ticket: u64, range: CachedRange) -> wasmtime::Result<()> {
        self.denied(ticket, "cache-read", range.segment, range.length)
    }

    /// There is none.
    fn drop_segment(&mut self, segment: u64) -> wasmtime::Result<()> {
        self.imported("drop-segment")?;
        self.note(|outputs| outputs.segment_dropped(segment));
        Ok(())
    }
}

impl Capabilities {
    fn denied(
        &mut self,
        ticket: u64,
        name: &'static str,
        segment: u64,
        bytes: u64,
    ) -> wasmtime::Result<()> {
        self.imported(name)?;
        self.note(|outputs| outputs.cached(ticket, name, segment, bytes));
        let answered = self.tickets.answer(ticket, name, not_granted(name));
        answered.map_err(wasmtime::Error::msg)
    }
}
