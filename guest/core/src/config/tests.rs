//! The promises of the options: one table, every rule of the specification, and errors that say
//! what to set.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::options::OPTIONS;
use super::*;

fn column(name: &str, column_type: &str) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable: true }
}

fn schema(buckets: u32) -> TableSchema {
    let description = TableDescription {
        name: "shop.orders".into(),
        columns: vec![
            column("id", "bigint"),
            column("at", "timestamp"),
            column("local_at", "timestamp_ntz"),
        ],
        partition_columns: vec![column("day", "string"), column("hour", "int")],
        primary_key: vec!["id".into()],
        buckets,
    };
    TableSchema::parse(&description).expect("the table is well-formed")
}

fn facts(parallelism: u32) -> TaskFacts {
    TaskFacts { parallelism, local: true, checkpoint_interval: Millis(0), before_images: false }
}

fn pairs(options: &[(&str, &str)]) -> Vec<(String, String)> {
    options.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn parse(options: &[(&str, &str)]) -> Result<(SinkConfig, Vec<String>), Error> {
    SinkConfig::parse(&pairs(options), &schema(8), &[], &facts(4))
}

fn accepted(options: &[(&str, &str)]) -> SinkConfig {
    parse(options).expect("the options are right").0
}

/// The error as a user reads it; it must name each of the words.
fn refused(options: &[(&str, &str)], words: &[&str]) {
    let error = parse(options).expect_err("the options are wrong");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

fn warned(options: &[(&str, &str)], words: &[&str]) {
    let (_, warnings) = parse(options).expect("the options are right");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for word in words {
        assert!(warnings[0].contains(word), "`{}` does not say `{word}`", warnings[0]);
    }
}

#[test]
fn the_table_is_sorted_and_every_option_in_it_is_parsed_and_documented() {
    let docs = describe();
    assert!(docs.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(docs.len(), OPTIONS.len());
    for doc in &docs {
        let value = match (&*doc.default_value, &*doc.name) {
            ("", "partition") => "day",
            ("", "sink.parallelism") => "4",
            ("", "upsert.write.bucket.num") => "8",
            ("", name) => panic!("`{name}` has no default and no example here"),
            (default, _) => default,
        };
        accepted(&[(&*doc.name, value)]);
        assert!(doc.doc.ends_with('.') && !doc.value_type.is_empty(), "{}", doc.name);
        let name = doc.name.as_str();
        refused(&[(name, value), (name, value)], &[name, "set twice"]);
    }
}

#[test]
fn the_defaults_are_those_of_the_specification() {
    let (config, warnings) = parse(&[]).expect("defaults are right");
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(config.guarantee, DeliveryGuarantee::ExactlyOnce);
    assert_eq!(config.doubt, DoubtPolicy::Rollover);
    assert_eq!(
        (config.writer_buffer, config.bucket_buffer),
        (ByteCount(64 << 20), ByteCount(1 << 20))
    );
    assert_eq!(config.memory_budget, ByteCount(64 << 20));
    assert_eq!((config.writer_retries, config.commit_retries), (3, 3));
    assert_eq!((config.commit_threads.get(), config.flush_concurrent), (16, None));
    assert_eq!((config.slots.get(), config.dynamic_partition_limit.get()), (1, 100));
    assert_eq!(config.commit_timeout, Millis(600_000));
    assert_eq!(
        (config.session_lifecycle, config.session_idle_limit),
        (Hours(24), Millis(3_600_000))
    );
    assert_eq!(config.default_partition, "__DEFAULT_PARTITION__");
    assert!(config.merge_per_key && config.partition.is_empty());
}

#[test]
fn every_option_reaches_its_place() {
    let config = accepted(&[
        ("sink.delivery-guarantee", "at-least-once"),
        ("sink.doubt", "continue"),
        ("sink.invalid-row", "dead-letter"),
        ("sink.recover.lost-session", "skip"),
        ("sink.session.idle-limit", "30 min"),
        ("sink.session.lifecycle", "6 h"),
        ("sink.memory.budget", "32mb"),
        ("sink.merge.enable", "FALSE"),
        ("sink.hasher", "legacy"),
        ("sink.dynamic-partition.limit", "7"),
        ("sink.partition.default-value", "none"),
        ("sink.parallelism", "4"),
        ("upsert.writer.buffer-size", "8 MiB"),
        ("upsert.writer.bucket.buffer-size", "256kb"),
        ("upsert.writer.max-retries", "5"),
        ("upsert.write.slot-num", "2"),
        ("upsert.commit.max-retries", "6"),
        ("upsert.commit.thread-num", "9"),
        ("upsert.commit.timeout", "90"),
        ("upsert.flush.concurrent", "4"),
    ]);
    assert_eq!(
        (config.guarantee, config.doubt),
        (DeliveryGuarantee::AtLeastOnce, DoubtPolicy::Continue)
    );
    assert_eq!(
        (config.invalid_row, config.lost_session),
        (InvalidRow::DeadLetter, LostSession::Skip)
    );
    assert_eq!(
        (config.session_idle_limit, config.session_lifecycle),
        (Millis(1_800_000), Hours(6))
    );
    assert_eq!(config.hasher, Hasher::Legacy);
    assert_eq!((config.memory_budget.0, config.merge_per_key), (32 << 20, false));
    assert_eq!(config.dynamic_partition_limit.get(), 7);
    assert_eq!(
        (config.default_partition.as_str(), config.parallelism),
        ("none", NonZeroU32::new(4))
    );
    assert_eq!((config.writer_buffer.0, config.bucket_buffer.0), (8 << 20, 256 << 10));
    assert_eq!((config.writer_retries, config.commit_retries), (5, 6));
    assert_eq!((config.slots.get(), config.commit_threads.get()), (2, 9));
    assert_eq!(
        (config.commit_timeout, config.flush_concurrent),
        (Millis(90_000), NonZeroU32::new(4))
    );
}

#[test]
fn an_unknown_option_names_the_nearest() {
    refused(&[("sink.memory.buget", "1mb")], &["`sink.memory.buget`", "`sink.memory.budget`"]);
    refused(&[("colour", "red")], &["`colour`", "upsert-sink options"]);
    refused(&[(&"x".repeat(100_000), "1")], &["upsert-sink options"]);
}

#[test]
fn a_wrong_value_names_the_option_the_value_and_the_accepted_forms() {
    refused(
        &[("sink.memory.budget", "64 qb")],
        &["`sink.memory.budget`", "`64 qb`", "`64mb`", "`1048576`"],
    );
    refused(
        &[("upsert.commit.timeout", "ten")],
        &["`upsert.commit.timeout`", "`ten`", "`10s`", "seconds"],
    );
    refused(
        &[("upsert.commit.thread-num", "many")],
        &["`upsert.commit.thread-num`", "`many`", "digits"],
    );
    refused(&[("upsert.commit.thread-num", "0")], &["`0`", "1 to 1024"]);
    refused(&[("sink.merge.enable", "yes")], &["`sink.merge.enable`", "`yes`", "`true`"]);
    refused(&[("sink.doubt", "hope")], &["`hope`", "`rollover`, `fail`, `continue`"]);
    refused(&[("sink.session.lifecycle", "25 h")], &["`25 h`", "1 h to 24 h"]);
    refused(&[("sink.session.lifecycle", "90 min")], &["90 min", "whole number of hours", "`1 h`"]);
    refused(&[("sink.partition.default-value", "a/b")], &["`a/b`", "no quote"]);
}

#[test]
fn partial_rows_are_not_cached() {
    refused(
        &[("sink.file-cached.enable", "true"), ("upsert.partial-column.enable", "true")],
        &["`sink.file-cached.enable`", "`upsert.partial-column.enable`", "set one of the two"],
    );
    refused(&[("sink.file-cached.writer.num", "0")], &["writer.num`", "1 to"]);
    refused(&[("upsert.flush.concurrent", "0")], &["`0`", "`auto`", "1 to 1024"]);
}

#[test]
fn what_is_not_supported_yet_is_refused_by_name() {
    refused(&[("upsert.major-compact.min-commits", "0")], &["min-commits`", "1 to"]);
    refused(&[("sink.operation", "insert")], &["`sink.operation`", "insert", "`upsert`"]);
}

#[test]
fn options_that_contradict_each_other_name_both() {
    refused(&[("sink.doubt", "continue")], &["`sink.doubt`", "`sink.delivery-guarantee`"]);
    refused(
        &[("sink.memory.budget", "512kb")],
        &["`sink.memory.budget`", "512 KiB", "`upsert.writer.bucket.buffer-size` = 1 MiB"],
    );
    refused(
        &[("upsert.writer.buffer-size", "512kb")],
        &["`upsert.writer.buffer-size`", "512 KiB", "`upsert.writer.bucket.buffer-size` = 1 MiB"],
    );
    refused(
        &[("sink.session.lifecycle", "1 h"), ("sink.session.idle-limit", "2 h")],
        &["`sink.session.idle-limit`", "2 h", "`sink.session.lifecycle` = 1 h"],
    );
    refused(&[("upsert.write.bucket.num", "16")], &["`upsert.write.bucket.num`", "`16`", "8"]);
    refused(&[("sink.parallelism", "2")], &["`sink.parallelism`", "`2`", "4 writers"]);
}

#[test]
fn without_overlap_a_doubt_fails_and_a_rollover_is_refused() {
    let config = accepted(&[("sink.session.overlap", "false")]);
    assert_eq!((config.session_overlap, config.doubt), (false, DoubtPolicy::Fail));
    assert_eq!(accepted(&[]).doubt, DoubtPolicy::Rollover);
    let fail = accepted(&[("sink.doubt", "fail"), ("sink.session.overlap", "false")]);
    assert_eq!(fail.doubt, DoubtPolicy::Fail);
    refused(
        &[("sink.session.overlap", "false"), ("sink.doubt", "rollover")],
        &["`sink.doubt`", "`rollover`", "`sink.session.overlap` = false", "`fail`"],
    );
    let doubted = [
        ("sink.session.overlap", "false"),
        ("sink.doubt", "continue"),
        ("sink.delivery-guarantee", "at-least-once"),
    ];
    assert_eq!(accepted(&doubted).doubt, DoubtPolicy::Continue);
}

#[test]
fn a_key_of_the_whole_table_needs_before_images_where_rows_may_move() {
    let scope = ("sink.key.scope", "table");
    refused(&[scope], &["`sink.key.scope`", "shop.orders", "update-before", "`partition`"]);
    refused(&[scope, ("partition", "day=1,hour")], &["`sink.key.scope`"]);
    let parse = |options: &[(&str, &str)], before_images| {
        let facts = TaskFacts { before_images, ..facts(4) };
        SinkConfig::parse(&pairs(options), &schema(8), &[], &facts)
    };
    let with = parse(&[scope], true).expect("the engine sends them").0;
    assert_eq!(with.key_scope, KeyScope::Table);
    assert!(parse(&[scope, ("partition", "day=1,hour=2")], false).is_ok(), "no row can move");
    assert_eq!(accepted(&[]).key_scope, KeyScope::Partition);
}

#[test]
fn a_row_writes_all_columns_unless_partial_update_is_on() {
    let enable = "upsert.partial-column.enable";
    let mode = "sink.partial-column.mode";
    assert_eq!(accepted(&[]).written, WrittenColumns::All);
    assert_eq!(accepted(&[(mode, "dynamic")]).written, WrittenColumns::All);
    assert_eq!(accepted(&[(enable, "true")]).written, WrittenColumns::NonNull);
    let declared = [(mode, "static"), (enable, "true")];
    assert_eq!(accepted(&declared).written, WrittenColumns::Declared);
    refused(&[(mode, "static")], &["`sink.partial-column.mode`", "`static`", enable]);
    refused(&[(mode, "some")], &["`some`", "`dynamic`, `static`"]);
    let facts = TaskFacts { before_images: true, ..facts(4) };
    let options = pairs(&[(enable, "true"), ("sink.key.scope", "table")]);
    let message = SinkConfig::parse(&options, &schema(8), &[], &facts).expect_err("rows may move");
    let message = message.to_string();
    for word in [enable, "`sink.key.scope` = table", "shop.orders"] {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
}

#[test]
fn buckets_are_an_integral_multiple_of_the_parallelism() {
    let at = |buckets, writers| SinkConfig::parse(&[], &schema(buckets), &[], &facts(writers));
    for writers in [1, 2, 4, 8] {
        assert!(at(8, writers).is_ok());
    }
    for (buckets, writers, remedy) in
        [(8, 3, "2 or 4"), (8, 16, "set it to 8"), (12, 5, "4 or 6"), (7, 6, "1 or 7")]
    {
        let message = at(buckets, writers).expect_err("not a multiple").to_string();
        for word in [format!("{writers} writers"), format!("{buckets} buckets"), remedy.to_string()]
        {
            assert!(message.contains(&word), "`{message}` does not say `{word}`");
        }
    }
    let grouped = pairs(&[("sink.group-partition.enable", "true")]);
    assert!(SinkConfig::parse(&grouped, &schema(8), &[], &facts(3)).is_ok());
    let mut unpartitioned = schema(8);
    unpartitioned.partition_columns.clear();
    assert!(SinkConfig::parse(&grouped, &unpartitioned, &[], &facts(2)).is_err());
}

#[test]
fn advice_that_is_not_taken_is_a_warning_with_numbers_and_the_remedy() {
    warned(
        &[("upsert.writer.buffer-size", "200kb"), ("upsert.writer.bucket.buffer-size", "64kb")],
        &["200 KiB", "2 buckets", "102400 bytes", "128 KiB", "at least 256 KiB"],
    );
    warned(
        &[("upsert.commit.thread-num", "33")],
        &["`upsert.commit.thread-num` = 33", "at most 32"],
    );
    warned(&[("sink.file-cached.writer.num", "64")], &["`sink.file-cached.writer.num` = 64", "32"]);
    warned(
        &[("upsert.writer.buffer-size", "128mb")],
        &["128 MiB", "`sink.memory.budget` = 64 MiB"],
    );
    let remote = TaskFacts { local: false, checkpoint_interval: Millis(10_000), ..facts(4) };
    let at = |facts| SinkConfig::parse(&[], &schema(8), &[], &facts).expect("right").1;
    assert!(at(remote)[0].contains("10 s") && at(remote)[0].contains("1 min"), "{:?}", at(remote));
    assert!(at(TaskFacts { local: true, ..remote }).is_empty());
    assert!(at(TaskFacts { checkpoint_interval: Millis(60_000), ..remote }).is_empty());
}

#[test]
fn zoneless_timestamps_are_warned_of_unless_the_table_has_no_zone_either() {
    let rows = pairs(&[("ID", "BIGINT"), ("AT", "TIMESTAMP(3)"), ("local_at", "TIMESTAMP(3)")]);
    let warnings = |rows| SinkConfig::parse(&[], &schema(8), rows, &facts(4)).expect("right").1;
    let lines = warnings(&rows);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("`AT`")
            && lines[0].contains("eight hours")
            && lines[0].contains("TIMESTAMP_LTZ")
    );
    assert!(warnings(&pairs(&[("at", "TIMESTAMP_LTZ(3)")])).is_empty());
}

#[test]
fn the_partition_option_fixes_some_levels_and_leaves_others_to_the_rows() {
    let fixed = |text| accepted(&[("partition", text)]).static_partition();
    assert_eq!(fixed("day='2018-01-01',hour=07"), pairs(&[("day", "2018-01-01"), ("hour", "7")]));
    assert_eq!(fixed("DAY = 2018 , hour"), pairs(&[("day", "2018")]));
    assert_eq!(fixed("day=\"x y\""), pairs(&[("day", "x y")]));
    assert_eq!(fixed("day"), pairs(&[]));
    assert_eq!(fixed(""), pairs(&[]));
    refused(&[("partition", "dya=1")], &["`partition`", "`dya`", "shop.orders", "`day`"]);
    refused(&[("partition", "day=1,day=2")], &["`day` twice"]);
    refused(&[("partition", "day=a/b")], &["`a/b`", "slash"]);
    refused(&[("partition", "day=''")], &["``", "1 to 255 bytes"]);
    refused(&[("partition", "hour=ten")], &["hour", "ten", "whole numbers"]);
    refused(&[("partition", "day=1,,hour=2")], &["level without a name"]);
}

proptest! {
    #[test]
    fn no_option_text_panics(
        name in 0..OPTIONS.len(),
        value in "\\PC{0,24}|[0-9]{0,25} ?[a-z]{0,3}|[a-z='\",0-9]{0,20}",
    ) {
        let options = [(OPTIONS[name].name, value.as_str())];
        if let Err(error) = parse(&options) {
            prop_assert!(error.to_string().contains('`'), "{error}");
        }
    }
}
