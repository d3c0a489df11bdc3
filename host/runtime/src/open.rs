//! Opening a sink: catalog, journal, instances, drivers, and what a restored checkpoint still has
//! to commit.
//!
//! From `Sink::builder` to a running sink. Invariant: nothing is asked of the Tunnel before the
//! journal is locked and this start is durable in it; restored committables reach the committer
//! before any new row.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_schema::SchemaRef;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use upsert_sink_core::io::{CheckpointOutcome, Task};
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_tunnel::Client;

use crate::batch;
use crate::capability::grant::Grant;
use crate::checkpoint::Checkpoint;
use crate::committer::{CommitterRole, ToCommitter};
use crate::components::{BoxFuture, Components};
use crate::coordinator::{CoordinatorRole, ToCoordinator};
use crate::dead_letter::DeadLetters;
use crate::driver::{Driver, Shared};
use crate::ending::Ending;
use crate::error::{Error, Result};
use crate::file_cache::FileCache;
use crate::instance::Instance;
use crate::journal::Journal;
use crate::ledger::{Ledger, SinkFacts};
use crate::metrics::Meter;
use crate::plugin::Plugin;
use crate::recording::{Head, Recorder, RoleName};
use crate::settings::Settings;
use crate::sink::{Sink, WriterQueues};
use crate::writer::WriterRole;

/// The parts of a sink that is to be opened.
pub struct SinkBuilder {
    plugin: Plugin,
    settings: Settings,
    schema: Option<SchemaRef>,
    components: Option<Components>,
    restore: Option<Checkpoint>,
    before_images: bool,
}

impl SinkBuilder {
    pub(crate) fn new(plugin: Plugin, settings: Settings) -> Self {
        Self {
            plugin,
            settings,
            schema: None,
            components: None,
            restore: None,
            before_images: false,
        }
    }

    /// The schema of the rows. Required.
    pub fn schema(mut self, schema: SchemaRef) -> Self {
        self.schema = Some(schema);
        self
    }

    /// The parts of the host; the machine's own without this.
    pub fn components(mut self, components: Components) -> Self {
        self.components = Some(components);
        self
    }

    /// The checkpoint to resume from, if there is one.
    pub fn restore(mut self, checkpoint: Option<Checkpoint>) -> Self {
        self.restore = checkpoint;
        self
    }

    /// Whether an update that may change a row's key or partition is written as an
    /// [`UpdateBefore`](crate::RowKind::UpdateBefore) row of the old one and then an
    /// [`UpdateAfter`](crate::RowKind::UpdateAfter) row of the new one, both on the same side of
    /// every barrier. False without this; `sink.key.scope = table` requires it.
    pub fn before_images(mut self, before_images: bool) -> Self {
        self.before_images = before_images;
        self
    }

    /// Opens the sink. Needs a tokio runtime, of either kind.
    ///
    /// # Errors
    /// `InvalidConfig` for a wrong option, schema, table or journal; `Corrupt` for damaged state;
    /// `Denied`, `Retry`.
    pub async fn open(self) -> Result<Sink> {
        self.open_boxed().await
    }

    // Boxed, so that it is compiled here and not in each user's crate.
    fn open_boxed(self) -> BoxFuture<'static, Result<Sink>> {
        Box::pin(async move {
            let Self { plugin, settings, schema, components, restore, before_images } = self;
            let schema = schema.ok_or_else(|| {
                Error::config(
                    "schema",
                    "the builder was given no schema of the rows; call `schema`",
                )
            })?;
            let components = components.unwrap_or_else(Components::system);
            let client = Client::new(&settings, &components);
            let columns = batch::row_columns(&schema)?;
            let target = client.table(&settings.table);
            let table = target.describe().await?;
            let name = settings.table_name();
            let (journal, records) =
                Journal::open(&settings.journal_dir, &name, &components).await?;
            check_identity(restore.as_ref(), &journal, &settings)?;
            let task = Task {
                identity: journal.identity(),
                start: journal.start(),
                nonce: journal.nonce(),
                parallelism: settings.parallelism.get(),
                index: WriterIndex(0),
                options: settings.guest_options.clone(),
                columns,
                table,
                local: settings.is_local(),
                checkpoint_interval: Millis(
                    u64::try_from(settings.checkpoint_interval.as_millis()).unwrap_or(u64::MAX),
                ),
                before_images,
                cache_bytes: settings.cache.as_ref().map_or(0, |cache| cache.bytes),
            };
            let head = Head::of(
                plugin.inspect().sha256,
                &settings.limits,
                &task,
                components.clock.now_ms(),
            );
            let shared = Arc::new(Shared {
                clock: Arc::clone(&components.clock),
                table: target,
                journal,
                meter: Arc::new(Meter::new(client)),
                ledger: Ledger::new(task.start, task.parallelism),
                ending: Ending::new(),
                recorder: Recorder::start(&settings, &components, head).await,
            });
            let recorded = Arc::clone(&shared);
            let opening = Opening { plugin, settings, components, records, task, shared };
            let opened = opening.finish(schema, restore).await;
            if opened.is_err() {
                recorded.recorder.flush().await;
            }
            opened
        })
    }
}

