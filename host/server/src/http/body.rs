//! The body of an answer, which may be cut off on its way.
//!
//! Between `service.rs` and the connection. Invariant: a body that is to be cut announces more
//! bytes than it sends, so no client takes it for whole.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as HyperBody, Frame, SizeHint};

use crate::body::{Body, HttpBody};
use crate::fault::Severed;

/// Bytes of an answer, and how many of those announced never come.
#[derive(Debug)]
pub(super) struct CutBody {
    rest: Bytes,
    missing: u64,
    flushed: bool,
}

impl CutBody {
    /// The first `kept` bytes of an answer. A rule leaves none that is still read.
    pub(super) fn of(body: Body, kept: usize) -> HttpBody {
        match body {
            Body::Whole(bytes) => Self::cut(&bytes, kept).map_err(Into::into).boxed_unsync(),
            rows @ Body::Rows(_) => rows.into_http(),
        }
    }

    /// The first `kept` bytes.
    fn cut(bytes: &Bytes, kept: usize) -> Self {
        let kept = kept.min(bytes.len());
        let missing = (bytes.len() - kept).max(1) as u64;
        Self { rest: bytes.slice(..kept), missing, flushed: false }
    }
}

impl HyperBody for CutBody {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.rest)))));
        }
        if self.missing == 0 {
            return Poll::Ready(None);
        }
        if !self.flushed {
            // The bytes that were handed over leave before the connection breaks.
            self.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Severed::Unanswered)))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.missing == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64 + self.missing)
    }
}
