//! The way of a request to the service: addresses, common headers, signature, time limit.
//!
//! Between the calls of `table/mod.rs`, `catalog.rs`, `sql.rs` and the transport. Invariant: one
//! exchange is one attempt; only a request that the service has refused for its signature, and so
//! not carried out, is signed anew and sent again, once for its time and once for its key. A
//! redirect is never followed.

use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use http::Method;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::OnceCell;

use crate::components::{AnswerBytesMax, Components, ConnectTimeout, TransportError};
use crate::credentials::Credentials;
use crate::error::NotDone;
use crate::keyring::Keyring;
use crate::metrics::RequestMeter;
use crate::name::{Name, ServiceUrl};
use crate::response::{NoAnswer, Objection, RawAnswer, is_worker, judge, objection};
use crate::settings::ClientSettings;
use crate::{date, sign};

/// The service, as one client sees it.
pub(crate) struct Endpoint {
    pub(crate) settings: ClientSettings,
    pub(crate) components: Components,
    pub(crate) meter: RequestMeter,
    keyring: Keyring,
    /// The milliseconds that the service's clock is ahead of ours, as far as it has complained.
    ahead_ms: AtomicI64,
    tunnel: OnceCell<String>,
}

/// One request, before it is addressed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Below the endpoint, not encoded.
    pub(crate) path: String,
    /// Not encoded.
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
    /// The most bytes of its answer, if that is not a short one.
    answer_bytes_max: Option<AnswerBytesMax>,
}

impl Request {
    pub(crate) fn new(method: Method, path: String) -> Self {
        let (query, headers, body) = (Vec::new(), Vec::new(), Bytes::new());
        Self { method, path, query, headers, body, answer_bytes_max: None }
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    pub(crate) fn answer_bytes_max(self, bytes: usize) -> Self {
        Self { answer_bytes_max: Some(AnswerBytesMax(bytes)), ..self }
    }
}

impl Endpoint {
    pub(crate) fn new(settings: ClientSettings, components: &Components) -> Self {
        let tunnel = settings.tunnel_endpoint.as_ref().map(ServiceUrl::to_string);
        Self {
            keyring: Keyring::new(&settings.credentials, components),
            tunnel: OnceCell::new_with(tunnel),
            settings,
            components: components.clone(),
            meter: RequestMeter::default(),
            ahead_ms: AtomicI64::new(0),
        }
    }

    /// The Tunnel's address, if it is known by now.
    pub(crate) fn tunnel(&self) -> &str {
        self.tunnel.get().map_or("", String::as_str)
    }

    /// Below the project, on either plane: `/projects/p/…`.
    pub(crate) fn project_path(&self, rest: &str) -> String {
        format!("/projects/{}{rest}", self.settings.project)
    }

    /// Below a table, on either plane.
    pub(crate) fn table_path(&self, table: &str, rest: &str) -> String {
        match &self.settings.schema {
            Some(schema) => self.project_path(&format!("/schemas/{schema}/tables/{table}{rest}")),
            None => self.project_path(&format!("/tables/{table}{rest}")),
        }
    }

    /// A request of the catalog or of SQL.
    pub(crate) async fn ask_catalog(&self, request: Request) -> RawAnswer {
        self.exchange(self.settings.endpoint.as_str(), request).await
    }

    /// A request of the Tunnel.
    pub(crate) async fn ask_tunnel(&self, request: Request) -> RawAnswer {
        let base = self.tunnel.get_or_try_init(|| self.discover()).await?.clone();
        let request = request.header("x-odps-tunnel-version", "6");
        let request = request.header("odps-tunnel-date-transform", "v1");
        let request = request.header("odps-tunnel-sdk-support-schema-evolution", "true");
        let request = match &self.settings.quota_name {
            Some(quota) => request.query("quotaName", quota.as_str()),
            None => request,
        };
        let request = match self.settings.tunnel_tags.as_slice() {
            [] => request,
            _ => request.header("odps-tunnel-tags", self.settings.tunnel_tags.to_string()),
        };
        self.exchange(&base, request).await
    }

