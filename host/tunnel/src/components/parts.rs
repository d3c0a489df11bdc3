//! The traits of the replaceable parts.
//!
//! Implemented by `system.rs`, `program.rs` and `transport.rs` for the machine, and by
//! `simulated.rs`. Invariant: a part promises here what every implementation of it keeps.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use upsert_sink_format::id::Millis;

/// A future that can be sent to another thread.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells the time and wakes.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch. Never decreases.
    fn now_ms(&self) -> u64;

    /// Ends when `now_ms` has reached `deadline_ms`, at once if it has.
    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()>;

    /// The same time in microseconds, to measure spans with; as fine as `now_ms` unless it is
    /// overridden. Never decreases.
    fn now_us(&self) -> u64 {
        self.now_ms().saturating_mul(1000)
    }

    /// The same time as [`Clock::now_ms`].
    fn now(&self) -> Millis {
        Millis(self.now_ms())
    }

    /// Ends after a span, in whole milliseconds.
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let span_ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        self.sleep_until(self.now_ms().saturating_add(span_ms))
    }
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
    /// The failure, in words.
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

    /// Makes a file without a name in the directory, creating that: it is gone when it is dropped,
    /// and when the process ends, however it ends. Only file caches need it.
    fn scratch(&self, directory: &Path) -> BoxFuture<'_, io::Result<Arc<dyn ScratchFile>>> {
        let _ = directory;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// The names and sizes of the files in a directory; none if there is no such directory. Only
    /// recordings need it: a disk without it keeps none.
    fn list(&self, directory: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        let _ = directory;
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    /// Removes the file. Needed by recordings only, as [`Disk::list`] is.
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

/// A file without a name. Nothing of it needs to survive.
pub trait ScratchFile: Send + Sync {
    /// Writes bytes to a place.
    fn write_at(&self, place: u64, bytes: Vec<u8>) -> BoxFuture<'static, io::Result<()>>;

    /// Reads places, one after another, into one piece.
    fn read_at(&self, places: Vec<Range<u64>>) -> BoxFuture<'static, io::Result<Vec<u8>>>;
}

/// Draws random numbers: identities and the nonces of starts.
pub trait Entropy: Send + Sync {
    /// Fills with random bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// The next random number.
    fn draw(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// Work that keeps a processor busy, such as compressing a pack.
pub type Work = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// Does work that would keep others waiting.
pub trait Processors: Send + Sync {
    /// Does it, and returns its result.
    fn run(&self, work: Work) -> BoxFuture<'static, io::Result<Vec<u8>>>;
}

/// The surroundings of the process, where credentials may come from.
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
