//! The machine's own clock, file system, random numbers and processors.
//!
//! Chosen by [`Components::system`](super::Components::system). Invariant: time never goes back;
//! what a call of the disk has returned from is durable, where its documentation says so.

use std::fs::{File, OpenOptions};
use std::io;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;

use crate::components::parts::{
    AppendFile, BoxFuture, Clock, Disk, Entropy, Processors, ScratchFile, Work,
};

/// The wall clock at its start, then a steady one: it never goes back when the wall clock is set.
#[derive(Debug)]
pub struct SystemClock {
    at_start: Duration,
    started: tokio::time::Instant,
}

impl SystemClock {
    /// Reads the wall clock.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        let at_start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { at_start, started: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let now = self.at_start + self.started.elapsed();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    fn now_us(&self) -> u64 {
        let now = self.at_start + self.started.elapsed();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let elapsed = Duration::from_millis(deadline_ms).saturating_sub(self.at_start);
        // Far enough for "never", and near enough for the timer's arithmetic.
        let deadline = self.started + elapsed.min(Duration::from_secs(10 * 365 * 86_400));
        Box::pin(tokio::time::sleep_until(deadline))
    }
}

/// The file system. Blocking calls are made on tokio's blocking threads.
#[derive(Clone, Copy, Debug)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        let path = path.to_path_buf();
        blocking(move || match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_path_buf();
        blocking(move || replace(&path, &bytes))
    }

    fn append(
        &self,
        path: &Path,
        length: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>> {
        let path = path.to_path_buf();
        blocking(move || {
            let file = open_for_append(&path, length)?;
            Ok(Box::new(SystemFile { file: Arc::new(file) }) as Box<dyn AppendFile>)
        })
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        let path = path.to_path_buf();
        blocking(move || {
            create_directory_of(&path)?;
            let mut options = OpenOptions::new();
            let file = options.create(true).truncate(false).read(true).write(true).open(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Box::new(file) as Box<dyn Send + Sync>)),
                Err(std::fs::TryLockError::WouldBlock) => Ok(None),
                Err(std::fs::TryLockError::Error(error)) => Err(error),
            }
        })
    }

    fn scratch(&self, directory: &Path) -> BoxFuture<'_, io::Result<Arc<dyn ScratchFile>>> {
        let directory = directory.to_path_buf();
        blocking(move || {
            create_plain_directory(&directory)?;
            let file = Mutex::new(tempfile::tempfile_in(directory)?);
            Ok(Arc::new(SystemScratch { file: Arc::new(file) }) as Arc<dyn ScratchFile>)
        })
    }

    fn list(&self, directory: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        let directory = directory.to_path_buf();
        blocking(move || list(&directory))
    }

    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let path = path.to_path_buf();
        blocking(move || std::fs::remove_file(path))
    }
}

struct SystemFile {
    file: Arc<File>,
}

impl AppendFile for SystemFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            (&*file).write_all(&bytes)?;
            file.sync_data()
        })
    }

    fn append_unsynced(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        let file = Arc::clone(&self.file);
        blocking(move || (&*file).write_all(&bytes))
    }
}

/// The kernel gives it a name on no system, or takes that away at once.
struct SystemScratch {
    file: Arc<Mutex<File>>,
}

impl ScratchFile for SystemScratch {
    fn write_at(&self, place: u64, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(place))?;
            file.write_all(&bytes)
        })
    }

    fn read_at(&self, places: Vec<Range<u64>>) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let file = Arc::clone(&self.file);
        blocking(move || {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            let mut read = Vec::new();
            for place in places {
                let length = place.end - place.start;
                file.seek(SeekFrom::Start(place.start))?;
                let before = read.len();
                (&mut *file).take(length).read_to_end(&mut read)?;
                if ((read.len() - before) as u64) < length {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(read)
        })
    }
}

/// A link could lead anywhere, so it is refused.
fn create_plain_directory(directory: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(directory) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory itself")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(directory),
        Err(error) => Err(error),
    }
}

fn open_for_append(path: &Path, length: Option<u64>) -> io::Result<File> {
    create_directory_of(path)?;
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    if let Some(length) = length {
        file.set_len(length)?;
        file.sync_all()?;
    }
    sync_directory_of(path)?;
    Ok(file)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    create_directory_of(path)?;
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_directory_of(path)
}

fn list(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push((name, metadata.len()));
        }
    }
    Ok(files)
}

fn create_directory_of(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory_of(path))
}

/// Makes a new name durable.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

pub(super) fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async move {
        let joined = tokio::task::spawn_blocking(work).await;
        joined.unwrap_or_else(|error| Err(io::Error::other(error)))
    })
}

/// The operating system's generator.
#[derive(Clone, Copy, Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let provider = rustls::crypto::ring::default_provider();
        let filled = provider.secure_random.fill(bytes);
        filled.expect("the operating system has random bytes");
    }
}

/// Threads apart from those of the runtime's workers, as many at a time as there are processors.
#[derive(Debug)]
pub struct SystemProcessors {
    free: Arc<Semaphore>,
}

impl SystemProcessors {
    /// Counts the processors.
    pub fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new(processors)) }
    }
}

impl Default for SystemProcessors {
    fn default() -> Self {
        Self::new()
    }
}

impl Processors for SystemProcessors {
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let free = Arc::clone(&self.free);
        Box::pin(async move {
            // Taken along by the work, which goes on if nobody waits for it any more.
            let processor = free.acquire_owned().await.map_err(io::Error::other)?;
            let worked = blocking(move || {
                let made = work();
                drop(processor);
                Ok(made)
            });
            worked.await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::components::simulated::InlineProcessors;

    #[tokio::test]
    async fn work_is_done_apart_from_the_threads_that_wait() {
        let me = || format!("{:?}", std::thread::current().id()).into_bytes();
        let apart = SystemProcessors::new().run(Box::new(me)).await.expect("done");
        let inline = InlineProcessors.run(Box::new(me)).await.expect("done");
        assert_eq!(inline, me());
        assert_ne!(apart, me());
    }
}
