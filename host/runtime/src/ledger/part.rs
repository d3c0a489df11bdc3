//! The measurements of one instance between two hand-overs.
//!
//! Filled by `driver.rs`, `instance.rs` and the roles, handed over to `book.rs`: by a writer with
//! its snapshot, by the other roles after each of their calls. Invariant: each instance counts for
//! itself, so that rows before a writer's barrier never mix with rows behind it; what a part holds
//! is bounded.

use std::collections::BTreeMap;

use upsert_sink_format::tunnel::{Outcome, RefusalKind};

use crate::ledger::record::{CheckpointTimes, LOAD_CLASSES, PackLoad, RequestCount, SentPacks};
use crate::operation::{Operation, SubmittedPack};

/// An attempt that has ended, and whose outcome somebody waits for.
pub(crate) struct Measured<'a> {
    /// The operation of the Tunnel; none for an append to the journal.
    pub(crate) operation: Option<&'a Operation>,
    /// The key of a record that was appended.
    pub(crate) journal_key: Option<&'a str>,
    /// Its outcome.
    pub(crate) outcome: &'a Outcome,
    /// If a commit is known now: how long it took, repetitions included.
    pub(crate) known_ms: Option<u64>,
    /// How it was made.
    pub(crate) trial: Trial,
    /// How long it took.
    pub(crate) took_us: u64,
    /// Counted attempts of the instance that were under way at its begin or at its end, whichever
    /// were more, itself included.
    pub(crate) at_once: u32,
}

/// How an attempt was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trial {
    /// Whether it was not the first one of its ticket.
    pub(crate) repeated: bool,
    /// How long the ticket waited for it after a refusal because of a quota.
    pub(crate) slots_us: u64,
    /// Whether it counts as under way: a pack or a commit.
    pub(crate) counted: bool,
    /// How many were under way when it began, itself included.
    at_begin: u32,
}

impl Trial {
    pub(crate) fn new(repeated: bool, slots_us: u64, counted: bool) -> Self {
        Self { repeated, slots_us, counted, at_begin: 0 }
    }
}

/// All that was measured of one instance.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstancePart {
    pub(crate) rows: u64,
    pub(crate) dead_letters: u64,
    pub(crate) merged: u64,
    pub(crate) sent: SentPacks,
    pub(crate) requests: RequestCount,
    /// Bytes of acknowledged packs by bucket, as far as there is room.
    pub(crate) buckets: BTreeMap<u32, u64>,
    /// The partition of each session that packs were sent to.
    pub(crate) sessions: BTreeMap<String, String>,
    pub(crate) held_bytes_max: u64,
    pub(crate) memory_bytes_max: u64,
    pub(crate) times: CheckpointTimes,
    pub(crate) loads: [PackLoad; LOAD_CLASSES],
    /// When its first row was handed over.
    pub(crate) first_row_us: Option<u64>,
    /// When it began.
    pub(super) since_us: u64,
    pub(super) under_way: u32,
    /// Since when something is under way.
    pub(super) sending_since_us: u64,
}

impl Measured<'_> {
    /// The session that it concerns, and its partition as far as that is told.
    pub(crate) fn session(&self) -> Option<(&str, &str)> {
        match (self.operation.and_then(Operation::session), self.journal_key) {
            (Some(session), _) => Some((&session.id.0, &session.partition)),
            // A record of a session has its id as key; any other key is that of no session.
            (None, key) => key.map(|key| (key, "")),
        }
    }
}

impl InstancePart {
    /// One that begins now.
    pub(crate) fn begin(now_us: u64) -> Self {
        Self { since_us: now_us, ..Self::default() }
    }

    /// Hands over what was measured, and begins anew.
    pub(crate) fn take(&mut self, now_us: u64) -> Self {
        self.sent_until(now_us);
        let next =
            Self { under_way: self.under_way, sending_since_us: now_us, ..Self::begin(now_us) };
        std::mem::replace(self, next)
    }

    /// The guest has counted. These names are those of the contract's messages (`metrics.rs`).
    pub(crate) fn counted(&mut self, counters: &BTreeMap<String, u64>) {
        let of = |name: &str| counters.get(name).copied().unwrap_or_default();
        self.rows = self.rows.saturating_add(of("messaging.client.consumed.messages"));
        self.dead_letters = self.dead_letters.saturating_add(of("upsert_sink.rows.dead_letter"));
        self.merged = self.merged.saturating_add(of("upsert_sink.rows.merged"));
    }

    /// The writer takes a batch that was handed over at that time.
    pub(crate) fn batch_taken(&mut self, handed_us: u64, now_us: u64) {
        self.first_row_us.get_or_insert(handed_us);
        self.times.queued += now_us.saturating_sub(handed_us);
    }

    /// The writer takes a barrier: from now on it takes no rows.
    pub(crate) fn barrier_taken(&mut self, now_us: u64) {
        self.times.open += now_us.saturating_sub(self.since_us);
    }

    /// The writer holds so many bytes of rows.
    pub(crate) fn holds(&mut self, bytes: u64) {
        self.held_bytes_max = self.held_bytes_max.max(bytes);
    }

    /// An attempt begins.
    pub(crate) fn begins(&mut self, trial: &mut Trial, now_us: u64) {
        if trial.counted {
            if self.under_way == 0 {
                self.sending_since_us = now_us;
            }
            self.under_way += 1;
            trial.at_begin = self.under_way;
        }
    }

