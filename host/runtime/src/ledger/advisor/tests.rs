//! Each rule speaks above its limit, and is silent below it and on a healthy run.

use super::*;
use crate::ledger::{
    BucketBytes, CheckpointTimes, CommitTimes, PackLoad, RequestCount, SentPacks, ShiftedColumn,
};

/// One of the demo's checkpoints: `upsert-sink demo --report json`.
fn demo(id: u64) -> CheckpointRecord {
    let mut loads = [PackLoad::default(); crate::ledger::LOAD_CLASSES];
    loads[1] = PackLoad { packs: 12, us: 233_316 };
    loads[2] = PackLoad { packs: 28, us: 513_567 };
    let bytes = [43_622, 41_264, 39_114, 38_757, 37_761, 35_030, 34_907, 31_966];
    CheckpointRecord {
        id,
        start: 1,
        writers: 4,
        rows: 10_000,
        merged: 5_763,
        sent: SentPacks { packs: 40, records: 4_237, bytes: 302_421, ..SentPacks::default() },
        buckets: BucketBytes {
            count: 8,
            total: 302_421,
            largest: [5, 7, 4, 3, 2, 0, 1, 6].into_iter().zip(bytes).collect(),
        },
        partitions: 5,
        requests: RequestCount { made: 56, refused: 3, ..RequestCount::default() },
        held_bytes_max: 260_416,
        memory_bytes_max: 1_769_472,
        times_us: CheckpointTimes {
            rows: 68_833,
            flush: 68_626,
            commit: 146_116,
            delayed: 57_000,
            open: 350_209,
            waiting: 342_246,
            queued: 36_135,
            network: 746_883,
            sending: 357_140,
            slots: 0,
            disk: 38_284,
            guest: 26_915,
        },
        commits: CommitTimes { count: 5, median_ms: 136, max_ms: 146, ..CommitTimes::default() },
        loads,
        ..CheckpointRecord::default()
    }
}

/// The same, so long that what is seen is called a limit.
fn long() -> CheckpointRecord {
    let mut record = demo(1);
    let times = &mut record.times_us;
    (times.rows, times.flush, times.open) = (10_000_000, 5_000_000, 40_000_000);
    (times.waiting, times.queued, times.sending) = (2_000_000, 1_000_000, 10_000_000);
    times.delayed = 0;
    record
}

fn facts() -> SinkFacts {
    let options = [
        ("upsert.writer.buffer-size", "64 MiB"),
        ("upsert.writer.bucket.buffer-size", "1 MiB"),
        ("upsert.flush.concurrent", "2"),
        ("upsert.commit.thread-num", "16"),
        ("upsert.write.slot-num", "1"),
        ("sink.memory.budget", "64 MiB"),
        ("sink.group-partition.enable", "false"),
    ];
    SinkFacts {
        table: String::from("local.flights"),
        buckets: 8,
        writers: 4,
        interval_ms: 1_000,
        memory_limit_bytes: 256 << 20,
        options: options.map(|(name, value)| (name.into(), value.into())).into(),
        shifted: Vec::new(),
    }
}

fn with(name: &str, value: &str) -> SinkFacts {
    let mut facts = facts();
    facts.options.insert(name.into(), value.into());
    facts
}

/// The one hint that follows: its rule, its option and its value.
fn one(record: &CheckpointRecord, facts: &SinkFacts, parts: &[&str]) -> (AdviceRule, String) {
    let hints = advise(std::slice::from_ref(record), facts);
    assert_eq!(hints.len(), 1, "{hints:#?}");
    let hint = &hints[0];
    assert!(hint.words.contains(&hint.measured), "{hint:#?}");
    for part in parts {
        assert!(hint.words.contains(part), "no {part:?} in: {}", hint.words);
    }
    for part in hint.option.iter().chain(&hint.set).filter(|part| !part.starts_with("type of")) {
        assert!(hint.words.contains(part.as_str()), "no {part:?} in: {}", hint.words);
    }
    let option = hint.option.as_deref().unwrap_or("-");
    (hint.rule, format!("{option} = {}", hint.set.as_deref().unwrap_or("-")))
}

fn silent(record: &CheckpointRecord, facts: &SinkFacts) {
    let hints = advise(std::slice::from_ref(record), facts);
    assert!(hints.is_empty(), "{hints:#?}");
}

#[test]
fn a_healthy_run_gets_no_advice() {
    let records: Vec<_> = (1..=9).map(demo).collect();
    assert_eq!(advise(&records, &facts()), []);
    assert_eq!(advise(&[], &facts()), []);
    silent(&long(), &facts());
}

