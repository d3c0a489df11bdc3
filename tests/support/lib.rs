//! The shared parts of the suites: the binary, its reports and progress, the plugin, the feeds,
//! fuzzing, the clock of the harness.
//!
//! Used by the suites beside it, shipped with nothing.
//! Invariant: nothing here knows what the sink should do; expectations stand in the suites.

pub mod binary;
pub mod clock;
pub mod feed;
pub mod fuzz;
pub mod live;
pub mod plugin;
pub mod progress;
#[path = "../simulation/mod.rs"]
pub mod simulation;
pub mod talk;