    /// Asks the catalog, once, where the Tunnel is. Until that is known nothing of the request
    /// itself was sent.
    async fn discover(&self) -> Result<String, NoAnswer> {
        let request = Request::new(Method::GET, self.project_path("/tunnel")).query("service", "");
        let request = match &self.settings.quota_name {
            Some(quota) => request.query("quotaName", quota.as_str()),
            None => request,
        };
        let unknown = |why: &str| {
            let message = format!("the Tunnel's address is not known: {why}; set `tunnelEndpoint`");
            NoAnswer::Transport(TransportError { sent: false, message })
        };
        let answer = self.ask_catalog(request).await;
        if let Err(NoAnswer::NoCredentials(why)) = answer {
            return Err(NoAnswer::NoCredentials(why));
        }
        let body = judge(answer).map_err(|error| match error.not_done() {
            NotDone::Refused(refusal) => unknown(&refusal.message),
            NotDone::InDoubt(why) | NotDone::Unusable(why) | NotDone::Garbled(why) => unknown(why),
        })?;
        let address = String::from_utf8_lossy(&body).trim().to_owned();
        if !is_worker(&address) {
            return Err(unknown("the answer is not `host:port`"));
        }
        // Never from https to http: the scheme is the catalog's.
        Ok(format!("{}://{address}", self.settings.endpoint.scheme()))
    }

    /// One attempt, or, if the service refuses to look at it, the one that it looks at.
    async fn exchange(&self, base: &str, request: Request) -> RawAnswer {
        let credentials = self.keyring.current(self.service_ms()).await;
        let mut credentials = credentials.map_err(NoAnswer::NoCredentials)?;
        let mut may_correct_time = true;
        let mut may_change_credentials = true;
        loop {
            let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
            let signed_ms = self.components.clock.now_ms().saturating_add_signed(ahead_ms);
            let answer = self.attempt(base, &request, &credentials, signed_ms).await?;
            let date_ms = date_of(&answer);
            let skew_ms = date_ms.map(|date_ms| date_ms.saturating_sub_unsigned(signed_ms));
            match objection(&answer, skew_ms) {
                Some(Objection::Time) if may_correct_time && self.learn_time(date_ms, ahead_ms) => {
                    may_correct_time = false;
                }
                Some(Objection::Credentials) if may_change_credentials => {
                    let instead = self.keyring.instead_of(&credentials, self.service_ms()).await;
                    let Some(instead) = instead else { return Ok(answer) };
                    tracing::info!("credentials refused; going on with newer ones");
                    credentials = instead;
                    may_change_credentials = false;
                }
                _ => return Ok(answer),
            }
        }
    }

    async fn attempt(
        &self,
        base: &str,
        request: &Request,
        credentials: &Credentials,
        signed_ms: u64,
    ) -> RawAnswer {
        let sent_bytes = request.body.len();
        let request = request.clone();
        let request = self.address(base, request, credentials, signed_ms).map_err(|error| {
            let message = format!("the request cannot be written: {error}");
            TransportError { sent: false, message }
        })?;
        let clock = &self.components.clock;
        let timeout_ms = u64::try_from(self.settings.request_timeout.as_millis());
        let deadline = clock.now_ms().saturating_add(timeout_ms.unwrap_or(u64::MAX));
        let answer = tokio::select! {
            biased;
            answer = self.components.transport.send(request) => answer,
            () = clock.sleep_until(deadline) => Err(TransportError {
                sent: true,
                message: format!("no answer within {:?}", self.settings.request_timeout),
            }),
        };
        if !matches!(&answer, Err(error) if !error.sent) {
            self.meter.request_sent(sent_bytes);
        }
        answer.map_err(NoAnswer::Transport)
    }

