//! The compression of packs on the wire: algorithms and their names, in options and in headers.
//!
//! Used by `pack.rs`, on the processors of `components`. Invariant: the same algorithm
//! makes the same bytes of the same pack, in every process and at every time.

use std::io::Write;

use lz4_flex::frame::FrameEncoder as Lz4Encoder;
use snap::write::FrameEncoder as SnappyEncoder;

/// The algorithm that compresses packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// They are not.
    Raw,
    /// Deflate in zlib's wrapper, at the level at which it is fastest: the vendor's default.
    Zlib,
    /// Snappy in its framing.
    Snappy,
    /// LZ4 in frames.
    Lz4,
    /// Zstandard, at its first level.
    Zstd,
}

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raw, Self::Zlib, Self::Snappy, Self::Lz4, Self::Zstd];

    /// Its name as the value of `compressAlgorithm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zlib => "zlib",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The algorithm of that name; case does not matter.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name().eq_ignore_ascii_case(name))
    }

    /// The value of `Content-Encoding`.
    pub(crate) fn content_encoding(self) -> Option<&'static str> {
        match self {
            Self::Raw => None,
            Self::Zlib => Some("deflate"),
            Self::Snappy => Some("x-snappy-framed"),
            Self::Lz4 => Some("x-lz4-frame"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// The compressed bytes, if they are fewer.
    pub fn compress(self, plain: &[u8]) -> Option<Vec<u8>> {
        const IN_MEMORY: &str = "writing to memory does not fail";
        // What does not become smaller is dropped, so the room for it is enough.
        let room = Vec::with_capacity(plain.len() / 2);
        let compressed = match self {
            Self::Raw => return None,
            Self::Zlib => {
                let level = flate2::Compression::fast();
                let mut encoder = flate2::write::ZlibEncoder::new(room, level);
                encoder.write_all(plain).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY)
            }
            Self::Snappy => {
                let mut encoder = SnappyEncoder::new(room);
                encoder.write_all(plain).expect(IN_MEMORY);
                encoder.into_inner().expect(IN_MEMORY)
            }
            Self::Lz4 => {
                let mut encoder = Lz4Encoder::new(room);
                encoder.write_all(plain).expect(IN_MEMORY);
                encoder.finish().expect(IN_MEMORY)
            }
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).expect("a level that exists"),
        };
        (compressed.len() < plain.len()).then_some(compressed)
    }
}

const ZSTD_LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_found_by_its_name() {
        for compression in Compression::ALL {
            assert_eq!(Compression::named(compression.name()), Some(compression));
        }
        assert_eq!(Compression::named("ZLIB"), Some(Compression::Zlib));
        assert_eq!(Compression::named("gzip"), None);
    }

    #[test]
    fn frames_begin_as_those_of_the_vendors_clients() {
        let plain = b"the same words, the same words, the same words, the same words".repeat(20);
        for (compression, start) in [
            (Compression::Zlib, &[0x78, 0x01][..]),
            (Compression::Snappy, &[0xFF, 0x06, 0x00, 0x00, b's', b'N', b'a', b'P', b'p', b'Y']),
            (Compression::Lz4, &[0x04, 0x22, 0x4D, 0x18]),
            (Compression::Zstd, &[0x28, 0xB5, 0x2F, 0xFD]),
        ] {
            let compressed = compression.compress(&plain).expect("it repeats itself");
            assert!(compressed.starts_with(start), "{compression:?}: {:02x?}", &compressed[..10]);
            assert_eq!(compression.compress(&plain), Some(compressed), "{compression:?}");
        }
    }

    #[test]
    fn what_does_not_become_smaller_is_not_compressed() {
        let mut state = 1_u64;
        let random: Vec<u8> = (0..10_000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        for compression in Compression::ALL {
            assert_eq!(compression.compress(&random), None, "{compression:?}");
            assert_eq!(compression.compress(b""), None, "{compression:?}");
        }
    }
}
