//! Packs on their way: from a bucket that is due to the acknowledgement.
//!
//! After `buffers` in a row's way; `flush` keeps its queue and its limit, `operation` its attempts.
//! Invariant: at most one pack of a bucket is under way, and its later rows wait; a bucket with a
//! pack that waits is due; a pack is kept, by its ticket, until the service has acknowledged
//! exactly it, and every doubt about it is reported.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{BucketId, Millis, SessionId, Ticket};
use upsert_sink_format::tunnel::{
    CachedRange, Operation, Outcome, Refusal, RefusalKind, SessionRef,
};

use crate::config::{DoubtPolicy, SinkConfig};
use crate::flush::{ConcurrencyLimit, FlushQueue, PartitionLimit};
use crate::io::{Completion, WriterOutput};
use crate::operation::{Operations, Purpose, Submitted};
use crate::outputs::Outputs;
use crate::partition::PartitionIndex;
use crate::retry::Pause;
use crate::session::{OpenSession, SessionName};
use crate::writer::buffers::{BucketPack, Place};

/// The packs of one writer that are not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    partitions: Vec<PartitionPacks>,
    queue: FlushQueue,
    limit: ConcurrencyLimit,
    packs: Operations<SentPack>,
    doubt: DoubtPolicy,
    /// `upsert.flush.concurrent`: packs of one partition under way.
    concurrent: PartitionLimit,
    /// In file cache mode, `sink.file-cached.writer.num`: partitions with packs under way.
    writers: Option<usize>,
    /// The partitions with packs under way.
    sending: usize,
    /// Partitions that wait for one of those to have none.
    waiting: BTreeSet<PartitionIndex>,
}

/// The packs of one partition.
#[derive(Clone, Debug, Default)]
struct PartitionPacks {
    /// Full packs that wait for their turn, oldest first, by bucket; no bucket has none.
    sealed: BTreeMap<BucketId, VecDeque<BucketPack>>,
    /// The buckets of the packs that are under way.
    under_way: Vec<BucketId>,
}

/// A bucket whose turn it is.
#[derive(Debug)]
pub(crate) struct DueBucket {
    pub(crate) place: Place,
    /// Its oldest pack; none if its rows are still to be sealed.
    pub(crate) pack: Option<BucketPack>,
}

/// A pack that was submitted and is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct SentPack {
    pub(crate) place: Place,
    pub(crate) session: SessionName,
    pub(crate) records: u32,
    pub(crate) moved_out: u64,
    /// Its records in the file cache, which are needed until it is acknowledged.
    pub(crate) cached: Vec<CachedRange>,
    session_id: SessionId,
}

/// The effect of an outcome.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The pack was acknowledged, and is to be released.
    Acknowledged(Submitted<SentPack>),
    /// The pack may have been applied, or may be at any later time: after its acknowledgement
    /// nothing more may go into this session, lest the late copy be applied after newer rows.
    InDoubt(DoubtedPack),
    /// No pack: the outcome is late, or the pack waits for another attempt.
    Nothing,
}

/// A pack in doubt.
#[derive(Debug)]
pub(crate) struct DoubtedPack {
    pub(crate) partition: PartitionIndex,
    pub(crate) session: SessionId,
    /// The pack, for messages.
    pub(crate) at: String,
    /// It waits for another attempt; an error if there were too many.
    pub(crate) waits: Result<(), Error>,
}

impl Outbox {
    /// Nothing is on its way. The seed spreads the waits between attempts.
    pub(crate) fn new(seed: u64, config: &SinkConfig) -> Self {
        Self {
            partitions: Vec::new(),
            queue: FlushQueue::default(),
            limit: ConcurrencyLimit::default(),
            packs: Operations::new(seed, config.writer_retries),
            doubt: config.doubt,
            concurrent: PartitionLimit::new(config.flush_concurrent),
            writers: config.file_cache.enabled.then(|| config.file_cache.writers.get() as usize),
            sending: 0,
            waiting: BTreeSet::new(),
        }
    }

