//! The import `tunnel`: tickets that the guest submits, repeats and releases.
//!
//! Between the running guest and `driver.rs`, which takes the attempts that became due and brings
//! back their outcomes. Invariant: at most one attempt of a ticket is under way; an outcome of a
//! released ticket reaches nobody.

use std::collections::BTreeMap;
use std::sync::Arc;

use upsert_sink_core::id::Millis;
use upsert_sink_core::io::Outcome;
use upsert_sink_core::io::Refusal;
use upsert_sink_core::io::RefusalKind;

use crate::bindings;
use crate::capability::Capabilities;
use crate::capability::grant::Grant;
use crate::tunnel::Operation;

/// One attempt at an operation.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The guest's name for the operation.
    pub(crate) ticket: u64,
    /// The host's number of this attempt; never used twice.
    pub(crate) number: u64,
    /// What to do.
    pub(crate) operation: Arc<Operation>,
}

/// An outcome that its guest is to be told.
#[derive(Debug)]
pub(crate) struct Settled {
    /// When the operation was first attempted.
    pub(crate) since_ms: u64,
    /// What it is.
    pub(crate) operation: Arc<Operation>,
}

/// The tickets that one instance holds.
#[derive(Debug)]
pub(crate) struct Tickets {
    grant: Grant,
    tickets_max: usize,
    bytes_max: usize,
    held: BTreeMap<u64, Held>,
    held_bytes: usize,
    attempts: u64,
    due: Vec<Attempt>,
    denied: Vec<Attempt>,
}

#[derive(Debug)]
struct Held {
    operation: Arc<Operation>,
    under_way: Option<u64>,
    since_ms: Option<u64>,
}

impl Tickets {
    pub(crate) fn new(grant: Grant, tickets_max: usize, bytes_max: usize) -> Self {
        Self {
            grant,
            tickets_max,
            bytes_max,
            held: BTreeMap::new(),
            held_bytes: 0,
            attempts: 0,
            due: Vec::new(),
            denied: Vec::new(),
        }
    }

    /// The attempts that the guest has asked for since the last time, in its order.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<Attempt> {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|attempt| self.is_under_way(attempt));
        for attempt in &due {
            if let Some(held) = self.held.get_mut(&attempt.ticket) {
                held.since_ms.get_or_insert(now_ms);
            }
        }
        due
    }

    /// The attempts that are not granted; each is answered with [`not_granted`].
    pub(crate) fn take_denied(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.denied)
    }

    /// An attempt has an outcome. None if nobody waits for it any more.
    pub(crate) fn settle(&mut self, ticket: u64, number: u64) -> Option<Settled> {
        let held = self.held.get_mut(&ticket)?;
        if held.under_way != Some(number) {
            return None;
        }
        held.under_way = None;
        let since_ms = held.since_ms.unwrap_or_default();
        Some(Settled { since_ms, operation: Arc::clone(&held.operation) })
    }

    /// What a ticket is for; nothing if it is released.
    pub(crate) fn operation_name(&self, ticket: u64) -> &'static str {
        self.held.get(&ticket).map_or("", |held| held.operation.name())
    }

    fn is_under_way(&self, attempt: &Attempt) -> bool {
        let held = self.held.get(&attempt.ticket);
        held.is_some_and(|held| held.under_way == Some(attempt.number))
    }

    fn submit(&mut self, ticket: u64, operation: Operation) -> Result<(), String> {
        if self.held.contains_key(&ticket) {
            return Err(format!("ticket {ticket} is taken"));
        }
        if self.held.len() >= self.tickets_max {
            return Err(format!("more than {} operations are held", self.tickets_max));
        }
        let bytes = self.held_bytes.saturating_add(operation.held_bytes());
        if bytes > self.bytes_max {
            return Err(format!("more than {} bytes of packs are held", self.bytes_max));
        }
        self.held_bytes = bytes;
        let operation = Arc::new(operation);
        self.held.insert(ticket, Held { operation, under_way: None, since_ms: None });
        self.repeat(ticket)
    }

    fn repeat(&mut self, ticket: u64) -> Result<(), String> {
        let held = self.held.get_mut(&ticket).ok_or(format!("ticket {ticket} is not held"))?;
        if held.under_way.is_some() {
            return Err(format!("an attempt of ticket {ticket} is under way"));
        }
        self.attempts += 1;
        held.under_way = Some(self.attempts);
        let operation = Arc::clone(&held.operation);
        let attempt = Attempt { ticket, number: self.attempts, operation };
        let granted = self.grant.allows(&attempt.operation);
        let queue = if granted { &mut self.due } else { &mut self.denied };
        queue.push(attempt);
        Ok(())
    }

    fn release(&mut self, ticket: u64) {
        if let Some(held) = self.held.remove(&ticket) {
            self.held_bytes -= held.operation.held_bytes();
        }
    }
}

