//! The one task of the model: a table of one partition and two buckets, and rows that are told
//! apart by their position in the input.
//!
//! Invariant: key `k` of the input hashes to bucket `k % 2`; the value of a row is its position.

use std::cell::Cell;

use upsert_sink_core::exchange::Request;
use upsert_sink_core::io::{Task, WriterInput, WriterOutput};
use upsert_sink_core::writer::Writer;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowKind};
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::id::{Millis, SessionId, WriterIndex};
use upsert_sink_format::record::{Value, decode_pack};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{ColumnDescription, SessionInfo, SessionStatus, TableDescription};

use crate::plan::Plan;

/// Keys of the input, at most.
pub(crate) const KEYS: usize = 4;
/// Buckets of the partition.
pub(crate) const BUCKETS: u8 = 2;
/// Bytes that make a bucket's buffer full.
const FULL: usize = 1024;

fn column(name: &str, column_type: &str, nullable: bool) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable }
}

/// The task that one role is opened with.
pub(crate) fn task(plan: &Plan, start: u8, launch: u8, parallelism: u8, index: u8) -> Task {
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut options = vec![
        option("upsert.writer.bucket.buffer-size", "1 kb"),
        option("sink.merge.enable", "false"),
    ];
    if plan.at_least_once {
        options.push(option("sink.delivery-guarantee", "at-least-once"));
    }
    options.extend(plan.options.iter().map(|(name, value)| option(name, value)));
    Task {
        identity: "sink".into(),
        start: start.into(),
        nonce: u64::from(launch) * 7,
        parallelism: parallelism.into(),
        index: WriterIndex(index.into()),
        options,
        columns: vec![("id".into(), "BIGINT".into()), ("v".into(), "STRING".into())],
        table: TableDescription {
            name: "t".into(),
            columns: vec![column("id", "bigint", false), column("v", "string", true)],
            partition_columns: vec![],
            primary_key: vec!["id".into()],
            buckets: BUCKETS.into(),
        },
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    }
}

/// A session as the service describes it.
pub(crate) fn session_info(number: u8, status: SessionStatus) -> SessionInfo {
    SessionInfo {
        id: session_id(number),
        status,
        buckets: BUCKETS.into(),
        hasher: "default".into(),
        hash_key: vec!["id".into()],
        columns: vec![column("id", "bigint", false), column("v", "string", true)],
        column_ids: vec![0, 1],
        partial_update: false,
    }
}

/// The service's id of its session of this number.
pub(crate) fn session_id(number: u8) -> SessionId {
    SessionId(format!("s{number}"))
}

/// The number of a session, from its id.
pub(crate) fn session_number(id: &SessionId) -> u8 {
    id.0[1..].parse().expect("the service numbers its sessions")
}

/// The input's rows as batches.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The value in the column `id` of each key.
    ids: [i64; KEYS],
    /// For each position, letters of a value with which its row just fills a bucket's buffer.
    fill: Vec<usize>,
}

impl Rows {
    /// Looks for ids that hash as wanted, and for the length of a row that fills a buffer.
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut found: [Vec<i64>; 2] = [Vec::new(), Vec::new()];
        for id in 0..64 {
            let value = Value::Int(id);
            let key = [(&ColumnType::BigInt, Some(&value))];
            let hash = hash_values(Hasher::Default, &key).expect("bigint can be a key");
            found[bucket_of(hash, BUCKETS.into()).0 as usize].push(id);
        }
        let ids = [found[0][0], found[1][0], found[0][1], found[1][1]];
        let rows = Self { ids, fill: Vec::new() };
        let fill = (0..plan.rows()).map(|position| {
            let key = plan.log[position as usize];
            let fills = |fill: &usize| rows.fills(plan, &rows.batch_of(key, position, *fill));
            (1..FULL).rev().find(fills).expect("some length is the right one")
        });
        Self { fill: fill.collect(), ids }
    }

    /// Whether a batch of one row is taken, and is a pack that asks for its session at once.
    fn fills(&self, plan: &Plan, batch: &[u8]) -> bool {
        let task = task(plan, 1, 1, 1, 0);
        let mut writer = Writer::open(Millis(0), &task, &[]).expect("the task is right");
        while writer.poll_output().is_some() {}
        let taken = writer.handle_input(Millis(0), WriterInput::RowsArrived(batch)).is_ok();
        let outputs = std::iter::from_fn(|| writer.poll_output());
        let asks = outputs.filter_map(|output| match output {
            WriterOutput::Request(body) => Request::from_bytes(&body).ok(),
            _ => None,
        });
        taken && asks.last().is_some_and(|request| !request.wanted.is_empty())
    }

    /// One row as a batch: a full one fills its bucket's buffer, and becomes a pack at once.
    pub(crate) fn batch(&self, key: u8, position: u8, full: bool) -> Vec<u8> {
        self.batch_of(key, position, if full { self.fill[position as usize] } else { 1 })
    }

    fn batch_of(&self, key: u8, position: u8, fill: usize) -> Vec<u8> {
        let value = format!("{position:0>fill$}");
        BatchBuilder::new(1)
            .kinds(&[RowKind::Insert])
            .column(ColumnBuilder::int64([Some(self.ids[key as usize])]))
            .column(ColumnBuilder::utf8([Some(value.as_str())]))
            .build()
    }

    /// The positions of a pack's rows, as bits: they rise within a pack.
    pub(crate) fn positions(body: &[u8]) -> u16 {
        let columns = [ColumnType::BigInt, ColumnType::String];
        let positions = Cell::new(0_u16);
        decode_pack(body, &columns, &mut |record| {
            let Some(Value::Bytes(text)) = &record.values[1] else {
                panic!("every row of the input has a value")
            };
            let digits = text.iter().map(|digit| u32::from(digit - b'0'));
            let position = digits.fold(0, |number, digit| number * 10 + digit);
            assert!(positions.get() >> position == 0, "rows of a pack are in the order of input");
            positions.set(positions.get() | 1 << position);
            Ok(())
        })
        .expect("the writer encodes what can be decoded");
        positions.get()
    }
}
