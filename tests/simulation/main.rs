//! The shipped component, the real runtime and the real server in one thread and in virtual time.
//!
//! Each seed is a world with its own faults: requests refused, lost, unanswered, late; checkpoints
//! aborted; sink and server killed. Invariant: a seed is run twice, and is the same run twice.

mod checker;
mod components;
mod engine;
mod network;
mod suite;
mod world;
