//! Admits requests: who may ask is answered by a route, others are refused, and all are counted.
//!
//! Between `fault/layer.rs` and `route/mod.rs`. Invariant: without a valid key nothing but a health
//! check is answered, and each request is counted once.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response};

use crate::answer::rendered;
use crate::auth::Auth;
use crate::body::Body;
use crate::components::Clock;
use crate::error::{Plane, Refusal};
use crate::request::Request;
use crate::route;
use crate::route::{Found, Resources};
use crate::stats::Counters;

/// Answers requests.
pub(crate) struct Admission {
    pub(crate) auth: Auth,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) resources: Resources,
}

impl Admission {
    /// The response to a request, with this id.
    pub(crate) async fn answer(&self, request: http::Request<Bytes>, id: &str) -> Response<Body> {
        let admitted = self.auth.admit(&request, self.clock.now());
        let request = match Request::new(request) {
            Ok(request) => request,
            Err(refusal) => {
                self.counters.count_request();
                return rendered(Err(refusal), Plane::Odps, id);
            }
        };
        if let Err(refusal) = admitted {
            return self.refuse_unknown(refusal, request.plane(), id);
        }
        let found = route::find(&self.resources, &request);
        let is_counted = found.as_ref().map_or(true, Found::is_counted);
        if is_counted {
            self.counters.count_request();
        }
        let answer = match found {
            Ok(found) => found.answer(&self.resources, &request).await,
            Err(refusal) => Err(refusal),
        };
        if is_counted && let Err(refusal) = &answer {
            self.counters.count_refusal();
            let code = refusal.code;
            let message = refusal.message.as_str();
            tracing::debug!(request_id = %id, code, message, "refused");
        }
        rendered(answer, request.plane(), id)
    }

    /// Refuses a request of which only the head was read.
    pub(crate) fn refuse(&self, refusal: Refusal, id: &str) -> Response<Body> {
        self.counters.count_request();
        self.counters.count_refusal();
        rendered(Err(refusal), Plane::Tunnel, id)
    }

    /// Refuses who may not ask, and shows the time for which requests are to be signed.
    fn refuse_unknown(&self, refusal: Refusal, plane: Plane, id: &str) -> Response<Body> {
        self.counters.count_request();
        self.counters.count_refusal();
        tracing::info!(request_id = id, message = refusal.message, "not let in");
        let mut response = rendered(Err(refusal), plane, id);
        let now = UNIX_EPOCH + Duration::from_millis(self.clock.now().0);
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
            response.headers_mut().insert(http::header::DATE, date);
        }
        response
    }
}
