//! The names of sessions.
//!
//! Below every machine: writers ask for sessions by name, the coordinator creates them by name, the
//! committer commits them in the order of their names. Invariant: the names of one partition are
//! ordered as its rows must become visible.

use alloc::string::String;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::CheckpointId;
use upsert_sink_format::sealed::{Opener, Sealer};

/// The name of a session, by its purpose. The coordinator answers the same name with the same
/// session.
///
/// The order of names of one partition is the order in which their sessions must be committed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionName {
    /// The partition; empty for a table without partitions.
    pub partition: String,
    /// The start of the sink that asked.
    pub start: u64,
    /// The last barrier that the asking writer had passed in this start; zero before the first.
    pub barrier: CheckpointId,
    /// The number of sessions of this barrier that were left because of a doubt.
    pub rollover: u32,
}

impl SessionName {
    /// A name that is after no other of the partition.
    pub fn first_of(partition: &str) -> Self {
        let partition = String::from(partition);
        Self { partition, start: 0, barrier: CheckpointId(0), rollover: 0 }
    }

    /// Appends the name to a sealed piece.
    pub fn write(&self, sealer: &mut Sealer) {
        sealer.text(&self.partition).u64(self.start).u64(self.barrier.0).u32(self.rollover);
    }

    /// Reads a name from a sealed piece.
    pub fn read(opener: &mut Opener<'_>) -> Result<Self, Error> {
        Ok(Self {
            partition: opener.text()?,
            start: opener.u64()?,
            barrier: CheckpointId(opener.u64()?),
            rollover: opener.u32()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::session::tests::name;

    #[test]
    fn names_are_ordered_by_start_then_barrier_then_rollover() {
        let ordered = [name(1, 9, 0), name(2, 0, 0), name(2, 0, 1), name(2, 3, 0)];
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
