//! The switches: what happens around the machines when a rule is not kept.
//!
//! The machines are never changed. With all rules on, each function here does what a right host
//! does. Invariant: one rule is off at most, and only what it says is different.

use upsert_sink_core::exchange::{Reply, Request};
use upsert_sink_core::session::{Grant, SessionName};
use upsert_sink_format::id::{CheckpointId, Millis, WriterIndex};
use upsert_sink_format::tunnel::SessionStatus;

use crate::message::{
    Answered, Asked, Blob, Effect, Input, Journalled, JournalledAs, Name, Op, Opening, Role, Status,
};
use crate::plan::Rule;
use crate::step::Queue;
use crate::task::session_info;
use crate::tunnel::Fate;
use crate::world::{Attempt, Loose, Model, Owner, World};

impl Model {
    /// Rule 0: which checkpoint the committer is told of when this one completes.
    pub(crate) fn told_complete(&self, world: &World, id: u8) -> u8 {
        let prepared = world.engine.open.iter().filter(|barrier| barrier.is_prepared());
        match self.plan.is_off(Rule::CompletionCommitsItsOwn) {
            true => prepared.map(|barrier| barrier.id).max().unwrap_or(id),
            false => id,
        }
    }

    /// Rule 0: an aborted barrier leaves its sessions for the next.
    pub(crate) fn forget_aborted(&self, world: &mut World, id: u8) {
        if self.plan.is_off(Rule::AbortedWaitsForTheNext) {
            let barrier = world.engine.barrier(id).expect("it is listed");
            for blob in barrier.committables() {
                world.ghost.forgotten |= 1 << self.machines.committable(blob).0;
            }
        }
    }

    pub(crate) fn is_forgotten(&self, world: &World, committable: Blob) -> bool {
        world.ghost.forgotten >> self.machines.committable(committable).0 & 1 == 1
    }

    /// Rule 0: a session waits for all writers to pass its barrier. Without, somebody in front of
    /// the coordinator creates it at once, grants it, and asks the coordinator for the rest.
    pub(crate) fn grant_at_once(
        &self,
        world: &mut World,
        writer: u8,
        asked: &Asked,
        queue: &mut Queue,
    ) -> Blob {
        if !self.plan.is_off(Rule::AheadWriterWaits) {
            return asked.body;
        }
        world.ghost.passed[writer as usize] = asked.passed;
        let passed_by_all = world.ghost.passed.into_iter().min().unwrap_or_default();
        let mut request =
            Request::from_bytes(&self.machines.bytes(asked.body)).expect("a writer wrote it");
        for name in &asked.wanted {
            let created = world.ghost.ahead.iter().find(|(held, _)| held == name);
            if created.is_none() && name.1 <= passed_by_all {
                continue;
            }
            let number = created.map_or(world.tunnel.sessions.len() as u8, |(_, number)| *number);
            if created.is_none() {
                let (start, owner, op) = (world.start, Owner::Coordinator, Op::Create);
                self.apply(world, Loose { start, owner, op });
                world.journal(Journalled(number, start, JournalledAs::Open));
                world.tunnel.sessions[number as usize].name = Some(*name);
                world.ghost.ahead.push((*name, number));
            }
            request.wanted.retain(|wanted| wanted.barrier.0 != u64::from(name.1));
            let reply = self.granted(world, asked.number, *name, number);
            queue.push_back((Owner::Writer(writer), Input::Replied(reply)));
        }
        self.machines.blob(request.to_bytes())
    }

    fn granted(&self, world: &World, number: u64, name: Name, session: u8) -> Blob {
        let name = SessionName {
            partition: String::new(),
            start: name.0.into(),
            barrier: CheckpointId(name.1.into()),
            rollover: name.2.into(),
        };
        let info = session_info(session, SessionStatus::Normal);
        let grant = Grant { name, created_at: Millis(world.now()), info };
        let (start, nonce) = (world.start.into(), u64::from(world.launch) * 7);
        let reply = Reply { start, nonce, number, granted: vec![grant], known: vec![] };
        self.machines.blob(reply.to_bytes())
    }

    /// Rule 1: the state that a restore finds.
    pub(crate) fn restorable(&self, state: Blob) -> Blob {
        match self.plan.is_off(Rule::CommittedOnRestore) {
            true => self.machines.without(state, u32::MAX),
            false => state,
        }
    }

