//! The jobs of a server: scripts that change tables or read them.
//!
//! Between `route/instance/mod.rs`, which receives a task, and [`Tables`] with [`Sessions`].
//! Invariant: statements that change the catalog are durable, or have failed, before
//! [`Jobs::begin`] returns; a query may run on, and few run at a time.

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;
use tokio::sync::Semaphore;

use crate::components::{Clock, ServerComponents, Workers};
use crate::error::Refusal;
use crate::ids::Ids;
use crate::result::kept::{KeptRows, ResultNumber, Results};
use crate::sessions::Sessions;
use crate::sql::failure::SqlFailure;
use crate::sql::job::{JobOutcome, PostedTask, QueryNeeds, SqlJob};
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
    /// One for each query that runs.
    turns: Arc<Semaphore>,
}

impl Jobs {
    pub(crate) fn new(
        components: &ServerComponents,
        tables: &Arc<Tables>,
        sessions: &Arc<Sessions>,
        results: &Arc<Results>,
    ) -> Self {
        Self {
            tables: Arc::clone(tables),
            sessions: Arc::clone(sessions),
            results: Arc::clone(results),
            clock: Arc::clone(&components.clock),
            workers: Arc::clone(&components.workers),
            ids: Ids::new(components),
            remembered: RememberedJobs::default(),
            turns: Arc::new(Semaphore::new(QUERIES_MAX)),
        }
    }

    /// Begins a job, and waits a moment for the end of its query.
    ///
    /// Errors: `QPSExceeded` if too many run.
    pub(crate) async fn begin(&self, task: PostedTask) -> Result<Arc<SqlJob>, Refusal> {
        let job = self.remember(task)?;
        match script::parse(&job.task.query) {
            Ok(Script::Changes(statements)) => {
                match change::run(&self.tables, &self.sessions, statements).await {
                    Ok(()) => self.finish(&job, JobOutcome::Done),
                    Err(failure) => self.fail(&job, &failure),
                }
            }
            Ok(Script::Query(query)) => {
                job.start_query(query, self.query_needs());
                // Most queries finish at once: their clients need not ask twice.
                let finished = std::pin::pin!(job.wait());
                select(finished, self.clock.sleep(PATIENCE)).await;
            }
            Err(failure) => self.fail(&job, &failure),
        }
        Ok(job)
    }

    /// Remembers a job that failed at once, in these words.
    ///
    /// Errors: `QPSExceeded` if too many run.
    pub(crate) fn refuse(&self, task: PostedTask, message: &str) -> Result<Arc<SqlJob>, Refusal> {
        let job = self.remember(task)?;
        self.finish(&job, JobOutcome::Failed(message.to_owned()));
        Ok(job)
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

/// Queries that run at the same time, each in its own bounded memory; others wait.
const QUERIES_MAX: usize = 2;
/// How long a query may run before its client has to ask for its outcome.
const PATIENCE: Duration = Duration::from_secs(2);
