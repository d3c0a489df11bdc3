//! The form of cached bytes on disk: frames that only the key in memory opens.
//!
//! Under `segment.rs`. Invariant: a frame opens only in the very place of the very file that it was
//! sealed for, and only whole: what was changed, cut or moved is an error.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::components::Entropy;

/// Bytes of a whole frame before it is sealed: a piece of a bucket is rarely longer, and to read
/// it no more than two frames are opened.
pub(super) const FRAME_BYTES: usize = 4096;
/// The tag behind each frame.
const TAG_BYTES: usize = 16;
/// A whole frame in the file.
pub(super) const SEALED_BYTES: usize = FRAME_BYTES + TAG_BYTES;

/// The key of one cache. It is nowhere but here.
pub(super) struct FrameKey(LessSafeKey);

impl FrameKey {
    pub(super) fn draw(entropy: &dyn Entropy) -> Self {
        let mut bytes = [0; 32];
        entropy.fill(&mut bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes).expect("a key of this length");
        Self(LessSafeKey::new(key))
    }

    /// Seals bytes as frames for this place of a file. No place is ever sealed for twice.
    pub(super) fn seal(&self, file: u32, place: u64, plain: &[u8]) -> Vec<u8> {
        let mut sealed =
            Vec::with_capacity(plain.len() + plain.len().div_ceil(FRAME_BYTES) * TAG_BYTES);
        for frame in plain.chunks(FRAME_BYTES) {
            let start = sealed.len();
            sealed.extend_from_slice(frame);
            let nonce = nonce(file, place + start as u64);
            let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), &mut sealed[start..]);
            sealed.extend_from_slice(tag.expect("a frame is short").as_ref());
        }
        sealed
    }

    /// The bytes of one frame, opened where they lie; none if it is not what was sealed.
    pub(super) fn open<'a>(&self, file: u32, place: u64, frame: &'a mut [u8]) -> Option<&'a [u8]> {
        let opened = self.0.open_in_place(nonce(file, place), Aad::empty(), frame);
        opened.ok().map(|plain| &*plain)
    }
}

/// Unique under a key: a place of a file is written once.
fn nonce(file: u32, place: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&file.to_be_bytes());
    nonce[4..].copy_from_slice(&place.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
