//! The import `journal`: records that the guest appends.
//!
//! From the running guest to its tickets; `driver.rs` hands them to the journal in the order of the
//! calls. Invariant: what is in a record is never looked at.

use crate::bindings::journal;
use crate::capability::Capabilities;

impl journal::Host for Capabilities {
    fn append(&mut self, ticket: u64, key: String, bytes: Vec<u8>) -> wasmtime::Result<()> {
        self.imported("journal-append")?;
        let taken = self.tickets.takes(&key, &bytes);
        self.note(|outputs| match taken {
            true => outputs.appended(ticket, &key, &bytes),
            false => outputs.not_appended(ticket, key.len(), bytes.len()),
        });
        self.tickets.append(ticket, key, bytes).map_err(wasmtime::Error::msg)
    }
}
