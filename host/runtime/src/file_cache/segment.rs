//! One segment of a file cache: a file without a name, and where in it each append lies.
//!
//! Within `FileCache`. Invariant: appends take effect one after another, in the order of their
//! calls; one that failed left no byte that can be read, and its place is never written again.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, oneshot};
use upsert_sink_format::tunnel::{Answer, Outcome, RefusalKind};

use crate::components::{BoxFuture, Disk, ScratchFile};
use crate::file_cache::frame::{FRAME_BYTES, FrameKey, SEALED_BYTES};
use crate::operation::refused;

/// One segment. When it is dropped, its file is gone, and its bytes are free.
pub(super) struct Segment {
    number: u32,
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    key: Arc<FrameKey>,
    file: OnceCell<Arc<dyn ScratchFile>>,
    places: Mutex<Places>,
    is_sealed: AtomicBool,
    /// Counted for it in `used`.
    charged: AtomicU64,
    used: Arc<AtomicU64>,
}

#[derive(Default)]
struct Places {
    appended: Vec<Extent>,
    /// The bytes that can be read.
    length: u64,
    /// The end of what was ever written to the file.
    file_end: u64,
    /// Done when the append before is.
    last: Option<oneshot::Receiver<()>>,
}

/// The bytes of one append.
#[derive(Clone, Copy)]
struct Extent {
    /// Their first one in the segment.
    start: u64,
    length: u64,
    /// Their first frame in the file.
    place: u64,
}

/// A frame that is to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
struct FrameAt {
    place: u64,
    sealed: usize,
}

impl Segment {
    pub(super) fn new(
        number: u32,
        directory: PathBuf,
        (disk, key): (Arc<dyn Disk>, Arc<FrameKey>),
        used: Arc<AtomicU64>,
    ) -> Self {
        Self {
            number,
            directory,
            disk,
            key,
            file: OnceCell::new(),
            places: Mutex::default(),
            is_sealed: AtomicBool::new(false),
            charged: AtomicU64::new(0),
            used,
        }
    }

    /// Takes no more appends; done when those before it are.
    pub(super) fn seal(&self) -> BoxFuture<'static, Outcome> {
        self.is_sealed.store(true, Ordering::Relaxed);
        let (done, last) = oneshot::channel();
        let before = self.places().last.replace(last);
        Box::pin(async move {
            ended(before).await;
            drop(done);
            Outcome::Done(Answer::None)
        })
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.is_sealed.load(Ordering::Relaxed)
    }

    /// Appends bytes that are counted already, after all appends before it.
    pub(super) fn append(self: Arc<Self>, bytes: Vec<u8>) -> BoxFuture<'static, Outcome> {
        let length = bytes.len() as u64;
        self.charged.fetch_add(length, Ordering::Relaxed);
        let (done, last) = oneshot::channel();
        let before = self.places().last.replace(last);
        Box::pin(async move {
            ended(before).await;
            let written = self.write(&bytes).await;
            drop(done);
            match written {
                Ok(()) => Outcome::Done(Answer::None),
                Err(error) => {
                    self.charged.fetch_sub(length, Ordering::Relaxed);
                    self.used.fetch_sub(length, Ordering::Relaxed);
                    self.failed(&error)
                }
            }
        })
    }

    async fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let make = || self.disk.scratch(&self.directory);
        let file = Arc::clone(self.file.get_or_try_init(make).await?);
        let place = self.places().file_end;
        let sealed = self.key.seal(self.number, place, bytes);
        self.places().file_end += sealed.len() as u64;
        file.write_at(place, sealed).await?;
        let mut places = self.places();
        let (start, length) = (places.length, bytes.len() as u64);
        places.appended.push(Extent { start, length, place });
        places.length += length;
        Ok(())
    }

    /// A full disk is no reason of the moment.
    fn failed(&self, error: &std::io::Error) -> Outcome {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        let kind = match error.kind() {
            StorageFull | QuotaExceeded => RefusalKind::Full,
            _ => RefusalKind::Transient,
        };
        refused(kind, format!("a cache file in {}: {error}", self.directory.display()))
    }

    /// Appends the bytes of these ranges to `out`.
    pub(super) async fn read(
        &self,
        ranges: &[Range<u64>],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let damaged = |why: &str| format!("a cache file in {}: {why}", self.directory.display());
        let mut frames: Vec<FrameAt> = Vec::new();
        let mut pieces = Vec::new();
        for range in ranges {
            self.find(range.clone(), &mut frames, &mut pieces)
                .ok_or_else(|| damaged("the guest asks for bytes that it never appended"))?;
        }
        let Some(file) = self.file.get().filter(|_| !frames.is_empty()) else { return Ok(()) };
        let mut read =
            file.read_at(together(&frames)).await.map_err(|e| damaged(&e.to_string()))?;
        let mut rest = read.as_mut_slice();
        let mut opened: Vec<&[u8]> = Vec::with_capacity(frames.len());
        for FrameAt { place, sealed } in frames {
            let (frame, later) =
                rest.split_at_mut_checked(sealed).ok_or_else(|| damaged("it was cut"))?;
            let plain = self.key.open(self.number, place, frame);
            opened.push(plain.ok_or_else(|| damaged("its bytes are not what was written"))?);
            rest = later;
        }
        for (frame, bytes) in pieces {
            out.extend_from_slice(&opened[frame][bytes]);
        }
        Ok(())
    }

    /// Adds the frames of a range, and which bytes of each belong to it. None if it is not there.
    fn find(
        &self,
        range: Range<u64>,
        frames: &mut Vec<FrameAt>,
        pieces: &mut Vec<(usize, Range<usize>)>,
    ) -> Option<()> {
        let places = self.places();
        if range.end > places.length {
            return None;
        }
        let first =
            places.appended.partition_point(|extent| extent.start + extent.length <= range.start);
        for extent in &places.appended[first..] {
            let from = range.start.max(extent.start) - extent.start;
            let to = range.end.min(extent.start + extent.length).saturating_sub(extent.start);
            let mut at = from;
            while at < to {
                let index = at / FRAME_BYTES as u64;
                let start = index * FRAME_BYTES as u64;
                let end = (start + FRAME_BYTES as u64).min(extent.length);
                let whole = SEALED_BYTES - FRAME_BYTES;
                let sealed = usize::try_from(end - start).ok()? + whole;
                let frame = FrameAt { place: extent.place + index * SEALED_BYTES as u64, sealed };
                if frames.last() != Some(&frame) {
                    frames.push(frame);
                }
                let until = to.min(end);
                let within =
                    usize::try_from(at - start).ok()?..usize::try_from(until - start).ok()?;
                pieces.push((frames.len() - 1, within));
                at = until;
            }
            if range.end <= extent.start + extent.length {
                break;
            }
        }
        Some(())
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.used.fetch_sub(*self.charged.get_mut(), Ordering::Relaxed);
    }
}

/// The call before has ended. An error says so, too: it was given up.
async fn ended(before: Option<oneshot::Receiver<()>>) {
    if let Some(before) = before {
        before.await.ok();
    }
}

/// Frames next to each other are read as one piece.
fn together(frames: &[FrameAt]) -> Vec<Range<u64>> {
    let mut together: Vec<Range<u64>> = Vec::new();
    for FrameAt { place, sealed } in frames {
        let end = place + *sealed as u64;
        match together.last_mut() {
            Some(last) if last.end == *place => last.end = end,
            _ => together.push(*place..end),
        }
    }
    together
}
