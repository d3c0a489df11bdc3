//! One action, carried out: what it does to the machines, and all that follows at once.
//!
//! Unless the plan says that letters take their time, messages between the machines arrive at once;
//! a request that was put off is repeated at once. Invariant: machines are told what design §4 says
//! they may be told, in that order; where a rule is off, `rule` deviates, never the machine.

use std::collections::VecDeque;

use crate::action::Action;
use crate::engine::Next;
use crate::message::{Answered, Blob, Effect, Failure, Input, JournalledAs, Op};
use crate::plan::Rule;
use crate::promise::Promise;
use crate::tunnel::{Asker, Done, Fate};
use crate::world::{Flight, Letter, Loose, Model, Owner, World};

/// The inputs that machines are about to receive, in order.
pub(crate) type Queue = VecDeque<(Owner, Input)>;

impl Model {
    /// Carries an action out.
    pub(crate) fn carry_out(&self, world: &mut World, action: Action) {
        match action {
            Action::Begin(offset, savepoint) => {
                world.left.checkpoints -= 1;
                world.left.savepoints -= u8::from(savepoint);
                world.engine.begin(offset, savepoint);
            }
            Action::Row(writer) | Action::Barrier(writer) => self.next(world, writer),
            Action::Complete(id) => self.complete(world, id),
            Action::CompleteUnheard(id) => {
                world.left.lost_notices -= 1;
                self.completed(world, id);
            }
            Action::Save(id) => world.engine.save(id),
            Action::GiveUp(id) => self.give_up(world, id),
            Action::Answer(owner, ticket, op) => self.answer(world, owner, ticket, op),
            Action::AnswerAndRepeat(owner, ticket, op) => {
                self.pay(world, op);
                self.send_late(world, owner, op);
                self.answer(world, owner, ticket, op);
            }
            Action::Doubt(owner, ticket, op) => self.doubt(world, owner, ticket, op),
            Action::Linger(owner, ticket, _) => {
                world.left.slow_appends -= 1;
                flight(world, owner, ticket).expect("it is listed").takes_time = true;
            }
            Action::Late(at, _) => {
                let loose = world.late.remove(at as usize);
                self.unheard(world, loose);
            }
            Action::Loose(at, _) => {
                let loose = world.loose.remove(at as usize);
                self.unheard(world, loose);
            }
            Action::Letter(at) => {
                let letter = world.letters.remove(at as usize);
                self.deliver(world, letter);
            }
            Action::LoseLetter(at) => self.lose_letter(world, at),
            Action::RepeatLetter(at) => {
                world.left.repeated_letters -= 1;
                world.letters.push(world.letters[at as usize]);
                world.letters.sort_unstable();
            }
            Action::Restart(late, durable, from, shape) => {
                self.restart(world, late, durable, from, shape);
            }
            Action::RestartWriter(writer) => self.restart_writer(world, writer),
            Action::Turn => world.turn(),
            Action::Wait(hours) => {
                world.left.waits -= 1;
                world.hour += hours;
            }
            Action::Drop(number) => {
                world.left.dropped -= 1;
                world.tunnel.drop_session(number);
            }
        }
    }

    fn next(&self, world: &mut World, writer: u8) {
        let at = writer as usize;
        let input = match world.engine.next(writer, &self.plan) {
            Next::Row(position) => {
                world.engine.taken[at] = position + 1;
                let (key, full) = (self.plan.log[position as usize], self.plan.full);
                Input::Row { key, position, full }
            }
            Next::Barrier(id, savepoint) => {
                world.engine.given[at] = id;
                Input::Barrier(id, savepoint)
            }
            Next::Nothing => unreachable!("it is listed only if there is something"),
        };
        self.settle(world, Queue::from([(Owner::Writer(writer), input)]));
    }

    fn completed(&self, world: &mut World, id: u8) {
        let keep = if self.plan.is_off(Rule::TwoAreRetained) { 1 } else { 2 };
        world.engine.complete(id, keep);
        let offset = world.engine.retained.last().map_or(0, |last| last.offset);
        world.ghost.bound = world.ghost.bound.max(offset);
    }

