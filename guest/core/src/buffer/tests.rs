//! The promises of the buffers and of the account.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};
use std::collections::BTreeMap;

use proptest::prelude::*;
use upsert_sink_format::id::{ByteCount, SegmentId, Ticket};
use upsert_sink_format::record::{DecodedRecord, Op, Value, decode_pack, encode_values};
use upsert_sink_format::schema::ColumnType;

use super::*;

/// A limit of bytes for one buffer.
const LIMIT: usize = 5 * CHUNK_BYTES;

const COLUMNS: [ColumnType; 2] = [ColumnType::String, ColumnType::BigInt];

fn record(key: &str, value: i64, op: Op) -> (Vec<u8>, u32) {
    let mut bytes = Vec::new();
    let value = (op == Op::Upsert).then_some(Value::Int(value));
    let values = [Some(Value::Bytes(key.as_bytes().to_vec())), value];
    let crc = encode_values(&COLUMNS, &values, op, &mut bytes);
    (bytes, crc)
}

fn decoded(pack: &SealedPack) -> Vec<(String, Option<i64>)> {
    let mut rows = Vec::new();
    let count = decode_pack(&pack.body, &COLUMNS, &mut |DecodedRecord { op, values, .. }| {
        let Some(Value::Bytes(key)) = &values[0] else { panic!("every record has its key") };
        let value = match (&values[1], op) {
            (Some(Value::Int(value)), Op::Upsert) => Some(*value),
            _ => None,
        };
        rows.push((String::from_utf8(key.clone()).expect("keys are text"), value));
        Ok(())
    })
    .expect("a sealed pack decodes");
    assert_eq!((count, rows.len()), (pack.records, pack.records as usize));
    rows
}

fn push(
    buffer: &mut BucketBuffer,
    pool: &mut BufferPool,
    key: &str,
    value: Option<i64>,
    merge: bool,
) -> usize {
    let op = if value.is_some() { Op::Upsert } else { Op::Delete };
    let (bytes, crc) = record(key, value.unwrap_or(0), op);
    match merge {
        true => buffer.push_keyed(pool, &bytes, crc, key.as_bytes()),
        false => buffer.push(pool, &bytes, crc),
    }
}

#[test]
fn nothing_is_allocated_before_a_row_needs_it_and_everything_returns() {
    let mut pool = BufferPool::new();
    let mut buffers: Vec<BucketBuffer> = (0..1_000).map(|_| BucketBuffer::new()).collect();
    assert_eq!(pool.allocated_bytes(), 0);
    push(&mut buffers[7], &mut pool, "a key that is longer than a word", Some(1), true);
    let one_row = pool.lent_bytes();
    assert!(one_row <= 128, "{one_row} bytes for a short row and its key");
    buffers[7].seal(&mut pool);
    assert_eq!((pool.lent_bytes(), pool.allocated_bytes()), (0, one_row));
    assert!(buffers[7].is_empty() && buffers[7].held() == 0);
    push(&mut buffers[8], &mut pool, "k", Some(1), true);
    assert_eq!(pool.allocated_bytes(), one_row);
}

#[test]
fn without_merging_all_records_are_kept_in_their_order() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    let rows = [("a", Some(1)), ("b", Some(2)), ("a", None), ("a", Some(3)), ("a", Some(4))];
    for (key, value) in rows {
        push(&mut buffer, &mut pool, key, value, false);
    }
    let expected: Vec<_> = rows.iter().map(|(key, value)| (String::from(*key), *value)).collect();
    assert_eq!(decoded(&buffer.seal(&mut pool)), expected);
}

#[test]
fn the_last_record_of_a_key_wins_be_it_a_delete_or_an_upsert() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    for (key, value) in [("a", Some(1)), ("b", Some(2)), ("a", None), ("b", None), ("b", Some(5))] {
        push(&mut buffer, &mut pool, key, value, true);
    }
    assert_eq!(buffer.records(), 5, "what is replaced is found when the buffer is sealed");
    let pack = buffer.seal(&mut pool);
    assert_eq!(pack.records, 2);
    assert_eq!(decoded(&pack), vec![("a".into(), None), ("b".into(), Some(5))]);
}

