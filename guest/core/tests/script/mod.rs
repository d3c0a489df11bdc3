//! The drive of the machines in tests: a world of messages, a Tunnel, and an engine that draws the
//! next event.
//!
//! Invariant: the machines are the core's own; nothing here decides for them.

#![allow(dead_code, reason = "several suites share it, and each uses a part")]

pub(crate) mod cache;
pub(crate) mod history;
pub(crate) mod journal;
pub(crate) mod schedule;
pub(crate) mod tunnel;
pub(crate) mod world;
