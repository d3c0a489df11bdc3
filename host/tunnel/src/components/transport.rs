//! The machine's network: one HTTP/1.1 client over keep-alive connections, with or without TLS.
//!
//! Used by `endpoint.rs`. Invariant: one call is one attempt, and `sent: false` is told only when
//! it is certain that no byte of the request has left.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::components::parts::{BoxFuture, Transport, TransportError};

/// An extension of a request: how long connecting may take. Ten seconds without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTimeout(pub Duration);

/// An extension of a request: the most bytes of its answer. Eight MiB without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBytesMax(pub usize);

type HttpsClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// HTTP over TCP and TLS, with the roots that browsers trust. Plain HTTP is for the local server
/// and private networks.
#[derive(Default)]
pub struct SystemTransport {
    // One client for each connect timeout in use: in practice one.
    clients: Mutex<BTreeMap<Duration, HttpsClient>>,
}

impl SystemTransport {
    /// A transport without connections; they are opened as they are needed.
    pub fn new() -> Self {
        Self::default()
    }

    fn client(&self, connect_timeout: Duration) -> HttpsClient {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.entry(connect_timeout).or_insert_with(|| build(connect_timeout)).clone()
    }
}

impl Transport for SystemTransport {
    fn send(
        &self,
        mut request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        let timeout = request.extensions_mut().remove::<ConnectTimeout>();
        let client = self.client(timeout.map_or(CONNECT_TIMEOUT, |timeout| timeout.0));
        let most = request.extensions_mut().remove::<AnswerBytesMax>();
        let most = most.map_or(RESPONSE_BYTES_MAX, |most| most.0);
        Box::pin(async move {
            let answer = client.request(request.map(Full::new)).await.map_err(not_answered)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, most).collect().await.map_err(|error| {
                TransportError { sent: true, message: format!("the answer broke off: {error}") }
            })?;
            Ok(http::Response::from_parts(head, body.to_bytes()))
        })
    }
}

fn build(connect_timeout: Duration) -> HttpsClient {
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(connect_timeout));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.enforce_http(false);
    let provider = rustls::crypto::ring::default_provider();
    let https = hyper_rustls::HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(provider)
        .expect("ring has the cipher suites of TLS 1.2 and 1.3")
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        // Shorter than what servers and middle boxes close at, so that a dead connection is rarely
        // taken.
        .pool_idle_timeout(Duration::from_secs(20))
        .http1_max_headers(HEADERS_MAX)
        .build(https)
}

/// Only two failures are certain to be before the first byte: no connection, and a connection that
/// was found dead before the request was taken from its queue (hyper calls that cancelled).
fn not_answered(error: hyper_util::client::legacy::Error) -> TransportError {
    let mut message = error.to_string();
    let mut cancelled = false;
    let mut source = error.source();
    while let Some(cause) = source {
        message += &format!(": {cause}");
        cancelled |= cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        source = cause.source();
    }
    TransportError { sent: !(error.is_connect() || cancelled), message }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const HEADERS_MAX: usize = 100;
/// The largest answer of a control call is a session's slots; a pack's answer is a few hundred
/// bytes.
const RESPONSE_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn get(uri: String) -> Result<http::Response<Bytes>, TransportError> {
        let request = http::Request::get(uri).body(Bytes::new()).expect("a URI");
        SystemTransport::new().send(request).await
    }

    #[tokio::test]
    async fn a_refused_connection_has_sent_nothing() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let error = get(format!("http://{address}/")).await.expect_err("nobody listens");
        assert!(!error.sent, "{error}");
    }

    #[tokio::test]
    async fn a_connection_closed_after_the_request_may_have_sent_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            stream.read_exact(&mut [0; 1]).await.expect("a byte");
        });
        let error = get(format!("http://{address}/")).await.expect_err("no answer comes");
        server.await.expect("it ends");
        assert!(error.sent, "{error}");
    }
}
