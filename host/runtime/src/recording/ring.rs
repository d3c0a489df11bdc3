//! The files of a directory of recordings: one for each start of the sink; the oldest is dropped
//! first.
//!
//! Between `recorder.rs` and the disk. Invariant: all files together stay within their bound; a
//! file is dropped whole or not at all, so that what is kept can be replayed from its beginning.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use upsert_sink_format::frame;

use crate::components::{AppendFile, Components, Disk};
use crate::error;
use crate::error::{Error, ErrorKind, Result};
use crate::recording::entry::{Head, MAGIC};

/// The file of this start, and those of the starts before.
pub(super) struct Ring {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Box<dyn AppendFile>,
    used: u64,
    /// The oldest first.
    earlier: VecDeque<(PathBuf, u64)>,
    bytes_max: u64,
    _lock: Box<dyn Send + Sync>,
}

impl Ring {
    /// Begins the file of a start.
    pub(super) async fn open(
        directory: &Path,
        bytes_max: u64,
        head: &Head,
        components: &Components,
    ) -> Result<Self> {
        let disk = Arc::clone(&components.disk);
        let failed = |error| error::disk(directory, &error);
        let lock = disk.lock(&directory.join(LOCK)).await.map_err(failed)?;
        let lock = lock.ok_or_else(|| {
            let message = "another sink records there; give each a `record.dir` of its own";
            Error::new(ErrorKind::InvalidConfig, directory.display().to_string(), message)
        })?;
        let mut earlier = disk.list(directory).await.map_err(failed)?;
        earlier.retain(|(name, _)| name.ends_with(SUFFIX));
        // Names begin with the time, at one width.
        earlier.sort();
        let earlier = earlier.into_iter().map(|(name, bytes)| (directory.join(name), bytes));
        let path = directory.join(format!("{:014}-start-{}{SUFFIX}", head.at_ms, head.start));
        let file = disk.append(&path, Some(0)).await.map_err(failed)?;
        let earlier = earlier.filter(|(other, _)| *other != path).collect();
        let mut ring = Self { disk, path, file, used: 0, earlier, bytes_max, _lock: lock };
        let mut bytes = MAGIC.to_vec();
        bytes.extend(frame::enclose(&serde_json::to_vec(head).expect("a head is plain data")));
        ring.fits(bytes.len(), 0).await?;
        ring.append(bytes).await?;
        Ok(ring)
    }

    /// The file of this start.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Drops files of earlier starts, the oldest first, until so many bytes fit and some are
    /// spared. False if there is none left to drop.
    pub(super) async fn fits(&mut self, bytes: usize, spared: u64) -> Result<bool> {
        let wanted = self.used.saturating_add(bytes as u64).saturating_add(spared);
        loop {
            let held: u64 = self.earlier.iter().map(|(_, bytes)| bytes).sum();
            let over = wanted.saturating_add(held) > self.bytes_max;
            if !over && self.earlier.len() < FILES_MAX {
                return Ok(true);
            }
            let Some((oldest, _)) = self.earlier.pop_front() else { return Ok(false) };
            let removed = self.disk.remove(&oldest).await;
            removed.map_err(|error| error::disk(&oldest, &error))?;
            tracing::info!(file = %oldest.display(), "the oldest recording was dropped");
        }
    }

    /// Writes what fits.
    pub(super) async fn append(&mut self, block: Vec<u8>) -> Result<()> {
        self.used = self.used.saturating_add(block.len() as u64);
        let written = self.file.append_unsynced(block).await;
        written.map_err(|error| error::disk(&self.path, &error))
    }

    /// The part of the bound that coordinator and committer have for themselves: they take little,
    /// and what became of commits is theirs to tell.
    pub(super) fn spared_by_writers(&self) -> u64 {
        self.bytes_max / 16
    }
}

const LOCK: &str = "record.lock";
const SUFFIX: &str = ".recording";
/// A sink that starts again and again fills no directory.
const FILES_MAX: usize = 1000;
