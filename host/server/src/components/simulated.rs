//! A disk in memory that loses what was never synced; clock and random numbers are those of
//! `host/tunnel`.
//!
//! Chosen by tests and by the simulation. Invariant: no thread is started and no real time is read;
//! a crashed disk holds exactly what had been synced, or that and some of the rest, as the crash
//! says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::{fmt, io};

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::task::AbortHandle;
pub use upsert_sink_tunnel::components::simulated::{ManualClock, SeededEntropy};

use super::{Access, Clock, Directories, Directory, ServerComponents, Workers};

/// Simulated parts around a disk.
pub fn components(
    clock: Arc<dyn Clock>,
    disk: Arc<SimulatedDirectories>,
    seed: u64,
) -> ServerComponents {
    let entropy = Arc::new(SeededEntropy::new(seed));
    ServerComponents { clock, disk, entropy, workers: Arc::new(SameThread) }
}

/// Queries take their turns with everything else.
#[derive(Debug)]
struct SameThread;

impl Workers for SameThread {
    fn begin(&self, work: BoxFuture<'static, ()>) -> AbortHandle {
        tokio::spawn(work).abort_handle()
    }
}

/// The effect of a crash on bytes that were written and never synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// They survive, as after the death of the process alone.
    Kept,
    /// They are gone, as after a loss of power.
    Lost,
    /// The first half of the bytes appended to a file survives; whole files are gone.
    Torn,
}

/// A disk in memory. A crash makes a new one; the old one belongs to the dead.
pub struct SimulatedDirectories {
    folders: Mutex<BTreeMap<PathBuf, Arc<SimulatedDirectory>>>,
    power: Arc<Power>,
}

/// Counts the syncs, and fails after one of them.
#[derive(Debug, Default)]
struct Power {
    syncs: AtomicU64,
    last: Mutex<Option<LastSync>>,
    failed: AtomicBool,
    ignored: Mutex<Option<&'static str>>,
}

/// The sync at which a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastSync {
    /// Its number, from zero.
    pub number: u64,
    /// Whether it still takes effect, although nobody learns of it.
    pub effective: bool,
}

impl SimulatedDirectories {
    /// An empty disk.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { folders: Mutex::default(), power: Arc::default() })
    }

    /// From the given sync on every operation fails, as if the process had died there.
    pub fn fail_at(&self, sync: LastSync) {
        *self.power.last.lock().expect("no holder panics") = Some(sync);
    }

    /// From now on syncs of files in this folder do nothing, as if the server had left them out;
    /// none: all work. To show that a sync that is left out is found.
    pub fn ignore_syncs_in(&self, folder: Option<&'static str>) {
        *locked(&self.power.ignored) = folder;
    }

    /// The number of syncs so far.
    pub fn syncs(&self) -> u64 {
        self.power.syncs.load(Ordering::SeqCst)
    }

    /// Whether the disk has failed.
    pub fn has_failed(&self) -> bool {
        self.power.failed.load(Ordering::SeqCst)
    }

    /// The files that are left after a crash, on a disk that works. None of them is locked.
    pub async fn crash(&self, unsynced: Unsynced) -> Arc<Self> {
        let folders: Vec<_> =
            locked(&self.folders).iter().map(|(p, d)| (p.clone(), Arc::clone(d))).collect();
        let after = Self::new();
        for (path, folder) in folders {
            let survivor = Arc::new(folder.survive(unsynced, Arc::clone(&after.power)).await);
            locked(&after.folders).insert(path, survivor);
        }
        after
    }
}

impl fmt::Debug for SimulatedDirectories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedDirectories").field("power", &self.power).finish_non_exhaustive()
    }
}

impl Directories for SimulatedDirectories {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Directory>> {
        let mut folders = locked(&self.folders);
        let folder = match (folders.get(path), access) {
            (Some(folder), _) => Arc::clone(folder),
            (None, Access::Read) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::Serve) => {
                let folder = Arc::new(SimulatedDirectory::new(Arc::clone(&self.power)));
                folders.insert(path.to_owned(), Arc::clone(&folder));
                folder
            }
        };
        if access == Access::Read {
            return Ok(folder);
        }
        if folder.served.swap(true, Ordering::SeqCst) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Arc::new(OpenDirectory(folder)))
    }
}