/// What the guest is told of an operation that it may not use.
pub(crate) fn not_granted(operation: &Operation) -> Outcome {
    Outcome::Refused(Refusal {
        kind: RefusalKind::Denied,
        code: String::new(),
        message: format!("the host grants no {} to this role", operation.name()),
        request_id: String::new(),
        retry_after: Millis(0),
    })
}

impl bindings::tunnel::Host for Capabilities {
    fn submit(
        &mut self,
        ticket: u64,
        operation: bindings::tunnel::Operation,
    ) -> wasmtime::Result<()> {
        self.imported("submit")?;
        let operation = Operation::from(operation);
        self.note(|outputs| outputs.submitted(ticket, &operation));
        self.tickets.submit(ticket, operation).map_err(wasmtime::Error::msg)
    }

    fn repeat(&mut self, ticket: u64) -> wasmtime::Result<()> {
        self.imported("repeat")?;
        self.note(|outputs| outputs.repeated(ticket));
        self.tickets.repeat(ticket).map_err(wasmtime::Error::msg)
    }

    fn release(&mut self, ticket: u64) -> wasmtime::Result<()> {
        self.imported("release")?;
        self.note(|outputs| outputs.released(ticket));
        self.tickets.release(ticket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use bytes::Bytes;
    use upsert_sink_core::id::SessionId;
    use upsert_sink_core::io::SessionRef;

    use crate::tunnel::pack::Pack;
    use crate::tunnel::pack::PackBody;

    fn pack(bytes: usize) -> Operation {
        let session = SessionRef { id: SessionId(String::from("s")), partition: String::new() };
        let body = PackBody::new(Bytes::from(vec![0; bytes]));
        Operation::PutPack(Pack { session, bucket: 0, records: 1, body })
    }

    fn tickets() -> Tickets {
        Tickets::new(Grant::WRITER, 2, 100)
    }

    #[test]
    fn one_attempt_of_a_ticket_is_under_way() {
        let mut tickets = tickets();
        tickets.submit(1, pack(1)).expect("the first ticket");
        assert!(tickets.repeat(1).is_err());
        let attempt = tickets.take_due(7).remove(0);
        let settled = tickets.settle(1, attempt.number).expect("it is awaited");
        assert_eq!(settled.since_ms, 7);
        assert!(tickets.settle(1, attempt.number).is_none(), "an outcome is told once");
        tickets.repeat(1).expect("the outcome is known");
        assert_eq!(tickets.take_due(8).len(), 1);
    }

    #[test]
    fn a_released_ticket_hears_no_outcome_and_holds_no_bytes() {
        let mut tickets = tickets();
        tickets.submit(1, pack(100)).expect("within the limit");
        let attempt = tickets.take_due(0).remove(0);
        tickets.release(1);
        assert!(tickets.settle(1, attempt.number).is_none());
        tickets.submit(2, pack(100)).expect("the bytes are free again");
    }

    #[test]
    fn tickets_and_bytes_are_bounded() {
        let mut tickets = tickets();
        assert!(tickets.submit(1, pack(101)).is_err());
        tickets.submit(1, pack(1)).expect("one");
        tickets.submit(2, pack(1)).expect("two");
        assert!(tickets.submit(3, pack(1)).is_err());
    }

    #[test]
    fn what_is_not_granted_is_never_attempted() {
        let mut tickets = tickets();
        tickets.submit(1, Operation::CreatePartition(String::from("d='1'"))).expect("a ticket");
        assert!(tickets.take_due(0).is_empty());
        assert_eq!(tickets.take_denied().len(), 1);
    }
}
