//! The promises of the buffers of a writer: an exact account, and what is to be flushed.

use alloc::format;
use alloc::string::String;

use proptest::prelude::*;
use upsert_sink_format::id::{ByteCount, SegmentId};
use upsert_sink_format::schema::TableSchema;
use upsert_sink_format::tunnel::{
    Answer, ColumnDescription, Outcome, Refusal, RefusalKind, TableDescription,
};

use super::*;
use crate::config::{SinkConfig, TaskFacts};
use crate::io::{CacheCommand, Completion};

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

/// File cache mode with pieces of 4 KiB and segments of 8 KiB, in so many bytes.
fn cached(granted: u64, options: &[(&str, &str)]) -> Buffers {
    let mut all = vec![
        ("sink.file-cached.enable", "true"),
        ("sink.file-cached.memory.segment-size", "4 kb"),
        ("sink.file-cached.rolling.max-size", "8 kb"),
        ("sink.file-cached.write.max-retries", "1"),
    ];
    all.extend(options);
    let config = SinkConfig { bucket_buffer: ByteCount(1 << 20), ..config(&all) };
    let mut buffers = Buffers::new(&config, BUCKETS, None, granted);
    buffers.begin_batch(PARTITIONS as usize);
    buffers
}

/// The requests to the file cache, in words, and the tickets of its appends.
fn asked(buffers: &mut Buffers) -> (Vec<String>, Vec<Ticket>) {
    let (mut words, mut tickets) = (Vec::new(), Vec::new());
    for command in buffers.take_cache_commands() {
        words.push(match command {
            CacheCommand::Append(ticket, segment, bytes) => {
                tickets.push(ticket);
                format!("append {} to {segment}", bytes.len())
            }
            CacheCommand::Drop(segment) => format!("drop {segment}"),
            CacheCommand::Seal(_, segment) => format!("seal {segment}"),
        });
    }
    (words, tickets)
}

fn completed(ticket: Ticket, outcome: Outcome) -> Completion {
    Completion { ticket, outcome }
}

fn done(buffers: &mut Buffers, ticket: Ticket) -> CacheNews {
    buffers.complete_spill(completed(ticket, Outcome::Done(Answer::None)))
}

fn refused(buffers: &mut Buffers, ticket: Ticket, kind: RefusalKind) -> CacheNews {
    let refusal = Refusal {
        kind,
        code: "".into(),
        message: "no".into(),
        request_id: "".into(),
        retry_after: Millis(0),
    };
    buffers.complete_spill(completed(ticket, Outcome::Refused(refusal)))
}

#[test]
fn a_piece_of_a_partition_goes_to_the_cache_and_is_sent_from_there() {
    let mut buffers = cached(1 << 20, &[]);
    keep(&mut buffers, place(0, 1), 40);
    keep(&mut buffers, place(1, 0), 3);
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty(), "4000 bytes are no piece yet");
    keep(&mut buffers, place(0, 2), 1);
    buffers.spill();
    let (words, tickets) = asked(&mut buffers);
    assert_eq!(words, ["append 4100 to 0"], "all buckets of the partition, and no other");
    assert_eq!(buffers.held_bytes(), 4_400, "held until they are in the cache");
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty(), "one append at a time");
    assert_eq!(done(&mut buffers, tickets[0]), CacheNews::Cached(4_100));
    assert_eq!(buffers.held_bytes(), 300 + 2 * 12, "two places, and the other partition");
    keep(&mut buffers, place(0, 1), 1);
    let pack = buffers.seal(place(0, 1)).expect("rows");
    let whole = CachedRange { segment: SegmentId(0), offset: 0, length: 4_000 };
    assert_eq!((pack.records, pack.cached.as_slice()), (41, [whole].as_slice()));
    assert!(pack.body.starts_with(&RECORD) && pack.body.len() < 130, "the last, and the trailer");
    buffers.submit(pack.place.partition, pack.held(), Ticket(1), pack.held());
    buffers.release(Ticket(1), &pack.cached);
    assert!(asked(&mut buffers).0.is_empty(), "the segment still takes rows");
    assert_eq!(done(&mut buffers, tickets[0]), CacheNews::Late);
}

