//! Recorded requests of the vendor's clients, sent to our server: accepted, committed, and read
//! back.
//!
//! Invariant: every recorded call of a session is sent, in its order, from both clients, in every
//! encoding; the table holds afterwards what the recording's packs hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::Value as Json;
use upsert_sink::Sink;
use upsert_sink_tests::plugin::plugin;

use crate::protocol::fixture::{Exchange, described, exchanges, labels, read};
use crate::protocol::local::{Answer, Local};

/// Hashes that this server's tables do not have; see `refused.rs`.
const REFUSED: [&str; 2] = ["java_legacy_hasher", "py_legacy_hasher"];

/// A label on a server of its own: each request with its answer.
async fn replay(label: &str) -> (Local, Vec<(Exchange, Answer)>) {
    let mut local = Local::start().await;
    let recorded = exchanges(label);
    for described in described(&recorded) {
        local.create(&described).await;
    }
    let mut answers = Vec::new();
    for exchange in recorded {
        let answer = local.send(&exchange).await;
        answers.push((exchange, answer));
    }
    (local, answers)
}

#[tokio::test]
async fn every_recorded_session_is_accepted_call_by_call() {
    let (mut packs, mut encodings) = (0, BTreeMap::<String, usize>::new());
    for label in labels().iter().filter(|label| !REFUSED.contains(&label.as_str())) {
        let (_local, answers) = replay(label).await;
        for (exchange, answer) in answers.iter().filter(|(exchange, _)| exchange.is_upsert()) {
            // Also where the recording's server played a fault: this one has none.
            assert_eq!(answer.status, 200, "{}: {answer:?}", exchange.name);
            let commits = exchange.method == "POST" && !exchange.creates();
            if commits {
                assert_eq!(answer.session_status(), "committed", "{}", exchange.name);
            }
            if exchange.method == "PUT" {
                packs += 1;
                let encoding = exchange.header("content-encoding").unwrap_or("none");
                *encodings.entry(encoding.to_owned()).or_default() += 1;
            }
        }
    }
    assert!(packs >= 109, "only {packs} packs");
    let names: Vec<&str> = encodings.keys().map(String::as_str).collect();
    assert_eq!(names, ["deflate", "none", "x-lz4-frame", "x-snappy-framed", "zstd"]);
}

#[tokio::test]
async fn what_is_read_back_is_what_the_packs_hold() {
    let fixtures = read("decoded_packs.json");
    for label in [
        "java_basic_4buckets",
        "py_basic_4buckets",
        "java_compress_lz4",
        "java_compress_snappy",
        "java_compress_zlib",
        "java_compress_zstd",
        "py_compress_lz4",
        "py_compress_snappy",
        "py_compress_zlib",
        "py_compress_zstd",
        "java_partitioned",
        "py_partitioned",
    ] {
        let (local, answers) = replay(label).await;
        let mut expected = BTreeMap::new();
        for (exchange, _) in answers.iter().filter(|(exchange, _)| exchange.method == "PUT") {
            for row in fixtures[&exchange.name]["rows"].as_array().expect("rows") {
                let text = |name: &str| match &row[name] {
                    Json::Null => String::from("-"),
                    Json::String(text) => text.clone(),
                    other => other.to_string(),
                };
                let key = (row["id"].as_i64().expect("a key"), text("k"));
                match row["__operation"].as_u64() {
                    Some(68) => drop(expected.remove(&key)),
                    _ => drop(expected.insert(key, text("v"))),
                }
            }
        }
        assert!(!expected.is_empty(), "{label}");
        let table = answers.iter().find_map(|(exchange, _)| exchange.table()).expect("a table");
        let sql = format!("SELECT id, k, v FROM {table} ORDER BY id, k");
        let found = local.query(&sql).await;
        let expected: Vec<Vec<String>> =
            expected.into_iter().map(|((id, k), v)| vec![id.to_string(), k, v]).collect();
        assert_eq!(found, expected, "{label}");
    }
}

