//! Errors of this library: the kinds of the contract, which say what to do, and how a trap becomes
//! one.
//!
//! Every module returns these. Invariant: no secret and no value of a row is in a message.

pub use upsert_sink_format::error::Error;
pub use upsert_sink_format::error::ErrorKind;

use wasmtime::Trap;

use crate::sandbox::GrowthRefused;

/// The result of every call of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// A call of the guest that did not return: the instance is finished.
pub(crate) fn trapped(role: &str, error: &wasmtime::Error) -> Error {
    if matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt)) {
        return Error::new(
            ErrorKind::Bug,
            role,
            "the guest ran longer than one call may and was interrupted; \
             if the machine is overloaded, raise `sandbox.call-timeout`",
        );
    }
    if let Some(GrowthRefused::Memory(_)) = error.downcast_ref() {
        return Error::new(
            ErrorKind::Denied,
            role,
            "the guest asked for more memory than the sandbox grants; \
             lower `sink.memory.budget` or raise `sandbox.memory-limit`",
        );
    }
    let text = escape(&format!("{error:#}"), 1024);
    Error::new(ErrorKind::Bug, role, format!("the guest trapped: {text}"))
}

/// An error of the operating system at `path`.
pub(crate) fn disk(path: &std::path::Path, error: &std::io::Error) -> Error {
    let at = path.display().to_string();
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let remedy = if full { "free some space" } else { "make the path readable and writable" };
    Error::new(ErrorKind::Retry, at, format!("{error}; {remedy}, then start again"))
}

/// Text of foreign origin, cut and made safe to print: no control characters, no escapes of
/// terminals.
pub(crate) fn escape(text: &str, characters_max: usize) -> String {
    let mut escaped = String::with_capacity(text.len().min(characters_max));
    for (index, character) in text.chars().enumerate() {
        if index == characters_max {
            escaped.push('…');
            break;
        }
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_move_the_cursor() {
        assert_eq!(escape("a\u{1b}[2Jb\r\n", 100), "a\\u{1b}[2Jb\\r\\n");
    }

    #[test]
    fn long_foreign_text_is_cut() {
        assert_eq!(escape("abcdef", 3), "abc…");
    }
}