/// One directory of a simulated disk.
struct SimulatedDirectory {
    power: Arc<Power>,
    served: AtomicBool,
    objects: Arc<InMemory>,
    files: Mutex<Files>,
}

#[derive(Default)]
struct Files {
    growing: BTreeMap<String, BytesMut>,
    /// Growing files after a loss of power: they are as long as when they were synced.
    durable_lengths: BTreeMap<String, usize>,
    /// Whole files after a loss of power.
    durable: BTreeMap<String, Bytes>,
}

/// The files that a crash leaves.
struct Survivors {
    growing: BTreeMap<String, BytesMut>,
    whole: BTreeMap<String, Bytes>,
}

impl Files {
    /// The files that a crash leaves.
    fn survivors(&self, unsynced: Unsynced, objects: Vec<(String, Bytes)>) -> Survivors {
        let mut growing = BTreeMap::new();
        for (name, bytes) in &self.growing {
            let durable = self.durable_lengths.get(name).copied();
            let synced = durable.unwrap_or_default().min(bytes.len());
            let left = match unsynced {
                Unsynced::Kept => bytes.len(),
                Unsynced::Lost => synced,
                Unsynced::Torn => synced + (bytes.len() - synced) / 2,
            };
            if durable.is_some() || unsynced != Unsynced::Lost {
                growing.insert(name.clone(), BytesMut::from(&bytes[..left]));
            }
        }
        let whole = match unsynced {
            Unsynced::Kept => objects.into_iter().collect(),
            Unsynced::Lost | Unsynced::Torn => self.durable.clone(),
        };
        Survivors { growing, whole }
    }
}

impl SimulatedDirectory {
    fn new(power: Arc<Power>) -> Self {
        Self {
            power,
            served: AtomicBool::new(false),
            objects: Arc::new(InMemory::new()),
            files: Mutex::default(),
        }
    }

    async fn survive(&self, unsynced: Unsynced, power: Arc<Power>) -> Self {
        let after = Self::new(power);
        let objects = self.whole_files().await.expect("memory can be read");
        let survivors = locked(&self.files).survivors(unsynced, objects);
        for (name, bytes) in &survivors.whole {
            let path = ObjectPath::parse(name).expect("it was a path before");
            let put = after.objects.put(&path, bytes.clone().into()).await;
            put.expect("memory takes everything");
        }
        let mut left = Files::default();
        match unsynced {
            // The death of a process makes nothing durable: a loss of power may still follow.
            Unsynced::Kept => {
                let before = locked(&self.files);
                left.durable = before.durable.clone();
                left.durable_lengths = before.durable_lengths.clone();
            }
            Unsynced::Lost | Unsynced::Torn => {
                let lengths = survivors.growing.iter().map(|(n, b)| (n.clone(), b.len()));
                left.durable_lengths = lengths.collect();
                left.durable = survivors.whole;
            }
        }
        left.growing = survivors.growing;
        *locked(&after.files) = left;
        after
    }

    async fn whole_files(&self) -> object_store::Result<Vec<(String, Bytes)>> {
        let list: Vec<_> = self.objects.list(None).try_collect().await?;
        let mut files = Vec::with_capacity(list.len());
        for meta in list {
            let bytes = self.objects.get(&meta.location).await?.bytes().await?;
            files.push((meta.location.to_string(), bytes));
        }
        Ok(files)
    }

    fn alive(&self) -> io::Result<()> {
        if self.power.failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("the simulated disk has failed"));
        }
        Ok(())
    }

    async fn make_durable(&self, name: &str) -> io::Result<()> {
        if locked(&self.power.ignored).is_some_and(|folder| name.starts_with(folder)) {
            return Ok(());
        }
        {
            let mut files = locked(&self.files);
            if let Some(length) = files.growing.get(name).map(BytesMut::len) {
                files.durable_lengths.insert(name.to_owned(), length);
                return Ok(());
            }
        }
        let path = ObjectPath::parse(name).map_err(io::Error::other)?;
        let file = self.objects.get(&path).await;
        let bytes = file.map_err(io::Error::other)?.bytes().await.map_err(io::Error::other)?;
        locked(&self.files).durable.insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn sync_once(&self, name: &str) -> io::Result<()> {
        // A real sync takes its time, in which others append and wait for the next one.
        tokio::task::yield_now().await;
        self.alive()?;
        let number = self.power.syncs.fetch_add(1, Ordering::SeqCst);
        let last = *locked(&self.power.last);
        match last {
            Some(last) if last.number == number => {
                if last.effective {
                    self.make_durable(name).await?;
                }
                self.power.failed.store(true, Ordering::SeqCst);
                self.alive()
            }
            _ => self.make_durable(name).await,
        }
    }
}