    fn complete(&self, world: &mut World, id: u8) {
        let told = self.told_complete(world, id);
        let held = world.engine.barrier(id).map(|barrier| barrier.committables());
        self.completed(world, id);
        let mut queue = Queue::new();
        if self.plan.is_off(Rule::AbortedWaitsForTheNext) {
            let held = held.iter().flatten().copied();
            let held = held.filter(|blob| !self.is_forgotten(world, *blob)).collect();
            queue.push_back((Owner::Committer, Input::Prepared(id, held)));
        }
        queue.push_back((Owner::Committer, Input::Ended(told, true)));
        self.tell_writers(world, id, true, &mut queue);
        self.settle(world, queue);
        self.send_all_commits(world, &held.unwrap_or_default());
    }

    fn give_up(&self, world: &mut World, id: u8) {
        world.left.aborted -= 1;
        self.forget_aborted(world, id);
        world.engine.give_up(id);
        let mut queue = Queue::from([(Owner::Committer, Input::Ended(id, false))]);
        self.tell_writers(world, id, false, &mut queue);
        self.settle(world, queue);
    }

    pub(crate) fn tell_writers(&self, world: &World, id: u8, completed: bool, queue: &mut Queue) {
        for writer in 0..world.engine.parallelism {
            queue.push_back((Owner::Writer(writer), Input::Ended(id, completed)));
        }
    }

    /// Counts a fault against the bounds.
    pub(crate) fn pay(&self, world: &mut World, op: Op) {
        match op {
            Op::Put { .. } => world.left.late_packs -= 1,
            Op::Commit(_) => world.left.late_commits -= 1,
            Op::Abort(_) | Op::Create | Op::Status(_) => world.left.late_others -= 1,
            Op::Append(_) => unreachable!("the journal always answers"),
        }
    }

    pub(crate) fn send_late(&self, world: &mut World, owner: Owner, op: Op) {
        world.late.push(Loose { start: world.start, owner, op });
        world.late.sort_unstable();
    }

    fn answer(&self, world: &mut World, owner: Owner, ticket: u8, op: Op) {
        if let Op::Append(record) = op {
            world.journal(record);
            world.flights.retain(|held| (held.owner, held.ticket) != (owner, ticket));
            let durable = Input::Completed(ticket, Answered::Done);
            return self.settle(world, Queue::from([(owner, durable)]));
        }
        let answered = self.apply(world, Loose { start: world.start, owner, op });
        let answered = self.judged(op, answered);
        self.tell_outcome(world, owner, ticket, answered);
    }

    fn doubt(&self, world: &mut World, owner: Owner, ticket: u8, op: Op) {
        self.pay(world, op);
        self.send_late(world, owner, op);
        if let Some(answered) = self.doubted(op) {
            self.tell_outcome(world, owner, ticket, answered);
        }
    }

    /// A machine learns of an outcome; if it puts the request off, that time passes at once.
    pub(crate) fn tell_outcome(
        &self,
        world: &mut World,
        owner: Owner,
        ticket: u8,
        answered: Answered,
    ) {
        if let Some(flight) = flight(world, owner, ticket) {
            flight.under_way = false;
        }
        self.settle(world, Queue::from([(owner, Input::Completed(ticket, answered))]));
        let put_off = flight(world, owner, ticket).is_some_and(|flight| !flight.under_way);
        if put_off && let Some(facts) = self.facts(world, owner) {
            let deadline = facts.deadline.expect("what is put off has a deadline");
            self.settle_at(world, deadline, Queue::from([(owner, Input::Timer)]));
        }
    }

    /// Carries a request out of which nobody hears.
    fn unheard(&self, world: &mut World, loose: Loose) {
        let answered = self.apply(world, loose);
        if loose.start == world.start {
            self.acknowledge_another(world, loose, answered);
        }
    }

    /// Carries a request out, and looks at what it did.
    pub(crate) fn apply(&self, world: &mut World, loose: Loose) -> Answered {
        let writer = if let Owner::Writer(index) = loose.owner { index } else { 0 };
        let asker = Asker { start: loose.start, writer, hour: world.hour };
        let (answered, done) = world.tunnel.apply(&self.plan, loose.op, asker);
        self.look_at_effect(world, loose, &done);
        answered
    }