#[test]
fn keys_of_like_beginnings_and_lengths_stay_apart() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    let keys: Vec<String> =
        (0..40).map(|n| "0".repeat(n)).chain((0..300).map(|n| format!("{n:0>20}"))).collect();
    for round in 0..3 {
        for key in &keys {
            push(&mut buffer, &mut pool, key, Some(round), true);
        }
    }
    let rows = decoded(&buffer.seal(&mut pool));
    // Twenty zeros are in both lists.
    assert_eq!(rows.len(), 339);
    assert!(rows.iter().all(|(_, value)| *value == Some(2)));
}

#[test]
fn a_hot_key_does_not_fill_the_memory() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    let mut held = 0;
    for n in 0..100_000 {
        held += push(&mut buffer, &mut pool, "the one and only", Some(n), true) as i64;
        if buffer.bytes() >= LIMIT {
            let change = buffer.relieve(&mut pool, LIMIT);
            let change = change.expect("one key does not fill a buffer");
            held += change;
            assert_eq!(buffer.records(), 1);
        }
        assert_eq!(held, buffer.held() as i64);
    }
    assert!(pool.allocated_bytes() <= 3 * LIMIT, "{}", pool.allocated_bytes());
    assert_eq!(decoded(&buffer.seal(&mut pool)), vec![("the one and only".into(), Some(99_999))]);
}

#[test]
fn a_full_buffer_is_sealed_unless_a_quarter_of_it_was_replaced() {
    let mut pool = BufferPool::new();
    for (hot_of_eight, merged) in [(0, false), (1, false), (3, true)] {
        let mut buffer = BucketBuffer::new();
        let mut rows = Vec::new();
        for n in 0.. {
            let key = if n % 8 < hot_of_eight { 0 } else { n };
            let key = format!("{key:016}");
            push(&mut buffer, &mut pool, &key, Some(n), true);
            rows.retain(|(earlier, _)| *earlier != key);
            rows.push((key, Some(n)));
            if buffer.bytes() >= LIMIT {
                break;
            }
        }
        let bytes = buffer.bytes();
        let change = buffer.relieve(&mut pool, LIMIT);
        assert_eq!(change.is_some(), merged);
        assert_eq!(change.is_some_and(|change| change < 0), buffer.bytes() < bytes);
        assert!(!merged || buffer.records() as usize == rows.len());
        // Another buffer's pass in between changes nothing.
        let mut other = BucketBuffer::new();
        push(&mut other, &mut pool, "another", Some(1), true);
        other.seal(&mut pool);
        let pack = buffer.seal(&mut pool);
        assert_eq!(decoded(&pack), rows);
    }
    assert_eq!(pool.lent_bytes(), 0);
}

#[test]
fn a_full_buffer_of_records_without_keys_is_sealed() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    push(&mut buffer, &mut pool, "a", Some(1), false);
    push(&mut buffer, &mut pool, "a", Some(2), false);
    let limit = buffer.bytes();
    assert_eq!(buffer.relieve(&mut pool, limit), None);
    assert_eq!(buffer.seal(&mut pool).records, 2);
}

#[test]
fn a_record_larger_than_a_chunk_is_kept_whole() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    let long = "x".repeat(3 * CHUNK_BYTES + 17);
    push(&mut buffer, &mut pool, "a", Some(1), true);
    push(&mut buffer, &mut pool, &long, Some(2), true);
    push(&mut buffer, &mut pool, "a", Some(3), true);
    let rows = decoded(&buffer.seal(&mut pool));
    assert_eq!(rows, vec![(long, Some(2)), ("a".into(), Some(3))]);
}