    /// An attempt ends. Answers how many were under way.
    pub(crate) fn ends(&mut self, trial: Trial, now_us: u64) -> u32 {
        let at_once = self.under_way.max(trial.at_begin);
        if trial.counted {
            self.sent_until(now_us);
            self.under_way = self.under_way.saturating_sub(1);
        }
        at_once
    }

    fn sent_until(&mut self, now_us: u64) {
        if self.under_way > 0 {
            self.times.sending += now_us.saturating_sub(self.sending_since_us);
            self.sending_since_us = now_us;
        }
    }

    /// An attempt has ended whose outcome counts.
    pub(crate) fn add(&mut self, measured: &Measured<'_>) {
        let Some(operation) = measured.operation else {
            self.times.disk += measured.took_us;
            return;
        };
        self.times.slots += measured.trial.slots_us;
        self.requests.made += 1;
        match measured.outcome {
            Outcome::Done(_) => {}
            Outcome::InDoubt(_) => self.requests.in_doubt += 1,
            Outcome::Refused(refusal) if refusal.kind == RefusalKind::SlowDown => {
                self.requests.slowed_down += 1;
            }
            Outcome::Refused(_) => self.requests.refused += 1,
        }
        if let Operation::PutPack(pack) = operation {
            self.add_pack(pack, measured);
        }
    }

    fn add_pack(&mut self, pack: &SubmittedPack, measured: &Measured<'_>) {
        let Measured { trial, took_us, at_once, .. } = *measured;
        self.times.network += took_us;
        self.sent.repeats += u64::from(trial.repeated);
        self.sent.at_once_max = self.sent.at_once_max.max(at_once);
        self.loads[load_class(at_once)].join(&PackLoad { packs: 1, us: took_us });
        let (session, partition) = (&pack.session.id.0, &pack.session.partition);
        if !self.sessions.contains_key(session) && self.sessions.len() < SESSIONS_MAX {
            self.sessions.insert(session.clone(), partition.clone());
        }
        if matches!(measured.outcome, Outcome::Done(_)) {
            let bytes = pack.body.plain_bytes() as u64;
            self.sent.packs += 1;
            self.sent.records += u64::from(pack.records);
            self.sent.bytes += bytes;
            self.sent.wire_bytes += pack.body.wire_bytes().unwrap_or_default() as u64;
            if self.buckets.len() < BUCKETS_MAX || self.buckets.contains_key(&pack.bucket) {
                *self.buckets.entry(pack.bucket).or_default() += bytes;
            }
        }
    }

    /// Takes up what another instance has measured for the same checkpoint, or the same instance
    /// for a checkpoint before it that was aborted.
    pub(crate) fn join(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.dead_letters = self.dead_letters.saturating_add(other.dead_letters);
        self.merged = self.merged.saturating_add(other.merged);
        self.sent.join(&other.sent);
        self.requests.join(&other.requests);
        for (bucket, bytes) in other.buckets {
            if self.buckets.len() < BUCKETS_MAX || self.buckets.contains_key(&bucket) {
                let total = self.buckets.entry(bucket).or_default();
                *total = total.saturating_add(bytes);
            }
        }
        self.sessions.extend(other.sessions);
        self.held_bytes_max = self.held_bytes_max.max(other.held_bytes_max);
        self.memory_bytes_max = self.memory_bytes_max.max(other.memory_bytes_max);
        self.times.join(&other.times);
        self.loads.iter_mut().zip(&other.loads).for_each(|(load, more)| load.join(more));
        let first_rows = self.first_row_us.into_iter().chain(other.first_row_us);
        self.first_row_us = first_rows.min();
    }
}

/// The class of so many packs at once: 1, 2, 4, 8, …
fn load_class(at_once: u32) -> usize {
    (at_once.max(1).ilog2() as usize).min(LOAD_CLASSES - 1)
}

/// More buckets than any table has; bounds what a guest can make the host keep.
const BUCKETS_MAX: usize = 65_536;
/// More sessions than one writer has between two checkpoints.
const SESSIONS_MAX: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(part: &mut InstancePart, now_us: u64) -> Trial {
        let mut trial = Trial::new(false, 0, true);
        part.begins(&mut trial, now_us);
        trial
    }

    #[test]
    fn the_time_of_sending_is_that_with_a_pack_under_way() {
        let mut part = InstancePart::begin(0);
        let (first, second) = (begun(&mut part, 10), begun(&mut part, 20));
        assert_eq!((part.ends(first, 30), part.ends(second, 50)), (2, 2));
        part.begins(&mut Trial::new(false, 0, false), 60);
        let third = begun(&mut part, 100);
        assert_eq!(part.ends(third, 101), 1);
        assert_eq!(part.times.sending, 41);
    }

    #[test]
    fn a_part_that_is_taken_leaves_what_is_under_way() {
        let mut part = InstancePart::begin(0);
        let pack = begun(&mut part, 10);
        part.holds(7);
        let first = part.take(30);
        assert_eq!((first.times.sending, first.held_bytes_max), (20, 7));
        assert_eq!(part.ends(pack, 35), 1);
        assert_eq!((part.times.sending, part.held_bytes_max), (5, 0));
    }

    #[test]
    fn loads_are_told_apart_by_powers_of_two() {
        let classes = [0, 1, 2, 3, 4, 64, 1 << 20].map(load_class);
        assert_eq!(classes, [0, 0, 1, 1, 2, 6, 7]);
    }
}
