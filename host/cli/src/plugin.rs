//! The plugin that this program carries, compiled once for each user and version.
//!
//! Used by every command that opens a sink. Invariant: where nothing can be kept, it is compiled
//! each time, and nothing else is different.

use std::env;
use std::path::PathBuf;

use upsert_sink::{CompiledCode, Plugin};

/// The plugin.
pub(crate) fn embedded() -> anyhow::Result<Plugin> {
    Ok(match directory() {
        Some(directory) => Plugin::embedded_with(&CompiledCode::within(directory))?,
        None => Plugin::embedded()?,
    })
}

/// Where compiled code is kept: `UPSERT_SINK_CODE_CACHE`, or this user's cache directory. None if
/// the variable is empty, or the user has no home.
fn directory() -> Option<PathBuf> {
    if let Some(named) = env::var_os("UPSERT_SINK_CODE_CACHE") {
        return Some(PathBuf::from(named)).filter(|path| !path.as_os_str().is_empty());
    }
    let given = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache =
        given("XDG_CACHE_HOME").or_else(|| given("HOME").map(|home| home.join(".cache")))?;
    Some(cache.join("upsert-sink").join("code"))
}
