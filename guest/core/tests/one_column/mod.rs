//! A sink to a table of one column, its key: what tests of single machines open them with.
//!
//! Invariant: the machine that is tested decides by nothing of it but start and parallelism.

use upsert_sink_core::io::Task;
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// The one column.
pub(crate) fn column() -> ColumnDescription {
    ColumnDescription { name: "id".into(), column_type: "bigint".into(), nullable: false }
}

/// The sink called `sink`, with this number of its start and this number of writers.
pub(crate) fn task(start: u64, parallelism: u32) -> Task {
    Task {
        identity: "sink".into(),
        start,
        nonce: 1,
        parallelism,
        index: WriterIndex(0),
        options: Vec::new(),
        columns: vec![("id".into(), "BIGINT".into())],
        table: TableDescription {
            name: "p.t".into(),
            columns: vec![column()],
            partition_columns: Vec::new(),
            primary_key: vec!["id".into()],
            buckets: 4,
        },
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    }
}
