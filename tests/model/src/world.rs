//! One state of everything, and the model that the checker walks.
//!
//! Invariant: equal worlds have equal futures. `Ghost` holds what only the promises look at.

use std::sync::atomic::{AtomicU16, Ordering};

use stateright::Property;

use crate::action::Action;
use crate::engine::Engine;
use crate::machine::{Facts, MachineId, Machines};
use crate::message::{Blob, Journalled, JournalledAs, Name, Op};
use crate::plan::{Bounds, Plan};
use crate::promise::{Promise, properties};
use crate::tunnel::Tunnel;

/// Whose machine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The committer.
    Committer,
    /// The coordinator.
    Coordinator,
    /// The writer of this index.
    Writer(u8),
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sink {
    pub(crate) writers: Vec<MachineId>,
    pub(crate) coordinator: MachineId,
    pub(crate) committer: MachineId,
}

impl Sink {
    pub(crate) fn machine(&mut self, owner: Owner) -> &mut MachineId {
        match owner {
            Owner::Committer => &mut self.committer,
            Owner::Coordinator => &mut self.coordinator,
            Owner::Writer(index) => &mut self.writers[index as usize],
        }
    }
}

/// A request that its machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Flight {
    pub(crate) owner: Owner,
    pub(crate) ticket: u8,
    pub(crate) op: Op,
    /// Whether an attempt is under way; if not, it is put off.
    pub(crate) under_way: bool,
    /// Whether other things may happen while it is under way: always, but for an append.
    pub(crate) takes_time: bool,
}

/// A request on its own: nobody hears its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Loose {
    pub(crate) start: u8,
    pub(crate) owner: Owner,
    pub(crate) op: Op,
}

/// A message between machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Letter {
    Known(Blob),
    Reply(u8, Blob),
    Request(u8, Blob),
}

/// The facts that only the promises need, and the rules that are off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ghost {
    /// The highest offset of a completed checkpoint.
    pub(crate) bound: u8,
    /// Whether an older checkpoint was restored, and the table is not yet at the bound again.
    pub(crate) catching_up: bool,
    /// Whether a checkpoint other than the newest was ever restored.
    pub(crate) went_back: bool,
    /// Whether rows come again that the savepoint already held. Once a commit of them is sent, the
    /// savepoint is of a history that was left: nobody may restore it any more.
    pub(crate) left: bool,
    /// Sessions whose commit the committer has called known, as bits.
    pub(crate) known: u32,
    /// Sessions that the running attempt has restored, as bits.
    pub(crate) restored: u32,
    /// Sessions that were forgotten with an aborted barrier, as bits; for a rule that is off.
    pub(crate) forgotten: u32,
    /// The barriers that the writers reported as passed; for a rule that is off.
    pub(crate) passed: [u8; 2],
    /// Sessions that were created ahead of the last writer; for a rule that is off.
    pub(crate) ahead: Vec<(Name, u8)>,
    /// Promises that are broken, as bits.
    broken: u16,
}

/// An attempt that lives on beside the newer one; for a rule that is off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) sink: Option<Sink>,
    pub(crate) start: u8,
    pub(crate) launch: u8,
    pub(crate) engine: Engine,
    pub(crate) flights: Vec<Flight>,
}

/// One state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub(crate) sink: Option<Sink>,
    /// Whether the attempt that ended stopped for a session that is lost.
    pub(crate) stopped: bool,
    pub(crate) other: Option<Box<Attempt>>,
    pub(crate) start: u8,
    pub(crate) launch: u8,
    /// Hours since the beginning.
    pub(crate) hour: u8,
    pub(crate) engine: Engine,
    pub(crate) flights: Vec<Flight>,
    /// Requests that may come late, or never.
    pub(crate) late: Vec<Loose>,
    /// Requests that come for certain, though nobody waits; for rules that are off.
    pub(crate) loose: Vec<Loose>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) tunnel: Tunnel,
    pub(crate) journal: Vec<Journalled>,
    /// How often things may still happen.
    pub(crate) left: Bounds,
    pub(crate) ghost: Ghost,
}

