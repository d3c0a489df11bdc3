//! The actions that may happen next: every choice there is, as one list.
//!
//! Invariant: an action is listed exactly if it can be carried out, and faults only as often as the
//! plan's bounds allow.

use crate::engine::Next;
use crate::message::{JournalledAs, Op};
use crate::plan::{Assumption, Rule};
use crate::restart::{From, Shape};
use crate::world::{Flight, Model, Owner, World};

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A barrier is begun at an offset of the input; true for an intermediate savepoint.
    Begin(u8, bool),
    /// A writer takes a row.
    Row(u8),
    /// A barrier reaches a writer.
    Barrier(u8),
    /// A checkpoint completes, and all are told.
    Complete(u8),
    /// A checkpoint completes, and nobody is told.
    CompleteUnheard(u8),
    /// An intermediate savepoint is durable.
    Save(u8),
    /// A barrier is given up, or its checkpoint aborted.
    GiveUp(u8),
    /// A request is carried out and answered.
    Answer(Owner, u8, Op),
    /// The same, and somebody on the way repeats it later.
    AnswerAndRepeat(Owner, u8, Op),
    /// A request gets no answer; it may come later.
    Doubt(Owner, u8, Op),
    /// An append takes its time.
    Linger(Owner, u8, Op),
    /// A request of which nobody hears comes now, of those that may come late.
    Late(u8, Op),
    /// The same, of those that come for certain.
    Loose(u8, Op),
    /// A message arrives.
    Letter(u8),
    /// A message is lost.
    LoseLetter(u8),
    /// A message will come once more.
    RepeatLetter(u8),
    /// The attempt is killed, or was over, and another begins: one request may still come, and of
    /// the appends under way these were durable, as bits.
    Restart(Option<u8>, u8, From, Shape),
    /// One writer is started again by itself.
    RestartWriter(u8),
    /// The other live attempt goes on, for a rule that is off.
    Turn,
    /// Hours pass.
    Wait(u8),
    /// The service drops a session.
    Drop(u8),
}

/// The kinds of action, in words.
pub(crate) const KINDS: [&str; 16] = [
    "a barrier begins, and is passed",
    "a checkpoint completes",
    "a notice is lost",
    "a savepoint is taken",
    "a checkpoint is aborted",
    "a request is answered",
    "a request gets no answer",
    "a request comes late",
    "a message arrives",
    "a message is lost",
    "a message is repeated",
    "an attempt begins",
    "an older checkpoint is restored",
    "hours pass",
    "a session is dropped",
    "an append takes its time",
];

impl Action {
    /// Its kind; none for an action that only happens while a rule is off.
    pub(crate) fn kind(self) -> Option<usize> {
        Some(match self {
            Self::Begin(..) | Self::Barrier(_) | Self::Row(_) => 0,
            Self::Complete(_) => 1,
            Self::CompleteUnheard(_) => 2,
            Self::Save(_) => 3,
            Self::GiveUp(_) => 4,
            Self::Answer(..) => 5,
            Self::Doubt(..) => 6,
            Self::Late(..) => 7,
            Self::Letter(_) => 8,
            Self::LoseLetter(_) => 9,
            Self::RepeatLetter(_) => 10,
            Self::Restart(_, _, From::Newest, _) => 11,
            Self::Restart(_, _, From::Older | From::Savepoint, _) => 12,
            Self::Wait(_) => 13,
            Self::Drop(_) => 14,
            Self::Linger(..) => 15,
            Self::AnswerAndRepeat(..) | Self::Loose(..) | Self::RestartWriter(_) | Self::Turn => {
                return None;
            }
        })
    }
}

