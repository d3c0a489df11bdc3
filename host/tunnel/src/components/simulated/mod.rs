//! Simulated parts: a clock that is set by hand, seeded random numbers, a disk in memory, and no
//! threads, no programs.
//!
//! Chosen by tests and simulations. Invariant: no thread is started, no real time is read, and the
//! same seed gives the same numbers.

mod disk;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

pub use disk::{DiskSteps, SimulatedDisk, SimulatedFiles, SyncedCall, Uninterrupted};
use tokio::sync::watch;
use upsert_sink_format::id::Millis;

use crate::components::parts::{BoxFuture, Clock, Entropy, Processors, Surroundings, Work};

/// A clock that stands still until it is set forward.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<u64>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Millis) -> Self {
        Self(watch::Sender::new(now.0))
    }

    /// Sets the clock forward, and ends the sleeps whose time has come.
    pub fn advance(&self, span: Millis) {
        self.0.send_modify(|now_ms| *now_ms = now_ms.saturating_add(span.0));
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        *self.0.borrow()
    }

    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            // A clock that is gone will never show a later time.
            if time.wait_for(|now_ms| *now_ms >= deadline_ms).await.is_err() {
                std::future::pending().await
            }
        })
    }
}

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// Numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.draw().to_le_bytes()[..chunk.len()]);
        }
    }

    fn draw(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut z = self.0.fetch_add(STEP, Ordering::SeqCst).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

/// The caller's own thread, at once: for a simulation, where there is no other.
#[derive(Clone, Copy, Debug)]
pub struct InlineProcessors;

impl Processors for InlineProcessors {
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async move { Ok(work()) })
    }
}

/// No variables and no programs: for a simulation.
#[derive(Clone, Copy, Debug)]
pub struct NoSurroundings;

impl Surroundings for NoSurroundings {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn output_of(&self, _: &[String], _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_when_its_time_has_come_and_not_before() {
        let clock = ManualClock::new(Millis(1000));
        let mut sleep = tokio::spawn(clock.sleep(Duration::from_millis(10)));
        clock.advance(Millis(9));
        tokio::select! {
            biased;
            _ = &mut sleep => panic!("a millisecond is left"),
            () = tokio::task::yield_now() => {}
        }
        clock.advance(Millis(1));
        sleep.await.expect("it ends");
        assert_eq!(clock.now(), Millis(1010));
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_numbers() {
        let mut bytes = [0; 11];
        SeededEntropy::new(7).fill(&mut bytes);
        let again = SeededEntropy::new(7);
        assert_eq!(again.draw().to_le_bytes(), bytes[..8]);
        assert_eq!(again.draw().to_le_bytes()[..3], bytes[8..]);
    }
}
