//! The parts of the host that a simulation replaces: those of the Tunnel's client, and the thread
//! that ticks the epochs of the sandbox.
//!
//! Everything below `sink.rs` reaches the outside through here. Invariant: no other file of this
//! library reads the time, sleeps, draws random bytes, opens a file or a socket, or starts a thread
//! or another program; `upsert_sink_tunnel::components` does all but the last line of it.

use std::time::Duration;

pub use upsert_sink_tunnel::components::simulated::{InlineProcessors, NoSurroundings};
pub use upsert_sink_tunnel::components::{
    AppendFile, BoxFuture, Clock, Components, ConnectTimeout, Disk, Entropy, Processors,
    ScratchFile, Surroundings, SystemClock, SystemDisk, SystemEntropy, SystemProcessors,
    SystemSurroundings, SystemTransport, Transport, TransportError, Work,
};

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
