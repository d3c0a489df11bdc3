//! One simulated world: its seed, what the seed draws, its trace.
//!
//! Under every other file of the simulation. Invariant: nothing in a world comes from outside but
//! its seed, and what its plan leaves out of what the seed draws.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use super::components::SyncSite;
use super::faults::{Fault, Faults};
use super::subject::Subject;

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    /// Numbers of a seed, apart from those of other purposes.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let first = Self(Mutex::new(seed ^ (purpose << 40)));
        Self(Mutex::new(first.draw()))
    }

    /// The next number.
    pub(crate) fn draw(&self) -> u64 {
        let mut state = self.0.lock().expect("no holder panics");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Whether something of so many in a hundred happens.
    pub(crate) fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them.
    pub(crate) fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// The promises that a world is held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// `sink.delivery-guarantee` = at-least-once.
    pub at_least_once: bool,
    /// The server refuses a second open session of a partition, and `sink.session.overlap` = false.
    pub one_session: bool,
    /// `sink.key.scope` = table, and rows move between partitions.
    pub moves: bool,
}

impl Promise {
    fn draw(chance: &Chance) -> Self {
        let (at_least_once, one_session, moves) = match chance.below(20) {
            0 => (true, false, false),
            1 => (false, true, false),
            2 => (true, true, false),
            3 | 4 => (false, false, true),
            5 => (false, true, true),
            _ => (false, false, false),
        };
        Self { at_least_once, one_session, moves }
    }
}

/// How an attempt of the sink is to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It is not.
    Never,
    /// After so many milliseconds.
    At(u64),
    /// After so many commits, while the outcome of the next one is not known.
    AtCommit(u64),
    /// At this call of its host: an import, a write to disk, a request.
    AtHostCall(u64),
    /// When this import fails.
    OfImport(u64),
}

/// The world that one seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// The sink that runs.
    pub subject: Subject,
    /// The promises that it is held to.
    pub promise: Promise,
    /// The faults, and how often each happens.
    pub faults: Faults,
    /// A sync that does nothing: a bug that must be found.
    pub ignored_sync: Option<SyncSite>,
    /// The sync at which the first server dies: what it should make durable is written, and is
    /// there when the next one starts.
    pub server_dies_at_sync: Option<u64>,
    /// How the first attempt dies, if not by chance.
    pub first_death: Option<Death>,
    /// Changes in the input.
    pub changes: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Partitions.
    pub partitions: u64,
    /// Buckets of each.
    pub buckets: u64,
    /// Rows between two checkpoints, at least; at most half as many more.
    pub checkpoint_rows: u64,
    /// The longest way to the server, and back.
    pub delay_ms: u64,
    /// Hours after which the service may drop a session.
    pub lifecycle_hours: u64,
}

impl Plan {
    /// The plan that the seed draws.
    pub fn of(seed: u64, subject: Subject) -> Self {
        let chance = Chance::new(seed, 1);
        let promise = Promise::draw(&chance);
        let mut faults = Faults::draw(&chance, &Chance::new(seed, 9));
        for fault in excluded(promise, &faults) {
            faults.set(fault, 0);
        }
        let buckets = chance.one_of(&[2, 2, 2, 4, 4, 8]);
        Self {
            seed,
            subject,
            promise,
            faults,
            ignored_sync: None,
            server_dies_at_sync: None,
            first_death: None,
            changes: 5_000 + chance.below(6_000),
            keys: 20 + chance.below(180),
            partitions: 2 + chance.below(2),
            buckets,
            checkpoint_rows: 50 + chance.below(5),
            delay_ms: 1 + chance.below(40),
            // A session whose creation got no answer is in the way for so long.
            lifecycle_hours: if promise.one_session { 1 } else { chance.one_of(&[1, 2, 24]) },
        }
    }
}

/// The faults that a promise does not cover, or that would break an assumption about the service.
fn excluded(promise: Promise, faults: &Faults) -> Vec<Fault> {
    let mut excluded = Vec::new();
    if promise.at_least_once {
        // The lease is what keeps a second attempt away.
        excluded.push(Fault::SplitBrain);
    }
    if promise.one_session {
        // It is refused there.
        excluded.push(Fault::Savepoint);
    }
    if faults.rate(Fault::Tokens) > 0 {
        // To a host whose clock is hours ahead every key of minutes has expired.
        excluded.push(Fault::SinkClock);
    }
    if faults.rate(Fault::Forgotten) > 0 {
        // A session that is dropped before its time and then forgotten looks like a committed one.
        excluded.push(Fault::Expired);
    }
    excluded
}

/// All that happened, in order: as one number, and as lines for whoever looks for a fault.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Mutex<Noted>>);

#[derive(Debug)]
struct Noted {
    hash: u64,
    lines: Option<String>,
}

impl Trace {
    /// An empty trace, which keeps its lines or only their hash.
    pub fn new(keep: bool) -> Self {
        let lines = keep.then(String::new);
        Self(Arc::new(Mutex::new(Noted { hash: 0xCBF2_9CE4_8422_2325, lines })))
    }

    /// Adds one line.
    pub(crate) fn note(&self, now_ms: u64, what: &str) {
        let mut noted = self.0.lock().expect("no holder panics");
        for byte in now_ms.to_le_bytes().iter().chain(what.as_bytes()) {
            noted.hash = (noted.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if let Some(lines) = &mut noted.lines {
            writeln!(lines, "{now_ms} {what}").expect("a string takes all that is written");
        }
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.0.lock().expect("no holder panics").hash
    }

    /// The lines that were kept.
    pub fn lines(&self) -> String {
        self.0.lock().expect("no holder panics").lines.clone().unwrap_or_default()
    }
}
