//! One job, which the vendor calls an instance: a task that runs, and its outcome.
//!
//! `jobs.rs` begins it, `route/instance/mod.rs` shows it. Invariant: a job finishes once.

use std::sync::{Arc, OnceLock};

use sqlparser::ast;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::AbortHandle;

use super::failure::SqlFailure;
use crate::components::{Clock, Workers};
use crate::error::Refusal;
use crate::query;
use crate::result::kept::{ResultNumber, Results};
use crate::result::shape::Shape;
use crate::table::readable::Readable;

/// The task of a job, as its client posted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PostedTask {
    pub(crate) kind: TaskKind,
    /// The name that the client gave to it.
    pub(crate) name: String,
    /// A script; of a merge the table, and perhaps the partition.
    pub(crate) text: String,
}

/// The kinds of tasks that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Carries out a script.
    Sql,
    /// Opens an interactive session.
    Session,
    /// Compacts a table.
    Merge,
}

impl TaskKind {
    /// Its element in XML.
    pub(crate) fn element(self) -> &'static str {
        match self {
            Self::Sql => "SQL",
            Self::Session => "SQLRT",
            Self::Merge => "Merge",
        }
    }

    /// The element in it that has the task's text.
    pub(crate) fn text_element(self) -> &'static str {
        match self {
            Self::Sql | Self::Session => "Query",
            Self::Merge => "TableName",
        }
    }
}

/// One job.
#[derive(Debug)]
pub(crate) struct SqlJob {
    pub(crate) id: String,
    pub(crate) task: PostedTask,
    pub(crate) begun_ms: u64,
    finished: watch::Sender<Option<Finished>>,
    running: OnceLock<AbortHandle>,
}

/// The end of a job.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) outcome: JobOutcome,
    pub(crate) at_ms: u64,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JobOutcome {
    /// Its statements were carried out.
    Done,
    /// It has rows.
    Rows(ResultNumber),
    /// In words.
    Failed(String),
    /// A client stopped it.
    Cancelled,
}

impl SqlJob {
    /// A job that has begun.
    pub(crate) fn new(id: String, task: PostedTask, begun_ms: u64) -> Arc<Self> {
        let finished = watch::Sender::new(None);
        Arc::new(Self { id, task, begun_ms, finished, running: OnceLock::new() })
    }

    /// Its end, if it has finished.
    pub(crate) fn finished(&self) -> Option<Finished> {
        self.finished.borrow().clone()
    }

    /// Waits until it has finished.
    pub(crate) async fn wait(&self) {
        let mut finished = self.finished.subscribe();
        // The sender is the job itself, so there is always one.
        let _ = finished.wait_for(Option::is_some).await;
    }

    /// Finishes it, unless it has finished.
    pub(crate) fn finish(&self, outcome: JobOutcome, at_ms: u64) {
        self.finished.send_if_modified(|finished| {
            let is_first = finished.is_none();
            if is_first {
                *finished = Some(Finished { outcome, at_ms });
            }
            is_first
        });
    }

    /// Stops it. The changes that it has made stay.
    ///
    /// Errors: `InvalidStateSetting` if it has finished.
    pub(crate) fn cancel(&self, at_ms: u64) -> Result<(), Refusal> {
        if self.finished().is_some() {
            let id = &self.id;
            return Err(Refusal::state(format!("instance {id} has ended: it cannot be stopped")));
        }
        self.finish(JobOutcome::Cancelled, at_ms);
        if let Some(running) = self.running.get() {
            running.abort();
        }
        Ok(())
    }

    /// Runs a query for this job, apart from whoever asked for it.
    pub(crate) fn start_query(self: &Arc<Self>, query: Box<ast::Query>, needs: QueryNeeds) {
        let clock = Arc::clone(&needs.clock);
        let workers = Arc::clone(&needs.workers);
        let (sender, outcome) = oneshot::channel();
        let running = workers.begin(Box::pin(async move {
            let outcome = run_query(query, needs).await;
            // Nobody listens once the server stops.
            let _ = sender.send(outcome);
        }));
        self.running.set(running).expect("a job is started once");
        let job = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = match outcome.await {
                Ok(Ok(number)) => JobOutcome::Rows(number),
                Ok(Err(failure)) => JobOutcome::Failed(failure.to_string()),
                // A cancelled job has finished already.
                Err(_) => JobOutcome::Failed(
                    SqlFailure::Internal("the server failed; see its log".to_owned()).to_string(),
                ),
            };
            job.finish(outcome, clock.now().0);
        });
    }
}

/// The things that a query needs to run.
pub(crate) struct QueryNeeds {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) workers: Arc<dyn Workers>,
    pub(crate) readable: Readable,
    pub(crate) results: Arc<Results>,
    pub(crate) turns: Arc<Semaphore>,
}

async fn run_query(query: Box<ast::Query>, needs: QueryNeeds) -> Result<ResultNumber, SqlFailure> {
    let _turn = needs.turns.acquire().await.expect("the semaphore is never closed");
    let rows = query::stream(query, &needs.readable).await?;
    let shape = Shape::of_query(&rows.schema).map_err(SqlFailure::Semantic)?;
    Ok(needs.results.keep(shape, rows.batches).await?)
}