#[test]
fn a_full_segment_is_followed_by_another_and_dropped_when_its_rows_are_acknowledged() {
    let mut buffers = cached(1 << 20, &[]);
    let mut packs = Vec::new();
    for round in 0..2 {
        keep(&mut buffers, place(0, round), 82);
        buffers.spill();
        let (words, tickets) = asked(&mut buffers);
        assert_eq!(words, [format!("append 8200 to {round}")]);
        done(&mut buffers, tickets[0]);
        assert_eq!(asked(&mut buffers).0, [format!("seal {round}")]);
        packs.extend(buffers.seal(place(0, round)));
    }
    for (ticket, pack) in packs.iter().enumerate() {
        let ticket = Ticket(ticket as u64 + 1);
        buffers.submit(pack.place.partition, pack.held(), ticket, pack.held());
        assert!(asked(&mut buffers).0.is_empty(), "needed until it is acknowledged");
        buffers.release(ticket, &pack.cached);
        assert_eq!(asked(&mut buffers).0, [format!("drop {}", ticket.0 - 1)]);
    }
    buffers.forget_partitions();
    assert!(asked(&mut buffers).0.is_empty());
}

#[test]
fn rows_that_are_on_their_way_are_sent_from_memory_if_they_are_due() {
    let mut buffers = cached(1 << 20, &[]);
    keep(&mut buffers, place(0, 1), 41);
    buffers.spill();
    let (_, tickets) = asked(&mut buffers);
    keep(&mut buffers, place(0, 1), 1);
    let pack = buffers.seal(place(0, 1)).expect("rows");
    assert_eq!((pack.records, pack.cached.len()), (42, 0));
    assert_eq!(done(&mut buffers, tickets[0]), CacheNews::Cached(0), "nobody asks for them there");
    buffers.submit(pack.place.partition, pack.held(), Ticket(1), pack.held());
    buffers.release(Ticket(1), &[]);
    buffers.forget_partitions();
    assert_eq!(asked(&mut buffers).0, ["drop 0"], "a barrier leaves nothing there");
    buffers.begin_batch(PARTITIONS as usize);
    keep(&mut buffers, place(0, 1), 41);
    buffers.spill();
    assert_eq!(asked(&mut buffers).0, ["append 4100 to 1"], "no number comes twice");
}

#[test]
fn a_disk_that_fails_is_asked_once_more_and_then_left_alone_until_the_next_barrier() {
    let mut buffers = cached(1 << 20, &[]);
    keep(&mut buffers, place(0, 1), 41);
    buffers.spill();
    let first = asked(&mut buffers).1[0];
    assert_eq!(refused(&mut buffers, first, RefusalKind::Transient), CacheNews::Nothing);
    let (words, tickets) = asked(&mut buffers);
    assert_eq!(words, ["append 4100 to 0"]);
    assert_ne!(tickets[0], first);
    assert!(matches!(
        refused(&mut buffers, tickets[0], RefusalKind::Transient),
        CacheNews::Refused(why) if why == "no (2 attempts)"
    ));
    assert_eq!(buffers.held_bytes(), 4_100, "they are in memory again");
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty(), "it rests");
    let pack = buffers.seal(place(0, 1)).expect("rows");
    assert_eq!((pack.records, pack.cached.len()), (41, 0));
    buffers.submit(pack.place.partition, pack.held(), Ticket(1), pack.held());
    buffers.release(Ticket(1), &[]);
    buffers.forget_partitions();
    buffers.begin_batch(PARTITIONS as usize);
    keep(&mut buffers, place(0, 1), 41);
    buffers.spill();
    assert_eq!(asked(&mut buffers).0.last().map(String::as_str), Some("append 4100 to 1"));
}

