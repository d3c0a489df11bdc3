//! A table at the Tunnel: sessions, packs, commits and partitions, each call one attempt.
//!
//! Between the caller and `endpoint.rs`. Invariant: an attempt leaves nothing behind but where
//! buckets go and when a session was heard of; what must be durable is the caller's to say.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use upsert_sink_format::id::{BucketId, Hours, SessionId};
use upsert_sink_format::tunnel::{
    Refusal, RefusalKind, SessionInfo, SessionRef, SessionStatus, TableDescription,
};

use crate::catalog::Catalog;
use crate::download::TableDownload;
use crate::endpoint::{Endpoint, Request};
use crate::error::{NotDone, Result, TunnelError, refusal};
use crate::instance::InstanceId;
use crate::name::Name;
use crate::pack::PackBody;
use crate::partition;
use crate::response::{ROUTED_SERVER, judge, moved_to};
use crate::session::Session;
use crate::slots::{KnownSessions, Route, SlotMap, described};

/// A table at the Tunnel. Cheap to clone; clones share what is known of its sessions.
#[derive(Clone)]
pub struct Table {
    endpoint: Arc<Endpoint>,
    name: Arc<Name>,
    sessions: Arc<KnownSessions>,
}

impl Table {
    pub(crate) fn new(endpoint: Arc<Endpoint>, name: Name) -> Self {
        Self { endpoint, name: Arc::new(name), sessions: Arc::default() }
    }

    /// The name, without project and schema.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The table as the catalog describes it.
    ///
    /// # Errors
    /// As [`Catalog::table`].
    pub async fn describe(&self) -> Result<TableDescription> {
        Catalog::of(Arc::clone(&self.endpoint)).table(&self.name).await
    }

    /// Creates a partition, such as `day='2013-01-01',hour='7'`, if there is none.
    ///
    /// # Errors
    /// As [`Catalog::create_partition`].
    pub async fn create_partition(&self, partition: &str) -> Result<()> {
        let catalog = Catalog::of(Arc::clone(&self.endpoint));
        noted("create-partition", catalog.create_partition(&self.name, partition).await)
    }

    /// Asks for a major compaction of a partition; empty for all of the table. Returns when the
    /// service has taken note of it.
    ///
    /// # Errors
    /// As [`Catalog::compact`].
    pub async fn compact(&self, partition: &str) -> Result<InstanceId> {
        let catalog = Catalog::of(Arc::clone(&self.endpoint));
        noted("compact-partition", catalog.compact(&self.name, partition).await)
    }

    /// Creates a session that writes to a partition; empty for a table without partitions. The
    /// service may drop it after `lifecycle`, which is 1 to 24 hours, and writes it through so many
    /// slots of the Tunnel.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchPartition` or `SlowDown`. In doubt, a session may have
    /// been created that nobody knows; it ends with its lifecycle.
    pub async fn create_session(
        &self,
        partition: &str,
        lifecycle: Hours,
        slots: u32,
    ) -> Result<Session> {
        let info = noted("create-session", self.create(partition, lifecycle, slots).await)?;
        let reference = SessionRef { id: info.id.clone(), partition: String::from(partition) };
        Ok(Session::new(self.clone(), reference, info))
    }

    /// A session that was created elsewhere, or before; its status is asked for.
    ///
    /// # Errors
    /// As [`Table::status`].
    pub async fn open_session(&self, session: SessionRef) -> Result<Session> {
        let info = self.status(&session).await?;
        Ok(Session::new(self.clone(), session, info))
    }

    /// Begins a download of a partition; empty for a table without partitions. Its rows are those
    /// that are committed by now.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchPartition` or `SlowDown`; `Transient` if the service is not ready
    /// yet. In doubt, the same call may follow: a download changes nothing.
    pub async fn download(&self, partition: &str) -> Result<TableDownload> {
        let (endpoint, name) = (Arc::clone(&self.endpoint), Arc::clone(&self.name));
        noted("create-download", TableDownload::begin(endpoint, name, partition).await)
    }

    /// Writes rows of one bucket. Acknowledged rows become visible when the session is committed.
    /// If the session's slots are not known here, they are asked for first.
    ///
    /// # Errors
    /// A refusal: `Moved` and `SlowDown` ask for the same pack again. In doubt, the same
    /// pack must be sent again until it is acknowledged.
    pub async fn put_pack(
        &self,
        session: &SessionRef,
        bucket: BucketId,
        records: u32,
        body: &PackBody,
    ) -> Result<()> {
        noted("put-pack", self.put(session, bucket, records, body).await).map_err(of(session))
    }

    /// Commits a session: all of its acknowledged rows become visible together. The service may
    /// answer that it is still at it ([`SessionStatus::Committing`]): commit again, or ask for the
    /// status.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchSession` for one that has ended. In doubt, the same commit may
    /// follow: it is idempotent.
    pub async fn commit(&self, session: &SessionRef) -> Result<SessionInfo> {
        noted("commit-session", self.ask(Method::POST, session).await).map_err(of(session))
    }

