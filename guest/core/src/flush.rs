//! The bucket that flushes next, and the number that flush at once.
//!
//! After `buffer` in a row's way, before its pack is submitted: the queue and the limit of the
//! writer's `outbox`, which flushes. Invariant: a bucket is queued at most once; a partition that
//! waits costs nothing; the number of
//! packs under way never exceeds the limit, which falls by half when the service asks for less and
//! rises by one for each full round of acknowledgements.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::num::NonZeroU32;

use upsert_sink_format::id::{BucketId, Millis};

use crate::partition::PartitionIndex;

/// Packs of one writer under way at once, over all partitions: bounds what the host holds for it.
const CONCURRENT_MOST: u32 = 64;

/// Buckets that are due, by partition: within one the oldest first, over several in turns.
///
/// There may be thousands of partitions, and most of them wait: for a session, or for a pack of
/// theirs. Those are not looked at until they are woken.
#[derive(Clone, Debug, Default)]
pub struct FlushQueue {
    partitions: Vec<DueBuckets>,
    /// Partitions that may have a bucket to flush, each once.
    ready: VecDeque<PartitionIndex>,
    due: usize,
}

/// The buckets of one partition that are due.
#[derive(Clone, Debug, Default)]
struct DueBuckets {
    oldest_first: VecDeque<BucketId>,
    /// A bit for each bucket up to the highest that was due.
    queued: Vec<u32>,
    ready: bool,
}

impl FlushQueue {
    /// Makes a bucket due; one that is due already keeps its place.
    pub fn push(&mut self, partition: PartitionIndex, bucket: BucketId) {
        let index = partition.0 as usize;
        if index >= self.partitions.len() {
            self.partitions.resize_with(index + 1, DueBuckets::default);
        }
        if self.partitions[index].push(bucket) {
            self.due += 1;
            self.wake(partition);
        }
    }

    /// Something has changed for a partition: its buckets are looked at again.
    pub fn wake(&mut self, partition: PartitionIndex) {
        let Some(due) = self.partitions.get_mut(partition.0 as usize) else { return };
        if !due.ready && !due.oldest_first.is_empty() {
            due.ready = true;
            self.ready.push_back(partition);
        }
    }

    /// The same for all partitions.
    pub fn wake_all(&mut self) {
        for index in 0..self.partitions.len() {
            self.wake(PartitionIndex(u32::try_from(index).expect("indices are 32 bits wide")));
        }
    }

    /// Takes a bucket that may flush now. `choose` picks the place of one among those of a
    /// partition; a partition for which it picks none waits until it is woken.
    pub fn take(
        &mut self,
        mut choose: impl FnMut(PartitionIndex, &VecDeque<BucketId>) -> Option<usize>,
    ) -> Option<(PartitionIndex, BucketId)> {
        while let Some(partition) = self.ready.pop_front() {
            let due = &mut self.partitions[partition.0 as usize];
            due.ready = false;
            if let Some(at) = choose(partition, &due.oldest_first) {
                let bucket = due.remove(at);
                self.due -= 1;
                self.wake(partition);
                return Some((partition, bucket));
            }
        }
        None
    }

    /// The number of buckets that are due.
    pub fn len(&self) -> usize {
        self.due
    }

    /// Whether none is due.
    pub fn is_empty(&self) -> bool {
        self.due == 0
    }

    /// Forgets all: after a barrier nothing is buffered.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

impl DueBuckets {
    /// False if it is due already.
    fn push(&mut self, bucket: BucketId) -> bool {
        let (word, bit) = (bucket.0 as usize / 32, 1 << (bucket.0 % 32));
        if word >= self.queued.len() {
            self.queued.resize(word + 1, 0);
        }
        let fresh = self.queued[word] & bit == 0;
        if fresh {
            self.queued[word] |= bit;
            self.oldest_first.push_back(bucket);
        }
        fresh
    }

    fn remove(&mut self, at: usize) -> BucketId {
        let bucket = self.oldest_first.remove(at).expect("the place of one that is due");
        self.queued[bucket.0 as usize / 32] &= !(1 << (bucket.0 % 32));
        bucket
    }
}

/// The number of packs that may be under way: additive increase, multiplicative decrease.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    allowed: u32,
    acknowledged: u32,
}

impl Default for ConcurrencyLimit {
    fn default() -> Self {
        Self { allowed: CONCURRENT_MOST, acknowledged: 0 }
    }
}

impl ConcurrencyLimit {
    /// Packs that may be under way.
    pub fn allowed(&self) -> u32 {
        self.allowed
    }

