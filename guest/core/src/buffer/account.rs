//! The one owner of every byte count of a writer: what is buffered, by partition, and what is in
//! flight, by ticket.
//!
//! Beside the buffers: every change that they report is added here, and nothing else counts.
//! Invariant: the total is the sum of the parts, no part is ever negative, and the buffered bytes
//! of all partitions plus those in flight are what is held.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::config::ByteCount;
use crate::id::Ticket;
use crate::partition::PartitionIndex;

/// Counts bytes against `sink.memory.budget`.
///
/// The budget is a mark, not a wall: the batch that passes it is still taken, so held bytes stay
/// below the budget plus one batch. Then it accepts no more until a quarter of the budget is free
/// again, so that the engine is stopped and started once for many packs and not once for each. A
/// writer that does not accept must flush until it does.
#[derive(Clone, Debug)]
pub struct BufferAccount {
    budget: u64,
    buffered: Vec<u64>,
    buffered_total: u64,
    in_flight: BTreeMap<Ticket, u64>,
    in_flight_total: u64,
    accepting: bool,
}

impl BufferAccount {
    /// An account with nothing held.
    pub fn new(budget: ByteCount) -> Self {
        Self {
            budget: budget.0,
            buffered: Vec::new(),
            buffered_total: 0,
            in_flight: BTreeMap::new(),
            in_flight_total: 0,
            accepting: true,
        }
    }

    /// Adds what a push to a buffer of the partition changed.
    ///
    /// Panics if more is taken than was added: a bug of ours.
    #[inline]
    pub fn add(&mut self, partition: PartitionIndex, change: i64) {
        self.change(partition, change);
        self.turn();
    }

    #[inline]
    fn change(&mut self, partition: PartitionIndex, change: i64) {
        let index = partition.0 as usize;
        if index >= self.buffered.len() {
            self.buffered.resize(index + 1, 0);
        }
        self.buffered[index] = changed(self.buffered[index], change);
        self.buffered_total = changed(self.buffered_total, change);
    }

    /// Moves bytes from a partition's buffers into flight: `freed` left the buffer, `sent` are in
    /// the pack.
    ///
    /// Panics if the ticket is in flight already, or the partition does not have that much.
    pub fn submit(&mut self, partition: PartitionIndex, freed: usize, ticket: Ticket, sent: usize) {
        let freed = i64::try_from(freed).expect("a buffer is far smaller than 2^63 bytes");
        self.change(partition, -freed);
        let earlier = self.in_flight.insert(ticket, sent as u64);
        assert!(earlier.is_none(), "a ticket is used once");
        self.in_flight_total = self.in_flight_total.checked_add(sent as u64).expect("bytes fit");
        self.settle();
    }

    /// Ends a pack's flight, and returns its bytes; none for a ticket that is not in flight.
    pub fn release(&mut self, ticket: Ticket) -> Option<u64> {
        let sent = self.in_flight.remove(&ticket)?;
        self.in_flight_total = self.in_flight_total.checked_sub(sent).expect("it was added");
        self.settle();
        Some(sent)
    }

    /// Whether further batches are welcome.
    pub fn accepting(&self) -> bool {
        self.accepting
    }

    /// All bytes held.
    pub fn held(&self) -> u64 {
        self.buffered_total + self.in_flight_total
    }

    /// Bytes in the buffers of all partitions.
    pub fn buffered(&self) -> u64 {
        self.buffered_total
    }

    /// Bytes in the buffers of one partition.
    #[inline]
    pub fn buffered_of(&self, partition: PartitionIndex) -> u64 {
        self.buffered.get(partition.0 as usize).copied().unwrap_or(0)
    }

    /// Bytes in packs that are not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.in_flight_total
    }

    /// How many packs are in flight.
    pub fn packs_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    fn settle(&mut self) {
        let buffered = self.buffered.iter().sum::<u64>();
        assert_eq!(buffered, self.buffered_total, "buffered bytes are the sum over partitions");
        let in_flight = self.in_flight.values().sum::<u64>();
        assert_eq!(in_flight, self.in_flight_total, "bytes in flight are the sum over tickets");
        self.turn();
    }

    #[inline]
    fn turn(&mut self) {
        let held = self.held();
        self.accepting =
            if self.accepting { held < self.budget } else { held <= self.budget / 4 * 3 };
    }
}

#[inline]
fn changed(count: u64, change: i64) -> u64 {
    count.checked_add_signed(change).expect("no more is taken than was added")
}
