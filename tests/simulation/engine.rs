//! The stream engine of a world: it feeds the sink, takes checkpoints, dies, restores.
//!
//! Attempts follow each other as after failovers: each begins at a retained checkpoint. First
//! things go wrong (safety), then nothing does any more, and it must come to its end (liveness).
//! Invariant: a checkpoint counts as completed before the sink is told so, because it is durable in
//! the engine then.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upsert_sink::components::{Components, InlineProcessors, NoSurroundings, Surroundings};
use upsert_sink::{
    CacheSettings, Checkpoint, Compression, CredentialSource, ErrorKind, Plugin, Settings, Sink,
    journal,
};

use super::checker::{Checker, evidence, left_open};
use super::components::{Files, KeyShop, Loss, Power, Shown, VirtualClock};
use super::faults::Fault;
use super::feed::Feed;
use super::network::{Line, Network};
use super::server::Lives;
use super::tally::{Sometimes, Tally, Watcher};
use super::world::{Chance, Death, Plan, Trace};

/// After so many attempts the faults end, so that the world comes to an end.
const ATTEMPTS_WITH_FAULTS: u64 = 24;
/// Attempts without faults and what they left behind, at most: one to find what is lost, one for
/// each checkpoint that is retained, one from the beginning, and one more.
const ATTEMPTS_TO_END: u64 = RETAINED as u64 + 3;
/// A server that dies in an attempt dies so long after its beginning, at most.
const SERVER_DEATH_MS: u64 = 30_000;
/// Longer than any session is in the way.
const PROGRESS_MS: u64 = 30 * 3_600_000;
/// Checkpoints that the engine keeps.
const RETAINED: usize = 3;
/// Where the sink keeps its journal.
const JOURNAL: &str = "/journal";

/// The outcome of a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// All that happened, as one number.
    pub trace: u64,
    /// Attempts of the sink.
    pub attempts: u64,
    /// Completed checkpoints with at least fifty rows in at least two partitions.
    pub checkpoints: u64,
    /// Deaths of the sink.
    pub crashes: u64,
    /// Deaths of the sink while the outcome of a commit was not known.
    pub crashes_in_doubt: u64,
    /// Commits whose outcome came back as not known.
    pub commits_in_doubt: u64,
    /// Views of the table that were checked.
    pub views: u64,
    /// Views in which moved rows were looked for.
    pub moves_seen: u64,
    /// The faults on the way.
    pub faults: Tally,
    /// The events of the machines.
    pub sometimes: Sometimes,
}

/// A checkpoint that the engine holds.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) bytes: Vec<u8>,
    /// Changes of the input before it.
    pub(super) position: u64,
}

/// How feeding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fed {
    /// All of the input is committed.
    All,
    /// The job was stopped with a savepoint.
    Stopped,
}

/// The engine and what it knows.
pub(crate) struct Engine {
    pub(super) plan: Plan,
    plugin: Plugin,
    /// The world's time, which is the server's.
    pub(super) clock: Arc<VirtualClock>,
    sink_clock: Arc<VirtualClock>,
    trace: Trace,
    pub(super) network: Arc<Network>,
    pub(super) lives: Arc<Lives>,
    files: Files,
    pub(super) chance: Chance,
    pub(super) feed: Arc<Feed>,
    /// Completed checkpoints, oldest first.
    pub(super) retained: Vec<Held>,
    /// Snapshots that neither completed nor were aborted.
    pub(super) pending: Vec<Held>,
    /// A completed checkpoint that the sink is told of late.
    pub(super) untold: Option<u64>,
    pub(super) checkpoint_id: u64,
    running: Option<Arc<Sink>>,
    pub(super) outcome: Outcome,
}

