//! Downloads on the wire: sessions of tables and of instances, and ranges of their rows.
//!
//! Between `route/mod.rs` and `download.rs` with the results on disk.
//! Invariant: a range is answered whole, with its count and checksum at the end, or cut short.

use std::sync::Arc;

use futures::TryStreamExt;
use http::Method;
use serde_json::json;

use crate::answer::Answer;
use crate::download::{Download, DownloadOf, DownloadSessions};
use crate::error::{Error, Refusal};
use crate::ids::Ids;
use crate::jobs::Jobs;
use crate::request::Request;
use crate::result::kept::{KeptRows, ResultNumber, Results};
use crate::result::records;
use crate::result::shape::Shape;
use crate::sql::job::{JobOutcome, SqlJob};
use crate::table::catalog::Table;
use crate::table::stream::partition_rows;
use crate::tables::Tables;

/// The routes of downloads.
pub(crate) struct Downloads {
    pub(crate) tables: Arc<Tables>,
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) results: Arc<Results>,
    pub(crate) sessions: DownloadSessions,
    pub(crate) ids: Ids,
}

impl Downloads {
    /// Answers a download's request to `…/tables/{table}`.
    pub(crate) async fn of_table(&self, request: &Request, name: &str) -> Result<Answer, Refusal> {
        let table = self.tables.find(name)?;
        if request.parameter("linenum").is_some() {
            return Err(Refusal::method(
                "the preview of a table is not supported; SELECT … LIMIT reads its first rows",
            ));
        }
        if creates(request)? {
            return self.keep_partition(request, &table).await;
        }
        let download = self.find(request)?;
        match &download.of {
            DownloadOf::Partition(table_id, values) if *table_id == table.definition.id => {
                if let Some(spec) = request.parameter("partition")
                    && table.partition(Some(spec))? != *values
                {
                    let id = &download.id;
                    let message = format!("download session {id} is not of the partition {spec}");
                    return Err(Refusal::invalid(message));
                }
            }
            _ => {
                let message = format!("download session {} is not of table {name}", download.id);
                return Err(Refusal::invalid(message));
            }
        }
        self.respond(request, &download).await
    }

    /// Answers a download's request to `…/instances/{id}`.
    pub(crate) async fn of_instance(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        let job = self.jobs.find(id)?;
        let of = DownloadOf::Instance(id.to_owned());
        if creates(request)? {
            let result = rows_of(&job)?;
            let limited = request.parameter("instance_tunnel_limit_enabled").is_some();
            return self.create(of, result, if limited { LIMITED_ROWS } else { u64::MAX });
        }
        let download = self.find(request)?;
        if download.of != of {
            let message = format!("download session {} is not of instance {id}", download.id);
            return Err(Refusal::invalid(message));
        }
        self.respond(request, &download).await
    }

    async fn keep_partition(
        &self,
        request: &Request,
        table: &Arc<Table>,
    ) -> Result<Answer, Refusal> {
        let values = table.partition(request.parameter("partition"))?;
        let rows = partition_rows(table, &values, self.tables.objects());
        let rows = rows.map_err(|error| Refusal::internal(error.to_string()))?;
        let rows = rows.map_err(Error::Read);
        let result = self.results.keep(Shape::of_table(&table.schema), rows).await?;
        let of = DownloadOf::Partition(table.definition.id.clone(), values);
        self.create(of, result, u64::MAX)
    }

    fn create(
        &self,
        of: DownloadOf,
        result: ResultNumber,
        rows_max: u64,
    ) -> Result<Answer, Refusal> {
        let kept = self.kept(result)?;
        let rows = kept.rows.min(rows_max);
        let download = Arc::new(Download { id: self.ids.resource(), of, result, rows });
        self.sessions.remember(&download);
        Ok(session_answer(&download, &kept, "normal"))
    }

    fn find(&self, request: &Request) -> Result<Arc<Download>, Refusal> {
        let id = request.required("downloadid")?;
        self.sessions.get(id).ok_or_else(|| {
            let message = format!(
                "there is no download session {id}; this server forgets them at a restart: create \
                 another"
            );
            Refusal::no_such("NoSuchDownload", message)
        })
    }

