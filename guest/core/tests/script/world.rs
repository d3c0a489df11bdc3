//! A sink of pure machines: writers, a coordinator, a committer, the Tunnel and an engine that
//! obeys the script.
//!
//! Invariant: messages move and operations are answered only when a command says so; all that
//! happens is shown in lines.

use std::collections::{BTreeMap, VecDeque};

use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::exchange::Request;
use upsert_sink_core::io::{
    CheckpointOutcome, CommitterInput, CommitterOutput, Completion, CoordinatorInput,
    CoordinatorOutput, JournalAppend, Level, Snapshot, Task, Telemetry, TunnelCommand, WriterInput,
    WriterOutput,
};
use upsert_sink_core::open::Opened;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowKind};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{ColumnDescription, Operation, Outcome, TableDescription};

use super::cache::Caches;
use super::tunnel::Tunnel;

/// The owner of an operation: a writer by its index, the coordinator or the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Committer,
    Coordinator,
    Writer(usize),
}

/// An operation that was submitted.
struct Submitted {
    operation: Operation,
    under_way: bool,
}

/// One start of the sink.
struct Sink {
    writers: Vec<Writer>,
    coordinator: Coordinator,
    committer: Committer,
}

/// Everything.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) tunnel: Tunnel,
    pub(crate) told: Vec<String>,
    pub(crate) options: Vec<(String, String)>,
    pub(crate) before_images: bool,
    pub(crate) ignored: BTreeMap<String, u64>,
    /// Whether an append to the journal waits until a command says that it is durable.
    pub(crate) slow_journal: bool,
    sink: Option<Sink>,
    starts: u64,
    /// The newest record of each key: what is durable.
    pub(super) journal: BTreeMap<String, Vec<u8>>,
    /// Appends that are not durable yet, in their order.
    pub(super) appends: Vec<(Owner, JournalAppend)>,
    submitted: BTreeMap<(Owner, Ticket), Submitted>,
    requests: VecDeque<(usize, u64, Vec<u8>)>,
    replies: VecDeque<(usize, Vec<u8>)>,
    known: VecDeque<Vec<u8>>,
    asked_by: BTreeMap<u64, usize>,
    asked: u64,
    snapshots: BTreeMap<u64, BTreeMap<usize, Snapshot>>,
    pub(crate) caches: Caches,
}

fn column(name: &str, column_type: &str, nullable: bool) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable }
}

fn task(world: &World, index: u32, parallelism: u32) -> Task {
    let row_column = |name: &str, row_type: &str| (name.into(), row_type.into());
    Task {
        identity: "sink".into(),
        start: world.starts,
        nonce: world.starts * 7,
        parallelism,
        index: WriterIndex(index),
        options: world.options.clone(),
        columns: vec![
            row_column("id", "BIGINT"),
            row_column("v", "STRING"),
            row_column("day", "STRING"),
        ],
        table: TableDescription {
            name: "t".into(),
            columns: vec![column("id", "bigint", false), column("v", "string", true)],
            partition_columns: vec![column("day", "string", false)],
            primary_key: vec!["id".into()],
            buckets: 2,
        },
        local: true,
        checkpoint_interval: Millis(0),
        before_images: world.before_images,
        cache_bytes: world.caches.granted,
    }
}

/// Messages that nothing but each other causes, at most.
const MESSAGES_MOST: usize = 1_000;

impl World {
    /// Starts the sink, from a checkpoint if one is given.
    pub(crate) fn open(&mut self, writers: u32, checkpoint: Option<u64>) -> Result<(), Error> {
        self.starts += 1;
        let journal: Vec<Vec<u8>> = self.journal.values().cloned().collect();
        let first = task(self, 0, writers);
        let config = Opened::of(&first)?.config;
        let coordinator = Coordinator::open(Millis(self.now), &first, &config, &journal)?;
        let committer = Committer::open(&first, &config, &journal)?;
        let mut opened = Vec::new();
        for index in 0..writers {
            let states = checkpoint.map(|id| {
                let held = self.snapshots[&id].values().map(|snapshot| snapshot.state.clone());
                held.skip(index as usize).step_by(writers as usize).collect::<Vec<_>>()
            });
            let task = task(self, index, writers);
            let states = states.unwrap_or_default();
            opened.push(Writer::open(Millis(self.now), &task, &states)?);
        }
        self.sink = Some(Sink { writers: opened, coordinator, committer });
        self.drain_coordinator()?;
        let mut restored = Vec::new();
        for index in 0..writers as usize {
            restored.extend(self.drain_writer(index));
        }
        if let Some(checkpoint) = checkpoint {
            self.commit(CommitterInput::Prepared(CheckpointId(checkpoint), restored))?;
            self.end(checkpoint, CheckpointOutcome::Completed, false)?;
        }
        Ok(())
    }