/// When the model begins: hours since the Unix epoch.
const BEGIN: u64 = 400_000;
const HOUR_MILLIS: u64 = 3_600_000;

impl World {
    /// The machines' time.
    pub(crate) fn now(&self) -> u64 {
        (BEGIN + u64::from(self.hour)) * HOUR_MILLIS
    }

    pub(crate) fn breaks(&mut self, promise: Promise) {
        self.ghost.broken |= 1 << promise as u8;
    }

    /// Whether any promise is broken: nothing follows then.
    pub(crate) fn is_over(&self) -> bool {
        self.ghost.broken != 0
    }

    pub(crate) fn is_broken(&self, promise: Promise) -> bool {
        self.ghost.broken >> promise as u8 & 1 == 1
    }

    /// The visible rows: of each key, the position plus one.
    pub(crate) fn shown(&self) -> Vec<u8> {
        self.tunnel.table.iter().map(|cell| cell.row).collect()
    }

    /// A record is durable, in place of the one before of its session.
    pub(crate) fn journal(&mut self, record: Journalled) {
        self.journal.retain(|held| held.0 != record.0);
        self.journal.push(record);
        self.journal.sort_unstable();
        if record.2 == JournalledAs::Open {
            self.tunnel.sessions[record.0 as usize].recorded = true;
        }
    }

    /// Whether the journal says one of these of a session.
    pub(crate) fn is_journalled(&self, number: u8, states: &[JournalledAs]) -> bool {
        self.journal.iter().any(|held| held.0 == number && states.contains(&held.2))
    }

    /// The attempt is over. Its requests may still be on their way.
    pub(crate) fn end_attempt(&mut self) {
        self.sink = None;
        self.letters.clear();
        self.engine.open.clear();
        self.engine.taken = [0; 2];
        self.engine.given = [0; 2];
    }
}

/// The model: a plan, and the machines that were met.
#[derive(Debug)]
pub struct Model {
    pub(crate) plan: Plan,
    pub(crate) machines: Machines,
    /// Kinds of action that happened, as bits.
    pub(crate) happened: AtomicU16,
    /// Promises whose breach was told, as bits.
    pub(crate) told: AtomicU16,
}

impl Model {
    /// Everything that may happen under a plan.
    pub fn new(plan: Plan) -> Self {
        let machines = Machines::new(plan.clone());
        Self { machines, plan, happened: AtomicU16::new(0), told: AtomicU16::new(0) }
    }

    /// How many states of the machines, and how many steps of them, were met so far.
    pub fn machines_met(&self) -> (usize, usize) {
        self.machines.size()
    }

    /// The facts that a machine of the running attempt reports of itself.
    pub(crate) fn facts(&self, world: &World, owner: Owner) -> Option<Facts> {
        let sink = world.sink.as_ref()?;
        let id = match owner {
            Owner::Committer => sink.committer,
            Owner::Coordinator => sink.coordinator,
            Owner::Writer(index) => sink.writers[index as usize],
        };
        Some(self.machines.facts(id))
    }

    /// Where the next barrier may stand.
    pub(crate) fn offsets(&self, world: &World) -> std::ops::RangeInclusive<u8> {
        let pending = self.facts(world, Owner::Committer).is_some_and(|facts| facts.pending > 0);
        world.engine.offsets(&self.plan, pending)
    }
}

impl stateright::Model for Model {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut world = World {
            sink: None,
            stopped: false,
            other: None,
            start: 0,
            launch: 0,
            hour: 0,
            engine: Engine::default(),
            flights: Vec::new(),
            late: Vec::new(),
            loose: Vec::new(),
            letters: Vec::new(),
            tunnel: Tunnel::default(),
            journal: Vec::new(),
            left: self.plan.bounds,
            ghost: Ghost::default(),
        };
        self.launch(&mut world, 2, false);
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.list_actions(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        if let Some(kind) = action.kind() {
            self.happened.fetch_or(1 << kind, Ordering::Relaxed);
        }
        let mut next = world.clone();
        self.carry_out(&mut next, action);
        self.look(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties()
    }
}
