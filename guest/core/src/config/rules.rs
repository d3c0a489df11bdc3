//! The specification's rules that tie options to each other, to the table and to the start.
//!
//! Checked at the end of `SinkConfig::parse`. Invariant: a rule that is broken is an error that
//! names both sides; advice that is not taken is a warning with the numbers and the remedy.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{ByteCount, Millis};
use upsert_sink_format::option::text;
use upsert_sink_format::record::WrittenColumns;
use upsert_sink_format::schema::{RowType, TableSchema};

use super::{DeliveryGuarantee, DoubtPolicy, Draft, Grouping, KeyScope, SinkConfig, TaskFacts};

/// Holds the options against each other, the table and the start.
pub(super) fn check(draft: &Draft, schema: &TableSchema, facts: &TaskFacts) -> Result<(), Error> {
    let config = &draft.config;
    check_doubt(config)?;
    check_key_scope(config, schema, facts)?;
    check_sizes(config)?;
    check_spans(config)?;
    check_partial(draft, schema)?;
    check_buckets(draft.bucket_number, schema)?;
    check_parallelism(config, schema, facts)
}

fn check_doubt(config: &SinkConfig) -> Result<(), Error> {
    if config.doubt == DoubtPolicy::Continue && config.guarantee == DeliveryGuarantee::ExactlyOnce {
        return Err(Error::config(
            "option `sink.doubt`",
            "`continue` may apply a late copy of a pack over newer rows, which exactly-once rules \
             out: set `rollover` or `fail`, or `sink.delivery-guarantee` to `at-least-once`",
        ));
    }
    if config.doubt == DoubtPolicy::Rollover && !config.session_overlap {
        return Err(Error::config(
            "option `sink.doubt`",
            "`rollover` writes on in a second session while the first waits for its commit, which \
             `sink.session.overlap` = false rules out: set `fail`, or leave it out",
        ));
    }
    Ok(())
}

/// Refuses keys of the whole table without before-images, unless all rows have one partition: then
/// no row can leave it.
fn check_key_scope(
    config: &SinkConfig,
    schema: &TableSchema,
    facts: &TaskFacts,
) -> Result<(), Error> {
    let fixed = config.partition.iter().filter(|level| level.value.is_some()).count();
    let rows_may_move = fixed < schema.partition_columns.len();
    if config.key_scope == KeyScope::Partition || facts.before_images || !rows_may_move {
        return Ok(());
    }
    Err(Error::config(
        "option `sink.key.scope`",
        format!(
            "`table` says that a key of {} is unique over all partitions, but the engine does not \
             send update-before rows: a row that changes its partition would stay in the old one; \
             let the engine send them, and say so, or set `partition`",
            schema.name
        ),
    ))
}

fn check_sizes(config: &SinkConfig) -> Result<(), Error> {
    let bucket = ("upsert.writer.bucket.buffer-size", config.bucket_buffer);
    not_above(bucket, ("sink.memory.budget", config.memory_budget))?;
    not_above(bucket, ("upsert.writer.buffer-size", config.writer_buffer))
}

fn not_above(part: (&str, ByteCount), whole: (&str, ByteCount)) -> Result<(), Error> {
    if part.1 <= whole.1 {
        return Ok(());
    }
    let part_size = text::size_text(part.1);
    let whole_size = text::size_text(whole.1);
    Err(Error::config(
        format!("option `{}`", whole.0),
        format!(
            "{whole_size} is less than one bucket's buffer, `{}` = {part_size}: raise the first or \
             lower the second",
            part.0
        ),
    ))
}

fn check_spans(config: &SinkConfig) -> Result<(), Error> {
    let lifecycle = config.session_lifecycle.millis();
    if config.session_idle_limit <= lifecycle {
        return Ok(());
    }
    Err(Error::config(
        "option `sink.session.idle-limit`",
        format!(
            "{} is longer than `sink.session.lifecycle` = {}, after which a session is lost \
             anyway: set it to at most that",
            text::span_text(config.session_idle_limit),
            text::span_text(lifecycle)
        ),
    ))
}

