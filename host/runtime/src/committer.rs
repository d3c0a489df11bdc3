//! The role of the committer: what checkpoints hold goes in, what is known to be committed comes
//! out.
//!
//! Between `sink.rs` and `wit/committer.wit`. Invariant: what it knows reaches the coordinator, in
//! order, before it is called again.

use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use upsert_sink_core::io::{CheckpointOutcome, CommitterInput, Task};
use upsert_sink_format::id::CheckpointId;

use crate::bindings::committer::Progress;
use crate::coordinator::ToCoordinator;
use crate::driver::{DrivenRole, Event, Shared};
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::ledger::part::Measured;

/// A message of another part of the sink to the committer.
pub(crate) enum ToCommitter {
    /// All writers have passed a barrier.
    Prepared {
        /// Which.
        checkpoint: u64,
        /// Those of all their snapshots.
        committables: Vec<Vec<u8>>,
        /// Told when the committer has them.
        taken: oneshot::Sender<()>,
    },
    /// How a checkpoint ended.
    CheckpointEnded(u64, CheckpointOutcome),
}

/// The committer.
pub(crate) struct CommitterRole {
    coordinator: mpsc::Sender<ToCoordinator>,
    committed: watch::Sender<u64>,
    shared: Arc<Shared>,
}

impl CommitterRole {
    /// Opens the guest with what the journal holds.
    pub(crate) async fn open(
        instance: &mut Instance,
        now_ms: u64,
        task: &Task,
        journal: &[Vec<u8>],
        parts: (mpsc::Sender<ToCoordinator>, watch::Sender<u64>, Arc<Shared>),
    ) -> Result<Self> {
        let progress = instance.committer_open(now_ms, task, journal)?;
        let (coordinator, committed, shared) = parts;
        let mut committer = Self { coordinator, committed, shared };
        committer.announce(instance, progress).await?;
        Ok(committer)
    }

    /// The coordinator never waits for the committer, so waiting for a place in its queue cannot
    /// lock.
    async fn announce(&mut self, instance: &mut Instance, progress: Progress) -> Result<()> {
        self.note(instance, progress.committed);
        for known in progress.known {
            let sent = self.coordinator.send(ToCoordinator::Known(known)).await;
            sent.map_err(|_| Error::bug("coordinator", "it ended before the committer"))?;
        }
        self.committed.send_if_modified(|committed| {
            let rose = progress.committed > *committed;
            *committed = progress.committed.max(*committed);
            rose
        });
        Ok(())
    }
}

impl CommitterRole {
    /// Whoever waits for a commit finds it in the ledger.
    fn note(&self, instance: &mut Instance, committed: u64) {
        self.shared.meter.guest_counted(instance.take_counters());
        let mut book = self.shared.ledger.book();
        book.committing(instance.take_part());
        if committed > *self.committed.borrow() {
            book.committed(committed, self.shared.clock.now_us());
        }
    }
}

impl DrivenRole for CommitterRole {
    type Control = ToCommitter;
    type Data = Infallible;

    fn accepting(&self) -> bool {
        false
    }

    async fn handle(
        &mut self,
        instance: &mut Instance,
        now_ms: u64,
        event: Event<ToCommitter, Infallible>,
    ) -> Result<()> {
        let progress = match event {
            Event::Completed(completion) => {
                instance.committer(now_ms, CommitterInput::Completed(completion))?
            }
            Event::Control(ToCommitter::Prepared { checkpoint, committables, taken }) => {
                let prepared = CommitterInput::Prepared(CheckpointId(checkpoint), committables);
                let progress = instance.committer(now_ms, prepared)?;
                let _ = taken.send(());
                progress
            }
            Event::Control(ToCommitter::CheckpointEnded(checkpoint, outcome)) => {
                let ended = CommitterInput::CheckpointEnded(CheckpointId(checkpoint), outcome);
                instance.committer(now_ms, ended)?
            }
            Event::TimerFired => instance.committer(now_ms, CommitterInput::TimerFired)?,
            Event::Data(never) => match never {},
        };
        self.announce(instance, progress).await
    }

    fn measure(&mut self, _: &mut Instance, measured: &Measured<'_>) {
        self.shared.ledger.book().commit_attempted(measured);
    }
}
