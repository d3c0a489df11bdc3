//! The options: name, type, default, bounds, doc, and where the parsed value goes.
//!
//! The only list of the guest's options: `SinkConfig::parse` reads them by it, `describe` prints
//! it. Defaults are texts that are parsed like a user's. Invariant: the options are
//! exactly those in the list, and each of them is parsed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::num::NonZeroU32;

use upsert_sink_format::hash::Hasher;
use upsert_sink_format::id::{ByteCount, Hours, Millis};
use upsert_sink_format::option::text::{self, Bare, HOUR, MINUTE, SECOND};
use upsert_sink_format::option::{OptionDoc, OptionEntry, OptionKind, Set};
use upsert_sink_format::record::WrittenColumns;

use super::{
    DeliveryGuarantee, DoubtPolicy, Draft, Grouping, InvalidRow, KeyScope, LostSession,
    partition_option,
};

/// Every option of the guest, sorted by name.
pub fn describe() -> Vec<OptionDoc> {
    OPTIONS.iter().map(OptionEntry::describe).collect()
}

/// Sorted by name.
pub(super) static OPTIONS: &[OptionEntry<Draft>] = &[
    OptionEntry {
        name: "partition",
        default: "",
        kind: OptionKind::Text(
            "`ds='2018'` or `ds=2018` (static) or `ds` (dynamic), levels separated by `,`",
            |d, v| {
                d.config.partition = partition_option::parse(v)?;
                Ok(())
            },
        ),
        doc: "The partition that rows go to. A level that is not named here, or named without a \
              value, is taken from the row's column of that name. No default: all levels are \
              dynamic.",
    },
    OptionEntry {
        name: "sink.bucket.check-interval",
        default: "60 s",
        kind: OptionKind::Span(Millis(SECOND), Millis(HOUR), Bare::Milliseconds, |d, n| {
            d.config.file_cache.check_interval = n;
            Ok(())
        }),
        doc: "File cache mode: how often partitions are looked at for \
              `sink.file-cached.rolling.max-size`. 60 s is the vendor's default.",
    },
    OptionEntry {
        name: "sink.delivery-guarantee",
        default: "exactly-once",
        kind: OptionKind::Words(&[
            ("exactly-once", |d| {
                d.config.guarantee = DeliveryGuarantee::ExactlyOnce;
                Ok(())
            }),
            ("at-least-once", |d| {
                d.config.guarantee = DeliveryGuarantee::AtLeastOnce;
                Ok(())
            }),
        ]),
        doc: "exactly-once commits when the checkpoint is complete; at-least-once as soon as all \
              writers have flushed, which shows rows earlier and may show rows of a checkpoint \
              that later fails. Default: the one that surprises nobody.",
    },
    OptionEntry {
        name: "sink.doubt",
        default: "rollover",
        kind: OptionKind::Words(&[
            ("rollover", |d| {
                d.config.doubt = DoubtPolicy::Rollover;
                Ok(())
            }),
            ("fail", |d| {
                d.config.doubt = DoubtPolicy::Fail;
                Ok(())
            }),
            ("continue", |d| {
                d.config.doubt = DoubtPolicy::Continue;
                Ok(())
            }),
        ]),
        doc: "What follows a pack whose outcome was unknown, once it is acknowledged: rollover \
              writes on in a fresh session, fail replays from the last checkpoint, continue \
              writes on in the same session (at-least-once only; then even convergence is not \
              promised). Default: rollover, correct without a replay; fail if \
              `sink.session.overlap` is false, which leaves no room for the fresh session.",
    },
    OptionEntry {
        name: "sink.dynamic-partition.limit",
        default: "100",
        kind: OptionKind::Count(1, 100_000, |d, n| {
            d.config.dynamic_partition_limit = at_least_one(n)?;
            Ok(())
        }),
        doc: "How many partitions one writer may write to between two checkpoints. Each costs a \
              session, a commit and buffers. 100 is the vendor's default: a column that is no \
              partition shows soon.",
    },
    OptionEntry {
        name: "sink.file-cached.enable",
        default: "false",
        kind: OptionKind::Flag(|d, on| {
            d.config.file_cache.enabled = on;
            Ok(())
        }),
        doc: "File cache mode, for many partitions: all rows wait on local disk for their \
              checkpoint, so that memory does not grow with the partitions. The host must grant a \
              directory (`sink.file-cached.tmp.dirs`). Default false: rows go to disk only if a \
              directory is granted and memory is short.",
    },
    OptionEntry {
        name: "sink.file-cached.flush.always",
        default: "true",
        kind: OptionKind::Flag(|d, on| {
            d.config.file_cache.gathers = on;
            Ok(())
        }),
        doc: "File cache mode: whether rows gather in memory until a partition has \
              `sink.file-cached.memory.segment-size` of them; false writes those of each batch at \
              its end, in smaller pieces. True is the vendor's default.",
    },
    OptionEntry {
        name: "sink.file-cached.memory",
        default: "64 MiB",
        kind: OptionKind::Size(kib(128), ByteCount(2 * GIB), |d, size| {
            d.config.file_cache.memory = size;
            Ok(())
        }),
        doc: "File cache mode: the memory over which the partitions that had no rows for longest \
              are cached, down to half of it; never more than three quarters of \
              `sink.memory.budget`. Up to half of it notes the keys of cached rows, so that they \
              are still merged. 64 MiB is the vendor's default.",
    },
    OptionEntry {
        name: "sink.file-cached.memory.segment-size",
        default: "128 KiB",
        kind: OptionKind::Size(kib(4), ByteCount(64 * MIB), |d, size| {
            d.config.file_cache.piece = size;
            Ok(())
        }),
        doc: "File cache mode: the rows of a partition that gather in memory before they are \
              cached together. 128 KiB is the vendor's default.",
    },
    OptionEntry {
        name: "sink.file-cached.rolling.max-size",
        default: "16 MiB",
        kind: OptionKind::Size(kib(4), ByteCount(2 * GIB), |d, size| {
            d.config.file_cache.rolling = size;
            Ok(())
        }),
        doc: "File cache mode: a partition that holds more is sent before the checkpoint, and a \
              cache file that has more is followed by another. 16 MiB is the vendor's default.",
    },
    OptionEntry {
        name: "sink.file-cached.write.max-retries",
        default: "3",
        kind: OptionKind::Count(0, RETRIES_MAX, |d, n| {
            d.config.file_cache.write_retries = n;
            Ok(())
        }),
        doc: "File cache: further attempts to write rows that the disk refused. After them rows \
              are sent from memory until the next checkpoint. 3 is the vendor's default.",
    },
    OptionEntry {
        name: "sink.file-cached.writer.num",
        default: "16",
        kind: OptionKind::Count(1, THREADS_MAX, |d, n| {
            d.config.file_cache.writers = at_least_one(n)?;
            Ok(())
        }),
        doc: "File cache mode: partitions that one writer sends at once; times \
              `upsert.flush.concurrent` it is the number of buckets. Above 32 the network \
              congests. 16 is the vendor's default.",
    },
    OptionEntry {
        name: "sink.group-partition.enable",
        default: "false",
        kind: OptionKind::Flag(|d, on| {
            d.config.grouping = if on { Grouping::Partition } else { Grouping::Key };
            Ok(())
        }),
        doc: "Groups rows by partition instead of primary key: for many evenly written partitions \
              of a table with fewer than 10 buckets. Default false: by key, no partition can be a \
              hot spot.",
    },
    OptionEntry {
        name: "sink.hasher",
        default: "default",
        kind: OptionKind::Words(&[
            ("default", |d| {
                d.config.hasher = Hasher::Default;
                Ok(())
            }),
            ("legacy", |d| {
                d.config.hasher = Hasher::Legacy;
                Ok(())
            }),
        ]),
        doc: "How the table hashes keys into buckets. Rows are routed before a session can tell; \
              a session that says otherwise is refused, and names the value to set here. Default: \
              what the service gives to new tables.",
    },
    OptionEntry {
        name: "sink.invalid-row",
        default: "fail",
        kind: OptionKind::Words(&[
            ("fail", |d| {
                d.config.invalid_row = InvalidRow::Fail;
                Ok(())
            }),
            ("dead-letter", |d| {
                d.config.invalid_row = InvalidRow::DeadLetter;
                Ok(())
            }),
        ]),
        doc: "What becomes of a row that breaks a rule of the table: fail stops the sink; \
              dead-letter keeps it, with the reason, in a file that is durable before the \
              checkpoint completes. Default fail: no row is set aside unless asked.",
    },
    OptionEntry {
        name: "sink.key.scope",
        default: "partition",
        kind: OptionKind::Words(&[
            ("partition", |d| {
                d.config.key_scope = KeyScope::Partition;
                Ok(())
            }),
            ("table", |d| {
                d.config.key_scope = KeyScope::Table;
                Ok(())
            }),
        ]),
        doc: "Where a primary key is unique: within its partition, which is MaxCompute's own rule, \
              or in the whole table. With table a row that changes its partition must leave the \
              old one, so the engine has to send update-before rows; an engine that does not is \
              refused. Default partition: most streams have no before-images.",
    },
    OptionEntry {
        name: "sink.memory.budget",
        default: "64 MiB",
        kind: OptionKind::Size(kib(64), ByteCount(2 * GIB), |d, n| {
            d.config.memory_budget = n;
            Ok(())
        }),
        doc: "Bytes of rows that one writer holds over all partitions, buffered and in packs that \
              are not acknowledged. Beyond it buffers are flushed and the engine waits. 64 MiB \
              holds 64 full buckets, and a hundred writers fit a machine.",
    },
    OptionEntry {
        name: "sink.merge.enable",
        default: "true",
        kind: OptionKind::Flag(|d, on| {
            d.config.merge_per_key = on;
            Ok(())
        }),
        doc: "Keeps only the last row of a key in each buffer: fewer bytes for the same table. \
              Costs a look-up per row; turn it off if keys never repeat within seconds. Default \
              true: change feeds repeat keys.",
    },
    OptionEntry {
        name: "sink.operation",
        default: "upsert",
        kind: OptionKind::Words(&[
            ("upsert", |_| Ok(())),
            ("insert", |_| {
                not_yet(
                    true,
                    "insert",
                    "set it to `upsert`; a Delta table takes inserts as upserts",
                )
            }),
        ]),
        doc: "How rows are written. Only upsert is supported yet.",
    },
    OptionEntry {
        name: "sink.parallelism",
        default: "",
        kind: OptionKind::Count(1, 65_536, |d, n| {
            d.config.parallelism = Some(at_least_one(n)?);
            Ok(())
        }),
        doc: "The number of writers. The table's buckets must be an integral multiple of it; one \
              writer per bucket is fastest. No default: the engine's.",
    },
    OptionEntry {
        name: "sink.partial-column.mode",
        default: "dynamic",
        kind: OptionKind::Words(&[
            ("dynamic", |d| {
                d.partial_mode = WrittenColumns::NonNull;
                Ok(())
            }),
            ("static", |d| {
                d.partial_mode = WrittenColumns::Declared;
                Ok(())
            }),
        ]),
        doc: "Which columns a row writes under `upsert.partial-column.enable`: dynamic writes \
              those that are not null in it, so that no row can set one to null; static writes \
              every column that the rows have, nulls too. Default dynamic, as the vendor has it.",
    },
    OptionEntry {
        name: "sink.partition.default-value",
        default: "__DEFAULT_PARTITION__",
        kind: OptionKind::Text(
            "a partition value: 1 to 255 bytes without quotes, `/`, `,`, `=` or control characters",
            |d, v| {
                d.config.default_partition = partition_option::value(v)?.into();
                Ok(())
            },
        ),
        doc: "The partition of rows whose partition column is NULL or empty. The vendor's \
              default.",
    },
    OptionEntry {
        name: "sink.recover.lost-session",
        default: "fail",
        kind: OptionKind::Words(&[
            ("fail", |d| {
                d.config.lost_session = LostSession::Fail;
                Ok(())
            }),
            ("skip", |d| {
                d.config.lost_session = LostSession::Skip;
                Ok(())
            }),
        ]),
        doc: "What follows when a session that a checkpoint needs is gone: fail stops, so that an \
              older checkpoint can be replayed; skip loses its rows and logs partition, rows and \
              session. Default fail: loss is never silent.",
    },
    OptionEntry {
        name: "sink.session.idle-limit",
        default: "1 h",
        kind: OptionKind::Span(Millis(MINUTE), Millis(24 * HOUR), Bare::Milliseconds, |d, n| {
            d.config.session_idle_limit = n;
            Ok(())
        }),
        doc: "A session without contact for longer is not taken for committed when the service no \
              longer knows it. Hosts are in contact every half minute, so 1 h of silence means \
              that the host itself was away: long enough for a slow restart, and far from the 24 \
              h after which the service drops sessions by itself.",
    },
    OptionEntry {
        name: "sink.session.lifecycle",
        default: "24 h",
        kind: OptionKind::Span(Millis(HOUR), Millis(24 * HOUR), Bare::Milliseconds, |d, n| {
            d.config.session_lifecycle = whole_hours(n)?;
            Ok(())
        }),
        doc: "Age, in whole hours, at which the service may drop a session that is not committed: \
              the longest outage that a pending commit survives. Always sent. Default 24 h: the \
              most the service grants.",
    },
    OptionEntry {
        name: "sink.session.overlap",
        default: "true",
        kind: OptionKind::Flag(|d, on| {
            d.config.session_overlap = on;
            Ok(())
        }),
        doc: "Whether a partition may have two open sessions, the older waiting for its commit. \
              Set false for a service that refuses the second: rows then wait in memory until the \
              commit before is known, an aborted checkpoint fails the attempt, `sink.doubt` is not \
              rollover, exactly-once refuses intermediate savepoints, and a session whose creation \
              got no answer blocks its partition for `sink.session.lifecycle`. Default true: rows \
              never wait for a commit.",
    },
    OptionEntry {
        name: "upsert.commit.max-retries",
        default: "3",
        kind: OptionKind::Count(0, RETRIES_MAX, |d, n| {
            d.config.commit_retries = n;
            Ok(())
        }),
        doc: "Further attempts at a commit that was refused for a passing reason. 3 is the \
              vendor's default.",
    },
    OptionEntry {
        name: "upsert.commit.thread-num",
        default: "16",
        kind: OptionKind::Count(1, THREADS_MAX, |d, n| {
            d.config.commit_threads = at_least_one(n)?;
            Ok(())
        }),
        doc: "Partitions that are committed at once. Above 32, commits slow each other. 16 is the \
              vendor's default.",
    },
    OptionEntry {
        name: "upsert.commit.timeout",
        default: "600 s",
        kind: OptionKind::Span(Millis(SECOND), Millis(24 * HOUR), Bare::Seconds, |d, n| {
            d.config.commit_timeout = n;
            Ok(())
        }),
        doc: "How long the outcome of a commit may stay unknown before the attempt fails. A bare \
              number is seconds, as the vendor documents it. 600 s is the vendor's default.",
    },
    OptionEntry {
        name: "upsert.flush.concurrent",
        default: "auto",
        kind: OptionKind::Text("`auto`, or a number from 1 to 1024", |d, v| {
            d.config.flush_concurrent = flush_concurrent(v)?;
            Ok(())
        }),
        doc: "Buckets of one partition that are flushed at once. auto begins with 2, the vendor's \
              default, and rises up to 64 while packs are acknowledged about as quickly as with \
              fewer: on a line with a long way many at once cost nothing, on a full one they only \
              take longer. A number is kept to; too many congest the network.",
    },
    OptionEntry {
        name: "upsert.major-compact.enable",
        default: "false",
        kind: OptionKind::Flag(|d, on| {
            d.compact = on;
            Ok(())
        }),
        doc: "Asks the service for a major compaction of a partition after a number of commits: \
              apart from checkpoints, one at a time, and again later if that fails. It reads and \
              writes the whole partition, which is billed and slows writing down. Default false, \
              as the vendor's.",
    },
    OptionEntry {
        name: "upsert.major-compact.min-commits",
        default: "100",
        kind: OptionKind::Count(1, u32::MAX, |d, n| {
            d.min_commits = n;
            Ok(())
        }),
        doc: "Commits of a partition until a major compaction is asked for. The journal keeps the \
              counts over restarts. Without effect unless `upsert.major-compact.enable` is `true`. \
              100 is the vendor's default.",
    },
    OptionEntry {
        name: "upsert.partial-column.enable",
        default: "false",
        kind: OptionKind::Flag(|d, on| {
            d.partial = on;
            Ok(())
        }),
        doc: "Partial update: a row writes some columns of its key and leaves the others as they \
              are, or null if the key is new; `sink.partial-column.mode` says which. The table \
              needs the property `acid.partial.fields.update.enable` = `true`: without it the \
              sink stops and says so. A delete removes the whole row. Default false: a row is \
              whole, and replaces the one before.",
    },
    OptionEntry {
        name: "upsert.write.bucket.num",
        default: "",
        kind: OptionKind::Count(1, u32::MAX, |d, n| {
            d.bucket_number = Some(n);
            Ok(())
        }),
        doc: "The table's buckets, for jobs that state it: it must be what the table says. No \
              default: the table's.",
    },
    OptionEntry {
        name: "upsert.write.slot-num",
        default: "1",
        kind: OptionKind::Count(1, 1_024, |d, n| {
            d.config.slots = at_least_one(n)?;
            Ok(())
        }),
        doc: "Tunnel slots of each session: more spread a session over more servers and use up \
              quota. 1 is the vendor's default.",
    },
    OptionEntry {
        name: "upsert.writer.bucket.buffer-size",
        default: "1 MiB",
        kind: OptionKind::Size(kib(1), ByteCount(256 * MIB), |d, n| {
            d.config.bucket_buffer = n;
            Ok(())
        }),
        doc: "A bucket with more bytes than this is flushed, in one pack. 1 MiB is the vendor's \
              default: large enough that a request's own cost vanishes.",
    },
    OptionEntry {
        name: "upsert.writer.buffer-size",
        default: "64 MiB",
        kind: OptionKind::Size(kib(1), ByteCount(2 * GIB), |d, n| {
            d.config.writer_buffer = n;
            Ok(())
        }),
        doc: "Bytes that one writer buffers of one partition, over all its buckets; beyond it \
              they are flushed. Below 128 KiB a bucket, sending is inefficient. 64 MiB is the \
              vendor's default; `sink.memory.budget` bounds all partitions.",
    },
    OptionEntry {
        name: "upsert.writer.max-retries",
        default: "3",
        kind: OptionKind::Count(0, RETRIES_MAX, |d, n| {
            d.config.writer_retries = n;
            Ok(())
        }),
        doc: "Further attempts at a pack that was refused for a passing reason. 3 is the vendor's \
              default.",
    },
];

