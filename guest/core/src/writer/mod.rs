//! The writer: one sink task, from rows and barriers to packs and snapshots.
//!
//! It hands values from part to part; each part owns its state, and none knows the writer. On a
//! row's way they stand in this order: `path` makes records of rows, `buffers` keeps and counts
//! them, `outbox` sends them as packs, `commitments` holds their sessions until the commits are
//! known; `asking` sends requests to the coordinator. Invariant: a row that was taken is buffered,
//! in a pack that is not acknowledged, or in a committable, but for a before-image that may be
//! absorbed (`held`); the values of one input are all handed on before the next is taken.
//!
//! Order of calls: one `handle_input`, then `poll_output` until it is empty, then `deadline`.

mod asking;
mod buffers;
mod commitments;
mod held;
mod outbox;
mod path;

use alloc::format;
use alloc::vec::Vec;

use asking::{Asking, Received, RowLayout};
use buffers::{Buffers, CacheNews, Spool};
use commitments::Commitments;
use outbox::{DoubtedPack, DueBucket, Outbox, Settled};
use path::RowPath;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, WriterIndex};
use upsert_sink_format::record::PartialRows;

use crate::checkpoint::{CheckpointEffect, CheckpointEvent, CheckpointState};
use crate::config::{DeliveryGuarantee, SinkConfig};
use crate::ignored::Ignored;
use crate::io::{
    BarrierKind, CheckpointOutcome, Completion, Level, Task, WriterInput, WriterOutput,
};
use crate::open::Opened;
use crate::outputs::Outputs;

/// One sink task.
#[derive(Clone, Debug)]
pub struct Writer {
    path: RowPath,
    buffers: Buffers,
    outbox: Outbox,
    commitments: Commitments,
    asking: Asking,
    checkpoint: CheckpointState,
    /// Whether an intermediate savepoint can be passed.
    savepoints: bool,
    outputs: Outputs<WriterOutput>,
}

impl Writer {
    /// Begins a writer, from the states of the checkpoint to resume from; none at the first start.
    ///
    /// Errors: `InvalidConfig` for options, schema or a state of another sink; `Corrupt` for a
    /// damaged state.
    pub fn open(now: Millis, task: &Task, states: &[Vec<u8>]) -> Result<Self, Error> {
        let Opened { schema, config, plan, warnings } = Opened::of(task)?;
        check_cache(&config, task)?;
        let partial = PartialRows::of(&schema, &plan, config.written);
        let layout = RowLayout::new(&schema, &config, partial.is_some());
        let seed = task.nonce ^ u64::from(task.index.0);
        let mut writer = Self {
            path: RowPath::new(&schema, plan, &config, partial.clone())?,
            buffers: Buffers::new(&config, schema.buckets, partial, task.cache_bytes),
            outbox: Outbox::new(seed, &config),
            commitments: Commitments::new(task, config.session_lifecycle),
            asking: Asking::new(task, layout),
            checkpoint: CheckpointState::first(),
            savepoints: can_pass_savepoints(&config),
            outputs: Outputs::new(),
        };
        if task.index == WriterIndex(0) {
            warnings.into_iter().for_each(|line| writer.outputs.log(Level::Warn, line));
        }
        let restored = writer.commitments.restore(states)?;
        if !states.is_empty() {
            writer.outputs.push(WriterOutput::Restored(restored));
        }
        writer.ask_if_due(now);
        Ok(writer)
    }

    /// Whether further rows may be written now.
    pub fn accepting(&self) -> bool {
        matches!(self.checkpoint, CheckpointState::Running { .. })
            && self.buffers.accepting()
            && !self.commitments.are_behind()
    }

    /// Bytes of rows in buffers and in packs that are not acknowledged.
    pub fn held_bytes(&self) -> u64 {
        self.buffers.held_bytes()
    }

