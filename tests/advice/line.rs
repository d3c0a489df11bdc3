//! The way from the sink to the server: direct, or over a line that carries one pack at a time.
//!
//! Given to the sink as its network. Invariant: every request reaches the server as it was sent,
//! and its answer the sender.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use tokio::sync::Mutex;
use upsert_sink::components::{Clock, SystemClock, Transport, TransportError};
use upsert_sink_server::Service;

/// A line to a server.
pub(crate) struct NarrowLine {
    pub(crate) service: Arc<Service>,
    pub(crate) clock: Arc<SystemClock>,
    /// How long a pack takes, alone; the next one waits for it.
    pub(crate) pack_ms: u64,
    pub(crate) carries: Mutex<()>,
}

impl Transport for NarrowLine {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        async move {
            if request.method() == Method::PUT && self.pack_ms > 0 {
                let _carried = self.carries.lock().await;
                self.clock.sleep_until(self.clock.now_ms() + self.pack_ms).await;
            }
            Ok(self.service.respond(request).await)
        }
        .boxed()
    }
}