impl Engine {
    /// Runs a world to its end.
    pub(crate) async fn live(plan: Plan, plugin: Plugin, trace: Trace) -> Result<Outcome> {
        let clock = VirtualClock::start();
        let feed = Feed::of(&plan);
        let checker = Checker::new(&feed, plan.promise);
        let lives = Lives::begin(&plan, &clock, &trace, checker).await?;
        let network = Network::new(&plan, &clock, &trace, Arc::clone(&lives));
        let mut engine = Self {
            plugin,
            sink_clock: clock.beside(),
            clock,
            trace,
            network,
            lives,
            files: Files::new(plan.ignored_sync),
            chance: Chance::new(plan.seed, 3),
            feed,
            retained: Vec::new(),
            pending: Vec::new(),
            untold: None,
            checkpoint_id: 0,
            running: None,
            outcome: Outcome::default(),
            plan,
        };
        engine.run().await?;
        Ok(engine.outcome)
    }

    async fn run(&mut self) -> Result<()> {
        let (mut calm_attempts, mut peace_ms) = (0, None);
        loop {
            self.outcome.attempts += 1;
            if self.outcome.attempts > ATTEMPTS_WITH_FAULTS {
                self.network.calm();
            }
            let now_ms = self.clock.now_ms();
            if self.network.is_calm()
                && *peace_ms.get_or_insert(now_ms + self.aftermath_ms()) <= now_ms
            {
                calm_attempts += 1;
            }
            ensure!(calm_attempts <= ATTEMPTS_TO_END, "no end, although nothing goes wrong");
            let ended = self.attempt().await?;
            self.lives.look().await;
            self.lives.checker.lock().await.verdict()?;
            self.check_journal(ended).await?;
            if ended {
                break;
            }
        }
        self.lives.query().await?;
        let checker = self.lives.checker.lock().await;
        let (views, moves_seen) = (checker.views, checker.moves_seen());
        let (faults, sometimes) = self.network.counted();
        let outcome = &mut self.outcome;
        (outcome.views, outcome.moves_seen, outcome.faults) = (views, moves_seen, faults);
        outcome.sometimes.add(&sometimes);
        outcome.trace = self.trace.hash();
        Ok(())
    }

    /// How long what went wrong is in the way of attempts for which nothing does. A session whose
    /// creation got no answer is known to nobody, and where a partition has one session at a time
    /// the next has to wait until it has expired; attempts fail meanwhile.
    fn aftermath_ms(&self) -> u64 {
        match self.plan.promise.one_session {
            true => SERVER_DEATH_MS + self.plan.lifecycle_hours * 3_600_000,
            false => 0,
        }
    }

    /// Checks that the journal is true; at the end nothing is left open.
    async fn check_journal(&self, ended: bool) -> Result<()> {
        let disk = self.files.disk(Power::on(None), Arc::clone(&self.network));
        let read = journal::read(std::path::Path::new(JOURNAL), &disk).await?;
        let Some(journal) = read else { return Ok(()) };
        let service = self.lives.service();
        evidence(&journal, &service, self.plan.faults.rate(Fault::Forgotten) > 0)?;
        if !ended {
            return Ok(());
        }
        // Sessions that a second attempt creates beside the first are in that one's journal only.
        let alone = self.plan.faults.rate(Fault::SplitBrain) == 0;
        let written = if alone { self.network.written() } else { BTreeSet::new() };
        left_open(&journal, &written, &service)
    }

    fn death(&self) -> Death {
        if let Some(death) = self.plan.first_death {
            return if self.outcome.attempts == 1 { death } else { Death::Never };
        }
        if self.network.is_calm() {
            return Death::Never;
        }
        let (faults, chance) = (&self.plan.faults, &self.chance);
        if faults.happens(Fault::KilledAtCommit, chance) {
            return Death::AtCommit(chance.below(24));
        }
        if faults.happens(Fault::Killed, chance) {
            return Death::At(1 + chance.below(20_000));
        }
        if faults.happens(Fault::KilledAtHostCall, chance) {
            return Death::AtHostCall(1 + chance.below(3_000));
        }
        match faults.happens(Fault::ImportFails, chance) {
            true => Death::OfImport(1 + chance.below(2_000)),
            false => Death::Never,
        }
    }

