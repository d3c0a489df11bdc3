//! Calls on their way from the instances to the file.
//!
//! Between `instance.rs`, which must not wait, and `recorder.rs`, which writes. Invariant: bounded
//! in bytes: an instance waits for room before it is called, and not for long; whatever goes wrong
//! with a recording, the sink goes on without it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::capability::outputs::CallOutputs;
use crate::components::Clock;
use crate::recording::block::PLAIN_BYTES_MAX;
use crate::recording::entry::RoleName;

/// One call that is over.
pub(super) struct CallNote {
    pub(super) role: RoleName,
    pub(super) number: u64,
    pub(super) now_ms: u64,
    pub(super) input: Vec<u8>,
    pub(super) outputs: CallOutputs,
}

impl CallNote {
    fn bytes(&self) -> usize {
        64 + self.input.len() + self.outputs.held_bytes()
    }
}

/// Who is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordedRoles {
    All,
    /// Coordinator and committer.
    ControlPlane,
    Nobody,
}

impl RecordedRoles {
    pub(super) fn admits(self, role: RoleName) -> bool {
        match self {
            Self::All => true,
            Self::ControlPlane => !role.is_writer(),
            Self::Nobody => false,
        }
    }
}

/// The queue of one recording.
pub(super) struct NoteQueue {
    waiting: Mutex<WaitingNotes>,
    filled: Notify,
    /// Something was written, or the recording has stopped.
    moved: watch::Sender<()>,
    clock: Arc<dyn Clock>,
}

struct WaitingNotes {
    notes: VecDeque<CallNote>,
    /// The bytes of the notes, and of those that are being written.
    bytes: usize,
    writing_bytes: usize,
    scope: RecordedRoles,
    /// No instance is left that could be called.
    closing: bool,
    /// The file is as long as it will ever be.
    done: bool,
}

impl NoteQueue {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        let (notes, scope) = (VecDeque::new(), RecordedRoles::All);
        let (bytes, writing_bytes, closing, done) = (0, 0, false, false);
        let waiting = WaitingNotes { notes, bytes, writing_bytes, scope, closing, done };
        let (waiting, filled) = (Mutex::new(waiting), Notify::new());
        Self { waiting, filled, moved: watch::channel(()).0, clock }
    }

    pub(super) fn admits(&self, role: RoleName) -> bool {
        self.waiting().scope.admits(role)
    }

    pub(super) fn scope(&self) -> RecordedRoles {
        self.waiting().scope
    }

    pub(super) fn push(&self, note: CallNote) {
        if note.input.len() > PLAIN_BYTES_MAX - CALL_BYTES_SPARE {
            let message = format!("a call of {} with {} bytes", note.role, note.input.len());
            return self.stop(&format!("{message} is larger than one can be recorded"));
        }
        let mut waiting = self.waiting();
        if waiting.scope.admits(note.role) && !waiting.closing {
            waiting.bytes += note.bytes();
            waiting.notes.push_back(note);
            drop(waiting);
            self.filled.notify_one();
        }
    }

    /// The next calls to write, for the one who writes; none at the end. Those before are written.
    pub(super) async fn take(&self) -> Option<Vec<CallNote>> {
        loop {
            if let Some(taken) = self.taken() {
                return taken;
            }
            self.filled.notified().await;
        }
    }

    fn taken(&self) -> Option<Option<Vec<CallNote>>> {
        let mut waiting = self.waiting();
        waiting.bytes -= std::mem::take(&mut waiting.writing_bytes);
        self.moved.send_replace(());
        let mut notes = Vec::new();
        while waiting.writing_bytes < BLOCK_BYTES {
            let Some(note) = waiting.notes.pop_front() else { break };
            waiting.writing_bytes += note.bytes();
            notes.push(note);
        }
        let ended = waiting.closing || waiting.scope == RecordedRoles::Nobody;
        match notes.is_empty() {
            false => Some(Some(notes)),
            true if ended => Some(None),
            true => None,
        }
    }

    /// From here on writers are not recorded.
    pub(super) fn narrow(&self) {
        let mut waiting = self.waiting();
        waiting.scope = RecordedRoles::ControlPlane;
        let (kept, dropped): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut waiting.notes).into_iter().partition(|n| !n.role.is_writer());
        waiting.bytes -= dropped.iter().map(CallNote::bytes).sum::<usize>();
        waiting.notes = kept;
    }

    /// Nothing more is recorded, for this reason.
    pub(super) fn stop(&self, why: &str) {
        let mut waiting = self.waiting();
        if waiting.scope == RecordedRoles::Nobody {
            return;
        }
        waiting.scope = RecordedRoles::Nobody;
        waiting.bytes = waiting.writing_bytes;
        waiting.notes.clear();
        drop(waiting);
        tracing::warn!("recording has stopped: {why}; the sink goes on without it");
        self.moved.send_replace(());
        self.filled.notify_one();
    }

    /// No instance is left.
    pub(super) fn close(&self) {
        self.waiting().closing = true;
        self.filled.notify_one();
    }

    /// The file will not grow any more.
    pub(super) fn done(&self) {
        self.waiting().done = true;
        self.moved.send_replace(());
    }

    /// Waits until there is room for another call. If that takes too long, the recording stops.
    pub(super) async fn room(&self) {
        if !self.within(|waiting| waiting.bytes <= QUEUE_BYTES_MAX).await {
            self.stop("the disk is slower than the sink");
        }
    }

    /// Waits until what was recorded so far survives the process, but not for long.
    pub(super) async fn flush(&self) {
        self.within(|waiting| waiting.bytes == 0 && waiting.writing_bytes == 0).await;
    }

    /// Waits until the file is as long as it will ever be, but not for long.
    pub(super) async fn finish(&self) {
        self.close();
        self.within(|waiting| waiting.done).await;
    }

    /// Whether this becomes true soon enough, or nothing is recorded any more.
    async fn within(&self, holds: impl Fn(&WaitingNotes) -> bool) -> bool {
        let over =
            |waiting: &WaitingNotes| holds(waiting) || waiting.scope == RecordedRoles::Nobody;
        if over(&self.waiting()) {
            return true;
        }
        let mut moved = self.moved.subscribe();
        let mut late = self.clock.sleep_until(self.clock.now_ms().saturating_add(PATIENCE_MS));
        loop {
            if over(&self.waiting()) {
                return true;
            }
            tokio::select! {
                biased;
                _ = moved.changed() => {}
                () = &mut late => return false,
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, WaitingNotes> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most that waits for the disk, and a call of each instance more.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// Calls that are compressed and written at once.
const BLOCK_BYTES: usize = 1 << 20;
/// The part of the largest block that a call's outputs may take.
const CALL_BYTES_SPARE: usize = 1 << 20;
/// How long a disk may keep a sink waiting, once.
const PATIENCE_MS: u64 = 10_000;
