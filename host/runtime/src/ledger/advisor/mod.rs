//! The advisor: which limit bound, and what to set to what.
//!
//! A pure function from records and facts to hints; each advice of the specification is one rule,
//! in `writing.rs` and `committing.rs`. Invariant: a hint rests on a measured figure, and names it
//! with the limit, the option and the value; a sink that is well gets none.

mod committing;
#[cfg(test)]
mod tests;
mod window;
mod words;
mod writing;

use serde::{Deserialize, Serialize};

use self::window::Window;
use crate::ledger::{CheckpointRecord, SinkFacts};

/// One piece of advice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// The rule that gives it.
    pub rule: AdviceRule,
    /// The option to set; none if no option helps.
    pub option: Option<String>,
    /// The value to set it to.
    pub set: Option<String>,
    /// The figure that it rests on.
    pub measured: String,
    /// All of it in words: the limit, the figure, and what to do.
    pub words: String,
}

/// The rules: one for each advice of the specification, in the order of its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdviceRule {
    /// Rows come slower than the sink takes them.
    UpstreamTooSlow,
    /// Packs are small, because buffers are.
    SmallBuffers,
    /// There are fewer writers than buckets, and the network is the limit.
    FewWriters,
    /// One bucket gets most of the bytes.
    SkewedBuckets,
    /// More packs at once only make each of them slower.
    FlushConcurrency,
    /// Memory is almost used up.
    MemoryNearLimit,
    /// Times without a zone are shifted for readers.
    EightHours,
    /// The commits of one checkpoint take longer than the interval.
    ManyPartitions,
    /// More commits at once than the service takes well.
    CommitThreads,
    /// Checkpoints were held back, because commits were behind.
    CommitsOutrun,
    /// The service refuses requests because of a quota.
    QuotaReached,
}

/// The hints that follow from the newest records of the newest start in `records`, which are in
/// their order.
pub fn advise(records: &[CheckpointRecord], facts: &SinkFacts) -> Vec<Hint> {
    let window = Window::of(records, facts);
    RULES.iter().filter_map(|rule| rule(&window)).collect()
}

/// Rules of both files weigh it.
const FLUSH_CONCURRENT: &str = "upsert.flush.concurrent";

/// Every rule; each looks at the same records and facts.
const RULES: [fn(&Window<'_>) -> Option<Hint>; 11] = [
    writing::upstream_too_slow,
    writing::small_buffers,
    writing::few_writers,
    writing::skewed_buckets,
    writing::flush_concurrency,
    writing::memory_near_limit,
    writing::eight_hours,
    committing::many_partitions,
    committing::commit_threads,
    committing::commits_outrun,
    committing::quota_reached,
];
