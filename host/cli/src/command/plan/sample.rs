//! The first events of a job's input: how large rows are, how often keys come again, and how many
//! partitions and buckets have rows.
//!
//! Read by `plan`, by the same reading as `verify`'s. Invariant: a row that breaks a rule of the
//! table is an error that names it, as it is when the job runs, or not counted if the job sets such
//! rows aside.

use std::collections::{BTreeMap, BTreeSet};

use upsert_sink::TableDescription;
use upsert_sink::ledger::ExpectedLoad;
use upsert_sink_format::record::{Op, encode_values};
use upsert_sink_format::schema::TableSchema;

use crate::command::verify::changes::{ChangeReader, Partitions};
use crate::command::verify::codec::{BucketPlace, KeyState, RowCodec, RowKey};
use crate::command::verify::rules::JobRules;
use crate::failure::bad_input;
use crate::job::Job;
use crate::source;
use crate::source::debezium::RowPlace;
use crate::source::position::Offset;
use crate::source::{BATCH_ROWS_MAX, files};

/// The part of the input that was looked at.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// Events that were looked at.
    pub(super) events: u64,
    /// The key of each row, in the input's order.
    keys: Vec<u32>,
    /// The number of each key.
    numbers: BTreeMap<RowKey, u32>,
    /// Bytes of all records.
    bytes: u64,
}

impl Sample {
    /// Reads the beginning of a job's input.
    ///
    /// Errors: files that cannot be read, rows that cannot be understood, no row at all.
    pub(super) fn read(
        job: &Job,
        table: &TableDescription,
        schema: TableSchema,
        rules: &JobRules,
        events_max: u64,
    ) -> anyhow::Result<Self> {
        if job.paths.iter().any(|path| path == "-") {
            return Err(bad_input(
                "[source] path = \"-\": standard input cannot be read twice; keep some of its rows \
                 in a file, and plan with a job that reads that",
            ));
        }
        let files = files::resolve(&job.paths)?;
        let place = RowPlace::of(job, table);
        let batch_rows = usize::try_from(events_max).unwrap_or(BATCH_ROWS_MAX).min(BATCH_ROWS_MAX);
        let mut input = source::open(job, &files, place, Offset::default(), batch_rows)?;
        let codec = RowCodec::new(schema, rules.hasher);
        let mut changes = ChangeReader::new(&codec, rules, &input.schema())?;
        let (mut sample, mut partitions) = (Self::default(), Partitions::default());
        while sample.events < events_max {
            let Some(events) = input.next()? else { break };
            let before = sample.events;
            changes.read(&events, before, &mut partitions, &mut |key, state| {
                sample.add(&codec, key, &state)
            })?;
            sample.events += events.events;
        }
        if sample.keys.is_empty() {
            return Err(bad_input("the input has no rows yet, so there is nothing to plan with"));
        }
        Ok(sample)
    }

    fn add(&mut self, codec: &RowCodec, key: RowKey, state: &KeyState) -> anyhow::Result<()> {
        let mut record = Vec::new();
        match state.row() {
            Some(row) => {
                encode_values(&codec.types, &codec.values(row)?, Op::Upsert, &mut record);
            }
            // A delete names its key.
            None => record.extend_from_slice(&key),
        }
        self.bytes += record.len() as u64;
        let next = u32::try_from(self.numbers.len())?;
        self.keys.push(*self.numbers.entry(key).or_insert(next));
        Ok(())
    }

    /// One checkpoint of so many events, with rows in so many partitions unless the sample is to
    /// say.
    pub(super) fn load(&self, events: u64, partitions: Option<u64>) -> ExpectedLoad {
        let rows_of_sample = self.keys.len() as u64;
        let rows = events * rows_of_sample / self.events.max(1);
        let seen = usize::try_from(rows.clamp(1, rows_of_sample)).unwrap_or(usize::MAX);
        let keys: BTreeSet<u32> = self.keys[..seen].iter().copied().collect();
        let touched = self.numbers.iter().filter(|(_, number)| keys.contains(number));
        let places: BTreeSet<BucketPlace> = touched.map(|(key, _)| BucketPlace::of(key)).collect();
        let found: BTreeSet<u32> = places.iter().map(|place| place.partition).collect();
        let (found, touched) = (found.len() as u64, places.len() as u64);
        let partitions = partitions.unwrap_or(found);
        ExpectedLoad {
            rows,
            // A longer checkpoint is the sample over and over: its keys, with newer rows.
            rows_sent: if rows > rows_of_sample {
                rows * keys.len() as u64 / rows_of_sample
            } else {
                keys.len() as u64
            },
            row_bytes: self.bytes / rows_of_sample,
            partitions,
            buckets_touched: touched * partitions / found.max(1),
        }
    }
}
