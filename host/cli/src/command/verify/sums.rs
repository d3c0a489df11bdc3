//! The sums of buckets: how many rows each holds, and the sum of their digests.
//!
//! Between `bounded.rs` with `table.rs`, which add whole rows, and `mod.rs`, which asks where both
//! differ. Invariant: a sum does not depend on the order of rows, and every bucket of every
//! partition of either side is compared, those without rows too.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::codec::BucketPlace;
use crate::failure::bad_input;

/// The rows of one bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BucketSum {
    /// How many.
    pub(super) rows: u64,
    /// Their digests of 128 bits, added up: a row that is there twice does not vanish.
    digests: u128,
}

/// The sums of one side, by partition and bucket.
#[derive(Debug, Default)]
pub(super) struct Sums {
    buckets: u32,
    partitions: BTreeMap<u32, Vec<BucketSum>>,
    partitions_max: usize,
}

impl BucketSum {
    /// Adds a whole row.
    pub(super) fn add(&mut self, row: &[u8]) {
        let digest = Sha256::digest(row);
        let half = digest.first_chunk().expect("it has 32 bytes");
        self.rows += 1;
        self.digests = self.digests.wrapping_add(u128::from_le_bytes(*half));
    }
}

impl Sums {
    /// No rows, in so many buckets a partition. They may take this much memory.
    pub(super) fn new(buckets: u32, bytes_max: usize) -> Self {
        let partitions_max = bytes_max / (buckets as usize * size_of::<BucketSum>());
        Self { buckets, partitions: BTreeMap::new(), partitions_max }
    }

    /// Adds a row of the fold.
    ///
    /// Errors: more partitions than memory is given for.
    pub(super) fn add(&mut self, place: BucketPlace, row: &[u8]) -> anyhow::Result<()> {
        if !self.partitions.contains_key(&place.partition) {
            self.insert(place.partition, vec![BucketSum::default(); self.buckets as usize])?;
        }
        let sums = self.partitions.get_mut(&place.partition);
        let sum = sums.and_then(|sums| sums.get_mut(place.bucket as usize));
        sum.expect("a hash is taken modulo the buckets").add(row);
        Ok(())
    }

    /// Takes over the sums of a partition.
    ///
    /// Errors: as of `add`.
    pub(super) fn insert(&mut self, partition: u32, sums: Vec<BucketSum>) -> anyhow::Result<()> {
        if self.partitions.len() >= self.partitions_max {
            let bytes = self.buckets as usize * size_of::<BucketSum>() * SHARE;
            return Err(bad_input(format!(
                "--memory: it has room for the sums of {} partitions with {} buckets, and there \
                 are more; give {bytes} bytes for each",
                self.partitions_max, self.buckets
            )));
        }
        self.partitions.insert(partition, sums);
        Ok(())
    }

    /// The sums of a partition; none if no row of it was seen.
    pub(super) fn of(&self, partition: u32) -> Option<&[BucketSum]> {
        self.partitions.get(&partition).map(Vec::as_slice)
    }

    /// All rows.
    pub(super) fn rows(&self) -> u64 {
        self.partitions.values().flatten().map(|sum| sum.rows).sum()
    }

    /// The buckets of the first `partitions` partitions that are not the same on both sides, and
    /// how many were compared.
    pub(super) fn differing(&self, other: &Self, partitions: u32) -> (BTreeSet<BucketPlace>, u64) {
        let (mut differing, mut compared) = (BTreeSet::new(), 0);
        for partition in 0..partitions {
            let sum = |side: &Self, bucket: u32| {
                let sums = side.of(partition);
                sums.map(|sums| sums[bucket as usize]).unwrap_or_default()
            };
            for bucket in 0..self.buckets {
                compared += 1;
                if sum(self, bucket) != sum(other, bucket) {
                    differing.insert(BucketPlace { partition, bucket });
                }
            }
        }
        (differing, compared)
    }
}

/// The sums of one side may take this part of the memory.
pub(super) const SHARE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: usize = 1 << 20;

    fn sums(rows: &[(u32, u32, &str)]) -> Sums {
        let mut sums = Sums::new(3, BYTES);
        for (partition, bucket, row) in rows {
            let place = BucketPlace { partition: *partition, bucket: *bucket };
            sums.add(place, row.as_bytes()).expect("there is room");
        }
        sums
    }

    #[test]
    fn the_order_of_rows_does_not_matter_and_nothing_else_is_left_out() {
        let one = sums(&[(0, 0, "a"), (0, 0, "b"), (1, 2, "c")]);
        let same = sums(&[(1, 2, "c"), (0, 0, "b"), (0, 0, "a")]);
        assert_eq!(one.differing(&same, 2), (BTreeSet::new(), 6));
        assert_eq!(one.rows(), 3);
        for other in [
            sums(&[(0, 0, "a"), (0, 0, "b"), (1, 1, "c")]),
            sums(&[(0, 0, "a"), (0, 0, "b"), (1, 2, "d")]),
            sums(&[(0, 0, "a"), (0, 0, "b")]),
            sums(&[(0, 0, "a"), (0, 0, "b"), (1, 2, "c"), (1, 2, "c")]),
        ] {
            let (differing, compared) = one.differing(&other, 2);
            assert_eq!(compared, 6, "an empty bucket is compared, too");
            assert!(differing.iter().all(|place| place.partition == 1), "{differing:?}");
            assert!(!differing.is_empty());
        }
    }

    #[test]
    fn a_row_that_is_there_twice_does_not_cancel_itself() {
        let (none, twice) = (sums(&[]), sums(&[(0, 1, "a"), (0, 1, "a")]));
        assert_eq!(none.differing(&twice, 1).0.len(), 1);
    }

    #[test]
    fn more_partitions_than_memory_is_given_for_are_refused() {
        let mut sums = Sums::new(4, 2 * 4 * size_of::<BucketSum>());
        let place = |partition| BucketPlace { partition, bucket: 0 };
        sums.add(place(0), b"a").expect("one");
        sums.add(place(1), b"a").expect("two");
        sums.add(place(1), b"b").expect("the same");
        let error = sums.add(place(2), b"a").expect_err("three").to_string();
        assert!(error.contains("--memory") && error.contains("2 partitions"), "{error}");
    }
}
