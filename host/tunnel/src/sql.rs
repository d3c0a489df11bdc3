//! SQL through an instance: post it, ask until it has ended, learn how, read what it has found.
//!
//! Used by `catalog.rs`. Invariant: only a statement that the service reports as successful is
//! done.

use http::Method;
use upsert_sink_format::tunnel::{Refusal, RefusalKind};

use crate::endpoint::{Endpoint, Request};
use crate::error::{NotDone, Result, TunnelError, escape, refusal};
use crate::response::judge;
use crate::slots::is_id;
use crate::xml;

/// Runs one statement to its end.
pub(crate) async fn run(endpoint: &Endpoint, text: &str) -> Result<()> {
    let id = instance_of(endpoint, text).await?;
    settle(endpoint, &id).await
}

/// A row of a query's result, as text; a null is none.
pub type TextRow = Vec<Option<String>>;

/// Runs one query to its end, and reads the few rows that it finds.
pub(crate) async fn rows(endpoint: &Endpoint, text: &str) -> Result<Vec<TextRow>> {
    let id = instance_of(endpoint, text).await?;
    settle(endpoint, &id).await?;
    let root = instance(endpoint, &id, "result").await.map_err(TunnelError::in_doubt)?;
    let result = root.find("Result").map(|result| result.text.as_str()).unwrap_or_default();
    parse_rows(result).map_err(TunnelError::in_doubt)
}

/// The rows after the header.
fn parse_rows(text: &str) -> std::result::Result<Vec<TextRow>, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("the result is garbled: {error}"))?;
        let value = |text: &str| (text != NULL).then(|| String::from(text));
        rows.push(record.iter().map(value).collect());
    }
    Ok(rows)
}

/// Posts one statement; answers the id of what runs it.
async fn instance_of(endpoint: &Endpoint, text: &str) -> Result<String> {
    let request = Request::new(Method::POST, endpoint.project_path("/instances"))
        .header("content-type", "application/xml")
        .body(job(text));
    let answer = endpoint.ask_catalog(request).await;
    let location = answer.as_ref().ok().and_then(|answer| {
        let location = answer.headers().get("location")?.to_str().ok()?;
        location.rsplit('/').next().filter(|id| is_id(id)).map(String::from)
    });
    judge(answer)?;
    location.ok_or_else(|| TunnelError::in_doubt("the service gave the SQL instance no id"))
}

async fn settle(endpoint: &Endpoint, id: &str) -> Result<()> {
    let clock = &endpoint.components.clock;
    let deadline = clock.now_ms().saturating_add(STATEMENT_MS_MAX);
    let mut wait_ms = FIRST_WAIT_MS;
    loop {
        match instance(endpoint, id, "taskstatus").await {
            Ok(root) => match status(&root) {
                Some("Success") => return Ok(()),
                Some("Failed" | "Cancelled") => return Err(failure(endpoint, id).await),
                _ => {}
            },
            // Asking again is harmless.
            Err(why) if clock.now_ms() >= deadline => return Err(TunnelError::in_doubt(why)),
            Err(_) => {}
        }
        if clock.now_ms() >= deadline {
            return Err(TunnelError::in_doubt(format!("SQL instance {id} has not ended")));
        }
        clock.sleep_until(clock.now_ms().saturating_add(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
    }
}

/// The service's description of an instance; the error is why there is none.
async fn instance(
    endpoint: &Endpoint,
    id: &str,
    what: &'static str,
) -> std::result::Result<xml::XmlNode, String> {
    let path = endpoint.project_path(&format!("/instances/{id}"));
    let request = Request::new(Method::GET, path).query(what, "");
    let body = judge(endpoint.ask_catalog(request).await);
    let body = body.map_err(|error| match error.not_done() {
        NotDone::Refused(refusal) => refusal.message.clone(),
        NotDone::InDoubt(why) | NotDone::Unusable(why) | NotDone::Garbled(why) => why.clone(),
    })?;
    xml::parse(&String::from_utf8_lossy(&body))
}

/// The status of the only task.
fn status(root: &xml::XmlNode) -> Option<&str> {
    root.find("Task")?.child("Status").map(|status| status.text.as_str())
}

async fn failure(endpoint: &Endpoint, id: &str) -> TunnelError {
    let message = match instance(endpoint, id, "result").await {
        Ok(root) => root.find("Result").map(|result| result.text.clone()).unwrap_or_default(),
        Err(why) => why,
    };
    TunnelError::refused(Refusal {
        code: String::from("SqlFailed"),
        request_id: String::from(id),
        ..refusal(RefusalKind::Invalid, escape(&message, 500))
    })
}

fn job(text: &str) -> String {
    let text = text.trim().trim_end_matches(';');
    format!(
        "<?xml version=\"1.0\"?><Instance><Job><Priority>9</Priority><Tasks><SQL>\
         <Name>AnonymousSQLTask</Name><Query>{};</Query></SQL></Tasks>\
         <DAG><RunMode>Sequence</RunMode></DAG></Job></Instance>",
        quick_xml::escape::escape(text)
    )
}

/// How the service writes null in a result.
const NULL: &str = "\\N";
const FIRST_WAIT_MS: u64 = 20;
const LAST_WAIT_MS: u64 = 1000;
/// DDL takes seconds; five minutes are beyond any queue.
const STATEMENT_MS_MAX: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_with_its_nulls_and_its_quotes() {
        let rows = parse_rows("\"id\",\"v\"\n1,\"a,\"\"b\"\"\"\n2,\\N\n").expect("valid");
        let text = |text: &str| Some(String::from(text));
        assert_eq!(rows, [vec![text("1"), text("a,\"b\"")], vec![text("2"), None]]);
        assert_eq!(parse_rows("").expect("no header, no rows"), Vec::<TextRow>::new());
        assert!(parse_rows("a,b\n1\n").is_err());
    }
}
