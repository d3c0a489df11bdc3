//! The one owner of every byte count of a writer: rows in buffers and packs that wait, by
//! partition, and packs in flight, by ticket.
//!
//! Beside the buffers: every change of theirs is counted here, and nothing else counts. Invariant:
//! the total is the sum of the parts, no part is ever negative, and what waits in all partitions
//! plus what is in flight is what is held.

use alloc::collections::BTreeMap;

use upsert_sink_format::id::{ByteCount, Ticket};

/// Counts bytes against `sink.memory.budget`.
///
/// The budget is a mark, not a wall: the batch that passes it is still taken, so held bytes stay
/// below the budget plus one batch. Then it accepts no more until a quarter of the budget is free
/// again, so that the engine is stopped and started once for many packs and not once for each. A
/// writer that does not accept must flush until it does.
#[derive(Clone, Debug)]
pub struct BufferAccount {
    budget: u64,
    /// In buffers and in packs that wait, over all partitions.
    waiting: u64,
    in_flight: BTreeMap<Ticket, u64>,
    in_flight_total: u64,
    /// As of the last change that was not a row.
    accepting: bool,
}

/// The bytes that wait in one partition.
///
/// They stand with the partition, where a row that is counted has them at hand; the account alone
/// changes them.
#[derive(Clone, Debug, Default)]
pub struct PartitionBytes {
    buffered: u64,
    sealed: u64,
}

impl PartitionBytes {
    /// Bytes of rows in buffers.
    pub fn buffered(&self) -> u64 {
        self.buffered
    }

    /// Bytes in buffers and in packs that are not submitted yet.
    pub fn waiting(&self) -> u64 {
        self.buffered + self.sealed
    }
}

impl BufferAccount {
    /// An account with nothing held.
    pub fn new(budget: ByteCount) -> Self {
        Self {
            budget: budget.0,
            waiting: 0,
            in_flight: BTreeMap::new(),
            in_flight_total: 0,
            accepting: true,
        }
    }

    /// Adds a row that was pushed to a buffer.
    ///
    /// Every row passes here, so this only adds, and cannot overflow: no memory has 2^64 bytes.
    /// `accepting` looks at the mark when it is asked.
    #[inline(always)]
    pub fn grow(&mut self, partition: &mut PartitionBytes, bytes: usize) {
        self.waiting += bytes as u64;
        partition.buffered += bytes as u64;
    }

    /// Adds what the relief of a buffer changed.
    ///
    /// Panics if more is taken than was added: a bug of ours.
    pub fn change(&mut self, partition: &mut PartitionBytes, change: i64) {
        self.turn();
        partition.buffered = changed(partition.buffered, change);
        self.waiting = changed(self.waiting, change);
        self.turn();
    }

    /// A buffer that held `freed` became a pack of `sealed` bytes, which waits.
    ///
    /// Panics if the partition does not have that much.
    pub fn seal(&mut self, partition: &mut PartitionBytes, freed: usize, sealed: usize) {
        self.turn();
        partition.buffered = less(partition.buffered, freed);
        partition.sealed = more(partition.sealed, sealed);
        self.waiting = more(less(self.waiting, freed), sealed);
        self.turn();
    }

    /// A pack of `sealed` bytes went into flight, as `sent` bytes.
    ///
    /// Panics if the ticket is in flight already, or the partition does not have that much.
    pub fn submit(
        &mut self,
        partition: &mut PartitionBytes,
        sealed: usize,
        ticket: Ticket,
        sent: usize,
    ) {
        self.turn();
        partition.sealed = less(partition.sealed, sealed);
        self.waiting = less(self.waiting, sealed);
        let earlier = self.in_flight.insert(ticket, sent as u64);
        assert!(earlier.is_none(), "a ticket is used once");
        self.in_flight_total = more(self.in_flight_total, sent);
        self.settle();
    }

    /// Ends a pack's flight, and returns its bytes; none for a ticket that is not in flight.
    pub fn release(&mut self, ticket: Ticket) -> Option<u64> {
        self.turn();
        let sent = self.in_flight.remove(&ticket)?;
        self.in_flight_total = self.in_flight_total.checked_sub(sent).expect("it was added");
        self.settle();
        Some(sent)
    }

    /// Whether further batches are welcome.
    pub fn accepting(&self) -> bool {
        let held = self.held();
        if self.accepting { held < self.budget } else { held <= self.budget / 4 * 3 }
    }

    /// All bytes held.
    pub fn held(&self) -> u64 {
        self.waiting + self.in_flight_total
    }

    /// Bytes in the buffers of all partitions, and in packs that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Bytes in packs that are not acknowledged.
    pub fn in_flight(&self) -> u64 {
        self.in_flight_total
    }

    fn settle(&mut self) {
        let in_flight = self.in_flight.values().sum::<u64>();
        assert_eq!(in_flight, self.in_flight_total, "bytes in flight are the sum over tickets");
        self.turn();
    }

    /// Notes on which side of the mark the bytes stand, before fewer of them would hide it.
    fn turn(&mut self) {
        self.accepting = self.accepting();
    }
}

fn changed(count: u64, change: i64) -> u64 {
    count.checked_add_signed(change).expect("no more is taken than was added")
}

fn more(count: u64, bytes: usize) -> u64 {
    count.checked_add(bytes as u64).expect("bytes fit")
}

fn less(count: u64, bytes: usize) -> u64 {
    count.checked_sub(bytes as u64).expect("no more is taken than was added")
}
