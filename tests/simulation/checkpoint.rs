//! The ways in which an engine passes a barrier: completed and told, told late or never, aborted
//! before or after its snapshot, several at once, or a savepoint with which the job stops.
//!
//! Called by `engine.rs` between rows. Invariant: the checker knows of a completed checkpoint
//! before the sink can.

use anyhow::Result;
use upsert_sink::Sink;

use super::engine::{Engine, Fed, Held};
use super::faults::Fault;

/// Barriers whose end is open at the same time, at most.
const PENDING_MAX: usize = 3;

impl Engine {
    fn next_id(&mut self) -> u64 {
        self.checkpoint_id += 1;
        self.checkpoint_id
    }

    /// Whether a checkpoint's end may wait for rows that are written after its barrier.
    fn may_wait(&self) -> bool {
        !self.plan.promise.one_session || self.plan.promise.at_least_once
    }

    /// Passes one barrier, in one way or another.
    pub(super) async fn barrier(&mut self, sink: &Sink, position: u64) -> Result<Fed> {
        if self.network.goes_wrong(Fault::AbortedEarly) {
            return self.abort_early(sink).await;
        }
        if self.network.goes_wrong(Fault::Savepoint) {
            return self.savepoint(sink, position).await;
        }
        let id = self.next_id();
        let bytes = sink.checkpoint(id).await?.to_bytes();
        if let Some(late) = self.untold.take() {
            sink.checkpoint_completed(late).await?;
        }
        if self.network.goes_wrong(Fault::Aborted) {
            self.note(&format!("checkpoint {id} aborted"));
            sink.checkpoint_aborted(id).await?;
            return Ok(Fed::All);
        }
        self.pending.push(Held { id, bytes, position });
        let overlaps = self.pending.len() < PENDING_MAX && self.may_wait();
        if overlaps && self.network.goes_wrong(Fault::Overlapping) {
            return Ok(Fed::All);
        }
        // Until it is durable in the engine; the sink may die meanwhile.
        self.clock.after(self.chance.below(50)).await;
        self.complete(sink).await?;
        Ok(Fed::All)
    }

    /// The newest pending checkpoint completes, and with it those before it.
    async fn complete(&mut self, sink: &Sink) -> Result<()> {
        let Some(newest) = self.pending.pop() else { return Ok(()) };
        let (id, position) = (newest.id, newest.position);
        self.lives.checker.lock().await.completed(position);
        self.retain(newest);
        if self.may_wait() && self.network.goes_wrong(Fault::NoticeLost) {
            return Ok(());
        }
        if self.may_wait() && self.network.goes_wrong(Fault::NoticeLate) {
            self.untold = Some(id);
            return Ok(());
        }
        sink.checkpoint_completed(id).await?;
        let replayed = {
            let checker = self.lives.checker.lock().await;
            checker.is_replaying() && position >= checker.newest()
        };
        if replayed || self.chance.happens(25) {
            self.wait_for_commit(sink, id, position).await?;
        }
        Ok(())
    }

    /// Waits until the sink says that a checkpoint is committed: then it is.
    async fn wait_for_commit(&mut self, sink: &Sink, id: u64, position: u64) -> Result<()> {
        sink.committed(id).await?;
        self.lives.look().await;
        let mut checker = self.lives.checker.lock().await;
        // Under at-least-once the table may be ahead; of what is replayed, it may be anywhere.
        let is_exact = !self.plan.promise.at_least_once && position >= checker.newest();
        if is_exact { checker.all_committed(position) } else { Ok(()) }
    }

    /// The end of the input.
    pub(super) async fn finish(&mut self, sink: &Sink, position: u64) -> Result<()> {
        let id = self.next_id();
        let bytes = sink.checkpoint(id).await?.to_bytes();
        self.lives.checker.lock().await.completed(position);
        self.retain(Held { id, bytes, position });
        sink.checkpoint_completed(id).await?;
        sink.committed(id).await?;
        self.lives.look().await;
        self.lives.checker.lock().await.all_committed(position)
    }

    /// The checkpoint fails elsewhere while its barrier is under way.
    async fn abort_early(&mut self, sink: &Sink) -> Result<Fed> {
        let id = self.next_id();
        let wait = self.clock.after(self.chance.below(60));
        let abort = async {
            wait.await;
            sink.checkpoint_aborted(id).await
        };
        // Its snapshot may have come before; then nobody needs it.
        let (snapshot, aborted) = futures::future::join(sink.checkpoint(id), abort).await;
        self.note(&format!("checkpoint {id} aborted early, {}", snapshot.is_ok()));
        aborted?;
        Ok(Fed::All)
    }

    /// A savepoint that the job is stopped with, and resumed from; or one that is thrown away.
    async fn savepoint(&mut self, sink: &Sink, position: u64) -> Result<Fed> {
        let id = self.next_id();
        let bytes = sink.savepoint(id).await?.to_bytes();
        if self.chance.happens(50) {
            self.note(&format!("savepoint {id} thrown away"));
            return Ok(Fed::All);
        }
        self.lives.checker.lock().await.completed(position);
        self.retain(Held { id, bytes, position });
        Ok(Fed::Stopped)
    }
}
