//! Operations that were submitted to the Tunnel and have no final outcome yet.
//!
//! After `flush` in a row's way, and under the coordinator and the committer. Invariant: a ticket
//! is used once; it is either under way or waiting for its next attempt; an outcome for anything
//! else is late.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::retry::Attempts;
use upsert_sink_format::id::{Millis, Ticket};

/// The operations of one machine, each with what it is for.
#[derive(Clone, Debug)]
pub struct Operations<P> {
    nonce: u64,
    used: u64,
    held: BTreeMap<Ticket, Held<P>>,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Held<P> {
    /// What it is for.
    pub purpose: P,
    /// The attempts that were made.
    pub attempts: Attempts,
    /// When the first attempt was made.
    pub begun: Millis,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    UnderWay,
    WaitingUntil(Millis),
}

impl<P> Operations<P> {
    /// None yet. The nonce of the start spreads the waits.
    pub fn new(nonce: u64) -> Self {
        Self { nonce, used: 0, held: BTreeMap::new() }
    }

    /// Takes a ticket for an operation whose first attempt is made now.
    pub fn begin(&mut self, now: Millis, purpose: P) -> Ticket {
        self.used = self.used.checked_add(1).expect("2^64 tickets are never used up");
        let ticket = Ticket(self.used);
        let attempts = Attempts::first(self.nonce, ticket);
        self.held.insert(ticket, Held { purpose, attempts, begun: now, phase: Phase::UnderWay });
        ticket
    }

    /// The operation whose attempt has an outcome; none if the outcome is late.
    pub fn under_way(&mut self, ticket: Ticket) -> Option<&mut Held<P>> {
        self.held.get_mut(&ticket).filter(|held| held.phase == Phase::UnderWay)
    }

    /// Puts off the next attempt.
    pub fn wait(&mut self, ticket: Ticket, until: Millis) {
        if let Some(held) = self.held.get_mut(&ticket) {
            held.phase = Phase::WaitingUntil(until);
        }
    }

    /// The operations whose next attempt is due: they are under way from now on.
    pub fn wake(&mut self, now: Millis) -> Vec<Ticket> {
        let mut due = Vec::new();
        for (ticket, held) in &mut self.held {
            if matches!(held.phase, Phase::WaitingUntil(until) if until <= now) {
                held.phase = Phase::UnderWay;
                held.attempts.again();
                due.push(*ticket);
            }
        }
        due
    }

    /// Ends an operation.
    pub fn finish(&mut self, ticket: Ticket) -> Option<Held<P>> {
        self.held.remove(&ticket)
    }

    /// When the next attempt is due.
    pub fn deadline(&self) -> Option<Millis> {
        let waits = self.held.values().filter_map(|held| match held.phase {
            Phase::UnderWay => None,
            Phase::WaitingUntil(until) => Some(until),
        });
        waits.min()
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_late_unless_an_attempt_is_under_way() {
        let mut operations = Operations::new(1);
        let ticket = operations.begin(Millis(0), "put");
        assert!(operations.under_way(ticket).is_some());
        operations.wait(ticket, Millis(10));
        assert!(operations.under_way(ticket).is_none());
        assert_eq!(operations.deadline(), Some(Millis(10)));
        assert!(operations.wake(Millis(9)).is_empty());
        assert_eq!(operations.wake(Millis(10)), [ticket]);
        assert_eq!(operations.under_way(ticket).unwrap().attempts.made(), 2);
        operations.finish(ticket);
        assert!(operations.under_way(ticket).is_none() && operations.is_empty());
    }

    #[test]
    fn a_ticket_is_never_used_twice() {
        let mut operations = Operations::new(1);
        let first = operations.begin(Millis(0), ());
        operations.finish(first);
        assert_ne!(operations.begin(Millis(0), ()), first);
    }
}
