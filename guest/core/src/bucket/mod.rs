//! From a row to its bucket's writer: the grouping before the writers, the same in every host.
//!
//! The `route` export stands before a row's way: rows are routed, shuffled by the engine, and then
//! written. The writer finds partition and bucket again by the same means. Invariant: the rows of
//! one bucket of one partition have one writer.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::batch::{RowBatch, RowFault};
use crate::buffer::words;
use crate::config::Grouping;
use crate::error::Error;
use crate::hash::{KeyHasher, bucket_of};
use crate::id::{BucketId, WriterIndex};
use crate::io::Task;
use crate::open::Opened;
use crate::partition::{PartitionIndex, Partitioner};
use crate::schema::RowPlan;

/// The writer of a bucket when rows are grouped by key. The buckets are a multiple of the writers,
/// so all have as many.
pub fn writer_of(bucket: BucketId, parallelism: u32) -> WriterIndex {
    WriterIndex(bucket.0 % parallelism)
}

/// The writer of a partition, all its buckets included, when rows are grouped by partition.
pub fn writer_of_partition(spec: &str, parallelism: u32) -> WriterIndex {
    // Folded in halves: partitions of one month differ in few bytes.
    let hash = words::mix(words::hash(spec.as_bytes()));
    WriterIndex(((hash >> 32) % u64::from(parallelism)) as u32)
}

/// Finds the writer of each row of a batch.
#[derive(Debug)]
pub struct Router {
    plan: RowPlan,
    hasher: KeyHasher,
    partitioner: Partitioner,
    grouping: Grouping,
    parallelism: u32,
    /// The batch's columns of the primary key.
    key: Vec<usize>,
    /// Of each bucket, or of each partition met so far, by the grouping.
    writers: Vec<WriterIndex>,
    buckets: u32,
    partitions: Vec<PartitionIndex>,
    faults: Vec<(usize, RowFault)>,
    hashes: Vec<i32>,
}

impl Router {
    /// Prepares routing for one sink.
    ///
    /// Errors: `InvalidConfig`, as of the writer.
    pub fn open(task: &Task) -> Result<Self, Error> {
        let Opened { schema, config, plan, .. } = Opened::of(task)?;
        let parallelism = task.parallelism;
        let buckets = (0..schema.buckets).map(|bucket| writer_of(BucketId(bucket), parallelism));
        let writers = match config.grouping {
            Grouping::Key => buckets.collect(),
            Grouping::Partition => Vec::new(),
        };
        Ok(Self {
            hasher: KeyHasher::new(config.hasher, &schema, &plan)?,
            partitioner: Partitioner::new(&schema, &plan, &config).without_limit(),
            grouping: config.grouping,
            parallelism,
            key: schema.key.iter().filter_map(|column| plan.columns[*column]).collect(),
            writers,
            buckets: schema.buckets,
            plan,
            partitions: Vec::new(),
            faults: Vec::new(),
            hashes: Vec::new(),
        })
    }

    /// The index of the writer of each row, in the batch's order. A row without a key or a
    /// partition goes to writer zero, which refuses it.
    ///
    /// Errors: `Corrupt` for a malformed batch.
    pub fn route(&mut self, bytes: &[u8]) -> Result<Vec<u32>, Error> {
        let batch = RowBatch::parse(bytes, &self.plan)?;
        self.partitioner.assign(&batch, &mut self.partitions, &mut self.faults)?;
        let mut writers = match self.grouping {
            Grouping::Key => self.by_key(&batch),
            Grouping::Partition => self.by_partition(),
        };
        for (row, _) in &self.faults {
            writers[*row] = 0;
        }
        for column in self.key.iter().map(|at| batch.column(*at)).filter(|key| key.has_nulls()) {
            let nulls = (0..batch.rows()).filter(|row| column.is_null(*row));
            nulls.for_each(|row| writers[row] = 0);
        }
        self.forget_partitions();
        Ok(writers)
    }

    fn by_key(&mut self, batch: &RowBatch<'_>) -> Vec<u32> {
        self.hasher.hash_batch(batch, &mut self.hashes);
        let bucket = |hash: &i32| bucket_of(*hash, self.buckets).0 as usize;
        self.hashes.iter().map(|hash| self.writers[bucket(hash)].0).collect()
    }

    fn by_partition(&mut self) -> Vec<u32> {
        for index in self.writers.len()..self.partitioner.len() {
            let index =
                PartitionIndex(u32::try_from(index).expect("partitions are numbered by u32"));
            let spec = self.partitioner.spec(index);
            self.writers.push(writer_of_partition(spec, self.parallelism));
        }
        let writer = |index: &PartitionIndex| self.writers.get(index.0 as usize).map_or(0, |w| w.0);
        self.partitions.iter().map(writer).collect()
    }

    /// A router sees no checkpoints: it begins anew when it knows too many partitions.
    fn forget_partitions(&mut self) {
        if self.partitioner.len() > PARTITIONS_MAX {
            self.partitioner.forget();
            if self.grouping == Grouping::Partition {
                self.writers.clear();
            }
        }
    }
}

/// Partitions that a router remembers: some hundred bytes each.
const PARTITIONS_MAX: usize = 10_000;
