//! Everything but the listener: a request comes in, an answer goes out.
//!
//! `http.rs` brings requests over TCP, a simulation calls `respond` itself; routes do the work.
//! Invariant: every answer has an `x-odps-request-id`, unless a rule of faults says otherwise, and
//! a request that was begun is carried to its end even if nobody waits for the answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::HeaderValue;
use http::Method;
use http::Response;
use http::StatusCode;
use object_store::ObjectStoreExt;
use object_store::path::Path as ObjectPath;
use tokio::sync::RwLock;
use upsert_sink_format::id::Millis;

use crate::audit;
use crate::body::Body;
use crate::components::Access;
use crate::components::Components;
use crate::components::Directory;
use crate::download::Downloads;
use crate::error::Error;
use crate::error::Plane;
use crate::error::Refusal;
use crate::fault;
use crate::fault::Asked;
use crate::fault::Faults;
use crate::fault::Life;
use crate::fault::Met;
use crate::fault::unanswered;
use crate::query;
use crate::quota::QuotaUse;
use crate::request::Request;
use crate::result::kept::Results;
use crate::route;
use crate::route::upsert::encoding::DecodedBytes;
use crate::session::Session;
use crate::session::SessionFacts;
use crate::session::SessionIds;
use crate::session::Status;
use crate::settings::ServerSettings;
use crate::spool;
use crate::spool::Spool;
use crate::sql::job::Jobs;
use crate::stats::Counters;
use crate::stats::OpenSession;
use crate::stats::Stats;
use crate::table::commit::DATA;
use crate::table::commit::GroupCommit;
use crate::table::log::Log;
use crate::table::readable::Readable;
use crate::table::readable::TableRows;

/// A server without its listener. One per directory.
pub struct Service {
    inner: Arc<Inner>,
}

