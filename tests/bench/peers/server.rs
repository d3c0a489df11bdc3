//! A server that discards: it answers upsert sessions as the real wire does, and keeps no row.
//!
//! It runs in the process that measures; the clients are other processes. It reads the body of a
//! pack to its end, checks its trailer (`arrived.rs`), waits as long as it is told to, and answers.
//! Invariant: nothing that a client sends goes unseen: what it was not made for is an error of the
//! run.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use upsert_sink::components::{Clock, SystemClock};

use crate::answers;
use crate::arrived::{Arrived, Pack};

/// The server while it runs.
pub(crate) struct Discarding {
    runtime: Runtime,
    state: Arc<State>,
}

struct State {
    address: SocketAddr,
    clock: SystemClock,
    /// Sessions created so far, in all runs.
    sessions: AtomicU64,
    run: Mutex<Run>,
}

/// The server's state during one run of a client.
#[derive(Default)]
struct Run {
    delay_ms: u64,
    decode: bool,
    /// Whether they are committed.
    sessions: BTreeMap<String, bool>,
    arrived: Arrived,
}

impl Discarding {
    /// Starts it on a free port of this machine.
    pub(crate) fn start() -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let clock = runtime.block_on(async { SystemClock::start() });
        let state =
            Arc::new(State { address, clock, sessions: AtomicU64::new(0), run: Mutex::default() });
        runtime.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { runtime, state })
    }

    /// Its endpoint.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/api", self.state.address)
    }

    /// A run begins: packs are answered after so long, and decoded if they are to be.
    pub(crate) fn begin(&self, delay_ms: u64, decode: bool) {
        *self.state.run() = Run { delay_ms, decode, ..Run::default() };
    }

    /// The run has ended: what arrived in it.
    pub(crate) fn end(&self) -> Arrived {
        std::mem::take(&mut *self.state.run()).arrived
    }

    /// Ends it, whoever is still connected.
    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        state.run().arrived.connections += 1;
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(state.answer(request).await) }
            });
            // It ends with an error if the client has gone, and that shows in what has arrived.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

/// An answer: status, type, body.
type Answer = (StatusCode, &'static str, String);

impl State {
    fn run(&self) -> std::sync::MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        self.run().arrived.requests += 1;
        let path = request.uri().path().trim_start_matches("/api").to_owned();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (status, content_type, body) = match parts.as_slice() {
            ["projects", "local"] => (StatusCode::OK, XML, answers::project()),
            ["projects", "local", "tunnel"] => {
                (StatusCode::OK, "text/plain", self.address.to_string())
            }
            ["projects", "local", "tables", "bench"] => (StatusCode::OK, XML, answers::table()),
            ["projects", "local", "tables", "bench", "upserts"] => self.upserts(request).await,
            // Clients ask for more than they need.
            _ => (StatusCode::NOT_FOUND, XML, answers::nothing()),
        };
        let answer = Response::builder().status(status).header("content-type", content_type);
        let answer = answer.header("x-odps-request-id", "bench");
        answer.body(Full::new(Bytes::from(body))).expect("these headers are valid")
    }

    async fn upserts(&self, request: Request<Incoming>) -> Answer {
        let parameters = Parameters::of(&request);
        let id = parameters.text("upsertid");
        match (request.method().clone(), id) {
            (Method::POST, None) => self.create(),
            (Method::GET, Some(id)) => self.session(&id),
            (Method::POST, Some(id)) => self.commit(&id),
            (Method::PUT, Some(id)) => self.put(&id, &parameters, request).await,
            (method, _) => self.wrong(format!("{method} {}", request.uri())),
        }
    }

    fn create(&self) -> Answer {
        // Clients remember those of earlier runs.
        let id = format!("discarded-{}", self.sessions.fetch_add(1, Ordering::Relaxed));
        self.run().sessions.insert(id.clone(), false);
        (StatusCode::OK, JSON, answers::session(&id, "normal", self.address))
    }

    fn session(&self, id: &str) -> Answer {
        let committed = self.run().sessions.get(id).copied();
        match committed {
            Some(committed) => {
                let status = if committed { "committed" } else { "normal" };
                (StatusCode::OK, JSON, answers::session(id, status, self.address))
            }
            // A client of an earlier run keeps its session alive.
            None => (StatusCode::NOT_FOUND, JSON, answers::no_such_session()),
        }
    }

    fn commit(&self, id: &str) -> Answer {
        let mut run = self.run();
        if let Some(committed @ false) = run.sessions.get_mut(id) {
            *committed = true;
            run.arrived.commits += 1;
        }
        drop(run);
        self.session(id)
    }

    async fn put(&self, id: &str, parameters: &Parameters, request: Request<Incoming>) -> Answer {
        let (delay_ms, whole, open) = {
            let run = self.run();
            (run.delay_ms, run.decode, run.sessions.get(id) == Some(&false))
        };
        let records = parameters.text("record_count").and_then(|text| text.parse().ok());
        let bucket = parameters.text("bucketid").and_then(|text| text.parse().ok());
        let is_bucket = bucket.is_some_and(|bucket: u32| bucket < answers::BUCKETS);
        let (Some(records), true, true) = (records, is_bucket, open) else {
            return self.wrong(format!("a pack for {}", request.uri()));
        };
        let encoding = request.headers().get("content-encoding");
        let encoding = encoding.and_then(|value| Some(value.to_str().ok()?.to_owned()));
        let mut pack = Pack { records, bytes: 0, encoding, kept: Vec::new(), whole };
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => frame.data_ref().into_iter().for_each(|bytes| pack.take(bytes)),
                Err(error) => return self.wrong(format!("a pack that breaks off: {error}")),
            }
        }
        match pack.check() {
            Ok(digest) => {
                let arrived = &mut self.run().arrived;
                arrived.packs += 1;
                arrived.bytes += pack.bytes;
                arrived.records += pack.records;
                arrived.digest = arrived.digest.wrapping_add(digest);
            }
            Err(error) => return self.wrong(format!("{error:#}")),
        }
        if delay_ms > 0 {
            self.clock.sleep_until(self.clock.now_ms() + delay_ms).await;
        }
        (StatusCode::OK, JSON, String::new())
    }

    fn wrong(&self, what: String) -> Answer {
        let answer = answers::refused(&what);
        self.run().arrived.wrong.get_or_insert(what);
        (StatusCode::BAD_REQUEST, JSON, answer)
    }
}

/// The parameters of a request. Those that matter here are plain words.
struct Parameters(String);

impl Parameters {
    fn of(request: &Request<Incoming>) -> Self {
        Self(request.uri().query().unwrap_or_default().to_owned())
    }

    fn text(&self, name: &str) -> Option<String> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }
}

const JSON: &str = "application/json";
const XML: &str = "application/xml";
