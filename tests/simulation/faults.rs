//! Everything that can go wrong in a world, each with its name, its rarity and its highest rate.
//!
//! Drawn by `world.rs`, asked wherever one can happen, counted by `tally.rs`. Invariant: one table;
//! a seed has a random part of it, at random rates: a world with few faults gets far, one with many
//! gets deep.

use super::world::Chance;

/// Declares the kinds with their name, how many of a hundred seeds have it, and its highest rate in
/// a thousand occasions.
macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $seeds:literal, $rate:literal;)+) => {
        /// One kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])+ $kind,)+
        }

        const TABLE: &[(Fault, &str, u64, u64)] = &[$((Fault::$kind, $name, $seeds, $rate),)+];
    };
}

faults! {
    /// A request is refused before its first byte.
    Refused = "refused", 45, 100;
    /// A request is lost on its way.
    Lost = "lost", 40, 60;
    /// A request is carried out, and its answer is lost.
    Unanswered = "unanswered", 45, 60;
    /// A request is given up by its sender, and carried out later.
    Late = "late", 40, 60;
    /// A request in doubt, or one that may be repeated, is carried out twice.
    Doubled = "doubled", 35, 60;
    /// The page of the proxy comes in place of what was asked.
    Tengine = "tengine", 30, 30;
    /// The page of the proxy comes after it was carried out.
    TengineAfter = "tengine-after", 30, 30;
    /// The bucket of a pack has moved to another worker.
    SlotMoved = "slot-moved", 30, 60;
    /// There is no slot for a session.
    SlotExceeded = "slot-exceeded", 25, 80;
    /// A pack exceeds the quota of the second.
    FlowExceeded = "flow-exceeded", 25, 40;
    /// The service fails, with its own code.
    ServerError = "server-error", 25, 30;
    /// A session expires before its time.
    Expired = "expired", 12, 10;
    /// The service forgets sessions that have ended, and does not find them.
    Forgotten = "forgotten", 25, 900;
    /// A checkpoint is aborted after its barrier.
    Aborted = "aborted", 45, 250;
    /// A checkpoint is aborted while its barrier is under way.
    AbortedEarly = "aborted-early", 30, 150;
    /// Rows are written while a barrier is under way.
    Overlapping = "overlapping", 40, 400;
    /// The sink is never told that a checkpoint is complete.
    NoticeLost = "notice-lost", 40, 250;
    /// The sink is told of a checkpoint after the next barrier.
    NoticeLate = "notice-late", 40, 300;
    /// An intermediate savepoint is taken; the job may stop, and restore it.
    Savepoint = "savepoint", 25, 100;
    /// The sink is killed at a random time.
    Killed = "killed", 60, 600;
    /// The sink is killed while the outcome of a commit is not known.
    KilledAtCommit = "killed-at-commit", 70, 800;
    /// The sink is killed at a call of its host: an import, a write to disk, a request.
    KilledAtHostCall = "killed-at-host-call", 35, 600;
    /// An import fails, and its instance with it.
    ImportFails = "import-fails", 25, 500;
    /// The server is killed at a random time, and may lose what it has not synced.
    ServerKilled = "server-killed", 45, 700;
    /// The server dies before the log record of a commit is durable.
    ServerCrashBefore = "server-crash-before", 20, 15;
    /// The server dies after it.
    ServerCrashAfter = "server-crash-after", 20, 15;
    /// The sink starts with another number of writers.
    Rescaled = "rescaled", 40, 800;
    /// An older checkpoint is restored.
    OlderRestored = "older-restored", 20, 300;
    /// A killed attempt lives on beside the next one.
    SplitBrain = "split-brain", 25, 500;
    /// The sink's clock jumps ahead.
    SinkClock = "sink-clock", 15, 400;
    /// Everybody sleeps for hours.
    Suspended = "suspended", 12, 300;
    /// Keys expire every few minutes.
    Tokens = "tokens", 20, 1000;
    /// Whoever is asked for a key has an old one, or none.
    StaleToken = "stale-token", 20, 400;
    /// The sink keeps rows in file caches, in little room.
    Cached = "cached", 40, 1000;
    /// A cache file cannot be written or read.
    DiskFails = "disk-fails", 30, 150;
    /// A commit takes seconds.
    SlowCommits = "slow-commits", 25, 1000;
    /// Partitions are compacted.
    Compacted = "compacted", 30, 1000;
}

/// The first that is drawn apart from those before it: a seed keeps what it drew before there was
/// this one.
const DRAWN_APART: Fault = Fault::Cached;

impl Fault {
    /// How many there are.
    pub const COUNT: usize = TABLE.len();

    /// All, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(fault, ..)| *fault)
    }

    /// The name that people use.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|fault| fault.name() == name)
    }
}

/// How often each fault happens, in a thousand occasions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults([u64; Fault::COUNT]);

impl Faults {
    /// None at all.
    pub const NONE: Self = Self([0; Fault::COUNT]);

    /// Draws the faults of a seed.
    pub(crate) fn draw(chance: &Chance, apart: &Chance) -> Self {
        let mut faults = Self::NONE;
        for (fault, _, seeds, highest) in TABLE {
            let chance = if *fault < DRAWN_APART { chance } else { apart };
            let has = chance.happens(*seeds);
            let rate = 1 + chance.below(*highest);
            faults.0[*fault as usize] = if has { rate } else { 0 };
        }
        faults
    }

    /// The rate of one.
    pub fn rate(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Sets the rate of one.
    pub fn set(&mut self, fault: Fault, rate: u64) {
        self.0[fault as usize] = rate;
    }

    /// Those that there are.
    pub fn present(&self) -> Vec<Fault> {
        Fault::all().filter(|fault| self.rate(*fault) > 0).collect()
    }

    /// Whether it happens now.
    pub(crate) fn happens(&self, fault: Fault, chance: &Chance) -> bool {
        let rate = self.rate(fault);
        rate > 0 && chance.below(1000) < rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_found_by_its_name() {
        for fault in Fault::all() {
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
        assert_eq!(Fault::named("none"), None);
    }
}
