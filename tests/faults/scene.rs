//! One row's play: a stream engine that feeds changes to a sink, takes checkpoints, restores them
//! after a failure, and the fold that the table must equal in the end.
//!
//! Between the rows and `world.rs`. Invariant: a checkpoint is durable before the sink is told that
//! it is complete, and the fold is told from the changes alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use upsert_sink::{Checkpoint, Components, Error, ErrorKind, RowKind, Settings, Sink};
use upsert_sink_tests::plugin::plugin;

use crate::faults::components::{Attempt, Call, End};
use crate::faults::world::{Table, World};

/// Batches of changes; each changes every key, so that order matters.
pub(crate) const ROUNDS: usize = 6;
/// Batches between two barriers. Each makes a pack of every bucket.
pub(crate) const ROUNDS_PER_CHECKPOINT: usize = 3;
const KEYS: usize = 128;

/// A row's play.
pub(crate) struct Scene {
    /// The server's side.
    pub(crate) world: Arc<World>,
    /// The report's lines about attempts.
    pub(crate) attempts_told: Vec<String>,
    /// The report's lines about the end.
    pub(crate) state_told: Vec<String>,
    options: BTreeMap<String, String>,
    sink: Option<Sink>,
    /// Checkpoints that the engine holds, oldest first: each with the rounds before it.
    completed: Vec<(usize, Vec<u8>)>,
    /// Rounds that were handed over.
    pub(crate) position: usize,
    checkpoint: u64,
    /// Attempts before this one are of an earlier sink.
    mark: usize,
}

