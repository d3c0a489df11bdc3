//! Small things that clients ask around every job: the tenant, where the vendor's web pages are, a
//! token for them.
//!
//! Below `route/mod.rs`. Invariant: the answers keep a client going and give nobody any right.

use std::net::SocketAddr;

use serde_json::{Value as Json, json};

use super::project::OWNER;
use crate::answer::Answer;
use crate::error::Refusal;
use crate::request::Request;

/// Answers `GET /tenants`. Its meta data is a string: as an object it stops the Java clients.
pub(crate) fn tenant(project: &str) -> Answer {
    let body = json!({ "Tenant": {
        "Name": project, "OwnerId": OWNER, "TenantId": project, "TenantState": "NORMAL",
        "TenantMeta": "{}", "Parameters": { "odps.namespace.schema": "false" },
    } });
    Answer::json(body.to_string())
}

/// Answers `GET /logview/host` and `GET /webconsole/host`: there are no pages but this server.
pub(crate) fn web_host(listen: SocketAddr, request: &Request) -> Answer {
    let host = request.header("host").map_or_else(|| listen.to_string(), str::to_owned);
    Answer::text(format!("http://{host}"))
}

/// Answers `POST …/authorization?sign_bearer_token`: a token for addresses of web pages. This
/// server takes no token for anything.
pub(crate) fn authorize(request: &Request) -> Result<Answer, Refusal> {
    if request.parameter("sign_bearer_token").is_none() {
        let message = "only sign_bearer_token is supported of the calls of authorization";
        return Err(Refusal::invalid(message));
    }
    serde_json::from_slice::<Json>(&request.body)
        .map_err(|error| Refusal::invalid(format!("the policy is no JSON: {error}")))?;
    let body = "<Authorization><Result>local</Result></Authorization>";
    Ok(Answer::xml(body.to_owned()))
}