impl Model {
    /// All that may happen.
    pub(crate) fn list_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.is_over() {
            return;
        }
        // An append is answered at once, or not before the attempt is over.
        if let Some(append) = world.flights.iter().find(|flight| !flight.takes_time) {
            let Flight { owner, ticket, op, .. } = *append;
            actions.push(Action::Answer(owner, ticket, op));
            if world.left.slow_appends > 0 {
                actions.push(Action::Linger(owner, ticket, op));
            }
            return self.list_restarts(world, actions);
        }
        for (at, loose) in (0..).zip(&world.late) {
            actions.push(Action::Late(at, loose.op));
        }
        for (at, loose) in (0..).zip(&world.loose) {
            actions.push(Action::Loose(at, loose.op));
        }
        self.list_restarts(world, actions);
        if world.other.is_some() {
            actions.push(Action::Turn);
        }
        for number in 0..world.tunnel.sessions.len() as u8 {
            if world.left.dropped > 0 && world.tunnel.may_drop(&self.plan, number, world.hour) {
                actions.push(Action::Drop(number));
            }
        }
        if world.sink.is_none() {
            return;
        }
        if world.left.waits > 0 {
            actions.extend([Action::Wait(2), Action::Wait(24)]);
        }
        self.list_engine(world, actions);
        for flight in &world.flights {
            self.list_flight(world, flight, actions);
        }
        for at in 0..world.letters.len() as u8 {
            actions.push(Action::Letter(at));
            if world.left.lost_letters > 0 {
                actions.push(Action::LoseLetter(at));
            }
            if world.left.repeated_letters > 0 {
                actions.push(Action::RepeatLetter(at));
            }
        }
    }

    fn list_engine(&self, world: &World, actions: &mut Vec<Action>) {
        let engine = &world.engine;
        for writer in 0..engine.parallelism {
            let accepting = self.facts(world, Owner::Writer(writer)).is_some_and(|it| it.accepting);
            match engine.next(writer, &self.plan) {
                Next::Barrier(..) if accepting => actions.push(Action::Barrier(writer)),
                Next::Row(_) if accepting => actions.push(Action::Row(writer)),
                Next::Barrier(..) | Next::Nothing | Next::Row(_) => {}
            }
            // A state of this very start is refused: there must be none yet.
            let alone =
                self.plan.is_off(Rule::WritersRestartTogether) && engine.retained.is_empty();
            if alone && world.left.crashes > 0 {
                actions.push(Action::RestartWriter(writer));
            }
        }
        if world.left.checkpoints > 0 && engine.open.len() < self.plan.in_flight as usize {
            for offset in self.offsets(world) {
                actions.push(Action::Begin(offset, false));
                if world.left.savepoints > 0 {
                    actions.push(Action::Begin(offset, true));
                }
            }
        }
        for barrier in &engine.open {
            let prepared = barrier.is_prepared();
            if world.left.aborted > 0 {
                actions.push(Action::GiveUp(barrier.id));
            }
            // For a rule that is off: what was acknowledged too early has to come first.
            if !prepared || !world.loose.iter().all(|loose| !matches!(loose.op, Op::Put { .. })) {
                continue;
            }
            if barrier.savepoint {
                actions.push(Action::Save(barrier.id));
                continue;
            }
            actions.push(Action::Complete(barrier.id));
            if world.left.lost_notices > 0 {
                actions.push(Action::CompleteUnheard(barrier.id));
            }
        }
    }

    fn list_flight(&self, world: &World, flight: &Flight, actions: &mut Vec<Action>) {
        let Flight { owner, ticket, op, under_way, .. } = *flight;
        assert!(under_way, "what is put off is repeated at once");
        actions.push(Action::Answer(owner, ticket, op));
        let left = match op {
            Op::Put { .. } => world.left.late_packs,
            Op::Commit(_) => world.left.late_commits,
            Op::Abort(_) | Op::Create | Op::Status(_) => world.left.late_others,
            Op::Append(_) => 0,
        };
        if left > 0 {
            actions.push(Action::Doubt(owner, ticket, op));
            if self.plan.is_broken(Assumption::NobodyRepeatsPacks) && matches!(op, Op::Put { .. }) {
                actions.push(Action::AnswerAndRepeat(owner, ticket, op));
            }
        }
    }

    /// Which of the appends under way may be durable when an attempt is killed, as bits: any, or
    /// none. Where a second session is refused, one that no journal has would be in the way until
    /// it expires; a script and the simulation have those.
    fn durable(&self, world: &World) -> Vec<u8> {
        let appends = world.appends();
        let needed = (0..)
            .zip(&appends)
            .filter(|(_, record)| self.plan.one_session && record.2 == JournalledAs::Open);
        let needed = needed.fold(0, |bits: u8, (at, _)| bits | 1 << at);
        (0..1 << appends.len()).filter(|bits| bits & needed == needed).collect()
    }

    fn list_restarts(&self, world: &World, actions: &mut Vec<Action>) {
        let left = if world.sink.is_some() { world.left.crashes } else { world.left.failures };
        if left == 0 {
            return;
        }
        let mut late = vec![None];
        for (at, flight) in (0..).zip(&world.flights) {
            let left = match flight.op {
                Op::Put { .. } => world.left.late_packs,
                Op::Commit(_) => world.left.late_commits,
                Op::Abort(_) | Op::Create => world.left.late_others,
                Op::Append(_) | Op::Status(_) => 0,
            };
            if left > 0 {
                late.push(Some(at));
            }
        }
        let mut sources = Vec::new();
        if !world.stopped {
            sources.push(From::Newest);
        }
        let one_before = world.engine.retained.len() == 2
            || (world.engine.retained.len() == 1 && !world.engine.more);
        if world.left.older > 0 && one_before {
            sources.push(From::Older);
        }
        if world.left.older > 0 && world.engine.savepoint.is_some() {
            sources.push(From::Savepoint);
        }
        let shapes: &[Shape] = match self.plan.rescale {
            true => &[Shape::Two, Shape::One, Shape::TwoSwapped],
            false => &[Shape::Two],
        };
        for late in late {
            for durable in self.durable(world) {
                for source in &sources {
                    let restart = |shape: &Shape| Action::Restart(late, durable, *source, *shape);
                    actions.extend(shapes.iter().map(restart));
                }
            }
        }
    }
}