#[test]
fn the_account_stops_at_the_budget_and_starts_again_at_three_quarters() {
    let (mut account, mut bytes) = account(1_000);
    account.grow(&mut bytes, 999);
    assert!(account.accepting());
    account.grow(&mut bytes, 1);
    assert!(!account.accepting());
    account.seal(&mut bytes, 600, 550);
    assert_eq!((bytes.buffered(), bytes.waiting(), account.held()), (400, 950, 950));
    account.submit(&mut bytes, 550, Ticket(1), 500);
    assert_eq!((account.held(), bytes.waiting(), account.in_flight()), (900, 400, 500));
    assert!(!account.accepting());
    account.change(&mut bytes, -150);
    assert!(account.accepting(), "750 of 1000 are held");
    account.grow(&mut bytes, 100);
    assert!(account.accepting(), "it stops at the budget only");
    assert_eq!(account.release(Ticket(1)), Some(500));
    assert_eq!(account.release(Ticket(1)), None);
    assert_eq!(account.held(), 350);
}

#[test]
fn bytes_beyond_the_budget_are_noted_though_fewer_are_held_when_it_is_asked() {
    let (mut account, mut bytes) = account(1_000);
    account.grow(&mut bytes, 1_000);
    account.change(&mut bytes, -200);
    assert!(!account.accepting(), "800 of 1000 are held, but 1000 were");
    account.change(&mut bytes, -50);
    assert!(account.accepting());
}

#[test]
#[should_panic(expected = "no more is taken than was added")]
fn the_account_never_goes_below_zero() {
    let (mut account, mut bytes) = account(10);
    account.grow(&mut bytes, 5);
    account.change(&mut PartitionBytes::default(), -1);
}

fn account(budget: u64) -> (BufferAccount, PartitionBytes) {
    (BufferAccount::new(ByteCount(budget)), PartitionBytes::default())
}

#[test]
#[should_panic(expected = "all records of a buffer have keys")]
fn a_buffer_does_not_mix_records_with_and_without_keys() {
    let mut pool = BufferPool::new();
    let mut buffer = BucketBuffer::new();
    push(&mut buffer, &mut pool, "a", Some(1), true);
    push(&mut buffer, &mut pool, "a", Some(1), false);
}

/// One step of a writer's life.
#[derive(Clone, Debug)]
enum LifeStep {
    Push { buffer: usize, key: String, value: Option<i64> },
    Seal(usize),
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<LifeStep>> {
    let key = prop_oneof![
        3 => (0..6_u32).prop_map(|n| format!("k{n}")),
        2 => (0..400_u32).prop_map(|n| format!("a rather long key, number {n}")),
        1 => "[a-c]{0,12}",
    ];
    let push = (0..BUFFERS, key, proptest::option::of(any::<i64>()))
        .prop_map(|(buffer, key, value)| LifeStep::Push { buffer, key, value });
    let step = prop_oneof![
        60 => push,
        1 => (0..BUFFERS).prop_map(LifeStep::Seal),
        1 => (0..4_usize).prop_map(LifeStep::Release),
    ];
    proptest::collection::vec(step, 0..1_500)
}

const BUFFERS: usize = 4;

const PARTITIONS: usize = 3;

/// Small enough that a short life reaches it, with and without replaced records.
const WORLD_LIMIT: usize = 2_000;

/// The same life of a writer, in the buffers and in a list.
struct World {
    merge: bool,
    pool: BufferPool,
    account: BufferAccount,
    partitions: [PartitionBytes; PARTITIONS],
    buffers: Vec<BucketBuffer>,
    expected: Vec<Vec<(String, Option<i64>)>>,
    in_flight: BTreeMap<u64, u64>,
    tickets: u64,
}

impl World {
    fn new(merge: bool) -> Self {
        Self {
            merge,
            pool: BufferPool::new(),
            account: BufferAccount::new(ByteCount(1 << 16)),
            partitions: Default::default(),
            buffers: (0..BUFFERS).map(|_| BucketBuffer::new()).collect(),
            expected: vec![Vec::new(); BUFFERS],
            in_flight: BTreeMap::new(),
            tickets: 0,
        }
    }

