//! The role of a writer: batches and barriers in the engine's order, replies and outcomes at any
//! time.
//!
//! Between `sink.rs` (queues) and `wit/writer.wit`. Invariant: a barrier stays behind the batches
//! that were written before it; dead letters are durable before the snapshot that follows them is
//! passed on.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use upsert_sink_core::io::{BarrierKind, CheckpointOutcome, Task, WriterInput};
use upsert_sink_format::id::CheckpointId;

use crate::bindings::writer::{Output, Progress, Snapshot};
use crate::coordinator::ToCoordinator;
use crate::dead_letter::DeadLetters;
use crate::driver::{DrivenRole, Event, Shared};
use crate::error::{Error, Result};
use crate::instance::Instance;

/// A message of another part of the sink to a writer.
pub(crate) enum ToWriter {
    /// The coordinator's answer to one of its requests.
    Reply(Vec<u8>),
    /// How a checkpoint ended.
    CheckpointEnded(u64, CheckpointOutcome),
}

/// An item of the writer's queue.
pub(crate) enum WriterData {
    /// Rows in the `columns` form, and when they were handed over, in microseconds.
    Batch(Bytes, u64),
    /// A barrier, and who waits for its snapshot.
    Barrier(u64, BarrierKind, oneshot::Sender<Snapshot>),
}

/// One writer.
pub(crate) struct WriterRole {
    index: u32,
    accepting: bool,
    coordinator: mpsc::Sender<ToCoordinator>,
    dead_letters: Arc<DeadLetters>,
    shared: Arc<Shared>,
    passing: Option<(u64, oneshot::Sender<Snapshot>)>,
    last_barrier: u64,
    skipped: BTreeSet<u64>,
    restored: Vec<Vec<u8>>,
}

impl WriterRole {
    /// Opens the guest with the states that fall to this writer.
    pub(crate) async fn open(
        instance: &mut Instance,
        now_ms: u64,
        task: &Task,
        states: &[Vec<u8>],
        parts: (mpsc::Sender<ToCoordinator>, Arc<DeadLetters>, Arc<Shared>),
    ) -> Result<Self> {
        let (coordinator, dead_letters, shared) = parts;
        let mut writer = Self {
            index: task.index.0,
            accepting: false,
            coordinator,
            dead_letters,
            shared,
            passing: None,
            last_barrier: 0,
            skipped: BTreeSet::new(),
            restored: Vec::new(),
        };
        let progress = instance.writer_open(now_ms, task, states)?;
        writer.apply(instance, progress).await?;
        Ok(writer)
    }

    /// The committables of the state that it was opened with.
    pub(crate) fn take_restored(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.restored)
    }

    async fn apply(&mut self, instance: &mut Instance, progress: Progress) -> Result<()> {
        self.accepting = progress.accepting;
        self.shared.meter.held(self.index, progress.held_bytes);
        instance.part.holds(progress.held_bytes);
        for output in progress.outputs {
            match output {
                Output::Request(body) => self.request(body).await?,
                Output::DeadLetter(lines) => self.dead_letters.append(lines).await?,
                Output::Snapshot(snapshot) => self.answer(instance, snapshot),
                Output::Restored(committables) => self.restored.extend(committables),
            }
        }
        Ok(())
    }

    /// The coordinator never waits for a writer, so waiting for a place in its queue cannot lock.
    async fn request(&mut self, body: Vec<u8>) -> Result<()> {
        let request = ToCoordinator::Request { writer: self.index, body };
        let sent = self.coordinator.send(request).await;
        sent.map_err(|_| Error::bug("coordinator", "it ended before its writers"))
    }

    /// A snapshot that nobody waits for belongs to a checkpoint that was given up. With it goes
    /// what was measured until here, before a request that follows it says that the barrier is
    /// passed.
    fn answer(&mut self, instance: &mut Instance, snapshot: Snapshot) {
        if let Some((checkpoint, waiting)) =
            self.passing.take_if(|(id, _)| *id == snapshot.checkpoint)
        {
            tracing::debug!(writer = self.index, checkpoint, "barrier passed");
            self.shared.meter.guest_counted(instance.take_counters());
            let (part, now_us) = (instance.take_part(), self.shared.clock.now_us());
            self.shared.ledger.book().hand_over(checkpoint, part, now_us);
            let _ = waiting.send(snapshot);
        }
    }

    fn data(&mut self, instance: &mut Instance, now_ms: u64, data: WriterData) -> Result<Progress> {
        match data {
            WriterData::Batch(bytes, since_us) => {
                let now_us = self.shared.clock.now_us();
                self.shared.meter.batch_taken(now_us.saturating_sub(since_us) / 1000);
                instance.part.batch_taken(since_us, now_us);
                instance.writer(now_ms, WriterInput::RowsArrived(&bytes))
            }
            WriterData::Barrier(checkpoint, kind, waiting) => {
                self.last_barrier = checkpoint;
                self.skipped.retain(|skipped| *skipped > checkpoint);
                self.passing = Some((checkpoint, waiting));
                instance.part.barrier_taken(self.shared.clock.now_us());
                let barrier = WriterInput::BarrierArrived(CheckpointId(checkpoint), kind);
                instance.writer(now_ms, barrier)
            }
        }
    }

    /// An abort may overtake its barrier in the queue: the barrier is then never shown to the
    /// guest.
    fn ended(&mut self, checkpoint: u64, outcome: CheckpointOutcome) {
        if outcome == CheckpointOutcome::Aborted {
            self.passing.take_if(|(id, _)| *id == checkpoint);
            if checkpoint > self.last_barrier {
                self.skipped.insert(checkpoint);
            }
        }
    }

    fn is_skipped(&mut self, data: &WriterData) -> bool {
        matches!(data, WriterData::Barrier(checkpoint, ..) if self.skipped.remove(checkpoint))
    }
}

impl DrivenRole for WriterRole {
    type Control = ToWriter;
    type Data = WriterData;

    fn accepting(&self) -> bool {
        self.accepting && self.passing.is_none()
    }

    async fn handle(
        &mut self,
        instance: &mut Instance,
        now_ms: u64,
        event: Event<ToWriter, WriterData>,
    ) -> Result<()> {
        let progress = match event {
            Event::Completed(completion) => {
                instance.writer(now_ms, WriterInput::Completed(completion))?
            }
            Event::Control(ToWriter::Reply(reply)) => {
                instance.writer(now_ms, WriterInput::Replied(&reply))?
            }
            Event::Control(ToWriter::CheckpointEnded(checkpoint, outcome)) => {
                self.ended(checkpoint, outcome);
                let ended = WriterInput::CheckpointEnded(CheckpointId(checkpoint), outcome);
                instance.writer(now_ms, ended)?
            }
            Event::TimerFired => instance.writer(now_ms, WriterInput::TimerFired)?,
            Event::Data(data) if self.is_skipped(&data) => return Ok(()),
            Event::Data(data) => self.data(instance, now_ms, data)?,
        };
        self.apply(instance, progress).await
    }
}
