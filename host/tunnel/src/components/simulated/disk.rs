//! A disk in memory: what was not synced when its machine loses power may be gone, whole or in
//! part.
//!
//! Given to whoever runs in a simulated world. Files are found by their names, and an open file is
//! the file that it was when it was opened, as on any disk: a dead process that still writes does
//! not write into the next one's file. Invariant: what a call has returned from is durable, unless
//! its sync is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::components::parts::{AppendFile, BoxFuture, Disk, ScratchFile};

/// The files of one simulated machine. They outlive the processes that use them.
#[derive(Debug, Default)]
pub struct SimulatedFiles {
    stored: Mutex<StoredFiles>,
}

#[derive(Debug, Default)]
struct StoredFiles {
    files: Vec<StoredFile>,
    /// Which file has a name.
    names: BTreeMap<PathBuf, usize>,
    /// Which file has it after a loss of power.
    durable_names: BTreeMap<PathBuf, usize>,
    locked: BTreeSet<PathBuf>,
    /// Counts the processes that have ended: their locks are no longer theirs to free.
    ended: u64,
}

#[derive(Debug, Default)]
struct StoredFile {
    bytes: Vec<u8>,
    /// How many of them a loss of power leaves.
    durable: usize,
}

impl SimulatedFiles {
    /// An empty disk.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The process has ended: its locks are free, and its machine keeps what it was given.
    pub fn end_process(&self) {
        let mut stored = self.stored();
        stored.locked.clear();
        stored.ended += 1;
    }

    /// The machine has lost its power. Of the bytes of each file that were never synced, so many
    /// survive as `left` says of their number.
    pub fn lose_power(&self, mut left: impl FnMut(usize) -> usize) {
        self.end_process();
        let mut stored = self.stored();
        stored.names = stored.durable_names.clone();
        for file in &mut stored.files {
            let unsynced = file.bytes.len() - file.durable.min(file.bytes.len());
            let survive = file.durable + left(unsynced).min(unsynced);
            file.bytes.truncate(survive);
            file.durable = file.bytes.len();
        }
    }

    /// The whole file, for whoever looks from outside.
    pub fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let stored = self.stored();
        stored.names.get(path).map(|file| stored.files[*file].bytes.clone())
    }

    fn stored(&self) -> MutexGuard<'_, StoredFiles> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The call that a sync belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncedCall {
    /// [`AppendFile::append`].
    Append,
    /// [`Disk::replace`].
    Replace,
}

/// The steps of a disk's calls, as a simulation sees them: each may stop for ever, which is how a
/// process dies.
pub trait DiskSteps: Send + Sync {
    /// A call is about to read or to lock.
    fn before_read(&self) -> BoxFuture<'_, ()>;

    /// A call is about to change something.
    fn before_write(&self) -> BoxFuture<'_, ()>;

    /// Bytes that were written are about to be made durable. False leaves the sync out.
    fn before_sync(&self, call: SyncedCall) -> BoxFuture<'_, bool>;

    /// A file without a name is about to be written or read. An error fails the call.
    fn before_scratch(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}

/// Steps that nothing stops.
#[derive(Clone, Copy, Debug)]
pub struct Uninterrupted;

impl DiskSteps for Uninterrupted {
    fn before_read(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn before_write(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn before_sync(&self, _: SyncedCall) -> BoxFuture<'_, bool> {
        Box::pin(async { true })
    }
}

/// A disk as one process sees it.
#[derive(Clone)]
pub struct SimulatedDisk {
    files: Arc<SimulatedFiles>,
    steps: Arc<dyn DiskSteps>,
}

impl SimulatedDisk {
    /// A disk of a process whose calls take these steps.
    pub fn new(files: Arc<SimulatedFiles>, steps: Arc<dyn DiskSteps>) -> Self {
        Self { files, steps }
    }
}

impl Disk for SimulatedDisk {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.steps.before_read().await;
            Ok(self.files.peek(&path))
        })
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.steps.before_write().await;
            let file = {
                let mut stored = self.files.stored();
                stored.files.push(StoredFile { bytes, durable: 0 });
                stored.files.len() - 1
            };
            let is_synced = self.steps.before_sync(SyncedCall::Replace).await;
            let mut stored = self.files.stored();
            stored.names.insert(path.clone(), file);
            if is_synced {
                stored.files[file].durable = stored.files[file].bytes.len();
                stored.durable_names.insert(path, file);
            }
            Ok(())
        })
    }

    fn append(
        &self,
        path: &Path,
        length: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.steps.before_write().await;
            let mut stored = self.files.stored();
            let file = match stored.names.get(&path) {
                Some(file) => *file,
                None => {
                    stored.files.push(StoredFile::default());
                    let file = stored.files.len() - 1;
                    stored.names.insert(path.clone(), file);
                    stored.durable_names.insert(path, file);
                    file
                }
            };
            if let Some(length) = length {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                stored.files[file].bytes.truncate(length);
                stored.files[file].durable = stored.files[file].bytes.len();
            }
            drop(stored);
            Ok(Box::new(OpenFile { disk: self.clone(), file }) as Box<dyn AppendFile>)
        })
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.steps.before_read().await;
            let files = Arc::clone(&self.files);
            let mut stored = self.files.stored();
            if !stored.locked.insert(path.clone()) {
                return Ok(None);
            }
            let lock = FileLock { files, path, ended: stored.ended };
            Ok(Some(Box::new(lock) as Box<dyn Send + Sync>))
        })
    }

    fn scratch(&self, _: &Path) -> BoxFuture<'_, io::Result<Arc<dyn ScratchFile>>> {
        Box::pin(async move {
            self.steps.before_write().await;
            let steps = Arc::clone(&self.steps);
            Ok(Arc::new(NamelessFile { bytes: Arc::default(), steps }) as Arc<dyn ScratchFile>)
        })
    }

    fn list(&self, directory: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        let directory = directory.to_owned();
        Box::pin(async move {
            self.steps.before_read().await;
            let stored = self.files.stored();
            let inside = stored.names.iter().filter(|(path, _)| path.parent() == Some(&directory));
            let named = inside.filter_map(|(path, file)| {
                let name = path.file_name()?.to_str()?;
                Some((String::from(name), stored.files[*file].bytes.len() as u64))
            });
            Ok(named.collect())
        })
    }

    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.steps.before_write().await;
            let mut stored = self.files.stored();
            stored.durable_names.remove(&path);
            let removed = stored.names.remove(&path);
            removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }
}

