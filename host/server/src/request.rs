//! One request, taken apart: the parts of its path, its parameters, its body.
//!
//! `admission.rs` makes it of what `http/mod.rs` or a simulation sends; routes read it. Invariant:
//! names and values are decoded once, here.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::error::{Plane, Refusal};

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The path's parts, without the `api` in front.
    pub(crate) path: Vec<String>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Who asks; not known without a network.
    pub(crate) peer: Option<IpAddr>,
}

/// An extension of a request: the address of its sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Request {
    /// Takes a request apart.
    ///
    /// Errors: `InvalidArgument` if its path or parameters are no UTF-8.
    pub(crate) fn new(request: http::Request<Bytes>) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
        let mut path = Vec::new();
        for part in head.uri.path().split('/').filter(|part| !part.is_empty()) {
            path.push(decoded(part)?);
        }
        if path.first().is_some_and(|part| part == "api") {
            path.remove(0);
        }
        let mut parameters = Vec::new();
        for pair in head.uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.push((decoded(name)?, decoded(&value.replace('+', "%20"))?));
        }
        let peer = head.extensions.get::<Peer>().map(|peer| peer.0.ip());
        Ok(Self { method: head.method, path, parameters, headers: head.headers, body, peer })
    }

    /// A parameter's value; empty if it has none.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that must be there.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Refusal> {
        self.parameter(name)
            .ok_or_else(|| Refusal::invalid(format!("the parameter {name} is missing")))
    }

    /// A parameter that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u32>, Refusal> {
        let Some(value) = self.parameter(name) else { return Ok(None) };
        let wrong = |_| Refusal::invalid(format!("{name}={value}: it must be a whole number"));
        value.parse().map(Some).map_err(wrong)
    }

    /// Whether it is about a download session, or wants rows.
    pub(crate) fn is_download(&self) -> bool {
        ["downloads", "downloadid", "data"].iter().any(|name| self.parameter(name).is_some())
    }

    /// A header's value, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether clients of the Tunnel ask this.
    pub(crate) fn plane(&self) -> Plane {
        match self.path.last().map(String::as_str) {
            Some("upserts" | "capabilities" | "stats") => Plane::Tunnel,
            _ if self.path.first().is_some_and(|part| part == FAULTS_PATH) => Plane::Tunnel,
            _ if self.is_download() => Plane::Tunnel,
            _ => Plane::Odps,
        }
    }
}

/// The first part of the path under which rules of faults are set.
pub(crate) const FAULTS_PATH: &str = "__faults";

fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(|text| text.into_owned())
        .map_err(|_| Refusal::invalid(format!("{text:?} in the address is no UTF-8")))
}
