//! Instances, as the service calls its jobs: post one, ask until it has ended, learn how.
//!
//! Between `endpoint.rs` and `sql.rs` with `compaction.rs`, which write the jobs. Invariant: only a
//! job that the service reports as successful is done.

use std::fmt;

use http::Method;
use upsert_sink_format::tunnel::{Refusal, RefusalKind};

use crate::endpoint::{Endpoint, Request};
use crate::error::{NotDone, Result, TunnelError, escape, refusal};
use crate::response::judge;
use crate::slots::is_id;
use crate::xml;

/// The id of an instance, as the service gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceId(String);

impl InstanceId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A job of one task, which is XML.
pub(crate) fn job(task: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Instance><Job><Priority>9</Priority><Tasks>{task}</Tasks>\
         <DAG><RunMode>Sequence</RunMode></DAG></Job></Instance>"
    )
}

/// Posts one job; answers the id of what runs it.
pub(crate) async fn post(endpoint: &Endpoint, job: String) -> Result<InstanceId> {
    let request = Request::new(Method::POST, endpoint.project_path("/instances"))
        .header("content-type", "application/xml")
        .body(job);
    let answer = endpoint.ask_catalog(request).await;
    let location = answer.as_ref().ok().and_then(|answer| {
        let location = answer.headers().get("location")?.to_str().ok()?;
        location.rsplit('/').next().filter(|id| is_id(id)).map(String::from)
    });
    judge(answer)?;
    location
        .map(InstanceId)
        .ok_or_else(|| TunnelError::in_doubt("the service gave the instance no id"))
}

/// Waits until an instance has ended.
pub(crate) async fn settle(endpoint: &Endpoint, id: &InstanceId) -> Result<()> {
    let clock = &endpoint.components.clock;
    let deadline = clock.now_ms().saturating_add(INSTANCE_MS_MAX);
    let mut wait_ms = FIRST_WAIT_MS;
    loop {
        match shown(endpoint, id, "taskstatus").await {
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
            return Err(TunnelError::in_doubt(format!("instance {id} has not ended")));
        }
        clock.sleep_until(clock.now_ms().saturating_add(wait_ms)).await;
        wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
    }
}

/// The service's description of an instance; the error is why there is none.
pub(crate) async fn shown(
    endpoint: &Endpoint,
    id: &InstanceId,
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

async fn failure(endpoint: &Endpoint, id: &InstanceId) -> TunnelError {
    let message = match shown(endpoint, id, "result").await {
        Ok(root) => root.find("Result").map(|result| result.text.clone()).unwrap_or_default(),
        Err(why) => why,
    };
    TunnelError::refused(Refusal {
        code: String::from("SqlFailed"),
        request_id: String::from(id.as_str()),
        ..refusal(RefusalKind::Invalid, escape(&message, 500))
    })
}

const FIRST_WAIT_MS: u64 = 20;
const LAST_WAIT_MS: u64 = 1000;
/// DDL takes seconds; five minutes are beyond any queue.
const INSTANCE_MS_MAX: u64 = 300_000;
