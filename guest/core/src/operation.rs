//! The operations of one machine that have no final outcome yet: tickets, attempts, pauses.
//!
//! After `flush` in a row's way, and under the coordinator and the committer. Each machine decides
//! by itself what an outcome means; to put off, repeat and release is the same for all, and stands
//! here. Invariant: a ticket is used once; its operation is under way, waits for its next attempt,
//! or was taken out by an outcome; an outcome of anything else is late, and counted.

use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::format;
use alloc::string::String;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{Millis, Ticket};
use upsert_sink_format::tunnel::{Operation, Outcome, Refusal, RefusalKind};

use crate::ignored::Ignored;
use crate::io::{Completion, TunnelCommand};
use crate::outputs::{Output, Outputs};
use crate::retry::{Attempts, Pause};

/// The purpose of a machine's operations: everything in which they differ here.
pub(crate) trait Purpose {
    /// The limit up to which attempts are put off.
    type Patience: Copy;

    /// The place of the operation, for messages.
    fn place(&self) -> String;

    /// The message once the limit is passed, after so many attempts in so long; none until then.
    fn overdue(limit: Self::Patience, attempts: u32, time: Millis, cause: &str) -> Option<String>;
}

/// The operations of one machine.
#[derive(Clone, Debug)]
pub(crate) struct Operations<P: Purpose> {
    nonce: u64,
    patience: P::Patience,
    used: u64,
    held: BTreeMap<Ticket, (Submitted<P>, AttemptState)>,
}

/// An operation that was submitted, or an append to the journal.
#[derive(Clone, Debug)]
#[must_use]
pub(crate) struct Submitted<P> {
    pub(crate) ticket: Ticket,
    pub(crate) purpose: P,
    attempts: Attempts,
    /// The time of the first attempt.
    begun: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttemptState {
    UnderWay,
    WaitingUntil(Millis),
}

impl<P: Purpose> Operations<P> {
    /// None yet. The nonce of the start spreads the pauses.
    pub(crate) fn new(nonce: u64, patience: P::Patience) -> Self {
        Self { nonce, patience, used: 0, held: BTreeMap::new() }
    }

    /// Takes a ticket for an operation whose first attempt is made now.
    pub(crate) fn begin(&mut self, now: Millis, purpose: P) -> Ticket {
        self.used = self.used.checked_add(1).expect("2^64 tickets are never used up");
        let ticket = Ticket(self.used);
        let attempts = Attempts::first(self.nonce, ticket);
        let submitted = Submitted { ticket, purpose, attempts, begun: now };
        self.held.insert(ticket, (submitted, AttemptState::UnderWay));
        ticket
    }

    /// Makes the first attempt at an operation of the Tunnel.
    pub(crate) fn submit(
        &mut self,
        now: Millis,
        purpose: P,
        operation: Operation,
        outputs: &mut Outputs<impl Output>,
    ) -> Ticket {
        let ticket = self.begin(now, purpose);
        outputs.tunnel(TunnelCommand::Submit(ticket, operation));
        ticket
    }

    /// Takes out the operation whose attempt has an outcome: it is over unless it is put off. None
    /// if no attempt is under way: then the outcome is late.
    pub(crate) fn take(
        &mut self,
        completion: Completion,
        outputs: &mut Outputs<impl Output>,
    ) -> Option<(Submitted<P>, Outcome)> {
        match self.held.entry(completion.ticket) {
            Entry::Occupied(held) if held.get().1 == AttemptState::UnderWay => {
                Some((held.remove().0, completion.outcome))
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {
                outputs.ignore(Ignored::LateOutcome);
                None
            }
        }
    }

    /// Makes another attempt after a pause, however many there were.
    pub(crate) fn pause(&mut self, now: Millis, operation: Submitted<P>, pause: Pause<'_>) {
        let until = now.plus(operation.attempts.pause(pause));
        self.held.insert(operation.ticket, (operation, AttemptState::WaitingUntil(until)));
    }

    /// Makes another attempt after a pause, as long as the machine's patience lasts.
    ///
    /// Errors: `Retry` when it is over; the cause is that of the last pause.
    pub(crate) fn put_off(
        &mut self,
        now: Millis,
        operation: Submitted<P>,
        pause: Pause<'_>,
        cause: &str,
    ) -> Result<(), Error> {
        let time = operation.age(now);
        if let Some(message) = P::overdue(self.patience, operation.attempts(), time, cause) {
            return Err(Error::new(ErrorKind::Retry, operation.purpose.place(), message));
        }
        self.pause(now, operation, pause);
        Ok(())
    }

    /// The timer has fired: makes the attempts that are due. If none is, and nothing else of the
    /// machine, that is counted.
    pub(crate) fn wake(
        &mut self,
        now: Millis,
        other_due: bool,
        outputs: &mut Outputs<impl Output>,
    ) {
        let mut any_due = other_due;
        for (submitted, state) in self.held.values_mut() {
            if matches!(*state, AttemptState::WaitingUntil(until) if until <= now) {
                *state = AttemptState::UnderWay;
                submitted.attempts.again();
                outputs.tunnel(TunnelCommand::Repeat(submitted.ticket));
                any_due = true;
            }
        }
        if !any_due {
            outputs.ignore(Ignored::TimerWithoutCause);
        }
    }

    /// The time at which the next attempt is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let waits = self.held.values().filter_map(|(_, state)| match *state {
            AttemptState::UnderWay => None,
            AttemptState::WaitingUntil(until) => Some(until),
        });
        waits.min()
    }

    /// The number that are held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// The number that are held for such a purpose.
    pub(crate) fn count(&self, is_such: impl Fn(&P) -> bool) -> usize {
        self.held.values().filter(|(operation, _)| is_such(&operation.purpose)).count()
    }

    /// Whether none is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

