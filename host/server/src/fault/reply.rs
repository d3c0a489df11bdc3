//! The answers of faults in place of a route's: the service's own errors, and the page of the proxy
//! in front of it.
//!
//! Under `fault/layer.rs`. Invariant: an answer that the service gives has its request id; the
//! proxy's has none.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::error::{Plane, error_body};

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FaultReply {
    /// An error that the service has coded.
    Coded { status: StatusCode, code: String, message: String },
    /// The slot is at another worker, which the answer may name.
    SlotMoved(Option<HeaderValue>),
    /// The HTML page of the proxy in front of the service, which knows no request ids.
    Tengine(StatusCode),
}

impl FaultReply {
    pub(super) fn slot_exceeded(status: StatusCode) -> Self {
        let message = "the project has no free Tunnel slot; write with fewer sessions".to_owned();
        Self::Coded { status, code: "SlotExceeded".to_owned(), message }
    }

    pub(super) fn flow_exceeded() -> Self {
        let message = "the bucket has used up its bytes of this second; send less".to_owned();
        let status = StatusCode::TOO_MANY_REQUESTS;
        Self::Coded { status, code: "FlowExceeded".to_owned(), message }
    }

    /// The code that the service gives with a status, if a rule names none.
    pub(super) fn usual_code(status: StatusCode) -> &'static str {
        match status {
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "NoPermission",
            StatusCode::CONFLICT => "StatusConflict",
            StatusCode::TOO_MANY_REQUESTS => "FlowExceeded",
            status if status.is_server_error() => "InternalServerError",
            _ => "InvalidArgument",
        }
    }

    pub(super) fn render(&self, plane: Plane, request_id: &str) -> Response<Bytes> {
        match self {
            Self::Coded { status, code, message } => {
                coded(*status, code, message, plane, request_id)
            }
            Self::SlotMoved(worker) => {
                let (status, message) = (StatusCode::PERMANENT_REDIRECT, "the slot has moved");
                let mut response = coded(status, "SlotReassigned", message, plane, request_id);
                if let Some(worker) = worker {
                    response.headers_mut().insert(ROUTED_SERVER, worker.clone());
                }
                response
            }
            Self::Tengine(status) => tengine(*status),
        }
    }
}

fn coded(
    status: StatusCode,
    code: &str,
    message: &str,
    plane: Plane,
    request_id: &str,
) -> Response<Bytes> {
    let (body, content_type) = error_body(code, message, plane, request_id);
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn tengine(status: StatusCode) -> Response<Bytes> {
    let title = format!("{} {}", status.as_u16(), status.canonical_reason().unwrap_or_default());
    let page = format!(
        "<!DOCTYPE HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\">\r\n<html>\r\n<head><title>{title}\
         </title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n Sorry for the \
         inconvenience.<br/>\r\n<hr/>Powered by Tengine<hr><center>tengine</center>\r\n</body>\
         \r\n</html>\r\n"
    );
    let mut response = Response::new(Bytes::from(page));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    headers.insert(SERVER, HeaderValue::from_static("Tengine"));
    response
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-odps-request-id");
const ROUTED_SERVER: HeaderName = HeaderName::from_static("odps-tunnel-routed-server");