    fn look_at_effect(&self, world: &mut World, loose: Loose, done: &Done) {
        if done.two_writers {
            self.breaks(world, Promise::Owner);
        }
        if done.second_session {
            self.breaks(world, Promise::Unexpected);
        }
        let serving = self.facts(world, Owner::Coordinator).is_some_and(|facts| facts.serving);
        let session = match loose.op {
            Op::Commit(number) | Op::Put { session: number, .. } => number,
            Op::Abort(_) | Op::Append(_) | Op::Create | Op::Status(_) => return,
        };
        if matches!(loose.op, Op::Put { .. }) {
            self.look_at_journal(world, world.tunnel.sessions[session as usize].recorded);
        }
        let restored = world.ghost.restored >> session & 1 == 1;
        if loose.start != world.start && serving && !restored && !done.changes.is_empty() {
            self.breaks(world, Promise::Fence);
        }
        if world.ghost.left && loose.start == world.start && !done.changes.is_empty() {
            world.engine.savepoint = None;
        }
        if done.half {
            self.breaks(world, Promise::Whole);
        }
        if matches!(loose.op, Op::Put { .. }) && !done.changes.is_empty() {
            self.breaks(world, Promise::Once);
        }
        if self.plan.at_least_once {
            return;
        }
        for (_, before, now) in &done.changes {
            // A row is known by its position plus one.
            if *now > world.ghost.bound {
                self.breaks(world, Promise::Early);
            }
            if now < before && !world.ghost.catching_up {
                self.breaks(world, Promise::Back);
            }
        }
        if let Some(number) = done.committed
            && let Some(name) = world.tunnel.sessions[number as usize].name
            && !world.ghost.catching_up
        {
            let later = |other: &&crate::tunnel::Session| {
                other.fate == Fate::Committed && other.name.is_some_and(|other| other > name)
            };
            if world.tunnel.sessions.iter().find(later).is_some() {
                self.breaks(world, Promise::Order);
            }
        }
    }

    fn deliver(&self, world: &mut World, letter: Letter) {
        let told = match letter {
            Letter::Known(body) => (Owner::Coordinator, Input::Known(body)),
            Letter::Reply(writer, body) => (Owner::Writer(writer), Input::Replied(body)),
            Letter::Request(writer, body) => (Owner::Coordinator, Input::Requested(writer, body)),
        };
        self.settle(world, Queue::from([told]));
    }

    /// A message is lost: its writer asks again after a while.
    fn lose_letter(&self, world: &mut World, at: u8) {
        world.left.lost_letters -= 1;
        let letter = world.letters.remove(at as usize);
        let (Letter::Request(writer, _) | Letter::Reply(writer, _)) = letter else {
            world.letters.push(letter);
            return;
        };
        let owner = Owner::Writer(writer);
        let Some(deadline) = self.facts(world, owner).and_then(|facts| facts.deadline) else {
            return;
        };
        self.settle_at(world, deadline, Queue::from([(owner, Input::Timer)]));
    }

    /// Tells machines what is queued, and all that follows.
    pub(crate) fn settle(&self, world: &mut World, queue: Queue) {
        self.settle_at(world, world.now(), queue);
    }

    pub(crate) fn settle_at(&self, world: &mut World, now: u64, mut queue: Queue) {
        while let Some((owner, input)) = queue.pop_front() {
            let Some(sink) = &mut world.sink else { return };
            let machine = sink.machine(owner);
            let stepped = self.machines.step(*machine, now, input.clone());
            *machine = stepped.next;
            for effect in &stepped.effects {
                match self.forgets_evidence(&input, effect) {
                    Some(ticket) => {
                        queue.push_back((owner, Input::Completed(ticket, Answered::Done)));
                    }
                    None => self.effect(world, owner, effect, &mut queue),
                }
            }
            if let Some(failure) = &stepped.failure {
                self.look_at_failure(world, failure);
                world.stopped = matches!(failure, Failure::SessionLost(_));
                world.end_attempt();
            }
        }
    }

