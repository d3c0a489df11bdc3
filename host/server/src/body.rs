//! The body of an answer: bytes that are there, or rows that are still being read.
//!
//! Routes make it; `http/mod.rs` sends it, and `Service::respond` gathers it for callers without a
//! network. Invariant: rows are read as fast as they are taken, and an error while reading cuts the
//! answer short, so that no client takes a part for the whole.

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::error::Error;

/// The body of an answer.
pub(crate) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Pieces, as they are read.
    Rows(BoxStream<'static, Result<Bytes, Error>>),
}

/// A body for the network: bytes that are there, bytes that are still read, or some of those
/// announced.
pub(crate) type HttpBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

impl Body {
    /// All of it, in memory.
    pub(crate) async fn gather(self) -> Result<Bytes, Error> {
        match self {
            Self::Whole(bytes) => Ok(bytes),
            Self::Rows(pieces) => {
                let pieces: Vec<Bytes> = pieces.try_collect().await?;
                Ok(Bytes::from(pieces.concat()))
            }
        }
    }

    /// For the network.
    pub(crate) fn into_http(self) -> HttpBody {
        match self {
            Self::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Self::Rows(pieces) => {
                let pieces = pieces.inspect_err(|error| tracing::warn!(%error, "rows end early"));
                let pieces = pieces.map_ok(Frame::data).map_err(Into::into);
                StreamBody::new(pieces.boxed()).boxed_unsync()
            }
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole(Bytes::from(text))
    }
}
