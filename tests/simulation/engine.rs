//! The stream engine of a world: it feeds the sink, takes checkpoints, dies, restores, and looks at
//! the table.
//!
//! Attempts follow each other as after failovers: each begins at the last completed checkpoint.
//! Invariant: a checkpoint counts as completed before the sink is told so, because it is durable in
//! the engine then.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use tokio::time::timeout_at;
use upsert_sink::components::{Components, InlineProcessors, NoSurroundings};
use upsert_sink::{Checkpoint, Compression, ErrorKind, Plugin, RowKind, Settings, Sink};

use crate::checker::{Change, Checker, View};
use crate::components::{AttemptDisk, Files, Power, VirtualClock};
use crate::network::{Line, Network};
use crate::world::{Chance, Plan, Promise, Tally, Trace};

/// Attempts of one world; more than all kills and all faults that end one.
const ATTEMPTS_MAX: u64 = 60;
/// After so many attempts the faults end, so that the world comes to an end.
const ATTEMPTS_WITH_FAULTS: u64 = 12;

/// What came of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// All that happened, as one number.
    pub(crate) trace: u64,
    /// Attempts of the sink.
    pub(crate) attempts: u64,
    /// Completed checkpoints.
    pub(crate) checkpoints: u64,
    /// Views of the table that were checked.
    pub(crate) views: u64,
    /// Views in which moved rows were looked for.
    pub(crate) moves_seen: u64,
    /// What went wrong on the way.
    pub(crate) faults: Tally,
}

/// A checkpoint that the engine holds durably.
struct Completed {
    checkpoint: Vec<u8>,
    /// Changes of the input before it.
    position: u64,
}

/// The engine and what it knows.
pub(crate) struct Engine {
    plan: Plan,
    plugin: Plugin,
    clock: Arc<VirtualClock>,
    trace: Arc<Trace>,
    network: Arc<Network>,
    files: Arc<Files>,
    chance: Chance,
    input: Vec<Change>,
    checker: Checker,
    last: Option<Completed>,
    checkpoint_id: u64,
    checkpoints: u64,
}

impl Engine {
    /// A world of this plan, with an empty table.
    pub(crate) async fn new(plan: Plan, plugin: Plugin, trace: Arc<Trace>) -> Result<Self> {
        let clock = VirtualClock::start();
        let network = Network::new(&plan, Arc::clone(&clock), Arc::clone(&trace)).await;
        let input = input(&plan);
        let engine = Self {
            chance: Chance::new(plan.seed, 3),
            checker: Checker::new(input.clone()),
            files: Arc::default(),
            last: None,
            checkpoint_id: 0,
            checkpoints: 0,
            plan,
            plugin,
            clock,
            trace,
            network,
            input,
        };
        engine.create_table().await?;
        Ok(engine)
    }

    async fn create_table(&self) -> Result<()> {
        let sql = "CREATE TABLE t (id BIGINT NOT NULL, seq BIGINT, PRIMARY KEY (id)) \
                   PARTITIONED BY (day STRING) \
                   TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='8')";
        let body = format!(
            "<Instance><Job><Tasks><SQL><Name>create</Name><Query>{sql};</Query></SQL>\
             </Tasks></Job></Instance>"
        );
        let request = http::Request::post("http://127.0.0.1:80/api/projects/local/instances");
        let answer = self.network.service().respond(request.body(Bytes::from(body))?).await;
        ensure!(answer.status().is_success(), "{}: {:?}", answer.status(), answer.body());
        Ok(())
    }