    /// Rule 1: what a writer still holds of sessions that a completed checkpoint holds.
    pub(crate) fn kept(&self, world: &World, state: Blob, held: &[Blob]) -> (Blob, Vec<Blob>) {
        let last = world.engine.retained.last();
        match last.filter(|_| self.plan.is_off(Rule::KeptUntilKnown)) {
            None => (state, held.to_vec()),
            Some(last) => {
                let number = |blob: &Blob| self.machines.committable(*blob).0;
                let complete = last.committables.iter().map(number);
                let complete = complete.fold(0, |bits: u32, number| bits | 1 << number);
                let kept = held.iter().filter(|blob| complete >> number(blob) & 1 == 0);
                (self.machines.without(state, complete), kept.copied().collect())
            }
        }
    }

    /// Rule 2: without, all commits of a completed checkpoint are sent at once.
    pub(crate) fn send_all_commits(&self, world: &mut World, held: &[Blob]) {
        if !self.plan.is_off(Rule::CommitsAreOrdered) {
            return;
        }
        for blob in held {
            let (number, _) = self.machines.committable(*blob);
            let loose =
                Loose { start: world.start, owner: Owner::Committer, op: Op::Commit(number) };
            if !world.late.contains(&loose) {
                world.late.push(loose);
            }
        }
        world.late.sort_unstable();
    }

    /// Rules 3 and 6: what happens to a request as it is submitted.
    pub(crate) fn submitted(
        &self,
        world: &mut World,
        owner: Owner,
        ticket: u8,
        op: Op,
        queue: &mut Queue,
    ) {
        let early = match op {
            Op::Put { .. } => self.plan.is_off(Rule::OnePackOfABucket),
            Op::Abort(_) => self.plan.is_off(Rule::AbortsAreAwaited),
            Op::Append(_) | Op::Commit(_) | Op::Create | Op::Status(_) => false,
        };
        if let Op::Append(record) = op
            && !self.is_journalled(record)
        {
            world.flights.retain(|held| (held.owner, held.ticket) != (owner, ticket));
            queue.push_back((owner, Input::Completed(ticket, Answered::Done)));
        }
        if early {
            world.loose.push(Loose { start: world.start, owner, op });
            world.loose.sort_unstable();
            queue.push_back((owner, Input::Completed(ticket, Answered::Done)));
        }
        if let Op::Create = op
            && self.plan.is_off(Rule::SessionsAreNamed)
        {
            let open = |held: &crate::tunnel::Session| {
                held.fate == Fate::Open && held.start == world.start
            };
            if let Some(number) = world.tunnel.sessions.iter().position(open) {
                let answered = Answered::Session(number as u8, Status::Normal);
                queue.push_back((owner, Input::Completed(ticket, answered)));
            }
        }
    }

    /// Rule 3: an acknowledgement is of one pack. Without, that of a late copy is taken for the
    /// pack of its bucket that is under way, which is then never sent.
    pub(crate) fn acknowledge_another(&self, world: &mut World, loose: Loose, answered: Answered) {
        let Op::Put { bucket, rows, .. } = loose.op else { return };
        if !self.plan.is_off(Rule::AckOfOnePack) || answered != Answered::Done {
            return;
        }
        let other = world.flights.iter().find(|flight| {
            flight.owner == loose.owner
                && matches!(flight.op, Op::Put { bucket: other, rows: held, .. }
                    if other == bucket && held != rows)
        });
        if let Some(ticket) = other.map(|flight| flight.ticket) {
            self.tell_outcome(world, loose.owner, ticket, Answered::Done);
        }
    }

    /// Rules 3 and 4: what a machine is told when a request got no answer.
    pub(crate) fn doubted(&self, op: Op) -> Option<Answered> {
        match op {
            Op::Put { .. } if self.plan.is_off(Rule::PackKeptUntilItsAck) => Some(Answered::Done),
            Op::Put { .. } if self.plan.is_off(Rule::DoubtRollsOver) => None,
            _ => Some(Answered::Doubt),
        }
    }

    /// Rule 5: what a machine is told when a request was answered.
    pub(crate) fn judged(&self, op: Op, answered: Answered) -> Answered {
        match (op, answered) {
            (Op::Commit(number), Answered::NoSuchSession)
                if self.plan.is_off(Rule::NotFoundIsNoEvidence) =>
            {
                Answered::Session(number, Status::Committed)
            }
            _ => answered,
        }
    }

