//! The listener: connections, their limits, and their end.
//!
//! The outermost part of a server; hands whole requests to `service.rs`. Invariant: connections,
//! header sizes, and bytes of bodies in memory are bounded, and a shutdown answers what it has read
//! before it closes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use futures::future::select;
use http::Response;
use http_body_util::BodyExt;
use http_body_util::Full;
use http_body_util::Limited;
use hyper::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::task::JoinSet;

use crate::components::Clock;
use crate::error::Error;
use crate::service::Service;

/// A listener that is being served.
#[derive(Debug)]
pub(crate) struct Listener {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

/// Takes the address.
pub(crate) async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Listener {
    /// Begins to accept connections.
    pub(crate) fn serve(
        listener: TcpListener,
        service: Arc<Service>,
        clock: Arc<dyn Clock>,
        body_bytes_max: usize,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let limits = Arc::new(Limits {
            service,
            clock,
            body_bytes_max,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            body_bytes: Semaphore::new(body_bytes_max.max(BODIES_BYTES)),
        });
        Self { stop, accepting: tokio::spawn(accept(listener, limits, stopped)) }
    }

    /// Stops accepting, lets the requests that were begun end, and closes.
    pub(crate) async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }
}

struct Limits {
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    body_bytes_max: usize,
    connections: Arc<Semaphore>,
    /// The bytes of all bodies that are in memory.
    body_bytes: Semaphore,
}

async fn accept(listener: TcpListener, limits: Arc<Limits>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&limits.connections).acquire_owned();
        let permit = permit.await.expect("the semaphore is never closed");
        let accepted = {
            let stop = pin!(stopped.wait_for(|stop| *stop));
            match select(stop, pin!(listener.accept())).await {
                Either::Left(_) => break,
                Either::Right((accepted, _)) => accepted,
            }
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (limits, stopped) = (Arc::clone(&limits), stopped.clone());
                connections.spawn(async move {
                    serve_connection(stream, limits, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                limits.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    stream: TcpStream,
    limits: Arc<Limits>,
    mut stopped: watch::Receiver<bool>,
) {
    // Answers are small: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| {
        let limits = Arc::clone(&limits);
        async move { Ok::<_, Infallible>(answer(request, &limits).await) }
    });
    let connection = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let stopped = {
        let stop = pin!(stopped.wait_for(|stop| *stop));
        matches!(select(stop, connection.as_mut()).await, Either::Left(_))
    };
    if stopped {
        connection.as_mut().graceful_shutdown();
        let _ = select(connection, limits.clock.sleep(SHUTDOWN_TIMEOUT)).await;
    }
}

async fn answer(request: http::Request<Incoming>, limits: &Limits) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    // A body of unknown length counts as the largest.
    let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = declared.unwrap_or(limits.body_bytes_max).min(limits.body_bytes_max);
    let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
    let _held = limits.body_bytes.acquire_many(permits).await.expect("it is never closed");
    let body = Limited::new(body, limits.body_bytes_max).collect();
    let body = match select(pin!(body), limits.clock.sleep(BODY_TIMEOUT)).await {
        Either::Left((Ok(body), _)) => body.to_bytes(),
        Either::Left((Err(error), _)) if error.is::<http_body_util::LengthLimitError>() => {
            return limits.service.refuse_large_body().map(Full::new);
        }
        Either::Left((Err(_), _)) | Either::Right(_) => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = http::StatusCode::REQUEST_TIMEOUT;
            return response;
        }
    };
    limits.service.respond(http::Request::from_parts(head, body)).await.map(Full::new)
}

const CONNECTIONS_MAX: usize = 512;
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of request bodies in memory, at most, unless a single one may be larger.
const BODIES_BYTES: usize = 64 << 20;
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
