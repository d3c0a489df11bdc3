//! The meaning of an answer: done, refused, or in doubt, in one place.
//!
//! Between `endpoint.rs` and the calls. Invariant: only a 2xx with the service's request id is
//! done, only a refusal that the service has coded, or that never left, is refused; everything else
//! is in doubt. The only file that looks at the texts of the service.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{Refusal, RefusalKind};

use crate::components::TransportError;
use crate::error::{Result, TunnelError, escape, refusal};
use crate::xml;

/// An answer, whatever its status, or why there is none.
pub(crate) type RawAnswer = std::result::Result<http::Response<Bytes>, NoAnswer>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// None came back.
    Transport(TransportError),
    /// The request was not made, because there are no credentials to sign it with.
    NoCredentials(String),
}

impl From<TransportError> for NoAnswer {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// An objection of a refusal to the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Objection {
    /// The request is signed for a time that is too far from the service's.
    Time,
    /// The key, its token or the signature is not accepted.
    Credentials,
}

/// The one table from answers to results: the body of a request that was carried out, and said to
/// be so by the service.
pub(crate) fn judge(answer: RawAnswer) -> Result<Bytes> {
    let answer = answer.map_err(no_answer)?;
    let (head, body) = answer.into_parts();
    let request_id = escape(&header(&head.headers, REQUEST_ID), CODE_MAX);
    if head.status.is_success() {
        if request_id.is_empty() {
            return Err(doubt(head.status, "without the service's request id", &body));
        }
        return Ok(body);
    }
    Err(match complaint(&head.headers, &body) {
        Some(complaint) if is_definite(head.status, &complaint) => {
            let kind = complaint.kind(head.status);
            TunnelError::refused(complaint.refusal(kind, request_id, &head.headers))
        }
        None if is_move(head.status, &head.headers) => {
            let complaint = Complaint::default();
            let moved = complaint.refusal(RefusalKind::Moved, request_id, &head.headers);
            TunnelError::refused(moved)
        }
        Some(complaint) => doubt(head.status, &complaint.code, complaint.message.as_bytes()),
        None => doubt(head.status, "without a code of the service", &body),
    })
}

/// The objection of a refusal to the one who asked, or to the time; none if the request may have
/// had an effect. `skew_ms` is how far the answer's date is from the time that was signed.
pub(crate) fn objection(answer: &http::Response<Bytes>, skew_ms: Option<i64>) -> Option<Objection> {
    if !answer.status().is_client_error() {
        return None;
    }
    let complaint = complaint(answer.headers(), answer.body())?;
    if !is_definite(answer.status(), &complaint) {
        return None;
    }
    let kind = complaint.kind(answer.status());
    let far_off = skew_ms.is_some_and(|skew_ms| skew_ms.unsigned_abs() > SKEW_MS_MAX);
    match complaint.is_about_time() || (kind == RefusalKind::Denied && far_off) {
        true => Some(Objection::Time),
        false => (kind == RefusalKind::Denied).then_some(Objection::Credentials),
    }
}

/// The worker that a bucket has moved to, if the answer names one.
pub(crate) fn moved_to(headers: &HeaderMap) -> Option<String> {
    let worker = header(headers, ROUTED_SERVER);
    is_worker(&worker).then_some(worker)
}

/// Whether the text may go into the header that routes a request: `host:port`, nothing else.
pub(crate) fn is_worker(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_');
    !text.is_empty() && text.len() <= 255 && text.bytes().all(allowed)
}

fn no_answer(why: NoAnswer) -> TunnelError {
    match why {
        NoAnswer::NoCredentials(why) => {
            let why = format!("there are no credentials to sign the request with: {why}");
            TunnelError::refused(refusal(RefusalKind::Denied, escape(&why, TEXT_MAX)))
        }
        NoAnswer::Transport(error) => {
            let why = escape(&error.message, TEXT_MAX);
            let told = match error.sent {
                true => TunnelError::in_doubt(why),
                false => TunnelError::refused(refusal(RefusalKind::NotSent, why)),
            };
            told.caused_by(error)
        }
    }
}

