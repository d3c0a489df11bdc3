//! The committer: commits the sessions that a checkpoint holds, in the order of their names, and
//! knows the outcome of each.
//!
//! The end of a row's way: after the commit the row is visible. Invariant: a commit is sent
//! only when the outcome of the one before in its partition is known; nothing is sent before
//! `sink.delivery-guarantee` allows it; a commit is known only with evidence, and when that is
//! durable in the journal: a later attempt must not need the same evidence again.
//!
//! | state of a session | event | effect |
//! |---|---|---|
//! | `Held` | its checkpoint completes | → `Released` |
//! | `Held` | its checkpoint is aborted | stays; without overlap the attempt fails |
//! | `Released` | its turn comes | commit, → `Committing` |
//! | `Committing` | committed | its record is appended |
//! | `Committing` | the record is durable | known |
//! | `Committing` | still committing, in doubt, refused for now | repeats |
//! | `Committing` | lost | fails, or is skipped |
//! | any | prepared again | ignored |

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, SessionId};
use upsert_sink_format::tunnel::{Answer, Operation, Outcome, Refusal, RefusalKind, SessionStatus};

use crate::commit_operation::{CommitOperation, place, place_of};
use crate::commit_order::{State, Waiting, turns};
use crate::commit_time::CommitPace;
use crate::compaction::{Compaction, CompactionRecord};
use crate::config::{DeliveryGuarantee, LostSession, SinkConfig};
use crate::evidence::{Evidence, judge_not_found};
use crate::exchange::Known;
use crate::ignored::Ignored;
use crate::io::{CheckpointOutcome, CommitterInput, CommitterOutput, Completion, Level, Task};
use crate::journal::{self, JournalState, SessionRecord};
use crate::operation::{Operations, Submitted};
use crate::outputs::Outputs;
use crate::retry::Pause;
use crate::session::{Committable, SessionName, check_identity};

/// One sink's committer.
#[derive(Clone, Debug)]
pub struct Committer {
    identity: String,
    start: u64,
    guarantee: DeliveryGuarantee,
    overlap: bool,
    lost_session: LostSession,
    idle_limit: Millis,
    attempts_most: u32,
    commits_most: usize,
    journal: BTreeMap<SessionId, JournalState>,
    pending: BTreeMap<SessionName, Pending>,
    /// The number of pending sessions of each checkpoint that has any.
    unknown: BTreeMap<CheckpointId, usize>,
    /// Commits that are known, until no writer can still hold their committables.
    known: BTreeSet<SessionId>,
    /// The newest checkpoint that all writers have passed.
    prepared: CheckpointId,
    completed: CheckpointId,
    pace: CommitPace,
    /// Sessions whose turn has come, as far as they were looked for; none before a change of what
    /// is prepared or released.
    turns: VecDeque<SessionName>,
    compaction: Compaction,
    operations: Operations<CommitOperation>,
    outputs: Outputs<CommitterOutput>,
}

/// A session whose commit is not known.
#[derive(Clone, Debug)]
struct Pending {
    committable: Committable,
    /// The first checkpoint that held it.
    checkpoint: CheckpointId,
    state: State,
}

impl Committer {
    /// Begins a committer with all records that the journal holds of this sink.
    ///
    /// Errors: `Corrupt` for a damaged record, `InvalidConfig` for one of a newer version.
    pub fn open(task: &Task, config: &SinkConfig, journal: &[Vec<u8>]) -> Result<Self, Error> {
        let records = journal::fold(journal)?.into_iter();
        Ok(Self {
            identity: task.identity.clone(),
            start: task.start,
            guarantee: config.guarantee,
            overlap: config.session_overlap,
            lost_session: config.lost_session,
            idle_limit: config.session_idle_limit,
            attempts_most: config.commit_retries.saturating_add(1),
            commits_most: config.commit_threads.get() as usize,
            journal: records.map(|(id, record)| (id, record.state)).collect(),
            pending: BTreeMap::new(),
            unknown: BTreeMap::new(),
            known: BTreeSet::new(),
            prepared: CheckpointId(0),
            completed: CheckpointId(0),
            pace: CommitPace::default(),
            turns: VecDeque::new(),
            compaction: Compaction::open(config.compact_after, journal)?,
            operations: Operations::new(task.nonce, config.commit_timeout),
            outputs: Outputs::new(),
        })
    }

