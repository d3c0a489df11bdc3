//! The import `timers`: one time at which the instance wants to be called.
//!
//! Read by `driver.rs` after each call. Invariant: an instance has one timer; setting it replaces
//! it.

use crate::bindings::timers;
use crate::capability::Capabilities;

/// The timer of one instance.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    deadline_ms: Option<u64>,
}

impl Timer {
    /// The time that is set, if any.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }

    /// Takes the time back, because it has come.
    pub(crate) fn clear(&mut self) {
        self.deadline_ms = None;
    }
}

impl timers::Host for Capabilities {
    fn set(&mut self, deadline: Option<u64>) -> wasmtime::Result<()> {
        self.imported("set")?;
        self.note(|outputs| outputs.timer_set(deadline));
        self.timer.deadline_ms = deadline;
        Ok(())
    }
}
