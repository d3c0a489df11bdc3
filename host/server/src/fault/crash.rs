//! The crash of a server: a rule may bring it about at the log record of a commit.
//!
//! `table/commit.rs` calls it as its hook, `fault/layer.rs` answers nobody after it, `http/mod.rs`
//! closes its connections. Invariant: after the crash nothing is answered and no record is written;
//! records that were durable before stay, and the next start finds them.

use std::sync::Mutex;

use tokio::sync::watch;

use super::rule::Moment;
use crate::table::commit::{CommitHook, Crashed};

/// Whether one server has crashed, or will at its next record.
#[derive(Debug)]
pub(crate) struct Crash {
    armed: Mutex<Option<Moment>>,
    crashed: watch::Sender<bool>,
}

impl Crash {
    pub(crate) fn new() -> Self {
        Self { armed: Mutex::new(None), crashed: watch::Sender::new(false) }
    }

    /// Makes the next log record of a commit crash the server.
    pub(super) fn arm(&self, moment: Moment) {
        *self.armed.lock().expect("no holder panics") = Some(moment);
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.crashed.borrow()
    }

    /// Ends when the server has crashed.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut crashed = self.crashed.subscribe();
        async move {
            // A server that is gone without a crash never crashes.
            if crashed.wait_for(|crashed| *crashed).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// A commit is at this moment of its log record.
    fn passes(&self, moment: Moment) -> Result<(), Crashed> {
        let mut armed = self.armed.lock().expect("no holder panics");
        if *armed == Some(moment) {
            *armed = None;
            tracing::warn!(?moment, "a fault rule ends the server at a commit's log record");
            self.crashed.send_replace(true);
        }
        if self.is_over() { Err(Crashed) } else { Ok(()) }
    }
}

impl CommitHook for Crash {
    fn before_record(&self) -> Result<(), Crashed> {
        self.passes(Moment::Before)
    }

    fn after_record(&self) -> Result<(), Crashed> {
        self.passes(Moment::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_ends_at_the_moment_that_was_armed_and_stays_ended() {
        let crash = Crash::new();
        crash.arm(Moment::After);
        assert_eq!(crash.before_record(), Ok(()));
        assert_eq!(crash.after_record(), Err(Crashed));
        assert_eq!(crash.before_record(), Err(Crashed));
        crash.wait().await;
    }
}
