//! The coordinator: hands out upsert sessions by name, and retires those that no attempt needs any
//! more.
//!
//! Beside a row's way: a writer that wants to flush asks here. Invariant: a session named after a
//! barrier is created only when every writer has passed that barrier, and none before the sessions
//! of dead attempts are gone and every restored commit is known; without `sink.session.overlap`, a
//! partition's next session is created only when the commit of the one before is known. A session
//! is handed out when its record is durable in the journal, and its abort is sent when the intent
//! is.
//!
//! | phase | ends when |
//! |---|---|
//! | `Gathering` | every writer has sent a request, which names its restored sessions |
//! | `Recovering` | those are known to be committed, and the other open sessions to be gone |
//! | `Serving` | – |
//!
//! | a session is | until | its record says meanwhile |
//! |---|---|---|
//! | `Creating` | the service has created it, and its record is durable | nothing yet |
//! | `Open` | all have left its barrier, and nobody holds rows in it | open |
//! | `Retiring` | the intent is durable, and then the service has aborted it | aborting |
//! | gone | – | aborted; or committed, if the service says so |

mod agenda;
mod news;
mod outcome;
mod recovery;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use agenda::Agenda;
use news::News;
use recovery::{Phase, Retired};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId};
use upsert_sink_format::tunnel::{Operation, SessionRef};

use crate::config::SinkConfig;
use crate::exchange::{Known, Reply, Request};
use crate::ignored::Ignored;
use crate::io::{CoordinatorInput, CoordinatorOutput, JournalAppend, Task};
use crate::journal::{self, JournalState, SessionRecord};
use crate::operation::Operations;
use crate::outputs::Outputs;
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
    phase: Phase,
    /// The records that the starts before have left, until every writer has reported.
    journal: Vec<SessionRecord>,
    /// Keys of records that no start can ask about any more.
    past: Vec<String>,
    writers: Vec<WriterView>,
    sessions: BTreeMap<SessionName, Standing>,
    known: BTreeSet<SessionId>,
    agenda: Agenda,
    operations: Operations<SessionOperation>,
    outputs: Outputs<CoordinatorOutput>,
}

/// The newest report of a writer.
#[derive(Clone, Debug, Default)]
struct WriterView {
    number: u64,
    passed: CheckpointId,
    pending: Vec<SessionId>,
    wanted: Vec<SessionName>,
    /// The host's number of the request that has no reply yet.
    waiting: Option<u64>,
    news: News,
}

/// The state of a named session.
#[derive(Clone, Debug)]
enum Standing {
    Creating,
    Open(Grant),
    Retiring,
}

/// The purpose of an operation.
#[derive(Clone, Debug)]
enum SessionOperation {
    AbortSession(Retired),
    CreatePartition(SessionName),
    CreateSession(SessionName, Millis, PartitionFrom),
    Journal(Recorded),
    SessionStatus(Retired),
}

/// The reason to believe that a session's partition is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartitionFrom {
    /// None: most are, and the service says so of one that is not.
    Before,
    /// The service has answered that it created it for this session.
    Creation,
}

/// The step that follows a record, once it is durable.
#[derive(Clone, Debug)]
enum Recorded {
    /// The abort is sent.
    Aborting(Retired),
    /// The session is handed out.
    Created(Grant),
    /// Nothing: it has ended.
    Ended(SessionId),
    /// The next that is past is forgotten.
    Forgotten(String),
}

impl Coordinator {
    /// Begins a coordinator with all records that the journal holds of this sink.
    ///
    /// Errors: `Corrupt` for a damaged record, `InvalidConfig` for one of a newer version.
    pub fn open(
        now: Millis,
        task: &Task,
        config: &SinkConfig,
        journal: &[Vec<u8>],
    ) -> Result<Self, Error> {
        let writers = (0..task.parallelism).map(|_| WriterView::default()).collect();
        let records: Vec<SessionRecord> = journal::fold(journal)?.into_values().collect();
        let known = records.iter().filter(|record| record.state == JournalState::Committed);
        let past = records.iter().filter(|record| record.is_past(now, task.start));
        let mut coordinator = Self {
            start: task.start,
            nonce: task.nonce,
            lifecycle_hours: config.session_lifecycle.0,
            slots: config.slots.get(),
            overlap: config.session_overlap,
            phase: Phase::Gathering,
            known: known.map(|record| record.id.clone()).collect(),
            past: past.map(|record| journal::key(&record.id)).collect(),
            journal: records,
            writers,
            sessions: BTreeMap::new(),
            agenda: Agenda::default(),
            operations: Operations::new(task.nonce, config.commit_timeout),
            outputs: Outputs::new(),
        };
        coordinator.forget_past(now);
        Ok(coordinator)
    }

