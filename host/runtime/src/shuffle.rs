//! The shuffle of one process: which rows of a batch go to which writer, by the keys that the
//! guest's `route` gives them.
//!
//! Between `batch/mod.rs` and the writers' queues. Invariant: the order of rows that go to one
//! writer stays; every row goes to exactly one.

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use bytes::Bytes;

use crate::batch::{RowKind, encode};
use crate::error::{Error, Result};

/// The batches for the writers, by their index. The writer of a row is its key modulo the writers,
/// of which there is at least one.
pub(crate) fn split(
    rows: &RecordBatch,
    kinds: &[RowKind],
    encoded: Vec<u8>,
    keys: &[u32],
    writers: u32,
) -> Result<Vec<(u32, Bytes)>> {
    if keys.len() != rows.num_rows() {
        let message = format!("{} keys were given to {} rows", keys.len(), rows.num_rows());
        return Err(Error::bug("route", message));
    }
    let writer_of: Vec<u32> = keys.iter().map(|key| key % writers).collect();
    // The whole batch is often one writer's: it is encoded already.
    if let Some(first) = writer_of.first()
        && writer_of.iter().all(|writer| writer == first)
    {
        return Ok(vec![(*first, Bytes::from(encoded))]);
    }
    let mut batches = Vec::new();
    for writer in 0..writers {
        let indexes = indexes_of(writer, &writer_of);
        if indexes.is_empty() {
            continue;
        }
        let kinds: Vec<RowKind> = match kinds {
            [] => Vec::new(),
            kinds => indexes.iter().filter_map(|row| kinds.get(*row as usize).copied()).collect(),
        };
        let part = take_record_batch(rows, &UInt32Array::from(indexes))
            .map_err(|error| Error::bug("shuffle", error.to_string()))?;
        batches.push((writer, Bytes::from(encode(&part, &kinds)?)));
    }
    Ok(batches)
}

fn indexes_of(writer: u32, writer_of: &[u32]) -> Vec<u32> {
    let rows = (0_u32..).zip(writer_of);
    rows.filter(|(_, its)| **its == writer).map(|(row, _)| row).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    fn rows(values: &[i64]) -> RecordBatch {
        let values = Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter([("v", values)]).expect("rows")
    }

    fn encoded(values: &[i64], kinds: &[RowKind]) -> Bytes {
        Bytes::from(encode(&rows(values), kinds).expect("it is encoded"))
    }

    #[test]
    fn rows_keep_their_order_and_their_kinds() {
        use RowKind::*;
        let kinds = [Insert, Delete, UpdateBefore, UpdateAfter];
        let all = encode(&rows(&[10, 11, 12, 13]), &kinds).expect("it is encoded");
        let split = split(&rows(&[10, 11, 12, 13]), &kinds, all, &[2, 6, 5, 0], 3).expect("routed");
        let expected = [
            (0, encoded(&[11, 13], &[Delete, UpdateAfter])),
            (2, encoded(&[10, 12], &[Insert, UpdateBefore])),
        ];
        assert_eq!(split, expected);
    }

    #[test]
    fn keys_that_are_not_of_these_rows_are_refused() {
        assert!(split(&rows(&[1]), &[], Vec::new(), &[], 1).is_err());
        assert!(split(&rows(&[1]), &[], Vec::new(), &[1, 1], 1).is_err());
    }

    #[test]
    fn a_batch_of_one_writer_is_handed_on_as_it_is() {
        let all = encode(&rows(&[1, 2]), &[]).expect("it is encoded");
        let split = split(&rows(&[1, 2]), &[], all.clone(), &[u32::MAX, 1], 2).expect("routed");
        assert_eq!(split, [(1, Bytes::from(all))]);
    }
}