/// What routes share.
pub(crate) struct Inner {
    pub(crate) settings: ServerSettings,
    pub(crate) components: Components,
    pub(crate) directory: Arc<dyn Directory>,
    pub(crate) log: Arc<Log>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) commits: GroupCommit,
    pub(crate) ids: SessionIds,
    pub(crate) counters: Counters,
    pub(crate) quota_use: QuotaUse,
    pub(crate) faults: Faults,
    pub(crate) life: Arc<Life>,
    /// Held by every request that was begun.
    busy: Arc<RwLock<()>>,
    pub(crate) decoded_bytes: DecodedBytes,
    pub(crate) jobs: Jobs,
    pub(crate) results: Arc<Results>,
    downloads: Mutex<Downloads>,
    sessions: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// What a route answers.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn json(body: String) -> Self {
        Self::of("application/json", body)
    }

    pub(crate) fn xml(body: String) -> Self {
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        Self::of("application/xml", body)
    }

    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self::of("text/plain; charset=utf-8", body.into())
    }

    /// Rows, as they are read.
    pub(crate) fn rows(pieces: BoxStream<'static, Result<Bytes, Error>>) -> Self {
        Self::of("application/octet-stream", Body::Rows(pieces))
    }

    fn of(content_type: &'static str, body: impl Into<Body>) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

impl Service {
    /// Takes the directory, and recovers what was acknowledged.
    ///
    /// Errors: as of [`Server::start`](crate::Server::start), without those of the address.
    pub fn open<'a>(
        settings: &'a ServerSettings,
        components: &'a Components,
    ) -> BoxFuture<'a, Result<Arc<Self>, Error>> {
        Box::pin(async move {
            let directory = components
                .disk
                .open(&settings.dir, Access::Serve)
                .map_err(|error| Error::opening(&settings.dir, error))?;
            let clock = Arc::clone(&components.clock);
            let identity = || format!("{:016x}", components.entropy.draw());
            let log = Log::open(Arc::clone(&directory), Arc::clone(&clock), identity).await?;
            let log = Arc::new(log);
            let (spool, sessions) = recover(&directory, &log, settings, clock.now()).await?;
            let spool = Arc::new(spool);
            delete_orphans(&directory, &log).await?;
            let results = Arc::new(Results::open(Arc::clone(&directory)).await?);
            let ids = SessionIds::new(&log.catalog().identity);
            let life = Arc::new(Life::new());
            let commits = GroupCommit::new(
                Arc::clone(&directory),
                clock,
                Arc::clone(&spool),
                Arc::clone(&log),
                Arc::clone(&life),
            );
            let inner = Inner {
                settings: settings.clone(),
                components: components.clone(),
                directory,
                log,
                spool,
                commits,
                ids,
                counters: Counters::default(),
                quota_use: QuotaUse::new(settings.quotas),
                faults: Faults::new(settings.faults.clone(), components),
                life,
                busy: Arc::default(),
                decoded_bytes: DecodedBytes::new(settings.body_bytes_max),
                jobs: Jobs::new(),
                results,
                downloads: Mutex::default(),
                sessions: Mutex::new(sessions),
            };
            Ok(Arc::new(Self { inner: Arc::new(inner) }))
        })
    }

    /// Answers a request, with all of the answer in memory. Never fails: what goes wrong is an
    /// answer too, and an answer that a rule of faults withholds has
    /// [`Severed`](crate::Severed) among its extensions.
    pub fn respond<'a>(&'a self, request: http::Request<Bytes>) -> BoxFuture<'a, Response<Bytes>> {
        Box::pin(async move { self.inner.gathered(self.answer(request).await).await })
    }

    /// As `respond`, but rows are read while the answer is sent.
    pub(crate) fn answer<'a>(
        &'a self,
        mut request: http::Request<Bytes>,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let met = match request.extensions_mut().remove::<Option<Met>>() {
                Some(met) => met,
                None => self.meet(request.method(), request.uri()),
            };
            let inner = Arc::clone(&self.inner);
            let busy = Arc::clone(&inner.busy).read_owned().await;
            // A task of its own: a caller that goes away must not leave half a commit behind.
            let answer = tokio::spawn(async move {
                let _busy = busy;
                if inner.life.is_over() {
                    return unanswered().map(Body::Whole);
                }
                let answer = inner.respond(request, met).await;
                if inner.life.is_over() { unanswered().map(Body::Whole) } else { answer }
            });
            answer.await.unwrap_or_else(|_| {
                let id = self.inner.request_id();
                rendered(
                    Err(Refusal::internal("the server failed; see its log")),
                    Plane::Tunnel,
                    &id,
                )
            })
        })
    }

    /// The fault that a request meets. Asked once for each request.
    pub(crate) fn meet(&self, method: &Method, uri: &http::Uri) -> Option<Met> {
        self.inner.faults.meet(method, uri)
    }

    /// Answers a request whose body was not even read.
    pub(crate) fn refuse_large_body(&self) -> Response<Body> {
        self.refuse(self.inner.too_large())
    }

    /// Answers a request whose body did not come.
    pub(crate) fn refuse_slow_body(&self) -> Response<Body> {
        let message = "the body of the request did not come in time, or not whole; send it again";
        self.refuse(Refusal::too_slow(message))
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.inner.counters.count_request();
        self.inner.counters.count_refusal();
        rendered(Err(refusal), Plane::Tunnel, &self.inner.request_id())
    }

    /// Counts a request that a rule cut off.
    pub(crate) fn count_cut_request(&self) {
        self.inner.counters.count_request();
    }

    /// What goes wrong by rule.
    pub fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    /// Ends when a rule has crashed this server: nothing is answered any more.
    pub fn crashed(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.inner.life.over())
    }

    /// Ends when no request is being carried out. Those that a rule delays go on at once.
    pub(crate) async fn quiet(&self) {
        self.inner.faults.clear();
        drop(self.inner.busy.write().await);
    }

    /// What has been done since the start.
    pub fn stats(&self) -> Stats {
        let open = self.open_sessions().len() as u64;
        self.inner.counters.stats(open, self.inner.log.catalog().version)
    }

    /// The sessions that are neither committed nor aborted nor expired, oldest first.
    pub fn open_sessions(&self) -> Vec<OpenSession> {
        let now = self.inner.now();
        let sessions = self.inner.sessions();
        let open = sessions
            .values()
            .filter(|s| matches!(s.status(now), Status::Normal | Status::Committing));
        let catalog = self.inner.log.catalog();
        open.map(|s| OpenSession::new(&s.facts, s.pack_count(), &catalog)).collect()
    }

    /// Runs one SELECT over what is committed.
    ///
    /// Errors: `Query` for SQL that is wrong or no SELECT, `NoSelect` without the feature `query`.
    pub fn query<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Vec<RecordBatch>, Error>> {
        Box::pin(async move { query::run(&self.inner.readable(), sql).await })
    }

    /// Streams what is committed of one table, as [`table_rows`](crate::table_rows) does. Wants to
    /// be called within tokio's runtime, which reads ahead.
    ///
    /// Errors: `NoTable`, `NoColumn`; in the stream `Read`.
    pub fn table_rows(&self, table: &str, columns: Option<&[String]>) -> Result<TableRows, Error> {
        self.inner.readable().rows(table, columns)
    }

    /// The commits of a table that were not seen before.
    #[doc(hidden)]
    pub fn committed<'a>(
        &'a self,
        table: &'a str,
        seen: &'a mut audit::Seen,
    ) -> BoxFuture<'a, Result<Vec<audit::Committed>, Error>> {
        audit::committed(&self.inner, table, seen)
    }

    /// Where a session stands, in the vendor's words; none if it is not known, or never was.
    #[doc(hidden)]
    pub fn session_status(&self, id: &str) -> Option<&'static str> {
        if self.inner.log.catalog().is_committed(id) {
            return Some(Status::Committed.word());
        }
        let session = self.inner.sessions().get(id).cloned();
        session.map(|session| session.status(self.inner.now()).word())
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

