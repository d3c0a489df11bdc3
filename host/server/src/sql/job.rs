//! Jobs, which the vendor calls instances: a script that is being carried out, and what became of
//! it.
//!
//! `route/instance.rs` begins them and tells of them. Invariant: a job ends once; it is remembered
//! until newer ones push it out, and as long as it runs; texts and numbers of jobs are bounded.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;

use sqlparser::ast;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::failure::SqlFailure;
use crate::components::Clock;
use crate::components::Workers;
use crate::error::Refusal;
use crate::query;
use crate::result::kept::ResultNumber;
use crate::result::kept::Results;
use crate::result::shape::Shape;
use crate::table::readable::Readable;

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: String,
    /// The name that the client gave to the task.
    pub(crate) task: String,
    /// The kind of task, such as `SQL`.
    pub(crate) kind: &'static str,
    pub(crate) query: String,
    pub(crate) at_ms: u64,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) asked: Asked,
    ending: watch::Sender<Option<Ending>>,
    running: OnceLock<AbortHandle>,
}

/// How a job ended, and when.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) how: How,
    pub(crate) at_ms: u64,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Its statements were carried out.
    Done,
    /// It has rows.
    Rows(ResultNumber),
    /// In words.
    Failed(String),
    /// A client asked for its end.
    Cancelled,
}

impl Job {
    /// A job that has begun.
    pub(crate) fn new(asked: Asked) -> Arc<Self> {
        Arc::new(Self { asked, ending: watch::Sender::new(None), running: OnceLock::new() })
    }

    /// How it ended, if it has.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.borrow().clone()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) {
        let mut ending = self.ending.subscribe();
        // The sender is the job itself, so there is always one.
        let _ = ending.wait_for(Option::is_some).await;
    }

    /// Ends it, unless it has ended.
    pub(crate) fn end(&self, how: How, at_ms: u64) {
        self.ending.send_if_modified(|ending| {
            let ends = ending.is_none();
            if ends {
                *ending = Some(Ending { how, at_ms });
            }
            ends
        });
    }

    /// Ends it now. What it has changed stays changed.
    ///
    /// Errors: `InvalidStateSetting` if it has ended.
    pub(crate) fn cancel(&self, at_ms: u64) -> Result<(), Refusal> {
        if self.ending().is_some() {
            let id = &self.asked.id;
            return Err(Refusal::state(format!("instance {id} has ended: it cannot be stopped")));
        }
        self.end(How::Cancelled, at_ms);
        if let Some(running) = self.running.get() {
            running.abort();
        }
        Ok(())
    }

    /// Runs a query for this job, apart from whoever asked for it.
    pub(crate) fn start_query(self: &Arc<Self>, query: Box<ast::Query>, needs: QueryNeeds) {
        let clock = Arc::clone(&needs.clock);
        let workers = Arc::clone(&needs.workers);
        let (tell, outcome) = oneshot::channel();
        let running = workers.begin(Box::pin(async move {
            let outcome = run_query(query, needs).await;
            // Nobody listens once the server stops.
            let _ = tell.send(outcome);
        }));
        self.running.set(running).expect("a job is started once");
        let job = Arc::clone(self);
        tokio::spawn(async move {
            let how = match outcome.await {
                Ok(Ok(number)) => How::Rows(number),
                Ok(Err(failure)) => How::Failed(failure.to_string()),
                // Of a cancelled one the end is known already.
                Err(_) => How::Failed(
                    SqlFailure::Internal("the server failed; see its log".to_owned()).to_string(),
                ),
            };
            job.end(how, clock.now().0);
        });
    }
}

/// What a query needs to run.
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

/// The jobs of this start.
pub(crate) struct Jobs {
    remembered: Mutex<Remembered>,
    /// One for each query that runs.
    pub(crate) turns: Arc<Semaphore>,
}

#[derive(Default)]
struct Remembered {
    by_id: BTreeMap<String, Arc<Job>>,
    oldest_first: VecDeque<String>,
    bytes: usize,
}

impl Jobs {
    pub(crate) fn new() -> Self {
        Self { remembered: Mutex::default(), turns: Arc::new(Semaphore::new(QUERIES_MAX)) }
    }

