//! The keys of buckets that differ: which rows are missing, stale, or should not be there.
//!
//! After `sums.rs`, and only if a bucket differs. Invariant: the rows of the fold are compared in
//! rounds that fit in memory; each key of a differing bucket is looked at in exactly one of them;
//! a partition whose sums are not the same as before was changed meanwhile, and that is said.

use std::collections::BTreeSet;

use super::bounded::{FoldedParts, HeldRows};
use super::changes::Partitions;
use super::codec::{BucketPlace, RowCodec, RowKey};
use super::spill::{KeyRange, SpillDirectory};
use super::sums::{BucketSum, Sums};
use super::table::TableReader;

/// A key whose row is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WrongKey {
    pub(super) key: RowKey,
    pub(super) mismatch: Mismatch,
}

/// How a row is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// The table has it, and should not.
    Extra(Box<[u8]>),
    /// The table has it not, and should.
    Missing(Box<[u8]>),
    /// The table has another one: expected, found.
    Stale(Box<[u8]>, Box<[u8]>),
}

/// The keys that were found, and how far the search went.
#[derive(Debug, Default)]
pub(super) struct WrongKeys {
    /// The first ones.
    pub(super) named: Vec<WrongKey>,
    /// All that were found.
    pub(super) count: u64,
    /// Whether the search ended early, because enough were named.
    pub(super) stopped: bool,
    /// Partitions that were not the same when they were read once more.
    pub(super) changed: BTreeSet<u32>,
}

/// Everything that a search needs.
pub(super) struct Search<'a> {
    pub(super) codec: &'a RowCodec,
    pub(super) reader: &'a TableReader<'a>,
    pub(super) partitions: &'a Partitions,
    /// The partitions that the catalog lists.
    pub(super) listed: &'a BTreeSet<u32>,
    /// The sums of the table when it was read first.
    pub(super) found: &'a Sums,
    pub(super) differing: &'a BTreeSet<BucketPlace>,
    /// The rows of a round may take this much memory.
    pub(super) bytes_max: usize,
    /// As many wrong keys are named.
    pub(super) examples: usize,
}

/// The rows of the fold that are looked for at once.
#[derive(Default)]
struct Round {
    ranges: Vec<KeyRange>,
    held: HeldRows,
}

impl Search<'_> {
    /// Looks at every key of the buckets that differ, until enough are named.
    pub(super) async fn run(
        &self,
        mut folded: FoldedParts,
        spill: &SpillDirectory,
    ) -> anyhow::Result<WrongKeys> {
        let mut wrong = WrongKeys::default();
        let wanted = |key: &[u8]| self.differing.contains(&BucketPlace::of(key));
        let mut round = Round::default();
        for leaf in &mut folded.leaves {
            if round.held.bytes > self.bytes_max {
                self.look(std::mem::take(&mut round), &mut wrong).await?;
                if wrong.named.len() >= self.examples {
                    wrong.stopped = true;
                    return Ok(wrong);
                }
            }
            leaf.take(self.codec, spill, &wanted, &mut round.held)?;
            round.ranges.push(leaf.range);
        }
        self.look(round, &mut wrong).await?;
        Ok(wrong)
    }

    /// Compares the rows of a round with the table, partition by partition, in the order of their
    /// names.
    async fn look(&self, mut round: Round, wrong: &mut WrongKeys) -> anyhow::Result<()> {
        let numbers: BTreeSet<u32> = self.differing.iter().map(|place| place.partition).collect();
        let mut numbers: Vec<u32> = numbers.into_iter().collect();
        numbers.sort_by_key(|number| self.partitions.name(*number));
        for number in numbers {
            if self.listed.contains(&number) {
                self.look_at(number, &mut round, wrong).await?;
            }
            self.note_missing(number, &mut round, wrong);
        }
        Ok(())
    }

    async fn look_at(
        &self,
        number: u32,
        round: &mut Round,
        wrong: &mut WrongKeys,
    ) -> anyhow::Result<()> {
        let mut sums = vec![BucketSum::default(); self.codec.schema.buckets as usize];
        let mut rows = self.reader.begin(number, self.partitions.name(number)).await?;
        while let Some(batch) = rows.next().await? {
            for (key, row) in batch {
                let place = BucketPlace::of(&key);
                sums[place.bucket as usize].add(&row);
                if self.differing.contains(&place) && round.ranges.iter().any(|r| r.contains(&key))
                {
                    let expected = round.held.rows.remove(&key);
                    let expected = expected.as_ref().and_then(|state| state.row());
                    let mismatch = match expected {
                        Some(expected) if *expected == *row => continue,
                        Some(expected) => Mismatch::Stale(expected.into(), row),
                        None => Mismatch::Extra(row),
                    };
                    wrong.note(WrongKey { key, mismatch }, self.examples);
                }
            }
        }
        if self.found.of(number) != Some(&*sums) {
            wrong.changed.insert(number);
        }
        Ok(())
    }

    /// Whatever was not found in its partition, in the order of buckets and keys.
    fn note_missing(&self, number: u32, round: &mut Round, wrong: &mut WrongKeys) {
        let of_partition = |key: &RowKey| BucketPlace::of(key).partition == number;
        let missing = round.held.rows.extract_if(|key, _| of_partition(key));
        let mut missing: Vec<WrongKey> = missing
            .filter_map(|(key, state)| {
                let mismatch = Mismatch::Missing(state.row()?.into());
                Some(WrongKey { key, mismatch })
            })
            .collect();
        missing.sort_by(|a, b| a.key.cmp(&b.key));
        for key in missing {
            wrong.note(key, self.examples);
        }
    }
}

impl WrongKeys {
    fn note(&mut self, key: WrongKey, examples: usize) {
        self.count += 1;
        if self.named.len() < examples {
            self.named.push(key);
        }
    }
}
