//! What a recording is made of: its head, and one entry after another.
//!
//! Between the instances' calls (`input.rs`, `output.rs`) and the blocks of a file (`block.rs`).
//! Invariant: an entry is read as it was written, or refused.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;
use upsert_sink_core::io::Task;

use crate::capability::grant::Grant;
use crate::plugin::Plugin;
use crate::recording::codec::Decoder;
use crate::recording::codec::Encoder;
use crate::recording::codec::Read;
use crate::recording::output::Came;
use crate::sandbox::Limits;
use crate::settings::Settings;

/// What a recording is of. Plain JSON at the front of the file.
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
    /// What each instance might use.
    pub(crate) sandbox: Sandbox,
}

impl Head {
    pub(crate) fn of(plugin: &Plugin, settings: &Settings, task: &Task, at_ms: u64) -> Self {
        Self {
            component: plugin.inspect().sha256,
            identity: task.identity.clone(),
            start: task.start,
            at_ms,
            table: task.table.name.clone(),
            sandbox: Sandbox::from(&settings.limits),
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Committer,
    Coordinator,
    Writer(u32),
}

impl Role {
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

    fn encode(self, out: &mut Encoder) {
        match self {
            Self::Committer => out.byte(0),
            Self::Coordinator => out.byte(1),
            Self::Writer(index) => {
                out.byte(2);
                out.number(u64::from(index));
            }
        }
    }

    fn decode(read: &mut Decoder<'_>) -> Read<Self> {
        match read.byte()? {
            0 => Ok(Self::Committer),
            1 => Ok(Self::Coordinator),
            2 => Ok(Self::Writer(read.small()?)),
            _ => Err("a role is not known"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Committer => f.write_str("committer"),
            Self::Coordinator => f.write_str("coordinator"),
            Self::Writer(index) => write!(f, "writer {index}"),
        }
    }
}

/// One entry of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry<'a> {
    /// An instance was called.
    Called(Call<'a>),
    /// The sink has ended: nothing follows.
    Closed,
    /// Writers are not recorded from here on: there was room for the others only.
    WritersStopped,
    /// Nothing is recorded from here on.
    Stopped,
}

/// One call of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) role: Role,
    /// Counts the calls of this instance from one, which is its opening.
    pub(crate) number: u64,
    pub(crate) now_ms: u64,
    /// As [`Input`](crate::recording::input::Input) encodes it.
    pub(crate) input: &'a [u8],
    pub(crate) came: Came,
}

impl<'a> Entry<'a> {
    pub(super) fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Called(call) => {
                out.byte(0);
                call.role.encode(out);
                out.number(call.number);
                out.number(call.now_ms);
                out.bytes(call.input);
                call.came.encode(out);
            }
            Self::Closed => out.byte(1),
            Self::WritersStopped => out.byte(2),
            Self::Stopped => out.byte(3),
        }
    }

    pub(super) fn decode(read: &mut Decoder<'a>) -> Read<Self> {
        Ok(match read.byte()? {
            0 => Self::Called(Call {
                role: Role::decode(read)?,
                number: read.number()?,
                now_ms: read.number()?,
                input: read.bytes()?,
                came: Came::decode(read)?,
            }),
            1 => Self::Closed,
            2 => Self::WritersStopped,
            3 => Self::Stopped,
            _ => return Err("an entry is not known"),
        })
    }
}