    /// Everything of this start is gone; operations and messages in the network stay there. What
    /// was appended and is not durable never will be.
    pub(crate) fn crash(&mut self) {
        self.sink = None;
        self.known.clear();
        self.appends.clear();
        self.caches.crash();
    }

    /// Rows for a writer, in one batch, all of partition `day` but those that begin with another
    /// (`y:1=a`): `1=a`, `1=a*600` for a long one, or `-1` for a delete; `<1` and `>1=a` for a
    /// before-image and an after-image.
    pub(crate) fn rows(&mut self, index: usize, day: &str, rows: &[&str]) -> Result<(), Error> {
        let rows: Vec<Row<'_>> = rows.iter().map(|row| Row::parse(day, row)).collect();
        let kinds: Vec<RowKind> = rows.iter().map(|row| row.kind).collect();
        let batch = BatchBuilder::new(rows.len())
            .kinds(&kinds)
            .column(ColumnBuilder::int64(rows.iter().map(|row| Some(row.key))))
            .column(ColumnBuilder::utf8(rows.iter().map(|row| row.value.as_deref())))
            .column(ColumnBuilder::utf8(rows.iter().map(|row| Some(row.day))))
            .build();
        self.writer(index, WriterInput::RowsArrived(&batch))
    }

    pub(crate) fn writer(&mut self, index: usize, input: WriterInput<'_>) -> Result<(), Error> {
        let now = Millis(self.now);
        let sink = self.sink.as_mut().expect("the sink is open");
        let result = sink.writers[index].handle_input(now, input);
        let restored = self.drain_writer(index);
        assert!(restored.is_empty(), "only `open` restores");
        result
    }

    pub(crate) fn coordinate(&mut self, input: CoordinatorInput<'_>) -> Result<(), Error> {
        let now = Millis(self.now);
        let sink = self.sink.as_mut().expect("the sink is open");
        let result = sink.coordinator.handle_input(now, input);
        self.drain_coordinator()?;
        result
    }

    fn drain_coordinator(&mut self) -> Result<(), Error> {
        let mut quick = Vec::new();
        while let Some(output) = self.sink.as_mut().unwrap().coordinator.poll_output() {
            match output {
                CoordinatorOutput::Journal(append) => {
                    quick.extend(self.append(Owner::Coordinator, append));
                }
                CoordinatorOutput::Reply(number, body) => {
                    if let Some(writer) = self.asked_by.remove(&number) {
                        self.replies.push_back((writer, body));
                    }
                }
                CoordinatorOutput::Tell(telemetry) => self.tell(Owner::Coordinator, telemetry),
                CoordinatorOutput::Tunnel(command) => self.command(Owner::Coordinator, command),
            }
        }
        quick.into_iter().try_for_each(|append| self.written(Owner::Coordinator, append))
    }

    pub(crate) fn commit(&mut self, input: CommitterInput) -> Result<(), Error> {
        let now = Millis(self.now);
        let sink = self.sink.as_mut().expect("the sink is open");
        let result = sink.committer.handle_input(now, input);
        let mut quick = Vec::new();
        while let Some(output) = self.sink.as_mut().unwrap().committer.poll_output() {
            match output {
                CommitterOutput::Journal(append) => {
                    quick.extend(self.append(Owner::Committer, append));
                }
                CommitterOutput::Known(bytes) => self.known.push_back(bytes),
                CommitterOutput::Tell(telemetry) => self.tell(Owner::Committer, telemetry),
                CommitterOutput::Tunnel(command) => self.command(Owner::Committer, command),
            }
        }
        quick.into_iter().try_for_each(|append| self.written(Owner::Committer, append))?;
        result
    }