impl Directory for SimulatedDirectory {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        Arc::clone(&self.objects) as Arc<dyn ObjectStore>
    }

    fn append(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, io::Result<u64>> {
        let done = self.alive().map(|()| {
            let mut files = locked(&self.files);
            let file = files.growing.entry(name.to_owned()).or_default();
            let offset = file.len() as u64;
            file.extend_from_slice(&bytes);
            offset
        });
        futures::future::ready(done).boxed()
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let done = self.alive().and_then(|()| {
            let files = locked(&self.files);
            let file = files.growing.get(name).ok_or(io::ErrorKind::NotFound)?;
            let from = usize::try_from(offset).map_err(io::Error::other)?;
            let range = file.get(from..from.saturating_add(length));
            Ok(Bytes::copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?))
        });
        futures::future::ready(done).boxed()
    }

    fn length(&self, name: &str) -> BoxFuture<'_, io::Result<u64>> {
        let length = locked(&self.files).growing.get(name).map(|file| file.len() as u64);
        futures::future::ready(length.ok_or(io::ErrorKind::NotFound.into())).boxed()
    }

    fn list(&self, folder: &str) -> BoxFuture<'_, io::Result<Vec<String>>> {
        let prefix = format!("{folder}/");
        Box::pin(async move {
            self.alive()?;
            let whole = self.whole_files().await.map_err(io::Error::other)?;
            let mut names: Vec<String> = locked(&self.files).growing.keys().cloned().collect();
            names.extend(whole.into_iter().map(|(name, _)| name));
            names.retain_mut(|name| match name.strip_prefix(&prefix) {
                Some(rest) if !rest.contains('/') => {
                    *name = rest.to_owned();
                    true
                }
                _ => false,
            });
            names.sort();
            Ok(names)
        })
    }

    fn truncate(&self, name: &str, length: u64) -> BoxFuture<'_, io::Result<()>> {
        let done = self.alive().and_then(|()| {
            let mut files = locked(&self.files);
            let file = files.growing.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
            let length = usize::try_from(length).map_err(io::Error::other)?;
            file.truncate(length);
            files.durable_lengths.entry(name.to_owned()).and_modify(|durable| {
                *durable = length.min(*durable);
            });
            Ok(())
        });
        futures::future::ready(done).boxed()
    }

    fn sync(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        let name = name.to_owned();
        Box::pin(async move { self.sync_once(&name).await })
    }

    fn remove(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        let name = name.to_owned();
        Box::pin(async move {
            self.alive()?;
            let growing = {
                let mut files = locked(&self.files);
                files.durable.remove(&name);
                files.durable_lengths.remove(&name);
                files.growing.remove(&name)
            };
            if growing.is_none() {
                let path = ObjectPath::parse(name).map_err(io::Error::other)?;
                let _ = self.objects.delete(&path).await;
            }
            Ok(())
        })
    }
}

/// A directory that has a server; it can be served again once this one is dropped.
struct OpenDirectory(Arc<SimulatedDirectory>);

impl Drop for OpenDirectory {
    fn drop(&mut self) {
        self.0.served.store(false, Ordering::SeqCst);
    }
}

impl Directory for OpenDirectory {
    fn objects(&self) -> Arc<dyn ObjectStore> {
        self.0.objects()
    }

    fn append(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, io::Result<u64>> {
        self.0.append(name, bytes)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        self.0.read(name, offset, length)
    }

    fn length(&self, name: &str) -> BoxFuture<'_, io::Result<u64>> {
        self.0.length(name)
    }

    fn list(&self, folder: &str) -> BoxFuture<'_, io::Result<Vec<String>>> {
        self.0.list(folder)
    }

    fn truncate(&self, name: &str, length: u64) -> BoxFuture<'_, io::Result<()>> {
        self.0.truncate(name, length)
    }

    fn sync(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        self.0.sync(name)
    }

    fn remove(&self, name: &str) -> BoxFuture<'_, io::Result<()>> {
        self.0.remove(name)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}
