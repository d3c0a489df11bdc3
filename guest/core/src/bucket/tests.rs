//! The promises of routing.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::{format, vec};

use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder};
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::*;

fn column(name: &str, column_type: &str) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable: true }
}

fn router(parallelism: u32, options: &[(&str, &str)]) -> Router {
    let task = Task {
        identity: "sink".into(),
        start: 1,
        nonce: 2,
        parallelism,
        index: WriterIndex(0),
        options: options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        columns: vec![("id".into(), "STRING".into()), ("day".into(), "STRING".into())],
        table: TableDescription {
            name: "t".into(),
            columns: vec![column("id", "string")],
            partition_columns: vec![column("day", "string")],
            primary_key: vec!["id".into()],
            buckets: 8,
        },
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    };
    Router::open(&task).expect("the task is right")
}

fn keys(router: &mut Router, rows: &[(Option<&str>, Option<&str>)]) -> Vec<u32> {
    let bytes = BatchBuilder::new(rows.len())
        .column(ColumnBuilder::utf8(rows.iter().map(|row| row.0)))
        .column(ColumnBuilder::utf8(rows.iter().map(|row| row.1)))
        .build();
    router.keys(&bytes).expect("the batch is well-formed")
}

#[test]
fn rows_of_one_primary_key_have_its_bucket_as_key_in_every_partition() {
    let mut router = router(4, &[]);
    let ids: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    let on = |day| ids.iter().map(|id| (Some(id.as_str()), Some(day))).collect::<Vec<_>>();
    let first = keys(&mut router, &on("a"));
    assert_eq!(keys(&mut router, &on("b")), first);
    let buckets = router.hashes.iter().map(|hash| bucket_of(*hash, 8).0);
    assert!(buckets.eq(first.iter().copied()));
    assert!((0..4).all(|writer| first.iter().filter(|key| *key % 4 == writer).count() > 20));
}

#[test]
fn grouped_by_partition_a_partition_has_one_key() {
    let mut router = router(4, &[("sink.group-partition.enable", "true")]);
    let days: Vec<String> = (0..100).map(|n| format!("2018-01-{n}")).collect();
    let rows: Vec<_> = days
        .iter()
        .flat_map(|day| [(Some("a"), Some(day.as_str())), (Some("b"), Some(day.as_str()))])
        .collect();
    let first = keys(&mut router, &rows);
    let mut known = BTreeMap::new();
    for ((_, day), key) in rows.iter().zip(&first) {
        assert_eq!(known.entry(day).or_insert(key), &key);
    }
    assert!((0..4).all(|writer| first.iter().filter(|key| *key % 4 == writer).count() > 10));
    let backwards: Vec<_> = rows.iter().rev().copied().collect();
    let again = keys(&mut self::router(4, &[("sink.group-partition.enable", "true")]), &backwards);
    assert!(again.iter().rev().eq(&first), "another router answers alike, in any order");
}

/// The numbers are those of the versions before: a writer keeps its rows.
#[test]
fn keys_do_not_depend_on_the_number_of_writers_and_never_change() {
    let rows = [(Some("a"), Some("2018-01-01")), (Some("b"), Some("2018-01-02"))];
    for (grouping, expected) in [("true", [3_217_531_559, 3_155_606_501]), ("false", [6, 2])] {
        for parallelism in [1, 2, 4, 8] {
            let mut router = router(parallelism, &[("sink.group-partition.enable", grouping)]);
            assert_eq!(keys(&mut router, &rows), expected, "{parallelism} writers, {grouping}");
        }
    }
}

#[test]
fn rows_without_a_primary_key_or_a_partition_have_key_zero() {
    for grouping in ["true", "false"] {
        let mut router = router(8, &[("sink.group-partition.enable", grouping)]);
        let rows: Vec<_> = (0..50)
            .flat_map(|_| [(None, Some("a")), (Some("k"), Some("a/b")), (Some("k"), Some("c"))])
            .collect();
        let keys = keys(&mut router, &rows);
        let bad = keys.iter().enumerate().filter(|(row, _)| row % 3 < 2);
        assert!(bad.clone().all(|(_, key)| *key == 0));
    }
}

#[test]
fn a_router_has_no_limit_of_partitions_and_forgets_them_in_time() {
    for grouping in ["true", "false"] {
        let mut router = router(8, &[("sink.group-partition.enable", grouping)]);
        let days: Vec<String> = (0..PARTITIONS_MAX + 1).map(|n| format!("d{n}")).collect();
        let rows: Vec<_> = days.iter().map(|day| (Some("k"), Some(day.as_str()))).collect();
        let first = keys(&mut router, &rows);
        assert_eq!(router.partitioner.len(), 0);
        assert_eq!(keys(&mut router, &rows), first);
    }
}

#[test]
fn a_damaged_batch_is_refused() {
    let error = router(1, &[]).keys(b"USRB").expect_err("it is cut");
    assert_eq!(error.kind, upsert_sink_format::error::ErrorKind::Corrupt);
}
