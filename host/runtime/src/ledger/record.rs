//! The record of one checkpoint: what it took in, what it sent, and where its time went.
//!
//! Made by `book.rs`, read by embedders, by `advisor/` and by the command line. Invariant: a record
//! is bounded, whatever the number of buckets and partitions; every number says its unit, and times
//! are microseconds unless a name says otherwise.

use serde::{Deserialize, Serialize};

/// One checkpoint, from its first row until its last session is known to be committed.
///
/// Times are summed over writers and over what they do at once, unless it is said otherwise: with
/// four writers a second of the clock has four.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointRecord {
    /// The engine's number of it.
    pub id: u64,
    /// The start of the sink that passed it, from one. With the number it is unique.
    pub start: u64,
    /// The reason for which it was taken.
    pub kind: CheckpointKind,
    /// When its barrier was handed to the sink, in milliseconds since the Unix epoch.
    pub barrier_ms: u64,
    /// The sink's writers.
    pub writers: u32,
    /// Rows that writers took.
    pub rows: u64,
    /// Rows among them that were set aside.
    pub dead_letters: u64,
    /// Rows among them that a later row of their key replaced before they were sent.
    pub merged: u64,
    /// The packs that the service has acknowledged.
    pub sent: SentPacks,
    /// Their bytes by bucket.
    pub buckets: BucketBytes,
    /// Partitions that packs were sent to.
    pub partitions: u64,
    /// Attempts at operations of the Tunnel: packs, sessions and commits.
    pub requests: RequestCount,
    /// The most bytes of rows that one writer held, in buffers and in packs under way.
    pub held_bytes_max: u64,
    /// The largest memory of one writer's sandbox so far, in bytes; zero without a sandbox.
    pub memory_bytes_max: u64,
    /// Where the time went, in microseconds.
    pub times_us: CheckpointTimes,
    /// How long its commits took.
    pub commits: CommitTimes,
    /// Packs by the number that one writer had under way: class `n` is of those with 2^n and more.
    pub loads: [PackLoad; LOAD_CLASSES],
}

/// The reason for which a checkpoint was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// To go on from it.
    #[default]
    Checkpoint,
    /// For an intermediate savepoint, whose sessions the next checkpoint commits.
    Savepoint,
    /// It was taken before this start, which has committed what was left of it.
    Restored,
}

/// Packs that were acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentPacks {
    /// The number of packs.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Their bytes before compression, each pack once.
    pub bytes: u64,
    /// Their bytes as they were sent, each pack once.
    pub wire_bytes: u64,
    /// Attempts at packs after the first.
    pub repeats: u64,
    /// The most packs that one writer had under way at once.
    pub at_once_max: u32,
}

/// The bytes of acknowledged packs by bucket, over all partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BucketBytes {
    /// Buckets with bytes.
    pub count: u64,
    /// The bytes of all of them; divided by `count` it is the mean.
    pub total: u64,
    /// The buckets with the most bytes, largest first: number and bytes.
    pub largest: Vec<(u32, u64)>,
}

/// Attempts at operations of the Tunnel, and how those ended that did not succeed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCount {
    /// All of them.
    pub made: u64,
    /// Refused because of a quota: `SlotExceeded`, 429 or 503.
    pub slowed_down: u64,
    /// Refused for any other reason.
    pub refused: u64,
    /// Ended without a clear answer.
    pub in_doubt: u64,
}

/// Where the time of a checkpoint went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointTimes {
    /// From the hand-over of its first row to its barrier, by the clock.
    pub rows: u64,
    /// From the barrier to the last writer's snapshot, by the clock.
    pub flush: u64,
    /// From its completion until all of it was known to be committed, by the clock.
    pub commit: u64,
    /// How long the engine held its barrier back, because commits were behind, by the clock.
    pub delayed: u64,
    /// Writers that took rows: from their snapshot before until they took the barrier.
    pub open: u64,
    /// Within `open`: writers that would have taken rows, and had none.
    pub waiting: u64,
    /// Batches on their way into a writer: from the hand-over until it took them.
    pub queued: u64,
    /// Attempts at packs.
    pub network: u64,
    /// Writers with at least one pack under way.
    pub sending: u64,
    /// Operations that wait after a refusal because of a quota, until their next attempt.
    pub slots: u64,
    /// Appends to the journal, until they are durable.
    pub disk: u64,
    /// Calls of the guest, of all roles.
    pub guest: u64,
}

