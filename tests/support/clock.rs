//! The one clock of the harness: how long something took, and until when to wait for it.
//!
//! Used by benchmarks and by waits for other processes. Invariant: no expectation depends on it; a
//! deadline only turns a test that would hang into one that fails.

use std::time::{Duration, Instant};

/// A point of time to measure from.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::disallowed_methods, reason = "the one place of the harness that reads a clock")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// How long it has run.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