/// A value can be copied from a hint into the options.
#[test]
fn values_are_written_as_options_take_them() {
    for (bytes, value) in [(1, "1 KiB"), (131_073, "129 KiB"), (66_400_000, "64 MiB")] {
        assert_eq!(words::bytes_above(bytes), value);
        let size = upsert_sink_format::option::text::size(value).expect("a size");
        assert!(size.0 >= bytes);
    }
}

#[test]
fn what_another_start_measured_is_forgotten() {
    let mut old = long();
    old.requests = RequestCount { made: 100, slowed_down: 50, ..RequestCount::default() };
    let new = CheckpointRecord { id: 2, start: 2, ..demo(2) };
    assert_eq!(advise(&[old, new], &facts()), []);
}

#[test]
fn rows_that_come_slowly_are_told_after_ten_seconds() {
    let mut record = long();
    record.times_us.waiting = 48_000_000;
    let told = one(&record, &facts(), &["48.0 s of 60.0 s (80 %)"]);
    assert_eq!(told, (AdviceRule::UpstreamTooSlow, String::from("- = -")));
    record.times_us.delayed = 90_000;
    silent(&record, &facts());
    record.times_us.waiting -= 1_000_000;
    silent(&record, &facts());
    let mut short = demo(1);
    short.times_us.waiting = short.times_us.open;
    silent(&short, &facts());
}

#[test]
fn small_buffers_are_told_with_the_size_of_packs() {
    let buffer = with("upsert.writer.buffer-size", "200 KiB");
    let told = one(&demo(1), &buffer, &["40 packs had 7.3 KiB", "100 KiB a bucket", "128 KiB"]);
    assert_eq!(
        told,
        (AdviceRule::SmallBuffers, String::from("upsert.writer.buffer-size = 256 KiB"))
    );
    let bucket = with("upsert.writer.bucket.buffer-size", "16 KiB");
    let told = one(&demo(1), &bucket, &["16 KiB is where a bucket is flushed"]);
    let option = String::from("upsert.writer.bucket.buffer-size = 128 KiB");
    assert_eq!(told, (AdviceRule::SmallBuffers, option));
    let mut large = demo(1);
    large.sent.bytes = 40 * (128 << 10);
    large.buckets.largest.clear();
    silent(&large, &buffer);
}

#[test]
fn fewer_writers_than_buckets_are_told_where_the_network_is_the_limit() {
    let mut record = long();
    (record.times_us.sending, record.times_us.queued) = (30_000_000, 6_000_000);
    record.sent.bytes = 40 << 19;
    let told = one(&record, &facts(), &["under way 50 %", "rows waited 6.0 s"]);
    assert_eq!(told, (AdviceRule::FewWriters, String::from("sink.parallelism = 8")));
    silent(&record, &SinkFacts { writers: 8, ..facts() });
    silent(&CheckpointRecord { sent: demo(1).sent, ..record.clone() }, &facts());
    record.times_us.queued = 5_000_000;
    silent(&record, &facts());
}

#[test]
fn a_bucket_with_twice_the_mean_is_told() {
    let mut record = demo(1);
    (record.sent.bytes, record.buckets.total) = (8 << 20, 8 << 20);
    record.buckets.largest = vec![(5, 2 << 20), (0, 1 << 20)];
    let told = one(&record, &facts(), &["bucket 5 got 2 MiB of 8 MiB (25 %), 2.0 times"]);
    assert_eq!(told, (AdviceRule::SkewedBuckets, String::from("- = -")));
    let told = one(&record, &with("sink.group-partition.enable", "true"), &[]).1;
    assert_eq!(told, "sink.group-partition.enable = false");
    record.buckets.largest[0].1 -= 1 << 19;
    silent(&record, &facts());
}

#[test]
fn packs_that_only_slow_each_other_are_told() {
    let mut record = long();
    record.loads[0] = PackLoad { packs: 10, us: 1_000_000 };
    record.loads[1] = PackLoad { packs: 10, us: 1_500_000 };
    record.loads[2] = PackLoad { packs: 10, us: 2_000_000 };
    let told = one(&record, &facts(), &["took 200 ms with 4 or more", "100 ms with 1"]);
    assert_eq!(told, (AdviceRule::FlushConcurrency, String::from("upsert.flush.concurrent = 1")));
    silent(&record, &with("upsert.flush.concurrent", "1"));
    record.loads[2].us -= 10;
    silent(&record, &facts());
    record.loads[2] = PackLoad::default();
    silent(&record, &facts());
}