    pub(crate) fn effect(
        &self,
        world: &mut World,
        owner: Owner,
        effect: &Effect,
        queue: &mut Queue,
    ) {
        match effect {
            Effect::Known(body, sessions) => {
                for number in sessions {
                    if world.tunnel.sessions[*number as usize].fate != Fate::Committed {
                        self.breaks(world, Promise::Guess);
                    } else {
                        let durable = world.is_journalled(*number, &[JournalledAs::Committed]);
                        self.look_at_journal(world, durable);
                    }
                    world.ghost.known |= 1 << number;
                }
                self.send(world, Letter::Known(*body), queue);
            }
            Effect::Release(ticket) => {
                world.flights.retain(|held| (held.owner, held.ticket) != (owner, *ticket));
            }
            Effect::Repeat(ticket) => {
                let held = flight(world, owner, *ticket).expect("a held ticket is repeated");
                assert!(!held.under_way, "one attempt is under way at once");
                held.under_way = true;
            }
            Effect::Reply(writer, body, granted) => {
                for (number, name) in granted {
                    world.tunnel.sessions[*number as usize].name = Some(*name);
                }
                self.send(world, Letter::Reply(*writer, *body), queue);
            }
            Effect::Request(asked) => {
                let Owner::Writer(writer) = owner else { unreachable!("only writers ask") };
                self.report_for_others(world, asked, queue);
                let body = self.grant_at_once(world, writer, asked, queue);
                self.send(world, Letter::Request(writer, body), queue);
            }
            Effect::Restored(_) => unreachable!("only an opened writer restores"),
            Effect::Snapshot(id, state, held) => {
                self.snapshot(world, owner, *id, (*state, held), queue)
            }
            Effect::Submit(ticket, op) => {
                if let Op::Abort(number) = op {
                    let intent = [JournalledAs::Aborting, JournalledAs::Aborted];
                    self.look_at_journal(world, world.is_journalled(*number, &intent));
                }
                let (ticket, op) = (*ticket, *op);
                if world.ghost.left && matches!(op, Op::Commit(_)) {
                    world.engine.savepoint = None;
                }
                if let Op::Append(record) = op
                    && (world.left.crashes, world.left.slow_appends) == (0, 0)
                {
                    // Nothing can happen before it is answered.
                    if self.is_journalled(record) {
                        world.journal(record);
                    }
                    queue.push_back((owner, Input::Completed(ticket, Answered::Done)));
                    return;
                }
                let takes_time = !matches!(op, Op::Append(_));
                world.flights.push(Flight { owner, ticket, op, under_way: true, takes_time });
                world.flights.sort_unstable();
                self.submitted(world, owner, ticket, op, queue);
            }
        }
    }

    fn send(&self, world: &mut World, letter: Letter, queue: &mut Queue) {
        if self.plan.letters {
            world.letters.push(letter);
            world.letters.sort_unstable();
            return;
        }
        queue.push_back(match letter {
            Letter::Known(body) => (Owner::Coordinator, Input::Known(body)),
            Letter::Reply(writer, body) => (Owner::Writer(writer), Input::Replied(body)),
            Letter::Request(writer, body) => (Owner::Coordinator, Input::Requested(writer, body)),
        });
    }

    fn snapshot(
        &self,
        world: &mut World,
        owner: Owner,
        id: u8,
        answer: (Blob, &Vec<Blob>),
        queue: &mut Queue,
    ) {
        let Owner::Writer(writer) = owner else { unreachable!("only writers answer barriers") };
        let (state, held) = self.kept(world, answer.0, answer.1);
        let Some(barrier) = world.engine.answer(id, writer, state, &held) else { return };
        if !self.plan.is_off(Rule::AbortedWaitsForTheNext) {
            let committables = barrier.committables();
            queue.push_back((Owner::Committer, Input::Prepared(id, committables)));
        }
    }
}

/// A request that a machine holds.
pub(crate) fn flight(world: &mut World, owner: Owner, ticket: u8) -> Option<&mut Flight> {
    world.flights.iter_mut().find(|held| (held.owner, held.ticket) == (owner, ticket))
}
