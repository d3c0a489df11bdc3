//! Packs of open sessions on disk: one append-only log of framed, checksummed records that all
//! sessions share.
//!
//! `sessions.rs` appends verified packs, `table/delta.rs` reads them back at a commit. Many
//! packs wait for one sync. Invariant: what `append` has answered is durable, and a segment is
//! deleted only when every session with a pack in it has ended.

mod frame;
mod recover;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use upsert_sink_format::id::Millis;

pub(crate) use self::frame::Frame;
pub(crate) use self::recover::recover;
use crate::components::Directory;
use crate::error::Error;
use crate::session::{PackRange, SessionFacts};

/// The log of packs.
pub(crate) struct Spool {
    directory: Arc<dyn Directory>,
    segment_bytes: u64,
    /// Held while bytes are appended: frames never interleave.
    writer: tokio::sync::Mutex<SegmentWriter>,
    /// Held while a sync runs: whoever waits for it usually finds its own bytes already durable.
    syncing: tokio::sync::Mutex<()>,
    segments: Mutex<Segments>,
}

struct SegmentWriter {
    segment: u64,
    length: u64,
}

#[derive(Default)]
struct Segments {
    /// How far each segment that may need a sync has been written.
    written: BTreeMap<u64, u64>,
    /// How far it has been synced.
    durable: BTreeMap<u64, u64>,
    uses: BTreeMap<u64, SegmentUse>,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

/// The sessions that still need a segment.
#[derive(Debug, Default)]
struct SegmentUse {
    open: BTreeSet<String>,
    /// Sessions whose end is written in this segment.
    ended: BTreeMap<String, SessionFacts>,
}

impl Spool {
    fn new(directory: Arc<dyn Directory>, segment_bytes: u64, segments: Segments) -> Self {
        let next = segments.uses.keys().next_back().map_or(1, |last| last + 1);
        Self {
            directory,
            segment_bytes,
            writer: tokio::sync::Mutex::new(SegmentWriter { segment: next, length: 0 }),
            syncing: tokio::sync::Mutex::default(),
            segments: Mutex::new(segments),
        }
    }

    /// Writes a frame; answers where its pack lies once it is durable.
    pub(crate) async fn append(&self, frame: &Frame<'_>) -> Result<PackRange, Error> {
        let (pack, end) = self.write(frame).await?;
        self.sync(pack.segment, end).await?;
        Ok(pack)
    }

    /// Answers where the frame's pack lies, and where in its segment the frame ends.
    async fn write(&self, frame: &Frame<'_>) -> Result<(PackRange, u64), Error> {
        let mut writer = self.writer.lock().await;
        self.check()?;
        if writer.length >= self.segment_bytes {
            // Only the last segment may ever be torn.
            self.sync(writer.segment, writer.length).await?;
            *writer = SegmentWriter { segment: writer.segment + 1, length: 0 };
        }
        let name = segment_name(writer.segment);
        if writer.length == 0 {
            let magic = Bytes::from_static(&frame::MAGIC);
            self.directory.append(&name, magic).await.map_err(|e| self.fail(&name, &e))?;
            writer.length = frame::MAGIC.len() as u64;
        }
        let durable = self.segments().durable.get(&writer.segment).copied().unwrap_or(0);
        let (bytes, body) = frame.encode(durable);
        let length = bytes.len() as u64;
        let offset = match self.directory.append(&name, bytes).await {
            Ok(offset) => offset,
            Err(error) => return Err(self.take_back(&name, writer.length, &error).await),
        };
        writer.length = offset + length;
        let mut segments = self.segments();
        segments.written.insert(writer.segment, writer.length);
        segments.uses.entry(writer.segment).or_default().note(frame);
        let pack = PackRange {
            segment: writer.segment,
            offset: offset + body.start as u64,
            length: u32::try_from(body.len()).expect("a frame's length fits 32 bits"),
            bucket: frame.bucket(),
            records: frame.records(),
        };
        Ok((pack, writer.length))
    }

    /// Removes what a failed append may have left behind, so that the next one follows a whole
    /// frame.
    async fn take_back(&self, name: &str, length: u64, error: &std::io::Error) -> Error {
        match self.directory.truncate(name, length).await {
            Ok(()) => Error::disk(name, error),
            Err(_) => self.fail(name, error),
        }
    }

    async fn sync(&self, segment: u64, end: u64) -> Result<(), Error> {
        let _syncing = self.syncing.lock().await;
        if self.segments().durable.get(&segment).is_some_and(|length| *length >= end) {
            return Ok(());
        }
        self.check()?;
        let written = self.segments().written.get(&segment).copied().unwrap_or(end);
        let name = segment_name(segment);
        // After a failed sync nobody knows which bytes are durable before they are read again.
        self.directory.sync(&name).await.map_err(|error| self.fail(&name, &error))?;
        self.segments().durable.insert(segment, written);
        Ok(())
    }

    /// Reads a pack's body.
    pub(crate) async fn read(&self, pack: &PackRange) -> Result<Bytes, Error> {
        let name = segment_name(pack.segment);
        let read = self.directory.read(&name, pack.offset, pack.length as usize).await;
        read.map_err(|error| Error::disk(name, error))
    }

    /// Forgets the packs of sessions that have ended, and deletes the segments that nobody needs
    /// any more.
    pub(crate) async fn retire(&self, sessions: &[String], now: Millis) -> Result<(), Error> {
        let current = self.writer.lock().await.segment;
        let idle = {
            let mut segments = self.segments();
            for segment_use in segments.uses.values_mut() {
                segment_use.open.retain(|id| !sessions.contains(id));
            }
            segments.take_idle(current)
        };
        for (segment, segment_use) in idle {
            for facts in segment_use.ended.values().filter(|facts| facts.ends_ms() > now.0) {
                self.append(&Frame::Aborted(facts)).await?;
            }
            let name = segment_name(segment);
            self.directory.remove(&name).await.map_err(|e| Error::disk(&name, e))?;
            self.segments().durable.remove(&segment);
        }
        Ok(())
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().expect("no holder panics")
    }

    fn check(&self) -> Result<(), Error> {
        match &self.segments().failed {
            Some(message) => Err(Error::disk("spool", message)),
            None => Ok(()),
        }
    }

    fn fail(&self, name: &str, error: &std::io::Error) -> Error {
        let message = format!("{error}; nothing more is accepted: restart the server");
        self.segments().failed = Some(message.clone());
        Error::disk(name, message)
    }
}

impl SegmentUse {
    fn note(&mut self, frame: &Frame<'_>) {
        match frame {
            Frame::Created(facts) => self.open.insert(facts.id.clone()),
            Frame::Pack { session, .. } => self.open.insert((*session).to_owned()),
            Frame::Aborted(facts) => {
                self.ended.insert(facts.id.clone(), (*facts).clone()).is_none()
            }
        };
    }
}

impl Segments {
    /// Takes out the segments, but not the current one, in which no session is open.
    fn take_idle(&mut self, current: u64) -> Vec<(u64, SegmentUse)> {
        let idle: Vec<u64> = self
            .uses
            .iter()
            .filter(|(number, segment_use)| **number < current && segment_use.open.is_empty())
            .map(|(number, _)| *number)
            .collect();
        let take = |number| {
            self.written.remove(&number);
            Some((number, self.uses.remove(&number)?))
        };
        idle.into_iter().filter_map(take).collect()
    }
}

fn segment_name(number: u64) -> String {
    format!("{FOLDER}/{number:020}.packs")
}

const FOLDER: &str = "spool";
