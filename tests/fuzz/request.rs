//! Whole requests into the local server, one after another: `Service::respond`.
//!
//! An input is requests as text, parted by lines of `----`: method and target, headers one a line,
//! an empty line, the body (`hex:` and digits for bytes). `{id}` is the newest session, `{job}` the
//! newest SQL instance. Promises: every answer has a request id and is no failure of the server; an
//! error has a code, a message and the shape that clients of its plane read; memory is bounded; and
//! what the server says of its tables and sessions is the same after a loss of power.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Response};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::{
    self, ManualClock, SimulatedDirectories, Unsynced,
};
use upsert_sink_server::{ServerSettings, Service};
use upsert_sink_tests::fuzz::shape;
use upsert_sink_tunnel::readers;

use crate::Memory;

pub(crate) const WORDS: &[&str] = &[
    "\n----\n",
    "GET ",
    "POST ",
    "PUT ",
    "DELETE ",
    "/api/projects/local",
    "/api/projects/local/tables/t",
    "/projects/local/tables/t/upserts?upsertid={id}",
    "/api/projects/local/instances",
    "{job}?taskstatus",
    "{job}?result",
    "?partition=day%3Dmon",
    "&bucketid=0&slotid=0&record_count=1",
    "?extended",
    "?partitions",
    "content-encoding: deflate\n",
    "content-encoding: zstd\n",
    "content-encoding: x-snappy-framed\n",
    "content-encoding: x-lz4-frame\n",
    "authorization: ODPS a:b\n",
    "%00",
    "%ff",
    "..",
    "hex:",
    "<Query>",
    "</Query>",
    "DROP TABLE t;",
    "ALTER TABLE t COMPACT MAJOR;",
    "<![CDATA[",
];

/// A service on an empty disk, its table, and its answers; then the requests.
const MEMORY: Memory = Memory { fixed: 8 << 20, per_byte: 2_000 };
const REQUESTS_MAX: usize = 12;
const SETUP: &str = include_str!("setup_of_requests.txt");

thread_local! {
    static RUNTIME: Runtime =
        Builder::new_current_thread().build().expect("a runtime without drivers needs nothing");
}

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let requests: Vec<Call> = parts(input).iter().filter_map(|part| Call::read(part)).collect();
    RUNTIME.with(|runtime| {
        let disk = SimulatedDirectories::new();
        let served = || runtime.block_on(served(&disk, &requests));
        let (told, seen) = MEMORY.bounds(input, served)??;
        runtime.block_on(survived(&disk, &seen))?;
        Ok(told)
    })
}

/// One request, before the names in it are known.
struct Call {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Call {
    fn read(part: &[u8]) -> Option<Self> {
        let end = part.windows(2).position(|pair| pair == b"\n\n");
        let (head, body) = part.split_at(end.unwrap_or(part.len()));
        let mut lines = std::str::from_utf8(head).ok()?.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.into(), v.into()));
        let body = body.get(2..).unwrap_or_default();
        let body = match body.strip_prefix(b"hex:") {
            Some(digits) => bytes(digits),
            None => body.to_vec(),
        };
        let (method, target) = (method.into(), target.trim().into());
        Some(Self { method, target, headers: lines.filter_map(header).collect(), body })
    }

    /// The request, if HTTP has such a one: the listener lets no other through.
    fn request(&self, names: &Names) -> Option<http::Request<Bytes>> {
        let target = self.target.replace("{id}", &names.session).replace("{job}", &names.job);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = String::from_utf8_lossy(&self.body).replace("{id}", &names.session);
        let as_it_is = Bytes::copy_from_slice(&self.body);
        let is_text = std::str::from_utf8(&self.body).is_ok();
        request.body(if is_text { Bytes::from(body) } else { as_it_is }).ok()
    }
}

/// Names that earlier answers contain.
#[derive(Default)]
struct Names {
    session: String,
    job: String,
}

