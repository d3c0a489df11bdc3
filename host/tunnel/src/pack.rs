//! Rows of one bucket on their way out, and the one form that they have on the wire.
//!
//! Made by the caller or by `rows.rs`, sent by `table/mod.rs`. Invariant: every attempt sends the
//! very same bytes, and a pack never holds more of them than the caller handed over: once it is
//! compressed the plain form is gone, and what would become larger stays plain.

use std::sync::{Mutex, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use tokio::sync::OnceCell;
use upsert_sink_format::id::BucketId;

use crate::components::Processors;
use crate::compression::Compression;

/// Rows of one bucket.
#[derive(Debug)]
pub struct Pack {
    /// The bucket that all of them hash to.
    pub bucket: BucketId,
    /// The number of records.
    pub records: u32,
    /// The records and their trailer.
    pub body: PackBody,
}

impl Pack {
    /// A pack of `records` records, encoded in `body` with the trailer behind them.
    pub fn new(bucket: BucketId, records: u32, body: impl Into<Bytes>) -> Self {
        Self { bucket, records, body: PackBody::new(body.into()) }
    }
}

/// The bytes of a pack, compressed at the first attempt.
pub struct PackBody {
    plain_bytes: usize,
    /// None once the wire's form is known.
    plain: Mutex<Option<Bytes>>,
    wire: OnceCell<WireBody>,
}

/// The body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WireBody {
    pub(crate) bytes: Bytes,
    /// The value of `Content-Encoding`; none for a plain body.
    pub(crate) encoding: Option<&'static str>,
}

impl PackBody {
    /// A body that is not compressed yet.
    pub fn new(plain: Bytes) -> Self {
        let wire = OnceCell::new();
        Self { plain_bytes: plain.len(), plain: Mutex::new(Some(plain)), wire }
    }

    /// The bytes that are accounted for it: at least as many as it holds.
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes
    }

    /// The bytes that an attempt sends; none before the first one.
    pub fn wire_bytes(&self) -> Option<usize> {
        self.wire.get().map(|wire| wire.bytes.len())
    }

    /// The bytes as the caller handed them over, shared; none once they are compressed.
    pub fn plain_form(&self) -> Option<Bytes> {
        self.plain().clone()
    }

    /// The form that every attempt sends. The first one waits until a processor has made it.
    ///
    /// # Errors
    /// Only if the process is ending: nothing was sent.
    pub(crate) async fn on_the_wire(
        &self,
        compression: Compression,
        processors: &dyn Processors,
    ) -> io::Result<WireBody> {
        let made = self.wire.get_or_try_init(|| async {
            let plain = self.plain().clone().unwrap_or_default();
            let body = compressed(plain, compression, processors).await?;
            *self.plain() = None;
            Ok(body)
        });
        made.await.cloned()
    }

    fn plain(&self) -> std::sync::MutexGuard<'_, Option<Bytes>> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for PackBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.plain_bytes)
    }
}

async fn compressed(
    plain: Bytes,
    compression: Compression,
    processors: &dyn Processors,
) -> io::Result<WireBody> {
    if compression == Compression::Raw || plain.len() < WORTH_COMPRESSING {
        return Ok(WireBody { bytes: plain, encoding: None });
    }
    let input = plain.clone();
    let work = move || compression.compress(&input).unwrap_or_default();
    let bytes = processors.run(Box::new(work)).await?;
    Ok(match bytes.is_empty() {
        true => WireBody { bytes: plain, encoding: None },
        false => WireBody { bytes: bytes.into(), encoding: compression.content_encoding() },
    })
}

/// Below this a request's headers outweigh whatever could be saved.
const WORTH_COMPRESSING: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::components::simulated::InlineProcessors;
    use crate::components::{BoxFuture, Work};

    /// Counts what it is given; fails the first time.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl Processors for Counting {
        fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>> {
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Box::pin(async { Err(io::Error::other("ending")) }),
                _ => InlineProcessors.run(work),
            }
        }
    }

    #[tokio::test]
    async fn a_pack_is_compressed_once_and_its_repetitions_are_the_same_bytes() {
        let processors = Counting::default();
        let body = PackBody::new(Bytes::from(vec![7; 100_000]));
        body.on_the_wire(Compression::Zstd, &processors).await.expect_err("the process ends");
        let first = body.on_the_wire(Compression::Zstd, &processors).await.expect("compressed");
        let again = body.on_the_wire(Compression::Zstd, &processors).await.expect("kept");
        assert_eq!(processors.0.load(Ordering::SeqCst), 2);
        assert_eq!(first.encoding, Some("zstd"));
        assert_eq!(first.bytes.as_ptr(), again.bytes.as_ptr(), "not even copied");
        assert!(body.plain().is_none(), "only one form is held");
        assert_eq!(body.plain_bytes(), 100_000);
    }

    #[tokio::test]
    async fn a_small_or_random_pack_stays_as_it_is() {
        for plain in [vec![0; WORTH_COMPRESSING - 1], (0..=255).collect()] {
            let plain = Bytes::from(plain);
            let body = PackBody::new(plain.clone());
            let wire = body.on_the_wire(Compression::Lz4, &InlineProcessors).await.expect("made");
            assert_eq!(wire, WireBody { bytes: plain, encoding: None });
        }
    }
}
