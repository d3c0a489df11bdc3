//! The rules about rows, buffers, the network and memory.
//!
//! Invariant: each is one advice of the specification, silent unless its figure is above its limit.

use super::window::{Window, hundredths};
use super::words::{bytes, bytes_above, set, span, tell};
use super::{AdviceRule, FLUSH_CONCURRENT, Hint};
use crate::ledger::PackLoad;

/// Writers wait for rows most of the time: nothing in the sink is the limit.
pub(super) fn upstream_too_slow(window: &Window<'_>) -> Option<Hint> {
    // While the engine waits for commits, it sends no rows.
    let times = &window.total.times_us;
    let held_back = times.delayed.saturating_mul(u64::from(window.facts.writers));
    let waiting = times.waiting.saturating_sub(held_back);
    let share = window.share(waiting);
    if !window.is_sustained() || share < WAITING_MAX {
        return None;
    }
    let measured = format!(
        "the writers waited for rows {} of {} ({share} %)",
        span(waiting),
        span(window.writers_us)
    );
    let words = format!(
        "rows come slower than the sink takes them: {measured}; no option of the sink makes that \
         faster, and more writers do not: if rows lag behind, speed up what produces them"
    );
    Some(tell(AdviceRule::UpstreamTooSlow, measured, words))
}

/// Packs are below 128 KiB, and a buffer's share of a bucket is, too.
pub(super) fn small_buffers(window: &Window<'_>) -> Option<Hint> {
    let pack = window.pack_bytes().filter(|pack| *pack < PACK_BYTES_MIN)?;
    let packs = window.total.sent.packs;
    let measured = format!("{packs} packs had {} on average", bytes(pack));
    let buckets = u64::from(window.facts.buckets_of_a_writer());
    let buffer = window.facts.size(WRITER_BUFFER)?;
    let share = buffer / buckets;
    let (option, least, why) = if share < PACK_BYTES_MIN {
        let least = bytes_above(PACK_BYTES_MIN * buckets);
        let (buffer, share) = (bytes(buffer), bytes(share));
        let why = format!("{buffer} over {buckets} buckets of each writer leaves {share} a bucket");
        (WRITER_BUFFER, least, why)
    } else {
        let buffer = window.facts.size(BUCKET_BUFFER).filter(|size| *size < PACK_BYTES_MIN)?;
        let why = format!("{} is where a bucket is flushed", bytes(buffer));
        (BUCKET_BUFFER, bytes_above(PACK_BYTES_MIN), why)
    };
    let words = format!(
        "packs are small: {measured}, `{option}` = {why}, and below {} sending is inefficient; \
         set `{option}` to at least {least}",
        bytes(PACK_BYTES_MIN)
    );
    Some(set(AdviceRule::SmallBuffers, (option, &least), measured, words))
}

/// The network is the limit, and not every bucket has a writer. A parallelism that does not divide
/// the buckets never gets here: the guest refuses it.
pub(super) fn few_writers(window: &Window<'_>) -> Option<Hint> {
    let (writers, buckets) = (window.facts.writers, window.facts.buckets);
    let times = &window.total.times_us;
    let (sending, queued) = (window.share(times.sending), window.share(times.queued));
    let bound = sending >= SENDING_MIN
        && queued >= QUEUED_MIN
        && window.share(times.waiting) < WAITING_LITTLE;
    if !window.is_sustained() || !bound || !packs_are_full(window)? || writers >= buckets {
        return None;
    }
    let measured = format!(
        "packs were under way {sending} % of the writers' time, and rows waited {}",
        span(times.queued)
    );
    let words = format!(
        "the network is the limit: {measured}; {writers} writers fill {buckets} buckets, and one \
         writer for each bucket is fastest: set `sink.parallelism` to {buckets}, or to a divisor \
         of it above {writers}"
    );
    let value = buckets.to_string();
    Some(set(AdviceRule::FewWriters, ("sink.parallelism", &value), measured, words))
}