impl<P: Purpose> Submitted<P> {
    /// The error of a refusal that no attempt of this start will change: `Denied` if the service
    /// says so, else of this kind.
    pub(crate) fn refused(
        &self,
        refusal: &Refusal,
        otherwise: ErrorKind,
        what: &str,
        remedy: &str,
    ) -> Error {
        let Refusal { kind, code, message, request_id, .. } = refusal;
        let kind = if *kind == RefusalKind::Denied { ErrorKind::Denied } else { otherwise };
        let message = format!(
            "the service refused {what}: {code} {message} (request {request_id}); {remedy}"
        );
        Error::new(kind, self.purpose.place(), message)
    }

    /// The attempts that were made.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.made()
    }

    /// The time since its first attempt.
    pub(crate) fn age(&self, now: Millis) -> Millis {
        now.since(self.begun)
    }

    /// Ends an operation of the Tunnel, and frees what the host holds of it.
    pub(crate) fn release(self, outputs: &mut Outputs<impl Output>) -> P {
        outputs.tunnel(TunnelCommand::Release(self.ticket));
        self.purpose
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::io::{Telemetry, WriterOutput};

    impl Purpose for &'static str {
        type Patience = u32;

        fn place(&self) -> String {
            String::from(*self)
        }

        fn overdue(most: u32, attempts: u32, _time: Millis, cause: &str) -> Option<String> {
            (attempts >= most).then(|| cause.into())
        }
    }

    type Machine = Operations<&'static str>;

    fn machine() -> (Machine, Outputs<WriterOutput>) {
        (Operations::new(1, 2), Outputs::new())
    }

    /// An outcome of an attempt.
    fn outcome(
        operations: &mut Machine,
        ticket: Ticket,
        outputs: &mut Outputs<WriterOutput>,
    ) -> Option<Submitted<&'static str>> {
        let completion = Completion { ticket, outcome: Outcome::InDoubt(String::new()) };
        operations.take(completion, outputs).map(|(operation, _)| operation)
    }

    fn drained(outputs: &mut Outputs<WriterOutput>) -> Vec<WriterOutput> {
        core::iter::from_fn(|| outputs.pop()).collect()
    }

    fn ignored(reason: Ignored) -> WriterOutput {
        WriterOutput::Tell(Telemetry::Count(reason.counter(), 1))
    }

    #[test]
    fn an_outcome_is_late_unless_an_attempt_is_under_way() {
        let (mut operations, mut outputs) = machine();
        let ticket = operations.begin(Millis(0), "put");
        let operation = outcome(&mut operations, ticket, &mut outputs).expect("it is under way");
        assert!(outcome(&mut operations, ticket, &mut outputs).is_none(), "it was taken out");
        operations.pause(Millis(0), operation, Pause::Poll(Millis(50)));
        assert!(outcome(&mut operations, ticket, &mut outputs).is_none(), "it waits");
        let late = ignored(Ignored::LateOutcome);
        assert_eq!(drained(&mut outputs), [late.clone(), late]);
        let due = operations.deadline().expect("it waits");
        operations.wake(Millis(due.0 - 1), true, &mut outputs);
        assert_eq!(drained(&mut outputs), [], "another part of the machine was due");
        operations.wake(Millis(due.0 - 1), false, &mut outputs);
        assert_eq!(drained(&mut outputs), [ignored(Ignored::TimerWithoutCause)]);
        operations.wake(due, false, &mut outputs);
        assert_eq!(drained(&mut outputs), [WriterOutput::Tunnel(TunnelCommand::Repeat(ticket))]);
        let operation = outcome(&mut operations, ticket, &mut outputs).expect("it is under way");
        assert_eq!(operation.attempts(), 2);
        assert_eq!(operation.release(&mut outputs), "put");
        assert_eq!(drained(&mut outputs), [WriterOutput::Tunnel(TunnelCommand::Release(ticket))]);
        assert!(operations.is_empty() && operations.deadline().is_none());
    }

    #[test]
    fn an_operation_is_put_off_until_the_patience_of_its_machine_is_over() {
        let (mut operations, mut outputs) = machine();
        let ticket = operations.begin(Millis(0), "put");
        let operation = outcome(&mut operations, ticket, &mut outputs).expect("it is under way");
        assert_eq!(operations.put_off(Millis(0), operation, Pause::Doubt, "lost"), Ok(()));
        let due = operations.deadline().expect("it waits");
        operations.wake(due, false, &mut outputs);
        let operation = outcome(&mut operations, ticket, &mut outputs).expect("it is under way");
        let error = operations.put_off(due, operation, Pause::Doubt, "lost").unwrap_err();
        assert_eq!(error, Error::new(ErrorKind::Retry, String::from("put"), "lost"));
    }

    #[test]
    fn a_ticket_is_never_used_twice() {
        let (mut operations, mut outputs) = machine();
        let first = operations.begin(Millis(0), "put");
        let _ = outcome(&mut operations, first, &mut outputs).expect("it is under way");
        assert_ne!(operations.begin(Millis(0), "put"), first);
    }
}
