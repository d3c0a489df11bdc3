//! The import `tunnel`: operations that the guest submits, repeats and releases.
//!
//! From the running guest to its tickets. Invariant: nothing is sent while the guest runs.

use crate::bindings;
use crate::bindings::tunnel;
use crate::capability::Capabilities;

impl tunnel::Host for Capabilities {
    fn submit(&mut self, ticket: u64, operation: tunnel::Operation) -> wasmtime::Result<()> {
        self.imported("submit")?;
        let operation = bindings::operation(operation, self.file_cache());
        self.note(|outputs| outputs.submitted(ticket, &operation));
        self.tickets.submit(ticket, operation).map_err(wasmtime::Error::msg)
    }

    fn repeat(&mut self, ticket: u64) -> wasmtime::Result<()> {
        self.imported("repeat")?;
        self.note(|outputs| outputs.repeated(ticket));
        self.tickets.repeat(ticket).map_err(wasmtime::Error::msg)
    }

    fn release(&mut self, ticket: u64) -> wasmtime::Result<()> {
        self.imported("release")?;
        self.note(|outputs| outputs.released(ticket));
        self.tickets.release(ticket);
        Ok(())
    }
}
