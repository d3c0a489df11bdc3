//! A stream engine of one process: reads events, hands them to the sink, and takes checkpoints.
//!
//! `command/run.rs` and `command/demo/mod.rs` start it with a source and an open sink. It decides
//! nothing about buckets, buffers or commits. Invariant: the state of a checkpoint is durable
//! before the sink is told that it is complete, and holds exactly the events that were handed over
//! before its barrier.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use upsert_sink::{Components, Sink};

use crate::freshness::Freshness;
use crate::ledger::{JobLedger, LedgerFile};
use crate::progress::{CheckpointPhase, ProgressLine};
use crate::signal::Stop;
use crate::source::{Events, Source};
use crate::state::{JobState, StateDirectory, Stored};

/// Batches read ahead of the sink.
const READ_AHEAD_BATCHES: usize = 2;
/// Checkpoints whose commit is waited for at the same time; beyond it the next barrier waits.
///
/// The service commits a partition in two to three seconds, one after another. With one checkpoint
/// under way and one behind it commits never pause; more would only make rows wait in sessions
/// instead of buffers, and the state longer.
const COMMITS_AWAITED_MAX: usize = 2;

/// When checkpoints are taken, and how fast events are handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cadence {
    /// Time between two barriers.
    pub(crate) interval: Duration,
    /// Events between two barriers, if they come sooner than the time is over.
    pub(crate) events_max: Option<u64>,
    /// Events a second, at most.
    pub(crate) rate: Option<u64>,
}

/// The result of a run.
#[derive(Debug)]
pub(crate) struct RunOutcome {
    /// Events handed over by this run.
    pub(crate) events: u64,
    /// Checkpoints completed by this run.
    pub(crate) checkpoints: u64,
    /// From the first event read to the last commit known.
    pub(crate) elapsed_ms: u64,
    /// Handed over → visible.
    pub(crate) freshness: Freshness,
    /// Whether the input was read to its end; false if the run was stopped before.
    pub(crate) finished: bool,
    /// The newest checkpoints of this run, and what advice rests on.
    pub(crate) ledger: JobLedger,
}

/// A running job.
pub(crate) struct Engine {
    sink: Arc<Sink>,
    states: StateDirectory,
    ledger: LedgerFile,
    components: Components,
    progress: ProgressLine,
    cadence: Cadence,
    stop: Stop,
    state: JobState,
    /// The sink's state at the newest checkpoint; empty before the first of this run.
    latest: Vec<u8>,
    /// Events since the newest barrier.
    pending: u64,
    /// Batches since the newest barrier: when they were handed over, and their events.
    handed: Vec<(u64, u64)>,
    /// The same for barriers whose commit is not known yet, oldest first.
    awaited: VecDeque<(u64, Vec<(u64, u64)>)>,
    commits: JoinSet<Result<u64, upsert_sink::Error>>,
    outcome: RunOutcome,
}

impl Engine {
    /// A job that goes on at `state`.
    pub(crate) fn new(
        sink: Sink,
        states: StateDirectory,
        components: Components,
        state: JobState,
    ) -> anyhow::Result<Self> {
        let facts = sink.facts()?;
        Ok(Self {
            sink: Arc::new(sink),
            ledger: LedgerFile::open(states.path(), &facts),
            states,
            components,
            progress: ProgressLine::new(None),
            cadence: Cadence { interval: Duration::from_secs(1), events_max: None, rate: None },
            stop: Stop::listen()?,
            state,
            latest: Vec::new(),
            pending: 0,
            handed: Vec::new(),
            awaited: VecDeque::new(),
            commits: JoinSet::new(),
            outcome: RunOutcome {
                events: 0,
                checkpoints: 0,
                elapsed_ms: 0,
                freshness: Freshness::default(),
                finished: false,
                ledger: JobLedger { records: Vec::new(), facts: Some(facts) },
            },
        })
    }

    /// Replaces the usual cadence.
    pub(crate) fn cadence(self, cadence: Cadence) -> Self {
        Self { cadence, ..self }
    }

    /// Tells progress there.
    pub(crate) fn progress(self, progress: ProgressLine) -> Self {
        Self { progress, ..self }
    }

    /// Runs until the input ends or a signal stops it; either way everything handed over is
    /// committed when it returns.
    pub(crate) async fn run(
        mut self,
        source: Box<dyn Source>,
    ) -> anyhow::Result<(RunOutcome, Sink)> {
        let started_ms = self.components.clock.now_ms();
        let ran = self.feed(source).await;
        self.progress.finish();
        self.outcome.finished = ran?;
        self.outcome.elapsed_ms = self.components.clock.now_ms() - started_ms;
        self.outcome.ledger.records = self.sink.ledger().records;
        let sink = Arc::into_inner(self.sink).context("the sink is still in use")?;
        Ok((self.outcome, sink))
    }