    /// Now, by the service's clock.
    fn service_ms(&self) -> u64 {
        self.components.clock.now_ms().saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// Takes the time of an answer for the service's. False if what is known now is what the
    /// request was signed with; another request may have learned it meanwhile.
    fn learn_time(&self, date_ms: Option<i64>, signed_ahead_ms: i64) -> bool {
        let now_ms = self.components.clock.now_ms();
        let told_ms = date_ms.map(|date_ms| date_ms.saturating_sub_unsigned(now_ms));
        let known_ms = self.ahead_ms.load(Ordering::Relaxed);
        match told_ms.filter(|told_ms| told_ms.unsigned_abs() <= AHEAD_MS_MAX) {
            // A date has whole seconds.
            Some(ahead_ms) if ahead_ms.abs_diff(known_ms) >= 1000 => {
                tracing::warn!(ahead_ms, "this machine's clock is wrong: signing by the service's");
                self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
                true
            }
            _ => known_ms.abs_diff(signed_ahead_ms) >= 1000,
        }
    }

    /// The whole request: encoded, dated, signed.
    fn address(
        &self,
        base: &str,
        request: Request,
        credentials: &Credentials,
        signed_ms: u64,
    ) -> Result<http::Request<Bytes>, http::Error> {
        let Request { method, path, mut query, mut headers, body, answer_bytes_max } = request;
        query.push(("curr_project", self.settings.project.to_string()));
        if let Some(schema) = &self.settings.schema {
            query.push(("curr_schema", schema.to_string()));
        }
        headers.push(("date", date::http_date(signed_ms)));
        headers.push(("x-odps-user-agent", String::from(USER_AGENT)));
        let signed =
            sign::Signed { method: method.as_str(), headers: &headers, path: &path, query: &query };
        let region = self.settings.region.as_ref().map(Name::as_str);
        let authorization = sign::authorization(credentials, region, &signed);
        let mut builder = http::Request::builder().method(&method).uri(uri(base, &path, &query));
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        builder = builder.header("user-agent", USER_AGENT).header("authorization", authorization);
        if let Some(token) = &credentials.sts_token {
            builder = builder.header("authorization-sts-token", token.expose());
        }
        if method != Method::GET {
            builder = builder.header("content-length", body.len());
        }
        if let Some(most) = answer_bytes_max {
            builder = builder.extension(most);
        }
        builder.extension(ConnectTimeout(self.settings.connect_timeout)).body(body)
    }
}

fn uri(base: &str, path: &str, query: &[(&'static str, String)]) -> String {
    let mut uri = String::from(base);
    uri.extend(utf8_percent_encode(path, PATH));
    for (index, (name, value)) in query.iter().enumerate() {
        uri.push(if index == 0 { '?' } else { '&' });
        uri += name;
        if !value.is_empty() {
            uri.push('=');
            uri.extend(utf8_percent_encode(value, QUERY));
        }
    }
    uri
}

/// The time of an answer, in milliseconds since the Unix epoch.
fn date_of(answer: &http::Response<Bytes>) -> Option<i64> {
    let date = answer.headers().get("date")?.to_str().ok()?;
    i64::try_from(date::parse_http_date(date)?).ok()
}

/// The most that a clock may be wrong by: a day. Beyond that an answer is rather forged than right,
/// and a signature for another day is worth more to whoever would forge it.
const AHEAD_MS_MAX: u64 = 86_400_000;
const USER_AGENT: &str = concat!("upsert-sink/", env!("CARGO_PKG_VERSION"));
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const PATH: &AsciiSet = &QUERY.remove(b'/');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_encoded() {
        let query = [("partition", String::from("pt=a b&c")), ("service", String::new())];
        let uri = uri("http://h:1/api", "/projects/p/tables/t ä", &query);
        assert_eq!(
            uri,
            "http://h:1/api/projects/p/tables/t%20%C3%A4?partition=pt%3Da%20b%26c&service"
        );
    }
}
