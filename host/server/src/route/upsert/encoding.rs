//! The compression of packs, undone: none, zlib, snappy, lz4, zstd, by the names that the vendor's
//! clients give them.
//!
//! Between the network and `pack.rs`. Invariant: what is decoded at any moment is bounded, for one
//! body and for all of them together, however small the bodies are that it is made of.

use std::io;
use std::io::Read;

use bytes::Bytes;
use flate2::bufread::ZlibDecoder;
use lz4_flex::frame::FrameDecoder as Lz4Decoder;
use snap::read::FrameDecoder as SnappyDecoder;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::Refusal;
use crate::request::Request;

/// The names of the encodings, as `Content-Encoding` has them. Without a name a body is not
/// encoded.
pub(crate) const ENCODINGS: [&str; 4] = ["deflate", "x-snappy-framed", "x-lz4-frame", "zstd"];

/// How packs may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Zlib,
    Snappy,
    Lz4,
    Zstd,
}

/// A pack as its client encoded it, and the share of the server's memory that it has.
#[derive(Debug)]
pub(super) struct PlainBody<'a> {
    pub(super) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

/// The memory for decoded bodies of a server.
#[derive(Debug)]
pub(crate) struct DecodedBytes {
    body_max: usize,
    all: Semaphore,
}

/// Why a body has no decoded form.
#[derive(Debug)]
enum NotDecoded {
    /// It is longer than was allowed.
    TooLong,
    /// It is not what it says.
    Damaged(io::Error),
}

impl DecodedBytes {
    /// Bodies of at most `body_max` bytes, and twice as many in all.
    pub(crate) fn new(body_max: usize) -> Self {
        // Shares are counted in 32 bits.
        let body_max = body_max.min(1 << 30);
        Self { body_max, all: Semaphore::new(body_max * 2) }
    }

    /// The body of a request, without its compression.
    pub(super) async fn of(&self, request: &Request) -> Result<PlainBody<'_>, Refusal> {
        let Some(encoding) = encoding(request)? else {
            return Ok(PlainBody { bytes: request.body.clone(), _share: None });
        };
        // Nobody waits while he holds a share: who guessed too low gives it back, and takes all.
        let guess = request.body.len().saturating_mul(USUAL_RATIO).min(self.body_max);
        for bytes_max in [guess, self.body_max] {
            let shares = u32::try_from(bytes_max).expect("at most 2^30");
            let share = self.all.acquire_many(shares).await.expect("it is never closed");
            match encoding.decode(&request.body, bytes_max) {
                Ok(bytes) => return Ok(PlainBody { bytes: bytes.into(), _share: Some(share) }),
                Err(NotDecoded::TooLong) => {}
                Err(NotDecoded::Damaged(error)) => {
                    return Err(Refusal::corrupted(format!(
                        "the body is no whole {} stream: {error}; send it again",
                        encoding.name()
                    )));
                }
            }
        }
        let max = self.body_max;
        Err(Refusal::too_large(format!(
            "a pack may have {max} bytes when it is decompressed; send less at once"
        )))
    }
}

fn encoding(request: &Request) -> Result<Option<Encoding>, Refusal> {
    let Some(name) = request.headers.get("content-encoding") else { return Ok(None) };
    match name.to_str().unwrap_or_default().trim() {
        "" | "identity" if name.to_str().is_ok() => Ok(None),
        "deflate" => Ok(Some(Encoding::Zlib)),
        "x-snappy-framed" => Ok(Some(Encoding::Snappy)),
        "x-lz4-frame" => Ok(Some(Encoding::Lz4)),
        "zstd" => Ok(Some(Encoding::Zstd)),
        other => Err(Refusal::invalid(format!(
            "Content-Encoding {other:?} is not known; it must be one of {}, or left out",
            ENCODINGS.join(", ")
        ))),
    }
}

impl Encoding {
    fn name(self) -> &'static str {
        match self {
            Self::Zlib => "deflate",
            Self::Snappy => "x-snappy-framed",
            Self::Lz4 => "x-lz4-frame",
            Self::Zstd => "zstd",
        }
    }

    /// All frames of a body, one after the other.
    fn decode(self, body: &[u8], bytes_max: usize) -> Result<Vec<u8>, NotDecoded> {
        let mut plain = Plain { bytes: Vec::new(), bytes_max };
        let mut rest = body;
        match self {
            Self::Snappy => plain.append(&mut SnappyDecoder::new(rest))?,
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(rest)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                plain.append(&mut decoder)?;
            }
            // These two end with their first frame.
            Self::Zlib => {
                while !rest.is_empty() {
                    let mut decoder = ZlibDecoder::new(rest);
                    plain.append(&mut decoder)?;
                    rest = after_frame(rest, decoder.into_inner())?;
                }
            }
            Self::Lz4 => {
                while !rest.is_empty() {
                    let mut decoder = Lz4Decoder::new(rest);
                    plain.append(&mut decoder)?;
                    rest = after_frame(rest, decoder.into_inner())?;
                }
            }
        }
        Ok(plain.bytes)
    }
}