    /// True at the end of the input, false after a signal.
    async fn feed(&mut self, source: Box<dyn Source>) -> anyhow::Result<bool> {
        let (sender, mut batches) = mpsc::channel(READ_AHEAD_BATCHES);
        let reader = tokio::task::spawn_blocking(move || read_ahead(source, &sender));
        let mut barrier_ms = self.next_barrier_ms();
        let mut paused_until_ms = 0;
        let ended = loop {
            let now_ms = self.components.clock.now_ms();
            if self.is_due(now_ms, barrier_ms) {
                self.checkpoint().await?;
                barrier_ms = self.next_barrier_ms();
                continue;
            }
            let paused = now_ms < paused_until_ms;
            let wake_ms = if paused { paused_until_ms.min(barrier_ms) } else { barrier_ms };
            let waits = paused || self.pending > 0;
            tokio::select! {
                biased;
                () = self.stop.requested() => break false,
                Some(committed) = self.commits.join_next() => self.note(committed??),
                () = self.components.clock.sleep_until(wake_ms), if waits => {}
                batch = batches.recv(), if !paused => {
                    let Some(events) = batch else { break true };
                    let events = events?;
                    paused_until_ms = self.pause(now_ms, paused_until_ms, events.events);
                    self.hand_over(events).await?;
                }
            }
        };
        // The reader of standard input may wait for a line that never comes.
        reader.abort();
        self.finish(ended).await?;
        Ok(ended)
    }

    fn next_barrier_ms(&self) -> u64 {
        let interval_ms = u64::try_from(self.cadence.interval.as_millis()).unwrap_or(u64::MAX);
        self.components.clock.now_ms().saturating_add(interval_ms)
    }

    fn is_due(&self, now_ms: u64, barrier_ms: u64) -> bool {
        let enough = self.cadence.events_max.is_some_and(|max| self.pending >= max);
        self.pending > 0 && (enough || now_ms >= barrier_ms)
    }

    /// When the next batch may be handed over, so that the rate holds in the long run.
    fn pause(&self, now_ms: u64, paused_until_ms: u64, events: u64) -> u64 {
        match self.cadence.rate {
            None => 0,
            Some(rate) => paused_until_ms.max(now_ms) + events * 1000 / rate,
        }
    }

    async fn hand_over(&mut self, events: Events) -> anyhow::Result<()> {
        let handed_ms = self.components.clock.now_ms();
        self.sink.write(&events.rows, &events.kinds).await?;
        self.handed.push((handed_ms, events.events));
        self.pending += events.events;
        self.state.offset = events.end;
        self.state.events += events.events;
        self.outcome.events += events.events;
        self.progress.events(events.events, self.state.events);
        Ok(())
    }

    async fn checkpoint(&mut self) -> anyhow::Result<()> {
        self.wait_for_commits().await?;
        let id = self.state.checkpoint + 1;
        self.progress.checkpoint(id, CheckpointPhase::Flushing, self.state.events);
        let checkpoint = self.sink.checkpoint(id).await?;
        self.state.checkpoint = id;
        self.latest = checkpoint.to_bytes();
        self.save().await?;
        self.progress.checkpoint(id, CheckpointPhase::Stored, self.state.events);
        self.sink.checkpoint_completed(id).await?;
        self.outcome.checkpoints += 1;
        self.pending = 0;
        self.awaited.push_back((id, std::mem::take(&mut self.handed)));
        let sink = Arc::clone(&self.sink);
        self.commits.spawn(async move { sink.committed(id).await.map(|()| id) });
        Ok(())
    }

    /// A barrier waits while too many commits are awaited.
    async fn wait_for_commits(&mut self) -> anyhow::Result<()> {
        if self.commits.len() < COMMITS_AWAITED_MAX {
            return Ok(());
        }
        let since_ms = self.components.clock.now_ms();
        while self.commits.len() >= COMMITS_AWAITED_MAX {
            if let Some(committed) = self.commits.join_next().await {
                self.note(committed??);
            }
        }
        let waited_ms = self.components.clock.now_ms().saturating_sub(since_ms);
        self.sink.checkpoint_delayed(Duration::from_millis(waited_ms));
        Ok(())
    }

    /// Checkpoint `id` is visible, and so is every one before it.
    fn note(&mut self, id: u64) {
        let now_ms = self.components.clock.now_ms();
        tokio::task::block_in_place(|| self.ledger.append(&self.sink.ledger().records));
        while let Some((first, _)) = self.awaited.front().filter(|(first, _)| *first <= id) {
            self.progress.checkpoint(*first, CheckpointPhase::Committed, self.state.events);
            let (_, batches) = self.awaited.pop_front().expect("it is at the front");
            for (handed_ms, events) in batches {
                self.outcome.freshness.add(now_ms.saturating_sub(handed_ms), events);
            }
        }
    }

    /// The last checkpoint, and its commit. Afterwards a finished job has nothing left to do.
    async fn finish(&mut self, input_ended: bool) -> anyhow::Result<()> {
        // A restored job with nothing new needs one too: its commits are known when a later one is.
        if self.pending > 0 || self.outcome.checkpoints == 0 {
            self.checkpoint().await?;
        }
        while let Some(committed) = self.commits.join_next().await {
            self.note(committed??);
        }
        if input_ended {
            self.state.finished = true;
            self.save().await?;
        }
        Ok(())
    }

    async fn save(&self) -> anyhow::Result<()> {
        let stored = Stored { job: self.state.clone(), sink: self.latest.clone() };
        // The write is small; what may take long is the disk's own flush.
        tokio::task::block_in_place(|| self.states.save(&stored))
    }
}

/// Reads until the end, an error, or until nobody wants more.
fn read_ahead(mut source: Box<dyn Source>, batches: &mpsc::Sender<anyhow::Result<Events>>) {
    while let Some(events) = source.next().transpose() {
        let failed = events.is_err();
        if batches.blocking_send(events).is_err() || failed {
            break;
        }
    }
}
