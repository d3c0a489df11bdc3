//! How attempts begin: from nothing, from a checkpoint, from an older one, with more or fewer
//! writers.
//!
//! Invariant: a new attempt knows of the one before what the engine restores and what the journal
//! holds, nothing else.

use crate::engine::Retained;
use crate::message::{Blob, Effect, Input, Journalled, JournalledAs, Op, Opening, Role};
use crate::plan::Rule;
use crate::step::Queue;
use crate::world::{Flight, Loose, Model, Owner, Sink, World};

/// Which checkpoint is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The newest completed one; nothing if there is none.
    Newest,
    /// The one before it.
    Older,
    /// The intermediate savepoint.
    Savepoint,
}

/// How many writers there are, and who takes up which state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One writer for both buckets.
    One,
    /// A writer for each bucket.
    Two,
    /// The same, but each takes up the state of the other.
    TwoSwapped,
}

impl World {
    /// The appends under way.
    pub(crate) fn appends(&self) -> Vec<Journalled> {
        let record = |flight: &Flight| match flight.op {
            Op::Append(record) => Some(record),
            _ => None,
        };
        self.flights.iter().filter_map(record).collect()
    }
}

impl Model {
    /// Ends the attempt and begins another. The bits of `durable` are the appends under way that
    /// are durable, in their order; nobody has learned of it.
    pub(crate) fn restart(
        &self,
        world: &mut World,
        late: Option<u8>,
        durable: u8,
        from: From,
        shape: Shape,
    ) {
        if world.sink.is_some() {
            world.left.crashes -= 1;
        } else {
            world.left.failures -= 1;
        }
        if let Some(at) = late {
            let flight = world.flights[at as usize];
            self.pay(world, flight.op);
            let (start, owner, op) = (world.start, flight.owner, flight.op);
            world.late.push(Loose { start, owner, op });
            world.late.sort_unstable();
        }
        for (_, record) in (0..).zip(world.appends()).filter(|(at, _)| durable >> at & 1 == 1) {
            world.journal(record);
        }
        if self.plan.is_off(Rule::LeaseStopsTheStart) && world.sink.is_some() {
            world.leave_alive();
        }
        world.end_attempt();
        world.flights.clear();
        world.stopped = false;
        match from {
            From::Newest => {}
            From::Older => {
                world.left.older -= 1;
                world.engine.retained.pop();
                self.go_back(world);
            }
            From::Savepoint => {
                world.left.older -= 1;
                let savepoint = world.engine.savepoint.take().expect("it is listed");
                world.ghost.bound = world.ghost.bound.max(savepoint.offset);
                world.engine.retained = vec![savepoint];
                self.go_back(world);
            }
        }
        let offset = world.engine.retained.last().map_or(0, |restored| restored.offset);
        let savepoint = world.engine.savepoint.as_ref();
        world.ghost.left = savepoint.is_some_and(|savepoint| savepoint.offset > offset);
        let parallelism = if shape == Shape::One { 1 } else { 2 };
        self.launch(world, parallelism, shape == Shape::TwoSwapped);
    }

    fn go_back(&self, world: &mut World) {
        world.ghost.catching_up = true;
        world.ghost.went_back = true;
    }

    /// Begins an attempt from the newest retained checkpoint.
    pub(crate) fn launch(&self, world: &mut World, parallelism: u8, swapped: bool) {
        world.launch += 1;
        world.start += 1;
        let restored = world.engine.retained.last().cloned();
        if self.plan.is_off(Rule::IdentityOutsideState) && restored.is_none() {
            (world.start, world.journal) = (1, Vec::new());
        }
        world.engine.restart(parallelism);
        world.ghost.passed = [0; 2];
        let mut states = vec![Vec::new(); parallelism.into()];
        if let Some(Retained { states: held, .. }) = &restored {
            let mut held: Vec<Blob> = held.clone();
            if swapped {
                held.reverse();
            }
            for (at, state) in held.into_iter().enumerate() {
                let state = self.restorable(state);
                states[at % parallelism as usize].push(state);
            }
        }
        let (start, launch) = (world.start, world.launch);
        let open =
            |role| self.machines.open(&Opening { role, start, launch, parallelism }, world.now());
        let coordinator = open(Role::Coordinator(self.predecessors(world)));
        let committer = open(Role::Committer(world.journal.clone()));
        let writers: Vec<_> =
            (0..).zip(states).map(|(at, states)| open(Role::Writer(at, states))).collect();
        world.sink = Some(Sink {
            writers: writers.iter().map(|stepped| stepped.next).collect(),
            coordinator: coordinator.next,
            committer: committer.next,
        });
        self.begin(
            world,
            restored.as_ref(),
            &writers.iter().map(|it| &*it.effects).collect::<Vec<_>>(),
        );
    }

    /// Hands what the writers restored to the committer, and lets them report.
    fn begin(&self, world: &mut World, restored: Option<&Retained>, effects: &[&[Effect]]) {
        let mut held = Vec::new();
        let mut queue = Queue::new();
        for (writer, effects) in (0..).zip(effects) {
            for effect in *effects {
                match effect {
                    Effect::Restored(committables) => held.extend(committables.iter().copied()),
                    effect => self.effect(world, Owner::Writer(writer), effect, &mut queue),
                }
            }
        }
        held.retain(|blob| !self.is_forgotten(world, *blob));
        let sessions = held.iter().map(|blob| self.machines.committable(*blob).0);
        world.ghost.restored = sessions.fold(0, |bits, number| bits | 1 << number);
        if let Some(Retained { id, .. }) = restored {
            let prepared = Input::Prepared(*id, held);
            let completed = Input::Ended(*id, true);
            // The committer learns of it before any writer reports, or after: both are answered.
            queue.push_front((Owner::Committer, completed));
            queue.push_front((Owner::Committer, prepared));
        }
        self.settle(world, queue);
    }

    /// The earlier starts' sessions, as the coordinator receives them.
    fn predecessors(&self, world: &World) -> Vec<Journalled> {
        let mut journal = world.journal.clone();
        if self.plan.is_off(Rule::PredecessorsAreAborted) {
            journal.retain(|held| held.2 == JournalledAs::Committed);
        }
        journal
    }
}
