//! The whole logic of upsert-sink: pure, `no_std`, the same natively and in the sandbox.
//!
//! **Contract.** Three machines, [`writer::Writer`], [`coordinator::Coordinator`] and
//! [`committer::Committer`]: give one input with `handle_input(now, input)`, then take every output
//! with `poll_output()` until it is empty, then ask `deadline()` when to call with `TimerFired`.
//! A machine with outputs left asserts that it is given no further input. Time and random seeds
//! come in with inputs; effects go out as values; nothing waits, nothing does I/O. An error from
//! `handle_input` ends the attempt: drop the machine, and open another from the last checkpoint.
//!
//! **A row's way** begins in `upsert-sink-format`, which parses its batch. Then the row finds its
//! partition (`partition`) and its bucket (`bucket`), becomes a record in a buffer (`buffer`), is
//! flushed (`flush`) as an operation (`operation`) into its partition's session (`session`), and
//! passes a barrier (`checkpoint`): all that in its writer (`writer`). The coordinator has handed
//! out the session (`coordinator`), and the committer commits it (`committer`).
//!
//! **Panics** are our bugs. Input, of whatever kind, never panics.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod io;

pub mod config;
pub mod open;

pub mod bucket;
pub mod buffer;
pub mod checkpoint;
pub mod flush;
mod operation;
mod outputs;
pub mod partition;
pub mod session;
pub mod writer;

mod commit_operation;
mod commit_order;
mod commit_time;
pub mod committer;
pub mod compaction;
pub mod coordinator;

mod dead_letter;
pub mod evidence;
pub mod exchange;
pub mod ignored;
pub mod journal;
mod retry;