    /// Takes up a full pack: it waits, and its bucket is due.
    pub(crate) fn add(&mut self, pack: BucketPack) {
        let place = pack.place;
        self.partition(place.partition).sealed.entry(place.bucket).or_default().push_back(pack);
        self.make_due(place);
    }

    /// A bucket is to be flushed.
    pub(crate) fn make_due(&mut self, place: Place) {
        self.partition(place.partition);
        self.queue.push(place.partition, place.bucket);
    }

    /// A partition has a session: its buckets that are due can be flushed.
    pub(crate) fn wake_partition(&mut self, partition: PartitionIndex) {
        self.queue.wake(partition);
    }

    /// No partition has a session any more: those with buckets that are due need one.
    pub(crate) fn wake_all(&mut self) {
        self.queue.wake_all();
    }

    /// A bucket that is due and may be flushed, as far as the limits and its partition allow:
    /// partitions take turns, and within one the oldest goes first. `may_send` is asked once for
    /// each partition until that is woken.
    pub(crate) fn take_due(
        &mut self,
        mut may_send: impl FnMut(PartitionIndex) -> bool,
    ) -> Option<DueBucket> {
        if self.packs.len() >= self.limit.allowed() as usize {
            return None;
        }
        let Self { partitions, concurrent, waiting, .. } = self;
        let no_writer = self.writers.is_some_and(|writers| self.sending >= writers);
        let (partition, bucket) = self.queue.take(|index, due| {
            let busy = &partitions[index.0 as usize].under_way;
            if busy.is_empty() && no_writer {
                waiting.insert(index);
                return None;
            }
            if busy.len() >= concurrent.allowed() as usize {
                concurrent.hold_up();
                return None;
            }
            let free = may_send(index);
            due.iter().position(|bucket| free && !busy.contains(bucket))
        })?;
        let place = Place { partition, bucket };
        let pack = self.partition(partition).take_sealed(bucket);
        Some(DueBucket { place, pack })
    }

    /// Sends a pack into its partition's session.
    pub(crate) fn submit(
        &mut self,
        now: Millis,
        pack: BucketPack,
        session: &OpenSession,
        outputs: &mut Outputs<WriterOutput>,
    ) -> Ticket {
        let BucketPack { place, cached, body, records, moved_out } = pack;
        let partition = self.partition(place.partition);
        let begins = partition.under_way.is_empty();
        partition.under_way.push(place.bucket);
        self.sending += usize::from(begins);
        let partition = self.partition(place.partition);
        if partition.sealed.contains_key(&place.bucket) {
            self.make_due(place);
        }
        let submitted = SentPack {
            place,
            session: session.name.clone(),
            records,
            moved_out,
            cached: cached.clone(),
            session_id: session.id.clone(),
        };
        let partition = session.name.partition.clone();
        let session = SessionRef { id: session.id.clone(), partition };
        let operation = Operation::PutPack { session, bucket: place.bucket, records, cached, body };
        self.packs.submit(now, submitted, operation, outputs)
    }

    /// An attempt at a pack has an outcome.
    ///
    /// Errors: `Retry` or `Denied` if the attempt at the checkpoint is to end.
    pub(crate) fn complete(
        &mut self,
        now: Millis,
        completion: Completion,
        outputs: &mut Outputs<WriterOutput>,
    ) -> Result<Settled, Error> {
        let Some((pack, outcome)) = self.packs.take(completion, outputs) else {
            return Ok(Settled::Nothing);
        };
        match outcome {
            Outcome::Done(_) => Ok(self.acknowledge(now, pack)),
            Outcome::InDoubt(cause) => self.doubt(now, pack, &cause),
            Outcome::Refused(refusal) => self.refused(now, pack, &refusal),
        }
    }

    /// The timer has fired: makes the attempts that are due.
    pub(crate) fn wake(
        &mut self,
        now: Millis,
        other_due: bool,
        outputs: &mut Outputs<WriterOutput>,
    ) {
        self.packs.wake(now, other_due, outputs);
    }