    fn kept(&self, result: ResultNumber) -> Result<Arc<KeptRows>, Refusal> {
        self.results.get(result).ok_or_else(|| {
            let message = "the rows were pushed out by newer results; ask for them again";
            Refusal::no_such("NoSuchDownload", message)
        })
    }

    async fn respond(&self, request: &Request, download: &Download) -> Result<Answer, Refusal> {
        let kept = self.kept(download.result)?;
        match request.method {
            Method::GET if request.parameter("data").is_some() => {
                data(request, download, &kept).await
            }
            Method::GET => Ok(session_answer(download, &kept, "normal")),
            // Nothing has to be given back, and another reader may not be through.
            Method::POST => Ok(session_answer(download, &kept, "closed")),
            _ => Err(Refusal::method(format!("{} is not a call of downloads", request.method))),
        }
    }
}

/// The rows of a job that has finished with some.
fn rows_of(job: &SqlJob) -> Result<ResultNumber, Refusal> {
    let id = &job.id;
    match job.finished().map(|finished| finished.outcome) {
        None => {
            let message = format!("instance {id} has not ended; wait for it");
            Err(Refusal::instance("InstanceNotTerminate", message))
        }
        Some(JobOutcome::Rows(result)) => Ok(result),
        Some(JobOutcome::Done) => {
            let message = "Non select query not supported: its statements have no rows";
            Err(Refusal::instance("InstanceTypeNotSupported", message))
        }
        Some(JobOutcome::Failed(message)) => Err(Refusal::invalid(message)),
        Some(JobOutcome::Cancelled) => Err(Refusal::conflict(format!("instance {id} was stopped"))),
    }
}

/// Whether the request asks for a new session.
fn creates(request: &Request) -> Result<bool, Refusal> {
    if request.parameter("downloads").is_none() {
        return Ok(false);
    }
    match request.method {
        Method::POST => Ok(true),
        _ => Err(Refusal::method(format!("{} is not a call of downloads", request.method))),
    }
}

async fn data(
    request: &Request,
    download: &Download,
    kept: &Arc<KeptRows>,
) -> Result<Answer, Refusal> {
    if request.parameter("arrow").is_some() {
        return Err(Refusal::method("rows in Arrow are not supported; read them as records"));
    }
    if request.parameter("raw_size").is_some() {
        return Err(Refusal::invalid("raw_size is not supported; bound the range by rows"));
    }
    let (start, count) = range(request.required("rowrange")?, download)?;
    let columns = kept.shape.pick(request.parameter("columns"))?;
    let types = columns.iter().map(|at| kept.shape.columns[*at].column_type.clone()).collect();
    let batches = kept.read(start, count, &columns).await?;
    Ok(Answer::rows(records::stream(types, batches)))
}

/// Reads `(start,count)`.
fn range(text: &str, download: &Download) -> Result<(u64, u64), Refusal> {
    let inner = text.strip_prefix('(').and_then(|text| text.strip_suffix(')'));
    let pair = inner.and_then(|inner| inner.split_once(','));
    let numbers = pair.and_then(|(start, count)| {
        Some((start.trim().parse::<u64>().ok()?, count.trim().parse::<u64>().ok()?))
    });
    let Some((start, count)) = numbers else {
        return Err(Refusal::invalid_range(format!(
            "rowrange={text}: write (start,count), two whole numbers"
        )));
    };
    match start.checked_add(count) {
        Some(end) if end <= download.rows => Ok((start, count)),
        _ => Err(Refusal::invalid_range(format!(
            "rowrange={text}: the session has {} rows, from 0",
            download.rows
        ))),
    }
}

fn session_answer(download: &Download, kept: &KeptRows, status: &str) -> Answer {
    let body = json!({
        "DownloadID": download.id,
        "Status": status,
        "RecordCount": download.rows,
        "Schema": kept.shape.tunnel_json(),
        "QuotaName": "default",
        "SupportReadByRawSize": false,
    });
    Answer::json(body.to_string())
}

/// Rows of an instance's result that a limited session shows, as on the service.
const LIMITED_ROWS: u64 = 10_000;