/// One bucket has far more bytes than the others.
pub(super) fn skewed_buckets(window: &Window<'_>) -> Option<Hint> {
    let buckets = u64::from(window.facts.buckets);
    let total = window.total.sent.bytes;
    let (bucket, most) = window.buckets.iter().max_by_key(|(_, bytes)| **bytes)?;
    let tenths = most.saturating_mul(buckets).saturating_mul(10).checked_div(total)?;
    if buckets < 2 || total < SKEW_BYTES_MIN || tenths < SKEW_TENTHS_MIN {
        return None;
    }
    let measured = format!(
        "bucket {bucket} got {} of {} ({} %), {}.{} times the mean of {buckets} buckets",
        bytes(*most),
        bytes(total),
        hundredths(*most, total),
        tenths / 10,
        tenths % 10
    );
    let grouped = "sink.group-partition.enable";
    if window.facts.is_on(grouped) {
        let words = format!(
            "the buckets are filled unevenly: {measured}; rows are grouped by partition, which is \
             for evenly written partitions: set `{grouped}` to false"
        );
        return Some(set(AdviceRule::SkewedBuckets, (grouped, "false"), measured, words));
    }
    let words = format!(
        "the buckets are filled unevenly: {measured}, and one writer sends it alone, one pack at a \
         time; no option helps: a primary key with more distinct values spreads the rows"
    );
    Some(tell(AdviceRule::SkewedBuckets, measured, words))
}

/// A pack takes as much longer as there are more at once: the network is congested.
pub(super) fn flush_concurrency(window: &Window<'_>) -> Option<Hint> {
    let concurrent = window.facts.count(FLUSH_CONCURRENT).filter(|packs| *packs > 1)?;
    let mean = |load: &PackLoad| load.us.checked_div(load.packs).unwrap_or_default();
    let mut seen = window.loads.iter().enumerate().filter(|(_, load)| load.packs >= LOAD_PACKS_MIN);
    let (few_class, few) = seen.next()?;
    let (many_class, many) = seen.next_back()?;
    let (few_us, many_us) = (mean(few), mean(many));
    // On a line that is full, the mean of n packs that begin at once is n/2 times that of one.
    let doublings = many_class - few_class;
    let congested = doublings >= 2 && many_us >= few_us.saturating_mul(1 << (doublings - 1));
    if !window.is_sustained() || many_us < CONGESTED_US_MIN || !congested {
        return None;
    }
    let measured = format!(
        "a pack took {} with {} or more of a writer under way, and {} with {}",
        span(many_us),
        1 << many_class,
        span(few_us),
        1 << few_class
    );
    let value = (concurrent / 2).max(1).to_string();
    let words = format!(
        "more packs at once only slow each other: {measured}; `{FLUSH_CONCURRENT}` = {concurrent} \
         for each partition, times the writers ({}), is too much for this network: set it to \
         {value}",
        window.facts.writers
    );
    Some(set(AdviceRule::FlushConcurrency, (FLUSH_CONCURRENT, &value), measured, words))
}

