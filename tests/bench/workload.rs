//! The rows that the hot path is measured with: 100 bytes each, eight columns, four partitions.
//!
//! Made before the clock starts. Invariant: the same bytes for the native and the sandboxed writer.

use upsert_sink_core::io::Task;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, TimeUnit};
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// Rows of one batch.
pub(crate) const BATCH_ROWS: usize = 8192;
/// Batches of one measurement: each bucket seals several packs, so that merging is paid for.
pub(crate) const BATCHES: usize = 80;
/// When a bucket's buffer is full. Nothing is acknowledged here, so the packs stay in memory.
pub(crate) const PACK: &str = "256 kb";
/// Buckets of each partition.
const BUCKETS: u32 = 16;
/// Keys that every tenth row is of, where some are hot.
const HOT_KEYS: usize = 64;

/// The workload that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every row is kept.
    MergeOff,
    /// The last row of each key is kept, and all keys differ.
    UniqueKeys,
    /// The same, and the key is one bigint: records begin with few bytes of key.
    BigintKeys,
    /// The last row of each key is kept, and every tenth row is of one of few keys.
    HotKeys,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 4] =
        [Self::MergeOff, Self::UniqueKeys, Self::BigintKeys, Self::HotKeys];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MergeOff => "merge off",
            Self::UniqueKeys => "merge on, unique keys",
            Self::BigintKeys => "merge on, unique keys of one bigint",
            Self::HotKeys => "merge on, 10 % of rows of hot keys",
        }
    }

    /// The task that a writer is opened with.
    pub(crate) fn task(self) -> Task {
        let merge = (self != Self::MergeOff).to_string();
        Task {
            identity: "bench".into(),
            start: 1,
            nonce: 1,
            parallelism: 1,
            index: WriterIndex(0),
            options: vec![
                ("sink.merge.enable".into(), merge),
                ("sink.memory.budget".into(), "512 mb".into()),
                ("upsert.writer.buffer-size".into(), "256 mb".into()),
                ("upsert.writer.bucket.buffer-size".into(), PACK.into()),
            ],
            columns: COLUMNS.map(|(name, row, _)| (name.into(), row.into())).into(),
            table: self.table(),
            local: true,
            checkpoint_interval: Millis(60_000),
            before_images: false,
            cache_bytes: 0,
        }
    }

    /// All batches of one measurement.
    pub(crate) fn batches(self) -> Vec<Vec<u8>> {
        (0..BATCHES).map(|number| self.batch(number * BATCH_ROWS)).collect()
    }

    fn batch(self, first: usize) -> Vec<u8> {
        let rows = first..first + BATCH_ROWS;
        let keys: Vec<i64> = rows.clone().map(|row| self.key(row)).collect();
        let names: Vec<String> = keys.iter().map(|key| format!("customer{key:04}")).collect();
        let notes: Vec<String> = rows.clone().map(|row| format!("{row:042}")).collect();
        let days: Vec<String> =
            keys.iter().map(|key| format!("2026-01-0{}", key % 4 + 1)).collect();
        let numbers = |scale: i64| rows.clone().map(move |row| Some(row as i64 * scale));
        BatchBuilder::new(BATCH_ROWS)
            .column(ColumnBuilder::int64(keys.iter().map(|key| Some(*key))))
            .column(ColumnBuilder::utf8(names.iter().map(|name| Some(&name[..12]))))
            .column(ColumnBuilder::int32(rows.clone().map(|row| Some(row as i32))))
            .column(ColumnBuilder::float64(rows.clone().map(|row| Some(row as f64 / 7.0))))
            .column(ColumnBuilder::timestamp(TimeUnit::Millis, numbers(1000)))
            .column(ColumnBuilder::int64(numbers(31)))
            .column(ColumnBuilder::utf8(notes.iter().map(|note| Some(note.as_str()))))
            .column(ColumnBuilder::utf8(days.iter().map(|day| Some(day.as_str()))))
            .build()
    }

    fn key(self, row: usize) -> i64 {
        let hot = self == Self::HotKeys && row.is_multiple_of(10);
        (if hot { row / 10 % HOT_KEYS } else { HOT_KEYS + row }) as i64
    }

    fn table(self) -> TableDescription {
        let mut columns = COLUMNS.map(|(name, _, column_type)| ColumnDescription {
            name: name.into(),
            column_type: column_type.into(),
            nullable: name != "id" && name != "customer",
        });
        let (columns, partition_columns) = columns.split_at_mut(7);
        let key: &[&str] = match self {
            Self::BigintKeys => &["id"],
            Self::MergeOff | Self::UniqueKeys | Self::HotKeys => &["id", "customer"],
        };
        TableDescription {
            name: "local.default.bench".into(),
            columns: columns.to_vec(),
            partition_columns: partition_columns.to_vec(),
            primary_key: key.iter().map(|name| (*name).into()).collect(),
            buckets: BUCKETS,
        }
    }
}

/// Name, type of the rows, type of the table: 8 + 12 + 4 + 8 + 8 + 8 + 42 + 10 = 100 bytes.
const COLUMNS: [(&str, &str, &str); 8] = [
    ("id", "BIGINT", "bigint"),
    ("customer", "STRING", "string"),
    ("amount", "INT", "int"),
    ("price", "DOUBLE", "double"),
    ("changed", "TIMESTAMP_LTZ(3)", "datetime"),
    ("counter", "BIGINT", "bigint"),
    ("note", "STRING", "string"),
    ("day", "STRING", "string"),
];
