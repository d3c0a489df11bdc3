//! Packs on their way: from the flush queue to the acknowledgement.
//!
//! After `rows`. Invariant: of a bucket at most one pack is under way, and its later rows wait; a
//! pack is kept, by its ticket, until the service has acknowledged exactly it; a session with a
//! pack in doubt takes no further pack.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::buffer::{BucketBuffer, SealedPack};
use crate::checkpoint::CheckpointState;
use crate::config::DoubtPolicy;
use crate::error::{Error, ErrorKind};
use crate::id::{BucketId, CheckpointId, Millis, SessionId, Ticket};
use crate::ignored::Ignored;
use crate::io::{
    Completion, Level, Operation, Outcome, Refusal, RefusalKind, SessionRef, TunnelCommand,
};
use crate::partition::PartitionIndex;
use crate::planted::{Bug, planted};
use crate::session::{Committable, OpenSession, PartitionSession, SessionName};
use crate::writer::Writer;

/// What a writer holds of one partition.
#[derive(Clone, Debug)]
pub(crate) struct Partition {
    /// Its name for the Tunnel.
    pub(crate) spec: String,
    /// Its session.
    pub(crate) session: PartitionSession,
    /// The batch that last had a row of it.
    pub(crate) last_batch: u64,
    /// The bytes buffered of the batch under way that the account does not know yet.
    pub(crate) unaccounted: usize,
    /// Partitions that rows are known to have moved to from here.
    pub(crate) moved_to: BTreeSet<PartitionIndex>,
    /// Slot of each bucket, `NO_SLOT` before its first row.
    slot_of: Vec<u32>,
    slots: Vec<BucketSlot>,
    under_way: u32,
}

/// What a writer holds of one bucket of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketSlot {
    /// Rows that are not yet in a pack.
    pub(crate) buffer: BucketBuffer,
    /// Before-images in the buffer whose rows went elsewhere.
    pub(crate) moved_out: u64,
    /// Full packs that wait for their turn, oldest first.
    sealed: VecDeque<(SealedPack, u64)>,
    queued: bool,
    under_way: bool,
}

const NO_SLOT: u32 = u32::MAX;

impl Partition {
    /// A partition that nothing is held of yet.
    pub(crate) fn new(spec: String, buckets: u32) -> Self {
        Self {
            spec,
            session: PartitionSession::default(),
            last_batch: 0,
            unaccounted: 0,
            moved_to: BTreeSet::new(),
            slot_of: vec![NO_SLOT; buckets as usize],
            slots: Vec::new(),
            under_way: 0,
        }
    }

    /// The slot of a bucket, made on its first row.
    #[inline]
    pub(crate) fn slot(&mut self, bucket: BucketId) -> &mut BucketSlot {
        let mut at = self.slot_of[bucket.0 as usize];
        if at == NO_SLOT {
            at = self.new_slot(bucket);
        }
        &mut self.slots[at as usize]
    }

    #[cold]
    fn new_slot(&mut self, bucket: BucketId) -> u32 {
        let at = u32::try_from(self.slots.len()).expect("at most one slot a bucket");
        self.slots.push(BucketSlot::default());
        self.slot_of[bucket.0 as usize] = at;
        at
    }

    fn holds_rows(&self, bucket: usize) -> bool {
        self.slot_of[bucket] != NO_SLOT && {
            let slot = &self.slots[self.slot_of[bucket] as usize];
            !slot.buffer.is_empty() || !slot.sealed.is_empty()
        }
    }
}

/// A pack that was submitted and is not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct PackUnderWay {
    partition: PartitionIndex,
    bucket: BucketId,
    session: SessionName,
    session_id: SessionId,
    records: u32,
    moved_out: u64,
}

impl Writer {
    /// Makes a pack of what is buffered of a bucket.
    fn seal(&mut self, index: PartitionIndex, bucket: BucketId) {
        let slot = self.partitions[index.0 as usize].slot(bucket);
        let pack = slot.buffer.seal(&mut self.pool);
        let moved_out = core::mem::take(&mut slot.moved_out);
        self.account.add(index, grown(pack.bytes_freed, pack.body.len()));
        slot.sealed.push_back((pack, moved_out));
    }