    /// A checkpoint has ended; with `tell_writers`, they receive that, too.
    pub(crate) fn end(
        &mut self,
        checkpoint: u64,
        outcome: CheckpointOutcome,
        tell_writers: bool,
    ) -> Result<(), Error> {
        let id = CheckpointId(checkpoint);
        self.commit(CommitterInput::CheckpointEnded(id, outcome))?;
        let writers = self.sink.as_ref().unwrap().writers.len();
        for index in (0..writers).filter(|_| tell_writers) {
            self.writer(index, WriterInput::CheckpointEnded(id, outcome))?;
        }
        Ok(())
    }

    /// All writers have answered: the committer learns what the checkpoint holds.
    pub(crate) fn prepared(&mut self, checkpoint: u64) -> Result<(), Error> {
        let held = self.snapshots[&checkpoint].values();
        let committables = held.flat_map(|snapshot| snapshot.committables.clone()).collect();
        self.commit(CommitterInput::Prepared(CheckpointId(checkpoint), committables))
    }

    /// Carries requests, replies and news of commits until there are none.
    pub(crate) fn deliver(&mut self) -> Result<(), Error> {
        for _ in 0..MESSAGES_MOST {
            if let Some((writer, number, body)) = self.requests.pop_front() {
                self.asked_by.insert(number, writer);
                self.coordinate(CoordinatorInput::Requested(number, &body))?;
            } else if let Some((writer, body)) = self.replies.pop_front() {
                // An earlier start may have had more writers.
                if writer < self.sink.as_ref().expect("the sink is open").writers.len() {
                    self.writer(writer, WriterInput::Replied(&body))?;
                }
            } else if let Some(known) = self.known.pop_front() {
                self.coordinate(CoordinatorInput::KnownCommits(&known))?;
            } else {
                return Ok(());
            }
        }
        panic!("messages beget messages without end");
    }

    /// A request on its way arrives once more, after all others.
    pub(crate) fn repeat_request(&mut self) {
        if let Some((writer, _, body)) = self.requests.front().cloned() {
            self.asked += 1;
            self.requests.push_back((writer, self.asked, body));
        }
    }

    /// Requests and replies on their way are lost.
    pub(crate) fn lose_messages(&mut self) {
        self.requests.clear();
        self.replies.clear();
    }

    /// Time passes, and no timer fires.
    pub(crate) fn wait(&mut self, millis: u64) {
        self.now += millis;
        self.tunnel.now = self.now;
    }

    /// Time passes; whoever has a deadline is called.
    pub(crate) fn pass(&mut self, millis: u64) -> Result<(), Error> {
        self.wait(millis);
        let now = Millis(self.now);
        let sink = self.sink.as_ref().expect("the sink is open");
        let due = |deadline: Option<Millis>| deadline.is_some_and(|deadline| deadline <= now);
        let writers: Vec<usize> =
            (0..sink.writers.len()).filter(|at| due(sink.writers[*at].deadline())).collect();
        let (coordinator, committer) =
            (due(sink.coordinator.deadline()), due(sink.committer.deadline()));
        for index in writers {
            self.writer(index, WriterInput::TimerFired)?;
        }
        if coordinator {
            self.coordinate(CoordinatorInput::TimerFired)?;
        }
        if committer {
            self.commit(CommitterInput::TimerFired)?;
        }
        Ok(())
    }

    /// The operations under way, by label.
    pub(crate) fn labels(&self) -> Vec<String> {
        let under_way = self.submitted.iter().filter(|(_, held)| held.under_way);
        under_way.map(|((owner, _), held)| label(*owner, &held.operation)).collect()
    }