    /// Sessions whose commit is not known.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The newest completed checkpoint of which every session is known to be committed.
    pub fn committed(&self) -> CheckpointId {
        self.unknown.keys().next().map_or(self.completed, |oldest| {
            self.completed.min(CheckpointId(oldest.0.saturating_sub(1)))
        })
    }

    /// Takes one input. Drain `poll_output` before the next, which panics otherwise.
    ///
    /// Errors: `SessionLost` if a session that a checkpoint holds can no longer be committed;
    /// `Retry` if the service gave no clear word within `upsert.commit.timeout`, or if an aborted
    /// checkpoint leaves rows waiting for ever; `Corrupt` or `Bug` for a committable that is
    /// damaged or foreign.
    pub fn handle_input(&mut self, now: Millis, input: CommitterInput) -> Result<(), Error> {
        self.outputs.assert_drained();
        match input {
            CommitterInput::CheckpointEnded(checkpoint, outcome) => {
                self.end(checkpoint, outcome)?;
            }
            CommitterInput::Completed(completion) => self.complete(now, completion)?,
            CommitterInput::Prepared(checkpoint, committables) => {
                self.prepare(checkpoint, &committables)?;
            }
            CommitterInput::TimerFired => {
                let compaction_due = self.compaction.deadline().is_some_and(|due| due <= now);
                self.operations.wake(now, compaction_due, &mut self.outputs);
            }
        }
        self.commit_next(now);
        self.compact_next(now);
        Ok(())
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<CommitterOutput> {
        self.outputs.pop()
    }

    /// The time at which to call with `TimerFired`.
    pub fn deadline(&self) -> Option<Millis> {
        [self.operations.deadline(), self.compaction.deadline()].into_iter().flatten().min()
    }

    fn prepare(&mut self, checkpoint: CheckpointId, bytes: &[Vec<u8>]) -> Result<(), Error> {
        self.prepared = self.prepared.max(checkpoint);
        self.turns.clear();
        let committables =
            bytes.iter().map(|bytes| Committable::from_bytes(bytes)).collect::<Result<Vec<_>, _>>();
        let committables = committables?;
        let listed: BTreeSet<SessionId> =
            committables.iter().map(|committable| committable.session.clone()).collect();
        let mut known_again = Vec::new();
        let mut fresh: BTreeMap<SessionName, Committable> = BTreeMap::new();
        for committable in committables {
            self.check(checkpoint, &committable)?;
            if self.known.contains(&committable.session) {
                known_again.push(committable.session.clone());
            } else if self.pending.contains_key(&committable.name) {
                self.outputs.ignore(Ignored::PreparedBefore);
            } else {
                fresh
                    .entry(committable.name.clone())
                    .and_modify(|joined| joined.join(&committable))
                    .or_insert(committable);
            }
        }
        // A commit that no snapshot lists any more is known to every writer.
        self.known.retain(|session| listed.contains(session));
        self.send_known(known_again);
        for (name, committable) in fresh {
            self.take_up(checkpoint, name, committable)?;
        }
        Ok(())
    }

    /// A committable must be of this sink and, if of this start, of a barrier before the checkpoint
    /// (rule 0).
    fn check(&self, checkpoint: CheckpointId, committable: &Committable) -> Result<(), Error> {
        let at =
            format!("session {}, partition {}", committable.session, committable.name.partition);
        check_identity(&at, &committable.identity, &self.identity)?;
        if committable.name.start > self.start {
            let message = format!(
                "the checkpoint is of start {}, but the journal only knows of {}: the journal \
                 directory was replaced by an older one",
                committable.name.start, self.start
            );
            return Err(Error::config(at, message));
        }
        if committable.name.start == self.start && committable.name.barrier >= checkpoint {
            let message = format!(
                "checkpoint {checkpoint} holds a session of barrier {}, which comes after it",
                committable.name.barrier
            );
            return Err(Error::bug(at, message));
        }
        Ok(())
    }

    fn take_up(
        &mut self,
        checkpoint: CheckpointId,
        name: SessionName,
        committable: Committable,
    ) -> Result<(), Error> {
        match self.journal.get(&committable.session) {
            Some(JournalState::Committed) => {
                self.become_known(&committable, Evidence::Journal);
                return Ok(());
            }
            Some(JournalState::Aborted | JournalState::Aborting) => {
                let why = "a later start of this sink aborted it: it was restored from a savepoint \
                           that was not taken by stopping the sink";
                return self.lose(&committable, why);
            }
            Some(JournalState::Open) | None => {}
        }
        let released = match self.guarantee {
            DeliveryGuarantee::AtLeastOnce => true,
            DeliveryGuarantee::ExactlyOnce => checkpoint <= self.completed,
        };
        let state = if released { State::Released } else { State::Held };
        *self.unknown.entry(checkpoint).or_default() += 1;
        self.pending.insert(name, Pending { committable, checkpoint, state });
        Ok(())
    }

    fn end(&mut self, checkpoint: CheckpointId, outcome: CheckpointOutcome) -> Result<(), Error> {
        match outcome {
            // Its sessions wait for the next completion.
            CheckpointOutcome::Aborted if self.overlap => {}
            CheckpointOutcome::Aborted => return self.check_progress(checkpoint),
            CheckpointOutcome::Completed if checkpoint <= self.completed => {
                self.outputs.ignore(Ignored::EndedBefore);
            }
            CheckpointOutcome::Completed => {
                self.completed = checkpoint;
                self.turns.clear();
                for pending in self.pending.values_mut() {
                    if pending.state == State::Held && pending.checkpoint <= checkpoint {
                        pending.state = State::Released;
                    }
                }
            }
        }
        Ok(())
    }

    /// Without overlap, rows wait for the commit before them. If that waits for the next
    /// checkpoint, which waits for those rows, both wait for ever.
    fn check_progress(&mut self, aborted: CheckpointId) -> Result<(), Error> {
        let held = self.pending.values().any(|pending| pending.state == State::Held);
        match aborted.cmp(&self.prepared) {
            // A later checkpoint holds the same, and may complete yet.
            Ordering::Less => self.outputs.ignore(Ignored::EndedBefore),
            Ordering::Equal if !held => {}
            // If it was not prepared, some writers may have passed it, and hold sessions.
            Ordering::Equal | Ordering::Greater => {
                let message = "it was aborted, and with sink.session.overlap = false the rows \
                               behind it wait for a commit that would never come; this attempt \
                               ends, go on from the last completed checkpoint";
                return Err(Error::new(ErrorKind::Retry, format!("checkpoint {aborted}"), message));
            }
        }
        Ok(())
    }

    /// Sends the commits whose turn has come.
    fn commit_next(&mut self, now: Millis) {
        // Among thousands, turns are looked for only if there is a place for one and no turn is
        // left: a commit that becomes known takes none from another.
        let free = self.commits_most.saturating_sub(self.commits_under_way());
        if free == 0 {
            return;
        }
        if self.turns.is_empty() {
            self.turns = self.next_turns();
        }
        for _ in 0..free {
            let Some(name) = self.turns.pop_front() else { break };
            let pending = self.pending.get_mut(&name).expect("a turn is of a pending session");
            pending.state = State::Committing;
            let operation = Operation::CommitSession(pending.committable.session_ref());
            let commit = CommitOperation::Commit(name);
            self.operations.submit(now, commit, operation, &mut self.outputs);
        }
    }

    /// Commits whose record is not durable yet. A compaction takes no place from one.
    fn commits_under_way(&self) -> usize {
        self.operations.count(|purpose| match purpose {
            CommitOperation::Commit(_) | CommitOperation::Journal(..) => true,
            CommitOperation::Compact(_) | CommitOperation::Count(_) => false,
        })
    }

    /// Asks for a compaction if one is due, whatever commits are under way.
    fn compact_next(&mut self, now: Millis) {
        if let Some(partition) = self.compaction.ask(now) {
            let operation = Operation::CompactPartition(partition.clone());
            let compact = CommitOperation::Compact(partition);
            self.operations.submit(now, compact, operation, &mut self.outputs);
        }
    }

    /// Makes a partition's count durable. Nothing waits for it.
    fn record_count(&mut self, now: Millis, record: &CompactionRecord) {
        let count = CommitOperation::Count(record.partition.clone());
        let ticket = self.operations.begin(now, count);
        self.outputs.push(CommitterOutput::Journal(record.append(ticket)));
    }

    /// A request for a compaction has an outcome: whatever it is, commits go on.
    fn compacted(&mut self, now: Millis, asked: Submitted<CommitOperation>, outcome: &Outcome) {
        let _ = asked.release(&mut self.outputs);
        match self.compaction.settle(now, outcome) {
            Ok(left) => {
                self.outputs.count("upsert_sink.compactions.asked", 1);
                self.record_count(now, &left);
            }
            Err(line) => {
                self.outputs.count("upsert_sink.compactions.failed", 1);
                self.outputs.log(Level::Warn, line);
            }
        }
    }

    fn next_turns(&self) -> VecDeque<SessionName> {
        let waiting = self.pending.iter().map(|(name, pending)| Waiting {
            name,
            span: pending.committable.span(),
            state: pending.state,
            loses: pending.committable.moved_out > 0,
            moved_to: &pending.committable.moved_to,
        });
        turns(waiting).into()
    }

    fn complete(&mut self, now: Millis, completion: Completion) -> Result<(), Error> {
        let Some((operation, outcome)) = self.operations.take(completion, &mut self.outputs) else {
            return Ok(());
        };
        match operation.purpose {
            CommitOperation::Commit(_) => self.attempted(now, operation, outcome),
            CommitOperation::Journal(name, evidence) => {
                self.recorded(now, &name, evidence, &outcome)
            }
            CommitOperation::Compact(_) => {
                self.compacted(now, operation, &outcome);
                Ok(())
            }
            CommitOperation::Count(ref partition) => {
                journal::check_durable(place_of(partition), &outcome)
            }
        }
    }

    /// An attempt at a commit has an outcome.
    fn attempted(
        &mut self,
        now: Millis,
        commit: Submitted<CommitOperation>,
        outcome: Outcome,
    ) -> Result<(), Error> {
        match outcome {
            Outcome::Done(Answer::Session(info)) => match info.status {
                SessionStatus::Committed => {
                    self.pace.note(commit.age(now));
                    self.finish(now, commit, Evidence::Said);
                    Ok(())
                }
                SessionStatus::Committing | SessionStatus::Normal => {
                    let pending = self.pending.get_mut(commit.purpose.name());
                    let pending = pending.expect("a commit under way is pending");
                    pending.committable.contact_at = now;
                    let cause = "it is still being committed";
                    let pause = Pause::Poll(self.pace.pause(commit.age(now)));
                    self.operations.put_off(now, commit, pause, cause)
                }
                SessionStatus::Aborted | SessionStatus::Critical | SessionStatus::Expired => {
                    let why = format!("the service says it is {:?}", info.status);
                    self.lose_under_way(commit, &why.to_ascii_lowercase())
                }
            },
            Outcome::Done(Answer::Bytes(_) | Answer::None) => {
                Err(Error::bug("tunnel", "the host answered a commit without a session"))
            }
            Outcome::InDoubt(doubt) => self.operations.put_off(now, commit, Pause::Doubt, &doubt),
            Outcome::Refused(refusal) => self.refused(now, commit, &refusal),
        }
    }

    fn refused(
        &mut self,
        now: Millis,
        commit: Submitted<CommitOperation>,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        let attempts = commit.attempts();
        let message = format!("{} {}", refusal.code, refusal.message);
        match refusal.kind {
            RefusalKind::Moved | RefusalKind::NotSent | RefusalKind::SlowDown => {
                self.operations.put_off(now, commit, Pause::Refused(refusal), &message)
            }
            RefusalKind::NoSuchSession => {
                let committable = &self.pending[commit.purpose.name()].committable;
                let journal = self.journal.get(&committable.session).copied();
                match judge_not_found(committable, journal, now, self.idle_limit) {
                    Ok(evidence) => {
                        self.finish(now, commit, evidence);
                        Ok(())
                    }
                    Err(why) => self.lose_under_way(commit, &format!("it is gone, and {why}")),
                }
            }
            RefusalKind::Transient if attempts < self.attempts_most => {
                self.operations.put_off(now, commit, Pause::Refused(refusal), &message)
            }
            RefusalKind::Denied
            | RefusalKind::Full
            | RefusalKind::Invalid
            | RefusalKind::NoSuchPartition
            | RefusalKind::Transient => {
                let what = format!(
                    "the commit at attempt {attempts} (upsert.commit.max-retries = {} for reasons \
                     that may pass)",
                    self.attempts_most - 1
                );
                let remedy = "its rows are kept, correct the cause and start again";
                Err(commit.refused(refusal, ErrorKind::Retry, &what, remedy))
            }
        }
    }

    /// A commit is over, and its record is appended: until that is durable it is not known.
    fn finish(&mut self, now: Millis, commit: Submitted<CommitOperation>, evidence: Evidence) {
        let name = commit.release(&mut self.outputs).name().clone();
        let ticket = self.operations.begin(now, CommitOperation::Journal(name.clone(), evidence));
        let record = SessionRecord {
            id: self.pending[&name].committable.session.clone(),
            partition: name.partition.clone(),
            start: name.start,
            state: JournalState::Committed,
            at: now,
        };
        self.outputs.push(CommitterOutput::Journal(record.append(ticket)));
    }

    /// The record of a commit has an outcome.
    fn recorded(
        &mut self,
        now: Millis,
        name: &SessionName,
        evidence: Evidence,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        let session = &self.pending[name].committable.session;
        journal::check_durable(format!("{}, session {session}", place(name)), outcome)?;
        let committable = self.forget(name);
        self.become_known(&committable, evidence);
        if let Some(record) = self.compaction.count(&name.partition) {
            self.record_count(now, &record);
        }
        Ok(())
    }

    /// A commit under way is pending no more.
    fn forget(&mut self, name: &SessionName) -> Committable {
        let pending = self.pending.remove(name).expect("a commit under way is pending");
        let left = self.unknown.get_mut(&pending.checkpoint).expect("it was counted");
        *left -= 1;
        if *left == 0 {
            self.unknown.remove(&pending.checkpoint);
        }
        pending.committable
    }

    fn become_known(&mut self, committable: &Committable, evidence: Evidence) {
        let line = format!(
            "session {} of {} is committed ({evidence:?}): {} records",
            committable.session, committable.name.partition, committable.records
        );
        self.outputs.log(Level::Debug, line);
        self.known.insert(committable.session.clone());
        self.send_known(alloc::vec![committable.session.clone()]);
    }

    fn send_known(&mut self, sessions: Vec<SessionId>) {
        if !sessions.is_empty() {
            self.outputs.push(CommitterOutput::Known(Known { sessions }.to_bytes()));
        }
    }

    fn lose_under_way(
        &mut self,
        commit: Submitted<CommitOperation>,
        why: &str,
    ) -> Result<(), Error> {
        let commit = commit.release(&mut self.outputs);
        let committable = self.forget(commit.name());
        self.lose(&committable, why)
    }

    /// A session that a completed checkpoint holds cannot be committed any more.
    fn lose(&mut self, committable: &Committable, why: &str) -> Result<(), Error> {
        let records = committable.records;
        match self.lost_session {
            LostSession::Fail => {
                let message = format!(
                    "{records} acknowledged records can no longer be committed: {why}. Restore an \
                     older checkpoint and replay, or set sink.recover.lost-session = skip to go on \
                     without them"
                );
                let at = format!("{}, session {}", place(&committable.name), committable.session);
                Err(Error::new(ErrorKind::SessionLost, at, message))
            }
            LostSession::Skip => {
                let line = format!(
                    "sink.recover.lost-session = skip: {records} records of session {} of {} are \
                     lost: {why}",
                    committable.session, committable.name.partition
                );
                self.outputs.log(Level::Warn, line);
                self.known.insert(committable.session.clone());
                self.send_known(alloc::vec![committable.session.clone()]);
                Ok(())
            }
        }
    }
}
