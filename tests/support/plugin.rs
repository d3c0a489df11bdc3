//! The plugin that ships, compiled once for all tests of a process.
//!
//! Shared by the suites that open sinks in their own process. Invariant: every call gives a clone
//! that shares the compiled code.

use std::sync::OnceLock;

use upsert_sink::Plugin;

/// The embedded component.
///
/// # Panics
/// If it cannot be loaded: then there is nothing to test.
pub fn plugin() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| Plugin::embedded().expect("the embedded component loads")).clone()
}