    /// The time at which the next attempt is due.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.packs.deadline()
    }

    /// Whether every pack is acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Whether a bucket is due.
    pub(crate) fn is_due(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Forgets all partitions: after a barrier no pack of any is on its way.
    pub(crate) fn forget_partitions(&mut self) {
        self.partitions.clear();
        self.queue.clear();
        self.waiting.clear();
    }

    fn partition(&mut self, partition: PartitionIndex) -> &mut PartitionPacks {
        let index = partition.0 as usize;
        if index >= self.partitions.len() {
            self.partitions.resize_with(index + 1, PartitionPacks::default);
        }
        &mut self.partitions[index]
    }

    fn acknowledge(&mut self, now: Millis, pack: Submitted<SentPack>) -> Settled {
        let place = pack.purpose.place;
        self.limit.acknowledge();
        if pack.attempts() == 1 {
            self.concurrent.acknowledge(pack.age(now));
        }
        let under_way = &mut self.partition(place.partition).under_way;
        under_way.retain(|bucket| *bucket != place.bucket);
        if under_way.is_empty() {
            self.sending -= 1;
            core::mem::take(&mut self.waiting).into_iter().for_each(|next| self.queue.wake(next));
        }
        self.queue.wake(place.partition);
        Settled::Acknowledged(pack)
    }

    fn doubt(
        &mut self,
        now: Millis,
        pack: Submitted<SentPack>,
        cause: &str,
    ) -> Result<Settled, Error> {
        let SentPack { place, session_id, .. } = &pack.purpose;
        let partition = place.partition;
        let session = session_id.clone();
        let at = pack.purpose.place();
        match self.doubt {
            DoubtPolicy::Continue => {
                self.packs.put_off(now, pack, Pause::Doubt, cause).map(|()| Settled::Nothing)
            }
            DoubtPolicy::Fail => {
                let message = format!("sink.doubt = fail, and a pack is in doubt: {cause}");
                Err(Error::new(ErrorKind::Retry, at, message))
            }
            DoubtPolicy::Rollover => {
                let waits = self.packs.put_off(now, pack, Pause::Doubt, cause);
                Ok(Settled::InDoubt(DoubtedPack { partition, session, at, waits }))
            }
        }
    }

    fn refused(
        &mut self,
        now: Millis,
        pack: Submitted<SentPack>,
        refusal: &Refusal,
    ) -> Result<Settled, Error> {
        let pause = Pause::Refused(refusal);
        match refusal.kind {
            RefusalKind::Moved | RefusalKind::SlowDown => {
                if refusal.kind == RefusalKind::SlowDown {
                    self.limit.slow_down();
                    self.concurrent.slow_down();
                }
                self.packs.pause(now, pack, pause);
            }
            RefusalKind::NotSent | RefusalKind::Transient => {
                self.packs.put_off(now, pack, pause, &refusal.message)?;
            }
            RefusalKind::Denied
            | RefusalKind::Full
            | RefusalKind::Invalid
            | RefusalKind::NoSuchPartition
            | RefusalKind::NoSuchSession => {
                let remedy = "its rows come again from the last completed checkpoint";
                return Err(pack.refused(refusal, ErrorKind::Retry, "a pack", remedy));
            }
        }
        Ok(Settled::Nothing)
    }
}

impl PartitionPacks {
    fn take_sealed(&mut self, bucket: BucketId) -> Option<BucketPack> {
        let mut waiting = self.sealed.remove(&bucket)?;
        let oldest = waiting.pop_front();
        if !waiting.is_empty() {
            self.sealed.insert(bucket, waiting);
        }
        oldest
    }
}

impl Purpose for SentPack {
    /// `upsert.writer.max-retries`: attempts after the first.
    type Patience = u32;

    fn place(&self) -> String {
        let partition = &self.session.partition;
        let separator = if partition.is_empty() { "" } else { ", " };
        format!("{partition}{separator}bucket {}, session {}", self.place.bucket, self.session_id)
    }

    fn overdue(retries: u32, attempts: u32, _time: Millis, cause: &str) -> Option<String> {
        (attempts > retries).then(|| {
            format!(
                "a pack was not acknowledged in {attempts} attempts (upsert.writer.max-retries = \
                 {retries}), the last cause being: {cause}; its rows come again from the last \
                 completed checkpoint"
            )
        })
    }
}