#[tokio::test]
async fn partial_rows_of_java_lie_over_whole_rows_of_ours() {
    let mut local = Local::start().await;
    let recorded = exchanges("java_partial_update");
    local.create(&described(&recorded)[0]).await;
    let ids: Vec<i64> = (0..10).collect();
    let text = |letter: &str| {
        let texts = ids.iter().map(|id| Some(format!("{letter}{id}")));
        Arc::new(StringArray::from_iter(texts)) as ArrayRef
    };
    let numbers = || Arc::new(Int64Array::from(ids.clone())) as ArrayRef;
    let columns = [("id", numbers()), ("a", text("a")), ("b", text("old")), ("c", numbers())];
    let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let sink = Sink::builder(plugin(), local.settings("t_partial")).schema(batch.schema());
    let sink = sink.open().await.expect("the sink opens");
    sink.write(&batch, &[]).await.expect("the rows are taken");
    sink.checkpoint(1).await.expect("the barrier passes");
    sink.checkpoint_completed(1).await.expect("told");
    sink.committed(1).await.expect("it is committed");
    sink.close().await.expect("it ends well");
    for exchange in &recorded {
        local.send(exchange).await;
    }
    let found = local.query("SELECT id, a, b, c FROM t_partial ORDER BY id").await;
    let found: Vec<String> = found.into_iter().map(|row| row.join(" ")).collect();
    // `b` is set and `c` set to null in four rows; the last recorded one is whole.
    let mut expected: Vec<String> = (0..4).map(|id| format!("{id} a{id} b{id} -")).collect();
    expected.extend((4..9).map(|id| format!("{id} a{id} old{id} {id}")));
    expected.push(String::from("9 full - -"));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn every_type_comes_back_as_it_was_written() {
    // Each client has written the pairs of a map in an order of its own.
    for (label, map) in [("java_types", "{b: -, a: 1}"), ("py_types", "{a: 1, b: -}")] {
        let (local, _) = replay(label).await;
        let sql = "SELECT id, c_tinyint, c_smallint, c_int, c_bigint, c_float, c_double, \
                   c_decimal, c_string, c_varchar, c_char, c_boolean, c_date, c_arr, c_arrs, \
                   c_map, c_struct FROM t_types ORDER BY id";
        let found = local.query(sql).await;
        let expected = [
            "1",
            "-7",
            "300",
            "-70000",
            "1099511627776",
            "1.5",
            "-2.25",
            "123456789.1234",
            "h\u{e9}llo",
            "vchar",
            "ch",
            "true",
            "2026-03-26",
            "[1, -, -3]",
            "[a, -, ]",
            map,
            "{x: 7, y: -}",
        ];
        assert_eq!(found[0], expected, "{label}");
        assert_eq!(found.len(), 2, "{label}");
        assert!(found[1][1..].iter().all(|value| value == "-"), "{label}: {:?}", found[1]);
    }
}

#[tokio::test]
async fn an_aborted_session_shows_nothing_and_takes_nothing_more() {
    for label in ["java_abort", "py_abort"] {
        let (local, answers) = replay(label).await;
        let put = answers.iter().find(|(exchange, _)| exchange.method == "PUT");
        let (put, _) = put.expect("a pack was sent before the abort");
        let late = local.send_body(put, &put.target, &put.body).await;
        assert_eq!((late.status, late.code().as_str()), (409, "StatusConflict"), "{label}");
        let table = put.table().expect("a table");
        assert!(local.query(&format!("SELECT id FROM {table}")).await.is_empty(), "{label}");
    }
}

#[tokio::test]
async fn the_metadata_that_the_clients_ask_for_is_answered() {
    for label in ["java_table_meta", "py_table_open_writer", "java_partitioned"] {
        let mut local = Local::start().await;
        let recorded = exchanges(label);
        let mut tables = described(&recorded);
        tables.extend(described(&exchanges("java_basic_4buckets")));
        tables.extend(described(&exchanges("java_partitioned")));
        for described in tables {
            local.create(&described).await;
        }
        let metadata = recorded.iter().filter(|exchange| {
            let path = exchange.path();
            exchange.status == 200 && path.starts_with("/api/projects/proj")
        });
        for exchange in metadata {
            let answer = local.send(exchange).await;
            assert_eq!(answer.status, 200, "{}: {answer:?}", exchange.name);
        }
    }
}