/// The rest after a frame; a frame has at least a byte.
fn after_frame<'a>(before: &[u8], after: &'a [u8]) -> Result<&'a [u8], NotDecoded> {
    match after.len() < before.len() {
        true => Ok(after),
        false => Err(NotDecoded::Damaged(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Decoded bytes that never become more than was allowed, nor take much more room than they need.
struct Plain {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Plain {
    fn append(&mut self, reader: &mut dyn Read) -> Result<(), NotDecoded> {
        let mut chunk = [0; CHUNK_BYTES];
        loop {
            let read = match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let length = self.bytes.len() + read;
            if length > self.bytes_max {
                return Err(NotDecoded::TooLong);
            }
            if length > self.bytes.capacity() {
                let room = length.max(self.bytes.capacity() * 2).min(self.bytes_max);
                self.bytes.reserve_exact(room - self.bytes.len());
            }
            self.bytes.extend_from_slice(&chunk[..read]);
        }
    }
}

impl From<io::Error> for NotDecoded {
    fn from(error: io::Error) -> Self {
        Self::Damaged(error)
    }
}

/// Packs are rarely compressed to less than an eighth.
const USUAL_RATIO: usize = 8;
const CHUNK_BYTES: usize = 16 << 10;
/// 64 MiB, which a frame must not make a decoder keep more than.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn encoded(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
        let wrote = "memory takes all";
        match encoding {
            Encoding::Zlib => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(plain).expect(wrote);
                encoder.finish().expect(wrote)
            }
            Encoding::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).expect(wrote);
                encoder.into_inner().expect(wrote)
            }
            Encoding::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain).expect(wrote);
                encoder.finish().expect(wrote)
            }
            Encoding::Zstd => zstd::stream::encode_all(plain, 1).expect(wrote),
        }
    }

    const ALL: [Encoding; 4] = [Encoding::Zlib, Encoding::Snappy, Encoding::Lz4, Encoding::Zstd];

    #[test]
    fn frames_that_follow_each_other_are_one_body() {
        for encoding in ALL {
            let mut body = encoded(encoding, b"one, ");
            body.extend(encoded(encoding, &[b'x'; 100_000]));
            body.extend(encoded(encoding, b" and three"));
            let plain = encoding.decode(&body, 1 << 20).expect("three frames");
            assert_eq!(plain.len(), 5 + 100_000 + 10, "{encoding:?}");
            assert!(plain.starts_with(b"one, x") && plain.ends_with(b"x and three"));
            assert!(plain.capacity() <= 2 * plain.len(), "{encoding:?}: {}", plain.capacity());
        }
    }

    #[test]
    fn a_body_may_be_as_long_as_is_allowed_and_not_a_byte_longer() {
        for encoding in ALL {
            let body = encoded(encoding, &[7; 50_000]);
            assert_eq!(encoding.decode(&body, 50_000).expect("it fits").len(), 50_000);
            let refused = encoding.decode(&body, 49_999);
            assert!(matches!(refused, Err(NotDecoded::TooLong)), "{encoding:?}: {refused:?}");
        }
    }

    #[test]
    fn what_is_cut_is_an_error_or_shorter_and_nothing_damaged_panics() {
        let plain: Vec<u8> = (0..40_000_u32).flat_map(|n| (n % 977).to_le_bytes()).collect();
        for encoding in ALL {
            let good = encoded(encoding, &plain);
            for at in (0..good.len()).step_by(good.len() / 97 + 1) {
                let mut bad = good.clone();
                bad[at] ^= 0x55;
                let _ = encoding.decode(&bad, 1 << 20);
                if let Ok(cut) = encoding.decode(&good[..at], 1 << 20) {
                    assert!(plain.starts_with(&cut), "{encoding:?} cut at {at}");
                }
            }
            for garbage in [&b""[..], b"\0", b"garbage that is no frame", &[0xFF; 64]] {
                let decoded = encoding.decode(garbage, 1 << 20);
                assert!(!matches!(&decoded, Ok(bytes) if !bytes.is_empty()), "{encoding:?}");
            }
        }
    }
}