    /// Seals a full buffer, so that no pack grows beyond `upsert.writer.bucket.buffer-size`, and
    /// makes it due.
    pub(crate) fn seal_full(&mut self, index: PartitionIndex, bucket: BucketId) {
        self.seal(index, bucket);
        self.queue_bucket(index, bucket);
    }

    /// Makes a bucket due.
    pub(crate) fn queue_bucket(&mut self, partition: PartitionIndex, bucket: BucketId) {
        let slot = self.partitions[partition.0 as usize].slot(bucket);
        if !slot.queued {
            slot.queued = true;
            self.queue.push(partition, bucket);
        }
    }

    /// Makes every bucket with rows due: a barrier has come.
    pub(crate) fn queue_all(&mut self) {
        for index in 0..self.partitions.len() {
            self.queue_partition(index);
        }
    }

    /// Makes every bucket of a partition due that has rows.
    pub(crate) fn queue_partition(&mut self, index: usize) {
        let partition = PartitionIndex(u32::try_from(index).expect("indices are 32 bits wide"));
        let buckets = self.partitions[index].slot_of.len();
        for bucket in 0..buckets {
            if self.partitions[index].holds_rows(bucket) {
                let bucket = BucketId(u32::try_from(bucket).expect("buckets are 32 bits wide"));
                self.queue_bucket(partition, bucket);
            }
        }
    }

    /// Over the budget, the coldest partitions flush until half of it would be free.
    pub(crate) fn relieve(&mut self) {
        if self.account.accepting() {
            return;
        }
        let mut excess = self.account.held().saturating_sub(self.config.memory_budget.0 / 2);
        excess = excess.saturating_sub(self.account.in_flight());
        let mut coldest: Vec<usize> = (0..self.partitions.len()).collect();
        coldest.sort_by_key(|index| self.partitions[*index].last_batch);
        for index in coldest {
            if excess == 0 {
                return;
            }
            let partition = PartitionIndex(u32::try_from(index).expect("indices are 32 bits"));
            excess = excess.saturating_sub(self.account.buffered_of(partition));
            self.queue_partition(index);
        }
    }

    /// Submits what is due, as far as sessions and limits allow.
    pub(crate) fn flush(&mut self, now: Millis) -> Result<(), Error> {
        let concurrent = self.config.flush_concurrent.get();
        let barrier = self.checkpoint.passed();
        while self.packs.len() < self.limit.allowed() as usize {
            let (partitions, asking, start) = (&mut self.partitions, &mut self.asking, self.start);
            let next = self.queue.take(|partition, bucket| {
                let partition = &mut partitions[partition.0 as usize];
                let busy = partition.slot(bucket).under_way && !planted(Bug::TwoPacksOfABucket);
                if partition.under_way >= concurrent || busy {
                    return false;
                }
                if partition.session.ask(&partition.spec, start, barrier) {
                    asking.tell();
                }
                partition.session.open().is_some()
            });
            let Some((partition, bucket)) = next else { return Ok(()) };
            self.submit_pack(now, partition, bucket);
        }
        Ok(())
    }