/// A row that moves to another partition would leave the columns behind that it does not write.
fn check_partial(draft: &Draft, schema: &TableSchema) -> Result<(), Error> {
    if draft.partial_mode == WrittenColumns::Declared && !draft.partial {
        return Err(Error::config(
            "option `sink.partial-column.mode`",
            "`static` says which columns a partial row writes, but `upsert.partial-column.enable` \
             is false: set that to true, or leave this out",
        ));
    }
    if draft.partial && draft.config.file_cache.enabled {
        return Err(Error::config(
            "option `sink.file-cached.enable`",
            "`true` with `upsert.partial-column.enable`: partial rows name columns by ids that \
             only their session tells, and cached rows are not read again; set one of the two to \
             false",
        ));
    }
    if draft.partial && draft.config.key_scope == KeyScope::Table {
        return Err(Error::config(
            "option `upsert.partial-column.enable`",
            format!(
                "`true` with `sink.key.scope` = table: a row of {} that changes its partition \
                 would lose the columns that it does not write; set one of the two back",
                schema.name
            ),
        ));
    }
    Ok(())
}

fn check_buckets(stated: Option<u32>, schema: &TableSchema) -> Result<(), Error> {
    match stated {
        Some(stated) if stated != schema.buckets => Err(Error::config(
            "option `upsert.write.bucket.num`",
            format!(
                "`{stated}` is not what the table {} has: set it to {}, or leave it out",
                schema.name, schema.buckets
            ),
        )),
        _ => Ok(()),
    }
}

fn check_parallelism(
    config: &SinkConfig,
    schema: &TableSchema,
    facts: &TaskFacts,
) -> Result<(), Error> {
    let at = "option `sink.parallelism`";
    let writers = facts.parallelism;
    if writers == 0 {
        return Err(Error::bug("task", "parallelism is 0: a sink has at least one writer"));
    }
    if let Some(stated) = config.parallelism.filter(|stated| stated.get() != writers) {
        let rule = format!("`{stated}` is not the {writers} writers that the engine started");
        return Err(Error::config(at, format!("{rule}: set both to the same number")));
    }
    match config.grouping {
        Grouping::Key => check_multiple(schema, writers),
        Grouping::Partition if schema.partition_columns.is_empty() => Err(Error::config(
            "option `sink.group-partition.enable`",
            format!("the table {} has no partition columns to group by: set `false`", schema.name),
        )),
        Grouping::Partition => Ok(()),
    }
}

fn check_multiple(schema: &TableSchema, writers: u32) -> Result<(), Error> {
    let buckets = schema.buckets;
    if buckets.is_multiple_of(writers) {
        return Ok(());
    }
    let divides = |n: &u32| buckets.is_multiple_of(*n);
    let below = (1..writers.min(buckets.saturating_add(1))).rev().find(divides);
    let above = (writers.saturating_add(1)..=buckets).find(divides);
    let near: Vec<String> = [below, above].iter().flatten().map(|n| format!("{n}")).collect();
    Err(Error::config(
        "option `sink.parallelism`",
        format!(
            "{writers} writers for {buckets} buckets of {}: the number of buckets must be an \
             integral multiple of the parallelism; set it to {}",
            schema.name,
            near.join(" or ")
        ),
    ))
}

/// Advice of the specification that this start does not take, one line each.
pub(super) fn warnings(
    draft: &Draft,
    schema: &TableSchema,
    row_columns: &[(String, String)],
    facts: &TaskFacts,
) -> Vec<String> {
    let config = &draft.config;
    let mut lines = Vec::new();
    lines.extend(small_buffers(config, schema, facts));
    lines.extend(idle_buffers(config));
    let threads = config.commit_threads.get();
    lines.extend(too_many("upsert.commit.thread-num", threads, "commits slow each other"));
    let writers = config.file_cache.writers.get();
    lines.extend(too_many("sink.file-cached.writer.num", writers, "the network congests"));
    lines.extend(short_interval(facts));
    lines.extend(wide_groups(config, schema));
    lines.extend(whole_rows(config, schema, row_columns));
    let shifted = row_columns.iter().filter(|column| is_shifted(column, schema));
    lines.extend(shifted.map(|(name, row_type)| eight_hours(name, row_type)));
    lines
}

