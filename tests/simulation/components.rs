//! Time, chance, disk and death, as runtime and server see them in a simulated world.
//!
//! Given to both through their own `components`. Invariant: time is the virtual time of the runtime
//! that runs the world, and what belongs to a killed sink never moves again.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use upsert_sink::components as sink;
use upsert_sink_core::id::Millis;
use upsert_sink_server::components as server;

use crate::world::Chance;

/// When every world begins.
const BEGINNING_MS: u64 = 1_780_000_000_000;

/// Virtual time.
#[derive(Debug)]
pub(crate) struct VirtualClock(Instant);

impl VirtualClock {
    /// A clock that starts now, which is the same moment in every world.
    #[allow(clippy::disallowed_methods, reason = "virtual: the runtime of a world is paused")]
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(Instant::now()))
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let elapsed = u64::try_from(self.0.elapsed().as_millis());
        BEGINNING_MS + elapsed.expect("no world lasts so long")
    }

    /// The same moment for deadlines.
    pub(crate) fn instant(&self) -> Instant {
        self.0 + self.0.elapsed()
    }

    /// Ends at that time.
    pub(crate) fn at(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let span = deadline_ms.saturating_sub(BEGINNING_MS);
        // Far enough for "never", and near enough for the timer's arithmetic.
        let deadline = self.0 + Duration::from_millis(span.min(1 << 38));
        async move {
            let _elapsed = tokio::time::timeout_at(deadline, pending::<()>()).await;
        }
        .boxed()
    }

    /// Ends after that span.
    pub(crate) fn after(&self, span_ms: u64) -> BoxFuture<'static, ()> {
        self.at(self.now_ms().saturating_add(span_ms))
    }
}

impl sink::Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        Self::now_ms(self)
    }

    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        self.at(deadline_ms)
    }
}

impl server::Clock for VirtualClock {
    fn now(&self) -> Millis {
        Millis(self.now_ms())
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        self.after(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }
}

impl sink::Entropy for Chance {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.draw().to_le_bytes()[0];
        }
    }
}

/// Whether one attempt of the sink is alive.
#[derive(Debug, Default)]
pub(crate) struct Power(AtomicBool);

impl Power {
    /// Alive.
    pub(crate) fn on() -> Arc<Self> {
        Arc::default()
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// What a dead process does next: nothing, for ever.
    pub(crate) async fn or_never(&self) {
        if self.0.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
    }
}

/// The disk under all attempts of a sink. What was written is durable at once: the journal's own
/// tests lose unsynced bytes, this suite loses processes.
#[derive(Debug, Default)]
pub(crate) struct Files {
    files: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    locked: Mutex<BTreeSet<PathBuf>>,
}

impl Files {
    /// The dead hold no locks.
    pub(crate) fn unlock_all(&self) {
        self.locked.lock().expect("no holder panics").clear();
    }

    fn with<T>(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, Vec<u8>>) -> T) -> T {
        change(&mut self.files.lock().expect("no holder panics"))
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

impl sink::Disk for AttemptDisk {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        let path = path.to_owned();
        async move {
            self.power.or_never().await;
            Ok(self.files.with(|files| files.get(&path).cloned()))
        }
        .boxed()
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_owned();
        async move {
            self.power.or_never().await;
            self.files.with(|files| files.insert(path, bytes));
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
            self.power.or_never().await;
            let length = length.map_or(usize::MAX, |length| length as usize);
            self.files.with(|files| files.entry(path.clone()).or_default().truncate(length));
            let file = AttemptFile { disk: self.clone(), path };
            Ok(Box::new(file) as Box<dyn sink::AppendFile>)
        }
        .boxed()
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        let path = path.to_owned();
        async move {
            self.power.or_never().await;
            let taken = self.files.locked.lock().expect("no holder panics").insert(path.clone());
            let lock =
                Lock { files: Arc::clone(&self.files), power: Arc::clone(&self.power), path };
            Ok(taken.then(|| Box::new(lock) as Box<dyn Send + Sync>))
        }
        .boxed()
    }
}

struct AttemptFile {
    disk: AttemptDisk,
    path: PathBuf,
}

impl sink::AppendFile for AttemptFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        async move {
            self.disk.power.or_never().await;
            let append = |files: &mut BTreeMap<PathBuf, Vec<u8>>| {
                files.entry(self.path.clone()).or_default().extend(bytes);
            };
            self.disk.files.with(append);
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
        if !self.power.0.load(Ordering::SeqCst) {
            self.files.locked.lock().expect("no holder panics").remove(&self.path);
        }
    }
}
