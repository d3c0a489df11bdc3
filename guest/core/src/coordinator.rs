//! The coordinator: hands out upsert sessions by name, and retires those that no attempt needs any
//! more.
//!
//! Beside a row's way: a writer that wants to flush asks here. Invariant: a session named after a
//! barrier is created only when every writer has passed that barrier, and none before the sessions
//! of dead attempts are gone and every restored commit is known; without `sink.session.overlap`, a
//! partition's next session is created only when the commit of the one before is known.
//!
//! | phase | ends when |
//! |---|---|
//! | `Gathering` | every writer has sent a request, which names its restored sessions |
//! | `Recovering` | those are known to be committed, and the other open sessions to be gone |
//! | `Serving` | – |

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::config::SinkConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Known, Reply, Request};
use crate::id::{CheckpointId, Millis, SessionId, Ticket};
use crate::ignored::Ignored;
use crate::io::{
    Answer, Completion, CoordinatorInput, CoordinatorOutput, JournalSession, JournalState, Level,
    Operation, Outcome, Refusal, RefusalKind, SessionInfo, SessionRef, SessionStatus, Task,
    Telemetry, TunnelCommand,
};
use crate::operation::Operations;
use crate::session::{Grant, SessionName};

/// Sessions created or retired at once: a checkpoint of many partitions must not flood the service.
const OPERATIONS_MOST: usize = 32;

/// One sink's coordinator.
#[derive(Clone, Debug)]
pub struct Coordinator {
    start: u64,
    nonce: u64,
    lifecycle_hours: u32,
    slots: u32,
    overlap: bool,
    patience: Millis,
    phase: Phase,
    journal: Vec<JournalSession>,
    writers: Vec<WriterView>,
    sessions: BTreeMap<SessionName, Standing>,
    known: BTreeSet<SessionId>,
    operations: Operations<Purpose>,
    outputs: VecDeque<CoordinatorOutput>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Gathering,
    Recovering { retiring: BTreeMap<SessionId, String>, unknown: BTreeSet<SessionId> },
    Serving,
}

/// The newest that is known of a writer.
#[derive(Clone, Debug, Default)]
struct WriterView {
    number: u64,
    passed: CheckpointId,
    pending: Vec<SessionId>,
    wanted: Vec<SessionName>,
    /// The host's number of the request that has no reply yet.
    waiting: Option<u64>,
}

/// Where a named session stands.
#[derive(Clone, Debug)]
enum Standing {
    Creating,
    Open(Grant),
    Retiring,
}

/// What an operation is for.
#[derive(Clone, Debug)]
enum Purpose {
    AbortSession(SessionRef, Option<SessionName>),
    CreatePartition(SessionName),
    CreateSession(SessionName, Millis),
    SessionStatus(SessionRef, Option<SessionName>),
}

impl Coordinator {
    /// Begins a coordinator with all that the journal holds of this sink.
    pub fn open(task: &Task, config: &SinkConfig, journal: Vec<JournalSession>) -> Self {
        let writers = (0..task.parallelism).map(|_| WriterView::default()).collect();
        let known = journal.iter().filter(|session| session.state == JournalState::Committed);
        Self {
            start: task.start,
            nonce: task.nonce,
            lifecycle_hours: config.session_lifecycle.0,
            slots: config.slots.get(),
            overlap: config.session_overlap,
            patience: config.commit_timeout,
            phase: Phase::Gathering,
            known: known.map(|session| session.id.clone()).collect(),
            journal,
            writers,
            sessions: BTreeMap::new(),
            operations: Operations::new(task.nonce),
            outputs: VecDeque::new(),
        }
    }

