//! Requests that our server must refuse, made of those that it accepts: wrong buckets, slots,
//! counts, bytes.
//!
//! Invariant: each refusal has the vendor's code, and the very same request, unchanged, is accepted
//! afterwards.

use crate::protocol::fixture::{described, exchanges};
use crate::protocol::local::Local;

/// The packs that Java made, and that our server hashes anew.
const OF_JAVA: [&str; 3] = ["java_basic_4buckets", "java_partitioned", "java_types"];

#[tokio::test]
async fn a_pack_that_java_made_for_one_bucket_is_refused_for_every_other() {
    let mut packs = 0;
    for label in OF_JAVA {
        let mut local = Local::start().await;
        let recorded = exchanges(label);
        local.create(&described(&recorded)[0]).await;
        for exchange in recorded.iter().filter(|exchange| exchange.is_upsert()) {
            if exchange.method == "PUT" {
                let bucket = exchange.parameter("bucketid").expect("a bucket");
                for wrong in (0..4).filter(|wrong| wrong.to_string() != bucket) {
                    let to = |name: &str, is: &str, wrong: u32| {
                        (format!("{name}={is}&"), format!("{name}={wrong}&"))
                    };
                    let (from, to) = to("bucketid", &bucket, wrong);
                    let slot = exchange.parameter("slotid").expect("a slot");
                    let target = exchange.target.replace(&from, &to);
                    let target = target.replace(&format!("slotid={slot}&"), "");
                    let answer = local.send_body(exchange, &target, &exchange.body).await;
                    let refused = (answer.status, answer.code());
                    assert_eq!(refused, (400, "InvalidArgument".into()), "{target}: {answer:?}");
                    assert!(answer.body.contains(&format!("bucket {bucket} of 4")), "{answer:?}");
                }
                packs += 1;
            }
            assert_eq!(local.send(exchange).await.status, 200, "{}", exchange.name);
        }
    }
    assert!(packs >= 8, "only {packs} packs of Java");
}

#[tokio::test]
async fn the_legacy_hash_puts_rows_where_this_servers_tables_do_not_have_them() {
    for label in ["java_legacy_hasher", "py_legacy_hasher"] {
        let mut local = Local::start().await;
        let recorded = exchanges(label);
        local.create(&described(&recorded)[0]).await;
        let mut refused = 0;
        for exchange in &recorded {
            let answer = local.send(exchange).await;
            if exchange.method == "PUT" && answer.status != 200 {
                assert_eq!(answer.code(), "InvalidArgument", "{answer:?}");
                assert!(answer.body.contains("the client's hash is wrong"), "{answer:?}");
                refused += 1;
            }
        }
        assert!(refused > 0, "{label}");
    }
}

#[tokio::test]
async fn rows_of_some_columns_are_refused_where_the_session_does_not_allow_them() {
    let mut local = Local::start().await;
    let recorded = exchanges("java_partial_update");
    let mut whole = described(&recorded).remove(0);
    whole.session["enable_partial_update"] = false.into();
    local.create(&whole).await;
    for exchange in recorded.iter().filter(|exchange| exchange.is_upsert()) {
        let answer = local.send(exchange).await;
        if exchange.creates() {
            assert_eq!(answer.json()["enable_partial_update"], false, "the table has no such rows");
        }
        if exchange.method == "PUT" {
            assert_eq!((answer.status, answer.code()), (400, "InvalidArgument".into()));
            assert!(answer.body.contains("acid.partial.fields.update.enable"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_wrong_count_slot_session_or_encoding_is_refused_by_its_code() {
    for label in ["java_compress_zlib", "py_compress_zstd", "java_basic_4buckets"] {
        let mut local = Local::start().await;
        let recorded = exchanges(label);
        local.create(&described(&recorded)[0]).await;
        for exchange in recorded.iter().filter(|exchange| exchange.is_upsert()) {
            if exchange.method == "PUT" {
                let count = exchange.parameter("record_count").expect("a count");
                let target = &exchange.target;
                let changed = [
                    (
                        target.replace(&format!("record_count={count}"), "record_count=99"),
                        "CorruptedDataStream",
                    ),
                    (target.replace("slotid=", "slotid=7"), "InvalidArgument"),
                    (target.replace("bucketid=", "bucketid=9"), "InvalidArgument"),
                    (target.replace("bucketid=", "no="), "InvalidArgument"),
                ];
                for (target, code) in changed {
                    let answer = local.send_body(exchange, &target, &exchange.body).await;
                    assert_eq!((answer.status, answer.code().as_str()), (400, code), "{target}");
                }
                for cut in [0, 1, exchange.body.len() / 2, exchange.body.len() - 1] {
                    let answer = local.send_body(exchange, target, &exchange.body[..cut]).await;
                    let refused = (answer.status, answer.code());
                    assert_eq!(refused, (400, "CorruptedDataStream".into()), "cut at {cut}");
                }
            }
            let id = exchange.parameter("upsertid");
            if let Some(id) = id.filter(|_| exchange.method != "DELETE") {
                let target = exchange.target.replace(&id, "20000101000000000000");
                let answer = local.send_body(exchange, &target, &exchange.body).await;
                let refused = (answer.status, answer.code());
                assert_eq!(refused, (404, "UpsertSessionNotFound".into()), "{}", exchange.name);
            }
            assert_eq!(local.send(exchange).await.status, 200, "{}", exchange.name);
        }
    }
}
