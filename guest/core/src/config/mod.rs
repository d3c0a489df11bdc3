//! The options of the user: each parsed once into a value that is always legal.
//!
//! The first step of `open`, before the schema meets the rows; machines and buffers read
//! `SinkConfig` and no text. Invariant: a `SinkConfig` keeps every rule of the specification for
//! its table and its parallelism.

mod options;
mod partition_option;
mod rules;
#[cfg(test)]
mod tests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;

pub use options::describe;
pub use partition_option::PartitionLevel;
use upsert_sink_format::error::Error;
use upsert_sink_format::hash::Hasher;
use upsert_sink_format::id::{ByteCount, Hours, Millis};
use upsert_sink_format::record::WrittenColumns;
use upsert_sink_format::schema::{TableSchema, nearest};

/// The time at which rows become visible (`sink.delivery-guarantee`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeliveryGuarantee {
    /// As soon as all writers have flushed.
    AtLeastOnce,
    /// Once the checkpoint that holds them is complete.
    #[default]
    ExactlyOnce,
}

/// The step after a pack whose outcome was in doubt, once it is acknowledged (`sink.doubt`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DoubtPolicy {
    /// Writes on in the same session; at-least-once only.
    Continue,
    /// Fails the attempt, and the engine replays.
    Fail,
    /// Writes on in a fresh session, committed strictly after.
    #[default]
    Rollover,
}

/// The way in which rows are grouped before the writers (`sink.group-partition.enable`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// By primary key: a writer has the same buckets of every partition.
    #[default]
    Key,
    /// By partition: a writer has all buckets of some partitions.
    Partition,
}

/// The fate of a row that breaks a rule of the table (`sink.invalid-row`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InvalidRow {
    /// It is set aside with the reason, and counted.
    DeadLetter,
    /// It ends the attempt.
    #[default]
    Fail,
}

/// The step after the loss of a session that a checkpoint needs (`sink.recover.lost-session`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostSession {
    /// Stops.
    #[default]
    Fail,
    /// Goes on without its rows, and says so.
    Skip,
}

/// The scope in which a primary key is unique (`sink.key.scope`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyScope {
    /// Within its partition.
    #[default]
    Partition,
    /// In the whole table: a row that changes its partition is deleted from the old one.
    Table,
}

/// The facts of a start beside its options and its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskFacts {
    /// The number of writers.
    pub parallelism: u32,
    /// Whether the endpoint is the embedded local server.
    pub local: bool,
    /// The engine's checkpoint interval; zero if it is not known.
    pub checkpoint_interval: Millis,
    /// Whether the engine sends an update-before with every update that may move a row.
    pub before_images: bool,
}

/// Every option of the guest, parsed. The option table (`describe`) says what each one means and
/// costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// `sink.parallelism`, if it is set.
    pub parallelism: Option<NonZeroU32>,
    /// `sink.delivery-guarantee`.
    pub guarantee: DeliveryGuarantee,
    /// `sink.doubt`.
    pub doubt: DoubtPolicy,
    /// `sink.invalid-row`.
    pub invalid_row: InvalidRow,
    /// `sink.recover.lost-session`.
    pub lost_session: LostSession,
    /// `sink.session.idle-limit`.
    pub session_idle_limit: Millis,
    /// `sink.session.lifecycle`, 1 to 24.
    pub session_lifecycle: Hours,
    /// `sink.session.overlap`.
    pub session_overlap: bool,
    /// `sink.key.scope`.
    pub key_scope: KeyScope,
    /// `sink.memory.budget`.
    pub memory_budget: ByteCount,
    /// `sink.merge.enable`.
    pub merge_per_key: bool,
    /// `upsert.partial-column.enable` and `sink.partial-column.mode`.
    pub written: WrittenColumns,
    /// `sink.hasher`.
    pub hasher: Hasher,
    /// `sink.group-partition.enable`.
    pub grouping: Grouping,
    /// `sink.dynamic-partition.limit`.
    pub dynamic_partition_limit: NonZeroU32,
    /// `sink.partition.default-value`; keeps the rule of partition values.
    pub default_partition: String,
    /// `partition`: the levels it names, in the user's order.
    pub partition: Vec<PartitionLevel>,
    /// `upsert.writer.buffer-size`.
    pub writer_buffer: ByteCount,
    /// `upsert.writer.bucket.buffer-size`.
    pub bucket_buffer: ByteCount,
    /// `upsert.writer.max-retries`: attempts after the first.
    pub writer_retries: u32,
    /// `upsert.write.slot-num`.
    pub slots: NonZeroU32,
    /// `upsert.commit.max-retries`: attempts after the first.
    pub commit_retries: u32,
    /// `upsert.commit.thread-num`.
    pub commit_threads: NonZeroU32,
    /// `upsert.commit.timeout`.
    pub commit_timeout: Millis,
    /// `upsert.flush.concurrent`; none if it adapts.
    pub flush_concurrent: Option<NonZeroU32>,
    /// `upsert.major-compact.min-commits`, if `upsert.major-compact.enable`.
    pub compact_after: Option<u32>,
    /// `sink.file-cached.*`.
    pub file_cache: FileCacheConfig,
}

