//! The readers of the service's answers, alone: for fuzzing.
//!
//! Beside the way of an answer, not on it. Invariant: nothing is done here but to call them.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use upsert_sink_format::tunnel::{SessionInfo, TableDescription};

use crate::error::Result;
use crate::slots::KnownSessions;
use crate::{description, response, slots};

/// Judges an answer.
///
/// # Errors
/// A refusal or a doubt.
pub fn judge(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Result<()> {
    let mut answer = http::Response::new(body.clone());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers.clone();
    response::judge(Ok(answer)).map(drop)
}

/// A session, and the slot and the worker of each bucket.
pub type DescribedSession = (SessionInfo, Vec<(String, String)>);

/// Reads a session.
///
/// # Errors
/// The garbled part, in words.
pub fn session(body: &[u8]) -> std::result::Result<DescribedSession, String> {
    let (info, slots) = slots::parse(body)?;
    let sessions = KnownSessions::default();
    sessions.learn(&info.id.0, "", slots, 0);
    let route = |bucket| sessions.route(&info.id.0, bucket).map(|route| (route.slot, route.worker));
    let routes = (0..info.buckets).filter_map(route).collect();
    Ok((info, routes))
}

/// Reads a table of the catalog.
///
/// # Errors
/// `Corrupt` for a garbled description, `InvalidConfig` for a table that takes no upserts.
pub fn table(body: &[u8]) -> Result<TableDescription> {
    description::parse(body, "p.t")
}

/// Reads a document; answers the text of the first element of that name.
///
/// # Errors
/// The part that is no XML, in words.
pub fn xml(text: &str, name: &str) -> std::result::Result<Option<String>, String> {
    let root = crate::xml::parse(text)?;
    let found = if root.name == name { Some(&root) } else { root.find(name) };
    Ok(found.map(|node| node.text.clone()))
}
