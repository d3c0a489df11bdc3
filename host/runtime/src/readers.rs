//! The readers of the service's answers, alone: for fuzzing.
//!
//! Beside the way of an answer, not on it. Invariant: nothing is done here but to call them.

use bytes::Bytes;
use http::HeaderMap;
use http::StatusCode;
use upsert_sink_format::error::Error;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::SessionInfo;
use upsert_sink_format::tunnel::TableDescription;

use crate::tunnel::response;
use crate::tunnel::session;
use crate::tunnel::session::Sessions;
use crate::tunnel::table;
use crate::tunnel::xml;

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was carried out.
    Done,
    /// It certainly had no effect.
    Refused(Refusal),
    /// It may have been carried out.
    InDoubt(String),
}

/// Judges an answer.
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Verdict {
    let mut answer = http::Response::new(body.clone());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers.clone();
    match response::judge(Ok(answer)) {
        response::Verdict::Done(_) => Verdict::Done,
        response::Verdict::Refused(refusal) => Verdict::Refused(refusal),
        response::Verdict::InDoubt(why) => Verdict::InDoubt(why),
    }
}

/// A session, and the slot and the worker of each bucket.
pub type DescribedSession = (SessionInfo, Vec<(String, String)>);

/// Reads a session.
///
/// # Errors
/// What is garbled, in words.
pub fn session(body: &[u8]) -> Result<DescribedSession, String> {
    let (info, slots) = session::parse(body)?;
    let sessions = Sessions::default();
    sessions.learn(&info.id.0, "", slots, 0);
    let route = |bucket| sessions.route(&info.id.0, bucket).map(|route| (route.slot, route.worker));
    let routes = (0..info.buckets).filter_map(route).collect();
    Ok((info, routes))
}

/// Reads a table of the catalog.
///
/// # Errors
/// `Corrupt` for what is garbled, `InvalidConfig` for a table that takes no upserts.
pub fn table(body: &[u8]) -> Result<TableDescription, Error> {
    table::parse(body, "p.t")
}

/// Reads a document; answers the text of the first element of that name.
///
/// # Errors
/// What is no XML, in words.
pub fn xml(text: &str, name: &str) -> Result<Option<String>, String> {
    let root = xml::parse(text)?;
    let found = if root.name == name { Some(&root) } else { root.find(name) };
    Ok(found.map(|node| node.text.clone()))
}
