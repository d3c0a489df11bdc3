//! Virtual time: what all of a world begins with, and how far each of its clocks is ahead of it.
//!
//! Invariant: no clock ever goes back.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;
use upsert_sink::components as sink;

/// When every world begins.
const BEGINNING_MS: u64 = 1_780_000_000_000;
/// Far enough for "never", and near enough for the timer's arithmetic.
const NEVER_MS: u64 = 1 << 38;

/// One clock of a world.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    start: Instant,
    ahead_ms: AtomicU64,
    jumped: Notify,
}

impl VirtualClock {
    /// A clock that starts now, which is the same moment in every world.
    #[allow(clippy::disallowed_methods, reason = "virtual: the runtime of a world is paused")]
    pub(crate) fn start() -> Arc<Self> {
        Self::since(Instant::now())
    }

    /// Another clock that started with this one.
    pub(crate) fn beside(&self) -> Arc<Self> {
        Self::since(self.start)
    }

    fn since(start: Instant) -> Arc<Self> {
        Arc::new(Self { start, ahead_ms: AtomicU64::new(0), jumped: Notify::new() })
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.start.elapsed().as_millis());
        let elapsed = elapsed.expect("no world lasts so long");
        BEGINNING_MS + elapsed + self.ahead_ms.load(Ordering::SeqCst)
    }

    /// Jumps ahead; wakes whoever waited for a time that has passed now.
    pub(crate) fn jump(&self, span_ms: u64) {
        self.ahead_ms.fetch_add(span_ms, Ordering::SeqCst);
        self.jumped.notify_waiters();
    }

    async fn wait_until(&self, deadline_ms: u64) {
        loop {
            let jumped = self.jumped.notified();
            let left_ms = deadline_ms.saturating_sub(self.now_ms()).min(NEVER_MS);
            if left_ms == 0 {
                return;
            }
            // Whole milliseconds of this clock, not of the moment at which it was asked.
            let elapsed = Duration::from_millis(
                u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER_MS),
            );
            let deadline = self.start + elapsed + Duration::from_millis(left_ms);
            let _ended = tokio::time::timeout_at(deadline, jumped).await;
        }
    }

    /// Ends at that time.
    pub(crate) fn at(self: &Arc<Self>, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let clock = Arc::clone(self);
        async move { clock.wait_until(deadline_ms).await }.boxed()
    }

    /// Ends after that span.
    pub(crate) fn after(self: &Arc<Self>, span_ms: u64) -> BoxFuture<'static, ()> {
        self.at(self.now_ms().saturating_add(span_ms))
    }

    /// The same as the future, or none when the span is over.
    pub(crate) async fn within<T>(&self, span_ms: u64, work: impl Future<Output = T>) -> Option<T> {
        tokio::time::timeout(Duration::from_millis(span_ms.min(NEVER_MS)), work).await.ok()
    }
}

/// The clock as a part: a shared one.
#[derive(Clone, Debug)]
pub(crate) struct Shown(pub(crate) Arc<VirtualClock>);

impl sink::Clock for Shown {
    fn now_ms(&self) -> u64 {
        self.0.now_ms()
    }

    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        if deadline_ms == u64::MAX { pending().boxed() } else { self.0.at(deadline_ms) }
    }
}
