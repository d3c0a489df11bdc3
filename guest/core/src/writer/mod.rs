//! The writer: one sink task, from rows and barriers to packs and snapshots.
//!
//! A row's way inside the core begins in `rows` (batch → partition → hash → bucket → record →
//! buffer) and goes on in `packs` (flush → submit → acknowledgement); `asking` keeps the
//! coordinator told. Invariant: a row that was taken is buffered, in a pack that is not
//! acknowledged, or in a committable, but for a before-image that may be absorbed (`held`); a
//! snapshot holds every committable whose commit is not known.
//!
//! Order of calls: one `handle_input`, then `poll_output` until it is empty, then `deadline`.

mod asking;
mod held;
mod packs;
mod rows;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::buffer::{BufferAccount, BufferPool};
use crate::checkpoint::{CheckpointEffect, CheckpointEvent, CheckpointState};
use crate::config::{DeliveryGuarantee, SinkConfig};
use crate::error::{Error, ErrorKind};
use crate::flush::{ConcurrencyLimit, FlushQueue};
use crate::id::{CheckpointId, Millis, WriterIndex};
use crate::ignored::Ignored;
use crate::io::{BarrierKind, Level, Snapshot, Task, Telemetry, WriterInput, WriterOutput};
use crate::open::Opened;
use crate::operation::Operations;
use crate::record::PartialRows;
use crate::session::{Committable, SessionName};
use crate::state::{Kind, Opener, Sealer};
use asking::Asking;
use held::HeldBefore;
use packs::{PackUnderWay, Partition};
use rows::RowPath;

/// One sink task.
#[derive(Clone, Debug)]
pub struct Writer {
    identity: String,
    start: u64,
    config: SinkConfig,
    path: RowPath,
    /// None if every row is whole.
    partial: Option<PartialRows>,
    held: Option<HeldBefore>,
    partitions: Vec<Partition>,
    pool: BufferPool,
    account: BufferAccount,
    queue: FlushQueue,
    limit: ConcurrencyLimit,
    packs: Operations<PackUnderWay>,
    checkpoint: CheckpointState,
    /// The barrier of the last snapshot.
    snapshot: CheckpointId,
    /// Sessions with rows of this writer whose commit is not known; also the restored ones.
    committables: BTreeMap<SessionName, Committable>,
    asking: Asking,
    /// Rises with each batch: tells which partitions are cold.
    batches: u64,
    outputs: VecDeque<WriterOutput>,
}

impl Writer {
    /// Begins a writer, from the states of the checkpoint to resume from; none at the first start.
    ///
    /// Errors: `InvalidConfig` for options, schema or a state of another sink; `Corrupt` for a
    /// damaged state.
    pub fn open(now: Millis, task: &Task, states: &[Vec<u8>]) -> Result<Self, Error> {
        let Opened { schema, config, plan, warnings } = Opened::of(task)?;
        let partial = PartialRows::of(&schema, &plan, config.written);
        let mut writer = Self {
            identity: task.identity.clone(),
            start: task.start,
            path: RowPath::new(&schema, plan, &config, partial.clone())?,
            partitions: Vec::new(),
            pool: BufferPool::new().partial(partial.clone()),
            partial,
            held: None,
            account: BufferAccount::new(config.memory_budget),
            queue: FlushQueue::default(),
            limit: ConcurrencyLimit::default(),
            packs: Operations::new(task.nonce ^ u64::from(task.index.0)),
            checkpoint: CheckpointState::first(),
            snapshot: CheckpointId(0),
            committables: BTreeMap::new(),
            asking: Asking::new(task),
            batches: 0,
            outputs: VecDeque::new(),
            config,
        };
        if task.index == WriterIndex(0) {
            warnings.into_iter().for_each(|line| writer.log(Level::Warn, line));
        }
        writer.restore(states)?;
        writer.ask_if_due(now);
        Ok(writer)
    }

    /// Whether further rows may be written now.
    pub fn accepting(&self) -> bool {
        matches!(self.checkpoint, CheckpointState::Running { .. }) && self.account.accepting()
    }

    /// Bytes of rows in buffers and in packs that are not acknowledged.
    pub fn held_bytes(&self) -> u64 {
        self.account.held()
    }

