//! Whether one attempt of the sink is alive, and at which call of its host it dies.
//!
//! Invariant: once it is off it stays off; whoever belongs to the dead waits for ever.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The life of one attempt.
#[derive(Debug)]
pub(crate) struct Power {
    off: AtomicBool,
    died: Notify,
    /// Calls of the host until it dies.
    calls_left: AtomicU64,
}

impl Power {
    /// Alive, for so many calls of the host.
    pub(crate) fn on(calls: Option<u64>) -> Arc<Self> {
        let calls_left = AtomicU64::new(calls.unwrap_or(u64::MAX));
        Arc::new(Self { off: AtomicBool::new(false), died: Notify::new(), calls_left })
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        self.off.store(true, Ordering::SeqCst);
        self.died.notify_one();
    }

    /// Whether it is dead.
    pub(crate) fn is_off(&self) -> bool {
        self.off.load(Ordering::SeqCst)
    }

    /// Ends when it dies.
    pub(crate) async fn died(&self) {
        while !self.is_off() {
            self.died.notified().await;
        }
    }

    /// A call of the host is about to take effect; it may be the one at which it dies.
    pub(crate) fn host_call(&self) {
        let left = self.calls_left.load(Ordering::SeqCst);
        if left == 1 {
            self.kill();
        }
        if left != u64::MAX {
            self.calls_left.store(left.saturating_sub(1), Ordering::SeqCst);
        }
    }

    /// Waits for ever if the process is dead.
    pub(crate) async fn or_never(&self) {
        if self.is_off() {
            pending::<()>().await;
        }
    }
}