    /// Takes one input. Drain `poll_output` before the next, which panics otherwise.
    ///
    /// Errors end the attempt; their kind says what to do.
    pub fn handle_input(&mut self, now: Millis, input: WriterInput<'_>) -> Result<(), Error> {
        self.outputs.assert_drained();
        match input {
            WriterInput::BarrierArrived(barrier, kind) => {
                self.check_barrier(barrier, kind)?;
                self.path.release_held(&mut self.buffers);
                self.send_full();
                self.checkpoint_event(CheckpointEvent::BarrierArrived(barrier))?;
            }
            WriterInput::CheckpointEnded(checkpoint, outcome) => {
                self.checkpoint_event(CheckpointEvent::Ended(checkpoint, outcome))?;
                if outcome == CheckpointOutcome::Completed && self.commitments.complete(checkpoint)
                {
                    self.outputs.count("upsert_sink.writers.pressed_back", 1);
                }
            }
            WriterInput::Completed(completion) if Spool::has_asked(completion.ticket) => {
                self.complete_spill(completion);
            }
            WriterInput::Completed(completion) => self.complete_pack(now, completion)?,
            WriterInput::Replied(reply) => self.take_reply(reply)?,
            WriterInput::RowsArrived(batch) => self.take_rows(batch)?,
            WriterInput::TimerFired => {
                let others = [self.asking.deadline(), self.buffers.deadline()];
                let other_due = others.into_iter().flatten().any(|deadline| deadline <= now);
                self.outbox.wake(now, other_due, &mut self.outputs);
            }
        }
        self.buffers.rolled(now).into_iter().for_each(|place| self.outbox.make_due(place));
        self.flush(now);
        self.spill();
        self.count_merged();
        self.snapshot_if_drained()?;
        self.ask_if_due(now);
        Ok(())
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<WriterOutput> {
        self.outputs.pop()
    }

    /// The time at which to call with `TimerFired`.
    pub fn deadline(&self) -> Option<Millis> {
        let deadlines = [self.outbox.deadline(), self.asking.deadline(), self.buffers.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Takes a batch: every row is buffered or refused.
    ///
    /// Errors: those of `RowPath::take`; `Bug` if no rows are accepted now.
    fn take_rows(&mut self, batch: &[u8]) -> Result<(), Error> {
        if self.is_draining() {
            return Err(Error::bug("host", "rows came while a barrier was being passed"));
        }
        let taken = self.path.take(batch, &mut self.buffers)?;
        for line in taken.dead_letters {
            self.outputs.count("upsert_sink.rows.dead_letter", 1);
            self.outputs.push(WriterOutput::DeadLetter(line));
        }
        self.outputs.count("messaging.client.consumed.messages", taken.rows as u64);
        self.send_full();
        self.buffers.due().into_iter().for_each(|place| self.outbox.make_due(place));
        Ok(())
    }

    /// Counted before the snapshot that follows: the rows are those of its checkpoint.
    fn count_merged(&mut self) {
        let merged = self.buffers.take_merged();
        if merged > 0 {
            self.outputs.count("upsert_sink.rows.merged", merged);
        }
    }

    fn send_full(&mut self) {
        self.buffers.take_full().into_iter().for_each(|pack| self.outbox.add(pack));
    }

    /// Submits what is due, as far as sessions and limits allow.
    fn flush(&mut self, now: Millis) {
        let passed = self.checkpoint.passed();
        loop {
            let Self { path, asking, .. } = self;
            let due = self.outbox.take_due(|partition| {
                let name = path.partition_name(partition);
                asking.session(partition, name, passed).is_some()
            });
            let Some(due) = due else { return };
            self.submit_pack(now, due);
        }
    }

    fn submit_pack(&mut self, now: Millis, due: DueBucket) {
        let DueBucket { place, pack } = due;
        let Some(mut pack) = pack.or_else(|| self.buffers.seal(place)) else { return };
        let session = self.asking.open_session_of(place.partition);
        let sealed = pack.held();
        pack.body = self.buffers.pack_for(pack.body, &session.column_ids);
        let sent = pack.held();
        self.commitments.hold(now, session);
        let ticket = self.outbox.submit(now, pack, session, &mut self.outputs);
        if self.is_draining() && self.buffers.has_rows(place) {
            self.outbox.make_due(place);
        }
        self.buffers.submit(place.partition, sealed, ticket, sent);
    }

    /// Rows go to the file cache, and what is needed there no more goes.
    fn spill(&mut self) {
        if !self.is_draining() {
            self.buffers.spill();
        }
        for command in self.buffers.take_cache_commands() {
            self.outputs.push(WriterOutput::Cache(command));
        }
    }

    /// Something that was asked of the file cache has an outcome.
    fn complete_spill(&mut self, completion: Completion) {
        match self.buffers.complete_spill(completion) {
            CacheNews::Cached(bytes) => self.outputs.count("upsert_sink.cache.written", bytes),
            CacheNews::Late => self.outputs.ignore(Ignored::LateOutcome),
            CacheNews::Nothing => {}
            CacheNews::Refused(cause) => {
                self.outputs.count("upsert_sink.cache.refused", 1);
                let line = format!("the file cache takes no rows for now, they are sent: {cause}");
                self.outputs.log(Level::Warn, line);
            }
        }
    }

    /// An attempt at a pack has an outcome.
    fn complete_pack(&mut self, now: Millis, completion: Completion) -> Result<(), Error> {
        match self.outbox.complete(now, completion, &mut self.outputs)? {
            Settled::Acknowledged(pack) => {
                self.buffers.release(pack.ticket, &pack.purpose.cached);
                let pack = pack.release(&mut self.outputs);
                let moved_to = self.path.moved_to(pack.place.partition);
                self.commitments.acknowledge(now, &pack, moved_to)?;
            }
            Settled::InDoubt(DoubtedPack { partition, session, at, waits }) => {
                if self.asking.doubt(partition, &session) {
                    self.outputs
                        .log(Level::Info, format!("{at}: in doubt, a fresh session follows"));
                }
                waits?;
            }
            Settled::Nothing => {}
        }
        Ok(())
    }

    /// Takes the coordinator's reply.
    fn take_reply(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let reply = match self.asking.take_reply(bytes)? {
            Received::Nothing(reason) => {
                self.outputs.ignore(reason);
                return Ok(());
            }
            Received::Reply(reply) => reply,
        };
        self.commitments.forget_known(&reply.known);
        for partition in self.asking.open_sessions(&reply.granted)? {
            self.outbox.wake_partition(partition);
        }
        // The writer asks again at once for all that is still open: the coordinator holds the
        // request until it knows more.
        if !self.commitments.is_empty() || self.asking.wanted().next().is_some() {
            self.asking.ask_again();
        }
        Ok(())
    }

    fn ask_if_due(&mut self, now: Millis) {
        if self.asking.is_due(now) {
            let pending = self.commitments.pending();
            let request = self.asking.request(now, self.checkpoint.passed(), pending);
            self.outputs.push(WriterOutput::Request(request));
        }
    }

    /// A savepoint never completes, so what it holds would wait for the next checkpoint, and that
    /// one for rows which wait for what the savepoint holds.
    fn check_barrier(&self, barrier: CheckpointId, kind: BarrierKind) -> Result<(), Error> {
        if kind == BarrierKind::Checkpoint || self.savepoints {
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
            CheckpointEffect::Flush => {
                self.buffers.all().into_iter().for_each(|place| self.outbox.make_due(place));
            }
            CheckpointEffect::Ignore(reason) => self.outputs.ignore(reason),
            CheckpointEffect::Note => {}
            CheckpointEffect::Skip => {
                self.asking.pass_barrier();
                self.outbox.wake_all();
            }
            CheckpointEffect::Snapshot(checkpoint) => {
                self.asking.pass_barrier();
                self.forget_partitions();
                let snapshot = self.commitments.snapshot(checkpoint);
                self.outputs.push(WriterOutput::Snapshot(snapshot));
            }
        }
        Ok(())
    }

    fn snapshot_if_drained(&mut self) -> Result<(), Error> {
        if self.is_draining() && self.buffers.held_bytes() == 0 && self.outbox.is_empty() {
            assert!(!self.outbox.is_due(), "nothing is buffered, so nothing is due");
            self.checkpoint_event(CheckpointEvent::Drained)?;
        }
        Ok(())
    }

    /// After a barrier nothing is held of any partition: each begins anew, so that they cannot pile
    /// up.
    fn forget_partitions(&mut self) {
        self.path.forget_partitions();
        self.buffers.forget_partitions();
        self.outbox.forget_partitions();
        self.asking.forget_partitions();
    }

    fn is_draining(&self) -> bool {
        matches!(self.checkpoint, CheckpointState::Draining { .. })
    }
}

/// File cache mode needs a file cache.
fn check_cache(config: &SinkConfig, task: &Task) -> Result<(), Error> {
    if !config.file_cache.enabled || task.cache_bytes > 0 {
        return Ok(());
    }
    Err(Error::config(
        "option `sink.file-cached.enable`",
        "`true`, but the host grants no file cache: name a directory in \
         `sink.file-cached.tmp.dirs`, and let `sandbox.cache-limit` be more than 0; or set it to \
         `false`",
    ))
}

/// Under exactly-once, sessions must be allowed to overlap.
fn can_pass_savepoints(config: &SinkConfig) -> bool {
    config.session_overlap || config.guarantee == DeliveryGuarantee::AtLeastOnce
}
