//! Every hash that the vendor's Java client computes, we compute: one value at a time, and whole
//! batches.
//!
//! Reads `tests/fixtures/hash_vectors.json`. Invariant: all 303 single values and 130 keys are
//! checked, under both hashers; where PyODPS disagrees, Java is right.

use serde_json::Value as Json;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowBatch};
use upsert_sink_format::hash::{Hasher, KeyHasher, bucket_of, hash_values};
use upsert_sink_format::record::{Value, parse_decimal};
use upsert_sink_format::schema::{ColumnType, RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

const HASHERS: [(Hasher, &str); 2] = [(Hasher::Default, "default"), (Hasher::Legacy, "legacy")];

fn vectors(kind: &str) -> Vec<Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/hash_vectors.json");
    let text = std::fs::read_to_string(path).expect("the fixtures are in the repository");
    let mut all: Json = serde_json::from_str(&text).expect("it is JSON");
    all[kind].take().as_array().expect("a list").clone()
}

/// The type and value of one vector.
fn key(vector: &Json) -> (ColumnType, Value) {
    let column = match vector["type"].as_str().expect("a type") {
        // The vectors leave out the length, which does not count.
        "varchar" => ColumnType::Varchar(100),
        "char" => ColumnType::Char(100),
        other => ColumnType::parse(other).expect(other),
    };
    let value = value(&column, vector["value"].as_str().expect("a value"));
    (column, value)
}

