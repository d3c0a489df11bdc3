//! The import `file-cache`: what is granted, and what the guest asks of it.
//!
//! From the running guest to its tickets; `file_cache/` keeps the bytes. Invariant: nothing is
//! written or read while the guest runs; without a grant the quota is zero, and whatever is asked
//! for is answered with `denied`.

use crate::bindings::file_cache;
use crate::bindings::file_cache::{CacheQuota, CachedRange};
use crate::capability::Capabilities;
use crate::capability::tickets::CacheRequest;
use crate::operation::not_granted;

impl file_cache::Host for Capabilities {
    fn quota(&mut self) -> wasmtime::Result<CacheQuota> {
        self.imported("quota")?;
        let (granted_bytes, used_bytes) = self.cache_quota();
        Ok(CacheQuota { granted_bytes, used_bytes })
    }

    fn append(&mut self, ticket: u64, segment: u64, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.cache(ticket, CacheRequest::Append { segment, bytes })
    }

    fn seal(&mut self, ticket: u64, segment: u64) -> wasmtime::Result<()> {
        self.cache(ticket, CacheRequest::Seal { segment })
    }

    fn read(&mut self, ticket: u64, range: CachedRange) -> wasmtime::Result<()> {
        let CachedRange { segment, offset, length } = range;
        self.cache(ticket, CacheRequest::Read { segment, offset, length })
    }

    fn drop_segment(&mut self, segment: u64) -> wasmtime::Result<()> {
        self.imported("drop-segment")?;
        self.note(|outputs| outputs.segment_dropped(segment));
        self.tickets.drop_segment(segment);
        Ok(())
    }
}

impl Capabilities {
    fn cache(&mut self, ticket: u64, request: CacheRequest) -> wasmtime::Result<()> {
        self.imported(request.name())?;
        let (segment, bytes) = request.about();
        self.note(|outputs| outputs.cached(ticket, request.name(), segment, bytes));
        let asked = match self.cache_quota() {
            (0, _) => self.tickets.answer(ticket, request.name(), not_granted(request.name())),
            _ => self.tickets.cache(ticket, request),
        };
        asked.map_err(wasmtime::Error::msg)
    }
}
