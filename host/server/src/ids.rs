//! Ids of requests, jobs and download sessions.
//!
//! Drawn where one of them begins; upsert sessions have ids of another kind (`session.rs`).
//! Invariant: an id holds the time of its making and 64 random bits, so that nobody guesses it by
//! accident.

use std::sync::Arc;

use crate::components::{Clock, Entropy, ServerComponents};

/// Makes ids.
#[derive(Clone)]
pub(crate) struct Ids {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Ids {
    pub(crate) fn new(components: &ServerComponents) -> Self {
        Self { clock: Arc::clone(&components.clock), entropy: Arc::clone(&components.entropy) }
    }

    /// The id of a request, as the service writes them.
    pub(crate) fn request(&self) -> String {
        format!("{:012X}{:016X}", self.clock.now().0, self.entropy.draw())
    }

    /// The id of a job or a download session.
    pub(crate) fn resource(&self) -> String {
        format!("{:013}{:016x}", self.clock.now().0, self.entropy.draw())
    }
}