    /// Aborts a session: none of its rows becomes visible.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchSession` for one that has ended.
    pub async fn abort(&self, session: &SessionRef) -> Result<()> {
        noted("abort-session", self.delete(session).await).map_err(of(session))
    }

    /// Asks for a session's status, which also tells the service that the session is in use.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchSession` for one that the service does not know.
    pub async fn status(&self, session: &SessionRef) -> Result<SessionInfo> {
        noted("session-status", self.ask(Method::GET, session).await).map_err(of(session))
    }

    /// Asks for the status of every session that the service has not heard of for `idle`: it drops
    /// a session only for its age as long as it hears of it. Failures are left to the calls that
    /// need the session.
    pub async fn keep_alive(&self, idle: Duration) {
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let since_ms = self.now_ms().saturating_sub(idle_ms);
        for (id, partition) in self.sessions.silent_since(since_ms) {
            let session = SessionRef { id: SessionId(id), partition };
            let _told_to_the_log = self.status(&session).await;
        }
    }

    /// The slots of a session; none if they are not known here.
    pub fn slots(&self, session: &SessionRef) -> Option<SlotMap> {
        self.sessions.slots(&session.id.0)
    }

    /// Takes slots for a session's own, in place of those that the service would tell: so packs can
    /// be sent to a session that has ended, as a late copy of one would be.
    pub fn assume_slots(&self, session: &SessionRef, slots: SlotMap) {
        self.sessions.learn(&session.id.0, &session.partition, slots, self.now_ms());
    }
}

/// The attempts.
impl Table {
    async fn create(&self, partition: &str, lifecycle: Hours, slots: u32) -> Result<SessionInfo> {
        let request = self.request(Method::POST).query("slotnum", slots.to_string());
        let request = request.query("lifecycle", lifecycle.0.clamp(1, 24).to_string());
        let request = in_partition(request, partition)?;
        let body = judge(self.endpoint.ask_tunnel(request).await)?;
        let (info, slots) = described(&body)?;
        self.sessions.learn(&info.id.0, partition, self.allowed(slots), self.now_ms());
        self.endpoint.meter.session_created();
        Ok(info)
    }

    async fn put(
        &self,
        session: &SessionRef,
        bucket: BucketId,
        records: u32,
        body: &PackBody,
    ) -> Result<()> {
        let compression = self.endpoint.settings.compression;
        let body = body.on_the_wire(compression, &*self.endpoint.components.processors).await;
        let body = body.map_err(|error| not_sent(&error.to_string()))?;
        let route = self.route(session, bucket.0).await?;
        let request = self
            .request(Method::PUT)
            .query("upsertid", &session.id.0)
            .query("bucketid", bucket.0.to_string())
            .query("slotid", &route.slot)
            .query("record_count", records.to_string())
            .header(ROUTED_SERVER, &route.worker)
            .body(body.bytes);
        let request = match body.encoding {
            Some(encoding) => request.header("content-encoding", encoding),
            None => request,
        };
        let request = in_partition(request, &session.partition)?;
        let answer = self.endpoint.ask_tunnel(request).await;
        let head = answer.as_ref().ok();
        let worker = head.and_then(|answer| moved_to(answer.headers()));
        if head.is_some_and(|answer| is_of_a_lost_worker(answer.status())) {
            self.sessions.forget_slots(&session.id.0);
        }
        match judge(answer) {
            Ok(_) => {
                self.sessions.touch(&session.id.0, self.now_ms());
                self.endpoint.meter.pack_acknowledged(records);
                Ok(())
            }
            Err(error) => {
                self.note_refusal(session, &error, Some(&route), worker.as_deref());
                Err(error)
            }
        }
    }

    /// A commit or a status: both are answered with the session.
    async fn ask(&self, method: Method, session: &SessionRef) -> Result<SessionInfo> {
        let is_commit = method == Method::POST;
        let request = self.session_request(method, session)?;
        let route = self.sessions.route(&session.id.0, 0);
        let answer = self.endpoint.ask_tunnel(request).await;
        let worker = answer.as_ref().ok().and_then(|answer| moved_to(answer.headers()));
        let body = match judge(answer) {
            Ok(body) => body,
            Err(error) => {
                self.note_refusal(session, &error, route.as_ref(), worker.as_deref());
                if is_commit && has_moved(&error) && worker.is_none() {
                    // Where it moved to; if that is not answered, the next commit names no worker.
                    let _ = self.reload(session).await;
                }
                return Err(error);
            }
        };
        let (info, slots) = described(&body)?;
        if info.id != session.id {
            return Err(TunnelError::in_doubt(ANOTHER_SESSION));
        }
        let slots = self.allowed(slots);
        self.sessions.learn(&info.id.0, &session.partition, slots, self.now_ms());
        if !matches!(info.status, SessionStatus::Normal | SessionStatus::Committing) {
            self.sessions.forget(&info.id.0);
        }
        Ok(info)
    }

    async fn delete(&self, session: &SessionRef) -> Result<()> {
        let request = self.session_request(Method::DELETE, session)?;
        self.sessions.forget(&session.id.0);
        judge(self.endpoint.ask_tunnel(request).await).map(drop)
    }
}