#[test]
fn memory_is_told_before_it_is_used_up() {
    let mut record = long();
    record.memory_bytes_max = 218 << 20;
    let told = one(&record, &facts(), &["218 MiB of 256 MiB (85 %)"]);
    assert_eq!(told, (AdviceRule::MemoryNearLimit, String::from("sandbox.memory-limit = 512 MiB")));
    record.memory_bytes_max = 200 << 20;
    silent(&record, &facts());
    record.held_bytes_max = 61 << 20;
    silent(&record, &facts());
    record.times_us.queued = 6_000_000;
    let words = ["61 MiB of 64 MiB (95 %)", "packs left with 7.3 KiB of 1 MiB", "waited 6.0 s"];
    let told = one(&record, &facts(), &words);
    assert_eq!(told, (AdviceRule::MemoryNearLimit, String::from("sink.memory.budget = 128 MiB")));
    record.sent.bytes = 40 << 19;
    silent(&record, &facts());
}

#[test]
fn a_shifted_column_is_told_with_the_rows_that_were_written() {
    let shifted = ShiftedColumn {
        name: String::from("at"),
        row_type: String::from("TIMESTAMP(3)"),
        column_type: String::from("datetime"),
    };
    let facts = SinkFacts { shifted: vec![shifted], ..facts() };
    let told = one(&demo(1), &facts, &["10000 rows", "`at` (TIMESTAMP(3) into datetime)"]);
    assert_eq!(told, (AdviceRule::EightHours, String::from("type of `at` = TIMESTAMP_LTZ")));
    silent(&CheckpointRecord { rows: 0, ..demo(1) }, &facts);
}

#[test]
fn too_many_partitions_are_told_with_the_threads_or_the_interval_that_suffice() {
    let mut record = demo(7);
    record.commits = CommitTimes { count: 100, median_ms: 250, ..CommitTimes::default() };
    let words = ["checkpoint 7 committed 100 partitions, 250 ms each", "1.7 s against"];
    let told = one(&record, &facts(), &words);
    assert_eq!(told, (AdviceRule::ManyPartitions, String::from("upsert.commit.thread-num = 25")));
    record.commits.median_ms = 2_500;
    let told = one(&record, &facts(), &["17.5 s", "`upsert.commit.thread-num` to 32"]).1;
    assert_eq!(told, "checkpoint interval = 10 s");
    silent(&record, &SinkFacts { interval_ms: 17_500, ..facts() });
    silent(&record, &SinkFacts { interval_ms: 0, ..facts() });
}

#[test]
fn more_than_32_commits_at_once_are_told() {
    let many = with("upsert.commit.thread-num", "64");
    let mut record = demo(1);
    record.commits.at_once_max = 33;
    let told = one(&record, &many, &["33 commits were under way at once", "now 64"]);
    assert_eq!(told, (AdviceRule::CommitThreads, String::from("upsert.commit.thread-num = 32")));
    record.commits.at_once_max = 32;
    silent(&record, &many);
}

#[test]
fn checkpoints_that_wait_for_commits_are_told() {
    let mut record = long();
    (record.times_us.delayed, record.times_us.commit) = (1_500_000, 2_501_000);
    let told = one(&record, &facts(), &["1 of 1 checkpoints", "1.5 s together", "up to 2.5 s"]);
    assert_eq!(told, (AdviceRule::CommitsOutrun, String::from("checkpoint interval = 3 s")));
    record.times_us.delayed = 740_000;
    silent(&record, &facts());
}

#[test]
fn a_quota_is_told_from_one_request_of_a_hundred_on() {
    let mut record = demo(1);
    record.requests = RequestCount { made: 200, slowed_down: 2, ..RequestCount::default() };
    record.times_us.slots = 3_000_000;
    let told = one(&record, &facts(), &["2 of 200 requests (1 %)", "waited 3.0 s", "`quotaName`"]);
    assert_eq!(told, (AdviceRule::QuotaReached, String::from("sink.parallelism = 2")));
    let told = one(&record, &with("upsert.write.slot-num", "4"), &[]).1;
    assert_eq!(told, "upsert.write.slot-num = 1");
    let alone = SinkFacts { writers: 1, ..facts() };
    assert_eq!(one(&record, &alone, &[]).1, "upsert.flush.concurrent = 1");
    record.requests.made = 201;
    silent(&record, &facts());
}
