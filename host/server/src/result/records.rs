//! Rows as the Tunnel sends them: a stream of records with their checksums.
//!
//! Between `kept` and the network. Invariant: the stream ends with the number of its records and
//! the checksum of their checksums, or it is cut short: a client never takes a part for the whole.

use arrow_array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use upsert_sink_format::record::{Value, encode_row, stream_trailer};
use upsert_sink_format::schema::ColumnType;

use super::cells::cells;
use crate::error::Error;

/// Batches of these columns as pieces of a stream.
pub(crate) fn stream(
    types: Vec<ColumnType>,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let start = Some((Records { types, crc: 0, count: 0 }, batches));
    let pieces = futures::stream::unfold(start, |state| async {
        let (mut records, mut batches) = state?;
        Some(match batches.next().await {
            Some(Ok(batch)) => (Ok(records.encode(&batch)), Some((records, batches))),
            Some(Err(error)) => (Err(error), None),
            None => (Ok(records.trailer()), None),
        })
    });
    pieces.boxed()
}

/// The state of a stream.
struct Records {
    types: Vec<ColumnType>,
    crc: u32,
    count: i64,
}

impl Records {
    fn encode(&mut self, batch: &RecordBatch) -> Bytes {
        let columns = self.types.iter().zip(batch.columns());
        let mut columns: Vec<_> = columns.map(|(t, c)| cells(t, c).into_iter()).collect();
        let mut out = Vec::new();
        let mut row: Vec<Option<Value>> = Vec::with_capacity(columns.len());
        for _ in 0..batch.num_rows() {
            row.clear();
            row.extend(columns.iter_mut().map(|column| column.next().flatten()));
            let crc = encode_row(&self.types, &row, &mut out);
            self.crc = crc32c::crc32c_append(self.crc, &crc.to_le_bytes());
            self.count += 1;
        }
        Bytes::from(out)
    }

    fn trailer(&self) -> Bytes {
        let mut out = Vec::new();
        stream_trailer(self.crc, self.count, &mut out);
        Bytes::from(out)
    }
}