/// The use of the file cache, as far as the host grants one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCacheConfig {
    /// `sink.file-cached.enable`: rows are cached always, not only when memory is short.
    pub enabled: bool,
    /// `sink.file-cached.memory`.
    pub memory: ByteCount,
    /// `sink.file-cached.memory.segment-size`.
    pub piece: ByteCount,
    /// `sink.file-cached.flush.always`: rows gather in memory until there is a piece of them.
    pub gathers: bool,
    /// `sink.file-cached.rolling.max-size`.
    pub rolling: ByteCount,
    /// `sink.bucket.check-interval`.
    pub check_interval: Millis,
    /// `sink.file-cached.write.max-retries`: attempts after the first.
    pub write_retries: u32,
    /// `sink.file-cached.writer.num`.
    pub writers: NonZeroU32,
}

impl SinkConfig {
    /// Reads the user's options, fills in the defaults, and holds all of it against the table, the
    /// rows' columns (name, row type) and the start. Also returns warnings for the operator, each
    /// one line.
    ///
    /// Errors: `InvalidConfig`, naming the option, its value, the rule and what to set.
    pub fn parse(
        options: &[(String, String)],
        schema: &TableSchema,
        row_columns: &[(String, String)],
        facts: &TaskFacts,
    ) -> Result<(Self, Vec<String>), Error> {
        let mut draft = Draft::of_options(options)?;
        partition_option::resolve(&mut draft.config.partition, schema)?;
        rules::check(&draft, schema, facts)?;
        let warnings = rules::warnings(&draft, schema, row_columns, facts);
        Ok((draft.config, warnings))
    }

    /// The fixed levels of the partition: column, value. For `RowPlan::new`.
    pub fn static_partition(&self) -> Vec<(String, String)> {
        let fixed = |level: &PartitionLevel| Some((level.column.clone(), level.value.clone()?));
        self.partition.iter().filter_map(fixed).collect()
    }
}

/// The options while they are read: the configuration, and what is only held against the rules.
struct Draft {
    config: SinkConfig,
    /// `upsert.write.bucket.num`.
    bucket_number: Option<u32>,
    /// `upsert.partial-column.enable`.
    partial: bool,
    /// `sink.partial-column.mode`.
    partial_mode: WrittenColumns,
    /// `upsert.major-compact.enable`.
    compact: bool,
    /// `upsert.major-compact.min-commits`.
    min_commits: u32,
}

impl Draft {
    /// All defaults of the option table, with the user's options over them.
    fn of_options(options: &[(String, String)]) -> Result<Self, Error> {
        let mut draft = Self::blank();
        for entry in options::OPTIONS.iter().filter(|entry| !entry.default.is_empty()) {
            entry.set(&mut draft, entry.default).expect("every default keeps its own rule");
        }
        for (at, (name, value)) in options.iter().enumerate() {
            let place = format!("option `{name}`");
            let Some(entry) = options::OPTIONS.iter().find(|entry| entry.name == name) else {
                return Err(Error::config(place, unknown(name)));
            };
            if options[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(Error::config(place, "it is set twice: set it once"));
            }
            entry.set(&mut draft, value).map_err(|message| Error::config(place, message))?;
        }
        if !draft.config.session_overlap && options.iter().all(|(name, _)| name != "sink.doubt") {
            draft.config.doubt = DoubtPolicy::Fail;
        }
        if draft.partial {
            draft.config.written = draft.partial_mode;
        }
        draft.config.compact_after = draft.compact.then_some(draft.min_commits);
        Ok(draft)
    }

    /// Before the defaults of the option table.
    fn blank() -> Self {
        let config = SinkConfig {
            parallelism: None,
            guarantee: DeliveryGuarantee::default(),
            doubt: DoubtPolicy::default(),
            invalid_row: InvalidRow::default(),
            lost_session: LostSession::default(),
            session_idle_limit: Millis(0),
            session_lifecycle: Hours(0),
            session_overlap: false,
            key_scope: KeyScope::default(),
            memory_budget: ByteCount(0),
            merge_per_key: false,
            written: WrittenColumns::default(),
            hasher: Hasher::Default,
            grouping: Grouping::default(),
            dynamic_partition_limit: NonZeroU32::MIN,
            default_partition: String::new(),
            partition: Vec::new(),
            writer_buffer: ByteCount(0),
            bucket_buffer: ByteCount(0),
            writer_retries: 0,
            slots: NonZeroU32::MIN,
            commit_retries: 0,
            commit_threads: NonZeroU32::MIN,
            commit_timeout: Millis(0),
            flush_concurrent: None,
            compact_after: None,
            file_cache: FileCacheConfig {
                enabled: false,
                memory: ByteCount(0),
                piece: ByteCount(0),
                gathers: false,
                rolling: ByteCount(0),
                check_interval: Millis(0),
                write_retries: 0,
                writers: NonZeroU32::MIN,
            },
        };
        Self {
            config,
            bucket_number: None,
            partial: false,
            partial_mode: WrittenColumns::NonNull,
            compact: false,
            min_commits: 0,
        }
    }
}

fn unknown(name: &str) -> String {
    // Comparing costs the product of the lengths, and no name of ours is half as long.
    let short = Some(name).filter(|name| name.len() <= 128);
    match short.and_then(|name| nearest(name, options::OPTIONS.iter().map(|entry| entry.name))) {
        Some(near) => format!("there is no such option: did you mean `{near}`?"),
        None => "there is no such option: `upsert-sink options` lists all of them".into(),
    }
}
