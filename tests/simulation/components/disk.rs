//! The disk under all attempts of a sink: the calls of a dead attempt never end, and syncs at one
//! site may be left out.
//!
//! The files are those of `upsert_sink_tunnel`. Invariant: what an operation has returned from is
//! durable, unless the sync at that site is ignored.

use std::io;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use upsert_sink_tunnel::components::simulated::{
    DiskSteps, SimulatedDisk, SimulatedFiles, SyncedCall,
};

use super::SyncSite;
use super::power::Power;
use crate::simulation::faults::Fault;
use crate::simulation::network::Network;
use crate::simulation::world::Chance;

/// How an attempt ends, for its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The process alone: the machine still writes what it was given.
    OfProcess,
    /// The machine: what was not synced is gone, or half of it.
    OfPower,
}

/// All files.
#[derive(Debug)]
pub(crate) struct Files {
    stored: Arc<SimulatedFiles>,
    ignored: Option<SyncSite>,
}

impl Files {
    /// An empty disk that does not sync at a site.
    pub(crate) fn new(ignored: Option<SyncSite>) -> Self {
        Self { stored: SimulatedFiles::new(), ignored }
    }

    /// An attempt has ended: its locks are free, and its disk is what the loss leaves.
    pub(crate) fn end(&self, loss: Loss, chance: &Chance) {
        match loss {
            Loss::OfProcess => self.stored.end_process(),
            Loss::OfPower => {
                self.stored.lose_power(|unsynced| chance.below(2) as usize * unsynced / 2);
            }
        }
    }

    /// The disk as an attempt with this life sees it.
    pub(crate) fn disk(&self, power: Arc<Power>, network: Arc<Network>) -> SimulatedDisk {
        let steps = Steps { power, network, ignored: self.ignored };
        SimulatedDisk::new(Arc::clone(&self.stored), Arc::new(steps))
    }
}

struct Steps {
    power: Arc<Power>,
    /// It knows what goes wrong.
    network: Arc<Network>,
    ignored: Option<SyncSite>,
}

impl DiskSteps for Steps {
    fn before_read(&self) -> BoxFuture<'_, ()> {
        self.power.or_never().boxed()
    }

    fn before_write(&self) -> BoxFuture<'_, ()> {
        async {
            self.power.host_call();
            self.power.or_never().await;
        }
        .boxed()
    }

    fn before_scratch(&self) -> BoxFuture<'_, io::Result<()>> {
        async {
            self.before_write().await;
            match self.network.goes_wrong(Fault::DiskFails) {
                true => Err(io::Error::other("the disk does not answer")),
                false => Ok(()),
            }
        }
        .boxed()
    }

    /// Between a write and its sync others move, and the machine may die.
    fn before_sync(&self, call: SyncedCall) -> BoxFuture<'_, bool> {
        let site = match call {
            SyncedCall::Append => SyncSite::JournalAppend,
            SyncedCall::Replace => SyncSite::JournalReplace,
        };
        async move {
            tokio::task::yield_now().await;
            self.before_write().await;
            self.ignored != Some(site)
        }
        .boxed()
    }
}
