//! The recording's server once more: it answers what it answered then, and keeps what it is sent.
//!
//! Stands where the network would, before the real client in the real sink. Invariant: a session is
//! described by the very text that the vendor's clients were given.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use serde_json::json;
use upsert_sink::components::{Components, Transport, TransportError};

use crate::protocol::fixture::{Described, parameters};

/// Answers, and keeps the requests.
pub(crate) struct Scripted {
    described: Described,
    requests: Mutex<Vec<Request<Bytes>>>,
    /// How often commits are still answered with `committing`.
    committing: Mutex<u32>,
}

impl Scripted {
    pub(crate) fn new(described: &Described) -> Arc<Self> {
        let described = described.clone();
        Arc::new(Self { described, requests: Mutex::default(), committing: Mutex::new(2) })
    }

    /// The machine's own components, with this for a network.
    pub(crate) fn components(self: &Arc<Self>) -> Components {
        Components { transport: Arc::clone(self) as _, ..Components::system() }
    }

    /// The requests of a session so far, of one kind.
    pub(crate) fn requests(&self, method: &Method, of_session: bool) -> Vec<Request<Bytes>> {
        let requests = self.requests.lock().expect("no holder panics");
        let wanted = |request: &&Request<Bytes>| {
            request.method() == method
                && request.uri().path().ends_with("/upserts")
                && query(request).contains_key("upsertid") == of_session
        };
        requests.iter().filter(wanted).cloned().collect()
    }

    fn answer(&self, request: &Request<Bytes>) -> (&'static str, String) {
        let path = request.uri().path();
        if path.ends_with("/tunnel") {
            return ("text/plain", String::from("127.0.0.1:18899"));
        }
        if !path.ends_with("/upserts") {
            return ("application/xml", self.table());
        }
        let mut session = self.described.session.clone();
        if request.method() == Method::POST && query(request).contains_key("upsertid") {
            let mut committing = self.committing.lock().expect("no holder panics");
            session["status"] = json!(if *committing > 0 { "COMMITTING" } else { "committed" });
            *committing = committing.saturating_sub(1);
        }
        match *request.method() {
            Method::PUT | Method::DELETE => ("application/json", String::new()),
            _ => ("application/json", session.to_string()),
        }
    }

    /// The table, as the catalog describes it.
    fn table(&self) -> String {
        let columns = |columns: Vec<(String, String, bool)>| {
            let mut described = Vec::new();
            for (name, text, nullable) in columns {
                described.push(json!({ "name": name, "type": text, "isNullable": nullable }));
            }
            described
        };
        let key = self.described.key();
        let reserved = json!({ "Transactional": "true", "PrimaryKey": key, "BucketNum": 4 });
        let schema = json!({
            "columns": columns(self.described.columns()),
            "partitionKeys": columns(self.described.partition_columns()),
            "Reserved": reserved.to_string(),
        });
        format!(
            "<Table><Name>t</Name><Schema format=\"Json\"><![CDATA[{schema}]]></Schema></Table>"
        )
    }
}

impl Transport for Scripted {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        let (content_type, body) = self.answer(&request);
        self.requests.lock().expect("no holder panics").push(request);
        let response = Response::builder()
            .header("content-type", content_type)
            .header("x-odps-request-id", "20260326000000000001")
            .body(Bytes::from(body));
        async move { Ok(response.expect("a sound response")) }.boxed()
    }
}

/// The parameters of a request, as they are written.
pub(crate) fn query(request: &Request<Bytes>) -> BTreeMap<String, String> {
    parameters(request.uri().query().unwrap_or_default()).into_iter().collect()
}