/// Answers all requests; tells their shape, and what the server says in the end.
async fn served(
    disk: &Arc<SimulatedDirectories>,
    requests: &[Call],
) -> Result<(String, Vec<String>)> {
    let service = open(disk, 0).await?;
    let mut names = Names::default();
    let mut told = Vec::new();
    let setup = parts(SETUP.as_bytes());
    for call in setup.iter().filter_map(|part| Call::read(part)) {
        let request = call.request(&names).context("the setup is sound")?;
        let response = service.respond(request).await;
        ensure!(response.status().is_success(), "the setup: {:?}", response.body());
        names.learn(&response);
    }
    for call in requests.iter().take(REQUESTS_MAX) {
        let Some(request) = call.request(&names) else { continue };
        let response = service.respond(request).await;
        let (method, target) = (&call.method, &call.target);
        told.push(check(&response).with_context(|| format!("{method} {target}"))?);
        names.learn(&response);
    }
    Ok((told.join(" "), seen(&service).await))
}

impl Names {
    fn learn(&mut self, response: &Response<Bytes>) {
        let header = |name: &str| response.headers().get(name)?.to_str().ok();
        if let Some((_, path)) = header("location").and_then(|url| url.split_once("/api/")) {
            self.job = format!("/api/{path}");
        }
        let answer: Value = serde_json::from_slice(response.body()).unwrap_or_default();
        if let Some(id) = answer["id"].as_str() {
            self.session = String::from(id);
        }
    }
}

fn check(response: &Response<Bytes>) -> Result<String> {
    let status = response.status();
    let id = response.headers().get("x-odps-request-id").and_then(|id| id.to_str().ok());
    let id = id.filter(|id| !id.is_empty()).context("no request id")?;
    let body = String::from_utf8_lossy(response.body());
    ensure!(!status.is_server_error(), "{status}: {body}");
    if status.is_success() {
        return Ok(status.as_str().into());
    }
    ensure!(status.is_client_error(), "{status}: {body}");
    let kind = response.headers().get("content-type").map(HeaderValue::as_bytes);
    let field = |name: &str| -> Result<String> {
        match kind {
            Some(b"application/json") => {
                let answer: Value = serde_json::from_str(&body)?;
                Ok(answer[name].as_str().unwrap_or_default().into())
            }
            _ => Ok(readers::xml(&body, name).map_err(anyhow::Error::msg)?.unwrap_or_default()),
        }
    };
    let (code, message) = (field("Code")?, field("Message")?);
    ensure!(!code.is_empty() && !message.is_empty(), "{status} without code or words: {body}");
    ensure!(field("RequestId")? == id, "another request id in: {body}");
    let visible = |text: &str| text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t');
    ensure!(kind == Some(&b"application/json"[..]) || visible(&body), "no XML: {body:?}");
    Ok(format!("{} {code} {}", status.as_str(), shape(&message)))
}

/// The server's answers about its tables and its sessions.
async fn seen(service: &Arc<Service>) -> Vec<String> {
    let mut seen = vec![format!("{:?}", service.open_sessions())];
    for target in ["/projects/local/tables", "/projects/local/tables/t?extended"] {
        let request = http::Request::get(target).body(Bytes::new()).expect("a request");
        let response = service.respond(request).await;
        seen.push(without_request_id(&response));
    }
    seen
}

fn without_request_id(response: &Response<Bytes>) -> String {
    let body = String::from_utf8_lossy(response.body()).into_owned();
    let id = response.headers().get("x-odps-request-id").and_then(|id| id.to_str().ok());
    body.replace(id.unwrap_or("none"), "")
}

/// A server on what a loss of power leaves says the same.
async fn survived(disk: &Arc<SimulatedDirectories>, before: &[String]) -> Result<()> {
    let disk = disk.crash(Unsynced::Lost).await;
    let service = open(&disk, 1).await.context("after a loss of power")?;
    let after = seen(&service).await;
    ensure!(after == before, "before a loss of power {before:#?}, after it {after:#?}");
    Ok(())
}

async fn open(disk: &Arc<SimulatedDirectories>, life: u64) -> Result<Arc<Service>> {
    let clock = Arc::new(ManualClock::new(Millis(1_780_000_000_000)));
    let components = simulated::components(clock, Arc::clone(disk), 7 + life);
    let settings = ServerSettings { body_bytes_max: 1 << 20, ..ServerSettings::new("/server") };
    Ok(Service::open(&settings, &components).await?)
}

/// Splits at lines of `----`.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(6).position(|window| window == b"\n----\n") {
        parts.push(&rest[..at]);
        rest = &rest[at + 6..];
    }
    parts.push(rest);
    parts
}

/// Hexadecimal digits up to the first that is none.
fn bytes(digits: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let digits: Vec<u8> = digits.iter().map_while(|byte| digit(*byte)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
