//! The replaceable parts: clock, transport, disk, entropy, processors and the process's
//! surroundings, the machine's own and the simulated ones side by side.
//!
//! The client reaches the outside through here and nowhere else, and so does a host that is built
//! on it. Invariant: these files alone read the time, sleep, draw random bytes, open a file or a
//! socket, or start a thread or another program; with [`simulated`] parts all of it runs in virtual
//! time on one thread.

mod parts;
mod program;
pub mod simulated;
mod system;
mod transport;

use std::fmt;
use std::sync::Arc;

pub use parts::{
    AppendFile, BoxFuture, Clock, Disk, Entropy, Processors, ScratchFile, Surroundings, Transport,
    TransportError, Work,
};
pub use program::SystemSurroundings;
pub use system::{SystemClock, SystemDisk, SystemEntropy, SystemProcessors};
pub use transport::{AnswerBytesMax, ConnectTimeout, SystemTransport};

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

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Components")
    }
}