/// A complaint of the service: JSON on the Tunnel, XML elsewhere.
#[derive(Debug, Default)]
struct Complaint {
    code: String,
    message: String,
    request_id: String,
    hold_ms: u64,
}

impl Complaint {
    fn kind(&self, status: StatusCode) -> RefusalKind {
        match kind(status, &self.code) {
            // The codes of authentication, whatever the status.
            RefusalKind::Invalid if self.message.starts_with("ODPS-0410") => RefusalKind::Denied,
            kind => kind,
        }
    }

    fn is_about_time(&self) -> bool {
        is_about_time(&self.code) || self.message.starts_with("ODPS-0410031")
    }

    fn refusal(self, kind: RefusalKind, request_id: String, headers: &HeaderMap) -> Refusal {
        let seconds = header(headers, "retry-after").parse::<u64>().unwrap_or_default();
        let wait_ms = seconds.saturating_mul(1000).max(self.hold_ms).min(RETRY_AFTER_MAX_MS);
        Refusal {
            kind,
            code: escape(&self.code, CODE_MAX),
            message: escape(&self.message, TEXT_MAX),
            request_id: if request_id.is_empty() { self.request_id } else { request_id },
            retry_after: Millis(wait_ms),
        }
    }
}

fn complaint(headers: &HeaderMap, body: &[u8]) -> Option<Complaint> {
    let text = std::str::from_utf8(body.get(..COMPLAINT_BYTES_MAX).unwrap_or(body)).ok()?;
    let found = match text.trim_start().as_bytes().first()? {
        b'{' => from_json(text),
        b'<' => from_xml(text),
        _ => None,
    }?;
    let is_graphic = found.code.bytes().all(|byte| byte.is_ascii_graphic());
    let code_is_sane = is_graphic && found.code.len() <= CODE_MAX;
    let found = Complaint { request_id: escape(&found.request_id, CODE_MAX), ..found };
    let html = header(headers, "content-type").contains("html");
    (!found.code.is_empty() && code_is_sane && !html).then_some(found)
}

fn from_json(text: &str) -> Option<Complaint> {
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    Some(Complaint {
        code: field("Code"),
        message: field("Message"),
        request_id: field("RequestId"),
        hold_ms: value["HoldClientMillis"].as_u64().unwrap_or_default(),
    })
}

fn from_xml(text: &str) -> Option<Complaint> {
    let root = xml::parse(text).ok().filter(|root| root.name == "Error")?;
    let field = |name: &str| root.child(name).map(|node| node.text.clone()).unwrap_or_default();
    let (code, message, request_id) = (field("Code"), field("Message"), field("RequestId"));
    Some(Complaint { code, message, request_id, hold_ms: 0 })
}

/// A coded 4xx or 308 had no effect. So had a request for which no slot was free, whatever the
/// status says.
fn is_definite(status: StatusCode, complaint: &Complaint) -> bool {
    let timed_out = status == StatusCode::REQUEST_TIMEOUT;
    let refused = status.is_client_error() && !timed_out;
    refused || status == StatusCode::PERMANENT_REDIRECT || asks_for_less(&complaint.code)
}

/// The Tunnel's own 308 names a worker, or has its request id; a proxy's has neither.
fn is_move(status: StatusCode, headers: &HeaderMap) -> bool {
    let of_the_service = headers.contains_key(REQUEST_ID) || moved_to(headers).is_some();
    status == StatusCode::PERMANENT_REDIRECT && of_the_service
}

fn asks_for_less(code: &str) -> bool {
    matches!(code, "SlotExceeded" | "FlowExceeded" | "QPSExceeded" | "QuotaExceeded")
}

/// The first is how the service spells it.
fn is_about_time(code: &str) -> bool {
    matches!(code, "RequestTimeTooSkewd" | "RequestTimeTooSkewed" | "RequestExpired")
}

