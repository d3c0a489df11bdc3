//! The file cache of one writer: segments in files without a name, whose bytes only this process
//! can read.
//!
//! Lent to a guest by `capability/file_cache.rs`; `operation.rs` reads packs out of it, so that
//! cached rows go from file to socket. Invariant: bytes are counted against the grant from when
//! they are taken until nobody can read them any more; what is read is what was appended, or an
//! error; no file is opened that was there before.

mod frame;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use upsert_sink_format::tunnel::{Answer, Outcome, RefusalKind};

use crate::components::{BoxFuture, Components, Disk};
use crate::error::{Error, Result};
use crate::file_cache::frame::FrameKey;
use crate::file_cache::segment::Segment;
use crate::operation::refused;
use crate::settings::CacheSettings;

/// The segments of one writer.
pub(crate) struct FileCache {
    directories: Vec<PathBuf>,
    disk: Arc<dyn Disk>,
    key: Arc<FrameKey>,
    granted: u64,
    used: Arc<AtomicU64>,
    segments: Mutex<Segments>,
}

#[derive(Default)]
struct Segments {
    held: BTreeMap<u64, Arc<Segment>>,
    /// The highest that was ever begun.
    newest: Option<u64>,
    /// The number of files so far.
    files: u32,
}

/// A piece of a segment that stays readable as long as this is held.
#[derive(Clone)]
pub(crate) struct HeldRange {
    segment: Arc<Segment>,
    range: Range<u64>,
}

impl FileCache {
    /// An empty cache, once every directory has proved that it takes a file.
    ///
    /// # Errors
    /// `InvalidConfig` for a directory that does not.
    pub(crate) async fn open(settings: &CacheSettings, components: &Components) -> Result<Self> {
        for directory in &settings.directories {
            check(directory, components.disk.as_ref()).await?;
        }
        Ok(Self {
            directories: settings.directories.clone(),
            disk: Arc::clone(&components.disk),
            key: Arc::new(FrameKey::draw(components.entropy.as_ref())),
            granted: settings.bytes,
            used: Arc::default(),
            segments: Mutex::default(),
        })
    }

    /// The bytes that are used.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Appends bytes to a segment: counted at once, in their place when the future is done.
    pub(crate) fn append(&self, segment: u64, bytes: Vec<u8>) -> BoxFuture<'static, Outcome> {
        let Some(segment) = self.segment(segment).filter(|segment| !segment.is_sealed()) else {
            let why = format!("segment {segment} was sealed, dropped, or is older than another");
            return at_once(refused(RefusalKind::Invalid, why));
        };
        let length = bytes.len() as u64;
        let before = self.used.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > self.granted {
            self.used.fetch_sub(length, Ordering::Relaxed);
            let granted = self.granted;
            let why = format!("the file cache has {granted} bytes (`sandbox.cache-limit`)");
            return at_once(refused(RefusalKind::Full, why));
        }
        segment.append(bytes)
    }

    /// Takes no more appends to a segment.
    pub(crate) fn seal(&self, segment: u64) -> BoxFuture<'static, Outcome> {
        match self.segments().held.get(&segment) {
            Some(segment) => segment.seal(),
            None => at_once(none(segment)),
        }
    }

    /// Reads a piece of a segment.
    pub(crate) fn read(
        &self,
        segment: u64,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'static, Outcome> {
        let Some(held) = self.hold(segment, offset, length) else { return at_once(none(segment)) };
        Box::pin(async move {
            match read(&[held], 0).await {
                Ok(bytes) => Outcome::Done(Answer::Bytes(bytes)),
                Err(why) => refused(RefusalKind::Invalid, why),
            }
        })
    }

    /// Forgets a segment; it is gone when no range of it is held.
    pub(crate) fn drop_segment(&self, segment: u64) {
        self.segments().held.remove(&segment);
    }

    /// A piece of a segment; none if there is no such segment.
    pub(crate) fn hold(&self, segment: u64, offset: u64, length: u64) -> Option<HeldRange> {
        let segment = Arc::clone(self.segments().held.get(&segment)?);
        Some(HeldRange { segment, range: offset..offset.checked_add(length)? })
    }

    /// The segment of this number, which begins now if it is higher than all before.
    fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let mut segments = self.segments();
        let Segments { held, newest, files } = &mut *segments;
        match held.entry(number) {
            Entry::Occupied(held) => Some(Arc::clone(held.get())),
            Entry::Vacant(_) if newest.is_some_and(|newest| number <= newest) => None,
            Entry::Vacant(place) => {
                *newest = Some(number);
                let file = *files;
                *files = files.checked_add(1)?;
                let directory = &self.directories[file as usize % self.directories.len()];
                let parts = (Arc::clone(&self.disk), Arc::clone(&self.key));
                let segment = Segment::new(file, directory.clone(), parts, Arc::clone(&self.used));
                Some(Arc::clone(place.insert(Arc::new(segment))))
            }
        }
    }

    fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldRange {
    /// How many bytes.
    pub(crate) fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// Reads ranges, one after another, into one piece with room for so many bytes more.
///
/// # Errors
/// In words, for people: the file is damaged, or has no such bytes.
pub(crate) async fn read(
    ranges: &[HeldRange],
    more: usize,
) -> std::result::Result<Vec<u8>, String> {
    let length: u64 = ranges.iter().map(HeldRange::length).sum();
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + more);
    for of_one in ranges.chunk_by(|a, b| Arc::ptr_eq(&a.segment, &b.segment)) {
        let places: Vec<Range<u64>> = of_one.iter().map(|held| held.range.clone()).collect();
        of_one[0].segment.read(&places, &mut bytes).await?;
    }
    Ok(bytes)
}

/// A directory takes a file, and is what it is called.
async fn check(directory: &Path, disk: &dyn Disk) -> Result<()> {
    let Err(error) = disk.scratch(directory).await else { return Ok(()) };
    let option = "sink.file-cached.tmp.dirs";
    let message = format!(
        "{option} = {}: no file can be made there: {error}; name a directory that this process \
         may write to, on a disk with room",
        directory.display()
    );
    Err(Error::config(option, message))
}

fn none(segment: u64) -> Outcome {
    refused(RefusalKind::Invalid, format!("there is no segment {segment}"))
}

fn at_once(outcome: Outcome) -> BoxFuture<'static, Outcome> {
    Box::pin(async { outcome })
}
