//! Writes the delta file of one commit: its rows by bucket, each bucket's in order of arrival.
//!
//! Between the spool, where the session's packs lie, and the log record of `table/commit.rs`, which
//! makes the file part of the table. Invariant: one pack is in memory at a time, and a row that was
//! verified when it was received is written as it was.

use arrow_array::RecordBatch;
use upsert_sink_format::record::decode_pack;
use upsert_sink_format::schema::{ColumnType, TableSchema};

use super::catalog::TableFile;
use super::file::NewFile;
use super::rows::{Rows, file_schema};
use crate::components::Directory;
use crate::error::Error;
use crate::session::{PackRange, PacksByBucket};
use crate::spool::Spool;

/// Writes the packs of a session to `path`, one at a time. `types` are those of the packs' columns,
/// the first ones of the table; `partial` says whether rows may set some of them only.
pub(crate) async fn write(
    directory: &dyn Directory,
    spool: &Spool,
    (table, partial): (&TableSchema, bool),
    types: &[ColumnType],
    packs: &PacksByBucket,
    path: String,
) -> Result<TableFile, Error> {
    let mut file = NewFile::begin(directory, file_schema(table, partial), path, false)?;
    for (bucket, packs) in packs {
        let rows = Rows::new(table, partial);
        write_packs(&mut file, spool, rows, types, packs).await?;
        file.end_bucket(*bucket).await?;
    }
    file.finish().await
}

async fn write_packs(
    file: &mut NewFile<'_>,
    spool: &Spool,
    mut rows: Rows<'_>,
    types: &[ColumnType],
    packs: &[PackRange],
) -> Result<(), Error> {
    for pack in packs {
        let body = spool.read(pack).await?;
        for batch in decode(&body, types, &mut rows, file.path())? {
            file.write(&batch).await?;
        }
        // A large commit leaves the runtime's workers to others between packs.
        tokio::task::yield_now().await;
    }
    let last = rows.take().map_err(|message| Error::damaged("spool", message))?;
    match last {
        Some(batch) => file.write(&batch).await,
        None => Ok(()),
    }
}

/// Decodes a pack that was verified when it was received; only the disk can have changed it since.
fn decode(
    body: &[u8],
    types: &[ColumnType],
    rows: &mut Rows<'_>,
    path: &str,
) -> Result<Vec<RecordBatch>, Error> {
    let mut batches = Vec::new();
    decode_pack(body, types, &mut |record| {
        let batch = rows.push(record);
        let corrupt = |message| upsert_sink_format::error::Error::corrupt(path, message);
        batches.extend(batch.map_err(corrupt)?);
        Ok(())
    })
    .map_err(|error| Error::damaged("spool", error.to_string()))?;
    Ok(batches)
}