fn kind(status: StatusCode, code: &str) -> RefusalKind {
    match code {
        _ if is_about_time(code) => RefusalKind::Denied,
        _ if asks_for_less(code) => RefusalKind::SlowDown,
        "NoSuchDownload" | "NoSuchSession" | "StreamSessionNotFound" | "UpsertSessionNotFound" => {
            RefusalKind::NoSuchSession
        }
        "NoSuchPartition" => RefusalKind::NoSuchPartition,
        "CorruptedDataStream" | "DataVersionConflict" | "MetaTransactionFailed" => {
            RefusalKind::Transient
        }
        "Unauthorized"
        | "AccessDenied"
        | "NoPermission"
        | "SignatureNotMatch"
        | "InvalidAccessKeyId"
        | "InvalidSecurityToken"
        | "SecurityTokenExpired" => RefusalKind::Denied,
        _ => match status {
            StatusCode::TOO_MANY_REQUESTS => RefusalKind::SlowDown,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RefusalKind::Denied,
            StatusCode::PERMANENT_REDIRECT => RefusalKind::Moved,
            _ => RefusalKind::Invalid,
        },
    }
}

fn doubt(status: StatusCode, why: &str, body: &[u8]) -> TunnelError {
    let text = String::from_utf8_lossy(body.get(..TEXT_MAX).unwrap_or(body));
    let text = escape(&text, TEXT_MAX);
    TunnelError::in_doubt(format!("status {} {why}: {text}", status.as_u16()))
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

/// The service's id of a request: proof that it was the service which answered.
pub(crate) const REQUEST_ID: &str = "x-odps-request-id";
/// Names the worker of a slot, in requests and in answers.
pub(crate) const ROUTED_SERVER: &str = "odps-tunnel-routed-server";
const TEXT_MAX: usize = 300;
const CODE_MAX: usize = 100;
const COMPLAINT_BYTES_MAX: usize = 64 << 10;
const RETRY_AFTER_MAX_MS: u64 = 64_000;
/// The service accepts 15 minutes; clocks that are right differ by seconds.
const SKEW_MS_MAX: u64 = 10 * 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    const HTML: &str = "<html><head><title>Sorry</title></head><body>Tengine</body></html>";

    use crate::error::NotDone;

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Bytes> {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        judge(Ok(response.body(Bytes::from(body.to_owned())).expect("a response")))
    }

    fn coded(status: u16, code: &str) -> Result<Bytes> {
        let body = format!(r#"{{"Code":"{code}","Message":"m","RequestId":"r1"}}"#);
        answer(status, &[], &body)
    }

    fn word(judged: &Result<Bytes>) -> String {
        match judged.as_ref().map_err(TunnelError::not_done) {
            Ok(_) => String::from("done"),
            Err(NotDone::Refused(refusal)) => format!("refused {:?}", refusal.kind),
            Err(NotDone::InDoubt(_)) => String::from("in doubt"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_answer_is_done_refused_or_in_doubt() {
        let id = [(REQUEST_ID, "r1")];
        let worker = [(ROUTED_SERVER, "10.0.0.1:80")];
        let xml =
            "<?xml version=\"1.0\"?><Error><Code>NoSuchTable</Code><Message>m</Message></Error>";
        let expired = xml.replace("NoSuchTable", "X").replace(">m<", ">ODPS-0410031:expired<");
        let table = [
            (answer(200, &id, "{}"), "done"),
            (answer(201, &id, ""), "done"),
            (answer(200, &[], "{}"), "in doubt"),
            (answer(200, &[], HTML), "in doubt"),
            (coded(429, "FlowExceeded"), "refused SlowDown"),
            (coded(429, "Unheard"), "refused SlowDown"),
            (coded(400, "SlotExceeded"), "refused SlowDown"),
            (coded(500, "SlotExceeded"), "refused SlowDown"),
            (coded(404, "UpsertSessionNotFound"), "refused NoSuchSession"),
            (coded(404, "StreamSessionNotFound"), "refused NoSuchSession"),
            (coded(404, "NoSuchDownload"), "refused NoSuchSession"),
            (coded(404, "NoSuchPartition"), "refused NoSuchPartition"),
            (coded(404, "NoSuchTable"), "refused Invalid"),
            (answer(404, &[], xml), "refused Invalid"),
            (coded(400, "InvalidArgument"), "refused Invalid"),
            (coded(409, "StatusConflict"), "refused Invalid"),
            (coded(400, "CorruptedDataStream"), "refused Transient"),
            (coded(409, "DataVersionConflict"), "refused Transient"),
            (coded(401, "Unauthorized"), "refused Denied"),
            (coded(403, "AccessDenied"), "refused Denied"),
            (coded(403, "Whatever"), "refused Denied"),
            (coded(400, "RequestTimeTooSkewd"), "refused Denied"),
            (coded(400, "InvalidSecurityToken"), "refused Denied"),
            (answer(400, &[], &expired), "refused Denied"),
            (answer(308, &worker, ""), "refused Moved"),
            (answer(308, &id, ""), "refused Moved"),
            (answer(308, &[("location", "https://elsewhere")], ""), "in doubt"),
            (answer(404, &[], HTML), "in doubt"),
            (answer(429, &[], HTML), "in doubt"),
            (answer(400, &[], "{ not json"), "in doubt"),
            (answer(400, &[], r#"{"Code":""}"#), "in doubt"),
            (coded(408, "RequestTimeout"), "in doubt"),
            (coded(400, &"A".repeat(CODE_MAX + 1)), "in doubt"),
            (coded(500, "InternalServerError"), "in doubt"),
            (coded(503, "ServiceUnavailable"), "in doubt"),
            (answer(502, &[], HTML), "in doubt"),
            (answer(504, &id, ""), "in doubt"),
            (answer(302, &id, ""), "in doubt"),
        ];
        for (index, (judged, expected)) in table.iter().enumerate() {
            assert_eq!(word(judged), *expected, "row {index}: {judged:?}");
        }
    }

    #[test]
    fn what_never_left_is_refused_and_what_may_have_is_in_doubt() {
        let failed =
            |sent| judge(Err(TransportError { sent, message: String::from("reset") }.into()));
        assert_eq!(word(&failed(false)), "refused NotSent");
        assert_eq!(word(&failed(true)), "in doubt");
    }

    #[test]
    fn an_objection_is_the_services_own() {
        let says = |status: u16, body: &str, skew_ms| {
            let answer = http::Response::builder().status(status);
            let answer = answer.body(Bytes::from(body.to_owned())).expect("a response");
            objection(&answer, skew_ms)
        };
        let coded = |code: &str| format!(r#"{{"Code":"{code}","Message":"m"}}"#);
        let denied = coded("Unauthorized");
        assert_eq!(says(400, &coded("RequestTimeTooSkewd"), None), Some(Objection::Time));
        assert_eq!(says(401, &denied, Some(-700_000)), Some(Objection::Time));
        assert_eq!(says(401, &denied, Some(5_000)), Some(Objection::Credentials));
        assert_eq!(says(403, &denied, None), Some(Objection::Credentials));
        assert_eq!(says(401, HTML, Some(700_000)), None);
        assert_eq!(says(404, &coded("NoSuchTable"), Some(700_000)), None);
        assert_eq!(says(500, &denied, None), None);
        assert_eq!(says(200, "{}", Some(700_000)), None);
    }

    #[test]
    fn the_service_may_ask_to_wait_but_not_for_ever() {
        let body = r#"{"Code":"FlowExceeded","Message":"m","HoldClientMillis":1500}"#;
        let waits = |headers: &[(&str, &str)]| {
            let error = answer(429, headers, body).expect_err("it is refused");
            error.refusal().expect("by a code").retry_after.0
        };
        assert_eq!(waits(&[]), 1500);
        assert_eq!(waits(&[("retry-after", "7")]), 7000);
        assert_eq!(waits(&[("retry-after", "86400")]), RETRY_AFTER_MAX_MS);
    }

    #[test]
    fn a_worker_is_a_name_and_a_port() {
        assert!(is_worker("10.0.0.1:8080"));
        for text in ["", "a b", "x\r\ny: z", "http://10.0.0.1", "evil.com#a"] {
            assert!(!is_worker(text), "{text:?}");
        }
    }
}
