//! Rows as packs: each row is hashed into its bucket and encoded there.
//!
//! Between whoever has rows and `pack.rs`, for callers without an encoder of their own. Invariant:
//! rows of one bucket keep the order in which they were added.

use std::collections::BTreeMap;

use upsert_sink_format::error::Error;
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::id::BucketId;
use upsert_sink_format::record::{Op, Value, encode_values, pack_trailer};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::SessionInfo;

use crate::error::{Result, TunnelError};
use crate::pack::Pack;

/// Rows on their way into the packs of a session, one pack for each bucket. It holds all of them in
/// memory: a caller with many rows takes a builder for some of them at a time.
pub struct PackBuilder {
    names: Vec<String>,
    columns: Vec<ColumnType>,
    /// The columns that are hashed.
    key: Vec<usize>,
    hasher: Hasher,
    buckets: u32,
    drafts: BTreeMap<BucketId, PackDraft>,
}

#[derive(Default)]
struct PackDraft {
    body: Vec<u8>,
    crcs: Vec<u32>,
}

impl PackBuilder {
    /// Packs for a session as the service describes it.
    ///
    /// # Errors
    /// `InvalidConfig` if the session has a hash function or a type of column that is not known
    /// here, or hashes a column that it does not have.
    pub fn new(session: &SessionInfo) -> Result<Self> {
        let names: Vec<_> = session.columns.iter().map(|column| column.name.clone()).collect();
        let columns = session.columns.iter().map(|column| ColumnType::parse(&column.column_type));
        let place = |key: &String| {
            names.iter().position(|name| name == key).ok_or_else(|| {
                TunnelError::unusable(format!("the session hashes `{key}`, which it has not"))
            })
        };
        Ok(Self {
            columns: columns.collect::<std::result::Result<_, _>>().map_err(unusable)?,
            key: session.hash_key.iter().map(place).collect::<Result<_>>()?,
            hasher: Hasher::parse(&session.hasher).map_err(unusable)?,
            buckets: session.buckets,
            drafts: BTreeMap::new(),
            names,
        })
    }

    /// Adds a row: the values of all columns in the session's order, without partition columns; a
    /// null is none. A delete needs the columns of the key only, the others may be none. Returns
    /// its bucket.
    ///
    /// # Errors
    /// `InvalidConfig` for a row that does not have these columns, or no value in one of its key.
    pub fn add(&mut self, op: Op, row: &[Option<Value>]) -> Result<BucketId> {
        self.check(row)?;
        let key: Vec<_> =
            self.key.iter().map(|&at| (&self.columns[at], row[at].as_ref())).collect();
        let bucket = bucket_of(hash_values(self.hasher, &key).map_err(unusable)?, self.buckets);
        let draft = self.drafts.entry(bucket).or_default();
        draft.crcs.push(encode_values(&self.columns, row, op, &mut draft.body));
        Ok(bucket)
    }

    /// The packs, by their buckets.
    pub fn finish(self) -> Vec<Pack> {
        let pack = |(bucket, draft): (BucketId, PackDraft)| {
            let PackDraft { mut body, crcs } = draft;
            let records = u32::try_from(crcs.len()).expect("memory has room for fewer records");
            pack_trailer(crcs.into_iter(), records, &mut body);
            Pack::new(bucket, records, body)
        };
        self.drafts.into_iter().map(pack).collect()
    }

    fn check(&self, row: &[Option<Value>]) -> Result<()> {
        let wrong = |message: String| Err(TunnelError::unusable(message).at("row"));
        if row.len() != self.columns.len() {
            let (values, columns) = (row.len(), self.columns.len());
            return wrong(format!("{values} values for {columns} columns"));
        }
        for ((value, column), name) in row.iter().zip(&self.columns).zip(&self.names) {
            if value.as_ref().is_some_and(|value| !value.fits(column)) {
                return wrong(format!("the value of `{name}` is none of {column}"));
            }
        }
        match self.key.iter().find(|&&at| row[at].is_none()) {
            Some(&at) => wrong(format!("`{}` is of the key, and has no value", self.names[at])),
            None => Ok(()),
        }
    }
}

fn unusable(error: Error) -> TunnelError {
    TunnelError::unusable(error.message).at(error.at)
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::id::SessionId;
    use upsert_sink_format::record::{DecodedRecord, decode_pack};
    use upsert_sink_format::tunnel::{ColumnDescription, SessionStatus};

    use super::*;

    fn session() -> SessionInfo {
        let column = |name: &str, column_type: &str| ColumnDescription {
            name: String::from(name),
            column_type: String::from(column_type),
            nullable: true,
        };
        SessionInfo {
            id: SessionId(String::from("s1")),
            status: SessionStatus::Normal,
            buckets: 4,
            hasher: String::from("default"),
            hash_key: vec![String::from("id")],
            columns: vec![column("v", "string"), column("id", "bigint")],
            column_ids: Vec::new(),
            partial_update: false,
        }
    }

    fn row(id: i64) -> [Option<Value>; 2] {
        [Some(Value::Bytes(b"x".to_vec())), Some(Value::Int(id))]
    }

    #[test]
    fn rows_go_to_the_buckets_of_their_keys_in_their_order() {
        let mut packs = PackBuilder::new(&session()).expect("a session");
        let first = packs.add(Op::Upsert, &row(1)).expect("a row");
        for id in 2..50 {
            packs.add(Op::Upsert, &row(id)).expect("a row");
        }
        let last = packs.add(Op::Delete, &[None, Some(Value::Int(1))]).expect("a delete");
        assert_eq!(first, last, "the bucket is the key's");
        let packs = packs.finish();
        assert_eq!(packs.iter().map(|pack| pack.records).sum::<u32>(), 50);
        assert!(packs.windows(2).all(|pair| pair[0].bucket < pair[1].bucket));
        let columns = [ColumnType::String, ColumnType::BigInt];
        let pack = packs.iter().find(|pack| pack.bucket == first).expect("its pack");
        let body = pack.body.plain_form().expect("not compressed yet");
        let mut ops = Vec::new();
        let visit = &mut |record: DecodedRecord| {
            ops.push(record.op);
            Ok(())
        };
        assert_eq!(decode_pack(&body, &columns, visit), Ok(pack.records));
        assert_eq!((ops[0], ops[ops.len() - 1]), (Op::Upsert, Op::Delete));
    }

    #[test]
    fn a_row_that_is_not_of_the_table_is_refused_by_its_column() {
        let mut packs = PackBuilder::new(&session()).expect("a session");
        for (row, says) in [
            (vec![None], "1 values for 2 columns"),
            (vec![Some(Value::Int(1)), Some(Value::Int(1))], "`v`"),
            (vec![None, None], "`id`"),
        ] {
            let error = packs.add(Op::Upsert, &row).expect_err("it is refused");
            assert!(error.to_string().contains(says), "{error}");
        }
        assert!(packs.finish().is_empty());
    }
}