    fn submit_pack(&mut self, now: Millis, index: PartitionIndex, bucket: BucketId) {
        let draining = matches!(self.checkpoint, CheckpointState::Draining { .. });
        let slot = self.partitions[index.0 as usize].slot(bucket);
        slot.queued = false;
        if slot.sealed.is_empty() && !slot.buffer.is_empty() {
            self.seal(index, bucket);
        }
        let partition = &mut self.partitions[index.0 as usize];
        let slot = partition.slot(bucket);
        let next = match planted(Bug::PacksOutOfOrder) {
            false => slot.sealed.pop_front(),
            true => slot.sealed.pop_back(),
        };
        let Some((pack, moved_out)) = next else { return };
        slot.under_way = true;
        let more = !slot.sealed.is_empty() || (draining && !slot.buffer.is_empty());
        partition.under_way += 1;
        let session = partition.session.open().expect("checked before it was taken").clone();
        let spec = partition.spec.clone();
        if more {
            self.queue_bucket(index, bucket);
        }
        let SealedPack { body, records, .. } = pack;
        let sealed = body.len();
        let body = match &self.partial {
            Some(rows) => rows.pack_for(body, &session.column_ids),
            None => body,
        };
        let under_way = PackUnderWay {
            partition: index,
            bucket,
            session: session.name.clone(),
            session_id: session.id.clone(),
            records,
            moved_out,
        };
        self.hold_committable(now, &session);
        let ticket = self.packs.begin(now, under_way);
        self.account.submit(index, sealed, ticket, body.len());
        let session = SessionRef { id: session.id, partition: spec };
        let operation = Operation::PutPack { session, bucket, records, body };
        self.tunnel(TunnelCommand::Submit(ticket, operation));
    }

    /// From its first pack on, a session is this writer's to have committed.
    fn hold_committable(&mut self, now: Millis, session: &OpenSession) {
        if self.committables.contains_key(&session.name) {
            return;
        }
        let committable = Committable {
            identity: self.identity.clone(),
            name: session.name.clone(),
            session: session.id.clone(),
            created_at: session.created_at,
            contact_at: now,
            lifecycle_hours: self.config.session_lifecycle.0,
            packs: 0,
            records: 0,
            moved_out: 0,
            moved_to: BTreeSet::new(),
            after: self.snapshot,
            before: CheckpointId(0),
        };
        self.committables.insert(session.name.clone(), committable);
    }

    /// An attempt at a pack has an outcome.
    pub(crate) fn complete_pack(
        &mut self,
        now: Millis,
        completion: Completion,
    ) -> Result<(), Error> {
        let Completion { mut ticket, outcome } = completion;
        if planted(Bug::AckNotMatched) && self.packs.under_way(ticket).is_none() {
            ticket = self.packs.oldest().unwrap_or(ticket);
        }
        let Some(held) = self.packs.under_way(ticket) else {
            self.ignore(Ignored::LateOutcome);
            return Ok(());
        };
        let attempts = held.attempts;
        match outcome {
            Outcome::Done(_) => {
                self.acknowledge(now, ticket);
                Ok(())
            }
            Outcome::InDoubt(_) if planted(Bug::DoubtedPackDropped) => {
                self.acknowledge(now, ticket);
                Ok(())
            }
            Outcome::InDoubt(doubt) => {
                self.doubt(ticket, &doubt)?;
                self.put_off(now, ticket, attempts.after_doubt(), &doubt)
            }
            Outcome::Refused(refusal) => self.refused(now, ticket, &refusal),
        }
    }

    fn acknowledge(&mut self, now: Millis, ticket: Ticket) {
        let pack = self.packs.finish(ticket).expect("looked up by the caller").purpose;
        self.tunnel(TunnelCommand::Release(ticket));
        if !planted(Bug::AccountLeaks) {
            self.account.release(ticket).expect("submitted with this ticket");
        }
        self.limit.acknowledge();
        let held = self.committables.get_mut(&pack.session).expect("held since its first pack");
        held.contact_at = now;
        held.packs += 1;
        held.records += u64::from(pack.records);
        held.moved_out += pack.moved_out;
        if pack.moved_out > 0 {
            let targets = &self.partitions[pack.partition.0 as usize].moved_to;
            let specs = targets.iter().map(|target| &self.partitions[target.0 as usize].spec);
            held.moved_to.extend(specs.cloned());
        }
        let partition = &mut self.partitions[pack.partition.0 as usize];
        partition.under_way -= 1;
        partition.slot(pack.bucket).under_way = false;
    }