/// A count that is at least one.
fn at_least_one(n: u32) -> Result<NonZeroU32, String> {
    NonZeroU32::new(n).ok_or_else(|| "`0` is out of bounds: at least 1".to_string())
}

/// A number of packs, or none for `auto`.
fn flush_concurrent(text: &str) -> Result<Option<NonZeroU32>, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    let allowed = text.parse().ok().filter(|n| (1..=THREADS_MAX).contains(n));
    let number = allowed.and_then(NonZeroU32::new);
    number
        .map(Some)
        .ok_or_else(|| format!("`{text}` is neither `auto` nor a number from 1 to 1024"))
}

/// A span that is a whole number of hours.
fn whole_hours(span: Millis) -> Result<Hours, String> {
    let hours = u32::try_from(span.0 / HOUR).unwrap_or(u32::MAX);
    if span.0.is_multiple_of(HOUR) {
        return Ok(Hours(hours));
    }
    let exact = text::span_text(span);
    Err(format!("{exact} is not a whole number of hours: write `{hours} h`"))
}

/// Refuses what is documented, but not built yet.
fn not_yet(refused: bool, what: &str, remedy: &str) -> Set {
    if refused { Err(format!("{what} is not supported yet: {remedy}")) } else { Ok(()) }
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn kib(n: u64) -> ByteCount {
    ByteCount(n * KIB)
}

/// The largest attempt count anyone may ask for: beyond it, a retry is a hang.
const RETRIES_MAX: u32 = 1_000;

/// The largest concurrency that is taken as meant; advice against less is a warning (`rules.rs`).
const THREADS_MAX: u32 = 1_024;