    /// Whether sessions are being handed out.
    pub fn serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Takes one input. Drain `poll_output` before the next, which panics otherwise.
    ///
    /// Errors end the attempt; their kind says what to do.
    pub fn handle_input(&mut self, now: Millis, input: CoordinatorInput<'_>) -> Result<(), Error> {
        assert!(self.outputs.is_empty(), "an output that is left is carried out too late");
        match input {
            CoordinatorInput::Completed(completion) => self.complete(now, completion)?,
            CoordinatorInput::KnownCommits(bytes) => self.learn(&Known::from_bytes(bytes)?),
            CoordinatorInput::Requested(host_number, bytes) => {
                self.take_request(host_number, Request::from_bytes(bytes)?)?;
            }
            CoordinatorInput::TimerFired => self.wake(now),
        }
        self.advance(now);
        Ok(())
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<CoordinatorOutput> {
        self.outputs.pop_front()
    }

    /// When to call with `TimerFired`.
    pub fn deadline(&self) -> Option<Millis> {
        self.operations.deadline()
    }

    fn take_request(&mut self, host_number: u64, request: Request) -> Result<(), Error> {
        if (request.start, request.nonce) != (self.start, self.nonce) {
            self.ignore(Ignored::ForeignStart);
            let (start, nonce, number) = (request.start, request.nonce, request.number);
            let nothing = Reply { start, nonce, number, granted: vec![], known: vec![] };
            self.outputs.push_back(CoordinatorOutput::Reply(host_number, nothing.to_bytes()));
            return Ok(());
        }
        let index = request.writer.0 as usize;
        let writers = self.writers.len();
        let view = self.writers.get_mut(index).ok_or_else(|| {
            let message = format!("writer {index} asks, but this sink has {writers} writers");
            Error::bug("coordinator", message)
        })?;
        if request.number < view.number {
            self.ignore(Ignored::LateRequest);
            let answer = self.answer(index);
            self.reply(host_number, &answer);
            return Ok(());
        }
        if let Some(superseded) = view.waiting.replace(host_number) {
            let answer = self.answer(index);
            self.reply(superseded, &answer);
        }
        let view = &mut self.writers[index];
        view.number = request.number;
        view.passed = view.passed.max(request.passed);
        view.pending = request.pending;
        view.wanted = request.wanted;
        Ok(())
    }

    fn learn(&mut self, known: &Known) {
        for session in &known.sessions {
            if let Phase::Recovering { unknown, .. } = &mut self.phase {
                unknown.remove(session);
            }
            if !self.known.insert(session.clone()) {
                self.ignore(Ignored::KnownBefore);
            }
        }
    }

    fn wake(&mut self, now: Millis) {
        let due = self.operations.wake(now);
        if due.is_empty() {
            self.ignore(Ignored::TimerWithoutCause);
        }
        for ticket in due {
            self.tunnel(TunnelCommand::Repeat(ticket));
        }
    }

    /// Moves on as far as what is known allows.
    fn advance(&mut self, now: Millis) {
        if self.phase == Phase::Gathering && self.writers.iter().all(|view| view.number > 0) {
            self.begin_recovery(now);
        }
        if matches!(&self.phase, Phase::Recovering { retiring, unknown }
            if retiring.is_empty() && unknown.is_empty())
        {
            self.phase = Phase::Serving;
            self.log(Level::Info, String::from("the coordinator hands out sessions"));
        }
        if self.phase == Phase::Serving {
            self.create_wanted(now);
            self.retire_unused(now);
        }
        for index in 0..self.writers.len() {
            self.answer_if_news(index);
        }
    }

    /// Every writer has reported: what the journal calls open and no writer restored is of a dead
    /// attempt.
    fn begin_recovery(&mut self, now: Millis) {
        let restored: BTreeSet<SessionId> =
            self.writers.iter().flat_map(|view| view.pending.iter().cloned()).collect();
        let unknown = restored.difference(&self.known).cloned().collect();
        let dead = core::mem::take(&mut self.journal).into_iter().filter(|session| {
            session.state != JournalState::Committed && !restored.contains(&session.id)
        });
        let retiring: BTreeMap<SessionId, String> =
            dead.map(|session| (session.id, session.partition)).collect();
        for (id, partition) in retiring.clone() {
            self.abort(now, SessionRef { id, partition }, None);
        }
        self.phase = Phase::Recovering { retiring, unknown };
    }

    fn create_wanted(&mut self, now: Millis) {
        let passed_by_all = self.writers.iter().map(|view| view.passed).min().unwrap_or_default();
        let wanted: BTreeSet<SessionName> = (self.writers.iter())
            .flat_map(|view| view.wanted.iter())
            .filter(|name| name.barrier <= passed_by_all && !self.sessions.contains_key(*name))
            .cloned()
            .collect();
        for name in wanted {
            if self.operations.len() >= OPERATIONS_MOST {
                return;
            }
            if self.overlap || self.all_committed(&name.partition) {
                self.sessions.insert(name.clone(), Standing::Creating);
                self.create(now, name);
            }
        }
    }

    /// The sessions of a partition, in the order of their names.
    fn of_partition(&self, partition: &str) -> impl Iterator<Item = (&SessionName, &Standing)> {
        let first = SessionName::first_of(partition);
        self.sessions.range(first..).take_while(move |(name, _)| name.partition == partition)
    }

    /// Whether no session of a partition may be open: each is gone, or its commit is known.
    fn all_committed(&self, partition: &str) -> bool {
        self.of_partition(partition).all(|(_, standing)| match standing {
            Standing::Open(grant) => self.known.contains(&grant.info.id),
            Standing::Creating | Standing::Retiring => false,
        })
    }

    /// A session of a barrier that all have left, and that none holds rows in, is of no further
    /// use: its commit is known, or nobody wrote to it.
    fn retire_unused(&mut self, now: Millis) {
        let passed_by_all = self.writers.iter().map(|view| view.passed).min().unwrap_or_default();
        let held: BTreeSet<&SessionId> =
            self.writers.iter().flat_map(|view| view.pending.iter()).collect();
        let unused = self.sessions.iter().filter_map(|(name, standing)| match standing {
            Standing::Open(grant)
                if name.barrier < passed_by_all && !held.contains(&grant.info.id) =>
            {
                Some((name.clone(), grant.info.id.clone()))
            }
            Standing::Creating | Standing::Open(_) | Standing::Retiring => None,
        });
        for (name, id) in unused.collect::<Vec<_>>() {
            if self.known.remove(&id) {
                self.sessions.remove(&name);
            } else if self.operations.len() < OPERATIONS_MOST {
                self.sessions.insert(name.clone(), Standing::Retiring);
                let partition = name.partition.clone();
                self.abort(now, SessionRef { id, partition }, Some(name));
            }
        }
    }

    fn answer_if_news(&mut self, index: usize) {
        let view = &self.writers[index];
        let Some(host_number) = view.waiting else { return };
        let answer = self.answer(index);
        let asks = !view.wanted.is_empty() || !view.pending.is_empty();
        if asks && answer.granted.is_empty() && answer.known.is_empty() {
            return;
        }
        self.writers[index].waiting = None;
        self.reply(host_number, &answer);
    }

    /// All that is known for a writer's newest request.
    fn answer(&self, index: usize) -> Reply {
        let view = &self.writers[index];
        let granted = view.wanted.iter().filter_map(|name| match self.sessions.get(name) {
            Some(Standing::Open(grant)) => Some(grant.clone()),
            Some(Standing::Creating | Standing::Retiring) | None => None,
        });
        let known = view.pending.iter().filter(|session| self.known.contains(*session));
        Reply {
            start: self.start,
            nonce: self.nonce,
            number: view.number,
            granted: granted.collect(),
            known: known.cloned().collect(),
        }
    }

    fn reply(&mut self, host_number: u64, answer: &Reply) {
        self.outputs.push_back(CoordinatorOutput::Reply(host_number, answer.to_bytes()));
    }

    fn create(&mut self, now: Millis, name: SessionName) {
        let operation = Operation::CreateSession {
            partition: name.partition.clone(),
            lifecycle_hours: self.lifecycle_hours,
            slots: self.slots,
        };
        self.submit(now, Purpose::CreateSession(name, now), operation);
    }

    fn abort(&mut self, now: Millis, session: SessionRef, name: Option<SessionName>) {
        let operation = Operation::AbortSession(session.clone());
        self.submit(now, Purpose::AbortSession(session, name), operation);
    }

    fn submit(&mut self, now: Millis, purpose: Purpose, operation: Operation) {
        let ticket = self.operations.begin(now, purpose);
        self.tunnel(TunnelCommand::Submit(ticket, operation));
    }

    fn complete(&mut self, now: Millis, completion: Completion) -> Result<(), Error> {
        let Completion { ticket, outcome } = completion;
        let Some(held) = self.operations.under_way(ticket) else {
            self.ignore(Ignored::LateOutcome);
            return Ok(());
        };
        let purpose = held.purpose.clone();
        match outcome {
            Outcome::Done(answer) => self.done(now, ticket, purpose, answer),
            Outcome::InDoubt(doubt) => {
                // Repeating is harmless for all four: a session that was created without our
                // learning its id holds nothing, and its lifecycle ends it.
                let wait = held.attempts.after_doubt();
                self.put_off(now, ticket, wait, &doubt)
            }
            Outcome::Refused(refusal) => self.refused(now, ticket, purpose, &refusal),
        }
    }

    fn done(
        &mut self,
        now: Millis,
        ticket: Ticket,
        purpose: Purpose,
        answer: Answer,
    ) -> Result<(), Error> {
        match (purpose, answer) {
            (Purpose::CreateSession(name, created_at), Answer::Session(info)) => {
                self.finish(ticket);
                let grant = Grant { name: name.clone(), created_at, info };
                self.sessions.insert(name, Standing::Open(grant));
            }
            (Purpose::CreatePartition(name), Answer::None | Answer::Session(_)) => {
                self.finish(ticket);
                self.create(now, name);
            }
            (Purpose::AbortSession(session, name), Answer::None | Answer::Session(_)) => {
                self.finish(ticket);
                self.gone(&session, name.as_ref());
            }
            (Purpose::SessionStatus(session, name), Answer::Session(info)) => {
                self.finish(ticket);
                self.status(now, session, name, &info);
            }
            (Purpose::CreateSession(..) | Purpose::SessionStatus(..), Answer::None) => {
                return Err(Error::bug("tunnel", "the host answered without a session"));
            }
        }
        Ok(())
    }

    /// What a session is that could not be aborted.
    fn status(
        &mut self,
        now: Millis,
        session: SessionRef,
        name: Option<SessionName>,
        info: &SessionInfo,
    ) {
        match info.status {
            SessionStatus::Committed => {
                let line = format!(
                    "session {} of {} was to be retired, but it is committed",
                    session.id, session.partition
                );
                self.log(Level::Warn, line);
                self.gone(&session, name.as_ref());
            }
            SessionStatus::Aborted | SessionStatus::Expired => self.gone(&session, name.as_ref()),
            SessionStatus::Committing | SessionStatus::Critical | SessionStatus::Normal => {
                self.abort(now, session, name);
            }
        }
    }

    fn refused(
        &mut self,
        now: Millis,
        ticket: Ticket,
        purpose: Purpose,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        match (refusal.kind, purpose) {
            (
                RefusalKind::Moved
                | RefusalKind::NotSent
                | RefusalKind::SlowDown
                | RefusalKind::Transient,
                _,
            ) => {
                let held = self.operations.under_way(ticket).expect("looked up by the caller");
                let wait = held.attempts.after_refusal(refusal);
                self.put_off(now, ticket, wait, &refusal.message)
            }
            (RefusalKind::NoSuchPartition, Purpose::CreateSession(name, _)) => {
                self.finish(ticket);
                let operation = Operation::CreatePartition(name.partition.clone());
                self.submit(now, Purpose::CreatePartition(name), operation);
                Ok(())
            }
            (RefusalKind::Invalid, Purpose::CreateSession(name, _)) if !self.overlap => {
                self.blocked(now, ticket, &name, refusal)
            }
            (
                RefusalKind::NoSuchPartition | RefusalKind::NoSuchSession,
                Purpose::AbortSession(session, name) | Purpose::SessionStatus(session, name),
            ) => {
                self.finish(ticket);
                self.gone(&session, name.as_ref());
                Ok(())
            }
            (RefusalKind::Invalid, Purpose::AbortSession(session, name)) => {
                self.finish(ticket);
                let operation = Operation::SessionStatus(session.clone());
                self.submit(now, Purpose::SessionStatus(session, name), operation);
                Ok(())
            }
            (
                RefusalKind::Denied
                | RefusalKind::Invalid
                | RefusalKind::NoSuchPartition
                | RefusalKind::NoSuchSession,
                purpose,
            ) => Err(self.refusal_error(&purpose, refusal)),
        }
    }

    /// The partition may have an open session that nobody knows of: one whose creation got no
    /// answer. It ends by its age, so this is asked again.
    fn blocked(
        &mut self,
        now: Millis,
        ticket: Ticket,
        name: &SessionName,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        let held = self.operations.under_way(ticket).expect("looked up by the caller");
        let wait = held.attempts.after_refusal(refusal);
        let cause = format!(
            "{} {} (request {}); if a session whose creation got no answer is in the way, it ends \
             after sink.session.lifecycle = {} h",
            refusal.code, refusal.message, refusal.request_id, self.lifecycle_hours
        );
        self.log(Level::Warn, format!("partition {}: no new session: {cause}", name.partition));
        self.put_off(now, ticket, wait, &cause)
    }

    /// Makes another attempt later, unless the service has been without a clear word for too long.
    fn put_off(
        &mut self,
        now: Millis,
        ticket: Ticket,
        wait: Millis,
        cause: &str,
    ) -> Result<(), Error> {
        let held = self.operations.under_way(ticket).expect("looked up by the caller");
        if now.since(held.begun) > self.patience {
            let message = format!(
                "not done after {} s, the last cause being: {cause}; start again later",
                self.patience.0 / 1000
            );
            return Err(Error::new(ErrorKind::Retry, place(&held.purpose), message));
        }
        self.operations.wait(ticket, now.plus(wait));
        Ok(())
    }

    fn refusal_error(&self, purpose: &Purpose, refusal: &Refusal) -> Error {
        let mut error = refusal_error(purpose, refusal);
        if let (Purpose::CreateSession(name, _), RefusalKind::Invalid) = (purpose, refusal.kind)
            && self.of_partition(&name.partition).any(|(other, _)| other != name)
        {
            error.message.push_str(
                "; if the service refuses a second open session of a partition, set \
                 sink.session.overlap = false",
            );
        }
        error
    }

    fn gone(&mut self, session: &SessionRef, name: Option<&SessionName>) {
        if let Phase::Recovering { retiring, .. } = &mut self.phase {
            retiring.remove(&session.id);
        }
        if let Some(name) = name {
            self.sessions.remove(name);
        }
    }

    fn finish(&mut self, ticket: Ticket) {
        self.operations.finish(ticket);
        self.tunnel(TunnelCommand::Release(ticket));
    }

    fn tunnel(&mut self, command: TunnelCommand) {
        self.outputs.push_back(CoordinatorOutput::Tunnel(command));
    }

    fn log(&mut self, level: Level, line: String) {
        self.outputs.push_back(CoordinatorOutput::Tell(Telemetry::Log(level, line)));
    }

    fn ignore(&mut self, reason: Ignored) {
        let count = Telemetry::Count(reason.counter(), 1);
        self.outputs.push_back(CoordinatorOutput::Tell(count));
    }
}

fn place(purpose: &Purpose) -> String {
    match purpose {
        Purpose::AbortSession(session, _) | Purpose::SessionStatus(session, _) => {
            format!("session {}, partition {}", session.id, session.partition)
        }
        Purpose::CreatePartition(name) | Purpose::CreateSession(name, _) => {
            format!("partition {}", name.partition)
        }
    }
}

fn refusal_error(purpose: &Purpose, refusal: &Refusal) -> Error {
    let kind = match refusal.kind {
        RefusalKind::Denied => ErrorKind::Denied,
        RefusalKind::Invalid
        | RefusalKind::Moved
        | RefusalKind::NoSuchPartition
        | RefusalKind::NoSuchSession
        | RefusalKind::NotSent
        | RefusalKind::SlowDown
        | RefusalKind::Transient => ErrorKind::InvalidConfig,
    };
    let what = match purpose {
        Purpose::AbortSession(..) => "abort a session",
        Purpose::CreatePartition(_) => "create the partition",
        Purpose::CreateSession(..) => "create a session",
        Purpose::SessionStatus(..) => "tell a session's status",
    };
    let message = format!(
        "the service refused to {what}: {} {} (request {}); correct the table or the permissions",
        refusal.code, refusal.message, refusal.request_id
    );
    Error::new(kind, place(purpose), message)
}
