//! The promises of the buffers of a writer: an exact account, and what is to be flushed.

use proptest::prelude::*;
use upsert_sink_format::id::ByteCount;
use upsert_sink_format::schema::TableSchema;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::*;
use crate::config::{SinkConfig, TaskFacts};

const BUCKETS: u32 = 4;
const PARTITIONS: u32 = 3;
const RECORD: [u8; 100] = [7; 100];

fn config(options: &[(&str, &str)]) -> SinkConfig {
    let mut all = vec![("upsert.writer.bucket.buffer-size", "1 kb")];
    all.extend(options);
    let column = |name: &str| ColumnDescription {
        name: name.into(),
        column_type: "bigint".into(),
        nullable: false,
    };
    let table = TableDescription {
        name: "t".into(),
        columns: vec![column("id")],
        partition_columns: Vec::new(),
        primary_key: vec!["id".into()],
        buckets: BUCKETS,
    };
    let schema = TableSchema::parse(&table).expect("a plain table");
    let options: Vec<_> = all.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
    let rows = [("id".into(), "BIGINT".into())];
    let facts = TaskFacts {
        parallelism: 1,
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
    };
    SinkConfig::parse(&options, &schema, &rows, &facts).expect("legal options").0
}

fn buffers(options: &[(&str, &str)]) -> Buffers {
    buffers_within(config(options).memory_budget, options)
}

fn buffers_within(budget: ByteCount, options: &[(&str, &str)]) -> Buffers {
    let config = SinkConfig { memory_budget: budget, ..config(options) };
    let mut buffers = Buffers::new(&config, BUCKETS, None, 0);
    buffers.begin_batch(PARTITIONS as usize);
    buffers
}

fn place(partition: u32, bucket: u32) -> Place {
    Place { partition: PartitionIndex(partition), bucket: BucketId(bucket) }
}

/// Buffers so many records of 100 bytes.
fn keep(buffers: &mut Buffers, place: Place, records: usize) {
    (0..records).for_each(|_| buffers.keep(place, &RECORD, 0, None));
}

/// Sends what waits of a bucket, as an outbox does.
fn submit(buffers: &mut Buffers, pack: &BucketPack, ticket: u64) {
    let bytes = pack.body.len();
    buffers.submit(pack.place.partition, bytes, Ticket(ticket), bytes);
}

#[test]
fn every_byte_is_accounted_for_at_once() {
    let mut buffers = buffers(&[]);
    keep(&mut buffers, place(0, 1), 2);
    assert_eq!(buffers.held_bytes(), 200);
    keep(&mut buffers, place(2, 0), 1);
    assert_eq!(buffers.held_bytes(), 300);
    let pack = buffers.seal(place(0, 1)).expect("two records");
    let sealed = pack.body.len() as u64;
    assert_eq!((pack.records, buffers.held_bytes()), (2, 100 + sealed));
    submit(&mut buffers, &pack, 1);
    assert_eq!(buffers.held_bytes(), 100 + sealed);
    buffers.release(Ticket(1), &[]);
    assert_eq!(buffers.held_bytes(), 100);
}

#[test]
fn a_full_bucket_is_handed_out_as_a_pack_and_begins_anew() {
    let mut buffers = buffers(&[]);
    keep(&mut buffers, place(0, 1), 10);
    assert!(buffers.take_full().is_empty());
    buffers.note_moved_out(place(0, 1));
    keep(&mut buffers, place(0, 1), 1);
    let full = buffers.take_full();
    assert_eq!(full.len(), 1);
    assert_eq!((full[0].place, full[0].records, full[0].moved_out), (place(0, 1), 11, 1));
    assert!(!buffers.has_rows(place(0, 1)) && buffers.take_full().is_empty());
    keep(&mut buffers, place(0, 1), 1);
    assert_eq!(buffers.seal(place(0, 1)).map(|pack| pack.moved_out), Some(0));
    assert!(buffers.seal(place(0, 1)).is_none(), "an empty pack is never sent");
}

