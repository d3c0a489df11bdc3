//! Commits that take seconds, as the service's do.
//!
//! Between `route/upsert/mod.rs` and `sessions.rs`. The request that commits a session closes it
//! and is answered `committing`; one task for each partition that has such commits then carries
//! them out, one after another, without being asked again. Invariant: partitions do not wait for
//! each other; of one partition, a commit begins to count its latency when the one before it is
//! due, and follows it in the log.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use upsert_sink_format::id::Millis;

use crate::background::{Background, StopSign, Waited};
use crate::components::Clock;
use crate::error::Refusal;
use crate::session::Session;
use crate::sessions::Sessions;
use crate::table::catalog::Table;

/// Commits sessions, each after a latency.
pub(crate) struct SlowCommits {
    /// Zero: a commit is carried out before it is answered.
    latency_ms: u64,
    background: Arc<Background>,
    queues: Arc<CommitQueues>,
}

/// The commits that are under way.
struct CommitQueues {
    sessions: Arc<Sessions>,
    clock: Arc<dyn Clock>,
    by_partition: Mutex<BTreeMap<PartitionOfTable, CommitQueue>>,
}

/// A table's id and the values of its partition.
type PartitionOfTable = (String, Vec<String>);

/// The commits of one partition that nobody has begun to carry out.
struct CommitQueue {
    waiting: VecDeque<SlowCommit>,
    /// When the newest commit is due.
    last_due: Millis,
}

struct SlowCommit {
    table: Arc<Table>,
    session: Arc<Session>,
    due: Millis,
}

impl SlowCommits {
    pub(crate) fn new(
        latency: Duration,
        sessions: &Arc<Sessions>,
        clock: &Arc<dyn Clock>,
        background: &Arc<Background>,
    ) -> Self {
        let queues = CommitQueues {
            sessions: Arc::clone(sessions),
            clock: Arc::clone(clock),
            by_partition: Mutex::default(),
        };
        Self {
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            background: Arc::clone(background),
            queues: Arc::new(queues),
        }
    }

    /// Commits a session, or begins to. A session that has ended, or that another request commits,
    /// is left as it is; its status says which.
    ///
    /// Errors: as of [`Sessions::commit`]; none once the commit has begun. One that fails then
    /// leaves its session open, to be committed again.
    pub(crate) async fn commit(
        &self,
        table: &Arc<Table>,
        session: &Arc<Session>,
    ) -> Result<(), Refusal> {
        if self.latency_ms == 0 {
            return self.queues.sessions.commit(table, session).await;
        }
        let facts = &session.facts;
        let partition = (facts.table_id.clone(), facts.partition.clone());
        let now = self.queues.clock.now();
        let mut queues = self.queues.by_partition();
        if session.close(now).is_err() {
            return Ok(());
        }
        let queue = queues.get_mut(&partition);
        let begins = queue.as_ref().map_or(now, |queue| queue.last_due.max(now));
        let due = Millis(begins.0.saturating_add(self.latency_ms));
        let commit = SlowCommit { table: Arc::clone(table), session: Arc::clone(session), due };
        if let Some(queue) = queue {
            queue.waiting.push_back(commit);
            queue.last_due = due;
            return Ok(());
        }
        let waiting = VecDeque::from([commit]);
        queues.insert(partition.clone(), CommitQueue { waiting, last_due: due });
        let queues = Arc::clone(&self.queues);
        self.background.begin(queues.run(partition, self.background.stop_sign()));
        Ok(())
    }
}

impl CommitQueues {
    /// Carries out the commits of a partition until there is none.
    async fn run(self: Arc<Self>, partition: PartitionOfTable, mut stop: StopSign) {
        while let Some(SlowCommit { table, session, due }) = self.next(&partition) {
            let mut stopped = false;
            let wait = async {
                let waited = stop.wait_until(&*self.clock, due).await;
                stopped = waited == Waited::Stopped;
                waited
            };
            if let Err(refusal) = self.sessions.commit_when(&table, &session, wait).await {
                let (id, message) = (&session.facts.id, &refusal.message);
                tracing::warn!(session = %id, message, "a commit failed; its client may repeat it");
            }
            if stopped {
                return;
            }
        }
    }

    /// The next commit of a partition. A partition without one is forgotten.
    fn next(&self, partition: &PartitionOfTable) -> Option<SlowCommit> {
        let mut queues = self.by_partition();
        let next = queues.get_mut(partition)?.waiting.pop_front();
        if next.is_none() {
            queues.remove(partition);
        }
        next
    }

    fn by_partition(&self) -> MutexGuard<'_, BTreeMap<PartitionOfTable, CommitQueue>> {
        self.by_partition.lock().expect("no holder panics")
    }
}
