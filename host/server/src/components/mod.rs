//! The replaceable parts of a server: time and randomness, which are those of `host/tunnel`,
//! threads, and a directory on disk.
//!
//! Stands below every other file: `spool/mod.rs` and `table/log.rs` write through a [`Directory`],
//! `sessions.rs` reads the [`Clock`]. Invariant: nothing else in this crate reads a clock, draws a
//! random number, starts a thread or opens a file, so that with [`simulated`] parts the whole
//! server runs in virtual time on one thread.

pub mod simulated;
mod system;
mod timer;
mod workers;

use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::ObjectStore;
pub(crate) use system::run_apart;
pub(crate) use timer::ClockTimer;
use tokio::task::AbortHandle;
pub use upsert_sink_tunnel::components::{Clock, Entropy};
use upsert_sink_tunnel::components::{SystemClock, SystemEntropy};

/// The replaceable parts of a server.
#[derive(Clone)]
pub struct ServerComponents {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Directories.
    pub disk: Arc<dyn Directories>,
    /// Chance.
    pub entropy: Arc<dyn Entropy>,
    /// Threads for what computes for long.
    pub workers: Arc<dyn Workers>,
}

impl ServerComponents {
    /// The machine's own clock, file system, random numbers and threads.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::start()),
            disk: Arc::new(system::SystemDirectories),
            entropy: Arc::new(SystemEntropy),
            workers: Arc::new(workers::QueryThreads::default()),
        }
    }
}

impl fmt::Debug for ServerComponents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerComponents")
    }
}

/// Where work is done that computes for long, such as a query.
pub trait Workers: Send + Sync {
    /// Begins a piece of work that does not hold up whoever answers requests. The handle ends it
    /// early, where it next lets others go on; a join may compute on until it has a row.
    fn begin(&self, work: BoxFuture<'static, ()>) -> AbortHandle;
}

/// The purpose that a directory is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read what is there, also while a server writes to it.
    Read,
    /// To be its only server. Creates the directory if there is none.
    Serve,
}

/// Where directories are.
pub trait Directories: Send + Sync {
    /// Opens a directory.
    ///
    /// Errors: `WouldBlock` if another server has it, `NotFound` for [`Access::Read`] of a missing
    /// one, and whatever the file system says.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn Directory>>;
}

/// One open directory. Names are relative, with `/` between their parts.
///
/// Files that grow (the spool) are written here; files that appear whole (the log, the tables)
/// through [`Directory::objects`]. Nothing of either is durable before [`Directory::sync`] of that
/// name.
pub trait Directory: Send + Sync {
    /// Access to whole files.
    fn objects(&self) -> Arc<dyn ObjectStore>;

    /// Appends to a file, which begins with its first append; answers the offset where the bytes
    /// begin.
    fn append(&self, name: &str, bytes: Bytes) -> BoxFuture<'_, io::Result<u64>>;

    /// Reads `length` bytes of a file from `offset`; fewer are an `UnexpectedEof`.
    fn read(&self, name: &str, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>>;

    /// How many bytes a file has.
    fn length(&self, name: &str) -> BoxFuture<'_, io::Result<u64>>;

    /// The names of the files of a folder, sorted; none if there is no such folder.
    fn list(&self, folder: &str) -> BoxFuture<'_, io::Result<Vec<String>>>;

    /// Cuts a file to `length` bytes.
    fn truncate(&self, name: &str, length: u64) -> BoxFuture<'_, io::Result<()>>;

    /// Makes a file durable: its bytes and its place in its folder.
    fn sync(&self, name: &str) -> BoxFuture<'_, io::Result<()>>;

    /// Deletes a file; one that is not there is no error.
    fn remove(&self, name: &str) -> BoxFuture<'_, io::Result<()>>;

    /// Deletes what a process that died had begun below a folder as a file that appears whole.
    /// [`Directory::objects`] shows no such file; where none is ever left behind, there is nothing
    /// to do.
    fn discard_unfinished(&self, _folder: &str) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async { Ok(()) })
    }
}
