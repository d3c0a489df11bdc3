//! One simulated world: its seed, what the seed draws, its trace.
//!
//! Under every other file of the suite. Invariant: nothing in a world comes from outside but its
//! seed.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

/// Random numbers that are the same for the same seed (SplitMix64).
#[derive(Debug)]
pub struct Chance(Mutex<u64>);

impl Chance {
    /// Numbers of a seed, apart from those of other purposes.
    pub fn new(seed: u64, purpose: u64) -> Self {
        Self(Mutex::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ purpose))
    }

    /// The next number.
    pub fn draw(&self) -> u64 {
        let mut state = self.0.lock().expect("no holder panics");
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// Whether something of so many in a hundred happens.
    pub fn happens(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What can go wrong in one world. Each seed draws which faults there are, and how often: a world
/// with few of them gets far, one with many gets deep.
#[derive(Clone, Debug)]
pub struct Faults {
    /// In a hundred requests: refused before the first byte.
    pub refused: u64,
    /// In a hundred requests: lost on the way there.
    pub lost: u64,
    /// In a hundred requests: carried out, but the reply is lost.
    pub unanswered: u64,
    /// In a hundred requests: given up by the sender, and carried out later.
    pub late: u64,
    /// The longest way there and back.
    pub delay_ms: u64,
    /// In a hundred checkpoints: aborted after the sink has passed its barrier.
    pub aborted: u64,
    /// How often the sink is killed.
    pub kills: u64,
    /// How often the server is killed.
    pub server_kills: u64,
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

/// What one seed stands for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Changes in the input.
    pub events: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Writers of the sink.
    pub writers: u64,
    /// Rows between two checkpoints, at most.
    pub checkpoint_rows: u64,
}

impl Plan {
    /// What the seed draws.
    pub fn of(seed: u64) -> Self {
        let chance = Chance::new(seed, 1);
        Self {
            seed,
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
pub struct Trace {
    state: Mutex<(u64, String)>,
    keep: bool,
}

impl Trace {
    /// An empty trace; it keeps its lines if `SIMULATION_TRACE` is set.
    pub fn new() -> Arc<Self> {
        let keep = std::env::var_os("SIMULATION_TRACE").is_some();
        Arc::new(Self { state: Mutex::new((0xCBF2_9CE4_8422_2325, String::new())), keep })
    }

    /// Adds one line.
    pub fn note(&self, now_ms: u64, what: &str) {
        let mut state = self.state.lock().expect("no holder panics");
        for byte in now_ms.to_le_bytes().iter().chain(what.as_bytes()) {
            state.0 = (state.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
        if self.keep {
            writeln!(state.1, "{now_ms} {what}").expect("a string takes all that is written");
        }
    }

    /// The number.
    pub fn hash(&self) -> u64 {
        self.state.lock().expect("no holder panics").0
    }

    /// The lines that were kept.
    pub fn lines(&self) -> String {
        self.state.lock().expect("no holder panics").1.clone()
    }
}