impl Inner {
    /// The route's answer, or what a fault makes of it.
    async fn respond(&self, request: http::Request<Bytes>, met: Option<Met>) -> Response<Body> {
        let id = self.request_id();
        let Some(met) = met else { return self.carry_out(request, id).await };
        let asked = Asked { plane: fault_plane(&request), id: id.clone() };
        if let Some(answer) = met.before(self, &asked).await {
            self.counters.count_request();
            return answer.map(Body::Whole);
        }
        // A rule acts on an answer as a whole.
        let answer = self.gathered(self.carry_out(request, id).await).await;
        met.after(self, &asked, answer).await.map(Body::Whole)
    }

    async fn gathered(&self, answer: Response<Body>) -> Response<Bytes> {
        let (head, body) = answer.into_parts();
        match body.gather().await {
            Ok(body) => Response::from_parts(head, body),
            Err(error) => {
                let id = self.request_id();
                let (head, _) = rendered(Err(error.into()), Plane::Tunnel, &id).into_parts();
                Response::from_parts(head, Bytes::new())
            }
        }
    }

    async fn carry_out(&self, request: http::Request<Bytes>, id: String) -> Response<Body> {
        let admitted = self.settings.auth.admit(&request, self.now());
        let request = match Request::new(request) {
            Ok(request) => request,
            Err(refusal) => {
                self.counters.count_request();
                return rendered(Err(refusal), Plane::Odps, &id);
            }
        };
        if let Err(refusal) = admitted {
            return self.refuse_unknown(refusal, request.plane(), &id);
        }
        let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
        if path == ["stats"] && request.method == Method::GET {
            return rendered(Ok(self.stats_answer()), Plane::Tunnel, &id);
        }
        if let [fault::ROUTE, rest @ ..] = &path[..] {
            let answer = route::fault::respond(&self.faults, &request, rest);
            return rendered(answer, Plane::Tunnel, &id);
        }
        self.counters.count_request();
        let answer = self.route(&request, &path).await;
        if let Err(refusal) = &answer {
            self.counters.count_refusal();
            let (code, message) = (refusal.code, refusal.message.as_str());
            tracing::debug!(request_id = %id, code, message, "refused");
        }
        rendered(answer, request.plane(), &id)
    }