    /// Clears what the last attempt left, and draws the faults before the next.
    fn between(&mut self) {
        self.pending.clear();
        self.untold = None;
        if self.retained.len() > 1 && self.network.goes_wrong(Fault::OlderRestored) {
            self.retained.pop();
        }
        if self.network.goes_wrong(Fault::SinkClock) {
            self.sink_clock.jump(60_000 * (1 + self.chance.below(120)));
        }
        if self.network.goes_wrong(Fault::Suspended) {
            let span_ms = 60_000 * (1 + self.chance.below(240));
            self.sink_clock.jump(span_ms);
            self.clock.jump(span_ms);
        }
    }

    /// One attempt; whether it came to the end of the input.
    async fn attempt(&mut self) -> Result<bool> {
        self.between();
        let death = self.death();
        let number = self.outcome.attempts;
        self.note(&format!("attempt {number} from {}, dies {death:?}", self.position()));
        {
            let mut checker = self.lives.checker.lock().await;
            if self.position() < checker.newest() {
                checker.restored_older(self.position());
            }
        }
        self.schedule_server_death();
        let power =
            Power::on(if let Death::AtHostCall(calls) = death { Some(calls) } else { None });
        let imports = if let Death::OfImport(imports) = death { Some(imports) } else { None };
        let commits = if let Death::AtCommit(commits) = death { Some(commits) } else { None };
        let watcher = Watcher::new(&power, imports);
        let line = Line::new(&self.network, &power, commits);
        let components = self.components(&power, &line);
        let plugin = self.plugin.clone().watched(Arc::clone(&watcher) as _);
        let span_ms = if let Death::At(span_ms) = death { span_ms } else { PROGRESS_MS };
        let clock = Arc::clone(&self.clock);
        let fed = tokio::select! {
            biased;
            () = power.died() => None,
            fed = clock.within(span_ms, self.feed(plugin, components)) => fed,
        };
        self.outcome.sometimes.add(&watcher.seen());
        self.outcome.commits_in_doubt += line.doubts();
        // Whoever died while it was fed may have had the time to complain of it.
        let Some(fed) = fed.filter(|_| !power.is_off()) else {
            let dies = power.is_off() || matches!(death, Death::At(_));
            ensure!(dies, "nothing moves: not for {PROGRESS_MS} ms");
            self.die(death, &power, &line).await;
            return Ok(false);
        };
        drop(self.running.take());
        power.kill();
        self.files.end(Loss::OfProcess, &self.chance);
        self.judge(fed, &watcher)
    }

    /// The attempt is dead. It may not have noticed.
    async fn die(&mut self, death: Death, power: &Arc<Power>, line: &Line) {
        self.network.count(match death {
            Death::AtCommit(_) => Fault::KilledAtCommit,
            Death::AtHostCall(_) => Fault::KilledAtHostCall,
            Death::Never | Death::At(_) | Death::OfImport(_) => Fault::Killed,
        });
        self.outcome.crashes += 1;
        self.outcome.crashes_in_doubt += u64::from(line.is_in_doubt());
        let sink = self.running.take();
        let may_go_on = !power.is_off() && sink.is_some();
        if may_go_on && self.network.goes_wrong(Fault::SplitBrain) {
            self.files.end(Loss::OfProcess, &self.chance);
            let (power, end) = (Arc::clone(power), self.clock.after(self.chance.below(60_000)));
            tokio::task::spawn_local(async move {
                end.await;
                power.kill();
                drop(sink);
            });
        } else {
            power.kill();
            drop(sink);
            let loss = self.chance.one_of(&[Loss::OfProcess, Loss::OfPower]);
            self.files.end(loss, &self.chance);
        }
        // The engine may have completed what the sink has answered, or not.
        if self.chance.happens(50) && !self.pending.is_empty() {
            self.outcome.sometimes.count(("engine", "dead", "completed", "checkpoint"));
            let completed = self.pending.pop().expect("it is not empty");
            self.lives.checker.lock().await.completed(completed.position);
            self.retain(completed);
        }
    }

