//! From a row to its key: the grouping before the writers, the same in every host.
//!
//! The `route` export stands before a row's way: rows are given keys, shuffled by the engine, and
//! then written. The writer finds partition and bucket again by the same means. Invariant: the rows
//! of one bucket of one partition have one key, however many writers there are; the writer of a key
//! is the key modulo the writers.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use upsert_sink_format::batch::{RowBatch, RowFault};
use upsert_sink_format::error::Error;
use upsert_sink_format::hash::{KeyHasher, bucket_of};
use upsert_sink_format::schema::RowPlan;
use upsert_sink_format::words;

use crate::config::Grouping;
use crate::io::Task;
use crate::open::Opened;
use crate::partition::{PartitionIndex, Partitioner};

/// The key of a partition, all its buckets included, when rows are grouped by partition. If they
/// are grouped by key it is the bucket's number: the buckets are a multiple of the writers, so all
/// have as many.
fn key_of_partition(spec: &str) -> u32 {
    // Folded in halves: partitions of one month differ in few bytes.
    let hash = words::mix(words::hash(spec.as_bytes()));
    (hash >> 32) as u32
}

/// Finds the key of each row of a batch.
#[derive(Debug)]
pub struct Router {
    plan: RowPlan,
    hasher: KeyHasher,
    partitioner: Partitioner,
    grouping: Grouping,
    /// The batch's columns of the primary key.
    key: Vec<usize>,
    /// The key of each partition that had rows so far, if rows are grouped by partition.
    keys: Vec<u32>,
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
        Ok(Self {
            hasher: KeyHasher::new(config.hasher, &schema, &plan)?,
            partitioner: Partitioner::new(&schema, &plan, &config).without_limit(),
            grouping: config.grouping,
            key: schema.key.iter().filter_map(|column| plan.columns[*column]).collect(),
            keys: Vec::new(),
            buckets: schema.buckets,
            plan,
            partitions: Vec::new(),
            faults: Vec::new(),
            hashes: Vec::new(),
        })
    }

    /// The key of each row, in the batch's order. A row without a primary key or a partition has
    /// key 0: its writer refuses it.
    ///
    /// Errors: `Corrupt` for a malformed batch.
    pub fn keys(&mut self, bytes: &[u8]) -> Result<Vec<u32>, Error> {
        let batch = RowBatch::parse(bytes, &self.plan)?;
        self.partitioner.assign(&batch, &mut self.partitions, &mut self.faults)?;
        let mut keys = match self.grouping {
            Grouping::Key => self.by_key(&batch),
            Grouping::Partition => self.by_partition(),
        };
        for (row, _) in &self.faults {
            keys[*row] = 0;
        }
        for column in self.key.iter().map(|at| batch.column(*at)).filter(|key| key.has_nulls()) {
            let nulls = (0..batch.rows()).filter(|row| column.is_null(*row));
            nulls.for_each(|row| keys[row] = 0);
        }
        self.forget_partitions();
        Ok(keys)
    }

    fn by_key(&mut self, batch: &RowBatch<'_>) -> Vec<u32> {
        self.hasher.hash_batch(batch, &mut self.hashes);
        self.hashes.iter().map(|hash| bucket_of(*hash, self.buckets).0).collect()
    }

    fn by_partition(&mut self) -> Vec<u32> {
        for index in self.keys.len()..self.partitioner.len() {
            let index =
                PartitionIndex(u32::try_from(index).expect("partitions are numbered by u32"));
            self.keys.push(key_of_partition(self.partitioner.spec(index)));
        }
        let key = |index: &PartitionIndex| self.keys.get(index.0 as usize).copied().unwrap_or(0);
        self.partitions.iter().map(key).collect()
    }

    /// A router sees no checkpoints: it begins anew when it knows too many partitions.
    fn forget_partitions(&mut self) {
        if self.partitioner.len() > PARTITIONS_MAX {
            self.partitioner.forget();
            self.keys.clear();
        }
    }
}

/// Partitions that a router remembers: some hundred bytes each.
const PARTITIONS_MAX: usize = 10_000;