/// A sink whose surroundings are ready, and whose instances are not.
struct Opening {
    plugin: Plugin,
    settings: Settings,
    components: Components,
    /// All that the journal holds.
    records: Vec<Vec<u8>>,
    task: Task,
    shared: Arc<Shared>,
}

impl Opening {
    async fn finish(self, schema: SchemaRef, restore: Option<Checkpoint>) -> Result<Sink> {
        let router = self.router()?;
        let mut tasks = JoinSet::new();
        let (writer_controls, writer_inboxes): (Vec<_>, Vec<_>) =
            (0..self.task.parallelism).map(|_| mpsc::channel(CONTROL_QUEUE)).unzip();
        let (coordinator, coordinator_inbox) = mpsc::channel(CONTROL_QUEUE);
        let (committed, committed_reader) = watch::channel(0);
        let committer = self.start_committer(&mut tasks, coordinator.clone(), committed).await?;
        self.start_coordinator(&mut tasks, coordinator_inbox, writer_controls.clone())?;
        let dead_letters = Arc::new(self.dead_letters());
        let (mut writers, mut restored) = (Vec::new(), Vec::new());
        for (index, (control, inbox)) in (0..).zip(writer_controls.into_iter().zip(writer_inboxes))
        {
            let parallelism = self.task.parallelism;
            let states =
                restore.as_ref().map(|checkpoint| checkpoint.states_for(index, parallelism));
            let task = Task { index: WriterIndex(index), ..self.task.clone() };
            let mut instance = self.instance(RoleName::Writer(index))?.cached(self.cache().await?);
            let parts = (coordinator.clone(), Arc::clone(&dead_letters), Arc::clone(&self.shared));
            let states = states.unwrap_or_default();
            let mut writer =
                WriterRole::open(&mut instance, self.now_ms(), &task, &states, parts).await?;
            restored.extend(writer.take_restored());
            let (data, batches) = mpsc::channel(DATA_QUEUE);
            let shared = Arc::clone(&self.shared);
            tasks.spawn(Driver::new(writer, instance, shared, inbox, batches).run());
            writers.push(WriterQueues { data, control });
        }
        tasks.spawn(keep_alive(Arc::clone(&self.shared), self.settings.keep_alive));
        let sink = Sink {
            schema,
            identity: self.task.identity.clone(),
            start: self.task.start,
            shared: self.shared,
            writers,
            router,
            committer,
            committed: committed_reader,
            tasks,
            facts: SinkFacts::of(&self.task, &self.settings),
            plugin: self.plugin,
        };
        if let Some(checkpoint) = restore {
            tracing::info!(checkpoint = checkpoint.id, from_start = checkpoint.start, "restoring");
            sink.shared.ledger.book().restored(checkpoint.id, sink.shared.clock.now_us());
            sink.prepared(checkpoint.id, restored).await?;
            let ended = ToCommitter::CheckpointEnded(checkpoint.id, CheckpointOutcome::Completed);
            sink.to_committer(ended).await?;
        }
        Ok(sink)
    }