    /// An attempt may fail for faults of this world, but not for bugs, and never for good.
    fn judge(&mut self, fed: Result<Fed>, watcher: &Watcher) -> Result<bool> {
        let error = match fed {
            Ok(fed) => return Ok(fed == Fed::All),
            Err(error) => error,
        };
        let kind = error.downcast_ref::<upsert_sink::Error>().map(|error| error.kind);
        // Not its words: those of a trap are not the twin's.
        self.note(&format!("attempt failed: {kind:?}"));
        let has = |faults: &[Fault]| faults.iter().any(|f| self.plan.faults.rate(*f) > 0);
        let is_fair = match kind {
            Some(ErrorKind::Retry | ErrorKind::SlowDown) => true,
            Some(ErrorKind::Bug) if watcher.has_broken() => {
                self.network.count(Fault::ImportFails);
                true
            }
            Some(ErrorKind::Denied) => has(&[Fault::Tokens]),
            Some(ErrorKind::SessionLost) => {
                // Lost rows are committed again from an older checkpoint (rule 8). The age of the
                // session or a long silence may be the reason, never an abort by the sink.
                let fair = has(&[Fault::Expired, Fault::Suspended, Fault::SinkClock])
                    || has(&[Fault::Forgotten])
                    || self.plan.promise.one_session;
                self.retained.pop();
                fair && !format!("{error:#}").contains("aborted")
            }
            _ => false,
        };
        if is_fair { Ok(false) } else { Err(error.context("the sink ended for good")) }
    }

    fn schedule_server_death(&self) {
        if self.network.goes_wrong(Fault::ServerKilled) {
            let lives = Arc::clone(&self.lives);
            let death = self.clock.after(self.chance.below(SERVER_DEATH_MS));
            tokio::task::spawn_local(async move {
                death.await;
                if let Err(error) = lives.kill().await {
                    lives.checker.lock().await.broken(format!("{error:#}"));
                }
            });
        }
    }

    fn components(&self, power: &Arc<Power>, line: &Arc<Line>) -> Components {
        let surroundings: Arc<dyn Surroundings> = match self.plan.faults.rate(Fault::Tokens) {
            0 => Arc::new(NoSurroundings),
            _ => Arc::new(KeyShop {
                network: Arc::clone(&self.network),
                clock: Arc::clone(&self.clock),
                beginning_ms: self.lives.beginning_ms(),
            }),
        };
        Components {
            clock: Arc::new(Shown(Arc::clone(&self.sink_clock))),
            transport: Arc::clone(line) as _,
            disk: Arc::new(self.files.disk(Arc::clone(power), Arc::clone(&self.network))),
            entropy: Arc::new(Chance::new(self.plan.seed, 100 + self.outcome.attempts)),
            processors: Arc::new(InlineProcessors),
            surroundings,
        }
    }

    /// Opens the sink at the newest retained checkpoint and feeds it the rest of the input.
    async fn feed(&mut self, plugin: Plugin, components: Components) -> Result<Fed> {
        let restore = self.retained.last().map(|held| Checkpoint::from_bytes(&held.bytes));
        let builder = Sink::builder(plugin, self.settings()).components(components);
        let builder = builder.before_images(self.plan.promise.moves);
        let schema = self.feed.rows(0..0)?.0.schema();
        let sink = builder.schema(schema).restore(restore.transpose()?).open().await?;
        let sink = Arc::new(sink);
        self.running = Some(Arc::clone(&sink));
        let mut position = self.position();
        while position < self.feed.len() {
            // The last part of the input is written in peace.
            if position * 8 > self.feed.len() * 7 {
                self.network.calm();
            }
            let barrier = self.feed.whole(position + self.rows_to_barrier());
            while position < barrier {
                let rows = 1 + self.chance.below(self.plan.checkpoint_rows);
                let end = self.feed.whole(position + rows).min(barrier);
                let (batch, kinds) = self.feed.rows(position..end)?;
                sink.write(&batch, &kinds).await?;
                position = end;
                self.clock.after(self.chance.below(200)).await;
            }
            if position < self.feed.len() && self.barrier(&sink, position).await? == Fed::Stopped {
                return Ok(Fed::Stopped);
            }
            self.lives.checker.lock().await.verdict()?;
        }
        // The last checkpoint is never aborted, or the input would have no end.
        self.finish(&sink, position).await?;
        self.running = None;
        let sink = Arc::into_inner(sink).context("nobody else has the sink")?;
        sink.close().await?;
        Ok(Fed::All)
    }