/// The sandbox's memory, or the budget of rows, is almost used up.
pub(super) fn memory_near_limit(window: &Window<'_>) -> Option<Hint> {
    let (memory, limit) = (window.memory_bytes_max, window.facts.memory_limit_bytes);
    if hundredths(memory, limit) >= SANDBOX_MAX {
        let measured = format!(
            "the largest sandbox has {} of {} ({} %)",
            bytes(memory),
            bytes(limit),
            hundredths(memory, limit)
        );
        let value = bytes_above(limit.saturating_mul(2));
        let words = format!(
            "a sandbox is about to run out of memory, which ends the sink: {measured}; set \
             `{MEMORY_LIMIT}` to {value}, or lower `{BUDGET}`"
        );
        return Some(set(AdviceRule::MemoryNearLimit, (MEMORY_LIMIT, &value), measured, words));
    }
    let budget = window.facts.size(BUDGET)?;
    let (held, queued) = (window.held_bytes_max, window.total.times_us.queued);
    let bound = hundredths(held, budget) >= BUDGET_MAX && window.share(queued) >= QUEUED_MIN;
    if !bound || packs_are_full(window)? {
        return None;
    }
    let (pack, full) = (window.pack_bytes()?, window.facts.size(BUCKET_BUFFER)?);
    let measured = format!(
        "a writer held {} of {} ({} %), packs left with {} of {}, and rows waited {}",
        bytes(held),
        bytes(budget),
        hundredths(held, budget),
        bytes(pack),
        bytes(full),
        span(queued)
    );
    let value = bytes_above(budget.saturating_mul(2));
    let words = format!(
        "memory is the limit: {measured}; set `{BUDGET}` to {value}, and `{MEMORY_LIMIT}` to at \
         least {}; if the machine has no more, lower `{WRITER_BUFFER}`, so that rows leave earlier",
        bytes_above(budget.saturating_mul(2).saturating_add(SANDBOX_BESIDE))
    );
    Some(set(AdviceRule::MemoryNearLimit, (BUDGET, &value), measured, words))
}

/// Whether packs leave when their bucket is full: then the network is what they wait for, and more
/// memory would not help; if not, memory is short.
fn packs_are_full(window: &Window<'_>) -> Option<bool> {
    Some(window.pack_bytes()? >= window.facts.size(BUCKET_BUFFER)? / 2)
}

/// Rows with times that have no zone were written where readers expect instants.
pub(super) fn eight_hours(window: &Window<'_>) -> Option<Hint> {
    let first = window.facts.shifted.first()?;
    let rows = window.total.rows;
    if rows == 0 {
        return None;
    }
    let columns = window.facts.shifted.iter().map(|column| {
        format!("`{}` ({} into {})", column.name, column.row_type, column.column_type)
    });
    let columns = columns.collect::<Vec<_>>().join(", ");
    let measured = format!("{rows} rows were written with times without a zone in {columns}");
    let words = format!(
        "times appear shifted to readers, by eight hours in a project at UTC+8: {measured}, as \
         UTC; declare the column of the rows as TIMESTAMP_LTZ, or the table's as TIMESTAMP_NTZ"
    );
    let option = format!("type of `{}`", first.name);
    Some(set(AdviceRule::EightHours, (&option, "TIMESTAMP_LTZ"), measured, words))
}

const WRITER_BUFFER: &str = "upsert.writer.buffer-size";
const BUCKET_BUFFER: &str = "upsert.writer.bucket.buffer-size";
const BUDGET: &str = "sink.memory.budget";
const MEMORY_LIMIT: &str = "sandbox.memory-limit";

/// Hundredths of the writers' time in which they may wait for rows before upstream is the limit.
const WAITING_MAX: u64 = 80;
/// With less waiting than this, rows are there.
const WAITING_LITTLE: u64 = 20;
/// From this share on packs under way are most of what writers do.
const SENDING_MIN: u64 = 50;
/// From this share on batches wait because writers are busy.
const QUEUED_MIN: u64 = 10;
/// Smaller packs are inefficient (specification).
const PACK_BYTES_MIN: u64 = 128 << 10;
/// Fewer bytes are spread by chance.
const SKEW_BYTES_MIN: u64 = 1 << 20;
/// Twice the mean, in tenths of it.
const SKEW_TENTHS_MIN: u64 = 20;
/// Packs of a load, so that their mean says something.
const LOAD_PACKS_MIN: u64 = 8;
/// Packs that are faster than this congest nothing.
const CONGESTED_US_MIN: u64 = 100_000;
/// Hundredths of a sandbox's memory: what is left may go with the next batch.
const SANDBOX_MAX: u64 = 85;
/// Hundredths of the budget at which it is the limit.
const BUDGET_MAX: u64 = 95;
/// A sandbox needs so much beside the rows that it holds.
const SANDBOX_BESIDE: u64 = 64 << 20;
