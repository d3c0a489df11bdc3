//! The service's answers: the verdict, sessions, tables, XML.
//!
//! An input is an answer as text: the status, headers one a line, an empty line, the body. Promises
//! of the judgement: done is said only of a 2xx with the service's request id, refused only of what
//! the service has coded; no text of the service reaches us with control characters or without end.
//! Promises of the readers: a session or a table that is read is read alike when it is written
//! again, and what goes back into requests is safe there.

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::tunnel::{ColumnDescription, Refusal, TableDescription};
use upsert_sink_tests::fuzz::shape;
use upsert_sink_tunnel::readers::{self, DescribedSession};
use upsert_sink_tunnel::{NotDone, TunnelError};

use crate::Memory;

pub(crate) const WORDS: &[&str] = &[
    "200\n",
    "308\n",
    "400\n",
    "404\n",
    "429\n",
    "502\n",
    "x-odps-request-id: r1\n",
    "odps-tunnel-routed-server: 10.0.0.1:80\n",
    "content-type: text/html\n",
    "retry-after: 9\n",
    "\n\n",
    "{\"Code\":\"SlotExceeded\",\"Message\":\"m\"}",
    "UpsertSessionNotFound",
    "\"HoldClientMillis\":",
    "\"slots\":[{\"slot_id\":\"0\",\"buckets\":[0],\"worker_addr\":\"a:1\"}]",
    "\"buckets\":[0,1,2]",
    "\"status\":\"committed\"",
    "<Error><Code>",
    "</Code></Error>",
    "<![CDATA[",
    "]]>",
    "&amp;",
    "&#10;",
    "\\u0000",
    "\\\"",
    "[[[[[[[[",
];

/// JSON as a tree takes tens of bytes for one of its text, and is read three times over.
const MEMORY: Memory = Memory { fixed: 64 << 10, per_byte: 1_500 };
const TEXT_MAX: usize = 8 * 301;
const RETRY_AFTER_MAX_MS: u64 = 64_000;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let Some(answer) = answer(input) else { return Ok(String::from("no answer")) };
    let Answer { status, headers, body } = &answer;
    let judged = MEMORY.bounds(input, || readers::judge(*status, headers, body))?;
    check_judged(&answer, &judged)?;
    let judged = match judged.as_ref().map_err(TunnelError::refusal) {
        Ok(()) => String::from("done"),
        Err(Some(refusal)) => format!("{:?}", refusal.kind),
        Err(None) => String::from("in doubt"),
    };
    let session = match MEMORY.bounds(input, || readers::session(body))? {
        Ok(session) => check_session(&session)?,
        Err(why) => shape(&why),
    };
    let table = match MEMORY.bounds(input, || readers::table(body))? {
        Ok(table) => check_table(&table)?,
        Err(error) => {
            let known = matches!(error.kind, ErrorKind::Corrupt | ErrorKind::InvalidConfig);
            ensure!(known && error.at == "p.t", "a table is refused as {error:?}");
            shape(&error.message)
        }
    };
    check_xml(&String::from_utf8_lossy(body))?;
    Ok(format!("{judged} | {session} | {table}"))
}

