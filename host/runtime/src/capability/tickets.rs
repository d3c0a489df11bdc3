//! The tickets of one instance: what it has asked of its powers and may still hear of.
//!
//! Between the imports of `capability/`, which note what is asked, and `driver.rs`, which carries
//! it out and brings back the outcomes. Invariant: all powers share one space of tickets and one
//! bound; at most one attempt of a ticket is under way; an outcome of a released ticket reaches
//! nobody; what is refused is not kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use upsert_sink_format::tunnel::{Outcome, RefusalKind};

use crate::capability::grant::Grant;
use crate::operation::{Operation, not_granted, refused};

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// The guest's name for what it asked.
    pub(crate) ticket: u64,
    /// The host's number of this attempt; never used twice.
    pub(crate) number: u64,
    /// The operation.
    pub(crate) asked: Asked,
    /// Whether it is not the first one of its ticket.
    pub(crate) repeated: bool,
    /// How long the ticket has waited since the service asked for less.
    pub(crate) slowed_ms: u64,
}

impl Attempt {
    /// Whether it is repeated, and since when it waits, is known when it is due.
    fn of(ticket: u64, number: u64, asked: Asked) -> Self {
        Self { ticket, number, asked, repeated: false, slowed_ms: 0 }
    }
}

/// The operations that a guest has asked for, and its grant.
#[derive(Debug)]
pub(crate) enum Asked {
    /// An operation of the Tunnel.
    Tunnel(Arc<Operation>),
    /// A record for the journal: its key, and its bytes.
    Journal(String, Vec<u8>),
    /// Something of the file cache.
    Cache(CacheRequest),
}

/// A guest's request to its file cache.
#[derive(Debug)]
pub(crate) enum CacheRequest {
    /// Bytes for the end of a segment.
    Append { segment: u64, bytes: Vec<u8> },
    /// A piece of a segment.
    Read { segment: u64, offset: u64, length: u64 },
    /// Nothing more for a segment.
    Seal { segment: u64 },
}

impl CacheRequest {
    /// Its name, as messages have it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "cache-append",
            Self::Read { .. } => "cache-read",
            Self::Seal { .. } => "cache-seal",
        }
    }

    /// The segment, and the bytes that it is about.
    pub(crate) fn about(&self) -> (u64, u64) {
        match self {
            Self::Append { segment, bytes } => (*segment, bytes.len() as u64),
            Self::Read { segment, length, .. } => (*segment, *length),
            Self::Seal { segment } => (*segment, 0),
        }
    }
}

/// An attempt whose outcome is known without one.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) ticket: u64,
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
}

/// An outcome that its guest is to be told.
#[derive(Debug)]
pub(crate) struct SettledTicket {
    /// When it was first attempted.
    pub(crate) since_ms: u64,
    /// The operation of the Tunnel, if it is one.
    pub(crate) operation: Option<Arc<Operation>>,
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
    answered: Vec<Answered>,
    dropped: Vec<u64>,
    /// The operation that was settled last, which completes once: its ticket, and its name.
    last: (u64, &'static str),
}

#[derive(Debug)]
struct Held {
    kept: Kept,
    under_way: Option<u64>,
    since_ms: Option<u64>,
    /// When the service asked for less, until the next attempt.
    slowed_ms: Option<u64>,
}

#[derive(Debug)]
enum Kept {
    /// Until it is released.
    Operation(Arc<Operation>),
    /// Until it has an outcome: its name, and the bytes that are kept for it.
    Once(&'static str, usize),
}

impl Held {
    fn bytes(&self) -> usize {
        match &self.kept {
            Kept::Operation(operation) => operation.held_bytes(),
            Kept::Once(_, bytes) => *bytes,
        }
    }
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
            answered: Vec::new(),
            dropped: Vec::new(),
            last: (0, ""),
        }
    }

