//! The powers that a guest is lent: one file for each import of `wit/`, the grant that decides
//! whether it may use it, and the tickets of what it has asked for.
//!
//! Between the running guest and `driver.rs`. Invariant: an import only notes what is asked; the
//! driver carries it out after the guest has returned.

pub(crate) mod file_cache;
pub(crate) mod grant;
pub(crate) mod journal;
pub(crate) mod outputs;
pub(crate) mod telemetry;
pub(crate) mod tickets;
pub(crate) mod timers;
pub(crate) mod tunnel;
pub(crate) mod watch;

use std::sync::Arc;

use crate::capability::grant::Grant;
use crate::capability::outputs::CallOutputs;
use crate::capability::telemetry::TelemetryMeter;
use crate::capability::tickets::Tickets;
use crate::capability::timers::Timer;
use crate::capability::watch::Watch;
use crate::file_cache::FileCache;
use crate::sandbox::{Growth, Limited, Limits};

/// Everything that the host keeps for one instance.
pub(crate) struct Capabilities {
    name: String,
    limits: Limits,
    growth: Growth,
    watch: Watch,
    pub(crate) tickets: Tickets,
    pub(crate) timer: Timer,
    pub(crate) telemetry: TelemetryMeter,
    /// Where what the guest caches is; none if nothing is granted, or nothing is carried out.
    cache: Option<Arc<FileCache>>,
    /// The bytes that it is told to be granted.
    cache_bytes: u64,
    /// The outputs of the call under way, if somebody records or replays it.
    pub(crate) outputs: Option<CallOutputs>,
}

impl Capabilities {
    /// For an instance called `name` in log lines, such as `writer 3`.
    pub(crate) fn new(name: String, limits: Limits, grant: Grant, watch: Watch) -> Self {
        Self {
            name: name.clone(),
            growth: Growth::new(&limits),
            tickets: Tickets::new(grant, limits.tickets, limits.held_bytes),
            timer: Timer::default(),
            telemetry: TelemetryMeter::new(name, &limits),
            limits,
            watch,
            cache: None,
            cache_bytes: 0,
            outputs: None,
        }
    }

    /// Lends it a file cache.
    pub(crate) fn lend_cache(&mut self, cache: Arc<FileCache>) {
        self.cache = Some(cache);
    }

    /// The cache that it is lent, if it is.
    pub(crate) fn file_cache(&self) -> Option<&Arc<FileCache>> {
        self.cache.as_ref()
    }

    /// Tells it at its opening how many bytes it may cache.
    pub(crate) fn grant_cache(&mut self, bytes: u64) {
        self.cache_bytes = bytes;
    }

    /// The bytes granted and used in the file cache.
    pub(crate) fn cache_quota(&self) -> (u64, u64) {
        (self.cache_bytes, self.cache.as_ref().map_or(0, |cache| cache.used()))
    }

    /// The guest calls an import. A simulation may break it.
    pub(crate) fn imported(&self, import: &'static str) -> wasmtime::Result<()> {
        self.watch.imported(&self.name, import)
    }

    /// Notes what the guest does, if somebody records or replays it.
    pub(crate) fn note(&mut self, what: impl FnOnce(&mut CallOutputs)) {
        if let Some(outputs) = &mut self.outputs {
            what(outputs);
        }
    }

    /// The bytes of its linear memory; zero without a sandbox.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.growth.grown_bytes()
    }

    /// Brings the time of the call that follows.
    pub(crate) fn begin_call(&mut self, now_ms: u64) {
        self.telemetry.begin_call(now_ms);
    }
}

impl Limited for Capabilities {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn growth(&mut self) -> &mut Growth {
        &mut self.growth
    }
}

impl crate::bindings::events::Host for Capabilities {}
impl crate::bindings::types::Host for Capabilities {}
