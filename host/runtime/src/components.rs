//! The parts of the host that a simulation replaces: clock, transport, disk, entropy, processors
//! and the process's surroundings.
//!
//! Everything below `sink.rs` reaches the outside through here. Invariant: the only file of this
//! library that reads the time, sleeps, draws random bytes, opens a file or a socket, or starts a
//! thread or another program.

mod program;

use std::fs::File;
use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::program::SystemSurroundings;
pub use crate::transport::ConnectTimeout;
pub use crate::transport::SystemTransport;

/// A future that can be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells the time and wakes.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. Never decreases.
    fn now_ms(&self) -> u64;

    /// Ends when `now_ms` has reached `deadline_ms`, at once if it has.
    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()>;
}

/// Sends one HTTP request, once.
pub trait Transport: Send + Sync {
    /// Makes one attempt. The URI is absolute; the answer is whole and bounded. Never follows a
    /// redirect.
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>>;
}

/// No answer, or not a whole one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TransportError {
    /// Whether a first byte may have left: false only if it is certain that none has.
    pub sent: bool,
    /// What happened.
    pub message: String,
}

/// Keeps files.
pub trait Disk: Send + Sync {
    /// The whole file; none if there is no such file.
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>>;

    /// Replaces the file, or creates it and its directory, atomically and durably.
    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;

    /// Opens the file, creating it and its directory, and cuts it to `length` bytes if that is
    /// given.
    fn append(
        &self,
        path: &Path,
        length: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>>;

    /// Locks the file, creating it and its directory, until what is returned is dropped. None:
    /// another process, or another sink of this one, holds the lock.
    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>>;

    /// The names and sizes of the files in a directory; none if there is no such directory. Only
    /// recordings need it: a disk without it keeps none.
    fn list(&self, directory: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        let _ = directory;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Removes the file. As of [`Disk::list`].
    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        let _ = path;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

/// A file that only grows.
pub trait AppendFile: Send {
    /// Appends; durable when it returns.
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>>;

    /// Appends what need not survive a loss of power, only the end of the process.
    fn append_unsynced(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        self.append(bytes)
    }
}

/// Draws random numbers: identities and the nonces of starts.
pub trait Entropy: Send + Sync {
    /// Fills with random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Work that keeps a processor busy, such as compressing a pack.
pub type Work = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// Does work that would keep others waiting.
pub trait Processors: Send + Sync {
    /// Does it, and returns what came of it.
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>>;
}

/// What surrounds the process: where credentials may come from.
pub trait Surroundings: Send + Sync {
    /// The value of an environment variable, if it is text.
    fn variable(&self, name: &str) -> Option<String>;

    /// Runs a program, without a shell, and returns what it prints: at most `bytes_max`, more is an
    /// error, and so is an exit code other than 0. Dropping the future kills the program.
    fn output_of(
        &self,
        command: &[String],
        bytes_max: usize,
    ) -> BoxFuture<'static, io::Result<Vec<u8>>>;
}

/// The replaceable parts of a host.
#[derive(Clone)]
pub struct Components {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Network.
    pub transport: Arc<dyn Transport>,
    /// Disk.
    pub disk: Arc<dyn Disk>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Work.
    pub processors: Arc<dyn Processors>,
    /// Environment variables and programs.
    pub surroundings: Arc<dyn Surroundings>,
}

impl Components {
    /// The machine's own.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::start()),
            transport: Arc::new(SystemTransport::new()),
            disk: Arc::new(SystemDisk),
            entropy: Arc::new(SystemEntropy),
            processors: Arc::new(SystemProcessors::new()),
            surroundings: Arc::new(SystemSurroundings),
        }
    }
}

/// The wall clock at its start, then a steady one: it never goes back when the wall clock is set.
#[derive(Debug)]
pub struct SystemClock {
    epoch: Duration,
    started: tokio::time::Instant,
}

impl SystemClock {
    /// Reads the wall clock.
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { epoch, started: tokio::time::Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let now = self.epoch + self.started.elapsed();
        u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that sleeps")]
    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        let elapsed = Duration::from_millis(deadline_ms).saturating_sub(self.epoch);
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

fn blocking<T: Send + 'static>(
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

/// The caller's own thread, at once: for a simulation, where there is no other.
#[derive(Clone, Copy, Debug)]
pub struct InlineProcessors;

impl Processors for InlineProcessors {
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async move { Ok(work()) })
    }
}

/// No variables and no programs: for a simulation.
#[derive(Clone, Copy, Debug)]
pub struct NoSurroundings;

impl Surroundings for NoSurroundings {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn output_of(&self, _: &[String], _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }
}

/// Calls `tick` every `period` on a thread of its own until it returns false. Epochs of the sandbox
/// are real time, also in a simulation: a guest that hangs does so on a real processor.
#[allow(clippy::disallowed_methods, reason = "this is the one place that starts a thread")]
pub(crate) fn tick_every(period: Duration, mut tick: impl FnMut() -> bool + Send + 'static) {
    let ticker = std::thread::Builder::new().name(String::from("upsert-sink-epoch"));
    let started = ticker.spawn(move || {
        while tick() {
            std::thread::sleep(period);
        }
    });
    started.expect("the machine can start one more thread");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_apart_from_the_threads_that_wait() {
        let me = || format!("{:?}", std::thread::current().id()).into_bytes();
        let apart = SystemProcessors::new().run(Box::new(me)).await.expect("done");
        let inline = InlineProcessors.run(Box::new(me)).await.expect("done");
        assert_eq!(inline, me());
        assert_ne!(apart, me());
    }
}