    /// Whether sessions are being handed out.
    pub fn serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// Takes one input. Drain `poll_output` before the next, which panics otherwise.
    ///
    /// Errors end the attempt; their kind says what to do.
    pub fn handle_input(&mut self, now: Millis, input: CoordinatorInput<'_>) -> Result<(), Error> {
        self.outputs.assert_drained();
        match input {
            CoordinatorInput::Completed(completion) => self.complete(now, completion)?,
            CoordinatorInput::KnownCommits(bytes) => self.receive_known(&Known::from_bytes(bytes)?),
            CoordinatorInput::Requested(host_number, bytes) => {
                self.take_request(host_number, Request::from_bytes(bytes)?)?;
            }
            CoordinatorInput::TimerFired => {
                let news_due = self.news_deadline().is_some_and(|deadline| deadline <= now);
                self.operations.wake(now, news_due, &mut self.outputs);
            }
        }
        self.advance(now);
        Ok(())
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<CoordinatorOutput> {
        self.outputs.pop()
    }

    /// The time at which to call with `TimerFired`.
    pub fn deadline(&self) -> Option<Millis> {
        [self.operations.deadline(), self.news_deadline()].into_iter().flatten().min()
    }

    /// The time at which a writer is told the news that are held back for more.
    fn news_deadline(&self) -> Option<Millis> {
        let waiting = self.writers.iter().filter(|view| view.waiting.is_some());
        waiting.filter_map(|view| view.news.deadline()).min()
    }

    fn take_request(&mut self, host_number: u64, request: Request) -> Result<(), Error> {
        if (request.start, request.nonce) != (self.start, self.nonce) {
            self.outputs.ignore(Ignored::ForeignStart);
            let start = request.start;
            let nonce = request.nonce;
            let number = request.number;
            let nothing = Reply { start, nonce, number, granted: vec![], known: vec![] };
            self.outputs.push(CoordinatorOutput::Reply(host_number, nothing.to_bytes()));
            return Ok(());
        }
        let index = request.writer.0 as usize;
        let writers = self.writers.len();
        let view = self.writers.get_mut(index).ok_or_else(|| {
            let message = format!("writer {index} asks, but this sink has {writers} writers");
            Error::bug("coordinator", message)
        })?;
        if request.number < view.number {
            self.outputs.ignore(Ignored::LateRequest);
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
        view.news.asked();
        self.agenda.make_stale();
        Ok(())
    }

    fn receive_known(&mut self, known: &Known) {
        let commits = known.sessions.len();
        self.waiting().for_each(|view| view.news.add_known(commits));
        if !self.overlap {
            // The next session of its partition may be created.
            self.agenda.make_stale();
        }
        for session in &known.sessions {
            self.phase.note_known(session);
            if !self.known.insert(session.clone()) {
                self.outputs.ignore(Ignored::KnownBefore);
            }
        }
    }

    /// The writers that wait for a reply.
    fn waiting(&mut self) -> impl Iterator<Item = &mut WriterView> {
        self.writers.iter_mut().filter(|view| view.waiting.is_some())
    }

    /// The last barrier that all writers have passed.
    fn passed_by_all(&self) -> CheckpointId {
        self.writers.iter().map(|view| view.passed).min().unwrap_or_default()
    }

    /// Moves on as far as possible.
    fn advance(&mut self, now: Millis) {
        self.recover(now);
        if self.phase == Phase::Serving {
            self.work_off(now);
        }
        for index in 0..self.writers.len() {
            self.answer_if_news(now, index);
        }
    }

    /// Creates and retires sessions, as many at once as may be.
    fn work_off(&mut self, now: Millis) {
        if self.agenda.is_stale() {
            self.agenda = self.plan_agenda();
        }
        while !self.is_busy()
            && let Some(name) = self.agenda.next_to_create()
        {
            if self.overlap || self.all_committed(&name.partition) {
                self.sessions.insert(name.clone(), Standing::Creating);
                self.create(now, name, PartitionFrom::Before);
            }
        }
        while !self.is_busy()
            && let Some((name, id)) = self.agenda.next_to_retire()
        {
            self.retire(now, name, id);
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

    /// Whether as many sessions are being created or retired as may be, their records included.
    fn is_busy(&self) -> bool {
        self.operations.len() - self.forgetting() >= OPERATIONS_MOST
    }

    /// Records that are being forgotten.
    fn forgetting(&self) -> usize {
        let forgets =
            |purpose: &_| matches!(purpose, SessionOperation::Journal(Recorded::Forgotten(_)));
        self.operations.count(forgets)
    }

    fn answer_if_news(&mut self, now: Millis, index: usize) {
        let view = &self.writers[index];
        let due = view.news.is_due(now, view.wanted.len(), view.pending.len());
        let Some(host_number) = view.waiting.filter(|_| due) else { return };
        let answer = self.answer(index);
        let has_news = !answer.granted.is_empty() || !answer.known.is_empty();
        let view = &mut self.writers[index];
        view.news.looked_at();
        let asks = !view.wanted.is_empty() || !view.pending.is_empty();
        if has_news || !asks {
            view.waiting = None;
            view.news.replied(now);
            self.reply(host_number, &answer);
        }
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
        self.outputs.push(CoordinatorOutput::Reply(host_number, answer.to_bytes()));
    }

    fn create(&mut self, now: Millis, name: SessionName, from: PartitionFrom) {
        let operation = Operation::CreateSession {
            partition: name.partition.clone(),
            lifecycle_hours: self.lifecycle_hours,
            slots: self.slots,
        };
        self.submit(now, SessionOperation::CreateSession(name, now, from), operation);
    }

    /// Appends the state of a session, created by a start, to the journal.
    fn record(
        &mut self,
        now: Millis,
        (session, start): (SessionRef, u64),
        state: JournalState,
        follows: Recorded,
    ) {
        let SessionRef { id, partition } = session;
        let ticket = self.operations.begin(now, SessionOperation::Journal(follows));
        self.journal(SessionRecord { id, partition, start, state, at: now }.append(ticket));
    }

    fn journal(&mut self, append: JournalAppend) {
        self.outputs.push(CoordinatorOutput::Journal(append));
    }

    fn submit(&mut self, now: Millis, purpose: SessionOperation, operation: Operation) {
        self.operations.submit(now, purpose, operation, &mut self.outputs);
    }
}
