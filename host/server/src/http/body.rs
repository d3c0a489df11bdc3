//! The body of an answer, which may be cut off on its way.
//!
//! Between `service.rs` and the connection. Invariant: a body that is to be cut announces more
//! bytes than it sends, so no client takes it for whole.

use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use hyper::body::SizeHint;

use crate::fault::Severed;

/// Bytes of an answer, and how many of those announced never come.
#[derive(Debug)]
pub(super) struct AnswerBody {
    rest: Bytes,
    missing: u64,
    flushed: bool,
}

impl AnswerBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self { rest: bytes, missing: 0, flushed: false }
    }

    /// The first `kept` bytes.
    pub(super) fn cut(bytes: &Bytes, kept: usize) -> Self {
        let kept = kept.min(bytes.len());
        let missing = (bytes.len() - kept).max(1) as u64;
        Self { rest: bytes.slice(..kept), missing, flushed: false }
    }
}

impl Body for AnswerBody {
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
            // What was handed over leaves before the connection breaks.
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
