//! The one project, and where its Tunnel is.
//!
//! The first thing that clients ask. Invariant: the Tunnel is this server itself.

use std::net::SocketAddr;
use std::time::{Duration, UNIX_EPOCH};

use upsert_sink_format::id::Millis;
use upsert_sink_tunnel::xml::escaped;

use crate::answer::Answer;
use crate::request::Request;

/// Answers `GET /projects`.
pub(crate) fn list(project: &str) -> Answer {
    let name = escaped(project);
    Answer::xml(format!(
        "<Projects><Marker></Marker><MaxItems>1000</MaxItems><Project><Name>{name}</Name>\
         <Type>managed</Type><Owner>{OWNER}</Owner></Project></Projects>"
    ))
}

/// Answers `GET /projects/{project}`.
pub(crate) fn describe(project: &str, now: Millis) -> Answer {
    let name = escaped(project);
    let now = UNIX_EPOCH + Duration::from_millis(now.0);
    let body = format!(
        "<Project><Name>{name}</Name><Type>managed</Type><Comment></Comment><Owner>{OWNER}</Owner>\
         <State>AVAILABLE</State><Properties><Property><Name>odps.schema.model.enabled</Name>\
         <Value>false</Value></Property></Properties></Project>"
    );
    Answer::xml(body)
        .with_header("x-odps-owner", OWNER.to_owned())
        .with_header("x-odps-creation-time", httpdate::fmt_http_date(UNIX_EPOCH))
        .with_header("last-modified", httpdate::fmt_http_date(now))
}

/// Answers `GET /projects/{project}/tunnel?service`: host and port, as the client knows them.
pub(crate) fn tunnel(listen: SocketAddr, request: &Request) -> Answer {
    Answer::text(request.header("host").map_or_else(|| listen.to_string(), str::to_owned))
}

/// The owner of all that there is.
pub(crate) const OWNER: &str = "local";
