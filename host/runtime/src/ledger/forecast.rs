//! The forecast of a checkpoint before the first row: how long it takes, what it needs, and which
//! option is the limit.
//!
//! Beside the advisor, which looks at what was. A pure function from a load, the costs of the
//! service and the options; the regimes hold it against what they measure. Invariant: a job that is
//! said to hold has every part within its limit; one that is not is told what to set to what.

use serde::Serialize;

/// The rows of one checkpoint, as they are expected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ExpectedLoad {
    /// Rows handed over.
    pub rows: u64,
    /// Those of them that are sent: the others are replaced by later rows of their key.
    pub rows_sent: u64,
    /// Bytes of one row in a pack.
    pub row_bytes: u64,
    /// Partitions with rows.
    pub partitions: u64,
    /// Buckets with rows, over all partitions.
    pub buckets_touched: u64,
}

/// The times of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceCosts {
    /// Until a commit is done, in milliseconds.
    pub commit_ms: u64,
    /// Until a pack is acknowledged, in milliseconds.
    pub pack_ms: u64,
}

/// The options that bound a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ForecastLimits {
    /// The checkpoint interval, in milliseconds.
    pub interval_ms: u64,
    /// `sink.parallelism`.
    pub writers: u32,
    /// Buckets of the table.
    pub buckets: u32,
    /// `upsert.commit.thread-num`.
    pub commit_threads: u32,
    /// `upsert.flush.concurrent`; none if it adapts.
    pub flush_concurrent: Option<u32>,
    /// `sink.dynamic-partition.limit`, of one writer.
    pub partition_limit: u32,
    /// `sink.memory.budget`, in bytes, of one writer.
    pub memory_budget: u64,
    /// `upsert.writer.bucket.buffer-size`, in bytes.
    pub bucket_bytes: u64,
    /// `upsert.write.slot-num`.
    pub slots: u32,
    /// Whether writers have partitions of their own (`sink.group-partition.enable`).
    pub by_partition: bool,
    /// Whether rows wait on disk (`sink.file-cached.enable`).
    pub cached: bool,
}

/// A checkpoint as it will be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// Bytes of packs, before compression.
    pub bytes: u64,
    /// Packs, those included that are sent before the barrier.
    pub packs: u64,
    /// Requests: packs, sessions and commits.
    pub requests: u64,
    /// Tunnel slots that its sessions hold.
    pub slots: u64,
    /// From the barrier to the last snapshot, in milliseconds.
    pub flush_ms: u64,
    /// From its completion to the last known commit, in milliseconds.
    pub commit_ms: u64,
    /// Sending all of its packs, in milliseconds: more than the interval presses rows back.
    pub sending_ms: u64,
    /// Rows that one writer holds in memory, in bytes.
    pub held_bytes: u64,
    /// The limits that do not hold; empty if the job does.
    pub broken: Vec<BrokenLimit>,
}

/// A limit that a job will not keep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BrokenLimit {
    /// The option to set; none if it is the engine's interval.
    pub option: Option<&'static str>,
    /// The value to set it to.
    pub set: String,
    /// All of it in words.
    pub words: String,
}

impl Forecast {
    /// Foresees one checkpoint.
    pub fn of(load: &ExpectedLoad, costs: &ServiceCosts, limits: &ForecastLimits) -> Self {
        let writers = u64::from(limits.writers.max(1));
        let bytes = load.rows_sent * load.row_bytes;
        let left = load.buckets_touched.min(load.rows_sent);
        let packs = left.max(bytes.div_ceil(limits.bucket_bytes.max(1)));
        let of_writer = partitions_of_a_writer(load, limits);
        let of_partition = u64::from(limits.flush_concurrent.unwrap_or(PACKS_MOST));
        let at_once = (of_writer * of_partition).clamp(1, u64::from(PACKS_MOST)) * writers;
        let threads = u64::from(limits.commit_threads.max(1));
        let mut forecast = Self {
            bytes,
            packs,
            requests: packs + 2 * load.partitions,
            slots: load.partitions * u64::from(limits.slots),
            flush_ms: left.div_ceil(at_once) * costs.pack_ms,
            commit_ms: load.partitions.div_ceil(threads) * costs.commit_ms,
            sending_ms: packs.div_ceil(at_once) * costs.pack_ms,
            held_bytes: (bytes / writers).min(limits.memory_budget),
            broken: Vec::new(),
        };
        let rules = [partition_limit, commits, sending, small_packs];
        forecast.broken =
            rules.iter().filter_map(|rule| rule(&forecast, load, costs, limits)).collect();
        forecast
    }
}

fn partitions_of_a_writer(load: &ExpectedLoad, limits: &ForecastLimits) -> u64 {
    match limits.by_partition {
        true => load.partitions.div_ceil(u64::from(limits.writers.max(1))),
        false => load.partitions,
    }
}

