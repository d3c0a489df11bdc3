//! Threads of their own for queries.
//!
//! Chosen by `ServerComponents::system`. Invariant: threads that answer requests never compute a
//! query, so that a long one leaves the machine's scheduler, not the order of tasks, to share the
//! cores.

use std::fmt;
use std::sync::OnceLock;

use futures::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio::task::AbortHandle;

use super::Workers;

/// A runtime that begins with the first query.
#[derive(Default)]
pub(super) struct QueryThreads(OnceLock<Option<Runtime>>);

impl Workers for QueryThreads {
    fn begin(&self, work: BoxFuture<'static, ()>) -> AbortHandle {
        match self.0.get_or_init(runtime) {
            Some(runtime) => runtime.spawn(work).abort_handle(),
            None => tokio::spawn(work).abort_handle(),
        }
    }
}

/// None if the machine has no threads to give: then queries share those of the requests.
fn runtime() -> Option<Runtime> {
    let built = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("query")
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build();
    built.inspect_err(|error| tracing::warn!(%error, "queries have no threads of their own")).ok()
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        // Not even a query that computes on may keep a server from stopping.
        if let Some(Some(runtime)) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for QueryThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueryThreads")
    }
}

/// As many as queries that run at the same time.
const THREADS: usize = 2;
/// Tasks that a query begins for itself go down its tree, too. Only what is used takes memory.
const STACK_BYTES: usize = 64 << 20;
