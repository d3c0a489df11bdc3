//! A server without its listener: put together, opened, asked, and let run down.
//!
//! `http/mod.rs` sends it requests over TCP, a simulation calls `respond` itself. A request passes
//! `fault/layer.rs`, `admission.rs` and `route/mod.rs`, which call [`Tables`], [`Sessions`] and
//! [`Jobs`]: each of the three knows only those before it. Invariant: a request that was begun is
//! carried to its end even if nobody waits for the answer.

use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Response, Uri};
use tokio::sync::RwLock;

use crate::admission::Admission;
use crate::answer::{gathered, rendered};
use crate::background::Background;
use crate::body::Body;
use crate::compactions::Compactions;
use crate::components::{Access, ServerComponents};
use crate::download::DownloadSessions;
use crate::error::{Error, Plane, Refusal};
use crate::fault::crash::Crash;
use crate::fault::layer::FaultLayer;
use crate::fault::{ChosenFault, Faults};
use crate::ids::Ids;
use crate::jobs::Jobs;
use crate::project::Project;
use crate::result::kept::Results;
use crate::route::Resources;
use crate::route::download::Downloads;
use crate::route::instance::Instances;
use crate::route::upsert::Upserts;
use crate::route::upsert::encoding::DecodedBytes;
use crate::session::Status;
use crate::sessions::Sessions;
use crate::settings::ServerSettings;
use crate::slow_commits::SlowCommits;
use crate::stats::{Counters, OpenSessionStats, Stats};
use crate::table::commit::CommitHook;
use crate::table::readable::TableRows;
use crate::tables::Tables;
use crate::{audit, query};

/// A server without its listener. One per directory.
pub struct Service {
    layers: Arc<Layers>,
    ids: Ids,
    /// Held by every request that was begun.
    busy: Arc<RwLock<()>>,
    background: Arc<Background>,
}

/// The way of a request, from the outside in.
struct Layers {
    faults: FaultLayer,
    admission: Admission,
}