/// How long commits took: from the first attempt at one until it is known, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommitTimes {
    /// Sessions that were committed: one for each partition, unless a doubt made more.
    pub count: u64,
    /// The median.
    pub median_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// The most commits that were under way at once.
    pub at_once_max: u32,
    /// The partitions that took longest, longest first.
    pub slowest: Vec<SlowPartition>,
}

/// A partition whose commit took long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowPartition {
    /// Its name; empty for a table without partitions.
    pub partition: String,
    /// How long its commit took, in milliseconds.
    pub ms: u64,
}

/// Packs that were sent at a similar load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PackLoad {
    /// Attempts at packs.
    pub packs: u64,
    /// The time of all of them together, in microseconds.
    pub us: u64,
}

/// The sum of many records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerTotals {
    /// Checkpoints whose commits are known.
    pub checkpoints: u64,
    /// Checkpoints among them that the engine held back.
    pub delayed: u64,
    /// Rows that writers took.
    pub rows: u64,
    /// Rows that were set aside.
    pub dead_letters: u64,
    /// Rows that a later row of their key replaced before they were sent.
    pub merged: u64,
    /// Packs that were acknowledged.
    pub sent: SentPacks,
    /// Attempts at operations of the Tunnel.
    pub requests: RequestCount,
    /// Where the time went, in microseconds.
    pub times_us: CheckpointTimes,
}

impl CheckpointRecord {
    /// The time of all writers, in microseconds: while they took rows, and while they flushed.
    pub fn writers_us(&self) -> u64 {
        let flush = self.times_us.flush.saturating_mul(u64::from(self.writers));
        self.times_us.open.saturating_add(flush)
    }
}

impl LedgerTotals {
    /// Takes up one more checkpoint.
    pub(crate) fn add(&mut self, record: &CheckpointRecord) {
        let sum = |total: &mut u64, more: u64| *total = total.saturating_add(more);
        sum(&mut self.checkpoints, 1);
        sum(&mut self.delayed, u64::from(record.times_us.delayed > 0));
        sum(&mut self.rows, record.rows);
        sum(&mut self.dead_letters, record.dead_letters);
        sum(&mut self.merged, record.merged);
        self.sent.join(&record.sent);
        self.requests.join(&record.requests);
        self.times_us.join(&record.times_us);
    }
}

impl SentPacks {
    pub(crate) fn join(&mut self, other: &Self) {
        self.packs = self.packs.saturating_add(other.packs);
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.wire_bytes = self.wire_bytes.saturating_add(other.wire_bytes);
        self.repeats = self.repeats.saturating_add(other.repeats);
        self.at_once_max = self.at_once_max.max(other.at_once_max);
    }
}

impl RequestCount {
    pub(crate) fn join(&mut self, other: &Self) {
        self.made = self.made.saturating_add(other.made);
        self.slowed_down = self.slowed_down.saturating_add(other.slowed_down);
        self.refused = self.refused.saturating_add(other.refused);
        self.in_doubt = self.in_doubt.saturating_add(other.in_doubt);
    }
}

impl PackLoad {
    pub(crate) fn join(&mut self, other: &Self) {
        self.packs = self.packs.saturating_add(other.packs);
        self.us = self.us.saturating_add(other.us);
    }
}

impl CheckpointTimes {
    pub(crate) fn join(&mut self, other: &Self) {
        let sum = |total: &mut u64, more: u64| *total = total.saturating_add(more);
        sum(&mut self.rows, other.rows);
        sum(&mut self.flush, other.flush);
        sum(&mut self.commit, other.commit);
        sum(&mut self.delayed, other.delayed);
        sum(&mut self.open, other.open);
        sum(&mut self.waiting, other.waiting);
        sum(&mut self.queued, other.queued);
        sum(&mut self.network, other.network);
        sum(&mut self.sending, other.sending);
        sum(&mut self.slots, other.slots);
        sum(&mut self.disk, other.disk);
        sum(&mut self.guest, other.guest);
    }
}

/// Classes of load: a guest has at most 64 packs under way, in class 6; the last is for others.
pub const LOAD_CLASSES: usize = 8;
