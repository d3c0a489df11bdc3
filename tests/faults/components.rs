//! Time and network as the sink sees them here: a clock that only runs while nothing is on the
//! wire, and a wire that remembers every attempt.
//!
//! Given to the sink as its components; `world.rs` drives the clock. Invariant: no attempt can run
//! into a time limit because the machine is slow, and no wait of the sink takes real time.

use std::fmt;
use std::future::pending;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use tokio::sync::watch;
use upsert_sink::components::{Clock, SystemTransport, Transport, TransportError};

/// When every row begins.
const BEGINNING_MS: u64 = 1_780_000_000_000;

/// A clock that stands still unless it is set forward.
#[derive(Debug)]
pub(crate) struct RushClock(watch::Sender<u64>);

impl RushClock {
    /// It shows the beginning.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(BEGINNING_MS))
    }

    /// Sets it forward.
    pub(crate) fn advance(&self, span_ms: u64) {
        self.0.send_modify(|now_ms| *now_ms += span_ms);
    }
}

impl Clock for RushClock {
    fn now_ms(&self) -> u64 {
        *self.0.borrow()
    }

    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        async move {
            if now.wait_for(|now_ms| *now_ms >= deadline_ms).await.is_err() {
                pending().await
            }
        }
        .boxed()
    }
}

/// Gives the rest of the program a moment of real time. Nothing depends on how long it is.
#[allow(clippy::disallowed_methods, reason = "this is the one place that waits in real time")]
pub(crate) async fn moment() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The operation that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Create a session.
    Create,
    /// Ask for a session's status.
    Reload,
    /// Put a pack of this bucket.
    Put(u32),
    /// Commit a session.
    Commit,
    /// Abort a session.
    Abort,
    /// Anything else.
    Other,
}

impl Call {
    fn of(request: &http::Request<Bytes>) -> Self {
        let uri = request.uri();
        if !uri.path().ends_with("/upserts") {
            return Self::Other;
        }
        let parameter = |name: &str| {
            let pairs = uri.query().unwrap_or_default().split('&');
            pairs.filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
        };
        let bucket = parameter("bucketid").and_then(|bucket| bucket.parse().ok());
        match (request.method(), parameter("upsertid"), bucket) {
            (&Method::PUT, _, Some(bucket)) => Self::Put(bucket),
            (&Method::POST, None, _) => Self::Create,
            (&Method::POST, Some(_), _) => Self::Commit,
            (&Method::GET, ..) => Self::Reload,
            (&Method::DELETE, ..) => Self::Abort,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Reload => "reload",
            Self::Put(_) => "put",
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Other => "other",
        })
    }
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing yet.
    UnderWay,
    /// An answer.
    Answered(u16),
    /// No byte of it left.
    NotSent,
    /// It was sent, and no whole answer came.
    Lost,
    /// The sink did not wait any longer.
    GivenUp,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(status) => write!(f, "{status}"),
            Self::UnderWay => f.write_str("under way"),
            Self::NotSent => f.write_str("not sent"),
            Self::Lost => f.write_str("lost"),
            Self::GivenUp => f.write_str("timed out"),
        }
    }
}

/// One attempt.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The operation that it asks for.
    pub(crate) call: Call,
    /// The worker that it is routed to.
    pub(crate) worker: Option<String>,
    /// Its outcome.
    pub(crate) end: End,
}

/// The network, and all that was sent through it.
#[derive(Default)]
pub(crate) struct Wire {
    network: SystemTransport,
    attempts: Mutex<Vec<Attempt>>,
    changed: watch::Sender<()>,
    /// Packs under way at once, at most, since it was last asked.
    packs_at_once: Mutex<usize>,
}

impl Wire {
    /// All attempts so far.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().expect("no holder panics").clone()
    }

    /// Requests that are under way.
    pub(crate) fn under_way(&self) -> usize {
        let attempts = self.attempts.lock().expect("no holder panics");
        attempts.iter().filter(|attempt| attempt.end == End::UnderWay).count()
    }

    /// The most packs that were under way at once since the last time.
    pub(crate) fn take_packs_at_once(&self) -> usize {
        std::mem::take(&mut *self.packs_at_once.lock().expect("no holder panics"))
    }

    /// Waits until an attempt is like that.
    pub(crate) async fn sees(&self, like: impl Fn(&Attempt) -> bool) {
        let mut changed = self.changed.subscribe();
        let seen = changed.wait_for(|()| self.attempts().iter().any(&like)).await;
        seen.expect("the wire outlives whoever waits for it");
    }

    fn begin(&self, request: &http::Request<Bytes>) -> UnderWay<'_> {
        let worker = request.headers().get("odps-tunnel-routed-server");
        let worker = worker.and_then(|worker| worker.to_str().ok()).map(str::to_owned);
        let mut attempts = self.attempts.lock().expect("no holder panics");
        attempts.push(Attempt { call: Call::of(request), worker, end: End::UnderWay });
        let is_pack = |attempt: &&Attempt| {
            attempt.end == End::UnderWay && matches!(attempt.call, Call::Put(_))
        };
        let packs = attempts.iter().filter(is_pack).count();
        let mut most = self.packs_at_once.lock().expect("no holder panics");
        *most = packs.max(*most);
        UnderWay { wire: self, number: attempts.len() - 1 }
    }
}

/// An attempt that ends when this is dropped, if not before.
struct UnderWay<'a> {
    wire: &'a Wire,
    number: usize,
}

impl UnderWay<'_> {
    fn ends(&self, end: End) {
        let mut attempts = self.wire.attempts.lock().expect("no holder panics");
        if attempts[self.number].end == End::UnderWay {
            attempts[self.number].end = end;
        }
        drop(attempts);
        self.wire.changed.send_replace(());
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.ends(End::GivenUp);
    }
}

impl Transport for Wire {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        async move {
            let under_way = self.begin(&request);
            let answer = self.network.send(request).await;
            under_way.ends(match &answer {
                Ok(answer) => End::Answered(answer.status().as_u16()),
                Err(error) if error.sent => End::Lost,
                Err(_) => End::NotSent,
            });
            answer
        }
        .boxed()
    }
}
