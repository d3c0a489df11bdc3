//! An answer, as a route gives it and as it leaves.
//!
//! Routes make an [`Answer`] or a refusal, `admission.rs` renders it. Invariant: every rendered
//! answer has an `x-odps-request-id`.

use bytes::Bytes;
use futures::stream::BoxStream;
use http::{HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::error::{Error, Plane, Refusal};
use crate::ids::Ids;

/// The answer of a route.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    content_type: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

impl Answer {
    pub(crate) fn json(body: String) -> Self {
        Self::new("application/json", body)
    }

    pub(crate) fn xml(body: String) -> Self {
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{body}");
        Self::new("application/xml", body)
    }

    pub(crate) fn text(body: impl Into<String>) -> Self {
        Self::new("text/plain; charset=utf-8", body.into())
    }

    /// Rows, as they are read.
    pub(crate) fn rows(pieces: BoxStream<'static, Result<Bytes, Error>>) -> Self {
        Self::new("application/octet-stream", Body::Rows(pieces))
    }

    fn new(content_type: &'static str, body: impl Into<Body>) -> Self {
        Self { status: StatusCode::OK, content_type, headers: Vec::new(), body: body.into() }
    }

    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// The response to the request of this id.
pub(crate) fn rendered(answer: Result<Answer, Refusal>, plane: Plane, id: &str) -> Response<Body> {
    let answer = answer.unwrap_or_else(|refusal| {
        let (body, content_type) = refusal.render(plane, id);
        Answer::new(content_type, body).with_status(refusal.status)
    });
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in answer.headers.iter().chain(&[("x-odps-request-id", id.to_owned())]) {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(*name, value);
        }
    }
    response
}

/// A response with all of its body in memory; an empty error if its rows cannot be read.
pub(crate) async fn gathered(response: Response<Body>, ids: &Ids) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    match body.gather().await {
        Ok(body) => Response::from_parts(head, body),
        Err(error) => {
            let refused = rendered(Err(error.into()), Plane::Tunnel, &ids.request());
            refused.map(|_| Bytes::new())
        }
    }
}
