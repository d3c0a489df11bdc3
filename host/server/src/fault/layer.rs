//! The layer of faults around the whole service: each request passes it on its way in and on its
//! way out.
//!
//! Between `service.rs`, which receives requests, and `admission.rs`, which knows no faults.
//! Invariant: a request without a fault passes unchanged, and after a crash nobody is answered.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};

use super::crash::Crash;
use super::rule::{Fault, Moment};
use super::{ChosenFault, Faults, Severed};
use crate::answer::gathered;
use crate::body::Body;
use crate::error::Plane;
use crate::ids::Ids;
use crate::sessions::Sessions;
use crate::stats::Counters;

/// Applies faults.
pub(crate) struct FaultLayer {
    pub(crate) faults: Arc<Faults>,
    pub(crate) crash: Arc<Crash>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) ids: Ids,
}

impl FaultLayer {
    /// Answers a request by `next`, which gets an id for it, unless its fault prevents that.
    pub(crate) async fn answer<F>(
        &self,
        request: http::Request<Bytes>,
        chosen: Option<ChosenFault>,
        next: impl FnOnce(http::Request<Bytes>, String) -> F,
    ) -> Response<Body>
    where
        F: Future<Output = Response<Body>>,
    {
        if self.crash.is_over() {
            return unanswered().map(Body::Whole);
        }
        let id = self.ids.request();
        let answer = match chosen {
            None => next(request, id).await,
            Some(chosen) => self.apply(&chosen, request, id, next).await.map(Body::Whole),
        };
        if self.crash.is_over() { unanswered().map(Body::Whole) } else { answer }
    }

    async fn apply<F>(
        &self,
        chosen: &ChosenFault,
        request: http::Request<Bytes>,
        id: String,
        next: impl FnOnce(http::Request<Bytes>, String) -> F,
    ) -> Response<Bytes>
    where
        F: Future<Output = Response<Body>>,
    {
        let plane = plane(&request);
        if let Some(answer) = self.before(chosen, plane, &id).await {
            self.counters.count_request();
            return answer;
        }
        // A rule changes an answer as a whole.
        let answer = gathered(next(request, id.clone()).await, &self.ids).await;
        self.after(chosen, plane, &id, answer).await
    }

    /// Applies a fault on the way in; answers the request if it is not to go on.
    async fn before(
        &self,
        chosen: &ChosenFault,
        plane: Plane,
        id: &str,
    ) -> Option<Response<Bytes>> {
        match &chosen.fault {
            Fault::Answer(Moment::Before, reply) => return Some(reply.render(plane, id)),
            Fault::CutRequest(_) => return Some(unanswered()),
            Fault::Delay(Moment::Before, span) => self.faults.delay(chosen.rule, *span).await,
            Fault::SessionExpired => {
                chosen.session.iter().for_each(|session| self.sessions.expire(session));
            }
            Fault::Crash(moment) => self.crash.arm(*moment),
            Fault::Answer(Moment::After, _)
            | Fault::Delay(Moment::After, _)
            | Fault::CutResponse(_)
            | Fault::LostReply => {}
        }
        None
    }

    /// Applies a fault on the way out.
    async fn after(
        &self,
        chosen: &ChosenFault,
        plane: Plane,
        id: &str,
        mut answer: Response<Bytes>,
    ) -> Response<Bytes> {
        match &chosen.fault {
            Fault::Answer(Moment::After, reply) => return reply.render(plane, id),
            Fault::LostReply => return unanswered(),
            Fault::Delay(Moment::After, span) => self.faults.delay(chosen.rule, *span).await,
            Fault::CutResponse(bytes) => {
                answer.extensions_mut().insert(Severed::After(*bytes));
            }
            Fault::Answer(Moment::Before, _)
            | Fault::Delay(Moment::Before, _)
            | Fault::CutRequest(_)
            | Fault::SessionExpired
            | Fault::Crash(_) => {}
        }
        answer
    }
}

/// The plane that a request would be answered on.
fn plane(request: &http::Request<Bytes>) -> Plane {
    let is_of_tunnel = request.uri().path().trim_end_matches('/').ends_with("/upserts");
    if is_of_tunnel { Plane::Tunnel } else { Plane::Odps }
}

/// A response that nobody receives.
fn unanswered() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.extensions_mut().insert(Severed::Unanswered);
    response
}
