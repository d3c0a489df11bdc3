//! One file per command.
//!
//! `main.rs` parses the arguments that each of them declares, and calls its `run`. Invariant: with
//! `--report json` a command writes one document to standard output and nothing else.

pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod options;
pub(crate) mod plan;
pub(crate) mod query;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod verify;
