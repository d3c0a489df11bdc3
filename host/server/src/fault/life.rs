//! Whether this server still lives: a rule may end it at the log record of a commit.
//!
//! `table/commit.rs` passes the two moments of a record, `service.rs` answers nobody after the end,
//! `http.rs` closes what it has. Invariant: after the end nothing is answered and no record is
//! written, as after a crash; what was durable before stays, and the next start finds it.

use std::sync::Mutex;

use tokio::sync::watch;

use super::rule::Moment;

/// The life of one server.
#[derive(Debug)]
pub(crate) struct Life {
    armed: Mutex<Option<Moment>>,
    ended: watch::Sender<bool>,
}

/// The server has ended at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

impl Life {
    pub(crate) fn new() -> Self {
        Self { armed: Mutex::new(None), ended: watch::Sender::new(false) }
    }

    /// The next log record of a commit ends it.
    pub(super) fn arm(&self, moment: Moment) {
        *self.armed.lock().expect("no holder panics") = Some(moment);
    }

    /// A commit is at this moment of its log record.
    pub(crate) fn passes(&self, moment: Moment) -> Result<(), Ended> {
        let mut armed = self.armed.lock().expect("no holder panics");
        if *armed == Some(moment) {
            *armed = None;
            tracing::warn!(?moment, "a fault rule ends the server at a commit's log record");
            self.ended.send_replace(true);
        }
        if self.is_over() { Err(Ended) } else { Ok(()) }
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.ended.borrow()
    }

    /// Ends when the server has ended.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        async move {
            // A server that is gone without having ended never ends.
            if ended.wait_for(|ended| *ended).await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_ends_at_the_moment_that_was_armed_and_stays_ended() {
        let life = Life::new();
        life.arm(Moment::After);
        assert_eq!(life.passes(Moment::Before), Ok(()));
        assert_eq!(life.passes(Moment::After), Err(Ended));
        assert_eq!(life.passes(Moment::Before), Err(Ended));
        life.over().await;
    }
}
