//! Errors of this library: the kinds of the contract, which say what to do, and how a trap becomes
//! one.
//!
//! Every module returns these. Invariant: no secret and no value of a row is in a message.

pub use upsert_sink_format::error::{Error, ErrorKind};
pub(crate) use upsert_sink_tunnel::escape;
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