    fn step(&mut self, step: &LifeStep) {
        match step {
            LifeStep::Push { buffer, key, value } => {
                let to = &mut self.buffers[*buffer];
                let grown = push(to, &mut self.pool, key, *value, self.merge);
                self.account.grow(&mut self.partitions[*buffer % PARTITIONS], grown);
                let expected = &mut self.expected[*buffer];
                if self.merge {
                    expected.retain(|(earlier, _)| earlier != key);
                }
                expected.push((key.clone(), *value));
                if self.buffers[*buffer].bytes() >= WORLD_LIMIT {
                    self.relieve(*buffer);
                }
            }
            LifeStep::Seal(buffer) => self.seal(*buffer),
            LifeStep::Release(nth) => {
                let ticket = self.in_flight.keys().nth(*nth).copied();
                let bytes = ticket.and_then(|ticket| self.in_flight.remove(&ticket));
                assert_eq!(ticket.and_then(|ticket| self.account.release(Ticket(ticket))), bytes);
            }
        }
        self.check();
    }

    /// Relieves a buffer that has reached its limit, as a writer does.
    fn relieve(&mut self, buffer: usize) {
        let Some(change) = self.buffers[buffer].relieve(&mut self.pool, WORLD_LIMIT) else {
            return self.seal(buffer);
        };
        assert!(self.merge, "only what is merged can be replaced");
        assert!(self.buffers[buffer].bytes() < WORLD_LIMIT / 4 * 3);
        assert_eq!(self.buffers[buffer].records() as usize, self.expected[buffer].len());
        self.account.change(&mut self.partitions[buffer % PARTITIONS], change);
    }

    fn seal(&mut self, buffer: usize) {
        if self.expected[buffer].is_empty() {
            return;
        }
        let held = self.buffers[buffer].held();
        let pack = self.buffers[buffer].seal(&mut self.pool);
        assert_eq!(pack.bytes_freed, held);
        self.submit(buffer, &pack);
    }

    fn submit(&mut self, buffer: usize, pack: &SealedPack) {
        let expected = core::mem::take(&mut self.expected[buffer]);
        assert_eq!(decoded(pack), expected);
        let bytes: usize = expected.iter().map(|(key, value)| record_bytes(key, *value)).sum();
        assert!(pack.body.len() > bytes && pack.body.len() <= bytes + TRAILER_BYTES_MAX);
        assert_eq!(pack.body.capacity(), bytes + TRAILER_BYTES_MAX, "the body is allocated once");
        assert_eq!(self.buffers[buffer].held(), 0);
        self.tickets += 1;
        let sent = pack.body.len();
        let partition = &mut self.partitions[buffer % PARTITIONS];
        self.account.seal(partition, pack.bytes_freed, sent);
        self.account.submit(partition, sent, Ticket(self.tickets), sent);
        self.in_flight.insert(self.tickets, sent as u64);
    }

