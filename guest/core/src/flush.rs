//! The bucket that flushes next, and the number that flush at once.
//!
//! After `buffer` in a row's way, before its pack is submitted: the queue and the limit of the
//! writer's `outbox`, which flushes. Invariant: a bucket is queued at most once; the number of
//! packs under way never exceeds the limit, which falls by half when the service asks for less and
//! rises by one for each full round of acknowledgements.

use alloc::collections::VecDeque;

use upsert_sink_format::id::BucketId;

use crate::partition::PartitionIndex;

/// Packs of one writer under way at once, over all partitions: bounds what the host holds for it.
const CONCURRENT_MOST: u32 = 64;

/// Buckets that are due, oldest first.
#[derive(Clone, Debug, Default)]
pub struct FlushQueue {
    due: VecDeque<(PartitionIndex, BucketId)>,
}

impl FlushQueue {
    /// Puts a bucket at the end. The caller keeps a bucket from being queued twice.
    pub fn push(&mut self, partition: PartitionIndex, bucket: BucketId) {
        self.due.push_back((partition, bucket));
    }

    /// Takes the oldest bucket that may flush now; the others keep their order.
    pub fn take(
        &mut self,
        mut may_flush: impl FnMut(PartitionIndex, BucketId) -> bool,
    ) -> Option<(PartitionIndex, BucketId)> {
        let at = self.due.iter().position(|(partition, bucket)| may_flush(*partition, *bucket))?;
        self.due.remove(at)
    }

    /// The number that are due.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether none is due.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Forgets all: after a barrier nothing is buffered.
    pub fn clear(&mut self) {
        self.due.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_bucket_that_may_flush_goes_first() {
        let mut queue = FlushQueue::default();
        for bucket in 0..3 {
            queue.push(PartitionIndex(0), BucketId(bucket));
        }
        let taken = queue.take(|_, bucket| bucket.0 != 0);
        assert_eq!(taken, Some((PartitionIndex(0), BucketId(1))));
        assert_eq!(queue.take(|_, _| true), Some((PartitionIndex(0), BucketId(0))));
        assert_eq!(queue.take(|_, _| false), None);
        assert_eq!(queue.len(), 1);
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
