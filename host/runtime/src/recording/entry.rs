//! The parts of a recording: its head, and one entry after another.
//!
//! Between the instances' calls (`input.rs`, `output.rs`) and the blocks of a file (`block.rs`).
//! Invariant: an entry is read as it was written, or refused.

use std::fmt;

use serde::{Deserialize, Serialize};
use upsert_sink_core::io::Task;

use crate::capability::grant::Grant;
use crate::capability::outputs::KeptOutputs;
use crate::sandbox::Limits;

/// The subject of a recording. Plain JSON at the front of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The SHA-256 of the component, in hexadecimal; empty for a native twin.
    pub component: String,
    /// The sink's lasting name.
    pub identity: String,
    /// The number of the start of the sink.
    pub start: u64,
    /// When it was, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The full name of the table.
    pub table: String,
    /// The limits of each instance.
    pub(crate) sandbox: Sandbox,
}

impl Head {
    /// The head of a recording of `component`, whose instances are opened with `task`.
    pub(crate) fn of(component: String, limits: &Limits, task: &Task, at_ms: u64) -> Self {
        Self {
            component,
            identity: task.identity.clone(),
            start: task.start,
            at_ms,
            table: task.table.name.clone(),
            sandbox: Sandbox::from(limits),
        }
    }
}

/// The limits that a guest can run into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    memory_bytes: usize,
    table_elements: usize,
    tickets: usize,
    held_bytes: usize,
    call_bytes: usize,
}

impl From<&Limits> for Sandbox {
    fn from(limits: &Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            tickets: limits.tickets,
            held_bytes: limits.held_bytes,
            call_bytes: limits.call_bytes,
        }
    }
}

impl Sandbox {
    /// For the same guest on another machine: time is not part of it.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            memory_bytes: self.memory_bytes,
            table_elements: self.table_elements,
            tickets: self.tickets,
            held_bytes: self.held_bytes,
            call_bytes: self.call_bytes,
            ..Limits::default()
        }
    }
}

/// Which instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum RoleName {
    Committer,
    Coordinator,
    Writer(u32),
}

impl RoleName {
    pub(crate) fn grant(self) -> Grant {
        match self {
            Self::Committer => Grant::COMMITTER,
            Self::Coordinator => Grant::COORDINATOR,
            Self::Writer(_) => Grant::WRITER,
        }
    }

    pub(crate) fn is_writer(self) -> bool {
        matches!(self, Self::Writer(_))
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committer => f.write_str("committer"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Writer(index) => write!(f, "writer {index}"),
        }
    }
}

/// One entry of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RecordedEntry<'a> {
    /// An instance was called.
    #[serde(borrow)]
    Called(Call<'a>),
    /// The sink has ended: nothing follows.
    Closed,
    /// Writers are not recorded from here on: there was room for the others only.
    WritersStopped,
    /// Nothing is recorded from here on.
    Stopped,
}

/// One call of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call<'a> {
    pub(crate) role: RoleName,
    /// Counts the calls of this instance from one, which is its opening.
    pub(crate) number: u64,
    pub(crate) now_ms: u64,
    /// As [`Input`](crate::recording::input::Input) encodes it.
    #[serde(borrow, with = "serde_bytes")]
    pub(crate) input: &'a [u8],
    pub(crate) outputs: KeptOutputs,
}

/// The format and its version.
pub(super) const MAGIC: &[u8; 8] = b"USRECD03";
