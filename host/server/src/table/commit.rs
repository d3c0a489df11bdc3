//! Commits: a delta file each, and one log record for all that are waiting.
//!
//! Between `sessions.rs`, which has closed the session, and `table/log.rs`. Invariant: a commit is
//! answered after the record that holds it is durable, and each is in at most one record, in the
//! order in which they were handed over.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::Either;
use tokio::sync::{Notify, Semaphore, oneshot};

use super::catalog::{Catalog, Change, Commit, Table, TableFile};
use super::log::{Log, NotWritten};
use super::{delta, partition};
use crate::components::{Clock, Directory};
use crate::error::Error;
use crate::session::{PacksByBucket, SessionFacts};
use crate::spool::Spool;

/// Stands around the log record of each group: whoever makes a server crash there implements it.
pub(crate) trait CommitHook: Send + Sync {
    /// Called before the record is written, which an error prevents.
    fn before_record(&self) -> Result<(), Crashed>;

    /// Called when the record is durable; after an error nobody hears of it.
    fn after_record(&self) -> Result<(), Crashed>;
}

/// The server has crashed: it neither writes nor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crashed;

/// Gathers commits into groups.
pub(crate) struct GroupCommit {
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    hook: Arc<dyn CommitHook>,
    /// Bounds the memory of delta files that are being written.
    writers: Semaphore,
    waiting: Mutex<WaitingCommits>,
    /// Held by the commit that writes the record for its group.
    turn: tokio::sync::Mutex<()>,
    file_written: Notify,
}

#[derive(Default)]
struct WaitingCommits {
    group: Vec<(Commit, oneshot::Sender<CommitOutcome>)>,
    /// Commits whose delta file is being written: they will join soon.
    writing: usize,
}

impl WaitingCommits {
    /// Adds a commit to the group; whoever writes the record sends its outcome.
    fn join(&mut self, commit: Commit) -> oneshot::Receiver<CommitOutcome> {
        let (sender, receiver) = oneshot::channel();
        self.group.push((commit, sender));
        receiver
    }
}

/// The outcome of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommitOutcome {
    /// It is in the log.
    Done,
    /// It certainly is not, because of this.
    NotDone(String),
    /// Its table is gone.
    NoTable,
    /// The next start will tell.
    InDoubt(String),
}

impl GroupCommit {
    pub(crate) fn new(
        directory: Arc<dyn Directory>,
        clock: Arc<dyn Clock>,
        log: Arc<Log>,
        hook: Arc<dyn CommitHook>,
    ) -> Self {
        Self {
            directory,
            clock,
            log,
            hook,
            writers: Semaphore::new(WRITERS_MAX),
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::new(()),
            file_written: Notify::new(),
        }
    }

    /// Commits the packs of a session, which lie in the spool, to its partition.
    pub(crate) async fn commit(
        &self,
        spool: &Spool,
        table: &Table,
        session: &SessionFacts,
        packs: &PacksByBucket,
    ) -> CommitOutcome {
        self.waiting().writing += 1;
        let prepared = self.prepare(spool, table, session, packs).await;
        let joined = {
            let mut waiting = self.waiting();
            waiting.writing -= 1;
            prepared.map(|commit| waiting.join(commit))
        };
        self.file_written.notify_waiters();
        match joined {
            Ok(receiver) => self.lead_or_follow(receiver).await,
            Err(error) => CommitOutcome::NotDone(error.to_string()),
        }
    }

    /// Writes the delta file of a commit, which no reader sees before `finish`.
    pub(crate) async fn prepare(
        &self,
        spool: &Spool,
        table: &Table,
        session: &SessionFacts,
        packs: &PacksByBucket,
    ) -> Result<Commit, Error> {
        let file = match packs.is_empty() {
            true => None,
            false => Some(self.write_file(spool, table, session, packs).await?),
        };
        Ok(Commit {
            session: session.id.clone(),
            table_id: session.table_id.clone(),
            partition: session.partition.clone(),
            file,
        })
    }