    fn settings(&self) -> Settings {
        let mut settings =
            Settings::local("http://127.0.0.1:80/api", "t", JOURNAL).expect("valid settings");
        let writers: Vec<u64> =
            [1, 2, 4, 8].into_iter().filter(|writers| *writers <= self.plan.buckets).collect();
        let rescales = self.network.goes_wrong(Fault::Rescaled);
        let chance = if rescales { None } else { Some(self.plan.seed as usize) };
        let index = chance.unwrap_or_else(|| self.chance.draw() as usize);
        let writers = u32::try_from(writers[index % writers.len()]).unwrap_or(1);
        settings.parallelism = NonZeroU32::new(writers).expect("one at least");
        settings.client.compression = Compression::ALL[(self.plan.seed % 5) as usize];
        settings.client.request_timeout = Duration::from_secs(60);
        if self.plan.faults.rate(Fault::Tokens) > 0 {
            settings.client.credentials = CredentialSource::Command(vec![String::from("shop")]);
        }
        let mut option = |name: &str, value: &str| {
            settings.guest_options.push((name.to_owned(), value.to_owned()));
        };
        let promise = self.plan.promise;
        if promise.at_least_once {
            option("sink.delivery-guarantee", "at-least-once");
        }
        option("sink.session.lifecycle", &format!("{} h", self.plan.lifecycle_hours));
        if promise.one_session {
            option("sink.session.overlap", "false");
        }
        if promise.moves {
            option("sink.key.scope", "table");
        }
        if self.plan.faults.rate(Fault::SlowCommits) > 0 {
            self.network.count(Fault::SlowCommits);
        }
        if self.network.goes_wrong(Fault::Compacted) {
            option("upsert.major-compact.enable", "true");
            option("upsert.major-compact.min-commits", "3");
        }
        if self.network.goes_wrong(Fault::Cached) {
            option("sink.file-cached.enable", "true");
            option("sink.file-cached.flush.always", "false");
            // Some are full soon.
            let bytes = self.chance.one_of(&[500, 5_000, 1 << 20]);
            settings.cache = Some(CacheSettings { directories: vec!["cache".into()], bytes });
        }
        settings
    }

    /// A checkpoint is durable in the engine.
    pub(super) fn retain(&mut self, completed: Held) {
        let before = self.position();
        let is_counted = completed.position >= before + 50
            && self.feed.partitions(before..completed.position) >= 2;
        self.outcome.checkpoints += u64::from(is_counted);
        self.note(&format!("checkpoint {} completed at {}", completed.id, completed.position));
        self.pending.retain(|pending| pending.id > completed.id);
        self.retained.push(completed);
        if self.retained.len() > RETAINED {
            self.retained.remove(0);
        }
    }

    fn position(&self) -> u64 {
        self.retained.last().map_or(0, |held| held.position)
    }

    fn rows_to_barrier(&self) -> u64 {
        self.plan.checkpoint_rows + self.chance.below(self.plan.checkpoint_rows / 2)
    }

    pub(super) fn note(&self, what: &str) {
        self.trace.note(self.clock.now_ms(), what);
    }
}
