//! A probe: whoever looks at every call of a guest, and may break an import. Usually nobody.
//!
//! Between `instance.rs` and the imports, and a simulation. Invariant: without a probe nothing is
//! different.

use std::fmt;
use std::sync::Arc;

/// One call of a guest, as a simulation counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Called<'a> {
    /// The instance, such as `writer 3`.
    pub instance: &'a str,
    /// The state that its last call left it in.
    pub state: &'static str,
    /// The event.
    pub event: &'static str,
    /// The operation whose outcome it is, as `wit/tunnel.wit` calls it, or `journal-append`; may be
    /// empty.
    pub operation: &'static str,
}

/// Sees the calls of all instances of a sink, and may break their imports.
pub trait Probe: Send + Sync {
    /// An instance is about to be called.
    fn called(&self, called: &Called<'_>);

    /// An instance calls an import.
    ///
    /// # Errors
    /// That traps it.
    fn imported(&self, instance: &str, import: &'static str) -> Result<(), String>;
}

/// The watcher of a sink's instances; usually there is none.
#[derive(Clone, Default)]
pub(crate) struct Watch(Option<Arc<dyn Probe>>);

impl Watch {
    pub(crate) fn by(probe: Arc<dyn Probe>) -> Self {
        Self(Some(probe))
    }

    pub(crate) fn called(&self, called: &Called<'_>) {
        if let Some(probe) = &self.0 {
            probe.called(called);
        }
    }

    pub(crate) fn imported(&self, instance: &str, import: &'static str) -> wasmtime::Result<()> {
        match &self.0 {
            None => Ok(()),
            Some(probe) => probe.imported(instance, import).map_err(wasmtime::Error::msg),
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.is_some()).finish()
    }
}
