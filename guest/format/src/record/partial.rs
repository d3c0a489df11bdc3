//! Rows that write some of their table's columns: which ones, how an older record of a key lies
//! under a newer one, and how a pack names columns to its session.
//!
//! Beside `encode`, which asks it to write a row; `buffer` merges by it, `writer` names columns by
//! it. Rows go the plain way here, one by one. Until a pack is sent, a record names columns by
//! their place in the table: only the session tells their ids. Invariant: a record that names no
//! column is a whole row or a delete; one that sets nothing but its key names its key.

use alloc::string::String;
use alloc::vec::Vec;

use super::Op;
use super::decode::{DecodedRecord, decode_pack, decode_record};
use super::value::Value;
use super::value_encode::{encode_partial, pack_trailer};
use crate::schema::{ColumnType, RowPlan, TableSchema};

/// Which of the table's columns a row writes (`upsert.partial-column.enable` and
/// `sink.partial-column.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WrittenColumns {
    /// All; those that the rows do not have become null.
    #[default]
    All,
    /// Those that the rows have, null or not: static mode.
    Declared,
    /// Those of them that are not null in the row: dynamic mode.
    NonNull,
}

/// How partial rows of one table are written and merged.
#[derive(Clone, Debug)]
pub struct PartialRows {
    /// The table's name, for messages.
    table: String,
    types: Vec<ColumnType>,
    /// The columns of the primary key.
    key: Vec<usize>,
    /// The columns beside the key that rows have.
    declared: Vec<usize>,
    /// Whether a row writes only those that are not null in it.
    non_null: bool,
}

impl PartialRows {
    /// None if every row is whole.
    pub fn of(schema: &TableSchema, plan: &RowPlan, written: WrittenColumns) -> Option<Self> {
        let beside_key = |at: &usize| !schema.key.contains(at);
        let declared: Vec<usize> = (0..schema.columns.len())
            .filter(|at| plan.columns[*at].is_some())
            .filter(beside_key)
            .collect();
        let all = declared.len() + schema.key.len() == schema.columns.len();
        let whole = match written {
            WrittenColumns::All => true,
            WrittenColumns::Declared => all,
            WrittenColumns::NonNull => false,
        };
        (!whole).then(|| Self {
            table: schema.name.clone(),
            types: schema.column_types(),
            key: schema.key.clone(),
            declared,
            non_null: written == WrittenColumns::NonNull,
        })
    }

    /// The table's name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Appends the record of a row, given one value for each of the table's columns. Returns its
    /// checksum.
    pub(super) fn encode(&self, values: &[Option<Value>], op: Op, out: &mut Vec<u8>) -> u32 {
        let written = |at: &usize| !self.non_null || values[*at].is_some();
        let columns = match op {
            Op::Delete => Vec::new(),
            Op::Upsert => self.names(self.declared.iter().copied().filter(written).collect()),
        };
        encode_partial(&self.types, values, op, &columns, out)
    }

    /// How a record names the columns that it sets beside its key: not at all if it sets every one,
    /// for then it is a whole row.
    fn names(&self, set: Vec<usize>) -> Vec<i64> {
        let named = match set.len() {
            all if all + self.key.len() == self.types.len() => &[],
            0 => &*self.key,
            _ => &*set,
        };
        named.iter().map(|at| *at as i64).collect()
    }

    /// Reads a record that `encode` or `write` wrote.
    pub fn read(&self, record: &[u8]) -> DecodedRecord {
        decode_record(record, &self.types).expect("it was written here")
    }

    /// Appends a record. Returns its checksum.
    pub fn write(&self, record: &DecodedRecord, out: &mut Vec<u8>) -> u32 {
        encode_partial(&self.types, &record.values, record.op, &record.value_columns, out)
    }

    /// Gives a partial record what it does not set itself from an older upsert of the same key.
    pub fn lay_under(&self, newer: &mut DecodedRecord, older: DecodedRecord) {
        assert!(newer.is_partial() && older.op == Op::Upsert, "under anything else nothing shows");
        let whole = !older.is_partial();
        let mut set: Vec<usize> = Vec::with_capacity(self.types.len());
        for (at, value) in older.values.into_iter().enumerate() {
            if self.key.contains(&at) {
                continue;
            }
            let of_newer = newer.sets(at);
            if !of_newer && (whole || older.value_columns.contains(&(at as i64))) {
                newer.values[at] = value;
                set.push(at);
            } else if of_newer {
                set.push(at);
            }
        }
        newer.value_columns = self.names(set);
    }

    /// A pack for a session that knows the columns by these ids, one for each.
    pub fn pack_for(&self, body: Vec<u8>, ids: &[i64]) -> Vec<u8> {
        if ids.iter().enumerate().all(|(at, id)| *id == at as i64) {
            return body;
        }
        let (mut named, mut crcs) = (Vec::with_capacity(body.len()), Vec::new());
        let count = decode_pack(&body, &self.types, &mut |mut record| {
            for column in &mut record.value_columns {
                *column = ids[*column as usize];
            }
            crcs.push(self.write(&record, &mut named));
            Ok(())
        });
        let count = count.expect("the pack was sealed here");
        pack_trailer(crcs.into_iter(), count, &mut named);
        named
    }
}

impl DecodedRecord {
    /// Whether it leaves some columns of its row as they are.
    pub fn is_partial(&self) -> bool {
        !self.value_columns.is_empty()
    }

    /// Whether a partial record, whose columns are named by their places, sets this one.
    fn sets(&self, column: usize) -> bool {
        self.value_columns.contains(&(column as i64))
    }
}