    /// Takes one input. Drain `poll_output` before the next, which panics otherwise.
    ///
    /// Errors end the attempt; their kind says what to do.
    pub fn handle_input(&mut self, now: Millis, input: WriterInput<'_>) -> Result<(), Error> {
        assert!(self.outputs.is_empty(), "an output that is left is carried out too late");
        match input {
            WriterInput::BarrierArrived(barrier, kind) => {
                self.check_barrier(barrier, kind)?;
                self.release_held();
                self.checkpoint_event(CheckpointEvent::BarrierArrived(barrier))?;
            }
            WriterInput::CheckpointEnded(checkpoint, outcome) => {
                self.checkpoint_event(CheckpointEvent::Ended(checkpoint, outcome))?;
            }
            WriterInput::Completed(completion) => self.complete_pack(now, completion)?,
            WriterInput::Replied(reply) => self.take_reply(reply)?,
            WriterInput::RowsArrived(batch) => self.take_rows(batch)?,
            WriterInput::TimerFired => self.wake(now),
        }
        self.flush(now)?;
        self.snapshot_if_drained()?;
        self.ask_if_due(now);
        Ok(())
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<WriterOutput> {
        self.outputs.pop_front()
    }

    /// When to call with `TimerFired`.
    pub fn deadline(&self) -> Option<Millis> {
        [self.packs.deadline(), self.ask_deadline()].into_iter().flatten().min()
    }

    /// A savepoint never completes, so what it holds would wait for the next checkpoint, and that
    /// one for rows which wait for what the savepoint holds.
    fn check_barrier(&self, barrier: CheckpointId, kind: BarrierKind) -> Result<(), Error> {
        let waits = kind == BarrierKind::Savepoint
            && !self.config.session_overlap
            && self.config.guarantee == DeliveryGuarantee::ExactlyOnce;
        if !waits {
            return Ok(());
        }
        let message = "an intermediate savepoint is refused with sink.session.overlap = false: \
                       its sessions would stay open, and rows behind it could never be written; \
                       stop the job with a savepoint instead";
        Err(Error::new(ErrorKind::Retry, format!("savepoint {barrier}"), message))
    }

    fn checkpoint_event(&mut self, event: CheckpointEvent) -> Result<(), Error> {
        let (next, effect) = self.checkpoint.clone().next(event)?;
        self.checkpoint = next;
        match effect {
            CheckpointEffect::Flush => self.queue_all(),
            CheckpointEffect::Ignore(reason) => self.ignore(reason),
            CheckpointEffect::Note => {}
            CheckpointEffect::Skip => self.pass_barrier(),
            CheckpointEffect::Snapshot(checkpoint) => {
                self.pass_barrier();
                self.forget_partitions();
                self.take_snapshot(checkpoint);
            }
        }
        Ok(())
    }

    /// What comes now belongs to sessions of another name.
    fn pass_barrier(&mut self) {
        for partition in &mut self.partitions {
            partition.session.leave();
        }
        self.asking.tell();
    }

    fn snapshot_if_drained(&mut self) -> Result<(), Error> {
        let draining = matches!(self.checkpoint, CheckpointState::Draining { .. });
        if draining && self.account.held() == 0 && self.packs.is_empty() {
            assert!(self.queue.is_empty(), "nothing is buffered, so nothing is due");
            self.checkpoint_event(CheckpointEvent::Drained)?;
        }
        Ok(())
    }

    /// After a barrier nothing is held of any partition: each begins anew, so that they cannot pile
    /// up.
    fn forget_partitions(&mut self) {
        self.partitions.clear();
        self.path.forget_partitions();
    }

    fn take_snapshot(&mut self, checkpoint: CheckpointId) {
        self.snapshot = checkpoint;
        for held in self.committables.values_mut().filter(|held| held.before == CheckpointId(0)) {
            held.before = checkpoint;
        }
        let committables: Vec<Vec<u8>> =
            self.committables.values().map(Committable::to_bytes).collect();
        let state = Sealer::new(Kind::Writer)
            .text(&self.identity)
            .list(&committables, |sealer, committable| {
                sealer.bytes(committable);
            })
            .seal();
        let snapshot = Snapshot { checkpoint, state, committables };
        self.outputs.push_back(WriterOutput::Snapshot(snapshot));
    }

    fn restore(&mut self, states: &[Vec<u8>]) -> Result<(), Error> {
        for state in states {
            let mut opener = Opener::open(Kind::Writer, state)?;
            let identity = opener.text()?;
            if identity != self.identity {
                let message = format!(
                    "the checkpoint is of sink {identity}, this is sink {}: restore it with the \
                     journal directory it was written with",
                    self.identity
                );
                return Err(Error::config("state", message));
            }
            for bytes in opener.list(Opener::bytes)? {
                let committable = Committable::from_bytes(bytes)?;
                if committable.name.start >= self.start {
                    let message = format!(
                        "the checkpoint is of start {}, but the journal's last is before {}: the \
                         journal directory is lost or was replaced by an older one; restore it",
                        committable.name.start, self.start
                    );
                    return Err(Error::config("state", message));
                }
                // After a change of parallelism, one writer may take up what several put into one
                // session.
                self.committables
                    .entry(committable.name.clone())
                    .and_modify(|held| held.join(&committable))
                    .or_insert(committable);
            }
            opener.finish()?;
        }
        let restored = self.committables.values().map(Committable::to_bytes).collect();
        if !states.is_empty() {
            self.outputs.push_back(WriterOutput::Restored(restored));
        }
        Ok(())
    }

    fn wake(&mut self, now: Millis) {
        let due = self.packs.wake(now);
        if due.is_empty() && self.ask_deadline().is_none_or(|deadline| deadline > now) {
            self.ignore(Ignored::TimerWithoutCause);
        }
        for ticket in due {
            self.tunnel(crate::io::TunnelCommand::Repeat(ticket));
        }
    }

    fn tunnel(&mut self, command: crate::io::TunnelCommand) {
        self.outputs.push_back(WriterOutput::Tunnel(command));
    }

    fn log(&mut self, level: Level, line: String) {
        self.outputs.push_back(WriterOutput::Tell(Telemetry::Log(level, line)));
    }

    fn count(&mut self, counter: &'static str, value: u64) {
        self.outputs.push_back(WriterOutput::Tell(Telemetry::Count(counter, value)));
    }

    fn ignore(&mut self, reason: Ignored) {
        self.count(reason.counter(), 1);
    }
}