    /// The attempts that the guest has asked for since the last time, in its order.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<Attempt> {
        let mut due = std::mem::take(&mut self.due);
        due.retain(|attempt| self.is_under_way(attempt));
        for attempt in &mut due {
            if let Some(held) = self.held.get_mut(&attempt.ticket) {
                attempt.repeated = held.since_ms.is_some();
                let slowed_ms = held.slowed_ms.take();
                attempt.slowed_ms = slowed_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms));
                held.since_ms.get_or_insert(now_ms);
            }
        }
        due
    }

    /// The service has refused this operation and asked for less.
    pub(crate) fn slowed(&mut self, ticket: u64, now_ms: u64) {
        if let Some(held) = self.held.get_mut(&ticket) {
            held.slowed_ms = Some(now_ms);
        }
    }

    /// The attempts since the last time that are not to be made.
    pub(crate) fn take_answered(&mut self) -> Vec<Answered> {
        std::mem::take(&mut self.answered)
    }

    /// An attempt has an outcome. None if nobody waits for it any more.
    pub(crate) fn settle(&mut self, ticket: u64, number: u64) -> Option<SettledTicket> {
        let held = self.held.get_mut(&ticket)?;
        if held.under_way != Some(number) {
            return None;
        }
        held.under_way = None;
        let since_ms = held.since_ms.unwrap_or_default();
        let operation = match &held.kept {
            Kept::Operation(operation) => Some(Arc::clone(operation)),
            Kept::Once(name, _) => {
                self.last = (ticket, name);
                None
            }
        };
        if operation.is_none() {
            self.forget(ticket);
        }
        Some(SettledTicket { since_ms, operation })
    }

    /// The operation of a ticket, until its only outcome and after it; none if it is released.
    pub(crate) fn operation_name(&self, ticket: u64) -> &'static str {
        match self.held.get(&ticket) {
            Some(Held { kept: Kept::Operation(operation), .. }) => operation.name(),
            Some(Held { kept: Kept::Once(name, _), .. }) => name,
            None if self.last.0 == ticket => self.last.1,
            None => "",
        }
    }

    fn is_under_way(&self, attempt: &Attempt) -> bool {
        let held = self.held.get(&attempt.ticket);
        held.is_some_and(|held| held.under_way == Some(attempt.number))
    }

    /// An operation of the Tunnel, which is kept until it is released.
    pub(super) fn submit(&mut self, ticket: u64, operation: Operation) -> Result<(), String> {
        let operation = Kept::Operation(Arc::new(operation));
        self.hold(ticket, operation)?;
        self.repeat(ticket)
    }

    /// Another attempt at an operation of the Tunnel.
    pub(super) fn repeat(&mut self, ticket: u64) -> Result<(), String> {
        let held = self.held.get_mut(&ticket);
        let Some(Held { kept: Kept::Operation(operation), under_way, .. }) = held else {
            return Err(format!("ticket {ticket} is not held"));
        };
        if under_way.is_some() {
            return Err(format!("an attempt of ticket {ticket} is under way"));
        }
        self.attempts += 1;
        let number = self.attempts;
        *under_way = Some(number);
        match self.grant.allows(operation) {
            true => {
                let asked = Asked::Tunnel(Arc::clone(operation));
                self.due.push(Attempt::of(ticket, number, asked));
            }
            false => {
                let outcome = not_granted(operation.name());
                self.answered.push(Answered { ticket, number, outcome });
            }
        }
        Ok(())
    }

    /// Ends the ticket of an operation of the Tunnel. Others end with their only outcome.
    pub(super) fn release(&mut self, ticket: u64) {
        if let Some(Held { kept: Kept::Operation(_), .. }) = self.held.get(&ticket) {
            self.forget(ticket);
        }
    }

    /// Whether the journal takes a record of this instance.
    pub(super) fn takes(&self, key: &str, bytes: &[u8]) -> bool {
        self.grant.allows_journal() && key.len() <= KEY_BYTES_MAX && bytes.len() <= RECORD_BYTES_MAX
    }

    /// A record for the journal. Its bytes are kept only if it is granted and of the right size.
    pub(super) fn append(
        &mut self,
        ticket: u64,
        key: String,
        bytes: Vec<u8>,
    ) -> Result<(), String> {
        const NAME: &str = "journal-append";
        if !self.grant.allows_journal() {
            return self.answer(ticket, NAME, not_granted(NAME));
        }
        if !self.takes(&key, &bytes) {
            let message = format!(
                "a record has {} bytes and its key {}; at most {RECORD_BYTES_MAX} and \
                 {KEY_BYTES_MAX} are taken",
                bytes.len(),
                key.len()
            );
            return self.answer(ticket, NAME, refused(RefusalKind::Invalid, message));
        }
        let number = self.hold_once(ticket, NAME, key.len() + bytes.len())?;
        self.due.push(Attempt::of(ticket, number, Asked::Journal(key, bytes)));
        Ok(())
    }

    /// Something of the file cache, if that is granted.
    pub(super) fn cache(&mut self, ticket: u64, request: CacheRequest) -> Result<(), String> {
        let name = request.name();
        if !self.grant.allows_cache() {
            return self.answer(ticket, name, not_granted(name));
        }
        let bytes = match &request {
            CacheRequest::Append { bytes, .. } => bytes.len(),
            CacheRequest::Read { length, .. } => usize::try_from(*length).unwrap_or(usize::MAX),
            CacheRequest::Seal { .. } => 0,
        };
        let number = self.hold_once(ticket, name, bytes)?;
        self.due.push(Attempt::of(ticket, number, Asked::Cache(request)));
        Ok(())
    }

    /// A segment is to be dropped, after all that was asked before.
    pub(super) fn drop_segment(&mut self, segment: u64) {
        self.dropped.push(segment);
    }

    /// The segments to drop, once what is due has begun.
    pub(crate) fn take_dropped(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.dropped)
    }

    /// Something that completes once, and whose outcome is known. It counts until that is told.
    pub(super) fn answer(
        &mut self,
        ticket: u64,
        name: &'static str,
        outcome: Outcome,
    ) -> Result<(), String> {
        let number = self.hold_once(ticket, name, 0)?;
        self.answered.push(Answered { ticket, number, outcome });
        Ok(())
    }

    /// Holds what completes once; answers the number of its only attempt.
    fn hold_once(&mut self, ticket: u64, name: &'static str, bytes: usize) -> Result<u64, String> {
        self.hold(ticket, Kept::Once(name, bytes))?;
        self.attempts += 1;
        if let Some(held) = self.held.get_mut(&ticket) {
            held.under_way = Some(self.attempts);
        }
        Ok(self.attempts)
    }

    fn hold(&mut self, ticket: u64, kept: Kept) -> Result<(), String> {
        if self.held.contains_key(&ticket) {
            return Err(format!("ticket {ticket} is taken"));
        }
        if self.held.len() >= self.tickets_max {
            return Err(format!("more than {} operations are held", self.tickets_max));
        }
        let held = Held { kept, under_way: None, since_ms: None, slowed_ms: None };
        let bytes = self.held_bytes.saturating_add(held.bytes());
        if bytes > self.bytes_max {
            return Err(format!("more than {} bytes of packs are held", self.bytes_max));
        }
        self.held_bytes = bytes;
        self.held.insert(ticket, held);
        Ok(())
    }

    fn forget(&mut self, ticket: u64) {
        if let Some(held) = self.held.remove(&ticket) {
            self.held_bytes -= held.bytes();
        }
    }
}