impl Scene {
    /// A server with an empty table, and a sink that is not open yet.
    pub(crate) async fn new() -> Result<Self> {
        let world = World::new().await?;
        let journal = world.dir.path().join("journal").display().to_string();
        let endpoint = world.endpoint();
        let options = [
            ("tunnelEndpoint", endpoint.trim_end_matches("/api")),
            ("endpoint", &endpoint),
            ("project", "local"),
            ("tableName", "t"),
            ("sink.journal-dir", &journal),
            ("sink.parallelism", "2"),
            ("upsert.flush.concurrent", "8"),
            ("upsert.writer.bucket.buffer-size", "1kb"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(Self {
            world: Arc::new(world),
            attempts_told: Vec::new(),
            state_told: Vec::new(),
            options: options.into(),
            sink: None,
            completed: Vec::new(),
            position: 0,
            checkpoint: 0,
            mark: 0,
        })
    }

    /// Sets an option of the sink.
    pub(crate) fn option(&mut self, name: &str, value: &str) {
        self.options.insert(name.to_owned(), value.to_owned());
    }

    /// Opens the sink at the last checkpoint; none if there is none.
    pub(crate) async fn open(&mut self) -> upsert_sink::Result<()> {
        let settings = Settings::from_options(self.options.clone())?;
        let last = self.completed.last();
        self.position = last.map_or(0, |(position, _)| *position);
        let restore = last.map(|(_, bytes)| Checkpoint::from_bytes(bytes)).transpose()?;
        let builder = Sink::builder(plugin(), settings).components(Components {
            clock: Arc::clone(&self.world.clock) as _,
            transport: Arc::clone(&self.world.wire) as _,
            ..Components::system()
        });
        let builder = builder.schema(batch(0).0.schema()).restore(restore);
        self.sink = Some(self.world.rush(builder.open()).await?);
        Ok(())
    }

    /// Hands over the next batch.
    pub(crate) async fn write(&mut self) -> upsert_sink::Result<()> {
        let (rows, kinds) = batch(self.position);
        self.world.rush(self.sink().write(&rows, &kinds)).await?;
        self.position += 1;
        Ok(())
    }

    /// Passes a barrier and stores what the sink answers, durably.
    pub(crate) async fn barrier(&mut self) -> upsert_sink::Result<u64> {
        self.checkpoint += 1;
        let id = self.checkpoint;
        let checkpoint = self.world.rush(self.sink().checkpoint(id)).await?.to_bytes();
        self.completed.push((self.position, checkpoint));
        Ok(id)
    }

    /// Tells the sink that a checkpoint is complete, and waits until it is visible.
    pub(crate) async fn commit(&mut self, id: u64) -> upsert_sink::Result<()> {
        self.world.rush(self.sink().checkpoint_completed(id)).await?;
        self.world.rush(self.sink().committed(id)).await
    }

    /// Goes on to the end of the input.
    pub(crate) async fn go_on(&mut self) -> upsert_sink::Result<()> {
        while self.position < ROUNDS {
            self.write().await?;
            if self.position.is_multiple_of(ROUNDS_PER_CHECKPOINT) {
                let id = self.barrier().await?;
                self.commit(id).await?;
            }
        }
        self.close().await
    }

    /// One attempt of the engine: from the last checkpoint to the end of the input.
    pub(crate) async fn attempt(&mut self) -> upsert_sink::Result<()> {
        let ended = match self.open().await {
            Ok(()) => self.go_on().await,
            Err(error) => Err(error),
        };
        if ended.is_err() {
            self.kill().await;
        }
        ended
    }

    /// An error must be like this.
    pub(crate) fn failed(&mut self, error: &Error, kind: ErrorKind, named: &[&str]) -> Result<()> {
        ensure!(error.kind == kind, "{:?}, not {kind:?}: {error}", error.kind);
        for part in named {
            ensure!(error.to_string().contains(part), "no {part:?} in: {error}");
        }
        self.state_told.push(format!("fails with {kind:?}"));
        Ok(())
    }

    /// Ends the sink, whatever it was doing.
    pub(crate) async fn kill(&mut self) {
        if let Some(sink) = self.sink.take() {
            // The call that failed has already returned its error.
            let _ = self.world.rush(sink.close()).await;
        }
    }

    async fn close(&mut self) -> upsert_sink::Result<()> {
        let sink = self.sink.take().expect("the row has opened it");
        self.world.rush(sink.close()).await
    }

    /// Separates the attempts that follow from those before.
    pub(crate) fn mark(&mut self) {
        self.mark = self.world.wire.attempts().len();
    }

    /// Goes back to the checkpoint before the last.
    pub(crate) fn restore_older(&mut self) {
        self.completed.pop();
    }

    /// The attempts at the first request of a kind that was not answered with 200 at once, until
    /// it was.
    pub(crate) fn attempts(&self, call: Call) -> Vec<Attempt> {
        let is_done = |attempt: &Attempt| attempt.end == End::Answered(200);
        let attempts = self.world.wire.attempts().into_iter().skip(self.mark);
        let mut attempts =
            attempts.filter(|one| one.call == call).skip_while(|attempt| is_done(attempt));
        let mut found: Vec<Attempt> = Vec::new();
        while !found.last().is_some_and(is_done) {
            let Some(attempt) = attempts.next() else { break };
            found.push(attempt);
        }
        found
    }

    /// These attempts were made, and are told.
    pub(crate) fn expect_attempts(&mut self, call: Call, expected: &[&str]) -> Result<()> {
        let found = self.attempts(call);
        let found: Vec<String> = found.iter().map(|attempt| attempt.end.to_string()).collect();
        ensure!(found == expected, "{call}: {found:?}, expected {expected:?}");
        self.tell_attempts(call, &found);
        Ok(())
    }

    /// Tells attempts, a run of equal ones as one.
    pub(crate) fn tell_attempts(&mut self, call: Call, ends: &[String]) {
        let mut told: Vec<String> = Vec::new();
        for run in ends.chunk_by(|a, b| a == b) {
            let times = if run.len() > 1 { format!(" × {}", run.len()) } else { String::new() };
            told.push(format!("{}{times}", run[0]));
        }
        self.attempts_told.push(format!("{call}: {}", told.join(", ")));
    }

    /// The table equals the fold of so many rounds, and so many sessions are open.
    pub(crate) async fn expect_fold(&mut self, rounds: usize, open: u64) -> Result<()> {
        let table = self.world.table().await?;
        ensure!(table == fold(rounds), "the table is not the fold of {rounds} rounds");
        let found = self.world.stats().sessions_open;
        ensure!(found == open, "{found} sessions are open, expected {open}");
        let of = if rounds == self.position { "all" } else { "the completed" };
        let open = if open == 0 { String::new() } else { format!(", {open} session open") };
        self.tell_state(format!("fold of {of} changes{open}"));
        Ok(())
    }

    /// So many sessions were committed: after a doubt, one more than there are checkpoints.
    pub(crate) fn expect_commits(&mut self, commits: u64) -> Result<()> {
        let found = self.world.stats().commits;
        ensure!(found == commits, "{found} sessions were committed, expected {commits}");
        let sessions = if commits == 1 { "session" } else { "sessions" };
        self.tell_state(format!("{commits} {sessions} committed"));
        Ok(())
    }

    /// Tells of the end, the same only once.
    fn tell_state(&mut self, state: String) {
        if self.state_told.last() != Some(&state) {
            self.state_told.push(state);
        }
    }

    fn sink(&self) -> &Sink {
        self.sink.as_ref().expect("the row has opened it")
    }
}

/// The value that a row gives a key in a round; none is a delete.
fn value(round: usize, key: usize) -> Option<String> {
    let padding = "abcdefghij".repeat(12);
    (!(key + round).is_multiple_of(7)).then(|| format!("round {round} {padding}"))
}

/// The changes of one round.
pub(crate) fn batch(round: usize) -> (RecordBatch, Vec<RowKind>) {
    let values: Vec<Option<String>> = (0..KEYS).map(|key| value(round, key)).collect();
    let kind = |value: &Option<String>| match value {
        Some(_) => RowKind::Insert,
        None => RowKind::Delete,
    };
    let kinds = values.iter().map(kind).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values((0..KEYS).map(|key| key as i64)))),
        ("v", Arc::new(StringArray::from_iter(values))),
        ("day", Arc::new(StringArray::from_iter_values((0..KEYS).map(|_| "x")))),
    ];
    let columns = columns.map(|(name, array)| (name, array, true));
    let rows = RecordBatch::try_from_iter_with_nullable(columns);
    (rows.expect("three columns of one length"), kinds)
}

/// The table after so many rounds.
pub(crate) fn fold(rounds: usize) -> Table {
    let mut table = Table::new();
    for round in 0..rounds {
        for key in 0..KEYS {
            match value(round, key) {
                Some(value) => table.insert(key as i64, value),
                None => table.remove(&(key as i64)),
            };
        }
    }
    table
}

/// The error of a call that must fail.
pub(crate) fn error_of<T>(called: upsert_sink::Result<T>) -> Result<Error> {
    called.err().context("it did not fail")
}