    /// Runs attempts until all of the input is committed, then compares the table with its fold.
    pub(crate) async fn run(mut self) -> Result<Outcome> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            ensure!(attempts <= ATTEMPTS_MAX, "no end after {ATTEMPTS_MAX} attempts");
            if attempts > ATTEMPTS_WITH_FAULTS {
                self.network.calm();
            }
            if self.attempt(attempts).await? {
                break;
            }
            self.audit().await?;
        }
        self.audit().await?;
        let all = self.input.len() as u64;
        ensure!(self.view().await? == self.checker.fold(all), "the table is not the fold");
        Ok(Outcome {
            trace: self.trace.hash(),
            attempts,
            checkpoints: self.checkpoints,
            views: self.checker.views,
            moves_seen: self.checker.moves_seen,
            faults: self.network.tally(),
        })
    }

    /// One attempt; whether it came to the end of the input.
    async fn attempt(&mut self, number: u64) -> Result<bool> {
        let power = Power::on();
        self.note(&format!("attempt {number} from {}", self.position()));
        if self.plan.faults.server_kills >= number {
            let network = Arc::clone(&self.network);
            let death = self.clock.after(self.chance.below(4_000));
            tokio::task::spawn_local(async move {
                death.await;
                network.kill_server().await;
            });
        }
        let components = self.components(number, &power);
        let ended = if self.plan.faults.kills >= number {
            let span = std::time::Duration::from_millis(1 + self.chance.below(6_000));
            let deadline = self.clock.instant() + span;
            // The future of the attempt is dropped where it stands, with the sink in it.
            let fed = timeout_at(deadline, self.feed(components)).await;
            self.network.count(|tally| tally.kills += u64::from(fed.is_err()));
            fed.unwrap_or(Ok(false))
        } else {
            self.feed(components).await
        };
        power.kill();
        self.files.unlock_all();
        self.judge(ended)
    }

    /// An attempt may fail for faults of this world, but not for bugs, and never for good.
    fn judge(&self, ended: Result<bool>) -> Result<bool> {
        let error = match ended {
            Ok(finished) => return Ok(finished),
            Err(error) => error,
        };
        self.note(&format!("attempt failed: {error:#}"));
        match error.downcast_ref::<upsert_sink::Error>().map(|error| error.kind) {
            Some(ErrorKind::Retry | ErrorKind::SlowDown) => Ok(false),
            _ => Err(error),
        }
    }

    fn components(&self, number: u64, power: &Arc<Power>) -> Components {
        let (network, power) = (Arc::clone(&self.network), Arc::clone(power));
        Components {
            clock: Arc::clone(&self.clock) as _,
            transport: Arc::new(Line { network, power: Arc::clone(&power) }),
            disk: Arc::new(AttemptDisk { files: Arc::clone(&self.files), power }),
            entropy: Arc::new(Chance::new(self.plan.seed, 100 + number)),
            processors: Arc::new(InlineProcessors),
            surroundings: Arc::new(NoSurroundings),
        }
    }

    /// Opens the sink at the last checkpoint and feeds it the rest of the input.
    async fn feed(&mut self, components: Components) -> Result<bool> {
        let settings = self.settings();
        let restore = self.last.as_ref().map(|last| Checkpoint::from_bytes(&last.checkpoint));
        let builder = Sink::builder(self.plugin.clone(), settings).components(components);
        let builder = builder.before_images(self.plan.promise.moves);
        let builder = builder.schema(self.batch(0..0)?.schema()).restore(restore.transpose()?);
        let sink = builder.open().await?;
        let mut position = self.position();
        let mut barrier = self.whole(position + self.rows_to_barrier());
        while position < self.input.len() as u64 {
            let end = self.whole(position + 1 + self.chance.below(20)).min(barrier);
            self.write(&sink, position..end).await?;
            position = end;
            self.clock.after(self.chance.below(200)).await;
            if position == barrier {
                self.checkpoint(&sink, position).await?;
                barrier = self.whole(position + self.rows_to_barrier());
            }
        }
        // The last checkpoint is never aborted, or the input would have no end.
        let id = self.take_checkpoint(&sink, position).await?;
        sink.committed(id).await?;
        sink.close().await?;
        Ok(true)
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::local("http://127.0.0.1:80/api", "t", "/journal");
        settings.parallelism = [1, 2, 4, 8][self.plan.writers as usize % 4];
        settings.compression = Compression::ALL[(self.plan.seed % 5) as usize];
        let promise = self.plan.promise;
        let mut option = |name: &str, value: &str| {
            settings.guest_options.push((name.to_owned(), value.to_owned()));
        };
        if promise.at_least_once {
            option("sink.delivery-guarantee", "at-least-once");
        }
        if promise.one_session {
            // A session whose creation got no answer is in the way for so long.
            option("sink.session.lifecycle", "1 h");
            option("sink.session.overlap", "false");
        }
        if promise.moves {
            option("sink.key.scope", "table");
        }
        settings
    }

    /// The first number of changes from this one on that parts no before-image from its
    /// after-image.
    fn whole(&self, changes: u64) -> u64 {
        let changes = changes.min(self.input.len() as u64);
        let last = &self.input[changes as usize - 1];
        if last.kind == RowKind::UpdateBefore { changes + 1 } else { changes }
    }

    async fn write(&self, sink: &Sink, range: std::ops::Range<u64>) -> Result<()> {
        let changes = &self.input[range.start as usize..range.end as usize];
        let kinds: Vec<RowKind> = changes.iter().map(|change| change.kind).collect();
        Ok(sink.write(&self.batch(range)?, &kinds).await?)
    }

    /// A checkpoint that the engine may abort after the sink has done its part.
    async fn checkpoint(&mut self, sink: &Sink, position: u64) -> Result<()> {
        if self.chance.happens(self.plan.faults.aborted) && !self.network.is_calm() {
            self.checkpoint_id += 1;
            let id = self.checkpoint_id;
            self.note(&format!("checkpoint {id} will be aborted"));
            self.network.count(|tally| tally.aborted += 1);
            sink.checkpoint(id).await?;
            sink.checkpoint_aborted(id).await?;
        } else {
            self.take_checkpoint(sink, position).await?;
        }
        if self.chance.happens(30) {
            self.audit().await?;
        }
        // Between the commits of two partitions.
        for _ in 0..self.plan.promise.looks() {
            self.clock.after(self.chance.below(2 * self.plan.faults.delay_ms)).await;
            self.audit().await?;
        }
        Ok(())
    }

    async fn take_checkpoint(&mut self, sink: &Sink, position: u64) -> Result<u64> {
        self.checkpoint_id += 1;
        let id = self.checkpoint_id;
        let checkpoint = sink.checkpoint(id).await?.to_bytes();
        self.note(&format!("checkpoint {id} completed at {position}"));
        self.last = Some(Completed { checkpoint, position });
        self.checkpoints += 1;
        sink.checkpoint_completed(id).await?;
        Ok(id)
    }

    /// What the table shows now keeps the promises.
    async fn audit(&mut self) -> Result<()> {
        let view = self.view().await?;
        let completed = self.position();
        let checked = match self.plan.promise {
            Promise { at_least_once: true, .. } => self.checker.check_origin(&view),
            Promise { moves: true, .. } => {
                let rows = self.checker.check(&view, completed);
                rows.and_then(|()| self.checker.check_moves(&view, completed))
            }
            Promise { .. } => self.checker.check(&view, completed),
        };
        if let Err(broken) = checked {
            bail!("{broken}");
        }
        Ok(())
    }

    async fn view(&self) -> Result<View> {
        let service = self.network.service();
        let batches = service.query("SELECT day, id, seq FROM t").await?;
        let mut view = View::new();
        for batch in &batches {
            let days = column::<StringArray>(batch, "day")?;
            let ids = column::<Int64Array>(batch, "id")?;
            let numbers = column::<Int64Array>(batch, "seq")?;
            for row in 0..batch.num_rows() {
                let key = (days.value(row).to_owned(), ids.value(row));
                let twice = view.insert(key, u64::try_from(numbers.value(row))?);
                ensure!(twice.is_none(), "{} {} is there twice", days.value(row), ids.value(row));
            }
        }
        Ok(view)
    }

    fn batch(&self, range: std::ops::Range<u64>) -> Result<RecordBatch> {
        let changes = &self.input[range.start as usize..range.end as usize];
        let days = changes.iter().map(|change| Some(change.key.0.as_str()));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.key.1)))),
            ("seq", Arc::new(Int64Array::from_iter_values(range.map(|number| number as i64)))),
            ("day", Arc::new(StringArray::from_iter(days))),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, array)| (name, array, true)),
        )?)
    }

    fn position(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.position)
    }

    fn rows_to_barrier(&self) -> u64 {
        1 + self.chance.below(self.plan.checkpoint_rows)
    }

    fn note(&self, what: &str) {
        self.trace.note(self.clock.now_ms(), what);
    }
}