/// The longest key, and the largest record, that the journal takes (`wit/journal.wit`).
const KEY_BYTES_MAX: usize = 256;
const RECORD_BYTES_MAX: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use upsert_sink_format::id::SessionId;
    use upsert_sink_format::tunnel::SessionRef;
    use upsert_sink_tunnel::PackBody;

    use super::*;
    use crate::operation::{SubmittedBody, SubmittedPack};

    fn pack(bytes: usize) -> Operation {
        let session = SessionRef { id: SessionId(String::from("s")), partition: String::new() };
        let body = SubmittedBody::Held(PackBody::new(Bytes::from(vec![0; bytes])));
        Operation::PutPack(SubmittedPack { session, bucket: 0, records: 1, body })
    }

    fn tickets() -> Tickets {
        Tickets::new(Grant::WRITER, 2, 100)
    }

    fn committer() -> Tickets {
        Tickets::new(Grant::COMMITTER, 3, 1 << 20)
    }

    fn key() -> String {
        String::from("k")
    }

    fn refusals(tickets: &mut Tickets) -> Vec<(u64, RefusalKind)> {
        let answered = tickets.take_answered().into_iter();
        let refusal = |answered: Answered| match answered.outcome {
            Outcome::Refused(refusal) => (answered.ticket, refusal.kind),
            other => panic!("{other:?}"),
        };
        answered.map(refusal).collect()
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
        assert!(!attempt.repeated);
        tickets.slowed(1, 8);
        tickets.repeat(1).expect("the outcome is known");
        let again = tickets.take_due(20).remove(0);
        assert_eq!((again.repeated, again.slowed_ms), (true, 12));
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
        assert_eq!(refusals(&mut tickets), [(1, RefusalKind::Denied)]);
    }

    #[test]
    fn an_append_completes_once_and_its_ticket_ends_with_it() {
        let mut tickets = committer();
        tickets.append(1, key(), vec![0; 9]).expect("the first ticket");
        tickets.release(1);
        assert!(tickets.append(1, key(), Vec::new()).is_err(), "the ticket is taken");
        assert!(tickets.submit(1, pack(1)).is_err(), "all powers share the numbers");
        assert!(tickets.repeat(1).is_err(), "it is no operation of the Tunnel");
        assert_eq!(tickets.held_bytes, 10);
        let due = tickets.take_due(0).remove(0);
        assert!(matches!(due.asked, Asked::Journal(key, bytes) if key == "k" && bytes == [0; 9]));
        let settled = tickets.settle(1, due.number).expect("it is awaited");
        assert!(settled.operation.is_none());
        assert_eq!((tickets.held_bytes, tickets.held.len()), (0, 0));
        assert_eq!(tickets.operation_name(1), "journal-append", "of what was settled last");
        assert!(tickets.settle(1, due.number).is_none(), "an outcome is told once");
    }

    /// A guest that asks for what it has no right to cannot make the host hold anything for it but
    /// tickets, which are bounded.
    #[test]
    fn what_is_refused_at_once_is_not_kept_and_counts_until_it_is_told() {
        let mut tickets = tickets();
        tickets.append(1, key(), vec![0; 1 << 20]).expect("a ticket");
        tickets.answer(2, "cache-append", not_granted("cache-append")).expect("a ticket");
        assert!(tickets.append(3, key(), Vec::new()).is_err(), "two are held");
        assert_eq!(tickets.held_bytes, 0);
        assert!(tickets.take_due(0).is_empty());
        let answered = tickets.take_answered();
        let numbers: Vec<_> = answered.iter().map(|one| (one.ticket, one.number)).collect();
        for (ticket, number) in numbers {
            assert!(tickets.settle(ticket, number).is_some());
        }
        tickets.append(3, key(), Vec::new()).expect("there is room again");
    }

    #[test]
    fn keys_and_records_of_the_journal_are_bounded() {
        let mut tickets = committer();
        tickets.append(1, "k".repeat(KEY_BYTES_MAX), vec![0; RECORD_BYTES_MAX]).expect("a ticket");
        tickets.append(2, "k".repeat(KEY_BYTES_MAX + 1), Vec::new()).expect("a ticket");
        tickets.append(3, key(), vec![0; RECORD_BYTES_MAX + 1]).expect("a ticket");
        assert_eq!(tickets.take_due(0).len(), 1);
        let invalid = RefusalKind::Invalid;
        assert_eq!(refusals(&mut tickets), [(2, invalid), (3, invalid)]);
    }
}