fn answer(input: &[u8]) -> Option<Answer> {
    let end = input.windows(2).position(|pair| pair == b"\n\n")?;
    let mut lines = std::str::from_utf8(&input[..end]).ok()?.lines();
    let status = StatusCode::from_u16(lines.next()?.trim().parse().ok()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines.take(20) {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        headers.append(name, HeaderValue::try_from(value.trim()).ok()?);
    }
    Some(Answer { status, headers, body: Bytes::copy_from_slice(&input[end + 2..]) })
}

fn check_judged(answer: &Answer, judged: &Result<(), TunnelError>) -> Result<()> {
    let id = answer.headers.get("x-odps-request-id");
    let has_id = id.is_some_and(|id| id.to_str().is_ok_and(|id| !id.is_empty()));
    let success = answer.status.is_success();
    match judged.as_ref().map_err(TunnelError::not_done) {
        Ok(()) => ensure!(success && has_id, "done, but it has no request id"),
        Err(NotDone::InDoubt(why)) => {
            ensure!(!(success && has_id), "in doubt, although the service says it is done");
            check_text(why)?;
        }
        Err(NotDone::Refused(refusal)) => {
            let Refusal { code, message, request_id, retry_after, .. } = refusal;
            let moved = answer.status == StatusCode::PERMANENT_REDIRECT;
            ensure!(!success && (moved || !code.is_empty()), "refused without a code: {refusal:?}");
            ensure!(retry_after.0 <= RETRY_AFTER_MAX_MS, "it is to wait for {}", retry_after.0);
            [code, message, request_id].into_iter().try_for_each(|text| check_text(text))?;
        }
        Err(other) => anyhow::bail!("an answer is judged as {other:?}"),
    }
    Ok(())
}

/// Checks that a text may be shown to people and written to logs.
fn check_text(text: &str) -> Result<()> {
    ensure!(text.len() <= TEXT_MAX, "a text of {} bytes", text.len());
    ensure!(!text.contains(char::is_control), "a text with control characters: {text:?}");
    Ok(())
}

fn check_session((info, routes): &DescribedSession) -> Result<String> {
    ensure!(info.buckets as usize == routes.len(), "{} routes: {info:?}", routes.len());
    let safe = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        !text.is_empty() && text.chars().all(allowed)
    };
    ensure!(safe(&info.id.0), "an id that breaks a request: {:?}", info.id);
    let broken = routes.iter().find(|(slot, worker)| !safe(slot) || !safe(worker));
    ensure!(broken.is_none(), "a route that breaks a request: {broken:?}");
    let column = |column: &ColumnDescription| {
        let nullable = column.nullable.to_string();
        json!({"name": column.name, "type": column.column_type, "nullable": nullable})
    };
    let slots = routes.iter().enumerate().map(|(bucket, (slot, worker))| {
        json!({"slot_id": slot, "buckets": [bucket], "worker_addr": worker})
    });
    let written = json!({
        "id": info.id.0,
        "schema": {"columns": info.columns.iter().map(column).collect::<Vec<_>>()},
        "hash_key": info.hash_key,
        "hasher": info.hasher,
        "slots": slots.collect::<Vec<Value>>(),
        "status": format!("{:?}", info.status).to_uppercase(),
    });
    let again = readers::session(written.to_string().as_bytes());
    let again = again.map_err(|why| anyhow::anyhow!("{info:?} is refused: {why}"))?;
    ensure!(again.0.id == info.id && again.1 == *routes, "{info:?} became {again:?}");
    ensure!(format!("{:?}", again.0.columns) == format!("{:?}", info.columns), "{again:?}");
    Ok(format!("session {:?} {}", info.status, info.buckets.min(3)))
}

fn check_table(table: &TableDescription) -> Result<String> {
    ensure!(table.buckets > 0 && !table.primary_key.is_empty(), "{table:?}");
    let column = |column: &ColumnDescription| {
        let (name, column_type) = (&column.name, &column.column_type);
        json!({"name": name, "type": column_type, "isNullable": column.nullable})
    };
    let reserved = json!({
        "Transactional": "true", "PrimaryKey": table.primary_key, "BucketNum": table.buckets,
    });
    let schema = json!({
        "columns": table.columns.iter().map(column).collect::<Vec<_>>(),
        "partitionKeys": table.partition_columns.iter().map(column).collect::<Vec<_>>(),
        "Reserved": reserved.to_string(),
    });
    let text = format!("<Table><Schema>{}</Schema></Table>", section(&schema.to_string()));
    let again = readers::table(text.as_bytes())?;
    ensure!(format!("{again:?}") == format!("{table:?}"), "{table:?} became {again:?}");
    Ok(format!("table {}", table.columns.len().min(3)))
}

/// Any text is read back from a section as it was.
fn check_xml(text: &str) -> Result<()> {
    // XML itself changes ends of lines; its readers may.
    let text: String = text.chars().filter(|c| *c != '\r').take(2_000).collect();
    let found = readers::xml(&format!("<a><b>{}</b></a>", section(&text)), "b");
    ensure!(found == Ok(Some(text.clone())), "{text:?} was read as {found:?}");
    Ok(())
}

fn section(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}
