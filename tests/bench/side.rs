//! The two sides of the hot path: the same writer natively and in its sandbox.
//!
//! A coordinator of the core hands out the sessions, and every pack is acknowledged when it is
//! submitted: then a writer's memory is used again and again, as in a job that runs.
//! Invariant: both sides are asked the same, in the same order.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use upsert_sink::Plugin;
use upsert_sink::bare::BareWriter;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::io::{
    Completion, CoordinatorInput, CoordinatorOutput, JournalAppend, Task, TunnelCommand,
    WriterInput, WriterOutput,
};
use upsert_sink_core::open::Opened;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::id::{Millis, SessionId, Ticket};
use upsert_sink_format::tunnel::{Answer, Operation, Outcome, SessionInfo, SessionStatus};
use upsert_sink_tests::clock::Stopwatch;

const NOW: u64 = 1_700_000_000_000;

/// A writer, wherever it runs.
pub(crate) trait Side {
    /// Takes a batch.
    fn write(&mut self, batch: &[u8]) -> Result<()>;
    /// Its requests to the coordinator.
    fn take_requests(&mut self) -> Vec<Vec<u8>>;
    /// Hears the coordinator.
    fn reply(&mut self, reply: &[u8]) -> Result<()>;
    /// Has every pack acknowledged that it submitted.
    fn acknowledge(&mut self) -> Result<usize>;
}

/// In its sandbox.
pub(crate) struct Sandboxed(BareWriter);

impl Sandboxed {
    pub(crate) fn open(plugin: &Plugin, task: &Task) -> Result<Self> {
        Ok(Self(BareWriter::open(plugin, task)?))
    }
}

impl Side for Sandboxed {
    fn write(&mut self, batch: &[u8]) -> Result<()> {
        ensure!(self.0.write(NOW, batch)?, "the sandboxed writer is full: nothing may wait here");
        Ok(())
    }

    fn take_requests(&mut self) -> Vec<Vec<u8>> {
        self.0.take_requests()
    }

    fn reply(&mut self, reply: &[u8]) -> Result<()> {
        Ok(self.0.reply(NOW, reply)?)
    }

    fn acknowledge(&mut self) -> Result<usize> {
        Ok(self.0.acknowledge(NOW)?)
    }
}

/// The same crate without a sandbox.
pub(crate) struct Native {
    writer: Writer,
    requests: Vec<Vec<u8>>,
    /// Packs that are not acknowledged, with their bytes, as a host keeps them.
    packs: Vec<(Ticket, Operation)>,
}

impl Native {
    pub(crate) fn open(task: &Task) -> Result<Self> {
        let writer = Writer::open(Millis(NOW), task, &[])?;
        let mut side = Self { writer, requests: Vec::new(), packs: Vec::new() };
        side.drain();
        Ok(side)
    }

    fn handle(&mut self, input: WriterInput<'_>) -> Result<()> {
        self.writer.handle_input(Millis(NOW), input)?;
        self.drain();
        Ok(())
    }

    fn drain(&mut self) {
        while let Some(output) = self.writer.poll_output() {
            match output {
                WriterOutput::Request(request) => self.requests.push(request),
                WriterOutput::Tunnel(TunnelCommand::Submit(ticket, operation)) => {
                    self.packs.push((ticket, operation));
                }
                _ => {}
            }
        }
    }
}

impl Side for Native {
    fn write(&mut self, batch: &[u8]) -> Result<()> {
        ensure!(self.writer.accepting(), "the native writer is full: nothing may wait here");
        self.handle(WriterInput::RowsArrived(batch))
    }

    fn take_requests(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.requests)
    }

    fn reply(&mut self, reply: &[u8]) -> Result<()> {
        self.handle(WriterInput::Replied(reply))
    }

    fn acknowledge(&mut self) -> Result<usize> {
        let mut packs = 0;
        while !self.packs.is_empty() {
            for (ticket, pack) in std::mem::take(&mut self.packs) {
                let outcome = Outcome::Done(Answer::None);
                self.handle(WriterInput::Completed(Completion { ticket, outcome }))?;
                drop(pack);
                packs += 1;
            }
        }
        Ok(packs)
    }
}

/// A writer with its own coordinator.
pub(crate) struct Bench<S> {
    side: S,
    coordinator: Coordinator,
    info: SessionInfo,
    /// Packs that were acknowledged.
    pub(crate) packs: usize,
}

impl<S: Side> Bench<S> {
    pub(crate) fn new(side: S, task: &Task) -> Result<Self> {
        let config = Opened::of(task)?.config;
        let info = SessionInfo {
            id: SessionId(String::new()),
            status: SessionStatus::Normal,
            buckets: task.table.buckets,
            hasher: "default".into(),
            hash_key: task.table.primary_key.clone(),
            columns: task.table.columns.clone(),
            column_ids: Vec::new(),
            partial_update: false,
        };
        let coordinator = Coordinator::open(Millis(NOW), task, &config, &[])?;
        Ok(Self { side, coordinator, info, packs: 0 })
    }

    /// Writes all batches, has every full pack sent and acknowledged, and tells how long that took.
    ///
    /// An engine hands over what it has just made, so each batch is copied before its clock starts:
    /// taken from where it has lain since all were made, it would come out of main memory, and that
    /// would be measured.
    pub(crate) fn run(&mut self, batches: &[Vec<u8>]) -> Result<Duration> {
        let (mut batch, mut taken) = (Vec::new(), Duration::ZERO);
        for made in batches {
            batch.clone_from(made);
            let watch = Stopwatch::start();
            self.write(&batch)?;
            taken += watch.elapsed();
        }
        Ok(taken)
    }

    fn write(&mut self, batch: &[u8]) -> Result<()> {
        self.side.write(batch)?;
        for request in self.side.take_requests() {
            self.ask(&request)?;
        }
        self.packs += self.side.acknowledge()?;
        Ok(())
    }

    fn ask(&mut self, request: &[u8]) -> Result<()> {
        let now = Millis(NOW);
        self.coordinator.handle_input(now, CoordinatorInput::Requested(1, request))?;
        let mut outputs = self.coordinated();
        while let Some(output) = outputs.pop_front() {
            match output {
                CoordinatorOutput::Reply(_, reply) => self.side.reply(&reply)?,
                CoordinatorOutput::Tunnel(TunnelCommand::Submit(ticket, operation)) => {
                    let outcome = Outcome::Done(self.carried_out(ticket, &operation));
                    let completion = Completion { ticket, outcome };
                    self.coordinator.handle_input(now, CoordinatorInput::Completed(completion))?;
                    outputs.extend(self.coordinated());
                }
                CoordinatorOutput::Journal(JournalAppend { ticket, .. }) => {
                    let completion = Completion { ticket, outcome: Outcome::Done(Answer::None) };
                    self.coordinator.handle_input(now, CoordinatorInput::Completed(completion))?;
                    outputs.extend(self.coordinated());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All that the coordinator wants of the input before, which it must be rid of by the next.
    fn coordinated(&mut self) -> VecDeque<CoordinatorOutput> {
        std::iter::from_fn(|| self.coordinator.poll_output()).collect()
    }

    fn carried_out(&self, ticket: Ticket, operation: &Operation) -> Answer {
        match operation {
            Operation::CreateSession { .. } => {
                let id = SessionId(format!("bench-{}", ticket.0));
                Answer::Session(SessionInfo { id, ..self.info.clone() })
            }
            _ => Answer::None,
        }
    }
}