    /// The first operation under way whose label begins so, carried out if `effect`, and what that
    /// gave.
    pub(crate) fn take(
        &mut self,
        prefix: &str,
        effect: bool,
    ) -> Option<(Owner, Ticket, Option<Outcome>)> {
        let found = self.submitted.iter().find(|((owner, _), held)| {
            held.under_way && label(*owner, &held.operation).starts_with(prefix)
        });
        let (owner, ticket) = *found?.0;
        let operation = self.submitted[&(owner, ticket)].operation.clone();
        let outcome = effect.then(|| self.apply(&operation));
        Some((owner, ticket, outcome))
    }

    /// A submitted operation.
    pub(crate) fn operation(&self, owner: Owner, ticket: Ticket) -> Operation {
        self.submitted[&(owner, ticket)].operation.clone()
    }

    /// Carries an operation out.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Outcome {
        self.tunnel.apply(operation)
    }

    /// All operations under way, with their owner and ticket.
    pub(crate) fn in_network(&self) -> Vec<(Operation, (Owner, Ticket))> {
        let under_way = self.submitted.iter().filter(|(_, held)| held.under_way);
        under_way.map(|(at, held)| (held.operation.clone(), *at)).collect()
    }

    /// Nobody waits for them any more.
    pub(crate) fn forget_operations(&mut self) {
        self.submitted.clear();
    }

    /// Whether a writer takes rows and barriers.
    pub(crate) fn accepting(&self, index: usize) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.writers[index].accepting())
    }

    /// Sessions whose commit is not known.
    pub(crate) fn pending(&self) -> usize {
        self.sink.as_ref().map_or(0, |sink| sink.committer.pending())
    }

    /// The newest checkpoint of which all is committed.
    pub(crate) fn committed(&self) -> u64 {
        self.sink.as_ref().map_or(0, |sink| sink.committer.committed().0)
    }

    /// The number of writers that have answered a barrier.
    pub(crate) fn answered(&self, checkpoint: u64) -> usize {
        self.snapshots.get(&checkpoint).map_or(0, BTreeMap::len)
    }

    /// Gives the owner the outcome of an attempt.
    pub(crate) fn complete(
        &mut self,
        owner: Owner,
        ticket: Ticket,
        outcome: Outcome,
    ) -> Result<(), Error> {
        if let Some(held) = self.submitted.get_mut(&(owner, ticket)) {
            held.under_way = false;
        }
        if self.sink.is_none() {
            return Ok(());
        }
        let completion = Completion { ticket, outcome };
        match owner {
            Owner::Committer => self.commit(CommitterInput::Completed(completion)),
            Owner::Coordinator => self.coordinate(CoordinatorInput::Completed(completion)),
            Owner::Writer(index) => self.writer(index, WriterInput::Completed(completion)),
        }
    }

    /// The state that the machines show of themselves.
    pub(crate) fn status(&self) -> String {
        let sink = self.sink.as_ref().expect("the sink is open");
        let held: Vec<String> = sink.writers.iter().map(|w| w.held_bytes().to_string()).collect();
        format!(
            "serving={} pending={} committed={} held=[{}]",
            sink.coordinator.serving(),
            sink.committer.pending(),
            sink.committer.committed(),
            held.join(",")
        )
    }

    fn drain_writer(&mut self, index: usize) -> Vec<Vec<u8>> {
        let mut restored = Vec::new();
        while let Some(output) = self.sink.as_mut().unwrap().writers[index].poll_output() {
            match output {
                WriterOutput::Cache(command) => self.caches.command(index, command),
                WriterOutput::DeadLetter(line) => {
                    self.told
                        .push(format!("w{index} dead letter {}", String::from_utf8_lossy(&line)));
                }
                WriterOutput::Request(body) => {
                    self.asked += 1;
                    let request = Request::from_bytes(&body).unwrap();
                    let wanted = request.wanted.iter().map(|name| {
                        format!("{} of {}/{}", name.partition, name.barrier, name.rollover)
                    });
                    let wanted = wanted.collect::<Vec<_>>().join(" ");
                    let pending: Vec<&str> =
                        request.pending.iter().map(|SessionId(id)| id.as_str()).collect();
                    self.told.push(format!(
                        "w{index} asks: passed {} pending [{}] wanted [{wanted}]",
                        request.passed,
                        pending.join(" ")
                    ));
                    self.requests.push_back((index, self.asked, body));
                }
                WriterOutput::Restored(committables) => restored.extend(committables),
                WriterOutput::Snapshot(snapshot) => {
                    let checkpoint = snapshot.checkpoint.0;
                    let held = snapshot.committables.len();
                    self.told.push(format!("w{index} snapshot {checkpoint}: {held} committables"));
                    self.snapshots.entry(checkpoint).or_default().insert(index, snapshot);
                }
                WriterOutput::Tell(telemetry) => self.tell(Owner::Writer(index), telemetry),
                WriterOutput::Tunnel(command) => self.command(Owner::Writer(index), command),
            }
        }
        restored
    }

    fn tell(&mut self, owner: Owner, telemetry: Telemetry) {
        match telemetry {
            Telemetry::Count(counter, _) => {
                if let Some(reason) = counter.strip_prefix("upsert_sink.ignored.") {
                    self.told.push(format!("{} ignores: {reason}", owner_name(owner)));
                    *self.ignored.entry(counter.to_owned()).or_default() += 1;
                }
            }
            Telemetry::Log(Level::Warn, line) => {
                self.told.push(format!("{} warns: {line}", owner_name(owner)));
            }
            Telemetry::Log(Level::Debug | Level::Info, _) => {}
        }
    }

    fn command(&mut self, owner: Owner, command: TunnelCommand) {
        match command {
            TunnelCommand::Release(ticket) => {
                self.submitted.remove(&(owner, ticket));
            }
            TunnelCommand::Repeat(ticket) => {
                let held = self.submitted.get_mut(&(owner, ticket)).expect("a held ticket");
                assert!(!held.under_way, "repeated while an attempt is under way");
                held.under_way = true;
                self.told.push(format!("repeats {}", label(owner, &held.operation)));
            }
            TunnelCommand::Submit(ticket, operation) => {
                self.told.push(format!("submits {}", label(owner, &operation)));
                let operation = match owner {
                    Owner::Writer(index) => self.caches.resolve(index, operation),
                    Owner::Committer | Owner::Coordinator => operation,
                };
                let submitted = Submitted { operation, under_way: true };
                let earlier = self.submitted.insert((owner, ticket), submitted);
                assert!(earlier.is_none_or(|held| !held.under_way), "a ticket is used once");
            }
        }
    }
}

