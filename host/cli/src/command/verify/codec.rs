//! The table's rows in the one form that both sides write: where a row lies, its key, and the bytes
//! of all its values.
//!
//! Under `changes.rs`, which has the rows of the source, and `table.rs`, which has those of the
//! table. Invariant: two rows have the same bytes if and only if all of their values are the same,
//! and two keys if and only if they name the same row.

use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::record::{Value, decode_row, encode_row};
use upsert_sink_format::schema::{ColumnType, TableSchema};

/// Writes and reads the rows of one table.
#[derive(Clone, Debug)]
pub(in crate::command) struct RowCodec {
    pub(in crate::command) schema: TableSchema,
    /// The types of its columns.
    pub(in crate::command) types: Vec<ColumnType>,
    key_types: Vec<ColumnType>,
    hasher: Hasher,
}

/// Where a row lies: the number of its partition, and its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::command) struct BucketPlace {
    pub(in crate::command) partition: u32,
    pub(in crate::command) bucket: u32,
}

/// A row's place and the values of its key.
pub(in crate::command) type RowKey = Box<[u8]>;

/// The newest that is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) enum KeyState {
    /// It has no row.
    Gone,
    /// A row that leaves its nulls as they were before.
    Part(Box<[u8]>),
    /// A row, whatever was before.
    Whole(Box<[u8]>),
}

impl RowCodec {
    /// Rows of a table whose keys are hashed in this way.
    pub(in crate::command) fn new(schema: TableSchema, hasher: Hasher) -> Self {
        let types = schema.column_types();
        let key_types = schema.key_columns().map(|column| column.column_type.clone()).collect();
        Self { schema, types, key_types, hasher }
    }

    /// The key of a row in a partition. Of its values, those of the primary key are there.
    pub(in crate::command) fn key(
        &self,
        partition: u32,
        values: &[Option<Value>],
    ) -> anyhow::Result<RowKey> {
        let of_key = self.schema.key.iter().map(|at| values[*at].clone().map(settled));
        let of_key: Vec<Option<Value>> = of_key.collect();
        let hashed: Vec<_> =
            self.key_types.iter().zip(&of_key).map(|(of, value)| (of, value.as_ref())).collect();
        let bucket = bucket_of(hash_values(self.hasher, &hashed)?, self.schema.buckets);
        let mut key = Vec::with_capacity(PLACE_BYTES + 16);
        key.extend(partition.to_be_bytes());
        key.extend(bucket.0.to_be_bytes());
        encode_row(&self.key_types, &of_key, &mut key);
        Ok(key.into())
    }

    /// All values of a row.
    pub(in crate::command) fn row(&self, values: Vec<Option<Value>>) -> Box<[u8]> {
        let values: Vec<Option<Value>> = values.into_iter().map(|v| v.map(settled)).collect();
        let mut row = Vec::with_capacity(128);
        encode_row(&self.types, &values, &mut row);
        row.into()
    }

    /// The values of a row that was written here.
    pub(in crate::command) fn values(&self, row: &[u8]) -> anyhow::Result<Vec<Option<Value>>> {
        Ok(decode_row(row, &self.types)?)
    }

    /// The values of a key that was written here, in the order of the primary key's columns.
    pub(in crate::command) fn key_values(&self, key: &[u8]) -> anyhow::Result<Vec<Option<Value>>> {
        Ok(decode_row(key.get(PLACE_BYTES..).unwrap_or_default(), &self.key_types)?)
    }

    /// The state of a key after a newer change of it.
    pub(in crate::command) fn after(
        &self,
        older: &KeyState,
        newer: KeyState,
    ) -> anyhow::Result<KeyState> {
        Ok(match (older, newer) {
            (_, newer @ (KeyState::Gone | KeyState::Whole(_))) => newer,
            (KeyState::Gone, KeyState::Part(row)) => KeyState::Whole(row),
            (KeyState::Part(older), KeyState::Part(row)) => KeyState::Part(self.over(older, &row)?),
            (KeyState::Whole(older), KeyState::Part(row)) => {
                KeyState::Whole(self.over(older, &row)?)
            }
        })
    }

    /// The newer row, with the older one's values where it has none.
    fn over(&self, older: &[u8], newer: &[u8]) -> anyhow::Result<Box<[u8]>> {
        let (older, newer) = (self.values(older)?, self.values(newer)?);
        Ok(self.row(newer.into_iter().zip(older).map(|(newer, older)| newer.or(older)).collect()))
    }
}

impl KeyState {
    /// The row, if there is one in the end.
    pub(in crate::command) fn row(&self) -> Option<&[u8]> {
        match self {
            Self::Gone => None,
            Self::Part(row) | Self::Whole(row) => Some(row),
        }
    }
}

