//! Downloads: the rows of a partition as they were when the download began, range by range.
//!
//! Between the caller and `endpoint.rs`, beside `table/mod.rs`. Invariant: the rows of a range are
//! handed out only when the count and all checksums of its stream were right, so a range that was
//! not can be read again from its beginning; memory holds one answer and its rows.

use std::sync::Arc;

use http::Method;
use serde::Deserialize;
use upsert_sink_format::record::{Value, decode_rows};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{ColumnDescription, RefusalKind};

use crate::endpoint::{Endpoint, Request};
use crate::error::{Result, TunnelError, escape, refusal};
use crate::name::Name;
use crate::response::judge;
use crate::slots::{SchemaJson, is_id};
use crate::table::in_partition;

/// The values of one row, in the order of the download's columns; a null is none.
pub type DownloadedRow = Vec<Option<Value>>;

/// A download of one partition: its rows stay the same, and in the same order, whatever is
/// committed meanwhile. The service forgets it after a day.
#[derive(Clone)]
pub struct TableDownload {
    endpoint: Arc<Endpoint>,
    table: Arc<Name>,
    partition: String,
    id: String,
    rows: u64,
    columns: Vec<ColumnDescription>,
    types: Vec<ColumnType>,
}

/// The session as the service describes it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DownloadJson {
    #[serde(rename = "DownloadID")]
    id: String,
    status: String,
    record_count: u64,
    schema: SchemaJson,
}

impl TableDownload {
    /// Asks for a session. Nothing is lost if it is in doubt: a session holds no rows of the table.
    pub(crate) async fn begin(
        endpoint: Arc<Endpoint>,
        table: Arc<Name>,
        partition: &str,
    ) -> Result<Self> {
        let path = endpoint.table_path(table.as_str(), "");
        let request = Request::new(Method::POST, path).query("downloads", "");
        let request = in_partition(request, partition)?;
        let body = judge(endpoint.ask_tunnel(request).await)?;
        let json = described(&body)?;
        if !json.status.eq_ignore_ascii_case("normal") {
            let message = format!("the download is {}, not normal", escape(&json.status, 50));
            return Err(TunnelError::refused(refusal(RefusalKind::Transient, message)));
        }
        let columns: Vec<_> = json.schema.columns.into_iter().map(Into::into).collect();
        let types =
            columns.iter().map(|one: &ColumnDescription| ColumnType::parse(&one.column_type));
        let types = types.collect::<std::result::Result<_, _>>();
        let types = types.map_err(|error| TunnelError::unusable(error.to_string()))?;
        let (id, rows, partition) = (json.id, json.record_count, String::from(partition));
        Ok(Self { endpoint, table, partition, id, rows, columns, types })
    }

    /// How many rows the partition has.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The columns of its rows, without those that name partitions.
    pub fn columns(&self) -> &[ColumnDescription] {
        &self.columns
    }

    /// The types of these columns.
    pub fn types(&self) -> &[ColumnType] {
        &self.types
    }

    /// Reads `count` rows from `start` on, which is 0 for the first. An answer has room for
    /// [`TableDownload::ANSWER_BYTES_MAX`]; more rows than that are an error like a broken
    /// connection.
    ///
    /// # Errors
    /// A refusal, such as `NoSuchSession` for a download that the service has forgotten. In doubt,
    /// or `Corrupt` if a checksum or the count of rows is wrong: the same range may be read again.
    pub async fn read(&self, start: u64, count: u64) -> Result<Vec<DownloadedRow>> {
        self.attempt(start, count).await.map(|(rows, _)| rows)
    }

    /// Begins to read all rows, about `answer_bytes` at a time.
    pub fn reader(&self, answer_bytes: usize) -> DownloadReader {
        DownloadReader {
            download: self.clone(),
            next: 0,
            rows_at_once: FIRST_ROWS,
            answer_bytes: answer_bytes.clamp(1, Self::ANSWER_BYTES_MAX / 2),
        }
    }

    /// The most bytes of one answer.
    pub const ANSWER_BYTES_MAX: usize = 64 << 20;

    /// One attempt at a range: the rows, and the bytes that they came in.
    async fn attempt(&self, start: u64, count: u64) -> Result<(Vec<DownloadedRow>, usize)> {
        let read = self.ask(start, count).await;
        read.map_err(|error| {
            let end = start.saturating_add(count);
            error.at(format!("download of {}{}, rows {start} to {end}", self.table, self.of()))
        })
    }

    async fn ask(&self, start: u64, count: u64) -> Result<(Vec<DownloadedRow>, usize)> {
        let path = self.endpoint.table_path(self.table.as_str(), "");
        let request = Request::new(Method::GET, path)
            .query("downloadid", &self.id)
            .query("data", "")
            .query("rowrange", format!("({start},{count})"))
            .answer_bytes_max(Self::ANSWER_BYTES_MAX);
        let request = in_partition(request, &self.partition)?;
        let body = judge(self.endpoint.ask_tunnel(request).await)?;
        let mut rows = Vec::new();
        let decoded = decode_rows(&body, &self.types, &mut |row| {
            rows.push(row);
            Ok(())
        });
        let found = decoded.map_err(|error| {
            TunnelError::garbled(format!("the rows are damaged: {error}; read them again"))
        })?;
        if u64::from(found) != count {
            let message = format!("{found} rows came instead of {count}; read them again");
            return Err(TunnelError::garbled(message));
        }
        Ok((rows, body.len()))
    }

    /// The partition, for messages.
    fn of(&self) -> String {
        match self.partition.as_str() {
            "" => String::new(),
            partition => format!(", {partition}"),
        }
    }
}

/// All rows of a download, one range after another.
pub struct DownloadReader {
    download: TableDownload,
    next: u64,
    rows_at_once: u64,
    answer_bytes: usize,
}

impl DownloadReader {
    /// The next rows; none at the end. The first range is small; from its bytes the reader learns
    /// how many rows to ask for.
    ///
    /// # Errors
    /// As [`TableDownload::read`]. The next call reads the same range from its beginning, and half
    /// as many rows of it, for it may have been too large.
    pub async fn next(&mut self) -> Result<Option<Vec<DownloadedRow>>> {
        let left = self.download.rows - self.next;
        if left == 0 {
            return Ok(None);
        }
        let count = self.rows_at_once.min(left);
        match self.download.attempt(self.next, count).await {
            Ok((rows, bytes)) => {
                self.next += count;
                let fitting = self.answer_bytes as u64 * count / bytes.max(1) as u64;
                self.rows_at_once = fitting.clamp(1, count.saturating_mul(GROWTH_MAX));
                Ok(Some(rows))
            }
            Err(error) => {
                self.rows_at_once = (count / 2).max(1);
                Err(error)
            }
        }
    }
}

/// Reads the description of a session. One that cannot be read leaves the request in doubt.
fn described(body: &[u8]) -> Result<DownloadJson> {
    let json: DownloadJson = serde_json::from_slice(body).map_err(|error| {
        TunnelError::in_doubt(format!("the description of the download is garbled: {error}"))
    })?;
    match is_id(&json.id) {
        true => Ok(json),
        false => Err(TunnelError::in_doubt("the id of the download has characters that no id has")),
    }
}

/// Rows of the first range: few enough of any width.
const FIRST_ROWS: u64 = 64;
/// From one range to the next, so many times as many rows at most: rows may be wider there.
const GROWTH_MAX: u64 = 8;

#[cfg(test)]
mod tests;