    /// The pack may have been applied, or may be at any later time: after its acknowledgement
    /// nothing more may go into this session, lest the late copy come after newer rows.
    fn doubt(&mut self, ticket: Ticket, doubt: &str) -> Result<(), Error> {
        let pack = &self.packs.under_way(ticket).expect("looked up by the caller").purpose;
        let (partition, session) = (pack.partition, pack.session_id.clone());
        let at = pack_place(&self.partitions[partition.0 as usize].spec, pack.bucket, &session);
        match self.config.doubt {
            DoubtPolicy::Rollover if planted(Bug::NoRollover) => Ok(()),
            DoubtPolicy::Continue => Ok(()),
            DoubtPolicy::Fail => {
                let message = format!("sink.doubt = fail, and a pack is in doubt: {doubt}");
                Err(Error::new(ErrorKind::Retry, at, message))
            }
            DoubtPolicy::Rollover => {
                if self.partitions[partition.0 as usize].session.doubt(&session) {
                    self.log(Level::Info, format!("{at}: in doubt, a fresh session follows"));
                }
                Ok(())
            }
        }
    }

    fn refused(&mut self, now: Millis, ticket: Ticket, refusal: &Refusal) -> Result<(), Error> {
        let held = self.packs.under_way(ticket).expect("looked up by the caller");
        let (wait, pack) = (held.attempts.after_refusal(refusal), &held.purpose);
        let spec = &self.partitions[pack.partition.0 as usize].spec;
        let at = pack_place(spec, pack.bucket, &pack.session_id);
        let kind = match refusal.kind {
            RefusalKind::SlowDown if planted(Bug::SlowDownIsSuccess) => {
                self.acknowledge(now, ticket);
                return Ok(());
            }
            RefusalKind::SlowDown => {
                self.limit.slow_down();
                self.packs.wait(ticket, now.plus(wait));
                return Ok(());
            }
            RefusalKind::Moved => {
                self.packs.wait(ticket, now.plus(wait));
                return Ok(());
            }
            RefusalKind::NotSent | RefusalKind::Transient => {
                return self.put_off(now, ticket, wait, &refusal.message);
            }
            RefusalKind::Full
            | RefusalKind::Invalid
            | RefusalKind::NoSuchPartition
            | RefusalKind::NoSuchSession => ErrorKind::Retry,
            RefusalKind::Denied => ErrorKind::Denied,
        };
        let message = format!(
            "the service refused a pack: {} {} (request {}); its rows come again from the last \
             completed checkpoint",
            refusal.code, refusal.message, refusal.request_id
        );
        Err(Error::new(kind, at, message))
    }

    /// Makes another attempt later, with the same bytes, as often as `upsert.writer.max-retries`
    /// allows.
    fn put_off(
        &mut self,
        now: Millis,
        ticket: Ticket,
        wait: Millis,
        cause: &str,
    ) -> Result<(), Error> {
        let held = self.packs.under_way(ticket).expect("looked up by the caller");
        if held.attempts.made() > self.config.writer_retries {
            let (made, pack) = (held.attempts.made(), &held.purpose);
            let spec = &self.partitions[pack.partition.0 as usize].spec;
            let message = format!(
                "a pack was not acknowledged in {made} attempts (upsert.writer.max-retries = {}), \
                 the last cause being: {cause}; its rows come again from the last completed \
                 checkpoint",
                self.config.writer_retries
            );
            let at = pack_place(spec, pack.bucket, &pack.session_id);
            return Err(Error::new(ErrorKind::Retry, at, message));
        }
        self.packs.wait(ticket, now.plus(wait));
        Ok(())
    }
}

/// What sealing changes: the trailer comes, keys and overheads go.
fn grown(freed: usize, sealed: usize) -> i64 {
    let signed = |n: usize| i64::try_from(n).expect("a buffer is far smaller than 2^63 bytes");
    signed(sealed) - signed(freed)
}

fn pack_place(partition: &str, bucket: BucketId, session: &SessionId) -> String {
    let separator = if partition.is_empty() { "" } else { ", " };
    format!("{partition}{separator}bucket {bucket}, session {session}")
}
