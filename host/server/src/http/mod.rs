//! The listener: connections, their limits, and their end.
//!
//! The outermost part of a server; hands whole requests to `service.rs`, and ends connections the
//! way `fault/mod.rs` says. Invariant: connections, header sizes, and bytes of bodies in memory are
//! bounded, whoever is slow is given up, and a shutdown answers what it has read before it closes.

mod body;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use http::Response;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::body::CutBody;
use crate::body::{Body, HttpBody};
use crate::components::{Clock, ClockTimer};
use crate::error::Error;
use crate::fault::{ChosenFault, Severed};
use crate::request::Peer;
use crate::service::Service;
use crate::settings::ServerSettings;

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
        settings: &ServerSettings,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let served = Arc::new(ServedListener {
            service,
            clock,
            body_bytes_max: settings.body_bytes_max,
            connections: Arc::new(Semaphore::new(settings.connections_max)),
            body_bytes: Semaphore::new(settings.body_bytes_max.max(BODIES_BYTES)),
        });
        Self { stop, accepting: tokio::spawn(accept(listener, served, stopped)) }
    }

    /// Stops accepting, lets the requests that were begun end, and closes.
    pub(crate) async fn shutdown(self) {
        let _ = self.stop.send(true);
        let _ = self.accepting.await;
    }
}

/// The service, and the limits of its connections.
struct ServedListener {
    service: Arc<Service>,
    clock: Arc<dyn Clock>,
    body_bytes_max: usize,
    connections: Arc<Semaphore>,
    /// The bytes of all bodies that are in memory.
    body_bytes: Semaphore,
}

async fn accept(
    listener: TcpListener,
    served: Arc<ServedListener>,
    stopped: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut ending = pin!(ending(Arc::clone(&served), stopped.clone()));
    loop {
        let next = async {
            let permit = Arc::clone(&served.connections).acquire_owned();
            let permit = permit.await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, accepted) = match select(ending.as_mut(), pin!(next)).await {
            Either::Left(_) => break,
            Either::Right((accepted, _)) => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                let (served, stopped) = (Arc::clone(&served), stopped.clone());
                connections.spawn(async move {
                    serve_connection(stream, Peer(peer), served, stopped).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                served.clock.sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Why a listener ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopReason {
    Stopped,
    Crashed,
}

async fn ending(served: Arc<ServedListener>, mut stopped: watch::Receiver<bool>) -> StopReason {
    let stop = pin!(stopped.wait_for(|stop| *stop));
    match select(served.service.crashed(), stop).await {
        Either::Left(_) => StopReason::Crashed,
        Either::Right(_) => StopReason::Stopped,
    }
}

async fn serve_connection(
    stream: TcpStream,
    peer: Peer,
    served: Arc<ServedListener>,
    stopped: watch::Receiver<bool>,
) {
    // Answers are small: waiting to fill a packet only delays them.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|mut request: http::Request<Incoming>| {
        let served = Arc::clone(&served);
        request.extensions_mut().insert(peer);
        async move { answer(request, &served).await }
    });
    let connection = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEADER_BYTES_MAX)
        .timer(ClockTimer(Arc::clone(&served.clock)))
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let ending = pin!(ending(Arc::clone(&served), stopped));
    match select(ending, connection.as_mut()).await {
        Either::Left((StopReason::Stopped, _)) => {
            connection.as_mut().graceful_shutdown();
            let _ = select(connection, served.clock.sleep(SHUTDOWN_TIMEOUT)).await;
        }
        // The dead answer nothing, and the living have ended it.
        Either::Left((StopReason::Crashed, _)) | Either::Right(_) => {}
    }
}

/// The answer; an error ends the connection without one.
async fn answer(
    mut request: http::Request<Incoming>,
    served: &ServedListener,
) -> Result<Response<HttpBody>, Severed> {
    let fault = served.service.choose_fault(request.method(), request.uri());
    if let Some(bytes) = fault.as_ref().and_then(ChosenFault::request_bytes) {
        served.service.count_cut_request();
        read_some(request.body_mut(), bytes, &*served.clock).await;
        return Err(Severed::Unanswered);
    }
    let (head, body) = request.into_parts();
    let max = served.body_bytes_max;
    if usize::try_from(body.size_hint().lower()).is_ok_and(|declared| declared > max) {
        return Ok(served.service.refuse_large_body().map(Body::into_http));
    }
    // A body of unknown length counts as the largest.
    let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let permits = u32::try_from(declared.unwrap_or(max).min(max)).unwrap_or(u32::MAX);
    let _held = served.body_bytes.acquire_many(permits).await.expect("it is never closed");
    let body = Limited::new(body, max).collect();
    let body = match select(pin!(body), served.clock.sleep(BODY_TIMEOUT)).await {
        Either::Left((Ok(body), _)) => body.to_bytes(),
        Either::Left((Err(error), _)) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(served.service.refuse_large_body().map(Body::into_http));
        }
        Either::Left((Err(_), _)) | Either::Right(_) => {
            return Ok(served.service.refuse_slow_body().map(Body::into_http));
        }
    };
    let response = served.service.answer(http::Request::from_parts(head, body), fault).await;
    match response.extensions().get::<Severed>().copied() {
        None => Ok(response.map(Body::into_http)),
        Some(Severed::After(bytes)) => Ok(response.map(|body| CutBody::of(body, bytes))),
        Some(severed @ Severed::Unanswered) => Err(severed),
    }
}

/// Reads at least so many bytes of a body, if they come.
async fn read_some(body: &mut Incoming, bytes: usize, clock: &dyn Clock) {
    let reading = pin!(async {
        let mut read = 0;
        while read < bytes {
            match body.frame().await {
                Some(Ok(frame)) => read += frame.data_ref().map_or(0, |data| data.len()),
                Some(Err(_)) | None => return,
            }
        }
    });
    let _ = select(reading, clock.sleep(BODY_TIMEOUT)).await;
}

const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of request bodies in memory, at most, unless a single one may be larger.
const BODIES_BYTES: usize = 64 << 20;
/// Also how long a connection may be idle: longer than clients keep one that they do not use.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);
const BODY_TIMEOUT: Duration = Duration::from_secs(120);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
