//! How a sink ends: closed by its engine, or failed, with the first error kept.
//!
//! Shared by `sink.rs` and every driver. Invariant: a sink ends once, and the reason never changes;
//! all of it ends together (rule 7).

use tokio::sync::watch;

use crate::error::{Error, Result};

/// Why a sink has ended.
#[derive(Clone, Debug)]
enum Reason {
    Closed,
    Failed(Error),
}

/// The end of one sink: told once, heard by all.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    reason: watch::Sender<Option<Reason>>,
}

impl Ending {
    pub(crate) fn new() -> Self {
        Self { reason: watch::Sender::new(None) }
    }

    /// The engine needs the sink no more.
    pub(crate) fn close(&self) {
        self.end(Reason::Closed);
    }

    /// The attempt has failed. Only the first error counts: later ones follow from it.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(kind = ?error.kind, "the sink failed: {error}");
        self.end(Reason::Failed(error));
    }

    fn end(&self, reason: Reason) {
        self.reason.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(reason);
            }
            first
        });
    }

    /// The error that every later call reports.
    pub(crate) fn check(&self) -> Result<()> {
        match &*self.reason.borrow() {
            None => Ok(()),
            Some(Reason::Closed) => Err(Error::bug("sink", "it was used after it was closed")),
            Some(Reason::Failed(error)) => Err(error.clone()),
        }
    }

    /// The error of a sink whose driver no longer answers.
    pub(crate) fn error(&self) -> Error {
        let silent = || Error::bug("sink", "an instance ended without saying why");
        self.check().err().unwrap_or_else(silent)
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        let mut reason = self.reason.subscribe();
        // The sender lives in `self`: waiting cannot fail before the end.
        let _ = reason.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_error_is_kept() {
        let ending = Ending::new();
        assert!(ending.check().is_ok());
        ending.fail(Error::config("a", "first"));
        ending.fail(Error::config("b", "second"));
        ending.close();
        ending.ended().await;
        assert_eq!(ending.error().message, "first");
    }
}
