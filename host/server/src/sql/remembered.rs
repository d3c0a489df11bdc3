//! The jobs that clients may still ask about.
//!
//! `jobs.rs` adds each job that begins. Invariant: a job is remembered until newer ones push it
//! out, and as long as it runs; texts and numbers of jobs are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use super::job::SqlJob;
use crate::error::Refusal;

/// The jobs that are remembered.
#[derive(Default)]
pub(crate) struct RememberedJobs {
    remembered: Mutex<Remembered>,
}

#[derive(Default)]
struct Remembered {
    by_id: BTreeMap<String, Arc<SqlJob>>,
    oldest_first: VecDeque<String>,
    bytes: usize,
}

impl RememberedJobs {
    /// Remembers a job, and forgets the oldest that have finished.
    ///
    /// Errors: `QPSExceeded` if too many have not finished.
    pub(crate) fn remember(&self, job: &Arc<SqlJob>) -> Result<(), Refusal> {
        let mut remembered = self.remembered();
        let running = remembered.by_id.values().filter(|job| job.finished().is_none()).count();
        if running >= RUNNING_MAX {
            return Err(Refusal::too_many(format!(
                "{running} instances are running, as many as this server takes; wait for one, or \
                 stop it"
            )));
        }
        remembered.bytes += bytes(job);
        remembered.oldest_first.push_back(job.id.clone());
        remembered.by_id.insert(job.id.clone(), Arc::clone(job));
        remembered.forget();
        Ok(())
    }

    /// A job by its id.
    ///
    /// Errors: `NoSuchObject` if it is not remembered.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<SqlJob>, Refusal> {
        self.remembered().by_id.get(id).cloned().ok_or_else(|| {
            let message = format!(
                "there is no instance {id}; this server forgets them at a restart, and the oldest \
                 of more than {REMEMBERED_MAX}"
            );
            Refusal::no_such("NoSuchObject", message)
        })
    }

    /// All jobs that are remembered, newest first.
    pub(crate) fn all(&self) -> Vec<Arc<SqlJob>> {
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
                Some(job) if job.finished().is_none() => kept.push_back(id),
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

fn bytes(job: &SqlJob) -> usize {
    job.task.text.len() + job.task.name.len()
}

/// Jobs that have not finished, at most.
const RUNNING_MAX: usize = 64;
/// Jobs that are remembered.
const REMEMBERED_MAX: usize = 1000;
/// Bytes of their texts.
const REMEMBERED_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::job::{JobOutcome, PostedTask, TaskKind};

    fn job(id: usize, bytes: usize) -> Arc<SqlJob> {
        let id = format!("{id:05}");
        let text = "x".repeat(bytes);
        SqlJob::new(id, PostedTask { kind: TaskKind::Sql, name: String::new(), text }, 0)
    }

    #[test]
    fn the_oldest_jobs_that_have_ended_are_forgotten() {
        let jobs = RememberedJobs::default();
        let running = job(0, 0);
        jobs.remember(&running).expect("the first");
        for id in 1..=REMEMBERED_MAX + 5 {
            let job = job(id, 0);
            job.finish(JobOutcome::Done, 0);
            jobs.remember(&job).expect("it has ended");
        }
        assert_eq!(jobs.all().len(), REMEMBERED_MAX);
        assert!(jobs.get("00000").is_ok(), "it still runs");
        assert_eq!(jobs.get("00001").unwrap_err().code, "NoSuchObject");
        assert!(jobs.get("00007").is_ok());
        for id in 2000..2020 {
            let job = job(id, REMEMBERED_BYTES_MAX / 10);
            job.finish(JobOutcome::Done, 0);
            jobs.remember(&job).expect("it has ended");
        }
        assert!(jobs.all().len() <= 11, "{}", jobs.all().len());
    }

    #[test]
    fn too_many_that_run_are_refused_and_a_job_ends_once() {
        let jobs = RememberedJobs::default();
        for id in 0..RUNNING_MAX {
            jobs.remember(&job(id, 0)).expect("there is room");
        }
        assert_eq!(jobs.remember(&job(99, 0)).unwrap_err().code, "QPSExceeded");
        let first = jobs.get("00000").expect("remembered");
        first.cancel(7).expect("it runs");
        first.finish(JobOutcome::Done, 8);
        assert_eq!(
            first.finished().map(|e| (e.outcome, e.at_ms)),
            Some((JobOutcome::Cancelled, 7))
        );
        assert_eq!(first.cancel(9).unwrap_err().code, "InvalidStateSetting");
        jobs.remember(&job(99, 0)).expect("there is room again");
    }
}
