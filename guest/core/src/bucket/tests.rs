//! The promises of routing.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;

use super::*;
use crate::batch::{BatchBuilder, ColumnBuilder};
use crate::id::Millis;
use crate::io::{ColumnDescription, TableDescription};

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
    };
    Router::open(&task).expect("the task is right")
}

fn route(router: &mut Router, rows: &[(Option<&str>, Option<&str>)]) -> Vec<u32> {
    let bytes = BatchBuilder::new(rows.len())
        .column(ColumnBuilder::utf8(rows.iter().map(|row| row.0)))
        .column(ColumnBuilder::utf8(rows.iter().map(|row| row.1)))
        .build();
    router.route(&bytes).expect("the batch is well-formed")
}

#[test]
fn rows_of_one_key_have_one_writer_in_every_partition_and_all_writers_have_rows() {
    let mut router = router(4, &[]);
    let keys: Vec<String> = (0..200).map(|n| format!("key {n}")).collect();
    let on = |day| keys.iter().map(|key| (Some(key.as_str()), Some(day))).collect::<Vec<_>>();
    let first = route(&mut router, &on("a"));
    assert_eq!(route(&mut router, &on("b")), first);
    assert!((0..4).all(|writer| first.iter().filter(|w| **w == writer).count() > 20));
    let buckets =
        first.iter().zip(&router.hashes).map(|(writer, hash)| (bucket_of(*hash, 8), writer));
    for (bucket, writer) in buckets {
        assert_eq!(bucket.0 % 4, *writer);
    }
}

#[test]
fn grouped_by_partition_a_partition_has_one_writer() {
    let mut router = router(4, &[("sink.group-partition.enable", "true")]);
    let days: Vec<String> = (0..100).map(|n| format!("2018-01-{n}")).collect();
    let rows: Vec<_> = days
        .iter()
        .flat_map(|day| [(Some("a"), Some(day.as_str())), (Some("b"), Some(day.as_str()))])
        .collect();
    let writers = route(&mut router, &rows);
    let mut known = BTreeMap::new();
    for ((_, day), writer) in rows.iter().zip(&writers) {
        assert_eq!(known.entry(day).or_insert(writer), &writer);
    }
    assert!((0..4).all(|writer| writers.iter().filter(|w| **w == writer).count() > 10));
    let backwards: Vec<_> = rows.iter().rev().copied().collect();
    let again = route(&mut self::router(4, &[("sink.group-partition.enable", "true")]), &backwards);
    assert!(again.iter().rev().eq(&writers), "another router routes alike, in any order");
}

#[test]
fn rows_without_a_key_or_a_partition_go_to_writer_zero() {
    for grouping in ["true", "false"] {
        let mut router = router(8, &[("sink.group-partition.enable", grouping)]);
        let rows: Vec<_> = (0..50)
            .flat_map(|_| [(None, Some("a")), (Some("k"), Some("a/b")), (Some("k"), Some("c"))])
            .collect();
        let writers = route(&mut router, &rows);
        let bad = writers.iter().enumerate().filter(|(row, _)| row % 3 < 2);
        assert!(bad.clone().all(|(_, writer)| *writer == 0));
    }
}

#[test]
fn a_router_has_no_limit_of_partitions_and_forgets_them_in_time() {
    for grouping in ["true", "false"] {
        let mut router = router(8, &[("sink.group-partition.enable", grouping)]);
        let days: Vec<String> = (0..PARTITIONS_MAX + 1).map(|n| format!("d{n}")).collect();
        let rows: Vec<_> = days.iter().map(|day| (Some("k"), Some(day.as_str()))).collect();
        let first = route(&mut router, &rows);
        assert_eq!(router.partitioner.len(), 0);
        assert_eq!(route(&mut router, &rows), first);
    }
}

#[test]
fn a_damaged_batch_is_refused() {
    let error = router(1, &[]).route(b"USRB").expect_err("it is cut");
    assert_eq!(error.kind, crate::error::ErrorKind::Corrupt);
}
