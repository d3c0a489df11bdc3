//! The file cache as a writer uses it: its segments, and the rows that are on their way into them.
//!
//! Beside the buffers, which say what goes there and keep the places of what is there. Invariant:
//! one append is on its way at a time, and its bytes are held until its outcome; a segment is
//! dropped when none of its bytes is needed, at the latest behind a barrier; what the cache refuses
//! goes back to where it came from.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use upsert_sink_format::id::{SegmentId, Ticket};
use upsert_sink_format::tunnel::{CachedRange, Outcome, Refusal, RefusalKind};

use crate::config::FileCacheConfig;
use crate::io::{CacheCommand, Completion};
use crate::writer::buffers::Place;

/// The segments of one writer.
#[derive(Clone, Debug)]
pub(crate) struct Spool {
    granted: u64,
    write_retries: u32,
    /// `sink.file-cached.rolling.max-size`: a segment that has as much is followed by another.
    segment_bytes: u64,
    /// The segment that is appended to.
    current: SegmentId,
    segments: BTreeMap<SegmentId, Segment>,
    under_way: Option<Spill>,
    tickets: u64,
    /// Why nothing more is cached before the next barrier.
    rests: bool,
    commands: Vec<CacheCommand>,
}

/// The bytes of one segment.
#[derive(Clone, Copy, Debug, Default)]
struct Segment {
    appended: u32,
    /// Those of records that are not acknowledged.
    needed: u64,
}

/// An append that has no outcome yet.
#[derive(Clone, Debug)]
struct Spill {
    ticket: Ticket,
    attempts: u32,
    /// Its first byte in the current segment.
    offset: u32,
    bytes: Arc<Vec<u8>>,
    parts: Vec<SpillPart>,
}

/// The rows of one bucket in an append.
#[derive(Clone, Debug)]
struct SpillPart {
    place: Place,
    /// Their bytes in it; none if they were taken back.
    bytes: Option<Range<u32>>,
}

/// The end of an append.
#[derive(Debug)]
pub(crate) enum SpillEnd {
    /// Each bucket's rows are in their place.
    Cached(Vec<(Place, CachedRange)>),
    /// It is tried once more.
    Again,
    /// Each bucket's rows come back, for this reason.
    Refused(Vec<(Place, Range<usize>)>, Arc<Vec<u8>>, String),
    /// It is not awaited: the outcome is late.
    Late,
}

impl Spool {
    /// Nothing is cached. None if the host grants nothing.
    pub(crate) fn new(config: &FileCacheConfig, granted: u64) -> Option<Self> {
        (granted > 0).then(|| Self {
            granted,
            write_retries: config.write_retries,
            segment_bytes: config.rolling.0,
            current: SegmentId(0),
            segments: BTreeMap::new(),
            under_way: None,
            tickets: TICKETS_FROM,
            rests: false,
            commands: Vec::new(),
        })
    }

    /// Whether an append may begin: none is on its way, and there is room for some bytes.
    pub(crate) fn is_ready(&self) -> bool {
        self.under_way.is_none() && !self.rests && self.room() > 0
    }

    /// The bytes that there is room for.
    pub(crate) fn room(&self) -> u64 {
        let used = self.segments.values().map(|segment| u64::from(segment.appended)).sum();
        self.granted.saturating_sub(used)
    }

    /// Begins an append of these rows: of each bucket, in order, so many bytes.
    ///
    /// Panics if one is on its way.
    pub(crate) fn append(&mut self, bytes: Vec<u8>, parts: Vec<(Place, usize)>) {
        assert!(self.under_way.is_none(), "one append is on its way at a time");
        let mut end = 0;
        let parts = parts.into_iter().map(|(place, length)| {
            let start = end;
            end += u32::try_from(length).expect("an append is far smaller than 4 GiB");
            SpillPart { place, bytes: Some(start..end) }
        });
        let parts = parts.collect();
        let offset = self.segments.entry(self.current).or_default().appended;
        let ticket = self.ticket();
        let bytes = Arc::new(bytes);
        self.commands.push(CacheCommand::Append(ticket, self.current, Arc::clone(&bytes)));
        self.under_way = Some(Spill { ticket, attempts: 1, offset, bytes, parts });
    }

    /// Takes back the rows of a bucket, if they are on their way: the cache may have them, and
    /// nobody will ask for them there.
    pub(crate) fn take_back(&mut self, place: Place) -> Option<(Arc<Vec<u8>>, Range<usize>)> {
        let spill = self.under_way.as_mut()?;
        let part = spill.parts.iter_mut().find(|part| part.place == place)?;
        let range = part.bytes.take()?;
        Some((Arc::clone(&spill.bytes), range.start as usize..range.end as usize))
    }

    /// Whether a ticket is one of the file cache.
    pub(crate) fn has_asked(ticket: Ticket) -> bool {
        ticket.0 >= TICKETS_FROM
    }