    async fn start_committer(
        &self,
        tasks: &mut JoinSet<()>,
        coordinator: mpsc::Sender<ToCoordinator>,
        committed: watch::Sender<u64>,
    ) -> Result<mpsc::Sender<ToCommitter>> {
        let mut instance = self.instance(RoleName::Committer)?;
        let (now_ms, task, records) = (self.now_ms(), &self.task, &self.records);
        let parts = (coordinator, committed, Arc::clone(&self.shared));
        let role = CommitterRole::open(&mut instance, now_ms, task, records, parts).await?;
        let (control, inbox) = mpsc::channel(CONTROL_QUEUE);
        // Its data queue is never used: nothing waits for it in order.
        let (_, no_data) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        tasks.spawn(Driver::new(role, instance, shared, inbox, no_data).run());
        Ok(control)
    }

    fn start_coordinator(
        &self,
        tasks: &mut JoinSet<()>,
        inbox: mpsc::Receiver<ToCoordinator>,
        writers: Vec<mpsc::Sender<crate::writer::ToWriter>>,
    ) -> Result<()> {
        let mut instance = self.instance(RoleName::Coordinator)?;
        let (now_ms, task, records) = (self.now_ms(), &self.task, &self.records);
        let parts = (writers, Arc::clone(&self.shared));
        let role = CoordinatorRole::open(&mut instance, now_ms, task, records, parts)?;
        let (_, no_data) = mpsc::channel(1);
        let shared = Arc::clone(&self.shared);
        tasks.spawn(Driver::new(role, instance, shared, inbox, no_data).run());
        Ok(())
    }

    /// With one writer there is nothing to shuffle.
    fn router(&self) -> Result<Option<Mutex<Instance>>> {
        if self.task.parallelism == 1 {
            return Ok(None);
        }
        let (name, limits) = (String::from("router"), self.settings.limits.clone());
        let instance = Instance::new(&self.plugin, name, limits, Grant::NONE)?;
        let mut instance = instance.timed(&self.shared.clock);
        instance.route_open(&self.task)?;
        Ok(Some(Mutex::new(instance)))
    }

    fn instance(&self, role: RoleName) -> Result<Instance> {
        let limits = self.settings.limits.clone();
        let instance = Instance::new(&self.plugin, role.to_string(), limits, role.grant())?;
        Ok(instance.timed(&self.shared.clock).recorded(self.shared.recorder.of(role)))
    }

    /// A file cache for one writer, if one is lent.
    async fn cache(&self) -> Result<Option<FileCache>> {
        match &self.settings.cache {
            Some(cache) => FileCache::open(cache, &self.components).await.map(Some),
            None => Ok(None),
        }
    }

    fn dead_letters(&self) -> DeadLetters {
        let beside_the_journal = || self.settings.journal_dir.join("dead-letters.jsonl");
        let path: Option<PathBuf> = self.settings.dead_letter_file.clone();
        let disk = Arc::clone(&self.components.disk);
        DeadLetters::new(path.unwrap_or_else(beside_the_journal), disk)
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }
}

/// State of another sink, or a journal that was lost, must not meet (rule 6).
fn check_identity(
    restore: Option<&Checkpoint>,
    journal: &Journal,
    settings: &Settings,
) -> Result<()> {
    let Some(checkpoint) = restore else { return Ok(()) };
    if checkpoint.identity == journal.identity() {
        return Ok(());
    }
    let message = format!(
        "the checkpoint is of the sink {}, the journal in {} of {}; set `sink.journal-dir` to the \
         directory that the checkpoint was made with",
        checkpoint.identity,
        settings.journal_dir.display(),
        journal.identity()
    );
    Err(Error::config("restore", message))
}

/// Asks for sessions that nobody has talked to: the service drops a session only for its age.
async fn keep_alive(shared: Arc<Shared>, idle: Duration) {
    let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    let period_ms = (idle_ms / 2).max(1);
    loop {
        let next = shared.clock.sleep_until(shared.clock.now_ms().saturating_add(period_ms));
        tokio::select! {
            biased;
            () = shared.ending.ended() => return,
            () = next => {}
        }
        tokio::select! {
            biased;
            () = shared.ending.ended() => return,
            () = shared.table.keep_alive(idle) => {}
        }
    }
}

/// Batches that wait for one writer: a few, so that back-pressure is felt soon.
const DATA_QUEUE: usize = 4;
/// Messages of the control plane that wait for one instance. Far more than can be under way at
/// once.
const CONTROL_QUEUE: usize = 1024;
