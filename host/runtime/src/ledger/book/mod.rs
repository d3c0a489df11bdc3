//! The book of a sink's checkpoints: which part belongs to which checkpoint, and when its record is
//! complete.
//!
//! Under `mod.rs`, which locks it. It knows parts, numbers of checkpoints and times, and calls
//! nobody. Invariant: every part is in exactly one record; what an aborted checkpoint measured goes
//! to the next one; a record is complete when the sink knows that all of it is committed, and never
//! changes afterwards.
//!
//! A session belongs to the checkpoint before whose barrier packs were sent to it, and so do the
//! attempts at its commit, however many checkpoints later they are made. Sessions are created only
//! when all writers have passed the barrier before, so what coordinator and router measured until
//! the last writer handed over belongs to the same checkpoint.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use upsert_sink_core::io::CheckpointOutcome;

use crate::ledger::part::{InstancePart, Measured};
use crate::ledger::record::{
    BucketBytes, CheckpointKind, CheckpointRecord, CommitTimes, LedgerTotals, SlowPartition,
};
use crate::ledger::sample::Sample;

/// All that is known of a sink's checkpoints.
#[derive(Debug)]
pub(crate) struct Book {
    start: u64,
    writers: u32,
    open: BTreeMap<u64, OpenRecord>,
    /// The measurements that no open checkpoint has taken up yet.
    carried: InstancePart,
    /// The checkpoint of each session whose commit is not known.
    sessions: BTreeMap<String, u64>,
    /// How long the next barrier was held back.
    delayed_us: u64,
    /// The newest completed checkpoint.
    completed: u64,
    done: VecDeque<CheckpointRecord>,
    totals: LedgerTotals,
}

/// A checkpoint whose commits are not all known.
#[derive(Debug, Default)]
struct OpenRecord {
    kind: CheckpointKind,
    barrier_us: u64,
    delayed_us: u64,
    /// Writers that have handed over.
    handed: u32,
    part: InstancePart,
    last_snapshot_us: u64,
    /// Known once all writers have handed over.
    partitions: Option<u64>,
    completed_us: Option<u64>,
    commits: Commits,
}

#[derive(Debug, Default)]
struct Commits {
    durations: Sample,
    at_once_max: u32,
    slowest: Vec<SlowPartition>,
}

/// The events in the life of a checkpoint.
impl Book {
    pub(crate) fn new(start: u64, writers: u32) -> Self {
        Self {
            start,
            writers,
            open: BTreeMap::new(),
            carried: InstancePart::default(),
            sessions: BTreeMap::new(),
            delayed_us: 0,
            completed: 0,
            done: VecDeque::new(),
            totals: LedgerTotals::default(),
        }
    }

    /// The engine has held the next barrier back.
    pub(crate) fn delayed(&mut self, span_us: u64) {
        self.delayed_us = self.delayed_us.saturating_add(span_us);
    }

    /// A barrier is handed to the writers.
    pub(crate) fn barrier(&mut self, id: u64, kind: CheckpointKind, now_us: u64) {
        let delayed_us = std::mem::take(&mut self.delayed_us);
        let open = OpenRecord { kind, barrier_us: now_us, delayed_us, ..OpenRecord::default() };
        self.open.insert(id, open);
    }

    /// A writer has passed a barrier. A part of a checkpoint that was given up joins the next.
    pub(crate) fn hand_over(&mut self, id: u64, part: InstancePart, now_us: u64) {
        let Some(open) = self.open.get_mut(&id) else {
            self.carried.join(part);
            return;
        };
        open.part.join(part);
        open.handed += 1;
        open.last_snapshot_us = now_us;
        if open.handed < self.writers {
            return;
        }
        open.part.join(std::mem::take(&mut self.carried));
        let partitions: BTreeSet<&String> = open.part.sessions.values().collect();
        open.partitions = Some(partitions.len() as u64);
        self.sessions.extend(open.part.sessions.keys().map(|session| (session.clone(), id)));
    }

    /// An instance that passes no barrier has measured something.
    pub(crate) fn aside(&mut self, part: InstancePart) {
        self.carried.join(part);
    }

    /// The committer has worked, for the newest checkpoint that is to be committed if there is one.
    pub(crate) fn committing(&mut self, part: InstancePart) {
        let at = self.completed;
        match self.open.get_mut(&at) {
            Some(open) => open.part.join(part),
            None => self.carried.join(part),
        }
    }

    /// An attempt of the committer has ended: it counts for the checkpoint of its session, or else
    /// for the newest that is to be committed.
    pub(crate) fn commit_attempted(&mut self, measured: &Measured<'_>) {
        let (session, partition) = measured.session().unwrap_or_default();
        let id = self.sessions.get(session).copied().unwrap_or(self.completed);
        let Some(open) = self.open.get_mut(&id) else {
            self.carried.add(measured);
            return;
        };
        open.part.add(measured);
        open.commits.at_once_max = open.commits.at_once_max.max(measured.at_once);
        if let Some(ms) = measured.known_ms {
            open.commits.add(partition, ms);
        }
    }

