//! Time, disk, death and keys, as runtime and server see them in a simulated world.
//!
//! Given to both through their own `components`. Invariant: time is the virtual time of the runtime
//! that runs the world, and what belongs to a killed sink never moves again.

mod clock;
mod disk;
mod keys;
mod power;

pub(crate) use clock::{Shown, VirtualClock};
pub(crate) use disk::{Files, Loss};
pub(crate) use keys::KeyShop;
pub(crate) use power::Power;
use upsert_sink::components as sink;

use super::world::Chance;

/// A place where something is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SyncSite {
    /// The sink's journal, appended to.
    JournalAppend,
    /// The sink's journal, begun anew.
    JournalReplace,
    /// The server's log, a record.
    Log,
    /// The server's log, the last record at a start.
    LogAtStart,
    /// The server's packs.
    Spool,
    /// The file of a commit.
    Data,
}

impl sink::Entropy for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.draw().to_le_bytes()[0];
        }
    }
}