    /// Something that was asked of the file cache has an outcome.
    pub(crate) fn complete(&mut self, completion: Completion) -> SpillEnd {
        let Some(spill) = self.under_way.take_if(|spill| spill.ticket == completion.ticket) else {
            return SpillEnd::Late;
        };
        match completion.outcome {
            Outcome::Done(_) => SpillEnd::Cached(self.cached(spill)),
            Outcome::Refused(refusal) => self.refused(spill, &refusal),
            Outcome::InDoubt(cause) => {
                self.rests = true;
                give_back(spill, cause)
            }
        }
    }

    fn cached(&mut self, spill: Spill) -> Vec<(Place, CachedRange)> {
        let segment = self.segments.entry(self.current).or_default();
        segment.appended = spill.offset + length(&spill.bytes);
        let is_full = u64::from(segment.appended) >= self.segment_bytes;
        let mut cached = Vec::new();
        for SpillPart { place, bytes } in spill.parts {
            let Some(bytes) = bytes else { continue };
            let (offset, length) = (spill.offset + bytes.start, bytes.end - bytes.start);
            segment.needed += u64::from(length);
            cached.push((place, CachedRange { segment: self.current, offset, length }));
        }
        if is_full {
            self.begin_segment();
        }
        cached
    }

    /// Another segment takes what is appended from now on.
    fn begin_segment(&mut self) {
        let sealed = self.current;
        let ticket = self.ticket();
        self.commands.push(CacheCommand::Seal(ticket, sealed));
        self.current = SegmentId(sealed.0.checked_add(1).expect("2^32 segments are never used"));
        self.drop_if_needless(sealed);
    }

    /// A reason of the moment is no reason to give up at once; a full disk is, until something is
    /// dropped; anything else until the next barrier.
    fn refused(&mut self, mut spill: Spill, refusal: &Refusal) -> SpillEnd {
        if refusal.kind == RefusalKind::Transient && spill.attempts <= self.write_retries {
            spill.attempts += 1;
            spill.ticket = self.ticket();
            let bytes = Arc::clone(&spill.bytes);
            self.commands.push(CacheCommand::Append(spill.ticket, self.current, bytes));
            self.under_way = Some(spill);
            return SpillEnd::Again;
        }
        self.rests = true;
        let attempts = spill.attempts;
        give_back(spill, format!("{} ({attempts} attempts)", refusal.message))
    }

    /// Records in these places are needed no more.
    pub(crate) fn release(&mut self, ranges: &[CachedRange]) {
        for CachedRange { segment, length, .. } in ranges {
            let needed = &mut self.segments.get_mut(segment).expect("it has these records").needed;
            *needed = needed.checked_sub(u64::from(*length)).expect("they were needed");
        }
        ranges.iter().for_each(|range| self.drop_if_needless(range.segment));
    }

    /// Notes that of the records in these places only those in `left` are still needed.
    pub(crate) fn keep(&mut self, before: &[CachedRange], left: &[CachedRange]) {
        for CachedRange { segment, length, .. } in left {
            let segment = self.segments.get_mut(segment).expect("it has these records");
            segment.needed += u64::from(*length);
        }
        self.release(before);
    }

    fn drop_if_needless(&mut self, id: SegmentId) {
        let needless = self.segments.get(&id).is_some_and(|segment| segment.needed == 0);
        if needless && id != self.current {
            self.segments.remove(&id);
            self.commands.push(CacheCommand::Drop(id));
            // There may be room again.
            self.rests = false;
        }
    }

    /// A barrier is passed: nothing that is cached is needed any more.
    ///
    /// Panics if something is.
    pub(crate) fn pass_barrier(&mut self) {
        let needed: u64 = self.segments.values().map(|segment| segment.needed).sum();
        assert_eq!(needed, 0, "every cached record was acknowledged");
        let left = core::mem::take(&mut self.segments);
        self.commands.extend(left.keys().map(|id| CacheCommand::Drop(*id)));
        if !left.is_empty() {
            self.current = SegmentId(self.current.0 + 1);
        }
        (self.under_way, self.rests) = (None, false);
    }

    /// The host's next steps, in order.
    pub(crate) fn take_commands(&mut self) -> Vec<CacheCommand> {
        core::mem::take(&mut self.commands)
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }
}

fn give_back(spill: Spill, cause: String) -> SpillEnd {
    let parts = spill.parts.into_iter().filter_map(|part| {
        let Range { start, end } = part.bytes?;
        Some((part.place, start as usize..end as usize))
    });
    SpillEnd::Refused(parts.collect(), spill.bytes, cause)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("an append is far smaller than 4 GiB")
}

/// Operations of the Tunnel are numbered from one, and never get so far.
const TICKETS_FROM: u64 = 1 << 63;
