//! The role of the coordinator: writers' requests in, replies out.
//!
//! Between the writers and `wit/coordinator.wit`. Invariant: it never waits for a writer; a reply
//! that finds a writer's queue full is lost, and the writer asks again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use tokio::sync::mpsc;
use upsert_sink_core::io::{CoordinatorInput, Task};

use crate::bindings::coordinator::Progress;
use crate::driver::{DrivenRole, Event, Shared};
use crate::error::Result;
use crate::instance::Instance;
use crate::writer::ToWriter;

/// A message of another part of the sink to the coordinator.
pub(crate) enum ToCoordinator {
    /// A writer asks.
    Request {
        /// The writer's number.
        writer: u32,
        /// The request.
        body: Vec<u8>,
    },
    /// The committer knows more.
    Known(Vec<u8>),
}

/// The coordinator.
pub(crate) struct CoordinatorRole {
    writers: Vec<mpsc::Sender<ToWriter>>,
    /// The writer that each open request came from.
    asked_by: BTreeMap<u64, u32>,
    requests: u64,
    shared: Arc<Shared>,
}

impl CoordinatorRole {
    /// Opens the guest with what the journal holds.
    pub(crate) fn open(
        instance: &mut Instance,
        now_ms: u64,
        task: &Task,
        journal: &[Vec<u8>],
        (writers, shared): (Vec<mpsc::Sender<ToWriter>>, Arc<Shared>),
    ) -> Result<Self> {
        let mut coordinator = Self { writers, asked_by: BTreeMap::new(), requests: 0, shared };
        let progress = instance.coordinator_open(now_ms, task, journal)?;
        coordinator.send_replies(progress);
        Ok(coordinator)
    }

    fn request(
        &mut self,
        instance: &mut Instance,
        now_ms: u64,
        writer: u32,
        body: &[u8],
    ) -> Result<Progress> {
        self.requests += 1;
        self.asked_by.insert(self.requests, writer);
        while self.asked_by.len() > REQUESTS_MAX {
            self.asked_by.pop_first();
        }
        instance.coordinator(now_ms, CoordinatorInput::Requested(self.requests, body))
    }

    fn send_replies(&mut self, progress: Progress) {
        for reply in progress.replies {
            let writer = self.asked_by.remove(&reply.request);
            let queue = writer.and_then(|writer| self.writers.get(writer as usize));
            let sent = queue.map(|queue| queue.try_send(ToWriter::Reply(reply.body)));
            if !matches!(sent, Some(Ok(()))) {
                tracing::debug!(request = reply.request, "a reply was lost on its way");
            }
        }
    }
}

impl DrivenRole for CoordinatorRole {
    type Control = ToCoordinator;
    type Data = Infallible;

    fn accepting(&self) -> bool {
        false
    }

    async fn handle(
        &mut self,
        instance: &mut Instance,
        now_ms: u64,
        event: Event<ToCoordinator, Infallible>,
    ) -> Result<()> {
        let progress = match event {
            Event::Completed(completion) => {
                instance.coordinator(now_ms, CoordinatorInput::Completed(completion))?
            }
            Event::Control(ToCoordinator::Request { writer, body }) => {
                self.request(instance, now_ms, writer, &body)?
            }
            Event::Control(ToCoordinator::Known(known)) => {
                instance.coordinator(now_ms, CoordinatorInput::KnownCommits(&known))?
            }
            Event::TimerFired => instance.coordinator(now_ms, CoordinatorInput::TimerFired)?,
            Event::Data(never) => match never {},
        };
        self.shared.meter.guest_counted(instance.take_counters());
        self.shared.ledger.book().aside(instance.take_part());
        self.send_replies(progress);
        Ok(())
    }
}

/// Open requests that are remembered; the guest answers the earlier one of a writer when a later
/// one comes.
const REQUESTS_MAX: usize = 4096;