    /// Answers who may not ask, with the time that he should have signed for.
    fn refuse_unknown(&self, refusal: Refusal, plane: Plane, id: &str) -> Response<Body> {
        self.counters.count_request();
        self.counters.count_refusal();
        tracing::info!(request_id = id, message = refusal.message, "not let in");
        let mut response = rendered(Err(refusal), plane, id);
        let now = std::time::UNIX_EPOCH + std::time::Duration::from_millis(self.now().0);
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
            response.headers_mut().insert(http::header::DATE, date);
        }
        response
    }

    async fn route(&self, request: &Request, path: &[&str]) -> Result<Answer, Refusal> {
        if request.body.len() > self.settings.body_bytes_max {
            return Err(self.too_large());
        }
        match (&request.method, path) {
            (&Method::GET, ["healthz" | "readyz"]) => Ok(Answer::text("ok")),
            (&Method::GET, ["capabilities"]) => Ok(route::capabilities::describe(&self.settings)),
            (&Method::GET, ["tenants"]) => Ok(route::side::tenant(self)),
            (&Method::GET, ["logview" | "webconsole", "host"]) => {
                Ok(route::side::web_host(self, request))
            }
            (&Method::GET, ["projects"]) => Ok(route::project::list(self)),
            (_, ["projects", project, rest @ ..]) => {
                self.check_project(project)?;
                if let Some(schema) = request.parameter("curr_schema") {
                    self.check_schema(schema)?;
                }
                self.project_route(request, rest).await
            }
            (_, path) => Err(unknown(request, path)),
        }
    }

    async fn project_route(&self, request: &Request, path: &[&str]) -> Result<Answer, Refusal> {
        match (&request.method, path) {
            (&Method::GET, []) => Ok(route::project::describe(self)),
            (&Method::GET, ["tunnel"]) => Ok(route::project::tunnel(self, request)),
            (&Method::POST, ["authorization"]) => route::side::authorize(request),
            (&Method::PUT, ["logs"]) => Ok(Answer::text("")),
            (&Method::POST, ["instances"]) => route::instance::create(self, request).await,
            (&Method::GET, ["instances"]) => Ok(route::instance::list(self)),
            (_, ["instances", id]) if request.is_download() => {
                route::download::of_instance(self, request, id).await
            }
            (&Method::GET, ["instances", id]) => route::instance::show(self, request, id).await,
            (&Method::PUT, ["instances", id]) => route::instance::stop(self, request, id),
            (_, ["schemas", schema, rest @ ..]) => {
                self.check_schema(schema)?;
                self.table_route(request, rest).await
            }
            (_, rest) => self.table_route(request, rest).await,
        }
    }

    async fn table_route(&self, request: &Request, path: &[&str]) -> Result<Answer, Refusal> {
        match (&request.method, path) {
            (&Method::GET, ["tables"]) => route::table::list(self, request),
            (_, ["tables", table]) if request.is_download() => {
                route::download::of_table(self, request, table).await
            }
            (&Method::GET, ["tables", table]) => route::table::show(self, request, table),
            (_, ["tables", table, "upserts"]) => route::upsert::respond(self, request, table).await,
            (_, path) => Err(unknown(request, path)),
        }
    }

    /// What a query reads that begins now.
    pub(crate) fn readable(&self) -> Readable {
        Readable {
            project: self.settings.project.clone(),
            tables: self.log.catalog().tables.clone(),
            objects: self.directory.objects(),
        }
    }

    fn too_large(&self) -> Refusal {
        let max = self.settings.body_bytes_max;
        Refusal::too_large(format!("a body may have {max} bytes; send less at once"))
    }

    fn check_project(&self, project: &str) -> Result<(), Refusal> {
        if project.eq_ignore_ascii_case(&self.settings.project) {
            return Ok(());
        }
        let message = format!(
            "there is no project {project}; the project of this server is {}",
            self.settings.project
        );
        Err(Refusal::no_such("NoSuchProject", message))
    }

    /// Only the schema that every project has, which some clients call by the project's name.
    pub(crate) fn check_schema(&self, schema: &str) -> Result<(), Refusal> {
        let names = ["default", &self.settings.project];
        if names.iter().any(|name| schema.eq_ignore_ascii_case(name)) {
            return Ok(());
        }
        let message =
            format!("there is no schema {schema}; this server has only the schema default");
        Err(Refusal::no_such("NoSuchSchema", message))
    }

    fn stats_answer(&self) -> Answer {
        let now = self.now();
        let open = |s: &&Arc<Session>| matches!(s.status(now), Status::Normal | Status::Committing);
        let open = self.sessions().values().filter(open).count() as u64;
        let stats = self.counters.stats(open, self.log.catalog().version);
        Answer::json(serde_json::to_string(&stats).expect("numbers are always JSON"))
    }

    pub(crate) fn now(&self) -> Millis {
        self.components.clock.now()
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.sessions.lock().expect("no holder panics")
    }

    pub(crate) fn downloads(&self) -> MutexGuard<'_, Downloads> {
        self.downloads.lock().expect("no holder panics")
    }

    /// An id that nobody guesses by accident.
    pub(crate) fn new_id(&self) -> String {
        format!("{:013}{:016x}", self.now().0, self.components.entropy.draw())
    }

    fn request_id(&self) -> String {
        format!("{:012X}{:016X}", self.now().0, self.components.entropy.draw())
    }
}