    /// A checkpoint of an earlier start is restored: what it held is committed now.
    pub(crate) fn restored(&mut self, id: u64, now_us: u64) {
        let open = OpenRecord {
            kind: CheckpointKind::Restored,
            barrier_us: now_us,
            last_snapshot_us: now_us,
            partitions: Some(0),
            ..OpenRecord::default()
        };
        self.open.insert(id, open);
        self.ended(id, CheckpointOutcome::Completed, now_us);
    }

    /// The engine has said how a checkpoint ended.
    pub(crate) fn ended(&mut self, id: u64, outcome: CheckpointOutcome, now_us: u64) {
        match outcome {
            CheckpointOutcome::Aborted => {
                if let Some(open) = self.open.remove(&id) {
                    self.delayed_us = self.delayed_us.saturating_add(open.delayed_us);
                    self.carried.join(open.part);
                }
            }
            CheckpointOutcome::Completed => {
                self.completed = self.completed.max(id);
                let Some(open) = self.open.get_mut(&id) else { return };
                open.completed_us.get_or_insert(now_us);
                open.part.sessions.clear();
                self.release_earlier(id);
            }
        }
    }

    /// The sessions of a savepoint, which never completes, are committed with this checkpoint.
    fn release_earlier(&mut self, id: u64) {
        let open = &self.open;
        let waits = |id: &u64| open.get(id).is_some_and(|open| open.completed_us.is_none());
        if !open.range(..id).any(|(earlier, _)| waits(earlier)) {
            return;
        }
        for released_by in self.sessions.values_mut() {
            if *released_by < id && waits(released_by) {
                *released_by = id;
            }
        }
    }

    /// Everything up to this checkpoint is known to be committed.
    pub(crate) fn committed(&mut self, up_to: u64, now_us: u64) {
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.key() <= up_to) {
            let (id, open) = entry.remove_entry();
            if open.partitions.is_none() {
                // Some writers never passed it, and nobody has said that it was given up.
                self.carried.join(open.part);
                continue;
            }
            let record = open.finish(id, self.start, self.writers, now_us);
            self.totals.add(&record);
            self.done.push_back(record);
            if self.done.len() > RECORDS_MAX {
                self.done.pop_front();
            }
        }
        let open = &self.open;
        self.sessions.retain(|_, id| open.contains_key(id));
    }

    /// The newest complete records, oldest first.
    pub(crate) fn records(&self) -> Vec<CheckpointRecord> {
        self.done.iter().cloned().collect()
    }

    /// The sum of all complete records.
    pub(crate) fn totals(&self) -> LedgerTotals {
        self.totals
    }
}

impl OpenRecord {
    fn finish(self, id: u64, start: u64, writers: u32, now_us: u64) -> CheckpointRecord {
        let Self { part, barrier_us, .. } = self;
        let mut times_us = part.times;
        times_us.rows = part.first_row_us.map_or(0, |first| barrier_us.saturating_sub(first));
        times_us.flush = self.last_snapshot_us.saturating_sub(barrier_us);
        times_us.commit = self.completed_us.map_or(0, |since| now_us.saturating_sub(since));
        times_us.delayed = self.delayed_us;
        CheckpointRecord {
            id,
            start,
            kind: self.kind,
            barrier_ms: barrier_us / 1000,
            writers,
            rows: part.rows,
            dead_letters: part.dead_letters,
            merged: part.merged,
            sent: part.sent,
            buckets: buckets(&part.buckets),
            partitions: self.partitions.unwrap_or_default(),
            requests: part.requests,
            held_bytes_max: part.held_bytes_max,
            memory_bytes_max: part.memory_bytes_max,
            times_us,
            commits: self.commits.finish(),
            loads: part.loads,
        }
    }
}

fn buckets(bytes: &BTreeMap<u32, u64>) -> BucketBytes {
    let mut largest: Vec<(u32, u64)> = bytes.iter().map(|(id, bytes)| (*id, *bytes)).collect();
    let total = largest.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
    let count = largest.len() as u64;
    largest.sort_by_key(|(bucket, bytes)| (std::cmp::Reverse(*bytes), *bucket));
    largest.truncate(BUCKETS_LISTED_MAX);
    BucketBytes { count, total, largest }
}

impl Commits {
    fn add(&mut self, partition: &str, ms: u64) {
        self.durations.add(ms);
        let slower = self.slowest.iter().take_while(|slow| slow.ms >= ms).count();
        if slower < SLOWEST_MAX {
            self.slowest.insert(slower, SlowPartition { partition: String::from(partition), ms });
            self.slowest.truncate(SLOWEST_MAX);
        }
    }

    fn finish(self) -> CommitTimes {
        let Self { durations, at_once_max, slowest } = self;
        let (count, max_ms) = (durations.count(), durations.max());
        CommitTimes { count, median_ms: durations.median(), max_ms, at_once_max, slowest }
    }
}

/// Records that are kept in memory.
const RECORDS_MAX: usize = 128;
/// Buckets that a record lists.
const BUCKETS_LISTED_MAX: usize = 64;
/// Partitions that a record names.
const SLOWEST_MAX: usize = 5;
