//! Recordings: every call of every instance of a sink, in files from which it can be replayed.
//!
//! Beside the way of a row: `instance.rs` notes what a call was given (`input.rs`) and what it did
//! (`capability/outputs.rs`), a queue takes it off the guest's thread (`queue.rs`), `recorder.rs`
//! writes it in blocks (`block.rs`) to the files of a directory (`ring.rs`). `replay.rs` reads them
//! again.
//!
//! Calls alone determine a guest: it has no clock, no randomness, no files. So a recording is
//! complete, and one of production can be run again anywhere, offline, with the same results. It
//! holds the rows, and no secret: the guest has none.
//!
//! **The file**: eight bytes that name it and its version, the head as one frame of JSON, then
//! blocks until the end. Frames are those of the journal: length, checksum of the length, checksum
//! of the content. A block is its length and its entries, compressed by zstd if that makes it
//! smaller. One file holds one start of a sink, from its opening on, all instances in the order in
//! which their calls ended.
//!
//! **The ring** drops whole starts. Within one start nothing can be dropped, since an instance can
//! be replayed from its opening only: its state at a barrier is not all that it is in. A start that
//! outgrows `record.bytes-max` alone is recorded up to there, the coordinator and the committer,
//! whose calls are small, longer than the writers; log and file say so. A call that takes too long
//! is interrupted by the clock, which a replay does not do.
//!
//! Invariant: a recording never stops the sink that it is of, and what it holds replays from its
//! first call to its last whole block, however it ended.

mod block;
mod codec;
mod entry;
pub(crate) mod input;
mod queue;
mod read;
pub(crate) mod recorder;
mod replay;
mod ring;
#[cfg(test)]
mod tests;

pub use crate::recording::entry::Head;
pub(crate) use crate::recording::entry::RoleName;
pub use crate::recording::read::Recording;
pub(crate) use crate::recording::recorder::Recorder;
pub use crate::recording::replay::{Difference, RecordingEnd, ReplayTelemetry, Replayed};
