//! The import `file-cache`: its place. No host grants it yet, so a guest that calls it is stopped.
//!
//! Invariant: nothing is written to disk for a guest.

use crate::bindings::file_cache;
use crate::capability::Capabilities;

impl file_cache::Host for Capabilities {
    fn append(&mut self, _ticket: u64, segment: u64, _bytes: Vec<u8>) -> wasmtime::Result<()> {
        Err(denied(segment))
    }

    fn drop_segment(&mut self, segment: u64) -> wasmtime::Result<()> {
        Err(denied(segment))
    }
}

fn denied(segment: u64) -> wasmtime::Error {
    wasmtime::Error::msg(format!("file-cache is not granted (segment {segment})"))
}
