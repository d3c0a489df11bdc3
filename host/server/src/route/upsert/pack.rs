//! Verifies a pack before it is kept: framing, checksums, count, and the bucket of every row.
//!
//! Between `encoding.rs` and the spool. Invariant: what passes can be committed, and lies in the
//! bucket that a reader of the table will look for its keys in.

use upsert_sink_format::error::Error;
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::record::{DecodedRecord, Op, decode_pack};
use upsert_sink_format::schema::{ColumnType, TableSchema};

use crate::error::Refusal;
use crate::request::Request;
use crate::session::SessionFacts;
use crate::sessions::VerifiedPack;
use crate::table::catalog::Table;
use crate::table::rows::Rows;

/// The slot that a bucket is written through.
pub(super) fn slot_of(bucket: u32, slots: u32) -> u32 {
    bucket % slots
}

/// Checks a pack, decompressed, against its request, its checksums and its session's table.
pub(super) fn verify<'b>(
    request: &Request,
    body: &'b [u8],
    table: &Table,
    session: &SessionFacts,
) -> Result<VerifiedPack<'b>, Refusal> {
    let bucket = bucket(request, table, session)?;
    let types = session.column_types(&table.schema);
    let records = check_records(body, table, &types, bucket)?;
    match request.number("record_count")? {
        Some(counted) if counted != records => Err(Refusal::corrupted(format!(
            "record_count={counted}, but the pack has {records} records; send it again"
        ))),
        _ => Ok(VerifiedPack { bucket, records, body, wire_bytes: request.body.len() }),
    }
}

fn bucket(request: &Request, table: &Table, session: &SessionFacts) -> Result<u32, Refusal> {
    request.required("bucketid")?;
    let bucket = request.number("bucketid")?.unwrap_or_default();
    let buckets = table.definition.buckets;
    if bucket >= buckets {
        let message = format!("bucketid={bucket}: the table has {buckets} buckets, from 0");
        return Err(Refusal::invalid(message));
    }
    let expected = slot_of(bucket, session.slots);
    match request.number("slotid")? {
        Some(slot) if slot != expected => Err(Refusal::invalid(format!(
            "slotid={slot}: bucket {bucket} of upsert session {} is of slot {expected}",
            session.id
        ))),
        _ => Ok(bucket),
    }
}

fn check_records(
    body: &[u8],
    table: &Table,
    types: &[ColumnType],
    bucket: u32,
) -> Result<u32, Refusal> {
    let mut rows = Rows::new(&table.schema, table.definition.partial_update);
    let mut refused = None;
    let mut number = 0_u32;
    let decoded = decode_pack(body, types, &mut |record| {
        number += 1;
        let checked = check_columns(&record, table, types.len())
            .and_then(|()| check_row(&record, &table.schema, bucket));
        let kept = checked.and_then(|()| rows.push(record).map(drop));
        kept.map_err(|message| {
            refused = Some(Refusal::invalid(format!("record {number}: {message}")));
            Error::corrupt("", "refused")
        })
    });
    match (refused, decoded) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(error)) => {
            Err(Refusal::corrupted(format!("the pack is damaged: {error}; send it again")))
        }
        (None, Ok(records)) => {
            rows.take().map_err(Refusal::invalid)?;
            Ok(records)
        }
    }
}

/// A record that sets some columns only needs a table that lets it, and names columns by their ids,
/// which are their places here.
fn check_columns(record: &DecodedRecord, table: &Table, columns: usize) -> Result<(), String> {
    if !record.is_partial() {
        return Ok(());
    }
    let name = &table.definition.name;
    if !table.definition.partial_update {
        return Err(format!(
            "it sets some columns only, but table {name} takes whole rows: create it with \
             TBLPROPERTIES ('acid.partial.fields.update.enable'='true')"
        ));
    }
    if record.op == Op::Delete {
        return Err(String::from("it deletes its row, but names columns to set"));
    }
    let known = |id: &&i64| usize::try_from(**id).is_ok_and(|at| at < columns);
    match record.value_columns.iter().find(|id| !known(id)) {
        Some(id) => Err(format!(
            "it sets the column of id {id}, but the columns of table {name} have the ids 0 to {}",
            columns - 1
        )),
        None => Ok(()),
    }
}

fn check_row(record: &DecodedRecord, table: &TableSchema, bucket: u32) -> Result<(), String> {
    let key: Vec<_> = table
        .key
        .iter()
        .map(|at| (&table.columns[*at].column_type, record.values[*at].as_ref()))
        .collect();
    let hash = hash_values(Hasher::Default, &key).map_err(|error| error.to_string())?;
    let expected = bucket_of(hash, table.buckets).0;
    if expected == bucket {
        return Ok(());
    }
    Err(format!(
        "its key belongs to bucket {expected} of {}, not to {bucket}: the client's hash is wrong, \
         or its session is of another table",
        table.buckets
    ))
}
