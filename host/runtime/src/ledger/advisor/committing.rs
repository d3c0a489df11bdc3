//! The rules about partitions, commits and quotas.
//!
//! Invariant: each is one advice of the specification, silent unless its figure is above its limit.

use super::window::{Window, hundredths};
use super::words::{INTERVAL, seconds_above, set, span, span_ms, tell};
use super::{AdviceRule, FLUSH_CONCURRENT, Hint};
use crate::ledger::CheckpointRecord;

/// The commits of one checkpoint take longer than the time until the next one.
pub(super) fn many_partitions(window: &Window<'_>) -> Option<Hint> {
    let interval_ms = window.facts.interval_ms;
    let threads = u64::from(window.facts.count(COMMIT_THREADS)?.max(1));
    let needed = |record: &CheckpointRecord, threads: u64| {
        record.commits.count.div_ceil(threads).saturating_mul(record.commits.median_ms)
    };
    let record = window.records.iter().max_by_key(|record| needed(record, threads))?;
    let commits = &record.commits;
    let needed_ms = needed(record, threads);
    if interval_ms == 0 || needed_ms <= interval_ms || commits.count < 2 {
        return None;
    }
    let measured = format!(
        "checkpoint {} committed {} partitions, {} each",
        record.id,
        commits.count,
        span_ms(commits.median_ms)
    );
    let why = format!(
        "too many partitions for one checkpoint: {measured}, and {threads} at once are {} against \
         an interval of {}",
        span_ms(needed_ms),
        span_ms(interval_ms)
    );
    let enough = (threads + 1..=THREADS_MAX).find(|more| needed(record, *more) <= interval_ms);
    if let Some(enough) = enough {
        let words = format!("{why}; set `{COMMIT_THREADS}` to {enough}");
        let value = enough.to_string();
        return Some(set(AdviceRule::ManyPartitions, (COMMIT_THREADS, &value), measured, words));
    }
    let most = threads.max(THREADS_MAX);
    let value = seconds_above(needed(record, most));
    let also = match threads < THREADS_MAX {
        true => format!(", and `{COMMIT_THREADS}` to {THREADS_MAX}"),
        false => String::new(),
    };
    let words = format!("{why}; set the {INTERVAL} to {value}{also}, or write fewer partitions");
    Some(set(AdviceRule::ManyPartitions, (INTERVAL, &value), measured, words))
}

/// More commits are under way at once than the specification advises.
pub(super) fn commit_threads(window: &Window<'_>) -> Option<Hint> {
    let threads = window.facts.count(COMMIT_THREADS).map(u64::from)?;
    let record = window.records.iter().max_by_key(|record| record.commits.at_once_max)?;
    let at_once = u64::from(record.commits.at_once_max);
    if threads <= THREADS_MAX || at_once <= THREADS_MAX {
        return None;
    }
    let measured = format!(
        "{at_once} commits were under way at once in checkpoint {}, and took {}",
        record.id,
        span_ms(record.commits.median_ms)
    );
    let words = format!(
        "too many commits at once: {measured}; above {THREADS_MAX} commits slow each other: set \
         `{COMMIT_THREADS}`, now {threads}, to {THREADS_MAX}"
    );
    let value = THREADS_MAX.to_string();
    Some(set(AdviceRule::CommitThreads, (COMMIT_THREADS, &value), measured, words))
}

/// The engine has held barriers back until earlier commits were known.
pub(super) fn commits_outrun(window: &Window<'_>) -> Option<Hint> {
    let delayed_us = window.total.times_us.delayed;
    if !window.is_sustained() || hundredths(delayed_us, window.clock_us) < DELAYED_MIN {
        return None;
    }
    let longest_us = window.records.iter().map(|record| record.times_us.commit).max()?;
    let measured = format!(
        "{} of {} checkpoints were held back, {} together, and commits took up to {}",
        window.total.delayed,
        window.total.checkpoints,
        span(delayed_us),
        span(longest_us)
    );
    let value = seconds_above(longest_us / 1_000);
    let now = match window.facts.interval_ms {
        0 => String::new(),
        interval_ms => format!(", now {},", span_ms(interval_ms)),
    };
    let words = format!(
        "checkpoints outrun their commits: {measured}; nothing is visible sooner for it: set the \
         {INTERVAL}{now} to {value}"
    );
    Some(set(AdviceRule::CommitsOutrun, (INTERVAL, &value), measured, words))
}

/// The service asks for less, because a quota is used up.
pub(super) fn quota_reached(window: &Window<'_>) -> Option<Hint> {
    let requests = &window.total.requests;
    let permille = requests.slowed_down.saturating_mul(1_000).checked_div(requests.made)?;
    if requests.slowed_down < SLOWED_MIN || permille < SLOWED_PERMILLE_MIN {
        return None;
    }
    let measured = format!(
        "{} of {} requests ({} %) were refused by SlotExceeded, 429 or 503, and waited {}",
        requests.slowed_down,
        requests.made,
        hundredths(requests.slowed_down, requests.made),
        span(window.total.times_us.slots)
    );
    let limit = format!("the quota of the Tunnel is the limit: {measured}");
    let facts = window.facts;
    let slots = facts.count(SLOTS).unwrap_or(1);
    let fewer = (1..facts.writers).rev().find(|writers| facts.buckets.is_multiple_of(*writers));
    let concurrent = facts.count(FLUSH_CONCURRENT).unwrap_or(1);
    let (option, value) = match fewer {
        _ if slots > 1 => (SLOTS, 1),
        Some(writers) => (PARALLELISM, writers),
        None if concurrent > 1 => (FLUSH_CONCURRENT, concurrent / 2),
        None => {
            let words = format!("{limit}; name a quota with more slots in `quotaName`");
            return Some(tell(AdviceRule::QuotaReached, measured, words));
        }
    };
    let words = format!(
        "{limit}; set `{option}` to {value}, or name a quota with more slots in `quotaName`"
    );
    Some(set(AdviceRule::QuotaReached, (option, &value.to_string()), measured, words))
}

const COMMIT_THREADS: &str = "upsert.commit.thread-num";
const PARALLELISM: &str = "sink.parallelism";
const SLOTS: &str = "upsert.write.slot-num";

/// Commits at once above this slow each other (specification).
const THREADS_MAX: u64 = 32;
/// Hundredths of the time in which barriers may be held back: less is not worth a word.
const DELAYED_MIN: u64 = 5;
/// One refusal may be chance.
const SLOWED_MIN: u64 = 2;
/// One request of a hundred.
const SLOWED_PERMILLE_MIN: u64 = 10;
