//! One simulated world: its seed, what the seed draws, its trace.
//!
//! Under every other file of the suite. Invariant: nothing in a world comes from outside but its
//! seed.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub(crate) struct Chance(Mutex<u64>);

impl Chance {
    /// Numbers of a seed, apart from those of other purposes.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ purpose))
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
}

/// What can go wrong in one world. Each seed draws which faults there are, and how often: a world
/// with few of them gets far, one with many gets deep.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// In a hundred requests: refused before the first byte.
    pub(crate) refused: u64,
    /// In a hundred requests: lost on the way there.
    pub(crate) lost: u64,
    /// In a hundred requests: carried out, but the reply is lost.
    pub(crate) unanswered: u64,
    /// In a hundred requests: given up by the sender, and carried out later.
    pub(crate) late: u64,
    /// The longest way there and back.
    pub(crate) delay_ms: u64,
    /// In a hundred checkpoints: aborted after the sink has passed its barrier.
    pub(crate) aborted: u64,
    /// How often the sink is killed.
    pub(crate) kills: u64,
    /// How often the server is killed.
    pub(crate) server_kills: u64,
}

impl Faults {
    fn draw(chance: &Chance) -> Self {
        let rate = |highest: u64| if chance.happens(60) { chance.below(highest + 1) } else { 0 };
        Self {
            refused: rate(10),
            lost: rate(6),
            unanswered: rate(6),
            late: rate(6),
            delay_ms: 1 + chance.below(40),
            aborted: rate(30),
            kills: chance.below(4),
            server_kills: chance.below(3),
        }
    }
}

/// How often each kind of fault happened, so that a suite in which one of them never happens fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests refused before the first byte.
    pub(crate) refused: u64,
    /// Requests lost on the way there.
    pub(crate) lost: u64,
    /// Requests carried out without an answer.
    pub(crate) unanswered: u64,
    /// Requests given up, and carried out later.
    pub(crate) late: u64,
    /// Checkpoints aborted.
    pub(crate) aborted: u64,
    /// Deaths of the sink.
    pub(crate) kills: u64,
    /// Deaths of the server.
    pub(crate) server_kills: u64,
}

impl Tally {
    /// Adds what happened in another world.
    pub(crate) fn add(&mut self, other: &Self) {
        self.refused += other.refused;
        self.lost += other.lost;
        self.unanswered += other.unanswered;
        self.late += other.late;
        self.aborted += other.aborted;
        self.kills += other.kills;
        self.server_kills += other.server_kills;
    }

    /// Whether everything happened.
    pub(crate) fn is_complete(&self) -> bool {
        let requests = [self.refused, self.lost, self.unanswered, self.late];
        let rest = [self.aborted, self.kills, self.server_kills];
        requests.iter().chain(&rest).all(|count| *count > 0)
    }
}

/// What a world is to show. Its number is the upper half of a seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Promise {
    /// `sink.delivery-guarantee` = at-least-once.
    pub(crate) at_least_once: bool,
    /// The server refuses a second open session of a partition, and `sink.session.overlap` = false.
    pub(crate) one_session: bool,
    /// `sink.key.scope` = table, and rows move between partitions.
    pub(crate) moves: bool,
}

impl Promise {
    /// How many there are.
    pub(crate) const COUNT: u64 = 6;

    fn of(number: u64) -> Self {
        let (at_least_once, one_session, moves) = match number % Self::COUNT {
            0 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            4 => (false, false, true),
            _ => (false, true, true),
        };
        Self { at_least_once, one_session, moves }
    }

    /// How often the table is looked at while a checkpoint is being committed.
    pub(crate) fn looks(self) -> u64 {
        if self.moves { 3 } else { 0 }
    }
}

/// What one seed stands for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The seed.
    pub(crate) seed: u64,
    /// What it is to show.
    pub(crate) promise: Promise,
    /// What goes wrong.
    pub(crate) faults: Faults,
    /// Changes in the input.
    pub(crate) events: u64,
    /// Distinct keys.
    pub(crate) keys: u64,
    /// Writers of the sink.
    pub(crate) writers: u64,
    /// Rows between two checkpoints, at most.
    pub(crate) checkpoint_rows: u64,
}

impl Plan {
    /// What the seed draws.
    pub(crate) fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, 1);
        Self {
            seed,
            promise: Promise::of(seed >> 32),
            faults: Faults::draw(&chance),
            events: 300 + chance.below(500),
            keys: 8 + chance.below(60),
            writers: 1 + chance.below(4),
            checkpoint_rows: 20 + chance.below(120),
        }
    }
}

/// All that happened, in order: as one number, and as lines for whoever looks for a fault.
#[derive(Debug)]
pub(crate) struct Trace {
    state: Mutex<(u64, String)>,
    keep: bool,
}

impl Trace {
    /// An empty trace; it keeps its lines if `SIMULATION_TRACE` is set.
    pub(crate) fn new() -> Arc<Self> {
        let keep = std::env::var_os("SIMULATION_TRACE").is_some();
        Arc::new(Self { state: Mutex::new((0xCBF2_9CE4_8422_2325, String::new())), keep })
    }

    /// Adds one line.
    pub(crate) fn note(&self, now_ms: u64, what: &str) {
        let mut state = self.state.lock().expect("no holder panics");
        for byte in now_ms.to_le_bytes().iter().chain(what.as_bytes()) {
            state.0 = (state.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.keep {
            writeln!(state.1, "{now_ms} {what}").expect("a string takes all that is written");
        }
    }

    /// The number.
    pub(crate) fn hash(&self) -> u64 {
        self.state.lock().expect("no holder panics").0
    }

    /// The lines that were kept.
    pub(crate) fn lines(&self) -> String {
        self.state.lock().expect("no holder panics").1.clone()
    }
}
