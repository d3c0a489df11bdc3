//! A writer instance without a driver, and compression without a pack: for benchmarks.
//!
//! Beside the row's way, not on it; the caller plays coordinator and Tunnel. Invariant: what the
//! guest submits is kept until it is acknowledged, and never sent.

use arrow_array::RecordBatch;
use upsert_sink_core::io::{Completion, Task, WriterInput};
use upsert_sink_format::id::Ticket;
use upsert_sink_format::tunnel::{Answer, Outcome};
use upsert_sink_tunnel::Compression;

use crate::batch;
use crate::batch::RowKind;
use crate::bindings::writer::{Output, Progress};
use crate::capability::grant::Grant;
use crate::error::Result;
use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::sandbox::Limits;

/// An opened writer in its sandbox, with epochs and all limits.
pub struct BareWriter {
    instance: Instance,
    accepting: bool,
    requests: Vec<Vec<u8>>,
}

impl BareWriter {
    /// Opens it without state.
    ///
    /// # Errors
    /// The guest's.
    pub fn open(plugin: &Plugin, task: &Task) -> Result<Self> {
        let name = String::from("bare writer");
        let mut instance = Instance::new(plugin, name, Limits::default(), Grant::WRITER)?;
        let progress = instance.writer_open(0, task, &[])?;
        let mut writer = Self { instance, accepting: true, requests: Vec::new() };
        writer.note(progress);
        Ok(writer)
    }

    /// Hands over a batch in the `columns` form; tells whether the next one would be accepted.
    ///
    /// # Errors
    /// The guest's.
    pub fn write(&mut self, now_ms: u64, batch: &[u8]) -> Result<bool> {
        let progress = self.instance.writer(now_ms, WriterInput::RowsArrived(batch))?;
        self.note(progress);
        Ok(self.accepting)
    }

    /// Its requests to the coordinator since the last time.
    pub fn take_requests(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.requests)
    }

    /// Brings the coordinator's reply.
    ///
    /// # Errors
    /// The guest's.
    pub fn reply(&mut self, now_ms: u64, reply: &[u8]) -> Result<()> {
        let progress = self.instance.writer(now_ms, WriterInput::Replied(reply))?;
        self.note(progress);
        Ok(())
    }

    /// Acknowledges every pack that it has submitted; returns how many there were.
    ///
    /// # Errors
    /// The guest's.
    pub fn acknowledge(&mut self, now_ms: u64) -> Result<usize> {
        let mut packs = 0;
        loop {
            let due = self.instance.capabilities().tickets.take_due(now_ms);
            if due.is_empty() {
                return Ok(packs);
            }
            for attempt in due {
                self.instance.capabilities().tickets.settle(attempt.ticket, attempt.number);
                let outcome = Outcome::Done(Answer::None);
                let completion = Completion { ticket: Ticket(attempt.ticket), outcome };
                let completed = WriterInput::Completed(completion);
                let progress = self.instance.writer(now_ms, completed)?;
                self.note(progress);
                packs += 1;
            }
        }
    }

    fn note(&mut self, progress: Progress) {
        self.accepting = progress.accepting;
        self.requests.extend(progress.outputs.into_iter().filter_map(|output| match output {
            Output::Request(request) => Some(request),
            _ => None,
        }));
    }
}

/// Name and row type of each column.
pub type RowColumns = Vec<(String, String)>;

/// A batch's row columns, for a task, and its bytes in the `columns` form.
///
/// # Errors
/// `InvalidConfig` naming a column whose type has no place in the contract.
pub fn columns(rows: &RecordBatch, kinds: &[RowKind]) -> Result<(RowColumns, Vec<u8>)> {
    Ok((batch::row_columns(&rows.schema())?, batch::encode(rows, kinds)?))
}

/// A pack's bytes as they would be sent; none if they would be sent as they are.
pub fn compress(compression: Compression, plain: &[u8]) -> Option<Vec<u8>> {
    compression.compress(plain)
}
