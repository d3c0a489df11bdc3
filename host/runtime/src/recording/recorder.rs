//! The recorder of one start of a sink: what writes down every call while the sink runs.
//!
//! Opened by `open.rs`, given to each instance, asked by `driver.rs`. Invariant: a recording that
//! fails is said once and ends; it never ends the sink. Compressing and writing are done apart from
//! the guest's thread.

use std::sync::Arc;

use crate::capability::outputs::CallOutputs;
use crate::components::{Components, Processors};
use crate::error::{Error, Result};
use crate::recording::entry::{Call, Head, RecordedEntry, RoleName};
use crate::recording::input::Input;
use crate::recording::queue::{CallNote, NoteQueue, RecordedRoles};
use crate::recording::ring::Ring;
use crate::recording::{block, codec};
use crate::settings::Settings;

/// The recorder of a sink; off if `record.dir` is not set. Dropped when no instance is left.
pub(crate) struct Recorder(Option<Arc<NoteQueue>>);

impl Recorder {
    /// Begins a recording if the settings ask for one.
    pub(crate) async fn start(settings: &Settings, components: &Components, head: Head) -> Self {
        let Some(directory) = &settings.record_dir else { return Self(None) };
        match Ring::open(directory, settings.record_bytes_max, &head, components).await {
            Ok(ring) => {
                tracing::info!(file = %ring.path().display(), "recording");
                let queue = Arc::new(NoteQueue::new(Arc::clone(&components.clock)));
                let processors = Arc::clone(&components.processors);
                // On its own: what the sink did last is written when its tasks are gone.
                tokio::spawn(keep(Arc::clone(&queue), ring, processors));
                Self(Some(queue))
            }
            Err(error) => {
                tracing::warn!("nothing is recorded: {error}; the sink goes on without it");
                Self(None)
            }
        }
    }

    /// The recorder of one instance, if it is recorded.
    pub(crate) fn of(&self, role: RoleName) -> Option<InstanceRecorder> {
        let queue = Arc::clone(self.0.as_ref()?);
        Some(InstanceRecorder { role, queue, calls: 0, begun: None })
    }

    /// Waits until another call can be recorded, but not for long.
    pub(crate) async fn room(&self) {
        if let Some(queue) = &self.0 {
            queue.room().await;
        }
    }

    /// Waits until the calls so far are written, but not for long: before a failure is told.
    pub(crate) async fn flush(&self) {
        if let Some(queue) = &self.0 {
            queue.flush().await;
        }
    }

    /// Waits until the recording is closed, but not for long: when no instance is left.
    pub(crate) async fn finish(&self) {
        if let Some(queue) = &self.0 {
            queue.finish().await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(queue) = &self.0 {
            queue.close();
        }
    }
}

/// Notes the calls of one instance.
pub(crate) struct InstanceRecorder {
    role: RoleName,
    queue: Arc<NoteQueue>,
    calls: u64,
    begun: Option<(u64, Vec<u8>)>,
}

impl InstanceRecorder {
    /// Whether its calls still are recorded.
    pub(crate) fn is_on(&self) -> bool {
        self.queue.admits(self.role)
    }

    /// It is about to be called.
    pub(crate) fn begin(&mut self, now_ms: u64, input: &Input<'_>) {
        self.calls += 1;
        self.begun = Some((now_ms, input.encode()));
    }

    /// The call is over.
    pub(crate) fn end(&mut self, outputs: CallOutputs) {
        if let Some((now_ms, input)) = self.begun.take() {
            let (role, number) = (self.role, self.calls);
            self.queue.push(CallNote { role, number, now_ms, input, outputs });
        }
    }
}

/// Writes until nobody is left, or nothing can be written any more.
async fn keep(queue: Arc<NoteQueue>, mut ring: Ring, processors: Arc<dyn Processors>) {
    while let Some(notes) = queue.take().await {
        match write(&queue, &mut ring, processors.as_ref(), notes).await {
            Ok(true) => {}
            Ok(false) => queue.stop("`record.bytes-max` is used up by this start; raise it"),
            Err(error) => queue.stop(&error.to_string()),
        }
    }
    if queue.scope() != RecordedRoles::Nobody
        && let Err(error) = ring.append(mark(&RecordedEntry::Closed)).await
    {
        queue.stop(&error.to_string());
    }
    queue.done();
}

/// Writes these calls. False if there is no room for them.
async fn write(
    queue: &NoteQueue,
    ring: &mut Ring,
    processors: &dyn Processors,
    notes: Vec<CallNote>,
) -> Result<bool> {
    let notes = Arc::new(notes);
    let mut block = encoded(processors, &notes, RecordedRoles::All, None).await?;
    let spared =
        if queue.scope() == RecordedRoles::All { ring.spared_by_writers() } else { MARK_BYTES };
    let mut fits = ring.fits(block.len(), spared).await?;
    if !fits && queue.scope() == RecordedRoles::All {
        queue.narrow();
        tracing::warn!(
            file = %ring.path().display(),
            "`record.bytes-max` is nearly used up by this start: writers are recorded up to here, \
             coordinator and committer go on"
        );
        let marked = Some(RecordedEntry::WritersStopped);
        block = encoded(processors, &notes, RecordedRoles::ControlPlane, marked).await?;
        fits = ring.fits(block.len(), MARK_BYTES).await?;
    }
    if !fits {
        block = mark(&RecordedEntry::Stopped);
    }
    ring.append(block).await?;
    Ok(fits)
}

/// Digests, text and compression are work for a processor.
async fn encoded(
    processors: &dyn Processors,
    notes: &Arc<Vec<CallNote>>,
    scope: RecordedRoles,
    first: Option<RecordedEntry<'static>>,
) -> Result<Vec<u8>> {
    let notes = Arc::clone(notes);
    let work = move || {
        let mut out = Vec::new();
        first.iter().for_each(|entry| codec::append(&mut out, entry));
        for note in notes.iter().filter(|note| scope.admits(note.role)) {
            let (role, number, now_ms) = (note.role, note.number, note.now_ms);
            let (input, outputs) = (note.input.as_slice(), note.outputs.finish());
            let call = Call { role, number, now_ms, input, outputs };
            codec::append(&mut out, &RecordedEntry::Called(call));
        }
        block::encode(&out)
    };
    let ran = processors.run(Box::new(work)).await;
    ran.map_err(|error| Error::bug("recording", format!("{error}")))
}

fn mark(entry: &RecordedEntry<'_>) -> Vec<u8> {
    block::encode(&codec::encode(entry))
}

/// Enough for the last block of a recording.
const MARK_BYTES: u64 = 64;
