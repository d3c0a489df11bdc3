//! The event loop of one instance: something happens → one guest call → what it asked for is
//! carried out.
//!
//! Between the queues of `sink.rs` and the guest. Invariant: the guest is called from one place,
//! one call at a time; what happens at the same moment is taken in a fixed order (outcomes,
//! control, timer, data), so that a simulation repeats.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use upsert_sink_core::io::Completion;
use upsert_sink_format::id::Ticket;
use upsert_sink_format::tunnel::{Answer, Outcome, RefusalKind, SessionStatus};
use upsert_sink_tunnel::Table;

use crate::capability::tickets::{Answered, Asked, Attempt, CacheRequest, SettledTicket};
use crate::components::{BoxFuture, Clock};
use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::file_cache::FileCache;
use crate::instance::Instance;
use crate::journal::Journal;
use crate::ledger::Ledger;
use crate::ledger::part::{Measured, Trial};
use crate::metrics::Meter;
use crate::operation::{Operation, not_granted};
use crate::recording::Recorder;

/// The things that all parts of one sink share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) table: Table,
    pub(crate) journal: Arc<Journal>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) ledger: Ledger,
    pub(crate) ending: Ending,
    pub(crate) recorder: Recorder,
}

/// The events of an instance.
pub(crate) enum Event<C, D> {
    /// Something that it asked for has an outcome.
    Completed(Completion),
    /// Another part of the sink has something to say.
    Control(C),
    /// The time that it set has come.
    TimerFired,
    /// Rows or a barrier, in the engine's order.
    Data(D),
}

/// The role of an instance: which guest call follows from what happens, and what from its progress.
pub(crate) trait DrivenRole: Send + 'static {
    /// The messages of other parts of the sink.
    type Control: Send + 'static;
    /// The items that wait in order until it is accepting.
    type Data: Send + 'static;

    /// Whether data may be taken from the queue.
    fn accepting(&self) -> bool;

    /// Calls the guest once, and carries out what the call returned.
    fn handle(
        &mut self,
        instance: &mut Instance,
        now_ms: u64,
        event: Event<Self::Control, Self::Data>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// An attempt has ended, and its outcome will be handled. It counts for the instance, unless
    /// the role knows better.
    fn measure(&mut self, instance: &mut Instance, measured: &Measured<'_>) {
        instance.part.add(measured);
    }
}

/// One instance, its role, and all that it waits for.
pub(crate) struct Driver<R: DrivenRole> {
    pub(crate) role: R,
    pub(crate) instance: Instance,
    pub(crate) shared: Arc<Shared>,
    control: mpsc::Receiver<R::Control>,
    data: mpsc::Receiver<R::Data>,
    attempts: JoinSet<Result<EndedAttempt>>,
    alarm: Alarm,
}

/// An attempt that has ended.
struct EndedAttempt {
    ticket: u64,
    number: u64,
    /// The key of the record, of an append to the journal.
    journal_key: Option<String>,
    outcome: Outcome,
    trial: Trial,
    took_us: u64,
}

impl<R: DrivenRole> Driver<R> {
    pub(crate) fn new(
        role: R,
        instance: Instance,
        shared: Arc<Shared>,
        control: mpsc::Receiver<R::Control>,
        data: mpsc::Receiver<R::Data>,
    ) -> Self {
        let attempts = JoinSet::new();
        Self { role, instance, shared, control, data, attempts, alarm: Alarm::default() }
    }

    /// Drives until the sink ends. An error ends all of it.
    pub(crate) async fn run(mut self) {
        if let Err(error) = self.drive().await {
            // Who learns of it may end the process: what led to it is written before.
            self.shared.recorder.flush().await;
            self.shared.ending.fail(error);
        }
        // Attempts hold the journal: when this returns, none is left.
        self.attempts.shutdown().await;
    }

    async fn drive(&mut self) -> Result<()> {
        loop {
            self.carry_out();
            let Some(event) = self.next().await? else { return Ok(()) };
            self.shared.recorder.room().await;
            let now_ms = self.shared.clock.now_ms();
            self.role.handle(&mut self.instance, now_ms, event).await?;
        }
    }

    /// Starts the attempts that the call asked for, and sets the timer as it left it.
    fn carry_out(&mut self) {
        let now_ms = self.shared.clock.now_ms();
        let capabilities = self.instance.capabilities();
        let deadline_ms = capabilities.timer.deadline_ms();
        for Answered { ticket, number, outcome } in capabilities.tickets.take_answered() {
            let (journal_key, trial) = (None, Trial::default());
            let ended = EndedAttempt { ticket, number, journal_key, outcome, trial, took_us: 0 };
            self.attempts.spawn(async move { Ok(ended) });
        }
        let cache = capabilities.file_cache().cloned();
        let due = capabilities.tickets.take_due(now_ms);
        let dropped = capabilities.tickets.take_dropped();
        for attempt in due {
            self.begin(attempt, cache.as_ref());
        }
        if let Some(cache) = cache {
            dropped.into_iter().for_each(|segment| cache.drop_segment(segment));
        }
        self.shared.meter.guest_counted(self.instance.take_counters());
        self.alarm.set(deadline_ms, self.shared.clock.as_ref());
    }