fn partition_limit(
    _: &Forecast,
    load: &ExpectedLoad,
    _: &ServiceCosts,
    limits: &ForecastLimits,
) -> Option<BrokenLimit> {
    let (option, most) = ("sink.dynamic-partition.limit", limits.partition_limit);
    let partitions = partitions_of_a_writer(load, limits);
    (partitions > u64::from(most)).then(|| BrokenLimit {
        option: Some(option),
        set: partitions.to_string(),
        words: format!(
            "will be refused: a writer gets rows of {partitions} partitions between two \
             checkpoints, and `{option}` = {most}: set it to at least {partitions}, or checkpoint \
             more often"
        ),
    })
}

/// Commits of one checkpoint take longer than the next one is away.
fn commits(
    forecast: &Forecast,
    load: &ExpectedLoad,
    costs: &ServiceCosts,
    limits: &ForecastLimits,
) -> Option<BrokenLimit> {
    let (takes, interval) = (forecast.commit_ms, limits.interval_ms);
    if takes <= interval {
        return None;
    }
    let (partitions, threads) = (load.partitions, limits.commit_threads);
    let head = format!(
        "will expire: {partitions} partitions × {} ÷ {threads} threads = {} against {}",
        seconds(costs.commit_ms),
        seconds(takes),
        seconds(interval)
    );
    let rounds = interval / costs.commit_ms.max(1);
    let needed = if rounds == 0 { u64::MAX } else { partitions.div_ceil(rounds) };
    if needed <= u64::from(THREADS_MOST) {
        let option = "upsert.commit.thread-num";
        let words = format!("{head}: set `{option}` to {needed}");
        return Some(BrokenLimit { option: Some(option), set: needed.to_string(), words });
    }
    let least = partitions.div_ceil(u64::from(THREADS_MOST)) * costs.commit_ms;
    let set = seconds(least);
    let words = format!(
        "{head}; above {THREADS_MOST} threads commits slow each other: set the checkpoint interval \
         to {set} and `upsert.commit.thread-num` to {THREADS_MOST}, or let fewer partitions have \
         rows in each checkpoint"
    );
    Some(BrokenLimit { option: None, set, words })
}

/// Packs of one checkpoint take longer than its rows.
fn sending(
    forecast: &Forecast,
    _: &ExpectedLoad,
    costs: &ServiceCosts,
    limits: &ForecastLimits,
) -> Option<BrokenLimit> {
    let (takes, interval) = (forecast.sending_ms, limits.interval_ms);
    if takes <= interval {
        return None;
    }
    let head = format!(
        "rows will be pressed back: {} packs × {} take {} against {}",
        forecast.packs,
        seconds(costs.pack_ms),
        seconds(takes),
        seconds(interval)
    );
    let wanted = u64::from(limits.writers) * takes.div_ceil(interval.max(1));
    let divides = |n: &u64| u64::from(limits.buckets).is_multiple_of(*n);
    if let Some(writers) = (wanted..=u64::from(limits.buckets)).find(divides) {
        let option = "sink.parallelism";
        let words = format!("{head}: set `{option}` to {writers}");
        return Some(BrokenLimit { option: Some(option), set: writers.to_string(), words });
    }
    let words = format!(
        "{head}: a table with more buckets would take more packs at once; or set the checkpoint \
         interval to {}",
        seconds(takes)
    );
    Some(BrokenLimit { option: None, set: seconds(takes), words })
}

/// Memory for all partitions is so little that they are sent in small packs.
fn small_packs(
    forecast: &Forecast,
    load: &ExpectedLoad,
    _: &ServiceCosts,
    limits: &ForecastLimits,
) -> Option<BrokenLimit> {
    let writers = u64::from(limits.writers.max(1));
    let (needed, budget) = (forecast.bytes / writers, limits.memory_budget);
    let share = budget * writers / load.buckets_touched.max(1);
    if limits.cached || needed <= budget || share >= SMALL_PACK_BYTES {
        return None;
    }
    let option = "sink.file-cached.enable";
    let words = format!(
        "will send small packs: {needed} bytes of a writer's rows against `sink.memory.budget` = \
         {budget} leave {share} bytes a bucket, and below {SMALL_PACK_BYTES} sending is \
         inefficient: set `{option}` to true, or raise the budget"
    );
    Some(BrokenLimit { option: Some(option), set: String::from("true"), words })
}

/// `2.5 s`, or `25 ms`.
fn seconds(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        _ if ms.is_multiple_of(1000) => format!("{} s", ms / 1000),
        _ => format!("{:.1} s", ms as f64 / 1e3),
    }
}