    /// Puts a commit whose delta file is written into the log.
    pub(crate) async fn finish(&self, commit: Commit) -> CommitOutcome {
        let receiver = self.waiting().join(commit);
        self.lead_or_follow(receiver).await
    }

    async fn write_file(
        &self,
        spool: &Spool,
        table: &Table,
        session: &SessionFacts,
        packs: &PacksByBucket,
    ) -> Result<TableFile, Error> {
        let _permit = self.writers.acquire().await.expect("the semaphore is never closed");
        let SessionFacts { id, table_id, partition, .. } = session;
        let path = partition::file_path(&table.schema, table_id, partition, id);
        let types = session.column_types(&table.schema);
        let of_table = (&*table.schema, table.definition.partial_update);
        delta::write(&*self.directory, spool, of_table, &types, packs, path).await
    }

    async fn lead_or_follow(
        &self,
        mut receiver: oneshot::Receiver<CommitOutcome>,
    ) -> CommitOutcome {
        let _turn = self.turn.lock().await;
        if let Ok(outcome) = receiver.try_recv() {
            return outcome;
        }
        self.wait_for_files().await;
        let (commits, senders): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting().group).into_iter().unzip();
        let outcomes = self.write_record(commits).await;
        for (sender, outcome) in senders.into_iter().zip(outcomes) {
            // Whoever does not wait any more finds the outcome in the catalog.
            let _ = sender.send(outcome);
        }
        receiver.try_recv().expect("the leader's own commit is in its group")
    }

    /// Gives commits that are about to join the group a moment to do so: a record and a sync less
    /// each.
    async fn wait_for_files(&self) {
        tokio::task::yield_now().await;
        for _ in 0..GATHER_ROUNDS_MAX {
            let written = self.file_written.notified();
            if self.waiting().writing == 0 {
                return;
            }
            let written = std::pin::pin!(written);
            let waited = futures::future::select(written, self.clock.sleep(GATHER_ROUND)).await;
            if let Either::Right(_) = waited {
                return;
            }
        }
    }

    async fn write_record(&self, commits: Vec<Commit>) -> Vec<CommitOutcome> {
        let crashed = || CommitOutcome::InDoubt("the server has ended".to_owned());
        if self.hook.before_record().is_err() {
            return commits.iter().map(|_| crashed()).collect();
        }
        let mut outcomes = vec![CommitOutcome::Done; commits.len()];
        let written = self.log.change(|catalog| {
            let mut change = Vec::with_capacity(commits.len());
            for (commit, outcome) in commits.into_iter().zip(&mut outcomes) {
                match has_partition(catalog, &commit) {
                    true => change.push(commit),
                    false => *outcome = CommitOutcome::NoTable,
                }
            }
            Ok::<_, Error>((!change.is_empty()).then_some(Change::Commit(change)))
        });
        let failed = match written.await {
            Ok(()) if self.hook.after_record().is_err() => crashed(),
            Ok(()) => return outcomes,
            Err(NotWritten::Decided(error) | NotWritten::Failed(error)) => {
                CommitOutcome::NotDone(error.to_string())
            }
            Err(NotWritten::InDoubt(error)) => CommitOutcome::InDoubt(error.to_string()),
        };
        for outcome in &mut outcomes {
            if *outcome == CommitOutcome::Done {
                *outcome = failed.clone();
            }
        }
        outcomes
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingCommits> {
        self.waiting.lock().expect("no holder panics")
    }
}

fn has_partition(catalog: &Catalog, commit: &Commit) -> bool {
    let table = catalog.table_by_id(&commit.table_id);
    table.is_some_and(|table| table.partitions.contains_key(&commit.partition))
}

/// Delta files written at the same time; each holds a row group and a pack.
const WRITERS_MAX: usize = 2;
/// Files that a group waits for, at most.
const GATHER_ROUNDS_MAX: usize = 256;
/// How long a group waits for one more file.
const GATHER_ROUND: Duration = Duration::from_millis(5);
