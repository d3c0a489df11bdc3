//! The ledger: what each checkpoint took in, sent and committed, and where its time went.
//!
//! Beside the row's way. The drivers measure (`part.rs`), `book.rs` attributes, `record.rs` is what
//! an embedder reads through [`Sink::ledger`](crate::Sink::ledger), and [`advise`] says in words
//! which limit bound, and what to set; [`Forecast`] says it before the first row. Invariant:
//! nothing here changes what the sink does; memory is bounded, whatever the number of checkpoints,
//! partitions and buckets.

mod advisor;
mod book;
mod facts;
mod forecast;
pub(crate) mod part;
mod record;
mod sample;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use advisor::{AdviceRule, Hint, advise};
use book::Book;
pub use facts::{ShiftedColumn, SinkFacts};
pub use forecast::{BrokenLimit, ExpectedLoad, Forecast, ForecastLimits, ServiceCosts};
pub use record::{
    BucketBytes, CheckpointKind, CheckpointRecord, CheckpointTimes, CommitTimes, LOAD_CLASSES,
    LedgerTotals, PackLoad, RequestCount, SentPacks, SlowPartition,
};

/// A reading of the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerReading {
    /// The newest checkpoints of this start whose commits are known, oldest first; at most 128.
    pub records: Vec<CheckpointRecord>,
    /// The sum of all checkpoints of this start whose commits are known.
    pub totals: LedgerTotals,
}

/// The ledger of one sink, shared by its parts.
pub(crate) struct Ledger {
    book: Mutex<Book>,
}

impl Ledger {
    pub(crate) fn new(start: u64, writers: u32) -> Self {
        Self { book: Mutex::new(Book::new(start, writers)) }
    }

    pub(crate) fn read(&self) -> LedgerReading {
        let book = self.book();
        LedgerReading { records: book.records(), totals: book.totals() }
    }

    /// The totals alone, without a copy of the records.
    pub(crate) fn totals(&self) -> LedgerTotals {
        self.book().totals()
    }

    /// To note what happens. Held for one call, never while something is awaited.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