fn input(plan: &Plan) -> Vec<Change> {
    let chance = Chance::new(plan.seed, 4);
    if plan.promise.moves {
        return moves(plan, &chance);
    }
    let change = |_| {
        let id = chance.below(plan.keys);
        let day = ["mon", "tue", "wed"][(id % 3) as usize];
        let kind = if chance.happens(15) { RowKind::Delete } else { RowKind::Insert };
        Change { key: (day.to_owned(), id as i64), kind }
    };
    (0..plan.events).map(change).collect()
}

/// Rows that change, move and go. For some hundred changes they move one way, then the other.
fn moves(plan: &Plan, chance: &Chance) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut homes: BTreeMap<i64, &str> = BTreeMap::new();
    let day = || ["mon", "tue", "wed"][chance.below(3) as usize];
    while changes.len() < plan.events as usize {
        let id = chance.below(plan.keys) as i64;
        let one_way = (changes.len() / 200).is_multiple_of(2);
        let mut change = |day: &str, kind| changes.push(Change { key: (day.to_owned(), id), kind });
        let Some(home) = homes.get(&id).copied() else {
            let home = day();
            homes.insert(id, home);
            change(home, RowKind::Insert);
            continue;
        };
        if chance.happens(10) {
            homes.remove(&id);
            change(home, RowKind::Delete);
            continue;
        }
        let targets: &[&str] = match (one_way, home) {
            (true, "mon") => &["tue", "wed"],
            (true, "tue") => &["wed"],
            (false, "wed") => &["mon", "tue"],
            (false, "tue") => &["mon"],
            _ => &[home],
        };
        let target = targets[chance.below(targets.len() as u64) as usize];
        let target = if chance.happens(60) { target } else { home };
        homes.insert(id, target);
        change(home, RowKind::UpdateBefore);
        change(target, RowKind::UpdateAfter);
    }
    changes
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    column.as_any().downcast_ref().with_context(|| format!("{name} is {}", column.data_type()))
}