    /// Remembers a job, and forgets the oldest that have ended.
    ///
    /// Errors: `QPSExceeded` if too many have not ended.
    pub(crate) fn remember(&self, job: &Arc<Job>) -> Result<(), Refusal> {
        let mut remembered = self.remembered();
        let running = remembered.by_id.values().filter(|job| job.ending().is_none()).count();
        if running >= RUNNING_MAX {
            return Err(Refusal::too_many(format!(
                "{running} instances are running, as many as this server takes; wait for one, or \
                 stop it"
            )));
        }
        remembered.bytes += bytes(job);
        remembered.oldest_first.push_back(job.asked.id.clone());
        remembered.by_id.insert(job.asked.id.clone(), Arc::clone(job));
        remembered.forget();
        Ok(())
    }

    /// A job by its id.
    ///
    /// Errors: `NoSuchObject` if it is not remembered.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Job>, Refusal> {
        self.remembered().by_id.get(id).cloned().ok_or_else(|| {
            let message = format!(
                "there is no instance {id}; this server forgets them at a restart, and the oldest \
                 of more than {REMEMBERED_MAX}"
            );
            Refusal::no_such("NoSuchObject", message)
        })
    }

    /// All jobs that are remembered, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<Job>> {
        let remembered = self.remembered();
        let newest_first = remembered.oldest_first.iter().rev();
        newest_first.filter_map(|id| remembered.by_id.get(id).cloned()).collect()
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("no holder panics")
    }
}

impl Remembered {
    fn forget(&mut self) {
        let mut kept = VecDeque::new();
        while self.by_id.len() > REMEMBERED_MAX || self.bytes > REMEMBERED_BYTES_MAX {
            let Some(id) = self.oldest_first.pop_front() else { break };
            match self.by_id.get(&id) {
                Some(job) if job.ending().is_none() => kept.push_back(id),
                Some(job) => {
                    self.bytes -= bytes(job);
                    self.by_id.remove(&id);
                }
                None => {}
            }
        }
        kept.append(&mut self.oldest_first);
        self.oldest_first = kept;
    }
}

fn bytes(job: &Job) -> usize {
    job.asked.query.len() + job.asked.task.len()
}

/// Queries that run at the same time, each in its own bounded memory; others wait.
const QUERIES_MAX: usize = 2;
/// Jobs that have not ended, at most.
const RUNNING_MAX: usize = 64;
/// Jobs that are remembered.
const REMEMBERED_MAX: usize = 1000;
/// Bytes of their texts.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: usize, bytes: usize) -> Arc<Job> {
        let id = format!("{id:05}");
        let query = "x".repeat(bytes);
        Job::new(Asked { id, task: String::new(), kind: "SQL", query, at_ms: 0 })
    }

    #[test]
    fn the_oldest_jobs_that_have_ended_are_forgotten() {
        let jobs = Jobs::new();
        let running = job(0, 0);
        jobs.remember(&running).expect("the first");
        for id in 1..=REMEMBERED_MAX + 5 {
            let job = job(id, 0);
            job.end(How::Done, 0);
            jobs.remember(&job).expect("it has ended");
        }
        assert_eq!(jobs.all().len(), REMEMBERED_MAX);
        assert!(jobs.get("00000").is_ok(), "it still runs");
        assert_eq!(jobs.get("00001").unwrap_err().code, "NoSuchObject");
        assert!(jobs.get("00007").is_ok());
        for id in 2000..2020 {
            let job = job(id, REMEMBERED_BYTES_MAX / 10);
            job.end(How::Done, 0);
            jobs.remember(&job).expect("it has ended");
        }
        assert!(jobs.all().len() <= 11, "{}", jobs.all().len());
    }

    #[test]
    fn too_many_that_run_are_refused_and_a_job_ends_once() {
        let jobs = Jobs::new();
        for id in 0..RUNNING_MAX {
            jobs.remember(&job(id, 0)).expect("there is room");
        }
        assert_eq!(jobs.remember(&job(99, 0)).unwrap_err().code, "QPSExceeded");
        let first = jobs.get("00000").expect("remembered");
        first.cancel(7).expect("it runs");
        first.end(How::Done, 8);
        assert_eq!(first.ending().map(|e| (e.how, e.at_ms)), Some((How::Cancelled, 7)));
        assert_eq!(first.cancel(9).unwrap_err().code, "InvalidStateSetting");
        jobs.remember(&job(99, 0)).expect("there is room again");
    }
}
