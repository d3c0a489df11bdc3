//! SQL through an instance: post it, ask until it has ended, learn how, read what it has found.
//!
//! Used by `tunnel/upsert.rs` for partitions, by `catalog.rs` and by `doctor/`. Invariant: only a
//! statement that the service reports as successful is done.

use bytes::Bytes;
use http::Method;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::RefusalKind;

use crate::error::escape;
use crate::settings::Settings;
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::endpoint::Request;
use crate::tunnel::response::Verdict;
use crate::tunnel::response::judge;
use crate::tunnel::session::is_id;
use crate::tunnel::xml;

/// Runs one statement to its end.
pub(crate) async fn run(endpoint: &Endpoint, text: &str) -> Verdict {
    match instance_of(endpoint, text).await {
        Ok(id) => settle(endpoint, &id).await,
        Err(verdict) => verdict,
    }
}

/// A row of a query's result, as text; none is null.
pub(crate) type TextRow = Vec<Option<String>>;

/// Runs one query to its end, and reads the few rows that it finds.
pub(crate) async fn rows(endpoint: &Endpoint, text: &str) -> Result<Vec<TextRow>, Verdict> {
    let id = instance_of(endpoint, text).await?;
    match settle(endpoint, &id).await {
        Verdict::Done(_) => {}
        verdict => return Err(verdict),
    }
    let root = instance(endpoint, &id, "result").await.map_err(Verdict::InDoubt)?;
    let result = root.find("Result").map(|result| result.text.as_str()).unwrap_or_default();
    parse_rows(result).map_err(Verdict::InDoubt)
}

/// The rows after the header.
fn parse_rows(text: &str) -> Result<Vec<TextRow>, String> {
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
async fn instance_of(endpoint: &Endpoint, text: &str) -> Result<String, Verdict> {
    let request = Request::new(Method::POST, endpoint.project_path("/instances"))
        .header("content-type", "application/xml")
        .body(job(text));
    let answer = endpoint.ask_catalog(request).await;
    let location = answer.as_ref().ok().and_then(|answer| {
        let location = answer.headers().get("location")?.to_str().ok()?;
        location.rsplit('/').next().filter(|id| is_id(id)).map(String::from)
    });
    match (judge(answer), location) {
        (Verdict::Done(_), Some(id)) => Ok(id),
        (Verdict::Done(_), None) => {
            Err(Verdict::InDoubt(String::from("the service gave the SQL instance no id")))
        }
        (verdict, _) => Err(verdict),
    }
}

/// The target table in SQL.
pub(crate) fn table_name(settings: &Settings) -> String {
    let parts = [Some(&settings.project), settings.schema.as_ref(), Some(&settings.table)];
    let quoted: Vec<_> = parts.into_iter().flatten().map(|part| format!("`{part}`")).collect();
    quoted.join(".")
}

async fn settle(endpoint: &Endpoint, id: &str) -> Verdict {
    let clock = &endpoint.components.clock;
    let deadline = clock.now_ms().saturating_add(STATEMENT_MS_MAX);
    let mut wait_ms = FIRST_WAIT_MS;
    loop {
        match instance(endpoint, id, "taskstatus").await {
            Ok(root) => match status(&root) {
                Some("Success") => return Verdict::Done(Bytes::new()),
                Some("Failed" | "Cancelled") => return failure(endpoint, id).await,
                _ => {}
            },
            // Asking again is harmless.
            Err(why) if clock.now_ms() >= deadline => return Verdict::InDoubt(why),
            Err(_) => {}
        }
        if clock.now_ms() >= deadline {
            return Verdict::InDoubt(format!("SQL instance {id} has not ended"));
        }
        clock.sleep_until(clock.now_ms().saturating_add(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
    }
}

async fn instance(endpoint: &Endpoint, id: &str, what: &'static str) -> Result<xml::Node, String> {
    let path = endpoint.project_path(&format!("/instances/{id}"));
    let request = Request::new(Method::GET, path).query(what, "");
    match judge(endpoint.ask_catalog(request).await) {
        Verdict::Done(body) => xml::parse(&String::from_utf8_lossy(&body)),
        Verdict::Refused(refusal) => Err(refusal.message),
        Verdict::InDoubt(why) => Err(why),
    }
}

/// The status of the only task.
fn status(root: &xml::Node) -> Option<&str> {
    root.find("Task")?.child("Status").map(|status| status.text.as_str())
}

async fn failure(endpoint: &Endpoint, id: &str) -> Verdict {
    let message = match instance(endpoint, id, "result").await {
        Ok(root) => root.find("Result").map(|result| result.text.clone()).unwrap_or_default(),
        Err(why) => why,
    };
    Verdict::Refused(Refusal {
        kind: RefusalKind::Invalid,
        code: String::from("SqlFailed"),
        message: escape(&message, 500),
        request_id: String::from(id),
        retry_after: Millis(0),
    })
}

fn job(text: &str) -> String {
    let text = text.trim().trim_end_matches(';');
    format!(
        "<?xml version=\"1.0\"?><Instance><Job><Priority>9</Priority><Tasks><SQL>\
         <Name>AnonymousSQLTask</Name><Query>{};</Query></SQL></Tasks>\
         <DAG><RunMode>Sequence</RunMode></DAG></Job></Instance>",
        xml::escape(text)
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
