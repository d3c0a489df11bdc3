//! A local server behind a transport that breaks one promise on purpose.
//!
//! Given to the doctor as its network. Invariant: without a fault every request reaches the server
//! as it was sent, and the answer the sender; queries are answered from what the server has
//! committed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use upsert_sink::Components;
use upsert_sink::components::{Clock as _, Entropy, SystemClock, Transport, TransportError};
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::{self, ManualClock, SimulatedDirectories};
use upsert_sink_server::{ServerSettings, Service};

/// A fault of the service, or of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// (a) The later arrival wins, whatever is committed when.
    OrdersByArrival,
    /// (a) A partition may have one open session.
    RefusesSecondSession,
    /// (b) A session that has ended takes packs.
    TakesLatePacks,
    /// (b) An aborted session can be committed.
    CommitsTheAborted,
    /// (c) A reader sees the rows of some buckets first.
    ShowsAPart,
    /// (c) Rows are seen before they are committed.
    ShowsTheUncommitted,
    /// (d) A session is dropped although it is in contact.
    DropsSessions,
    /// (e) An intermediary sends a PUT again, some time later.
    RepeatsPuts,
    /// The service's clock is an hour behind.
    ClockBehind,
    /// The key is not taken.
    DeniesKey,
    /// Nobody answers.
    Unreachable,
    /// A proxy on the way says so.
    TellsOfAProxy,
    /// Queries are not supported.
    AnswersNoQueries,
    /// Tables cannot be created.
    CreatesNoTables,
    /// Tables cannot be dropped.
    KeepsTables,
}

/// The doctor's world.
pub(crate) struct World {
    service: Arc<Service>,
    fault: Fault,
    beginning_ms: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Results of queries, by the id of their SQL instance.
    results: BTreeMap<String, String>,
    /// Sessions by partition, in the order of their creation.
    sessions: BTreeMap<String, Vec<String>>,
    /// By partition the session whose pack arrived last.
    last: BTreeMap<String, String>,
    ended: Vec<String>,
    asked: BTreeMap<String, u32>,
    /// A PUT that is sent again after the next one.
    again: Option<(http::request::Parts, Bytes)>,
}

impl World {
    /// A server with the table `t`, and a network to it.
    pub(crate) async fn new(fault: Fault) -> Result<(Arc<Self>, Components)> {
        // Virtual if the runtime's time is.
        let clock = Arc::new(SystemClock::start());
        let beginning_ms = clock.now_ms();
        let standing = Arc::new(ManualClock::new(Millis(beginning_ms)));
        let components = simulated::components(standing, SimulatedDirectories::new(), 7);
        let service = Service::open(&ServerSettings::new("/server"), &components).await?;
        let world = Arc::new(Self { service, fault, beginning_ms, state: Mutex::default() });
        let create = "CREATE TABLE t (id BIGINT PRIMARY KEY, v JSON) PARTITIONED BY (day STRING, \
                      h INT) TBLPROPERTIES ('transactional'='true','write.bucket.num'='8')";
        let task = format!("<SQL><Name>n</Name><Query>{create}</Query></SQL>");
        let body = format!("<Instance><Job><Tasks>{task}</Tasks></Job></Instance>");
        let request = Request::post("/api/projects/local/instances").body(Bytes::from(body))?;
        world.service.respond(request).await;
        let components = Components {
            clock,
            transport: Arc::new(Way(Arc::clone(&world))),
            entropy: Arc::new(Sevens),
            ..Components::system()
        };
        Ok((world, components))
    }

    /// The server's tables, as it lists them.
    pub(crate) async fn tables(&self) -> String {
        let request = Request::get("/projects/local/tables").body(Bytes::new());
        let answer = self.service.respond(request.expect("a request")).await;
        String::from_utf8_lossy(answer.body()).into_owned()
    }

    /// The sessions that are open.
    pub(crate) fn open_sessions(&self) -> usize {
        self.service.open_sessions().len()
    }