fn value(column: &ColumnType, text: &str) -> Value {
    match column {
        ColumnType::BigInt | ColumnType::Int | ColumnType::SmallInt | ColumnType::TinyInt => {
            Value::Int(text.parse().expect("an integer"))
        }
        ColumnType::Boolean => Value::Bool(text == "true"),
        ColumnType::Float => Value::Float(text.parse().expect("a float")),
        ColumnType::Double => Value::Double(text.parse().expect("a double")),
        ColumnType::Decimal { scale, .. } => {
            Value::Decimal(parse_decimal(text, *scale).expect("a decimal"))
        }
        ColumnType::Binary => Value::Bytes(
            (0..text.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex"))
                .collect(),
        ),
        ColumnType::Date => Value::Date(days(text)),
        ColumnType::Datetime => {
            let (seconds, nanos) = instant(text);
            Value::Datetime(seconds * 1_000 + i64::from(nanos / 1_000_000))
        }
        ColumnType::Timestamp | ColumnType::TimestampNtz => {
            let (seconds, nanos) = instant(text);
            Value::Timestamp { seconds, nanos }
        }
        ColumnType::IntervalDayTime => {
            let (seconds, nanos) = text.split_once(',').expect("seconds,nanos");
            let (seconds, nanos) =
                (seconds.parse().expect("seconds"), nanos.parse().expect("nanos"));
            Value::DayTime { seconds, nanos }
        }
        _ => Value::Bytes(text.as_bytes().to_vec()),
    }
}

/// Days since 1970-01-01 of `yyyy-mm-dd`.
fn days(text: &str) -> i64 {
    let parts: Vec<i64> = text.split('-').map(|part| part.parse().expect("a number")).collect();
    let (year, month) =
        if parts[1] > 2 { (parts[0], parts[1] - 3) } else { (parts[0] - 1, parts[1] + 9) };
    let century = year.div_euclid(100);
    year * 365 + year.div_euclid(4) - century
        + century.div_euclid(4)
        + (153 * month + 2) / 5
        + parts[2]
        - 719_469
}

/// Seconds and nanoseconds of `yyyy-mm-ddThh:mm:ss[.fraction]Z`.
fn instant(text: &str) -> (i64, u32) {
    let (date, time) = text.trim_end_matches('Z').split_once('T').expect("date and time");
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let time: Vec<i64> = time.split(':').map(|part| part.parse().expect("a number")).collect();
    let nanos = format!("{fraction:0<9}").parse().expect("a fraction");
    (days(date) * 86_400 + time[0] * 3_600 + time[1] * 60 + time[2], nanos)
}

fn as_i32(number: &Json) -> i32 {
    i32::try_from(number.as_i64().expect("a number")).expect("32 bits")
}

/// The finish of the sum of a key's hashes, as the vendor's page writes it.
fn row_hash(sum: i32) -> i32 {
    sum ^ (sum >> 8)
}

#[test]
fn every_single_value_hashes_like_java() {
    let vectors = vectors("single");
    for vector in &vectors {
        let (column, value) = key(vector);
        for (hasher, name) in HASHERS {
            let hash = hash_values(hasher, &[(&column, Some(&value))]).expect("a type with a hash");
            assert_eq!(hash, row_hash(as_i32(&vector[name])), "{name} of {vector}");
        }
    }
    assert_eq!(vectors.len(), 303);
}

#[test]
fn every_key_of_several_columns_finds_javas_bucket() {
    let vectors = vectors("multi");
    let mut buckets_checked = 0;
    for vector in &vectors {
        let keys: Vec<_> = vector["key"].as_array().expect("a key").iter().map(key).collect();
        let columns: Vec<_> = keys.iter().map(|(column, value)| (column, Some(value))).collect();
        for (hasher, name) in HASHERS {
            let hash = hash_values(hasher, &columns).expect("types with a hash");
            assert_eq!(hash, as_i32(&vector[format!("{name}_row_hash")]), "{name} of {vector}");
            let buckets = vector[format!("{name}_bucket")].as_object().expect("buckets");
            for (number, bucket) in buckets {
                let found = bucket_of(hash, number.parse().expect("a number")).0;
                assert_eq!(
                    u64::from(found),
                    bucket.as_u64().expect("a bucket"),
                    "{name} of {vector}"
                );
                buckets_checked += 1;
            }
        }
    }
    assert_eq!(vectors.len(), 130);
    assert_eq!(buckets_checked, 130 * 2 * 14);
}

/// The row type whose values are those of a column, and the hash of a batch of one such column.
fn hash_of_batch(hasher: Hasher, column: &ColumnType, value: Option<Value>) -> i32 {
    let row_type = match column {
        ColumnType::Binary => "BYTES".into(),
        ColumnType::Datetime => "TIMESTAMP(3)".into(),
        ColumnType::Timestamp => "TIMESTAMP(9)".into(),
        ColumnType::TimestampNtz => "TIMESTAMP_LTZ(9)".into(),
        ColumnType::IntervalDayTime => "INTERVAL DAY TO SECOND".into(),
        other => other.to_string().to_uppercase(),
    };
    let describe = |name: &str, column_type: String| ColumnDescription {
        name: name.into(),
        column_type,
        nullable: false,
    };
    let schema = TableSchema::parse(&TableDescription {
        name: "t".into(),
        columns: vec![describe("k", column.to_string())],
        partition_columns: vec![],
        primary_key: vec!["k".into()],
        buckets: 1,
    })
    .expect("a table");
    let plan = RowPlan::new(&schema, &[("k".into(), row_type)], &[]).expect("a plan");
    let rows = [value, None];
    let bytes =
        BatchBuilder::new(2).column(ColumnBuilder::of(&plan.row_columns[0].1, &rows)).build();
    let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
    let mut hashes = vec![7; 9];
    let key_hasher = KeyHasher::new(hasher, &schema, &plan).expect("a type with a hash");
    key_hasher.hash_batch(&batch, &mut hashes);
    assert_eq!((hashes.len(), hashes[1]), (2, 0), "a null has no hash");
    assert!(key_hasher.fault(&batch, 0).is_none());
    assert!(key_hasher.fault(&batch, 1).is_some_and(|fault| fault.rule.contains("primary key")));
    hashes[0]
}

#[test]
fn a_batch_hashes_like_its_values() {
    for vector in vectors("single") {
        let (column, value) = key(&vector);
        // These lie beyond the 64-bit nanoseconds of a batch's widest timestamp; no row can bring
        // them.
        let fits = match &value {
            Value::Timestamp { seconds, .. } => seconds.unsigned_abs() < 9_000_000_000,
            _ => true,
        };
        // A decimal that rounds up beyond its precision is refused by the encoder, and has no hash.
        let refused = vector["value"] == "99.995" && vector["type"] == "decimal(4,2)";
        for (hasher, name) in HASHERS.into_iter().filter(|_| fits && !refused) {
            let hash = hash_of_batch(hasher, &column, Some(value.clone()));
            assert_eq!(hash, row_hash(as_i32(&vector[name])), "{name} of {vector}");
        }
    }
}

#[test]
fn types_without_a_hash_are_refused_as_keys() {
    for text in ["json", "interval_year_month", "array<int>", "map<int,int>", "struct<x:int>"] {
        let column = ColumnType::parse(text).expect("a type");
        let error = hash_values(Hasher::Default, &[(&column, None)]).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
    }
    assert!(Hasher::parse("murmur").is_err());
    assert!(HASHERS.iter().all(|(hasher, name)| Hasher::parse(name) == Ok(*hasher)));
}

#[test]
fn a_value_of_another_type_is_a_bug_of_the_caller() {
    let error = hash_values(Hasher::Default, &[(&ColumnType::Int, Some(&Value::Bool(true)))]);
    assert_eq!(error.expect_err("a mismatch").kind, upsert_sink_format::error::ErrorKind::Bug);
}
