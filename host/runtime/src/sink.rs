//! A sink: what an embedder holds. Rows and checkpoints go in; the table follows.
//!
//! Between the stream engine and the instances: `write` → `batch/mod.rs` → `shuffle.rs` → a
//! writer's queue; `checkpoint` → every writer's queue → snapshots → the committer. Invariant: the
//! instances of one sink live and end together; after a failure every call reports the first error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use upsert_sink_core::io::{BarrierKind, CheckpointOutcome};

use crate::batch::RowKind;
use crate::checkpoint::Checkpoint;
use crate::committer::ToCommitter;
use crate::components::BoxFuture;
use crate::driver::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::instance::Instance;
use crate::ledger::{CheckpointKind, LedgerReading, SinkFacts};
use crate::metrics::Metrics;
use crate::open::SinkBuilder;
use crate::plugin::Plugin;
use crate::settings::Settings;
use crate::writer::{ToWriter, WriterData};
use crate::{batch, shuffle};

/// An open sink. Ends when it is closed or dropped; what was not committed then is found again by
/// the next start.
pub struct Sink {
    pub(crate) schema: SchemaRef,
    pub(crate) identity: String,
    pub(crate) start: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writers: Vec<WriterQueues>,
    pub(crate) router: Option<Mutex<Instance>>,
    pub(crate) committer: mpsc::Sender<ToCommitter>,
    pub(crate) committed: watch::Receiver<u64>,
    pub(crate) tasks: JoinSet<()>,
    pub(crate) plugin: Plugin,
    pub(crate) facts: SinkFacts,
}

/// The two ways to a writer.
pub(crate) struct WriterQueues {
    pub(crate) data: mpsc::Sender<WriterData>,
    pub(crate) control: mpsc::Sender<ToWriter>,
}

impl Sink {
    /// Begins to open a sink.
    pub fn builder(plugin: Plugin, settings: Settings) -> SinkBuilder {
        SinkBuilder::new(plugin, settings)
    }

    /// Hands over rows: `kinds` holds the kind of each, and is empty if all are inserts. Waits
    /// while the writers have no room; with `sink.session.overlap = false` that may last until the
    /// checkpoint before is told complete, so do not let that wait for this. Returns when the rows
    /// are queued; they are safe when a checkpoint that follows has completed.
    ///
    /// # Errors
    /// `InvalidConfig` if the rows have another schema than the sink; otherwise the error that
    /// ended the sink. If the call is cancelled or fails, a part of the rows may have been queued:
    /// restart from a checkpoint.
    pub async fn write(&self, rows: &RecordBatch, kinds: &[RowKind]) -> Result<()> {
        self.shared.ending.check()?;
        self.check_schema(rows)?;
        if !kinds.is_empty() && kinds.len() != rows.num_rows() {
            let message = format!("{} row kinds for {} rows", kinds.len(), rows.num_rows());
            return Err(Error::bug("write", message));
        }
        let step = rows_per_batch(rows);
        let mut first = 0;
        while first < rows.num_rows() {
            let count = step.min(rows.num_rows() - first);
            let kinds = kinds.get(first..first + count).unwrap_or_default();
            self.write_batch(rows.slice(first, count), kinds).await?;
            first += count;
        }
        self.shared.meter.rows_written(rows.num_rows());
        Ok(())
    }

    /// Passes a barrier: every row written before it is acknowledged by the service when this
    /// returns, and what is returned is for the engine to store durably. `id` rises from call to
    /// call. One checkpoint at a time.
    ///
    /// # Errors
    /// The error that ended the sink; `Retry` if the checkpoint was aborted meanwhile.
    pub async fn checkpoint(&self, id: u64) -> Result<Checkpoint> {
        self.pass_barrier(id, BarrierKind::Checkpoint).await
    }

    /// Passes a barrier for an intermediate savepoint, after which the job goes on. It is never
    /// told complete: what it holds becomes visible with the next checkpoint. Restore it before the
    /// sink is started again without it, or not at all. To stop with a savepoint, take a
    /// checkpoint.
    ///
    /// # Errors
    /// As of `checkpoint`; `Retry` under exactly-once with `sink.session.overlap = false`, where
    /// rows behind it would wait for ever.
    pub async fn savepoint(&self, id: u64) -> Result<Checkpoint> {
        self.pass_barrier(id, BarrierKind::Savepoint).await
    }

