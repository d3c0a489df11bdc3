//! The operations on the wire, each one attempt.
//!
//! Between `driver.rs`, which runs attempts, and `tunnel/endpoint.rs`. Invariant: an attempt leaves
//! nothing behind but where buckets go and when a session was heard of; what must be durable is the
//! guest's to say.

use std::sync::Arc;

use http::Method;
use http::StatusCode;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::Answer;
use upsert_sink_format::tunnel::Outcome;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_format::tunnel::SessionRef;
use upsert_sink_format::tunnel::SessionStatus;

use crate::capability::tickets::not_granted;
use crate::tunnel::Operation;
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::endpoint::Request;
use crate::tunnel::pack::Pack;
use crate::tunnel::partition;
use crate::tunnel::response::ROUTED_SERVER;
use crate::tunnel::response::Verdict;
use crate::tunnel::response::judge;
use crate::tunnel::response::moved_to;
use crate::tunnel::session;
use crate::tunnel::session::Route;
use crate::tunnel::session::Sessions;
use crate::tunnel::session::SlotMap;
use crate::tunnel::sql;

/// The Tunnel of one sink.
pub(crate) struct Tunnel {
    endpoint: Arc<Endpoint>,
    sessions: Sessions,
}

impl Tunnel {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, sessions: Sessions::default() }
    }

    /// Makes one attempt.
    pub(crate) async fn attempt(&self, operation: &Operation) -> Outcome {
        let outcome = match operation {
            Operation::CreatePartition(spec) => self.create_partition(spec).await,
            Operation::CreateSession { partition, lifecycle_hours, slots } => {
                self.create_session(partition, *lifecycle_hours, *slots).await
            }
            Operation::PutPack(pack) => self.put_pack(pack).await,
            Operation::CommitSession(session) => self.ask(Method::POST, session).await,
            Operation::AbortSession(session) => self.abort(session).await,
            Operation::SessionStatus(session) => self.ask(Method::GET, session).await,
            Operation::CompactPartition(_) | Operation::PutCachedPack(_) => {
                not_granted(operation.name())
            }
        };
        tracing::debug!(operation = operation.name(), outcome = summary(&outcome), "attempt");
        outcome
    }

    /// Asks for the status of every session that the service has not heard of for `idle_ms`.
    pub(crate) async fn keep_alive(&self, idle_ms: u64) {
        let since = self.now_ms().saturating_sub(idle_ms);
        for (id, partition) in self.sessions.silent_since(since) {
            let id = upsert_sink_format::id::SessionId(id);
            self.ask(Method::GET, &SessionRef { id, partition }).await;
        }
    }

    async fn create_partition(&self, spec: &str) -> Outcome {
        let Some(spec) = partition::for_sql(spec) else { return malformed(spec) };
        let table = sql::table_name(&self.endpoint.settings);
        let text = format!("ALTER TABLE {table} ADD IF NOT EXISTS PARTITION ({spec})");
        match sql::run(&self.endpoint, &text).await {
            Verdict::Done(_) => Outcome::Done(Answer::None),
            Verdict::Refused(refusal) => Outcome::Refused(refusal),
            Verdict::InDoubt(why) => Outcome::InDoubt(why),
        }
    }

    async fn create_session(&self, spec: &str, lifecycle_hours: u32, slots: u32) -> Outcome {
        let request = self.request(Method::POST, &[("slotnum", slots.to_string())]);
        let request = request.query("lifecycle", lifecycle_hours.clamp(1, 24).to_string());
        let Some(request) = in_partition(request, spec) else { return malformed(spec) };
        let body = match judge(self.endpoint.ask_tunnel(request).await) {
            Verdict::Done(body) => body,
            Verdict::Refused(refusal) => return Outcome::Refused(refusal),
            Verdict::InDoubt(why) => return Outcome::InDoubt(why),
        };
        match session::parse(&body) {
            Ok((info, slots)) => {
                self.sessions.learn(&info.id.0, spec, self.allowed(slots), self.now_ms());
                self.endpoint.meter.session_created();
                Outcome::Done(Answer::Session(info))
            }
            Err(why) => Outcome::InDoubt(why),
        }
    }

    async fn put_pack(&self, pack: &Pack) -> Outcome {
        let session = &pack.session;
        let compression = self.endpoint.settings.compression;
        let processors = &*self.endpoint.components.processors;
        let body = match pack.body.on_the_wire(compression, processors).await {
            Ok(body) => body,
            Err(error) => return refused(RefusalKind::NotSent, &error.to_string()),
        };
        let route = match self.route(session, pack.bucket).await {
            Ok(route) => route,
            Err(outcome) => return outcome,
        };
        let (id, bucket) = (session.id.0.clone(), pack.bucket.to_string());
        let request = self
            .request(Method::PUT, &[("upsertid", id), ("bucketid", bucket)])
            .query("slotid", &route.slot)
            .query("record_count", pack.records.to_string())
            .header(ROUTED_SERVER, &route.worker)
            .body(body.bytes);
        let request = match body.encoding {
            Some(encoding) => request.header("content-encoding", encoding),
            None => request,
        };
        let Some(request) = in_partition(request, &session.partition) else {
            return malformed(&session.partition);
        };
        let answer = self.endpoint.ask_tunnel(request).await;
        let head = answer.as_ref().ok();
        let worker = head.and_then(|answer| moved_to(answer.headers()));
        if head.is_some_and(|answer| is_of_a_lost_worker(answer.status())) {
            self.sessions.forget_slots(&session.id.0);
        }
        match judge(answer) {
            Verdict::Done(_) => {
                self.sessions.touch(&session.id.0, self.now_ms());
                self.endpoint.meter.pack_acknowledged(pack.records);
                Outcome::Done(Answer::None)
            }
            Verdict::Refused(refusal) => {
                self.note_refusal(&session.id.0, &refusal, Some(&route), worker.as_deref());
                Outcome::Refused(refusal)
            }
            Verdict::InDoubt(why) => Outcome::InDoubt(why),
        }
    }

    /// Where a bucket's packs go. A session that another process created is asked for first.
    async fn route(&self, session: &SessionRef, bucket: u32) -> Result<Route, Outcome> {
        let id = &session.id.0;
        if let Some(route) = self.sessions.route(id, bucket) {
            return Ok(route);
        }
        match self.reload(session).await {
            Verdict::Done(_) => {}
            Verdict::Refused(refusal) => return Err(Outcome::Refused(refusal)),
            // The pack itself has not been sent.
            Verdict::InDoubt(why) => return Err(refused(RefusalKind::NotSent, &why)),
        }
        self.sessions.route(id, bucket).ok_or_else(|| {
            let message = format!("session {id} has no bucket {bucket}, or does not exist here");
            refused(RefusalKind::Invalid, &message)
        })
    }

    async fn reload(&self, session: &SessionRef) -> Verdict {
        let verdict = match self.session_request(Method::GET, session) {
            Some(request) => judge(self.endpoint.ask_tunnel(request).await),
            None => return crate::tunnel::endpoint::before_sending("the partition is malformed"),
        };
        if let Verdict::Done(body) = &verdict {
            match session::parse(body) {
                Ok((info, slots)) if info.id == session.id => {
                    if let Err(refusal) = self.check_workers(&slots) {
                        return Verdict::Refused(refusal);
                    }
                    let now_ms = self.now_ms();
                    self.sessions.learn(&info.id.0, &session.partition, slots, now_ms);
                }
                Ok(_) => return Verdict::InDoubt(String::from(ANOTHER_SESSION)),
                Err(why) => return Verdict::InDoubt(why),
            }
        }
        verdict
    }

    fn note_refusal(
        &self,
        id: &str,
        refusal: &Refusal,
        route: Option<&Route>,
        worker: Option<&str>,
    ) {
        match (refusal.kind, route, worker) {
            (RefusalKind::Moved, Some(route), Some(worker)) if self.may_move(id, worker) => {
                self.sessions.moved(id, &route.slot, worker);
            }
            (RefusalKind::Moved, _, worker) => {
                if let Some(worker) = worker {
                    tracing::warn!(session = id, worker, "a move is not allowed: asking again");
                }
                self.sessions.forget_slots(id);
            }
            (RefusalKind::NoSuchSession, _, _) => self.sessions.forget(id),
            _ => {}
        }
    }

    fn may_move(&self, id: &str, worker: &str) -> bool {
        let named = self.sessions.workers(id);
        let allowed = &self.endpoint.settings.worker_allow_list;
        allowed.allows_move(worker, self.endpoint.tunnel(), &named)
    }

    /// Where packs may go. Of a session with a worker that is not allowed nothing is known: the
    /// guest learns of it all the same, to commit or abort it; its packs ask again, and are
    /// refused.
    fn allowed(&self, slots: SlotMap) -> SlotMap {
        self.check_workers(&slots).map_or_else(|_| SlotMap::default(), |()| slots)
    }

    fn check_workers(&self, slots: &SlotMap) -> Result<(), Refusal> {
        let allowed = &self.endpoint.settings.worker_allow_list;
        let Some(worker) = slots.workers().find(|worker| !allowed.allows(worker)) else {
            return Ok(());
        };
        let message = format!(
            "the session's worker {worker} is not in `tunnel.worker-allow-list` = {allowed}; add it"
        );
        Err(refusal(RefusalKind::Denied, &message))
    }

    /// A commit or a status: both are answered with the session.
    async fn ask(&self, method: Method, session: &SessionRef) -> Outcome {
        let is_commit = method == Method::POST;
        let Some(request) = self.session_request(method, session) else {
            return malformed(&session.partition);
        };
        let route = self.sessions.route(&session.id.0, 0);
        let answer = self.endpoint.ask_tunnel(request).await;
        let worker = answer.as_ref().ok().and_then(|answer| moved_to(answer.headers()));
        let body = match judge(answer) {
            Verdict::Done(body) => body,
            Verdict::Refused(refusal) => {
                self.note_refusal(&session.id.0, &refusal, route.as_ref(), worker.as_deref());
                if is_commit && refusal.kind == RefusalKind::Moved && worker.is_none() {
                    // Where it moved to; if that is not answered, the next commit names no worker.
                    let _ = self.reload(session).await;
                }
                return Outcome::Refused(refusal);
            }
            Verdict::InDoubt(why) => return Outcome::InDoubt(why),
        };
        match session::parse(&body) {
            Ok((info, slots)) if info.id == session.id => {
                let (id, spec) = (&info.id.0, &session.partition);
                self.sessions.learn(id, spec, self.allowed(slots), self.now_ms());
                if !matches!(info.status, SessionStatus::Normal | SessionStatus::Committing) {
                    self.sessions.forget(id);
                }
                Outcome::Done(Answer::Session(info))
            }
            Ok(_) => Outcome::InDoubt(String::from(ANOTHER_SESSION)),
            Err(why) => Outcome::InDoubt(why),
        }
    }

    async fn abort(&self, session: &SessionRef) -> Outcome {
        let Some(request) = self.session_request(Method::DELETE, session) else {
            return malformed(&session.partition);
        };
        self.sessions.forget(&session.id.0);
        match judge(self.endpoint.ask_tunnel(request).await) {
            Verdict::Done(_) => Outcome::Done(Answer::None),
            Verdict::Refused(refusal) => Outcome::Refused(refusal),
            Verdict::InDoubt(why) => Outcome::InDoubt(why),
        }
    }

    /// Which worker takes which bucket of a session.
    pub(crate) fn slots(&self, session: &SessionRef) -> Option<SlotMap> {
        self.sessions.slots(&session.id.0)
    }

    /// Lets packs go to a session that has ended, as a late copy of one would: for the doctor.
    pub(crate) fn go_on_with(&self, session: &SessionRef, slots: SlotMap) {
        self.sessions.learn(&session.id.0, &session.partition, slots, self.now_ms());
    }

    fn session_request(&self, method: Method, session: &SessionRef) -> Option<Request> {
        let request = self.request(method, &[("upsertid", session.id.0.clone())]);
        let request = match self.sessions.route(&session.id.0, 0) {
            Some(route) => request.header(ROUTED_SERVER, route.worker),
            None => request,
        };
        in_partition(request, &session.partition)
    }

    fn request(&self, method: Method, query: &[(&'static str, String)]) -> Request {
        let mut request = Request::new(method, self.endpoint.table_path("/upserts"));
        request.query.extend(query.iter().cloned());
        request
    }

    fn now_ms(&self) -> u64 {
        self.endpoint.components.clock.now_ms()
    }
}

fn in_partition(request: Request, spec: &str) -> Option<Request> {
    if spec.is_empty() {
        return Some(request);
    }
    partition::for_query(spec).map(|partition| request.query("partition", partition))
}

fn malformed(spec: &str) -> Outcome {
    let spec = crate::error::escape(spec, 200);
    refused(RefusalKind::Invalid, &format!("`{spec}` is not of the form name='value',…"))
}

fn refused(kind: RefusalKind, message: &str) -> Outcome {
    Outcome::Refused(refusal(kind, message))
}

fn refusal(kind: RefusalKind, message: &str) -> Refusal {
    Refusal {
        kind,
        code: String::new(),
        message: String::from(message),
        request_id: String::new(),
        retry_after: Millis(0),
    }
}

/// The Tunnel's front did not reach the worker: it may be another by now.
fn is_of_a_lost_worker(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

fn summary(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::InDoubt(why) => why,
        Outcome::Refused(refusal) if refusal.code.is_empty() => &refusal.message,
        Outcome::Refused(refusal) => &refusal.code,
    }
}

const ANOTHER_SESSION: &str = "the answer is about another session";

#[cfg(test)]
mod tests;