#[test]
fn a_partition_is_due_when_it_is_large_and_the_batch_had_rows_of_it() {
    let mut buffers = buffers(&[("upsert.writer.buffer-size", "1 kb")]);
    for bucket in [3, 0, 1] {
        keep(&mut buffers, place(1, bucket), 3);
    }
    keep(&mut buffers, place(0, 2), 9);
    assert!(buffers.due().is_empty(), "900 bytes each");
    keep(&mut buffers, place(1, 1), 2);
    assert_eq!(buffers.due(), [place(1, 0), place(1, 1), place(1, 3)]);
    buffers.begin_batch(PARTITIONS as usize);
    assert!(buffers.due().is_empty(), "it had its turn after the batch before");
    assert_eq!(buffers.all().len(), 4, "a barrier flushes all");
}

#[test]
fn packs_that_wait_count_for_their_partition() {
    let mut buffers = buffers(&[("upsert.writer.buffer-size", "2 kb")]);
    keep(&mut buffers, place(1, 0), 11);
    keep(&mut buffers, place(1, 1), 10);
    let full = buffers.take_full();
    assert_eq!(buffers.due(), [place(1, 1)], "what is sealed is due already");
    submit(&mut buffers, &full[0], 1);
    assert!(buffers.due().is_empty(), "what is in flight counts no more");
}

#[test]
fn over_the_budget_the_coldest_partitions_are_due_until_half_of_it_would_be_free() {
    let mut buffers = buffers_within(ByteCount(2_048), &[]);
    for partition in [2, 0, 1] {
        buffers.begin_batch(PARTITIONS as usize);
        keep(&mut buffers, place(partition, 0), 6);
        assert!(buffers.accepting() && buffers.due().is_empty());
    }
    keep(&mut buffers, place(1, 1), 3);
    assert!(!buffers.accepting());
    assert_eq!(buffers.due(), [place(2, 0), place(0, 0)], "2100 bytes, 1024 of them too many");
}

#[test]
fn what_a_later_record_of_its_key_replaced_is_counted_once() {
    let mut buffers = buffers(&[]);
    let mut key = |key: u8, times: usize| {
        (0..times).for_each(|_| buffers.keep(place(0, 1), &RECORD, 0, Some(&[key; 8])));
        buffers.take_merged()
    };
    assert_eq!(key(1, 9) + key(2, 1), 0, "nobody has looked yet");
    assert_eq!(key(2, 1), 9, "a full buffer is looked through, and keeps two");
    assert_eq!(buffers.seal(place(0, 1)).map(|pack| pack.records), Some(2));
    assert_eq!(buffers.take_merged(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn accounted_bytes_are_actual_bytes_after_every_step(
        steps in proptest::collection::vec((0..PARTITIONS, 0..BUCKETS, 0..40_u8, 0..9_u8), 0..600),
        merge in any::<bool>(),
    ) {
        let mut buffers = buffers(&[]);
        let mut waits = Vec::new();
        let mut flies = Vec::new();
        let mut tickets = 0;
        let (mut kept, mut packed, mut merged) = (0, 0, 0);
        for (partition, bucket, what, key) in steps {
            let place = place(partition, bucket);
            match what {
                0 => {
                    let pack = buffers.seal(place);
                    packed += pack.iter().map(|pack| u64::from(pack.records)).sum::<u64>();
                    waits.extend(pack);
                }
                1..4 => {
                    if let Some(pack) = waits.pop() {
                        tickets += 1;
                        submit(&mut buffers, &pack, tickets);
                        flies.push((tickets, pack.body.len()));
                    }
                }
                4 => flies.pop().into_iter().for_each(|(t, _)| buffers.release(Ticket(t), &[])),
                _ => {
                    kept += 1;
                    buffers.keep(place, &RECORD, 0, merge.then_some(&[key; 8][..]));
                }
            }
            let full = buffers.take_full();
            packed += full.iter().map(|pack| u64::from(pack.records)).sum::<u64>();
            waits.extend(full);
            merged += buffers.take_merged();
            let slots = buffers.partitions.iter().flat_map(|partition| &partition.slots);
            let waiting: u64 = slots.clone().map(|slot| u64::from(slot.buffer.records())).sum();
            prop_assert_eq!(kept, packed + merged + waiting);
            let buffered: usize = slots.map(|slot| slot.buffer.held()).sum();
            let sealed: usize = waits.iter().map(|pack: &BucketPack| pack.body.len()).sum();
            let sent: usize = flies.iter().map(|(_, bytes)| bytes).sum();
            prop_assert_eq!(buffers.held_bytes(), (buffered + sealed + sent) as u64);
            buffers.partitions.iter().for_each(PartitionBuffers::check);
            buffers.check();
        }
    }
}