struct OpenFile {
    disk: SimulatedDisk,
    file: usize,
}

impl OpenFile {
    async fn write(&self, bytes: Vec<u8>) {
        self.disk.steps.before_write().await;
        self.disk.files.stored().files[self.file].bytes.extend(bytes);
    }
}

impl AppendFile for OpenFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.write(bytes).await;
            if self.disk.steps.before_sync(SyncedCall::Append).await {
                let file = &mut self.disk.files.stored().files[self.file];
                file.durable = file.bytes.len();
            }
            Ok(())
        })
    }

    fn append_unsynced(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            self.write(bytes).await;
            Ok(())
        })
    }
}

/// It is gone with its process, whatever was synced.
struct NamelessFile {
    bytes: Arc<Mutex<Vec<u8>>>,
    steps: Arc<dyn DiskSteps>,
}

impl ScratchFile for NamelessFile {
    fn write_at(&self, place: u64, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let (held, steps) = (Arc::clone(&self.bytes), Arc::clone(&self.steps));
        Box::pin(async move {
            steps.before_scratch().await?;
            let place = usize::try_from(place).map_err(io::Error::other)?;
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            if held.len() < place + bytes.len() {
                held.resize(place + bytes.len(), 0);
            }
            held[place..place + bytes.len()].copy_from_slice(&bytes);
            Ok(())
        })
    }

    fn read_at(&self, places: Vec<Range<u64>>) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let (held, steps) = (Arc::clone(&self.bytes), Arc::clone(&self.steps));
        Box::pin(async move {
            steps.before_scratch().await?;
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            let mut read = Vec::new();
            for Range { start, end } in places {
                let place = usize::try_from(start).ok().zip(usize::try_from(end).ok());
                let bytes = place.and_then(|(start, end)| held.get(start..end));
                read.extend_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            }
            Ok(read)
        })
    }
}

struct FileLock {
    files: Arc<SimulatedFiles>,
    path: PathBuf,
    ended: u64,
}

impl Drop for FileLock {
    fn drop(&mut self) {
        let mut stored = self.files.stored();
        // The lock of a process that has ended was freed then, and may be another's by now.
        if stored.ended == self.ended {
            stored.locked.remove(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(files: &Arc<SimulatedFiles>) -> SimulatedDisk {
        SimulatedDisk::new(Arc::clone(files), Arc::new(Uninterrupted))
    }

    #[tokio::test]
    async fn a_loss_of_power_leaves_what_was_synced() {
        let files = SimulatedFiles::new();
        let path = Path::new("d/journal");
        let mut file = disk(&files).append(path, None).await.expect("opened");
        file.append(b"kept".to_vec()).await.expect("appended");
        file.append_unsynced(b"lost".to_vec()).await.expect("appended");
        disk(&files).replace(Path::new("d/head"), b"whole".to_vec()).await.expect("replaced");
        assert_eq!(files.peek(path).as_deref(), Some(&b"keptlost"[..]));
        files.lose_power(|unsynced| unsynced / 2);
        let listed = disk(&files).list(Path::new("d")).await.expect("listed");
        assert_eq!(listed, [(String::from("head"), 5), (String::from("journal"), 6)]);
        disk(&files).remove(path).await.expect("it is there");
        assert_eq!(disk(&files).read(path).await.expect("read"), None);
    }

    #[tokio::test]
    async fn a_dead_process_holds_no_lock_and_frees_none() {
        let files = SimulatedFiles::new();
        let path = Path::new("lock");
        let lock = disk(&files).lock(path).await.expect("locked");
        assert!(lock.is_some() && disk(&files).lock(path).await.expect("asked").is_none());
        files.end_process();
        let next = disk(&files).lock(path).await.expect("locked");
        assert!(next.is_some());
        drop(lock);
        assert!(disk(&files).lock(path).await.expect("asked").is_none(), "it is the next one's");
        drop(next);
        assert!(disk(&files).lock(path).await.expect("locked").is_some());
    }
}
