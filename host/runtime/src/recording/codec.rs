//! Entries and inputs as bytes, in postcard's form.
//!
//! Used by `input.rs`, `recorder.rs` and `read.rs`. Invariant: bytes that are cut or changed are
//! read to something whole or refused, within memory in proportion to them.

use serde::{Deserialize, Serialize};

/// A value that was read, or what is wrong with its bytes.
pub(super) type Read<T> = Result<T, &'static str>;

pub(super) fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, value);
    out
}

pub(super) fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    let taken = std::mem::take(out);
    *out = postcard::to_extend(value, taken).expect("a vector takes all that is written");
}

/// The value at the front of these bytes, and what follows it.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Read<(T, &'a [u8])> {
    postcard::take_from_bytes(bytes).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => "it ends too early",
        postcard::Error::DeserializeBadUtf8 => "a text is not UTF-8",
        postcard::Error::DeserializeBadBool => "a flag is neither 0 nor 1",
        postcard::Error::DeserializeBadVarint => "a number has too many bits",
        _ => "a word is not known",
    })
}