#[test]
fn a_full_disk_is_asked_again_when_something_was_dropped() {
    let mut buffers = cached(1 << 20, &[]);
    keep(&mut buffers, place(0, 1), 82);
    buffers.spill();
    let ticket = asked(&mut buffers).1[0];
    done(&mut buffers, ticket);
    keep(&mut buffers, place(0, 2), 41);
    buffers.spill();
    let ticket = asked(&mut buffers).1[0];
    assert!(matches!(
        refused(&mut buffers, ticket, RefusalKind::Full),
        CacheNews::Refused(why) if why == "no (1 attempts)"
    ));
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty());
    let pack = buffers.seal(place(0, 1)).expect("rows");
    buffers.submit(pack.place.partition, pack.held(), Ticket(1), pack.held());
    buffers.release(Ticket(1), &pack.cached);
    assert_eq!(asked(&mut buffers).0, ["drop 0"]);
    buffers.spill();
    assert_eq!(asked(&mut buffers).0, ["append 4100 to 1"], "there may be room");
}

#[test]
fn no_more_is_cached_than_is_granted() {
    let mut buffers = cached(6_000, &[]);
    for bucket in 0..3 {
        keep(&mut buffers, place(0, bucket), 41);
    }
    buffers.spill();
    let (words, tickets) = asked(&mut buffers);
    assert_eq!(words, ["append 4100 to 0"], "the second bucket has no room");
    done(&mut buffers, tickets[0]);
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty());
    assert_eq!(buffers.held_bytes(), 8_200 + 12);
    let mut none = cached(0, &[]);
    keep(&mut none, place(0, 0), 41);
    none.spill();
    assert!(asked(&mut none).0.is_empty(), "nothing is granted");
}

#[test]
fn an_append_is_not_large_but_for_one_bucket_that_is() {
    let mut buffers = cached(1 << 30, &[("sink.memory.budget", "64 mb")]);
    buffers.bucket_bytes_max = 8 << 20;
    let record = vec![7; 700_000];
    for (bucket, records) in [(0, 1), (1, 1), (2, 3)] {
        (0..records).for_each(|_| buffers.keep(place(0, bucket), &record, 0, None));
    }
    let mut appends = Vec::new();
    for _ in 0..4 {
        buffers.spill();
        let (words, tickets) = asked(&mut buffers);
        appends.extend(words.into_iter().filter(|word| word.starts_with("append")));
        tickets.into_iter().for_each(|ticket| drop(done(&mut buffers, ticket)));
    }
    let numbers = ["append 700000 to 0", "append 700000 to 1", "append 2100000 to 2"];
    assert_eq!(appends, numbers);
}

#[test]
fn memory_over_its_mark_spills_the_coldest_partitions_where_a_cache_is_granted() {
    let config = SinkConfig { memory_budget: ByteCount(4_000), ..config(&[]) };
    let mut buffers = Buffers::new(&config, BUCKETS, None, 1 << 20);
    for partition in [2, 0, 1] {
        buffers.begin_batch(PARTITIONS as usize);
        keep(&mut buffers, place(partition, 0), 8);
        keep(&mut buffers, place(partition, 1), 2);
    }
    buffers.spill();
    assert!(asked(&mut buffers).0.is_empty(), "3000 bytes are three quarters of the budget");
    keep(&mut buffers, place(1, 2), 1);
    buffers.spill();
    let (words, _) = asked(&mut buffers);
    assert_eq!(words, ["append 2000 to 0"], "3100 bytes, 1600 of them too many: 2, then 0");
}

#[test]
fn partitions_of_the_rolling_size_are_sent_when_it_is_time_to_look() {
    let mut buffers = cached(1 << 20, &[("sink.bucket.check-interval", "10 s")]);
    assert!(buffers.rolled(Millis(1_000)).is_empty() && buffers.deadline().is_none());
    keep(&mut buffers, place(0, 1), 82);
    keep(&mut buffers, place(1, 1), 81);
    buffers.spill();
    let ticket = asked(&mut buffers).1[0];
    done(&mut buffers, ticket);
    assert_eq!(buffers.deadline(), Some(Millis(11_000)));
    assert!(buffers.rolled(Millis(10_999)).is_empty(), "not yet");
    assert_eq!(buffers.rolled(Millis(11_000)), [place(0, 1)], "8200 bytes, and 8100");
    assert!(buffers.due().is_empty(), "the size in memory is none of a cached partition's limits");
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
