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

use crate::capability::grant::Grant;
use crate::capability::outputs::CallOutputs;
use crate::capability::telemetry::TelemetryMeter;
use crate::capability::tickets::Tickets;
use crate::capability::timers::Timer;
use crate::capability::watch::Watch;
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
            outputs: None,
        }
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