    fn check(&self) {
        let held: usize = self.buffers.iter().map(BucketBuffer::held).sum();
        assert_eq!(self.account.waiting(), held as u64);
        let buffered = self.partitions.iter().map(PartitionBytes::buffered);
        assert_eq!(buffered.sum::<u64>(), held as u64);
        assert_eq!(self.account.in_flight(), self.in_flight.values().sum::<u64>());
        assert_eq!(self.account.held(), self.account.waiting() + self.account.in_flight());
        let chains = if held > 0 { 2 * BUFFERS } else { 0 };
        assert!(self.pool.lent_bytes() <= held + chains * CHUNK_BYTES, "waste is bounded");
        for (buffer, expected) in self.buffers.iter().zip(&self.expected) {
            assert!(buffer.records() as usize >= expected.len());
            assert!(buffer.bytes() < WORLD_LIMIT, "a full buffer was relieved");
            assert!(self.merge || buffer.held() == buffer.bytes());
        }
    }
}

fn record_bytes(key: &str, value: Option<i64>) -> usize {
    let op = if value.is_some() { Op::Upsert } else { Op::Delete };
    record(key, value.unwrap_or(0), op).0.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_sealed_pack_is_the_fold_of_its_rows_and_the_account_is_the_sum(
        steps in steps(),
        merge in any::<bool>(),
    ) {
        let mut world = World::new(merge);
        steps.iter().for_each(|step| world.step(step));
        (0..BUFFERS).for_each(|buffer| world.seal(buffer));
        prop_assert_eq!(world.pool.lent_bytes(), 0);
        prop_assert_eq!(world.account.waiting(), 0);
    }
}

/// A step of a buffer beside a file cache.
#[derive(Clone, Debug)]
enum CacheStep {
    Push(u8, Option<i64>),
    /// Spills; the cache takes it.
    Spill {
        settle: bool,
    },
    /// Spills; rows come, and the cache refuses.
    Refused {
        settle: bool,
        pushed: u8,
    },
    Relieve,
}

fn cache_step() -> impl Strategy<Value = CacheStep> {
    prop_oneof![
        6 => (0..12_u8, proptest::option::of(0..1_000_i64))
            .prop_map(|(key, value)| CacheStep::Push(key, value)),
        2 => any::<bool>().prop_map(|settle| CacheStep::Spill { settle }),
        1 => (any::<bool>(), 0..12_u8)
            .prop_map(|(settle, pushed)| CacheStep::Refused { settle, pushed }),
        1 => Just(CacheStep::Relieve),
    ]
}

proptest! {
    /// The records of a pack, from the cache and from memory, have the effect of all that were
    /// pushed, and what is held is counted to the byte.
    #[test]
    fn cached_records_are_sent_once_in_their_order_and_merged_with_later_ones(
        steps in proptest::collection::vec(cache_step(), 0..60),
        merge in any::<bool>(),
    ) {
        let (mut pool, mut buffer) = (BufferPool::new(), BucketBuffer::new());
        let (mut held, mut file, mut rows) = (0_i64, Vec::new(), Vec::new());
        let mut settles = false;
        for step in steps {
            match step {
                CacheStep::Push(key, value) => {
                    let key = format!("key {key}");
                    held += push(&mut buffer, &mut pool, &key, value, merge) as i64;
                    rows.push((key, value));
                }
                CacheStep::Spill { settle } => {
                    settles |= settle;
                    let before = file.len();
                    held += buffer.start_spill(&mut pool, settle, &mut file);
                    if file.len() > before {
                        let (offset, length) = (before as u32, (file.len() - before) as u32);
                        let segment = SegmentId(1);
                        held += buffer.finish_spill(CachedRange { segment, offset, length });
                    }
                }
                CacheStep::Refused { settle, pushed } => {
                    settles |= settle;
                    let mut refused = Vec::new();
                    held += buffer.start_spill(&mut pool, settle, &mut refused);
                    let key = format!("key {pushed}");
                    held += push(&mut buffer, &mut pool, &key, Some(-1), merge) as i64;
                    rows.push((key, Some(-1)));
                    buffer.take_back(&mut pool, &refused);
                }
                CacheStep::Relieve => held += buffer.relieve(&mut pool, 1 << 20).unwrap_or(0),
            }
            prop_assert_eq!(buffer.held() as i64, held);
        }
        if rows.is_empty() {
            return Ok(());
        }
        let mut pack = buffer.seal(&mut pool);
        prop_assert_eq!(pack.bytes_freed as i64, held);
        prop_assert_eq!((pool.lent_bytes(), buffer.held()), (0, 0));
        let mut whole = Vec::new();
        for CachedRange { offset, length, .. } in &pack.cached {
            whole.extend_from_slice(&file[*offset as usize..][..*length as usize]);
        }
        whole.append(&mut pack.body);
        pack.body = whole;
        let sent = decoded(&pack);
        let fold = |rows: &[(String, Option<i64>)]| -> BTreeMap<String, Option<i64>> {
            rows.iter().cloned().collect()
        };
        prop_assert_eq!(fold(&sent), fold(&rows));
        if !merge {
            prop_assert_eq!(sent, rows);
        } else if !settles {
            prop_assert_eq!(sent.len(), fold(&rows).len(), "each key once");
        }
    }
}