impl Service {
    /// Takes the directory, and recovers what was acknowledged.
    ///
    /// Errors: as of [`Server::start`](crate::Server::start), without those of the address.
    pub fn open<'a>(
        settings: &'a ServerSettings,
        components: &'a ServerComponents,
    ) -> BoxFuture<'a, Result<Arc<Self>, Error>> {
        Box::pin(async move {
            let directory = components
                .disk
                .open(&settings.dir, Access::Serve)
                .map_err(|error| Error::opening(&settings.dir, error))?;
            let crash = Arc::new(Crash::new());
            let hook = Arc::clone(&crash) as Arc<dyn CommitHook>;
            let project = Project::new(&settings.project);
            let tables = Arc::new(Tables::open(&directory, components, project, hook).await?);
            let counters = Arc::new(Counters::default());
            let sessions =
                Sessions::open(&directory, components, settings, &tables, &counters).await?;
            let sessions = Arc::new(sessions);
            tables.delete_orphans().await?;
            let results = Arc::new(Results::open(directory).await?);
            let background = Background::new();
            let compactions = Compactions::new(components, &tables, &counters);
            let merging = (compactions, &background);
            let jobs = Arc::new(Jobs::new(components, &tables, &sessions, &results, merging));
            let faults = Arc::new(Faults::new(settings.faults.clone(), components));
            let ids = Ids::new(components);
            let (clock, latency) = (&components.clock, settings.commit_latency);
            let commits = SlowCommits::new(latency, &sessions, clock, &background);
            let admission = Admission {
                auth: settings.auth.clone(),
                clock: Arc::clone(&components.clock),
                counters: Arc::clone(&counters),
                resources: Resources {
                    settings: settings.clone(),
                    clock: Arc::clone(&components.clock),
                    counters: Arc::clone(&counters),
                    upserts: Upserts {
                        tables: Arc::clone(&tables),
                        sessions: Arc::clone(&sessions),
                        commits,
                        decoded_bytes: DecodedBytes::new(settings.body_bytes_max),
                        listen: settings.listen,
                    },
                    instances: Instances {
                        jobs: Arc::clone(&jobs),
                        project: settings.project.clone(),
                        listen: settings.listen,
                    },
                    downloads: Downloads {
                        tables: Arc::clone(&tables),
                        jobs,
                        results,
                        sessions: DownloadSessions::default(),
                        ids: ids.clone(),
                    },
                    tables,
                    sessions: Arc::clone(&sessions),
                    faults: Arc::clone(&faults),
                },
            };
            let faults = FaultLayer { faults, crash, sessions, counters, ids: ids.clone() };
            let layers = Arc::new(Layers { faults, admission });
            Ok(Arc::new(Self { layers, ids, busy: Arc::default(), background }))
        })
    }

    /// Answers a request, with all of the answer in memory. Never fails: an error is an answer too,
    /// and an answer that a rule of faults withholds has [`Severed`](crate::Severed) among its
    /// extensions.
    pub fn respond<'a>(&'a self, request: http::Request<Bytes>) -> BoxFuture<'a, Response<Bytes>> {
        Box::pin(async move {
            let fault = self.choose_fault(request.method(), request.uri());
            gathered(self.answer(request, fault).await, &self.ids).await
        })
    }

    /// As `respond`, but rows are read while the answer is sent.
    pub(crate) fn answer<'a>(
        &'a self,
        request: http::Request<Bytes>,
        fault: Option<ChosenFault>,
    ) -> BoxFuture<'a, Response<Body>> {
        Box::pin(async move {
            let layers = Arc::clone(&self.layers);
            let busy = Arc::clone(&self.busy).read_owned().await;
            // A task of its own: a caller that goes away must not leave half a commit behind.
            let answer = tokio::spawn(async move {
                let _busy = busy;
                // Dropped before the lock is: whoever waits for it may open the directory again.
                let layers = layers;
                let Layers { faults, admission } = &*layers;
                let next = async |request, id: String| admission.answer(request, &id).await;
                faults.answer(request, fault, next).await
            });
            answer.await.unwrap_or_else(|_| {
                let refusal = Refusal::internal("the server failed; see its log");
                rendered(Err(refusal), Plane::Tunnel, &self.ids.request())
            })
        })
    }

    /// The fault of a request, by the rules. To be called once for each request.
    pub(crate) fn choose_fault(&self, method: &Method, uri: &Uri) -> Option<ChosenFault> {
        self.faults().choose(method, uri)
    }

    /// Answers a request whose body is larger than is allowed, and was not read.
    pub(crate) fn refuse_large_body(&self) -> Response<Body> {
        self.refuse(Refusal::body_too_large(self.resources().settings.body_bytes_max))
    }

    /// Answers a request whose body was not received.
    pub(crate) fn refuse_slow_body(&self) -> Response<Body> {
        let message = "the body of the request did not come in time, or not whole; send it again";
        self.refuse(Refusal::too_slow(message))
    }

    fn refuse(&self, refusal: Refusal) -> Response<Body> {
        self.layers.admission.refuse(refusal, &self.ids.request())
    }

    /// Counts a request that a rule cut off.
    pub(crate) fn count_cut_request(&self) {
        self.resources().counters.count_request();
    }

    /// The rules of faults.
    pub fn faults(&self) -> &Faults {
        &self.layers.faults.faults
    }

    /// Ends when a rule has crashed this server: nothing is answered any more.
    pub fn crashed(&self) -> BoxFuture<'static, ()> {
        Box::pin(self.layers.faults.crash.wait())
    }

    /// Ends when no request is being carried out, and nothing in the background. Requests that a
    /// rule delays go on at once; a commit that has not taken its time leaves its session open.
    pub(crate) async fn quiet(&self) {
        self.faults().clear();
        drop(self.busy.write().await);
        self.background.end().await;
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        self.resources().stats()
    }

    /// The sessions that are neither committed nor aborted nor expired, oldest first.
    pub fn open_sessions(&self) -> Vec<OpenSessionStats> {
        self.resources().sessions.list_open()
    }

    /// Runs one SELECT over what is committed.
    ///
    /// Errors: `Query` for SQL that is wrong or no SELECT, `NoSelect` without the feature `query`.
    pub fn query<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Vec<RecordBatch>, Error>> {
        Box::pin(async move { query::run(&self.resources().tables.readable(), sql).await })
    }

    /// Streams what is committed of one table, as [`table_rows`](crate::table_rows) does. Wants to
    /// be called within tokio's runtime, which reads ahead.
    ///
    /// Errors: `NoTable`, `NoColumn`; in the stream `Read`.
    pub fn table_rows(&self, table: &str, columns: Option<&[String]>) -> Result<TableRows, Error> {
        self.resources().tables.readable().rows(table, columns)
    }

    /// The commits of a table that were not seen before.
    #[doc(hidden)]
    pub fn committed<'a>(
        &'a self,
        table: &'a str,
        seen: &'a mut audit::Seen,
    ) -> BoxFuture<'a, Result<Vec<audit::Committed>, Error>> {
        audit::committed(&self.resources().tables, table, seen)
    }

    /// The state of a session, in the vendor's words; none if it is not known, or never was.
    #[doc(hidden)]
    pub fn session_status(&self, id: &str) -> Option<&'static str> {
        self.resources().sessions.known_status(id).map(Status::word)
    }

    fn resources(&self) -> &Resources {
        &self.layers.admission.resources
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.resources().settings;
        f.debug_struct("Service").field("settings", settings).finish_non_exhaustive()
    }
}