    async fn carry_out(self: Arc<Self>, request: Request<Bytes>) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        if let Some(answer) = self.instances(&head, &body).await {
            return answer;
        }
        if !head.uri.path().ends_with("/upserts") {
            return self.service.respond(Request::from_parts(head, body)).await;
        }
        let asked = Asked::of(&head);
        let session = asked.session.clone().unwrap_or_default();
        if let Some(answer) = self.misbehaves(&head, &asked) {
            return answer;
        }
        if self.fault == Fault::OrdersByArrival && head.method == Method::POST {
            self.commit_first_what_came_first(&head, &session).await;
        }
        let kept = (head.clone(), body.clone());
        let method = head.method.clone();
        let answer = self.service.respond(Request::from_parts(head, body)).await;
        self.note(&method, &asked, &answer);
        if method == Method::PUT {
            self.repeat_the_one_before(kept).await;
        }
        answer
    }

    /// SQL: queries are answered here, and so are refusals of what is to fail.
    async fn instances(
        &self,
        head: &http::request::Parts,
        body: &Bytes,
    ) -> Option<Response<Bytes>> {
        let id = head.uri.path().rsplit('/').next().unwrap_or_default();
        if let Some(result) = self.state().results.get(id).cloned() {
            let asks_for_result = head.uri.query().unwrap_or_default().contains("result");
            return Some(done(if asks_for_result { result } else { SUCCESS.into() }));
        }
        let text = String::from_utf8_lossy(body).replace("&apos;", "'");
        let sql = text.split("<Query>").nth(1)?.split(";</Query>").next()?;
        let fails = match self.fault {
            Fault::AnswersNoQueries => sql.starts_with("SELECT"),
            Fault::CreatesNoTables => sql.starts_with("CREATE"),
            Fault::KeepsTables => sql.starts_with("DROP"),
            _ => false,
        };
        if fails {
            return Some(refusal(StatusCode::FORBIDDEN, "NoPermission", "not for this key"));
        }
        if !sql.starts_with("SELECT") {
            return None;
        }
        let result = self.select(sql).await;
        let mut state = self.state();
        let id = format!("query-{}", state.results.len());
        state.results.insert(id.clone(), result);
        let mut answer = done(String::new());
        let location = format!("http://h:1/api/projects/local/instances/{id}");
        answer.headers_mut().insert("location", location.parse().expect("plain text"));
        Some(answer)
    }

    async fn select(&self, sql: &str) -> String {
        let batches = self.service.query(&sql.replace("`local`.", "")).await;
        let mut lines = vec![String::from("\"id\",\"v\"")];
        for batch in batches.expect("the doctor's queries are understood") {
            let ids = batch.column(0).as_primitive::<Int64Type>();
            let texts = batch.column(1).as_string::<i32>();
            let quoted = |row| texts.value(row).replace('"', "\"\"");
            lines.extend(
                (0..batch.num_rows()).map(|row| format!("{},\"{}\"", ids.value(row), quoted(row))),
            );
        }
        let reads = {
            let mut state = self.state();
            let reads = state.asked.entry(String::from(sql)).or_default();
            *reads += 1;
            *reads
        };
        if sql.contains("'atomic'") {
            match (self.fault, reads) {
                (Fault::ShowsTheUncommitted, 1) => lines.push(String::from("1,\"x\"")),
                (Fault::ShowsAPart, 2) => lines = lines.into_iter().take(20).collect(),
                _ => {}
            }
            if self.fault == Fault::ShowsAPart && lines.len() == 1 && reads == 2 {
                lines.push(String::from("1,\"x\""));
            }
        }
        let csv = lines.join("\n");
        format!(
            "<Instance><Tasks><Task><Result><![CDATA[{csv}]]></Result></Task></Tasks></Instance>"
        )
    }

    /// Answers that the server itself would not give.
    fn misbehaves(&self, head: &http::request::Parts, asked: &Asked) -> Option<Response<Bytes>> {
        let state = self.state();
        let session = asked.session.as_deref().unwrap_or_default();
        let has_ended = state.ended.iter().any(|ended| ended == session);
        let is_held = state.sessions.get("pt=held").is_some_and(|held| held[0] == session);
        match (self.fault, &head.method) {
            (Fault::RefusesSecondSession, &Method::POST) if asked.session.is_none() => {
                let mut opened = state.sessions.get(&asked.partition).into_iter().flatten();
                let is_open = opened.any(|open| !state.ended.contains(open));
                is_open.then(|| {
                    refusal(StatusCode::CONFLICT, "StatusConflict", "one session of a partition")
                })
            }
            (Fault::TakesLatePacks, &Method::PUT) if has_ended => Some(done(String::new())),
            (Fault::CommitsTheAborted, &Method::POST) if asked.partition == "pt=aborted" => {
                Some(described(session, "committed")).filter(|_| has_ended)
            }
            (Fault::DropsSessions, &Method::GET) if is_held => Some(described(session, "expired")),
            _ => None,
        }
    }

    /// Every session of the partition but the one whose pack came last is committed before it.
    async fn commit_first_what_came_first(&self, head: &http::request::Parts, session: &str) {
        let others: Vec<String> = {
            let state = self.state();
            let of = |sessions: &&Vec<String>| sessions.iter().any(|one| one == session);
            let Some(all) = state.sessions.values().find(of) else { return };
            let last = state.last.values().any(|last| last == session);
            all.iter().filter(|other| last && *other != session).cloned().collect()
        };
        for other in others {
            let path = head.uri.path();
            let request = Request::post(format!("{path}?upsertid={other}")).body(Bytes::new());
            self.service.respond(request.expect("a request")).await;
        }
    }

    fn note(&self, method: &Method, asked: &Asked, answer: &Response<Bytes>) {
        if !answer.status().is_success() {
            return;
        }
        let mut state = self.state();
        let partition = asked.partition.clone();
        match (method, &asked.session) {
            (&Method::POST, None) => {
                let body: serde_json::Value =
                    serde_json::from_slice(answer.body()).unwrap_or_default();
                let id = body["id"].as_str().unwrap_or_default();
                state.sessions.entry(partition).or_default().push(id.into());
            }
            (&Method::PUT, Some(session)) => {
                state.last.insert(partition, session.clone());
            }
            (&Method::POST | &Method::DELETE, Some(session)) => state.ended.push(session.clone()),
            _ => {}
        }
    }

    /// Sends the PUT before this one once more: an intermediary that had not heard its answer.
    async fn repeat_the_one_before(&self, this: (http::request::Parts, Bytes)) {
        if self.fault != Fault::RepeatsPuts {
            return;
        }
        let before = self.state().again.replace(this);
        if let Some((head, body)) = before {
            self.service.respond(Request::from_parts(head, body)).await;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

/// The session and the partition that a request to `upserts` names.
struct Asked {
    session: Option<String>,
    partition: String,
}

impl Asked {
    fn of(head: &http::request::Parts) -> Self {
        let query = head.uri.query().unwrap_or_default();
        let value = |name: &str| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(key, _)| *key == name);
            found.next().map(|(_, value)| value.replace("%3D", "="))
        };
        Self { session: value("upsertid"), partition: value("partition").unwrap_or_default() }
    }
}

