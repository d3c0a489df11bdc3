//! The disk under all attempts of a sink: what was not synced when the machine loses power may be
//! gone, whole or in part.
//!
//! Files are found by their names, and an open file is the file that it was when it was opened, as
//! on any disk: a dead attempt that still writes does not write into the next one's journal.
//! Invariant: what an operation has returned from is durable, unless the sync at that site is
//! ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::BoxFuture;
use upsert_sink::components as sink;

use super::SyncSite;
use super::power::Power;
use crate::simulation::world::Chance;

/// How an attempt ends, for its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The process alone: the machine still writes what it was given.
    OfProcess,
    /// The machine: what was not synced is gone, or half of it.
    OfPower,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    /// How much of it a loss of power leaves.
    durable: usize,
}

#[derive(Debug, Default)]
struct Held {
    files: Vec<File>,
    /// Which file has a name.
    names: BTreeMap<PathBuf, usize>,
    /// Which file has it after a loss of power.
    durable_names: BTreeMap<PathBuf, usize>,
    locked: BTreeSet<PathBuf>,
}

/// All files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    held: Mutex<Held>,
    ignored: Option<SyncSite>,
}

impl Files {
    /// An empty disk that does not sync at a site.
    pub(crate) fn new(ignored: Option<SyncSite>) -> Arc<Self> {
        Arc::new(Self { held: Mutex::default(), ignored })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no holder panics")
    }

    /// An attempt has ended: its locks are free, and its disk is what the loss leaves.
    pub(crate) fn end(&self, loss: Loss, chance: &Chance) {
        let mut held = self.held();
        held.locked.clear();
        if loss == Loss::OfProcess {
            return;
        }
        held.names = held.durable_names.clone();
        for file in &mut held.files {
            let unsynced = file.bytes.len() - file.durable.min(file.bytes.len());
            let left = file.durable + chance.below(2) as usize * unsynced / 2;
            file.bytes.truncate(left);
            file.durable = file.bytes.len();
        }
    }

    /// The whole file, for whoever looks from outside.
    pub(crate) fn peek(&self, path: &Path) -> Option<Vec<u8>> {
        let held = self.held();
        held.names.get(path).map(|file| held.files[*file].bytes.clone())
    }

    fn syncs(&self, site: SyncSite) -> bool {
        self.ignored != Some(site)
    }
}

/// The disk as one attempt sees it.
#[derive(Clone, Debug)]
pub(crate) struct AttemptDisk {
    /// What it holds.
    pub(crate) files: Arc<Files>,
    /// Whether the attempt lives.
    pub(crate) power: Arc<Power>,
}

impl AttemptDisk {
    async fn host_call(&self) {
        self.power.host_call();
        self.power.or_never().await;
    }

    /// Between a write and its sync others move, and the machine may die.
    async fn before_sync(&self) {
        tokio::task::yield_now().await;
        self.host_call().await;
    }
}

impl sink::Disk for AttemptDisk {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        let path = path.to_owned();
        async move {
            self.power.or_never().await;
            Ok(self.files.peek(&path))
        }
        .boxed()
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        async move {
            self.host_call().await;
            let file = {
                let mut held = self.files.held();
                held.files.push(File { bytes, durable: 0 });
                held.files.len() - 1
            };
            self.before_sync().await;
            let mut held = self.files.held();
            held.names.insert(path.clone(), file);
            if self.files.syncs(SyncSite::JournalReplace) {
                held.files[file].durable = held.files[file].bytes.len();
                held.durable_names.insert(path, file);
            }
            Ok(())
        }
        .boxed()
    }

    fn append(
        &self,
        path: &Path,
        length: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn sink::AppendFile>>> {
        let path = path.to_owned();
        async move {
            self.host_call().await;
            let mut held = self.files.held();
            let file = match held.names.get(&path) {
                Some(file) => *file,
                None => {
                    held.files.push(File::default());
                    let file = held.files.len() - 1;
                    held.names.insert(path.clone(), file);
                    held.durable_names.insert(path, file);
                    file
                }
            };
            if let Some(length) = length {
                held.files[file].bytes.truncate(length as usize);
                held.files[file].durable = held.files[file].bytes.len();
            }
            drop(held);
            Ok(Box::new(AttemptFile { disk: self.clone(), file }) as Box<dyn sink::AppendFile>)
        }
        .boxed()
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        let path = path.to_owned();
        async move {
            self.power.or_never().await;
            let taken = self.files.held().locked.insert(path.clone());
            let lock =
                Lock { files: Arc::clone(&self.files), power: Arc::clone(&self.power), path };
            Ok(taken.then(|| Box::new(lock) as Box<dyn Send + Sync>))
        }
        .boxed()
    }
}

struct AttemptFile {
    disk: AttemptDisk,
    file: usize,
}

impl sink::AppendFile for AttemptFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.disk.host_call().await;
            self.disk.files.held().files[self.file].bytes.extend(bytes);
            self.disk.before_sync().await;
            if self.disk.files.syncs(SyncSite::JournalAppend) {
                let file = &mut self.disk.files.held().files[self.file];
                file.durable = file.bytes.len();
            }
            Ok(())
        }
        .boxed()
    }
}

struct Lock {
    files: Arc<Files>,
    power: Arc<Power>,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The lock of a killed attempt was freed when it died, and may be another's by now.
        if !self.power.is_off() {
            self.files.held().locked.remove(&self.path);
        }
    }
}