    /// A pack was acknowledged.
    pub fn acknowledge(&mut self) {
        self.acknowledged += 1;
        if self.acknowledged >= self.allowed {
            self.acknowledged = 0;
            self.allowed = (self.allowed + 1).min(CONCURRENT_MOST);
        }
    }

    /// The service asked for less.
    pub fn slow_down(&mut self) {
        self.allowed = (self.allowed / 2).max(1);
        self.acknowledged = 0;
    }
}

/// The number of packs of one partition that may be under way: as the user says, or as many as
/// bring more of them through.
///
/// More are tried now and then, and fewer: a line with a long way takes more packs at once in the
/// same time, a full one only takes longer for each. A round is as many acknowledgements as packs
/// may be under way.
#[derive(Clone, Debug)]
pub struct PartitionLimit {
    allowed: u32,
    adapts: bool,
    trial: Trial,
    /// Rounds until the next trial, after one that gained nothing.
    rest: u32,
    /// Whether fewer are tried next.
    fewer_next: bool,
    /// The acknowledgements of this round, and the sum of their times.
    round: (u32, Millis),
    /// Whether a bucket had to wait for another in this round.
    held_up: bool,
}

/// The trial of another number.
#[derive(Clone, Copy, Debug)]
enum Trial {
    /// Nothing, for so many rounds.
    Rests(u32),
    /// Whether another number is better than this one, at which so many packs came through.
    Of { before: u32, rate: u64 },
}

impl PartitionLimit {
    /// As many as the user says; adapting, if he does not.
    pub fn new(fixed: Option<NonZeroU32>) -> Self {
        Self {
            allowed: fixed.map_or(CONCURRENT_FIRST, NonZeroU32::get),
            adapts: fixed.is_none(),
            trial: Trial::Rests(0),
            rest: 1,
            fewer_next: false,
            round: (0, Millis(0)),
            held_up: false,
        }
    }

    /// Packs of one partition that may be under way.
    pub fn allowed(&self) -> u32 {
        self.allowed
    }

    /// A bucket is due, and waits for another of its partition.
    pub fn hold_up(&mut self) {
        self.held_up = true;
    }

    /// A pack was acknowledged at its first attempt, after so long.
    pub fn acknowledge(&mut self, took: Millis) {
        let (count, sum) = self.round;
        self.round = (count + 1, sum.plus(took));
        if self.adapts && count + 1 >= self.allowed {
            self.end_round();
        }
    }

    fn end_round(&mut self) {
        let (count, Millis(sum)) = core::mem::take(&mut self.round);
        // Where no bucket waits, the number is not what limits.
        if !core::mem::take(&mut self.held_up) {
            return;
        }
        // So many come through in a thousand seconds while so many are always under way.
        let rate = u64::from(self.allowed) * u64::from(count) * 1_000_000 / sum.max(1);
        match self.trial {
            Trial::Rests(0) => self.try_another(rate),
            Trial::Rests(rounds) => self.trial = Trial::Rests(rounds - 1),
            Trial::Of { before, rate: rate_before } => {
                let (more, fewer) = (self.allowed > before, self.allowed < before);
                // Two fifths of what more could bring; a tenth is given for fewer.
                let gain = u64::from(self.allowed.saturating_sub(before)) * 4;
                let gains =
                    rate * u64::from(before) * 10 >= rate_before * (u64::from(before) * 10 + gain);
                if more && gains {
                    self.rest = 1;
                    self.try_another(rate);
                } else if fewer && rate * 10 >= rate_before * 9 {
                    self.trial = Trial::Rests(self.rest);
                } else {
                    self.allowed = before;
                    self.rest = (self.rest * 2).min(REST_MOST);
                    self.trial = Trial::Rests(self.rest);
                }
            }
        }
    }

    fn try_another(&mut self, rate: u64) {
        let before = self.allowed;
        let fewer = self.fewer_next && before > CONCURRENT_FIRST;
        let step = if fewer { before / 3 } else { before / 2 };
        self.allowed = match fewer {
            true => (before - step.max(1)).max(CONCURRENT_FIRST),
            false => (before + step.max(1)).min(CONCURRENT_MOST),
        };
        self.fewer_next = !fewer && self.rest > 1;
        self.trial = match self.allowed == before {
            true => Trial::Rests(REST_MOST),
            false => Trial::Of { before, rate },
        };
    }

    /// The service asked for less.
    pub fn slow_down(&mut self) {
        if self.adapts {
            self.allowed = (self.allowed / 2).max(1);
            self.rest = (self.rest * 2).min(REST_MOST);
            (self.trial, self.round) = (Trial::Rests(self.rest), (0, Millis(0)));
        }
    }
}

/// The vendor's default, from which the limit rises.
const CONCURRENT_FIRST: u32 = 2;

