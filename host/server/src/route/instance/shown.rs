//! Shows jobs: their status, their result as text, the task that was posted.
//!
//! Between `jobs.rs` and clients that ask again and again. Invariant: the task has the name and
//! kind that its client gave it, and a result is bounded: one that is cut says so.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::TryStreamExt;
use serde_json::json;
use upsert_sink_tunnel::xml::{can_hold, cdata, escaped};

use crate::answer::Answer;
use crate::error::Refusal;
use crate::jobs::Jobs;
use crate::request::Request;
use crate::result::csv;
use crate::result::kept::ResultNumber;
use crate::route::project::OWNER;
use crate::sql::job::{JobOutcome, SqlJob};

/// All jobs that are remembered.
pub(super) fn list(jobs: &Jobs) -> Answer {
    let mut body = "<Instances><Marker></Marker><MaxItems>1000</MaxItems>".to_owned();
    for job in jobs.all() {
        let end = job.finished().map(|e| format!("<EndTime>{}</EndTime>", date(e.at_ms)));
        write!(
            body,
            "<Instance><Name>{}</Name><Owner>{OWNER}</Owner><StartTime>{}</StartTime>{}\
             <Status>{}</Status></Instance>",
            job.id,
            date(job.begun_ms),
            end.unwrap_or_default(),
            status(&job)
        )
        .expect("a string can be written to");
    }
    Answer::xml(body + "</Instances>")
}

/// One job, or more of it as the request asks.
pub(super) async fn show(jobs: &Jobs, request: &Request, id: &str) -> Result<Answer, Refusal> {
    let job = jobs.find(id)?;
    let asked = |name: &str| request.parameter(name).is_some();
    let answer = if asked("taskstatus") {
        task_status(&job)
    } else if asked("result") {
        result(jobs, &job).await?
    } else if asked("source") {
        source(&job)
    } else if asked("instancesummary") {
        let summary = json!({ "JsonSummary": "{\"Outputs\":{}}", "Summary": "" });
        Answer::json(json!({ "Instance": summary }).to_string())
    } else if asked("instanceprogress") {
        Answer::xml("<Progress></Progress>".to_owned())
    } else if ["cached", "detail", "instancedetail", "instancequota"].iter().any(|n| asked(n)) {
        Answer::json("{}".to_owned())
    } else if ["info", "log"].iter().any(|name| asked(name)) {
        return Err(Refusal::method("info and log of an instance are not supported"));
    } else {
        Answer::xml(format!("<Instance><Status>{}</Status></Instance>", status(&job)))
    };
    // Empty while it runs: the Java SDK reads it without looking whether it is there.
    let ended = job.finished().map(|finished| date(finished.at_ms)).unwrap_or_default();
    Ok(answer
        .with_header("x-odps-owner", OWNER.to_owned())
        .with_header("x-odps-start-time", date(job.begun_ms))
        .with_header("x-odps-end-time", ended))
}

fn task_status(job: &SqlJob) -> Answer {
    let end = job.finished().map(|e| format!("<EndTime>{}</EndTime>", date(e.at_ms)));
    Answer::xml(format!(
        "<Instance><Status>{}</Status><Tasks><Task Type=\"{}\"><Name>{}</Name>\
         <StartTime>{}</StartTime>{}<Status>{}</Status><Histories/></Task></Tasks></Instance>",
        status(job),
        job.task.kind.element(),
        escaped(&job.task.name),
        date(job.begun_ms),
        end.unwrap_or_default(),
        task_word(job),
    ))
}

fn source(job: &SqlJob) -> Answer {
    let (kind, text) = (job.task.kind.element(), job.task.kind.text_element());
    Answer::xml(format!(
        "<Job><Priority>9</Priority><Tasks><{kind}><Name>{}</Name><{text}>{}</{text}>\
         </{kind}></Tasks><DAG><RunMode>Sequence</RunMode></DAG></Job>",
        escaped(&job.task.name),
        cdata(&job.task.text)
    ))
}

async fn result(jobs: &Jobs, job: &SqlJob) -> Result<Answer, Refusal> {
    let (format, text, descriptor) = match job.finished().map(|finished| finished.outcome) {
        None => ("text", String::new(), None),
        Some(JobOutcome::Done) => ("text", "OK".to_owned(), None),
        Some(JobOutcome::Failed(message)) => ("text", message, None),
        Some(JobOutcome::Cancelled) => ("text", "the instance was stopped".to_owned(), None),
        Some(JobOutcome::Rows(number)) => {
            let (text, descriptor) = rows(jobs, number).await?;
            ("csv", text, Some(descriptor))
        }
    };
    let descriptor =
        descriptor.map(|d| format!("<ResultDescriptor>{}</ResultDescriptor>", cdata(&d)));
    let result = match can_hold(&text) {
        true => format!("<Result Format=\"{format}\">{}</Result>", cdata(&text)),
        false => format!(
            "<Result Transform=\"Base64\" Format=\"{format}\">{}</Result>",
            STANDARD.encode(&text)
        ),
    };
    Ok(Answer::xml(format!(
        "<Instance><Tasks><Task Type=\"{}\"><Name>{}</Name>{result}{}<Status>{}</Status></Task>\
         </Tasks></Instance>",
        job.task.kind.element(),
        escaped(&job.task.name),
        descriptor.unwrap_or_default(),
        task_word(job),
    )))
}

/// The first rows of a result, and what they are the first rows of.
async fn rows(jobs: &Jobs, number: ResultNumber) -> Result<(String, String), Refusal> {
    let kept = jobs.rows(number).ok_or_else(|| {
        let message = "the rows were pushed out by newer results; run the query again";
        Refusal::no_such("NoSuchObject", message)
    })?;
    let all: Vec<usize> = (0..kept.shape.columns.len()).collect();
    let mut batches = kept.read(0, kept.rows.min(TEXT_ROWS_MAX), &all).await?;
    let mut text = String::new();
    csv::header(&kept.shape, &mut text);
    let mut shown = 0;
    while let Some(batch) = batches.try_next().await? {
        csv::rows(&kept.shape, &batch, &mut text);
        shown += batch.num_rows() as u64;
        if text.len() > TEXT_BYTES_MAX {
            break;
        }
    }
    let status = if shown == kept.rows { "FULL" } else { "TRUNCATED" };
    let descriptor = json!({
        "IsSelect": true,
        "SelectResultStatus": status,
        "Schema": kept.shape.descriptor_json(),
    });
    Ok((text, descriptor.to_string()))
}

fn status(job: &SqlJob) -> &'static str {
    if job.finished().is_some() { "Terminated" } else { "Running" }
}

fn task_word(job: &SqlJob) -> &'static str {
    match job.finished().map(|finished| finished.outcome) {
        None => "Running",
        Some(JobOutcome::Done | JobOutcome::Rows(_)) => "Success",
        Some(JobOutcome::Failed(_)) => "Failed",
        Some(JobOutcome::Cancelled) => "Cancelled",
    }
}

fn date(at_ms: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at_ms))
}

/// Rows of a result as text, as on the service; the Tunnel gives all of them.
const TEXT_ROWS_MAX: u64 = 10_000;
/// Bytes of a result as text, about.
const TEXT_BYTES_MAX: usize = 8 << 20;
