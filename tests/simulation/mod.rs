//! The shipped component, the real runtime and the real server in one thread and in virtual time.
//!
//! READ FIRST. One seed is one world (`world`, `faults`): a stream engine (`engine`, `feed`,
//! `checkpoint`) feeds the sink (`subject`) over a network (`network`) into a server on a disk that
//! loses what was never synced (`components`), while things go wrong; then faults stop, and it must
//! come to an end. Checkers (`checker`), one for each family of promises, look at the table at
//! every commit. All events are counted (`tally`); a world that fails is made smaller (`shrink`).
//! Invariant: nothing in a world comes from outside but its seed, so that a seed is always the same
//! run, of the component and of its native twin.

mod checker;
mod checkpoint;
mod command;
mod components;
mod engine;
mod faults;
mod feed;
mod network;
mod server;
mod shrink;
mod subject;
mod tally;
mod world;

use anyhow::Result;
pub use command::number;
pub use components::SyncSite;
pub use engine::Outcome;
pub use faults::{Fault, Faults};
pub use shrink::shrink;
pub use subject::{Subject, Subjects, native};
pub use tally::{Sometimes, Tally};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
pub use world::{Death, Plan, Promise, Trace};

/// Runs one world to its end. Its trace is noted in `trace`.
///
/// # Errors
/// The promise that it broke.
pub fn run(plan: &Plan, subjects: &Subjects, trace: &Trace) -> Result<Outcome> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let world = engine::Engine::live(plan.clone(), subjects.plugin(plan.subject), trace.clone());
    LocalSet::new().block_on(&runtime, world)
}
