//! The jobs of a server: scripts that change tables or read them, and merges of their files.
//!
//! Between `route/instance/mod.rs`, which receives a task, and [`Tables`] with [`Sessions`].
//! Invariant: statements that change the catalog are durable, or have failed, before
//! [`Jobs::begin`] returns; a query or a compaction may run on, and few run at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;
use tokio::sync::Semaphore;

use crate::background::Background;
use crate::compactions::{CompactionEnd, Compactions};
use crate::components::{Clock, ServerComponents, Workers};
use crate::error::Refusal;
use crate::ids::Ids;
use crate::result::kept::{KeptRows, ResultNumber, Results};
use crate::sessions::Sessions;
use crate::sql::ddl::CompactedTable;
use crate::sql::failure::SqlFailure;
use crate::sql::job::{JobOutcome, PostedTask, QueryNeeds, SqlJob, TaskKind};
use crate::sql::remembered::RememberedJobs;
use crate::sql::script::Script;
use crate::sql::{change, script};
use crate::tables::Tables;

/// The jobs of this start, and the rows of their queries.
pub(crate) struct Jobs {
    tables: Arc<Tables>,
    sessions: Arc<Sessions>,
    results: Arc<Results>,
    clock: Arc<dyn Clock>,
    workers: Arc<dyn Workers>,
    ids: Ids,
    remembered: RememberedJobs,
    compactions: Arc<Compactions>,
    background: Arc<Background>,
    /// One for each query that runs.
    turns: Arc<Semaphore>,
}

impl Jobs {
    pub(crate) fn new(
        components: &ServerComponents,
        tables: &Arc<Tables>,
        sessions: &Arc<Sessions>,
        results: &Arc<Results>,
        (compactions, background): (Compactions, &Arc<Background>),
    ) -> Self {
        Self {
            tables: Arc::clone(tables),
            sessions: Arc::clone(sessions),
            results: Arc::clone(results),
            clock: Arc::clone(&components.clock),
            workers: Arc::clone(&components.workers),
            ids: Ids::new(components),
            remembered: RememberedJobs::default(),
            compactions: Arc::new(compactions),
            background: Arc::clone(background),
            turns: Arc::new(Semaphore::new(QUERIES_MAX)),
        }
    }

    /// Begins a job. Waits for its statements, and a moment for the end of its query.
    ///
    /// Errors: `QPSExceeded` if too many run.
    pub(crate) async fn begin(&self, task: PostedTask) -> Result<Arc<SqlJob>, Refusal> {
        let job = self.remember(task)?;
        match job.task.kind {
            TaskKind::Sql => self.begin_script(&job).await,
            TaskKind::Merge => match script::parse_merged_table(&job.task.text) {
                Ok(table) => self.begin_compaction(&job, table),
                Err(failure) => self.fail(&job, &failure),
            },
            // Its client goes on with a plain job.
            TaskKind::Session => self.finish(&job, JobOutcome::Failed(NO_SESSIONS.to_owned())),
        }
        Ok(job)
    }

    async fn begin_script(&self, job: &Arc<SqlJob>) {
        match script::parse(&job.task.text) {
            Ok(Script::Changes(statements)) => {
                match change::run(&self.tables, &self.sessions, statements).await {
                    Ok(()) => self.finish(job, JobOutcome::Done),
                    Err(failure) => self.fail(job, &failure),
                }
                return;
            }
            Ok(Script::Query(query)) => job.start_query(query, self.query_needs()),
            Ok(Script::Compact(table)) => self.begin_compaction(job, table),
            Err(failure) => return self.fail(job, &failure),
        }
        // Most finish at once: their clients need not ask twice.
        let finished = std::pin::pin!(job.wait());
        select(finished, self.clock.sleep(PATIENCE)).await;
    }

    fn begin_compaction(&self, job: &Arc<SqlJob>, table: CompactedTable) {
        let (compactions, job) = (Arc::clone(&self.compactions), Arc::clone(job));
        let (clock, mut stop) = (Arc::clone(&self.clock), self.background.stop_sign());
        self.background.begin(async move {
            let outcome = match compactions.run(&table, &job, &mut stop).await {
                Ok(CompactionEnd::Whole) => JobOutcome::Done,
                // It has an end already, or nobody will ask for it.
                Ok(CompactionEnd::Halted) => return,
                Err(failure) => JobOutcome::Failed(failure.to_string()),
            };
            job.finish(outcome, clock.now().0);
        });
    }

    /// A job by its id.
    ///
    /// Errors: `NoSuchObject` if it is not remembered.
    pub(crate) fn find(&self, id: &str) -> Result<Arc<SqlJob>, Refusal> {
        self.remembered.get(id)
    }

    /// All jobs that are remembered, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<SqlJob>> {
        self.remembered.all()
    }

    /// Stops a job.
    ///
    /// Errors: `InvalidStateSetting` if it has finished.
    pub(crate) fn stop(&self, job: &SqlJob) -> Result<(), Refusal> {
        job.cancel(self.clock.now().0)
    }

    /// The rows of a query, if they are still kept.
    pub(crate) fn rows(&self, number: ResultNumber) -> Option<Arc<KeptRows>> {
        self.results.get(number)
    }

    fn remember(&self, task: PostedTask) -> Result<Arc<SqlJob>, Refusal> {
        let job = SqlJob::new(self.ids.resource(), task, self.clock.now().0);
        self.remembered.remember(&job)?;
        Ok(job)
    }

    fn finish(&self, job: &SqlJob, outcome: JobOutcome) {
        job.finish(outcome, self.clock.now().0);
    }

    fn fail(&self, job: &SqlJob, failure: &SqlFailure) {
        self.finish(job, JobOutcome::Failed(failure.to_string()));
    }

    fn query_needs(&self) -> QueryNeeds {
        QueryNeeds {
            clock: Arc::clone(&self.clock),
            workers: Arc::clone(&self.workers),
            readable: self.tables.readable(),
            results: Arc::clone(&self.results),
            turns: Arc::clone(&self.turns),
        }
    }
}

const NO_SESSIONS: &str = "ODPS-1850001: interactive sessions (MCQA) are not supported by this \
     server; run the query as a plain instance";
/// Queries that run at the same time, each in its own bounded memory; others wait.
const QUERIES_MAX: usize = 2;
/// How long a query or a compaction may run before its client has to ask for its outcome.
const PATIENCE: Duration = Duration::from_secs(2);