    // Boxed, so that it is compiled here and not in each user's crate.
    fn pass_barrier(&self, id: u64, kind: BarrierKind) -> BoxFuture<'_, Result<Checkpoint>> {
        Box::pin(async move {
            self.shared.ending.check()?;
            self.begin_barrier(id, kind);
            let mut waiting = Vec::with_capacity(self.writers.len());
            for writer in &self.writers {
                let (answer, snapshot) = oneshot::channel();
                let sent = writer.data.send(WriterData::Barrier(id, kind, answer)).await;
                sent.map_err(|_| self.shared.ending.error())?;
                waiting.push(snapshot);
            }
            let (mut states, mut committables) = (Vec::new(), Vec::new());
            for snapshot in waiting {
                let snapshot = snapshot.await.map_err(|_| self.not_answered(id))?;
                states.push(snapshot.state);
                committables.extend(snapshot.committables);
            }
            self.prepared(id, committables).await?;
            Ok(Checkpoint { id, identity: self.identity.clone(), start: self.start, states })
        })
    }

    /// The engine has stored checkpoint `id` durably: what it holds may become visible. Does not
    /// wait for that.
    ///
    /// # Errors
    /// The error that ended the sink.
    pub async fn checkpoint_completed(&self, id: u64) -> Result<()> {
        self.checkpoint_ended(id, CheckpointOutcome::Completed).await
    }

    /// Checkpoint `id` will never complete: what it held waits for the next one.
    ///
    /// # Errors
    /// The error that ended the sink.
    pub async fn checkpoint_aborted(&self, id: u64) -> Result<()> {
        self.checkpoint_ended(id, CheckpointOutcome::Aborted).await
    }

    /// Waits until every session of the completed checkpoint `id`, or of a later one, is known to
    /// be committed: its rows are visible.
    ///
    /// # Errors
    /// The error that ended the sink.
    pub async fn committed(&self, id: u64) -> Result<()> {
        let mut committed = self.committed.clone();
        tokio::select! {
            biased;
            () = self.shared.ending.ended() => Err(self.shared.ending.error()),
            reached = committed.wait_for(|newest| *newest >= id) => {
                reached.map(drop).map_err(|_| self.shared.ending.error())
            }
        }
    }

    /// Its counters and histograms so far.
    pub fn metrics(&self) -> Metrics {
        Metrics { ledger: self.shared.ledger.totals(), ..self.shared.meter.read() }
    }

    /// The newest checkpoints whose commits are known, and the sum of all of them.
    pub fn ledger(&self) -> LedgerReading {
        self.shared.ledger.read()
    }

    /// The facts for [`ledger::advise`](crate::ledger::advise): the options in effect, and the
    /// table.
    ///
    /// # Errors
    /// `Bug` if the component traps when it is asked for its options.
    pub fn facts(&self) -> Result<SinkFacts> {
        Ok(self.facts.clone().with_defaults(self.plugin.options()?))
    }

    /// The engine holds the next barrier back for so long, because the commits of those before it
    /// are behind. For the ledger only.
    pub fn checkpoint_delayed(&self, span: Duration) {
        let span_us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.shared.ledger.book().delayed(span_us);
    }

    /// The sink's lasting name, as its journal holds it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The number of this start of the sink, from one.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Ends the sink, and waits until nothing of it runs any more. Rows after the last completed
    /// checkpoint are not committed: the engine replays them.
    ///
    /// # Errors
    /// The error that had ended the sink before.
    pub async fn close(mut self) -> Result<()> {
        let failed = self.shared.ending.check();
        self.shared.ending.close();
        while self.tasks.join_next().await.is_some() {}
        self.shared.recorder.finish().await;
        failed
    }

    pub(crate) async fn prepared(&self, checkpoint: u64, committables: Vec<Vec<u8>>) -> Result<()> {
        let (taken, answer) = oneshot::channel();
        self.to_committer(ToCommitter::Prepared { checkpoint, committables, taken }).await?;
        answer.await.map_err(|_| self.shared.ending.error())
    }

    pub(crate) async fn to_committer(&self, message: ToCommitter) -> Result<()> {
        self.committer.send(message).await.map_err(|_| self.shared.ending.error())
    }

    async fn checkpoint_ended(&self, id: u64, outcome: CheckpointOutcome) -> Result<()> {
        self.shared.ending.check()?;
        self.shared.ledger.book().ended(id, outcome, self.shared.clock.now_us());
        self.to_committer(ToCommitter::CheckpointEnded(id, outcome)).await?;
        for writer in &self.writers {
            let sent = writer.control.send(ToWriter::CheckpointEnded(id, outcome)).await;
            sent.map_err(|_| self.shared.ending.error())?;
        }
        Ok(())
    }

    fn write_batch<'a>(
        &'a self,
        rows: RecordBatch,
        kinds: &'a [RowKind],
    ) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let encoded = batch::encode(&rows, kinds)?;
            let batches = match &self.router {
                None => vec![(0, Bytes::from(encoded))],
                Some(router) => {
                    let keys = self.keys(router, &encoded)?;
                    let writers = u32::try_from(self.writers.len()).unwrap_or(u32::MAX);
                    shuffle::split(&rows, kinds, encoded, &keys, writers)?
                }
            };
            let now_us = self.shared.clock.now_us();
            for (writer, bytes) in batches {
                let queue = &self.writers[writer as usize].data;
                let sent = queue.send(WriterData::Batch(bytes, now_us)).await;
                sent.map_err(|_| self.shared.ending.error())?;
            }
            Ok(())
        })
    }

    /// Routing is pure and short: it is called where it is needed, one batch at a time.
    fn keys(&self, router: &Mutex<Instance>, encoded: &[u8]) -> Result<Vec<u32>> {
        let mut router = router.lock().unwrap_or_else(PoisonError::into_inner);
        router.keys(encoded).inspect_err(|error| self.shared.ending.fail(error.clone()))
    }

    /// A barrier begins. The cost of routing belongs to it, as the rows do.
    fn begin_barrier(&self, id: u64, kind: BarrierKind) {
        let kind = match kind {
            BarrierKind::Checkpoint => CheckpointKind::Checkpoint,
            BarrierKind::Savepoint => CheckpointKind::Savepoint,
        };
        let mut book = self.shared.ledger.book();
        if let Some(router) = &self.router {
            let mut router = router.lock().unwrap_or_else(PoisonError::into_inner);
            book.aside(router.take_part());
        }
        book.barrier(id, kind, self.shared.clock.now_us());
    }

    fn check_schema(&self, rows: &RecordBatch) -> Result<()> {
        let schema = rows.schema();
        let same = schema.fields().len() == self.schema.fields().len()
            && schema.fields().iter().zip(self.schema.fields()).all(|(is, should)| {
                is.name() == should.name() && is.data_type() == should.data_type()
            });
        if same {
            return Ok(());
        }
        let message = format!(
            "the rows have the columns {}, the sink was opened for {}; open a sink for each schema",
            described(&schema),
            described(&self.schema)
        );
        Err(Error::config("write", message))
    }

    fn not_answered(&self, id: u64) -> Error {
        match self.shared.ending.check() {
            Err(error) => error,
            Ok(()) => {
                let message = "the checkpoint was aborted before all writers had passed it";
                Error::new(ErrorKind::Retry, format!("checkpoint {id}"), message)
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.ending.close();
    }
}

/// Rows that make about four megabytes: large enough that the call costs nothing, small enough for
/// any sandbox.
fn rows_per_batch(rows: &RecordBatch) -> usize {
    let bytes = rows.get_array_memory_size().max(1);
    let by_bytes = rows.num_rows().saturating_mul(BATCH_BYTES) / bytes;
    by_bytes.clamp(1, BATCH_ROWS_MAX)
}

fn described(schema: &SchemaRef) -> String {
    let columns = schema.fields().iter();
    let columns: Vec<_> = columns.map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    format!("({})", columns.join(", "))
}

const BATCH_BYTES: usize = 4 << 20;
const BATCH_ROWS_MAX: usize = 8192;
