//! Hash and bucket of every vector of Java, asked of the code that both our client and our server
//! use.
//!
//! The vectors of single values, and of whole batches, are the core's own tests
//! (`guest/core/tests/hash_vectors.rs`); here are the keys of several columns, by their buckets.
//! Invariant: all 130 keys under both hashers, for 14 numbers of buckets.

use serde_json::Value as Json;
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::ColumnType;

use crate::protocol::fixture::read;

#[test]
fn keys_of_integers_and_texts_find_the_buckets_of_java() {
    let vectors = read("hash_vectors.json");
    let (mut keys, mut buckets) = (0, 0);
    for vector in vectors["multi"].as_array().expect("keys") {
        let Some(key) = key(vector) else { continue };
        keys += 1;
        let columns: Vec<_> = key.iter().map(|(column, value)| (column, Some(value))).collect();
        for (hasher, name) in [(Hasher::Default, "default"), (Hasher::Legacy, "legacy")] {
            let hash = hash_values(hasher, &columns).expect("types with a hash");
            let expected = vector[format!("{name}_bucket")].as_object().expect("buckets");
            for (number, bucket) in expected {
                let found = bucket_of(hash, number.parse().expect("a number")).0;
                assert_eq!(Some(u64::from(found)), bucket.as_u64(), "{name} of {vector}");
                buckets += 1;
            }
        }
    }
    assert!(keys >= 50, "only {keys} keys");
    assert_eq!(buckets, keys * 2 * 14);
}

/// The columns of a key, if all are integers or texts.
fn key(vector: &Json) -> Option<Vec<(ColumnType, Value)>> {
    let columns = vector["key"].as_array().expect("columns").iter();
    columns
        .map(|column| {
            let text = column["value"].as_str()?;
            match column["type"].as_str()? {
                "bigint" => Some((ColumnType::BigInt, Value::Int(text.parse().ok()?))),
                "int" => Some((ColumnType::Int, Value::Int(text.parse().ok()?))),
                "string" => Some((ColumnType::String, Value::Bytes(text.as_bytes().to_vec()))),
                _ => None,
            }
        })
        .collect()
}