/// Where buckets go.
impl Table {
    /// The route of a bucket's packs. A session that another process created is asked for first.
    async fn route(&self, session: &SessionRef, bucket: u32) -> Result<Route> {
        let id = &session.id.0;
        if let Some(route) = self.sessions.route(id, bucket) {
            return Ok(route);
        }
        self.reload(session).await.map_err(|error| match error.not_done() {
            // The pack itself has not been sent.
            NotDone::InDoubt(why) => not_sent(why),
            _ => error,
        })?;
        self.sessions.route(id, bucket).ok_or_else(|| {
            let message = format!("session {id} has no bucket {bucket}, or does not exist here");
            TunnelError::unusable(message)
        })
    }

    async fn reload(&self, session: &SessionRef) -> Result<()> {
        let request = self.session_request(Method::GET, session)?;
        let body = judge(self.endpoint.ask_tunnel(request).await)?;
        let (info, slots) = described(&body)?;
        if info.id != session.id {
            return Err(TunnelError::in_doubt(ANOTHER_SESSION));
        }
        self.check_workers(&slots)?;
        self.sessions.learn(&info.id.0, &session.partition, slots, self.now_ms());
        Ok(())
    }

    fn note_refusal(
        &self,
        session: &SessionRef,
        error: &TunnelError,
        route: Option<&Route>,
        worker: Option<&str>,
    ) {
        let id = &session.id.0;
        match (error.refusal().map(|refusal| refusal.kind), route, worker) {
            (Some(RefusalKind::Moved), Some(route), Some(worker)) if self.may_move(id, worker) => {
                self.sessions.moved(id, &route.slot, worker);
            }
            (Some(RefusalKind::Moved), _, worker) => {
                if let Some(worker) = worker {
                    tracing::warn!(session = id, worker, "a move is not allowed: asking again");
                }
                self.sessions.forget_slots(id);
            }
            (Some(RefusalKind::NoSuchSession), _, _) => self.sessions.forget(id),
            _ => {}
        }
    }

    fn may_move(&self, id: &str, worker: &str) -> bool {
        let named = self.sessions.workers(id);
        let allowed = &self.endpoint.settings.worker_allow_list;
        allowed.allows_move(worker, self.endpoint.tunnel(), &named)
    }

    /// Where packs may go. If one of a session's workers is not allowed, none of its slots is kept:
    /// the caller learns of the session all the same, to commit or abort it; its packs ask again,
    /// and are refused.
    fn allowed(&self, slots: SlotMap) -> SlotMap {
        self.check_workers(&slots).map_or_else(|_| SlotMap::default(), |()| slots)
    }

    fn check_workers(&self, slots: &SlotMap) -> Result<()> {
        let allowed = &self.endpoint.settings.worker_allow_list;
        let Some(worker) = slots.workers().find(|worker| !allowed.allows(worker)) else {
            return Ok(());
        };
        let message = format!(
            "the session's worker {worker} is not in `tunnel.worker-allow-list` = {allowed}; add it"
        );
        Err(TunnelError::refused(refusal(RefusalKind::Denied, message)))
    }

    fn session_request(&self, method: Method, session: &SessionRef) -> Result<Request> {
        let request = self.request(method).query("upsertid", &session.id.0);
        let request = match self.sessions.route(&session.id.0, 0) {
            Some(route) => request.header(ROUTED_SERVER, route.worker),
            None => request,
        };
        in_partition(request, &session.partition)
    }

    fn request(&self, method: Method) -> Request {
        Request::new(method, self.endpoint.table_path(self.name.as_str(), "/upserts"))
    }

    fn now_ms(&self) -> u64 {
        self.endpoint.components.clock.now_ms()
    }
}

/// Names the partition that a request is about, if the table has any.
pub(crate) fn in_partition(request: Request, spec: &str) -> Result<Request> {
    if spec.is_empty() {
        return Ok(request);
    }
    let partition = partition::for_query(spec).ok_or_else(|| partition::malformed(spec))?;
    Ok(request.query("partition", partition))
}

fn not_sent(why: &str) -> TunnelError {
    TunnelError::refused(refusal(RefusalKind::NotSent, why))
}

/// The Tunnel's front did not reach the worker: it may be another by now.
fn is_of_a_lost_worker(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

fn has_moved(error: &TunnelError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.kind == RefusalKind::Moved)
}

/// Names the session that an error is about.
fn of(session: &SessionRef) -> impl Fn(TunnelError) -> TunnelError {
    move |error| error.at(format!("session {}", session.id))
}

fn noted<T>(operation: &'static str, result: Result<T>) -> Result<T> {
    let outcome = result.as_ref().map_or_else(summary, |_| "done");
    tracing::debug!(operation, outcome, "attempt");
    result
}

fn summary(error: &TunnelError) -> &str {
    match error.not_done() {
        NotDone::Refused(Refusal { code, .. }) if !code.is_empty() => code,
        NotDone::Refused(Refusal { message: why, .. })
        | NotDone::InDoubt(why)
        | NotDone::Unusable(why)
        | NotDone::Garbled(why) => why,
    }
}

const ANOTHER_SESSION: &str = "the answer is about another session";

#[cfg(test)]
mod tests;