    /// Begins an attempt.
    fn begin(&mut self, attempt: Attempt, cache: Option<&Arc<FileCache>>) {
        let Attempt { ticket, number, asked, repeated, slowed_ms } = attempt;
        let counted = matches!(&asked, Asked::Tunnel(operation) if operation.is_counted());
        let mut trial = Trial::new(repeated, slowed_ms.saturating_mul(1000), counted);
        let began_us = self.shared.clock.now_us();
        self.instance.part.begins(&mut trial, began_us);
        let shared = Arc::clone(&self.shared);
        let mut journal_key = None;
        let outcome: BoxFuture<'static, Result<Outcome>> = match asked {
            Asked::Tunnel(operation) => {
                let table = self.shared.table.clone();
                Box::pin(async move { Ok(operation.attempt(&table).await) })
            }
            Asked::Journal(key, bytes) => {
                journal_key = Some(key.clone());
                // It has its place in the file before the next one is looked at.
                let durable = shared.journal.append(key, bytes);
                Box::pin(async move { durable.await.map(|()| Outcome::Done(Answer::None)) })
            }
            Asked::Cache(request) => {
                // An append has its place in its segment before the next one is looked at.
                let asked = cache.map(|cache| match request {
                    CacheRequest::Append { segment, bytes } => cache.append(segment, bytes),
                    CacheRequest::Read { segment, offset, length } => {
                        cache.read(segment, offset, length)
                    }
                    CacheRequest::Seal { segment } => cache.seal(segment),
                });
                Box::pin(async move {
                    match asked {
                        Some(outcome) => Ok(outcome.await),
                        None => Ok(not_granted("file cache")),
                    }
                })
            }
        };
        self.attempts.spawn(async move {
            let outcome = outcome.await?;
            let took_us = shared.clock.now_us().saturating_sub(began_us);
            Ok(EndedAttempt { ticket, number, journal_key, outcome, trial, took_us })
        });
    }

    /// The next event; none when the sink has ended. A role that would take data, and has none,
    /// waits for it.
    async fn next(&mut self) -> Result<Option<Event<R::Control, R::Data>>> {
        if !self.role.accepting() {
            return self.awaited().await;
        }
        let since_us = self.shared.clock.now_us();
        let event = self.awaited().await;
        let waited_us = self.shared.clock.now_us().saturating_sub(since_us);
        self.instance.part.times.waiting += waited_us;
        event
    }

    async fn awaited(&mut self) -> Result<Option<Event<R::Control, R::Data>>> {
        loop {
            tokio::select! {
                biased;
                () = self.shared.ending.ended() => return Ok(None),
                Some(joined) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    let panicked = |error| Error::bug("attempt", format!("{error}"));
                    if let Some(completion) = self.settle(joined.map_err(panicked)??) {
                        return Ok(Some(Event::Completed(completion)));
                    }
                }
                Some(control) = self.control.recv() => return Ok(Some(Event::Control(control))),
                () = self.alarm.rings(), if self.alarm.is_set() => {
                    self.alarm.stop(self.shared.clock.now_ms());
                    self.instance.capabilities().timer.clear();
                    return Ok(Some(Event::TimerFired));
                }
                Some(data) = self.data.recv(), if self.role.accepting() => {
                    return Ok(Some(Event::Data(data)));
                }
                else => return Ok(None),
            }
        }
    }

    /// None if the guest has released the ticket: the outcome is dropped.
    fn settle(&mut self, ended: EndedAttempt) -> Option<Completion> {
        let EndedAttempt { ticket, number, journal_key, outcome, trial, took_us } = ended;
        let at_once = self.instance.part.ends(trial, self.shared.clock.now_us());
        let settled = self.instance.capabilities().tickets.settle(ticket, number)?;
        let measured = Measured {
            operation: settled.operation.as_deref(),
            journal_key: journal_key.as_deref(),
            outcome: &outcome,
            known_ms: self.meter(&settled, &outcome),
            trial,
            took_us,
            at_once,
        };
        self.role.measure(&mut self.instance, &measured);
        if is_slow_down(&outcome) {
            let now_ms = self.shared.clock.now_ms();
            self.instance.capabilities().tickets.slowed(ticket, now_ms);
        }
        Some(Completion { ticket: Ticket(ticket), outcome })
    }

    /// Counts packs and commits that have succeeded. Answers how long a commit took, repetitions
    /// included.
    fn meter(&self, settled: &SettledTicket, outcome: &Outcome) -> Option<u64> {
        let took_ms = self.shared.clock.now_ms().saturating_sub(settled.since_ms);
        match (settled.operation.as_deref(), outcome) {
            (Some(Operation::PutPack(_)), Outcome::Done(_)) => {
                self.shared.meter.pack_settled(took_ms);
                None
            }
            (
                Some(Operation::CommitSession(_) | Operation::SessionStatus(_)),
                Outcome::Done(Answer::Session(session)),
            ) if session.status == SessionStatus::Committed => {
                self.shared.meter.commit_settled(took_ms);
                Some(took_ms)
            }
            _ => None,
        }
    }
}

fn is_slow_down(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if refusal.kind == RefusalKind::SlowDown)
}

/// The one timer of an instance.
#[derive(Default)]
struct Alarm {
    set: Option<(u64, BoxFuture<'static, ()>)>,
    rang_ms: Option<u64>,
}

impl Alarm {
    fn is_set(&self) -> bool {
        self.set.is_some()
    }

    /// A time that has passed rings at once, but not twice in one millisecond: a guest cannot spin
    /// on its timer.
    fn set(&mut self, deadline_ms: Option<u64>, clock: &dyn Clock) {
        let earliest = self.rang_ms.map_or(0, |rang_ms| rang_ms.saturating_add(1));
        let deadline = deadline_ms.map(|deadline_ms| deadline_ms.max(earliest));
        if deadline != self.set.as_ref().map(|(deadline, _)| *deadline) {
            self.set = deadline.map(|deadline| (deadline, clock.sleep_until(deadline)));
        }
    }

    fn stop(&mut self, now_ms: u64) {
        self.set = None;
        self.rang_ms = Some(now_ms);
    }

    async fn rings(&mut self) {
        match &mut self.set {
            Some((_, sleep)) => sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}
