//! The argument of a call, as bytes that are kept and as words for people.
//!
//! Between `instance.rs`, which is called, and `entry.rs`. Invariant: everything that a call
//! depends on is in it; what is encoded is decoded to the same.

use std::fmt;

use serde::{Deserialize, Serialize};
use upsert_sink_core::io::{CommitterInput, Completion, CoordinatorInput, Task, WriterInput};

use crate::recording::codec;
use crate::recording::codec::Read;

/// The argument of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Input<'a> {
    CommitterOpened(Task, Vec<Vec<u8>>),
    Committer(CommitterInput),
    CoordinatorOpened(Task, Vec<Vec<u8>>),
    #[serde(borrow)]
    Coordinator(CoordinatorInput<'a>),
    WriterOpened(Task, Vec<Vec<u8>>),
    #[serde(borrow)]
    Writer(WriterInput<'a>),
}

impl<'a> Input<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Read<Self> {
        match codec::decode(bytes)? {
            (input, []) => Ok(input),
            (_, _) => Err("something follows its end"),
        }
    }

    /// Rows in it, as the header of a batch counts them.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Writer(WriterInput::RowsArrived(batch)) => rows(batch),
            _ => 0,
        }
    }
}

fn rows(batch: &[u8]) -> u64 {
    let counted = batch.get(8..12).and_then(|bytes| bytes.first_chunk());
    counted.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |lists: &[Vec<u8>]| lists.iter().map(Vec::len).sum::<usize>();
        match self {
            Self::WriterOpened(task, states) => {
                let (start, count) = (task.start, states.len());
                write!(f, "open, start {start}, {count} states of {} bytes", bytes(states))
            }
            Self::CoordinatorOpened(task, journal) | Self::CommitterOpened(task, journal) => {
                let (start, count) = (task.start, journal.len());
                write!(f, "open, start {start}, {count} records of {} bytes", bytes(journal))
            }
            Self::Writer(WriterInput::BarrierArrived(id, kind)) => {
                write!(f, "barrier {id} of a {kind:?}")
            }
            Self::Writer(WriterInput::CheckpointEnded(id, how))
            | Self::Committer(CommitterInput::CheckpointEnded(id, how)) => {
                write!(f, "checkpoint {id}: {how:?}")
            }
            Self::Writer(WriterInput::Completed(Completion { ticket, outcome }))
            | Self::Coordinator(CoordinatorInput::Completed(Completion { ticket, outcome }))
            | Self::Committer(CommitterInput::Completed(Completion { ticket, outcome })) => {
                write!(f, "ticket {ticket}: {outcome:?}")
            }
            Self::Writer(WriterInput::Replied(reply)) => write!(f, "reply, {} bytes", reply.len()),
            Self::Writer(WriterInput::RowsArrived(batch)) => {
                write!(f, "{} rows, {} bytes", rows(batch), batch.len())
            }
            Self::Coordinator(CoordinatorInput::KnownCommits(known)) => {
                write!(f, "known commits, {} bytes", known.len())
            }
            Self::Coordinator(CoordinatorInput::Requested(request, body)) => {
                write!(f, "request {request}, {} bytes", body.len())
            }
            Self::Committer(CommitterInput::Prepared(id, committables)) => {
                let (count, bytes) = (committables.len(), bytes(committables));
                write!(f, "checkpoint {id} prepared, {count} committables of {bytes} bytes")
            }
            Self::Writer(WriterInput::TimerFired)
            | Self::Coordinator(CoordinatorInput::TimerFired)
            | Self::Committer(CommitterInput::TimerFired) => f.write_str("timer"),
        }
    }
}