    /// Rule 6: whether a record is durable before its machine is told so. Without, it never is.
    pub(crate) fn is_journalled(&self, record: Journalled) -> bool {
        let kept = |rule| !self.plan.is_off(rule);
        match record.2 {
            JournalledAs::Open => kept(Rule::SessionsAreJournalled),
            // Journalled after it was sent: only that it is over.
            JournalledAs::Aborting => {
                kept(Rule::AbortsAreJournalled) && kept(Rule::AbortsAreJournalledFirst)
            }
            JournalledAs::Aborted => kept(Rule::AbortsAreJournalled),
            JournalledAs::Committed => kept(Rule::KnownIsJournalled),
        }
    }

    /// Rules 5 and 6: a commit that is known by evidence is journalled, too. Without, the ticket of
    /// an append that is told to be durable and is not.
    pub(crate) fn forgets_evidence(&self, input: &Input, effect: &Effect) -> Option<u8> {
        let by_evidence = matches!(input, Input::Completed(_, Answered::NoSuchSession));
        match effect {
            Effect::Submit(ticket, Op::Append(Journalled(_, _, JournalledAs::Committed)))
                if by_evidence && self.plan.is_off(Rule::EvidenceIsJournalled) =>
            {
                Some(*ticket)
            }
            _ => None,
        }
    }

    /// Rule 7: without, one writer is started again by itself, from the last completed checkpoint.
    pub(crate) fn restart_writer(&self, world: &mut World, writer: u8) {
        world.left.crashes -= 1;
        let at = writer as usize;
        let owner = Owner::Writer(writer);
        world.flights.retain(|flight| flight.owner != owner);
        let restored = world.engine.retained.last();
        let states = restored.map(|it| vec![it.states[at]]).unwrap_or_default();
        let offset = restored.map_or(0, |it| it.offset);
        world.engine.taken[at] = offset;
        world.engine.given[at] = 0;
        let given_up: Vec<u8> = world.engine.open.iter().map(|barrier| barrier.id).collect();
        let (start, launch, parallelism) = (world.start, world.launch, world.engine.parallelism);
        let role = Role::Writer(writer, states);
        let opening = Opening { role, start, launch, parallelism };
        let stepped = self.machines.open(&opening, world.now());
        let Some(sink) = &mut world.sink else { return };
        sink.writers[at] = stepped.next;
        let mut queue = Queue::new();
        for effect in &stepped.effects {
            if !matches!(effect, Effect::Restored(_)) {
                self.effect(world, owner, effect, &mut queue);
            }
        }
        for id in given_up {
            world.engine.give_up(id);
            queue.push_back((Owner::Committer, Input::Ended(id, false)));
            self.tell_writers(world, id, false, &mut queue);
        }
        self.settle(world, queue);
        // Its first requests are taken for late ones: it asks again until one is not.
        for _ in 0..4 {
            let deadline = self.facts(world, owner).and_then(|facts| facts.deadline);
            let Some(deadline) = deadline else { return };
            self.settle_at(world, deadline, Queue::from([(owner, Input::Timer)]));
        }
    }

    /// Rule 7: without, the first writer that reports speaks for all.
    pub(crate) fn report_for_others(&self, world: &World, asked: &Asked, queue: &mut Queue) {
        if !self.plan.is_off(Rule::RestoreIsAwaited) || asked.number > 1 {
            return;
        }
        for writer in 0..world.engine.parallelism {
            let request = Request {
                start: world.start.into(),
                nonce: u64::from(world.launch) * 7,
                writer: WriterIndex(writer.into()),
                number: 1,
                passed: CheckpointId(0),
                pending: vec![],
                wanted: vec![],
            };
            let body = self.machines.blob(request.to_bytes());
            queue.push_back((Owner::Coordinator, Input::Requested(writer, body)));
        }
    }
}

impl World {
    /// The attempt that lives on beside this one gets its turn. Without a lease, two live at once.
    pub(crate) fn turn(&mut self) {
        let other = self.other.take().expect("it is listed");
        let this = self.attempt();
        self.set_attempt(*other);
        self.other = Some(Box::new(this));
    }

    /// Rule 6: a live lease stops the start. Without, the attempt before lives on.
    pub(crate) fn leave_alive(&mut self) {
        self.other = Some(Box::new(self.attempt()));
    }

    fn attempt(&self) -> Attempt {
        Attempt {
            sink: self.sink.clone(),
            start: self.start,
            launch: self.launch,
            engine: self.engine.clone(),
            flights: self.flights.clone(),
        }
    }

    fn set_attempt(&mut self, attempt: Attempt) {
        let Attempt { sink, start, launch, engine, flights } = attempt;
        (self.sink, self.start, self.launch) = (sink, start, launch);
        (self.engine, self.flights) = (engine, flights);
    }
}