fn small_buffers(config: &SinkConfig, schema: &TableSchema, facts: &TaskFacts) -> Option<String> {
    let buckets = match config.grouping {
        Grouping::Key => schema.buckets / facts.parallelism,
        Grouping::Partition => schema.buckets,
    };
    let buckets = u64::from(buckets.max(1));
    let share = config.writer_buffer.0 / buckets;
    (share < BUCKET_SHARE_MIN.0).then(|| {
        format!(
            "`upsert.writer.buffer-size` = {} over {buckets} buckets of each writer leaves {share} \
             bytes a bucket; below {} sending is inefficient: set it to at least {}",
            text::size_text(config.writer_buffer),
            text::size_text(BUCKET_SHARE_MIN),
            text::size_text(ByteCount(BUCKET_SHARE_MIN.0 * buckets))
        )
    })
}

fn idle_buffers(config: &SinkConfig) -> Option<String> {
    (config.writer_buffer > config.memory_budget).then(|| {
        let buffer = config.writer_buffer;
        let budget = config.memory_budget;
        format!(
            "`upsert.writer.buffer-size` = {} is never reached: `sink.memory.budget` = {} bounds \
             all partitions; raise the budget to at least the buffer's size",
            text::size_text(buffer),
            text::size_text(budget)
        )
    })
}

fn too_many(option: &str, value: u32, consequence: &str) -> Option<String> {
    (value > THREADS_ADVISED).then(|| {
        format!(
            "`{option}` = {value}: above {THREADS_ADVISED} {consequence}; set it to at most \
             {THREADS_ADVISED}"
        )
    })
}

fn short_interval(facts: &TaskFacts) -> Option<String> {
    let interval = facts.checkpoint_interval;
    let short = interval > Millis(0) && interval < CHECKPOINT_INTERVAL_MIN;
    (short && !facts.local).then(|| {
        format!(
            "the checkpoint interval of {} is short for the service, which asks for at least {} \
             between two commits of a partition: lengthen it",
            text::span_text(interval),
            text::span_text(CHECKPOINT_INTERVAL_MIN)
        )
    })
}

fn wide_groups(config: &SinkConfig, schema: &TableSchema) -> Option<String> {
    let wide = config.grouping == Grouping::Partition && schema.buckets >= GROUPED_BUCKETS_MAX;
    wide.then(|| {
        format!(
            "`sink.group-partition.enable` = true is for tables with fewer than \
             {GROUPED_BUCKETS_MAX} buckets, and {} has {}: set it to false",
            schema.name, schema.buckets
        )
    })
}

fn whole_rows(
    config: &SinkConfig,
    schema: &TableSchema,
    row_columns: &[(String, String)],
) -> Option<String> {
    let has = |name: &str| row_columns.iter().any(|(row, _)| row.eq_ignore_ascii_case(name));
    let all = schema.columns.iter().all(|column| has(&column.name));
    (all && config.written == WrittenColumns::Declared).then(|| {
        format!(
            "`sink.partial-column.mode` = static, and the rows have every column of {}: each \
             replaces its whole row; leave out of the rows what they are not to write",
            schema.name
        )
    })
}

/// Whether a column's zone-less times become instants, which readers shift by the project's zone.
fn is_shifted((name, row_type): &(String, String), schema: &TableSchema) -> bool {
    let column = schema.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    let row_type = RowType::parse(row_type).ok();
    let (Some(column), Some(row_type)) = (column, row_type) else { return false };
    row_type.is_shifted_in(&column.column_type)
}

fn eight_hours(name: &str, row_type: &str) -> String {
    format!(
        "column `{name}` is {row_type}, which has no time zone: it is written as UTC and appears \
         shifted, by eight hours in a project at UTC+8; declare it TIMESTAMP_LTZ"
    )
}

/// Below this share of a bucket, packs are too small for the network (specification).
const BUCKET_SHARE_MIN: ByteCount = ByteCount(128 << 10);

/// Commit threads and cache writers above this harm each other (specification).
const THREADS_ADVISED: u32 = 32;

/// The service asks for a minute between two commits of a partition.
const CHECKPOINT_INTERVAL_MIN: Millis = Millis(60_000);

/// Grouping by partition is advised below this number of buckets (specification).
const GROUPED_BUCKETS_MAX: u32 = 10;