/// Packs of one writer under way, at most.
const PACKS_MOST: u32 = 64;
/// Commit threads above this harm each other (specification).
const THREADS_MOST: u32 = 32;
/// Packs below this are inefficient (specification).
const SMALL_PACK_BYTES: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const COSTS: ServiceCosts = ServiceCosts { commit_ms: 2_500, pack_ms: 100 };
    const LIMITS: ForecastLimits = ForecastLimits {
        interval_ms: 60_000,
        writers: 4,
        buckets: 16,
        commit_threads: 16,
        flush_concurrent: None,
        partition_limit: 10_000,
        memory_budget: 64 << 20,
        bucket_bytes: 1 << 20,
        slots: 1,
        by_partition: false,
        cached: false,
    };

    fn load(partitions: u64) -> ExpectedLoad {
        ExpectedLoad {
            rows: 100_000,
            rows_sent: 80_000,
            row_bytes: 100,
            partitions,
            buckets_touched: 16 * partitions,
        }
    }

    fn broken(load: ExpectedLoad, limits: ForecastLimits) -> Vec<(Option<&'static str>, String)> {
        let forecast = Forecast::of(&load, &COSTS, &limits);
        let told = |limit: BrokenLimit| {
            assert!(limit.words.contains(&limit.set), "{}", limit.words);
            (limit.option, limit.set)
        };
        forecast.broken.into_iter().map(told).collect()
    }

    #[test]
    fn a_checkpoint_that_holds_is_said_to_with_its_figures() {
        let forecast = Forecast::of(&load(100), &COSTS, &LIMITS);
        assert_eq!(forecast.broken, []);
        assert_eq!((forecast.bytes, forecast.packs, forecast.requests), (8_000_000, 1_600, 1_800));
        assert_eq!((forecast.flush_ms, forecast.commit_ms, forecast.slots), (700, 17_500, 100));
        assert_eq!(forecast.held_bytes, 2_000_000);
    }

    #[test]
    fn commits_that_take_longer_than_the_interval_are_told_with_the_threads_that_do_not() {
        let expires = broken(load(500), LIMITS);
        assert_eq!(expires, [(Some("upsert.commit.thread-num"), String::from("21"))]);
        let set = ForecastLimits { commit_threads: 21, ..LIMITS };
        assert_eq!(broken(load(500), set), [], "what is told is enough");
        let too_many = broken(load(1_000), LIMITS);
        assert_eq!(too_many, [(None, String::from("80 s"))]);
        let set = ForecastLimits { commit_threads: 32, interval_ms: 80_000, ..LIMITS };
        assert_eq!(broken(load(1_000), set), [], "what is told is enough");
        let forecast = Forecast::of(&load(1_000), &COSTS, &LIMITS);
        let words = "1000 partitions × 2.5 s ÷ 16 threads = 157.5 s against 60 s";
        assert!(forecast.broken[0].words.contains(words), "{:?}", forecast.broken);
    }

    #[test]
    fn a_limit_of_partitions_is_told_of_the_writer_that_has_them() {
        let limits = ForecastLimits { partition_limit: 50, ..LIMITS };
        let option = Some("sink.dynamic-partition.limit");
        assert_eq!(broken(load(100), limits), [(option, String::from("100"))]);
        assert_eq!(broken(load(100), ForecastLimits { by_partition: true, ..limits }), []);
    }

    #[test]
    fn rows_that_come_faster_than_packs_are_told_with_the_writers_that_keep_up() {
        let many = ExpectedLoad {
            rows: 100_000_000,
            rows_sent: 100_000_000,
            buckets_touched: 16,
            ..load(1)
        };
        let limits = ForecastLimits { flush_concurrent: Some(1), interval_ms: 100, ..LIMITS };
        let told = broken(many, ForecastLimits { commit_threads: 1, ..limits });
        assert!(told.iter().any(|(option, _)| option.is_none()), "{told:?}");
        let slow = ForecastLimits { interval_ms: 1_000_000, flush_concurrent: Some(1), ..LIMITS };
        let costs = ServiceCosts { pack_ms: 1_000_000, ..COSTS };
        let few = ExpectedLoad { rows_sent: 80_000, buckets_touched: 8, ..load(1) };
        let forecast = Forecast::of(&few, &costs, &slow);
        let limit = forecast.broken.first().expect("8 packs, 4 at once, 1000 s each");
        assert_eq!((limit.option, limit.set.as_str()), (Some("sink.parallelism"), "8"));
    }

    #[test]
    fn memory_that_leaves_small_packs_is_told_with_the_file_cache() {
        let rows = ExpectedLoad { rows_sent: 10_000_000, ..load(2_000) };
        let limits = ForecastLimits { interval_ms: 1_000_000, ..LIMITS };
        let option = Some("sink.file-cached.enable");
        assert_eq!(broken(rows, limits), [(option, String::from("true"))]);
        assert_eq!(broken(rows, ForecastLimits { cached: true, ..limits }), []);
    }
}