/// One row of a batch.
struct Row<'a> {
    kind: RowKind,
    day: &'a str,
    key: i64,
    value: Option<String>,
}

impl<'a> Row<'a> {
    fn parse(day: &'a str, text: &'a str) -> Self {
        let (day, text) = text.split_once(':').unwrap_or((day, text));
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(repeated(value))),
            None => (text, None),
        };
        let kind = match key.as_bytes()[0] {
            b'<' => RowKind::UpdateBefore,
            b'>' => RowKind::UpdateAfter,
            b'-' => RowKind::Delete,
            _ => RowKind::Insert,
        };
        let key = key.trim_start_matches(['<', '>', '-']).parse().unwrap();
        Self { kind, day, key, value }
    }
}

/// `a*3` is `aaa`.
fn repeated(value: &str) -> String {
    match value.split_once('*') {
        Some((text, times)) => text.repeat(times.parse().unwrap()),
        None => value.to_owned(),
    }
}

fn owner_name(owner: Owner) -> String {
    match owner {
        Owner::Committer => "committer".into(),
        Owner::Coordinator => "coordinator".into(),
        Owner::Writer(index) => format!("w{index}"),
    }
}

fn label(owner: Owner, operation: &Operation) -> String {
    match operation {
        Operation::AbortSession(session) => format!("abort {}", session.id),
        Operation::CommitSession(session) => format!("commit {}", session.id),
        Operation::CompactPartition(partition) => format!("compact {partition}"),
        Operation::CreatePartition(partition) => format!("create partition {partition}"),
        Operation::CreateSession { partition, .. } => format!("create {partition}"),
        Operation::PutPack { session, bucket, records, .. } => {
            let owner = owner_name(owner);
            format!("put {owner} bucket {bucket} into {}: {records} records", session.id)
        }
        Operation::SessionStatus(session) => format!("status {}", session.id),
    }
}