/// Rounds between two trials, at most.
const REST_MOST: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit after some rounds over a line on which a pack takes a time that depends on how
    /// many are under way.
    fn limit_after(rounds: u32, took: impl Fn(u32) -> u64) -> u32 {
        let mut limit = PartitionLimit::new(None);
        for _ in 0..rounds {
            let allowed = limit.allowed();
            limit.hold_up();
            (0..allowed).for_each(|_| limit.acknowledge(Millis(took(allowed))));
        }
        limit.allowed()
    }

    #[test]
    fn a_long_way_is_filled_and_a_full_line_is_not() {
        assert!(limit_after(8, |_| 100) >= 16, "the way alone takes time");
        assert_eq!(limit_after(12, |_| 100), CONCURRENT_MOST);
        for rounds in 0..200 {
            let full = limit_after(rounds, |at_once| 50 * u64::from(at_once));
            assert!(full <= 3, "{full} after {rounds} rounds: each only takes longer");
            let mixed = limit_after(20 + rounds, |at_once| 100 + 5 * u64::from(at_once));
            assert!((12..=45).contains(&mixed), "{mixed}: a way, and then a line that is full");
        }
    }

    #[test]
    fn a_limit_that_nobody_feels_does_not_rise_and_one_that_is_set_never_moves() {
        let mut limit = PartitionLimit::new(None);
        (0..100).for_each(|_| limit.acknowledge(Millis(10)));
        assert_eq!(limit.allowed(), CONCURRENT_FIRST, "no bucket waited");
        let mut fixed = PartitionLimit::new(NonZeroU32::new(7));
        fixed.slow_down();
        for took in 0..100 {
            fixed.hold_up();
            fixed.acknowledge(Millis(took));
        }
        assert_eq!(fixed.allowed(), 7);
        (0..9).for_each(|_| limit.slow_down());
        assert_eq!(limit.allowed(), 1);
        for _ in 0..100 {
            limit.hold_up();
            limit.acknowledge(Millis(10));
        }
        assert!(limit.allowed() > 1, "it rises again");
    }

    const A: PartitionIndex = PartitionIndex(0);
    const B: PartitionIndex = PartitionIndex(1);

    #[test]
    fn the_oldest_bucket_that_may_flush_goes_first() {
        let mut queue = FlushQueue::default();
        for bucket in [0, 1, 2, 1] {
            queue.push(A, BucketId(bucket));
        }
        assert_eq!(queue.len(), 3, "a bucket is queued once");
        let taken = queue.take(|_, due| due.iter().position(|bucket| bucket.0 != 0));
        assert_eq!(taken, Some((A, BucketId(1))));
        assert_eq!(queue.take(|_, _| Some(0)), Some((A, BucketId(0))));
        assert_eq!(queue.take(|_, _| None), None);
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_partition_that_cannot_flush_is_not_looked_at_until_it_is_woken() {
        let mut queue = FlushQueue::default();
        queue.push(A, BucketId(0));
        queue.push(B, BucketId(40));
        let mut looked = Vec::new();
        let taken = queue.take(|partition, _| {
            looked.push(partition);
            (partition == B).then_some(0)
        });
        assert_eq!(taken, Some((B, BucketId(40))));
        assert_eq!(looked, [A, B]);
        assert_eq!(queue.take(|_, _| panic!("A waits, and B has nothing")), None);
        queue.wake(A);
        queue.wake(A);
        queue.wake(B);
        assert_eq!(queue.take(|_, _| Some(0)), Some((A, BucketId(0))));
        assert!(queue.is_empty());
        queue.push(A, BucketId(0));
        assert_eq!(queue.take(|_, _| Some(0)), Some((A, BucketId(0))), "it may be due again");
    }

    #[test]
    fn partitions_take_turns() {
        let mut queue = FlushQueue::default();
        for bucket in 0..2 {
            queue.push(A, BucketId(bucket));
            queue.push(B, BucketId(bucket));
        }
        let turns = core::iter::from_fn(|| queue.take(|_, _| Some(0)));
        let turns: Vec<_> = turns.map(|(partition, bucket)| (partition.0, bucket.0)).collect();
        assert_eq!(turns, [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn the_limit_falls_by_half_and_rises_by_one_a_round() {
        let mut limit = ConcurrencyLimit::default();
        limit.slow_down();
        assert_eq!(limit.allowed(), CONCURRENT_MOST / 2);
        for _ in 0..CONCURRENT_MOST / 2 {
            limit.acknowledge();
        }
        assert_eq!(limit.allowed(), CONCURRENT_MOST / 2 + 1);
        (0..20).for_each(|_| limit.slow_down());
        assert_eq!(limit.allowed(), 1);
    }
}