impl BucketPlace {
    /// The place in a key that was written here.
    pub(in crate::command) fn of(key: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = key.get(at..).and_then(|rest| rest.first_chunk());
            u32::from_be_bytes(*bytes.expect("a key begins with its place"))
        };
        Self { partition: number(0), bucket: number(4) }
    }
}

/// There is one NaN, whatever its bits; all other values are themselves.
fn settled(value: Value) -> Value {
    let all = |values: Vec<Option<Value>>| values.into_iter().map(|v| v.map(settled)).collect();
    match value {
        Value::Float(number) if number.is_nan() => Value::Float(f32::NAN),
        Value::Double(number) if number.is_nan() => Value::Double(f64::NAN),
        Value::Array(values) => Value::Array(all(values)),
        Value::Struct(values) => Value::Struct(all(values)),
        Value::Map(entries) => {
            let entry = |(key, value): (Value, Option<Value>)| (settled(key), value.map(settled));
            Value::Map(entries.into_iter().map(entry).collect())
        }
        other => other,
    }
}

/// Partition and bucket at the beginning of a key, so that keys sort by them.
const PLACE_BYTES: usize = 8;

#[cfg(test)]
pub(in crate::command) mod tests {
    use upsert_sink_format::schema::TableColumn;

    use super::*;

    /// A table of `id BIGINT` and these columns, with four buckets.
    pub(crate) fn codec(columns: &[&str]) -> RowCodec {
        let column = |(name, column_type): (&str, &str)| TableColumn {
            name: String::from(name),
            column_type: ColumnType::parse(column_type).expect("a type"),
            nullable: name != "id",
        };
        let columns = columns.iter().map(|text| text.split_once(' ').expect("name and type"));
        let columns = [("id", "bigint")].into_iter().chain(columns).map(column).collect();
        let (name, partition_columns) = (String::from("p.t"), Vec::new());
        let schema = TableSchema { name, columns, partition_columns, key: vec![0], buckets: 4 };
        RowCodec::new(schema, Hasher::Default)
    }

    pub(crate) fn text(text: &str) -> Option<Value> {
        Some(Value::Bytes(text.into()))
    }

    #[test]
    fn rows_have_the_same_bytes_if_and_only_if_their_values_are_the_same() {
        let codec = codec(&["d double", "s string", "a array<float>"]);
        let nan = |bits: u32| Some(Value::Array(vec![Some(Value::Float(f32::from_bits(bits)))]));
        let row = |d: f64, s: Option<Value>, a: Option<Value>| {
            codec.row(vec![Some(Value::Int(1)), Some(Value::Double(d)), s, a])
        };
        let one = row(f64::NAN, text("x"), nan(0x7fc0_0000));
        assert_eq!(one, row(-f64::NAN, text("x"), nan(0x7f80_0001)));
        for other in [
            row(0.0, text("x"), nan(0x7fc0_0000)),
            row(f64::NAN, None, nan(0x7fc0_0000)),
            row(f64::NAN, text(""), nan(0x7fc0_0000)),
            row(f64::NAN, text("x"), Some(Value::Array(vec![None]))),
            row(f64::NAN, text("x"), Some(Value::Array(Vec::new()))),
        ] {
            assert_ne!(one, other);
        }
        assert_ne!(row(0.0, None, None), row(-0.0, None, None));
    }

    #[test]
    fn keys_sort_by_their_place_and_hold_their_values() {
        let codec = codec(&["s string"]);
        let key = |partition, id| {
            codec.key(partition, &[Some(Value::Int(id)), None]).expect("it can be hashed")
        };
        assert!(key(0, i64::MAX) < key(1, 0));
        assert_eq!(BucketPlace::of(&key(7, 1)).partition, 7);
        assert_eq!(codec.key_values(&key(7, -9)).expect("a key"), [Some(Value::Int(-9))]);
        let buckets: std::collections::BTreeSet<u32> =
            (0..100).map(|id| BucketPlace::of(&key(0, id)).bucket).collect();
        assert_eq!(buckets.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_part_of_a_row_leaves_its_nulls_as_they_were() {
        let codec = codec(&["a string", "b string"]);
        let row = |a, b| codec.row(vec![Some(Value::Int(1)), a, b]);
        let old = || row(text("a"), text("b"));
        let part = || KeyState::Part(row(None, text("new")));
        let merged = row(text("a"), text("new"));
        let after = |older, newer| codec.after(&older, newer).expect("rows of this table");
        assert_eq!(after(KeyState::Whole(old()), part()), KeyState::Whole(merged.clone()));
        assert_eq!(after(KeyState::Part(old()), part()), KeyState::Part(merged));
        assert_eq!(after(KeyState::Gone, part()), KeyState::Whole(row(None, text("new"))));
        assert_eq!(after(part(), KeyState::Whole(old())), KeyState::Whole(old()));
        assert_eq!(after(part(), KeyState::Gone), KeyState::Gone);
    }
}
