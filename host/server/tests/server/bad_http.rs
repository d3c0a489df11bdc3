//! Bytes over a socket that are no good request: answered or cut off, within bounds, and never the
//! end of the server.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::ManualClock;
use upsert_sink_server::{FaultRules, Server, ServerComponents, ServerSettings};

use crate::support::UPSERTS;

/// A server whose time stands still until it is set forward.
struct Place {
    server: Server,
    clock: Arc<ManualClock>,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn new(change: impl FnOnce(&mut ServerSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = ServerSettings::new(dir.path());
        change(&mut settings);
        let clock = Arc::new(ManualClock::new(Millis(1_700_000_000_000)));
        let components = ServerComponents { clock: clock.clone(), ..ServerComponents::system() };
        let server = Server::start(settings, components).await.unwrap();
        Self { server, clock, _dir: dir }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.server.address()).await.unwrap()
    }

    /// Sends bytes on a connection of their own; answers all that comes back until it closes.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that has seen enough closes before all of it is written.
        let _ = stream.write_all(bytes).await;
        read_all(&mut stream).await
    }

    /// Sets the clock forward until the connection closes; answers what came before.
    async fn read_while_time_passes(&self, stream: &mut TcpStream) -> String {
        let reading = read_all(stream);
        tokio::pin!(reading);
        loop {
            if let std::task::Poll::Ready(answer) = futures::poll!(&mut reading) {
                return answer;
            }
            self.clock.advance(Millis(1_000));
            tokio::task::yield_now().await;
        }
    }

    async fn assert_alive(&self) {
        let answer = self.send(&request("GET", "/healthz", "")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset after the answer takes nothing of it back.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(method: &str, path: &str, headers: &str) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n");
    head.into_bytes()
}

fn code(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    assert!(body["Message"].is_string() && body["RequestId"].is_string(), "{answer}");
    body["Code"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_refused() {
    let place = Place::new(|_| {}).await;
    let large = format!("X-Large: {}\r\n", "a".repeat(256 << 10));
    let many: String = (0..500).map(|number| format!("X-{number}: a\r\n")).collect();
    for headers in [large, many] {
        let answer = place.send(&request("GET", "/healthz", &headers)).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer:.100}");
    }
    let answer = place.send(&request("GET", &format!("/{}", "a".repeat(256 << 10)), "")).await;
    assert!(answer.starts_with("HTTP/1.1 414") || answer.starts_with("HTTP/1.1 431"), "{answer}");
    place.assert_alive().await;
}

#[tokio::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let place = Place::new(|settings| settings.body_bytes_max = 1 << 20).await;
    let head = request("PUT", UPSERTS, "Content-Length: 1099511627776\r\n");
    let answer = place.send(&head).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(code(&answer), "RequestEntityTooLarge");
    // One that does not say is refused when it is.
    let mut chunked = request("PUT", UPSERTS, "Transfer-Encoding: chunked\r\n");
    for _ in 0..24 {
        chunked.extend(b"10000\r\n");
        chunked.extend(vec![0; 0x10000]);
        chunked.extend(b"\r\n");
    }
    let answer = place.send(&chunked).await;
    assert!(answer.is_empty() || code(&answer) == "RequestEntityTooLarge", "{answer}");
    assert_eq!(place.server.stats().refused, 2);
    place.assert_alive().await;
}

#[tokio::test]
async fn whoever_sends_a_header_too_slowly_is_given_up() {
    let place = Place::new(|_| {}).await;
    let mut stream = place.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: a").await.unwrap();
    let answer = place.read_while_time_passes(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    let mut idle = place.connect().await;
    assert_eq!(place.read_while_time_passes(&mut idle).await, "", "who says nothing, too");
    place.assert_alive().await;
}

#[tokio::test]
async fn whoever_sends_a_body_too_slowly_is_told_so_in_the_services_words() {
    let place = Place::new(|_| {}).await;
    let mut stream = place.connect().await;
    stream.write_all(&request("PUT", UPSERTS, "Content-Length: 100\r\n")).await.unwrap();
    stream.write_all(b"ten bytes.").await.unwrap();
    let answer = place.read_while_time_passes(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(code(&answer), "RequestTimeout");
    assert_eq!(place.server.stats().packs, 0);
    place.assert_alive().await;
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_one_to_end() {
    let place = Place::new(|settings| settings.connections_max = 2).await;
    let (first, _second) = (place.connect().await, place.connect().await);
    let mut third = place.connect().await;
    third.write_all(&request("GET", "/healthz", "")).await.unwrap();
    let answer = read_all(&mut third);
    tokio::pin!(answer);
    for _ in 0..1_000 {
        assert!(futures::poll!(&mut answer).is_pending(), "a third connection was served");
        tokio::task::yield_now().await;
    }
    drop(first);
    assert!(answer.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_name_cannot_become_a_header() {
    let place = Place::new(|_| {}).await;
    let evil = "a%0d%0aEvil:%201";
    for (method, path) in [
        ("GET", format!("/api/projects/{evil}")),
        ("GET", format!("/api/projects/local/tables/{evil}")),
        ("GET", format!("/api/projects/local/instances/{evil}")),
        ("POST", format!("/projects/local/tables/{evil}/upserts?partition=day%3D{evil}")),
        ("POST", format!("{UPSERTS}?upsertid={evil}")),
        ("GET", format!("/{evil}")),
        ("GET", format!("/__faults/{evil}")),
    ] {
        let answer = place.send(&request(method, &path, "Content-Length: 0\r\n")).await;
        let head = answer.split("\r\n\r\n").next().unwrap_or_default();
        assert!(head.starts_with("HTTP/1.1 4"), "{method} {path}: {answer}");
        assert!(!head.contains("Evil"), "{method} {path}: {answer}");
    }
    let answer = place.send(&request("GET", "/api/projects/%3Ccode%3E%26", "")).await;
    assert!(answer.contains("&lt;code&gt;&amp;") && !answer.contains("<code>"), "{answer}");
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_next_request_is_served() {
    let place = Place::new(|_| {}).await;
    let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
    for bytes in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /\0 HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        request("PUT", UPSERTS, "Content-Length: -1\r\n"),
        request("PUT", UPSERTS, "Content-Length: 1\r\nContent-Length: 2\r\n"),
        request("PUT", UPSERTS, "Transfer-Encoding: gzip\r\n"),
        [request("PUT", UPSERTS, both), b"zz\r\n\r\n".to_vec()].concat(),
        request("GET", "/api/projects/%ff", ""),
        request("BREW", UPSERTS, ""),
    ] {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let answer = place.send(&bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer}");
    }
    place.assert_alive().await;
}

#[tokio::test]
async fn rules_end_connections_over_the_network_as_they_say() {
    let place = Place::new(|_| {}).await;
    let rules = "{\"rules\": [\
        {\"match\": {\"path\": \"/lost\"}, \"do\": \"lost-reply\"}, \
        {\"match\": {\"path\": \"/cut\"}, \"do\": {\"cut-request\": {\"bytes\": 5}}}, \
        {\"match\": {\"path\": \"/capabilities\"}, \"do\": {\"cut-response\": {\"bytes\": 9}}}]}";
    place.server.faults().add(FaultRules::parse(rules).unwrap()).unwrap();
    assert_eq!(place.send(&request("GET", "/lost", "")).await, "");
    let mut head = request("PUT", "/cut", "Content-Length: 100\r\n");
    head.extend(b"five bytes");
    assert_eq!(place.send(&head).await, "");
    let answer = place.send(&request("GET", "/capabilities", "")).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("the head was sent");
    assert_eq!(body.len(), 9, "{answer}");
    assert!(!head.contains("content-length: 9\r\n"), "the client can tell: {head}");
    assert_eq!(place.server.stats().http_requests, 3, "the client and the server count the same");
    place.assert_alive().await;
}

#[tokio::test]
async fn a_crashed_server_closes_its_connections_and_takes_no_new_ones() {
    let place = Place::new(|_| {}).await;
    let address: SocketAddr = place.server.address();
    let mut idle = place.connect().await;
    let mut sql = request("POST", "/api/projects/local/instances", "");
    let task = "<SQL><Name>n</Name><Query>CREATE TABLE t (id BIGINT PRIMARY KEY) \
                TBLPROPERTIES ('transactional'='true')</Query></SQL>";
    let body = format!("<Instance><Job><Tasks>{task}</Tasks></Job></Instance>");
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    sql.truncate(sql.len() - 2);
    sql.extend(length.into_bytes());
    sql.extend(body.into_bytes());
    assert!(place.send(&sql).await.starts_with("HTTP/1.1 201"));
    let created = place.send(&request("POST", UPSERTS, "Content-Length: 0\r\n")).await;
    let body = created.split_once("\r\n\r\n").expect("a session").1;
    let session: Value = serde_json::from_str(body).unwrap();
    let rules = "{\"rules\": [{\"match\": {\"operation\": \"commit\"}, \
                 \"do\": {\"crash\": {\"record\": \"after\"}}}]}";
    place.server.faults().add(FaultRules::parse(rules).unwrap()).unwrap();
    let commit = format!("{UPSERTS}?upsertid={}", session["id"].as_str().unwrap());
    assert_eq!(place.send(&request("POST", &commit, "Content-Length: 0\r\n")).await, "");
    place.server.crashed().await;
    assert_eq!(read_all(&mut idle).await, "");
    let Place { server, clock, _dir: dir } = place;
    server.shutdown().await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");
    let settings = ServerSettings { listen: address, ..ServerSettings::new(dir.path()) };
    let components = ServerComponents { clock: clock.clone(), ..ServerComponents::system() };
    let server = Server::start(settings, components).await.unwrap();
    let place = Place { server, clock, _dir: dir };
    let again = place.send(&request("POST", &commit, "Content-Length: 0\r\n")).await;
    assert!(again.contains("\"committed\""), "{again}");
}
