//! Work that goes on after its request was answered, such as a commit that takes seconds.
//!
//! `service.rs` holds it, and ends it with the server; `slow_commits.rs` begins work in it.
//! Invariant: once it has ended, none of its work holds the directory any more.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{Either, select};
use tokio::sync::watch;
use tokio::task::JoinSet;
use upsert_sink_format::id::Millis;

use crate::components::Clock;

/// The work of one server that nobody waits for.
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    work: Mutex<JoinSet<()>>,
}

impl Background {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { stop: watch::Sender::new(false), work: Mutex::default() })
    }

    /// Begins a piece of work.
    pub(crate) fn begin(&self, piece: impl Future<Output = ()> + Send + 'static) {
        let mut work = self.work();
        while work.try_join_next().is_some() {}
        work.spawn(piece);
    }

    /// For a piece of work: the sign that the server stops.
    pub(crate) fn stop_sign(&self) -> StopSign {
        StopSign(self.stop.subscribe())
    }

    /// Shows the sign, and waits until all work has ended.
    pub(crate) async fn end(&self) {
        self.stop.send_replace(true);
        let mut work = std::mem::take(&mut *self.work());
        while work.join_next().await.is_some() {}
    }

    fn work(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.work.lock().expect("no holder panics")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A record that is being written is written whole; who waits sees that the sign is gone.
        self.work().detach_all();
    }
}

/// The sign that the server stops.
pub(crate) struct StopSign(watch::Receiver<bool>);

impl StopSign {
    /// Waits for a time, unless the server stops before.
    pub(crate) async fn wait_until(&mut self, clock: &dyn Clock, time: Millis) -> Waited {
        match select(pin!(self.shown()), clock.sleep_until(time.0)).await {
            Either::Left(_) => Waited::Stopped,
            Either::Right(_) => Waited::Whole,
        }
    }

    /// Ends when the server stops.
    pub(crate) async fn shown(&mut self) {
        // A server that was dropped shows nothing any more: it has stopped, too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Its time has come.
    Whole,
    /// The server stops.
    Stopped,
}