/// The way to the world.
struct Way(Arc<World>);

impl Transport for Way {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        let world = Arc::clone(&self.0);
        async move {
            let fault = world.fault;
            match fault {
                Fault::Unreachable => {
                    let message = String::from("connection refused");
                    return Err(TransportError { sent: false, message });
                }
                Fault::DeniesKey => {
                    return Ok(refusal(StatusCode::UNAUTHORIZED, "Unauthorized", "who is that?"));
                }
                _ => {}
            }
            let mut answer = Arc::clone(&world).carry_out(request).await;
            let behind_ms = if fault == Fault::ClockBehind { 3_600_000 } else { 0 };
            let date_ms = world.beginning_ms - behind_ms;
            let date = std::time::UNIX_EPOCH + std::time::Duration::from_millis(date_ms);
            let date = HeaderValue::try_from(httpdate::fmt_http_date(date)).expect("a date");
            answer.headers_mut().insert("date", date);
            if fault == Fault::TellsOfAProxy {
                answer.headers_mut().insert("via", HeaderValue::from_static("1.1 proxy"));
            }
            Ok(answer)
        }
        .boxed()
    }
}

/// The same table name in every world.
struct Sevens;

impl Entropy for Sevens {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn done(body: String) -> Response<Bytes> {
    let answer = Response::builder().header("x-odps-request-id", "r1");
    answer.body(Bytes::from(body)).expect("a response")
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let mut answer = done(format!("{{\"Code\":\"{code}\",\"Message\":\"{message}\"}}"));
    *answer.status_mut() = status;
    answer
}

fn described(session: &str, status: &str) -> Response<Bytes> {
    let body = serde_json::json!({
        "id": session, "status": status, "hash_key": ["id"], "hasher": "default",
        "schema": {"columns": []},
        "slots": [{"slot_id": "0", "buckets": [0, 1, 2, 3], "worker_addr": "h:1"}],
    });
    done(body.to_string())
}

const SUCCESS: &str = "<Instance><Tasks><Task><Status>Success</Status></Task></Tasks></Instance>";