/// The plane that a request would be answered on.
fn fault_plane(request: &http::Request<Bytes>) -> Plane {
    let is_of_tunnel = request.uri().path().trim_end_matches('/').ends_with("/upserts");
    if is_of_tunnel { Plane::Tunnel } else { Plane::Odps }
}

fn unknown(request: &Request, path: &[&str]) -> Refusal {
    let message = format!(
        "{} /{} is not supported by this server; /capabilities says what is",
        request.method,
        path.join("/")
    );
    Refusal::no_such("NoSuchResource", message)
}

fn rendered(answer: Result<Answer, Refusal>, plane: Plane, id: &str) -> Response<Body> {
    let answer = answer.unwrap_or_else(|refusal| {
        let (body, content_type) = refusal.render(plane, id);
        Answer::of(content_type, body).with_status(refusal.status)
    });
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in answer.headers.iter().chain(&[("x-odps-request-id", id.to_owned())]) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    response
}

/// Finds the open and the aborted sessions again.
async fn recover(
    directory: &Arc<dyn Directory>,
    log: &Log,
    settings: &ServerSettings,
    now: Millis,
) -> Result<(Spool, BTreeMap<String, Arc<Session>>), Error> {
    let catalog = log.catalog().clone();
    let is_over =
        |facts: &SessionFacts| catalog.is_committed(&facts.id) || facts.ends_ms() <= now.0;
    let mut recovered = spool::recover(&**directory, &is_over).await?;
    let mut sessions = BTreeMap::new();
    for (id, session) in std::mem::take(&mut recovered.sessions) {
        // A table that was dropped took its sessions with it.
        let aborted = session.aborted || catalog.table_by_id(&session.facts.table_id).is_none();
        let status = if aborted { Status::Aborted } else { Status::Normal };
        sessions.insert(id, Session::new(session.facts, status, session.packs));
    }
    let spool = recovered.into_spool(Arc::clone(directory), settings.segment_bytes).await?;
    spool.retire(&[], now).await?;
    Ok((spool, sessions))
}

/// Deletes the files of commits that never reached the log, whole or not, and of dropped tables.
async fn delete_orphans(directory: &Arc<dyn Directory>, log: &Log) -> Result<(), Error> {
    let discarded = directory.discard_unfinished(DATA).await;
    discarded.map_err(|error| Error::disk(DATA, error))?;
    let known: std::collections::HashSet<String> = {
        let catalog = log.catalog();
        let files = catalog.tables.values().flat_map(|table| table.partitions.values());
        files.flatten().map(|file| file.path.clone()).collect()
    };
    let objects = directory.objects();
    let listed = objects.list(Some(&ObjectPath::from(DATA))).try_collect::<Vec<_>>().await;
    for meta in listed.map_err(|error| Error::disk(DATA, error))? {
        if !known.contains(meta.location.as_ref()) {
            let deleted = objects.delete(&meta.location).await;
            deleted.map_err(|error| Error::disk(meta.location.as_ref(), error))?;
        }
    }
    Ok(())
}
