//! A stream engine that does whatever it may, in any order: messages, operations, barriers,
//! completions and crashes, with late copies of packs, commits and aborts.
//!
//! Checked after every step: nothing is visible beyond the last completed checkpoint, no key goes
//! back, and the table is the fold of the input up to a checkpoint once all of that checkpoint is
//! committed; a row that moved is in one of the two partitions; without overlap, no second session
//! is ever asked for. Checked at the end, when faults have stopped, and under at-least-once only
//! then: the table is the fold of the input, and no session is left open that the journal knows.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use upsert_sink_core::io::{BarrierKind, CheckpointOutcome, CommitterInput, WriterInput};
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::id::CheckpointId;
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{Operation, Outcome, RefusalKind};

use super::history::{self, Dice, History};
use super::tunnel;
use super::world::World;

/// As many writers as there are buckets, or one.
const WRITERS: [u32; 2] = [1, 2];
const STEPS: usize = 400;

/// The subject of a suite of seeds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mode {
    pub(crate) exactly_once: bool,
    pub(crate) overlap: bool,
    /// Rows move between partitions and are deleted.
    pub(crate) moves: bool,
    /// The sink may be started with another number of writers.
    pub(crate) rescales: bool,
    /// Sessions grow too old. Then an attempt may stop for good, but only loudly.
    pub(crate) expires: bool,
    /// The service orders sessions by their creation, not by their commits.
    pub(crate) by_creation: bool,
    /// Rows wait in file caches, which have little room and fail.
    pub(crate) cached: bool,
}

/// The default.
pub(crate) const EXACTLY_ONCE: Mode = Mode {
    exactly_once: true,
    overlap: true,
    moves: false,
    rescales: false,
    expires: false,
    by_creation: false,
    cached: false,
};

enum Event {
    /// Changes that are written in one batch.
    Rows(Range<usize>),
    Barrier(u64),
}

/// The events of all seeds of a suite.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) crashes: usize,
    /// Views in which a moved row was looked for.
    pub(crate) moves_seen: usize,
    /// Checkpoints that completed.
    pub(crate) completed: usize,
    /// Attempts that ended loudly because a session was lost.
    pub(crate) stops: usize,
    /// Appends to the journal of which nobody learned that they are durable.
    pub(crate) appends_failed: usize,
    /// Packs with records from a file cache, and appends that a cache refused.
    pub(crate) cached_packs: usize,
    pub(crate) cache_refusals: usize,
    pub(crate) ignored: BTreeMap<String, u64>,
}

/// A stream engine: a log of rows, and its checkpoints.
struct Engine {
    mode: Mode,
    world: World,
    dice: Dice,
    history: History,
    writers: u32,
    read: usize,
    queues: Vec<VecDeque<Event>>,
    checkpoint: u64,
    /// Checkpoints whose barriers are on their way or passed: position, writers that have answered.
    open: BTreeMap<u64, usize>,
    prepared: BTreeMap<u64, usize>,
    completed: Option<(u64, usize)>,
    /// Changes before the newest checkpoint of which all was known to be committed.
    settled: usize,
    late: Vec<Operation>,
    seen: BTreeMap<String, usize>,
    tally: Tally,
    /// Some seeds checkpoint often, some fill their sessions with packs.
    rows_per_checkpoint: usize,
    /// Some seeds crash often, some live long enough for late copies to be overtaken.
    steps_per_crash: usize,
    /// One in so many operations goes wrong: rarely, where each doubt ends the attempt.
    operations_per_fault: usize,
    faults: bool,
}

fn writer_of(key: i64, writers: u32) -> usize {
    let value = Value::Int(key);
    let hash = hash_values(Hasher::Default, &[(&ColumnType::BigInt, Some(&value))]).unwrap();
    (bucket_of(hash, 2).0 % writers) as usize
}

impl Engine {
    fn new(seed: u64, mode: Mode) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let history = match mode.moves {
            false => History::of_upserts(&mut dice),
            true => History::of_moves(&mut dice),
        };
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut world = World::default();
        world.before_images = mode.moves;
        let merge = if seed.is_multiple_of(2) { "true" } else { "false" };
        // Two rows fill a bucket's buffer, so that a session takes many packs.
        world.options = vec![
            option("upsert.writer.bucket.buffer-size", "1 kb"),
            option("sink.merge.enable", merge),
        ];
        if !mode.exactly_once {
            world.options.push(option("sink.delivery-guarantee", "at-least-once"));
        }
        if !mode.overlap {
            world.options.push(option("sink.session.overlap", "false"));
            world.tunnel.one_session = true;
        }
        world.tunnel.by_creation = mode.by_creation;
        world.slow_journal = true;
        if mode.moves {
            world.options.push(option("sink.key.scope", "table"));
        }
        if mode.cached {
            world.caches.granted = [1 << 20, 3_000][seed as usize / 2 % 2];
            world.options[0].1 = ["1 kb", "4 kb"][seed as usize % 2].to_owned();
            world.options.push(option("sink.file-cached.enable", "true"));
            world.options.push(option("sink.file-cached.flush.always", "false"));
            world.options.push(option("sink.file-cached.rolling.max-size", "4 kb"));
            world.options.push(option("sink.file-cached.write.max-retries", "1"));
            world.options.push(option("sink.bucket.check-interval", "5 s"));
        }
        Self {
            mode,
            world,
            dice,
            history,
            writers: 2,
            read: 0,
            queues: Vec::new(),
            checkpoint: 0,
            open: BTreeMap::new(),
            prepared: BTreeMap::new(),
            completed: None,
            settled: 0,
            late: Vec::new(),
            seen: BTreeMap::new(),
            tally: Tally::default(),
            rows_per_checkpoint: [1, 6, 30][seed as usize % 3],
            steps_per_crash: [8, 40, 400][seed as usize / 3 % 3],
            operations_per_fault: if mode.overlap { 3 } else { [4, 12, 40][seed as usize / 9 % 3] },
            faults: true,
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.read = self.completed.map_or(0, |(_, position)| position);
        self.open.clear();
        self.prepared.clear();
        if self.mode.rescales {
            self.writers = WRITERS[self.dice.below(WRITERS.len())];
        }
        self.queues = (0..self.writers).map(|_| VecDeque::new()).collect();
        self.world.open(self.writers, self.completed.map(|(id, _)| id))
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.tally.crashes += 1;
        for (operation, _) in self.world.in_network() {
            if self.dice.one_in(2) {
                self.put_off(operation);
            }
        }
        // An append under way is durable, or not; its owner does not know.
        for at in (0..self.world.append_labels().len()).rev() {
            if self.dice.one_in(2) || !self.may_be_lost(at) {
                self.world.make_durable(at, false)?;
            }
        }
        self.world.crash();
        self.world.forget_operations();
        if self.dice.one_in(2) {
            self.world.lose_messages();
        }
        self.start()
    }

    /// The operation is carried out at some later time.
    fn put_off(&mut self, operation: Operation) {
        if self.may_go_unheard(&operation) {
            self.late.push(operation);
        }
    }

    /// If a second session is refused, one that nobody knows of would be in the way until it
    /// expires; a script and the simulation have those.
    fn may_go_unheard(&self, operation: &Operation) -> bool {
        self.mode.overlap || !matches!(operation, Operation::CreateSession { .. })
    }

    /// The same of an append: a session that no journal holds.
    fn may_be_lost(&self, append: usize) -> bool {
        self.mode.overlap || !self.world.append_labels()[append].starts_with("open ")
    }

    fn step(&mut self) -> Result<(), Error> {
        self.world.told.clear();
        match self.dice.below(14) {
            0 | 1 => self.read_row(),
            2 if self.dice.one_in(self.rows_per_checkpoint) => self.begin_checkpoint(),
            2 => self.read_row(),
            3 | 4 => self.take_event()?,
            5 if self.faults && self.dice.one_in(6) => self.world.lose_messages(),
            5 if self.faults && self.dice.one_in(3) => self.world.repeat_request(),
            5 | 6 => self.world.deliver()?,
            7 | 8 => self.answer()?,
            9 => self.end_checkpoint()?,
            // Now and then without anything being due.
            10 if self.dice.one_in(20) => self.world.commit(CommitterInput::TimerFired)?,
            10 => self.world.pass(1_000 * (1 + self.dice.below(6) as u64))?,
            _ if self.faults && self.mode.expires && self.dice.one_in(20) => self.grow_old()?,
            _ if self.faults && self.dice.one_in(self.steps_per_crash) => self.restart()?,
            // Late copies are in no hurry: newer packs overtake them.
            _ if !self.faults || self.dice.one_in(8) => self.apply_late(),
            _ => {}
        }
        self.note_snapshots()?;
        if std::env::var_os("SEED").is_some() {
            self.world.told.iter().for_each(|line| println!("{line}"));
        }
        Ok(())
    }

    fn read_row(&mut self) {
        if self.read < self.history.len() {
            let end = self.read + self.history.at_once(self.read);
            let writer = writer_of(self.history.key(self.read), self.writers);
            self.queues[writer].push_back(Event::Rows(self.read..end));
            self.read = end;
        }
    }

    fn begin_checkpoint(&mut self) {
        if self.open.len() < 2 {
            self.checkpoint += 1;
            self.open.insert(self.checkpoint, self.read);
            for queue in &mut self.queues {
                queue.push_back(Event::Barrier(self.checkpoint));
            }
        }
    }

    /// One writer takes the next of what is queued for it, if it accepts anything.
    fn take_event(&mut self) -> Result<(), Error> {
        let writer = self.dice.below(self.writers as usize);
        if !self.world.accepting(writer) {
            return Ok(());
        }
        match self.queues[writer].pop_front() {
            None => Ok(()),
            Some(Event::Barrier(id)) => {
                let kind = BarrierKind::Checkpoint;
                self.world.writer(writer, WriterInput::BarrierArrived(CheckpointId(id), kind))
            }
            Some(Event::Rows(positions)) => {
                let rows: Vec<String> = positions.map(|at| self.history.row(at)).collect();
                let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
                self.world.rows(writer, "", &rows)
            }
        }
    }

    fn note_snapshots(&mut self) -> Result<(), Error> {
        let full = |id: &u64| self.world.answered(*id) == self.writers as usize;
        let done: Vec<u64> = self.open.keys().copied().filter(full).collect();
        for id in done {
            let position = self.open.remove(&id).unwrap();
            self.prepared.insert(id, position);
            self.world.prepared(id)?;
        }
        Ok(())
    }

    fn end_checkpoint(&mut self) -> Result<(), Error> {
        let ids: Vec<u64> = self.prepared.keys().copied().collect();
        if self.faults && self.dice.one_in(30) {
            return self.give_up_checkpoint();
        }
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.dice.below(ids.len())];
        let position = self.prepared.remove(&id).unwrap();
        if self.faults && self.dice.one_in(4) {
            return self.world.end(id, CheckpointOutcome::Aborted, true);
        }
        self.tally.completed += 1;
        self.completed = self.completed.max(Some((id, position)));
        self.prepared.retain(|other, _| *other > id);
        if self.faults && self.dice.one_in(4) {
            return Ok(()); // The notice is lost.
        }
        self.world.end(id, CheckpointOutcome::Completed, true)
    }

    /// A checkpoint takes too long: it is aborted before all writers have passed it.
    fn give_up_checkpoint(&mut self) -> Result<(), Error> {
        let Some((id, _)) = self.open.pop_first() else { return Ok(()) };
        for queue in &mut self.queues {
            queue.retain(|event| !matches!(event, Event::Barrier(barrier) if *barrier == id));
        }
        self.world.end(id, CheckpointOutcome::Aborted, true)
    }

    /// An operation is carried out and answered, or not, or neither yet; or an append is durable.
    fn answer(&mut self) -> Result<(), Error> {
        let under_way = self.world.in_network();
        let appends = self.world.append_labels().len();
        if self.dice.below(under_way.len() + appends + 1) < appends {
            let at = self.dice.below(appends);
            return self.end_append(at);
        }
        let cached = self.world.cache_appends();
        if self.dice.below(under_way.len() + cached + 1) < cached {
            return self.end_cache_append(cached);
        }
        if under_way.is_empty() {
            return Ok(());
        }
        let (operation, at) = under_way[self.dice.below(under_way.len())].clone();
        if self.faults && self.dice.one_in(self.operations_per_fault) {
            return match self.dice.below(5) {
                0 | 4 => {
                    self.put_off(operation);
                    self.world.complete(at.0, at.1, Outcome::InDoubt("no answer".into()))
                }
                1 => {
                    if self.may_go_unheard(&operation) {
                        self.world.apply(&operation);
                    }
                    self.world.complete(at.0, at.1, Outcome::InDoubt("the answer is lost".into()))
                }
                2 => {
                    // Applied and answered, and once more later: of packs, no intermediary may do
                    // that on its own (assumption e).
                    if !matches!(operation, Operation::PutPack { .. }) {
                        self.put_off(operation.clone());
                    }
                    let outcome = self.world.apply(&operation);
                    self.world.complete(at.0, at.1, outcome.clone())?;
                    self.world.complete(at.0, at.1, outcome)
                }
                _ => {
                    let refusal = tunnel::refused(RefusalKind::SlowDown, "SlotExceeded");
                    self.world.complete(at.0, at.1, refusal)
                }
            };
        }
        let outcome = self.world.apply(&operation);
        self.world.complete(at.0, at.1, outcome)
    }

    /// An append is durable; or it is in doubt, and durable or not, which ends the attempt.
    fn end_append(&mut self, at: usize) -> Result<(), Error> {
        if !self.faults || !self.dice.one_in(40) {
            return self.world.make_durable(at, true);
        }
        self.tally.appends_failed += 1;
        let durable = self.dice.one_in(2) || !self.may_be_lost(at);
        self.world.fail_append(at, durable, Outcome::InDoubt("the disk does not answer".into()))
    }

    /// Rows are cached, or their disk is full or fails.
    fn end_cache_append(&mut self, appends: usize) -> Result<(), Error> {
        let at = self.dice.below(appends);
        let refusal = match self.dice.below(8) {
            _ if !self.faults => None,
            0 => Some(RefusalKind::Full),
            1 => Some(RefusalKind::Transient),
            _ => None,
        };
        self.world.end_cache_append(at, refusal)
    }

    /// A day passes without a word: the service drops what is open.
    fn grow_old(&mut self) -> Result<(), Error> {
        self.world.wait(DAY_AND_MORE_MS);
        let open: Vec<String> =
            self.world.tunnel.open_sessions().into_iter().map(str::to_owned).collect();
        open.iter().for_each(|id| self.world.tunnel.expire(id));
        self.world.pass(0)
    }

    fn apply_late(&mut self) {
        if !self.late.is_empty() {
            let operation = self.late.swap_remove(self.dice.below(self.late.len()));
            self.world.apply(&operation);
        }
    }

    fn check(&mut self) {
        assert_eq!(self.world.tunnel.second_sessions, 0, "a second session was asked for");
        if !self.mode.exactly_once {
            return;
        }
        let table = self.world.tunnel.table();
        self.check_rows(&table);
        let completed = self.completed.map_or(0, |(_, position)| position);
        if let Some((id, position)) = self.completed
            && self.world.committed() == id
        {
            assert_eq!(table, self.history.fold(position), "after checkpoint {id}");
            self.settled = position;
        }
        if self.mode.moves
            && let Ok(absent) = self.history.absent(&table, self.settled, completed)
        {
            self.tally.moves_seen += 1;
            assert_eq!(absent, None, "a moved key is nowhere: {table:?}");
        }
    }

    /// Nothing visible beyond the last completed checkpoint, and no key goes back.
    fn check_rows(&mut self, table: &[String]) {
        let bound = self.completed.map_or(0, |(_, position)| position);
        for line in table {
            let (day, key, position) = history::parse(line);
            let within = position < bound;
            assert!(within, "{line} is visible before its checkpoint ({bound}) is complete");
            let seen = self.seen.entry(format!("{day} {key}")).or_insert(position);
            assert!(*seen <= position, "{line} went back from {seen}");
            *seen = position;
        }
    }

    fn run(&mut self) -> Result<(), Error> {
        self.start()?;
        for _ in 0..STEPS {
            if let Err(error) = self.step() {
                self.go_on_after(error)?;
            }
            self.check();
        }
        for _ in 0..LAST_ATTEMPTS {
            match self.finish() {
                Ok(()) => return Ok(()),
                Err(error) => self.go_on_after(error)?,
            }
        }
        panic!("the sink fails again and again: {}", self.world.status());
    }

    fn go_on_after(&mut self, error: Error) -> Result<(), Error> {
        if error.kind == ErrorKind::Retry { self.restart() } else { Err(error) }
    }

    /// All is written and committed, and nothing is left behind.
    fn check_end(&mut self) {
        assert_eq!(self.world.tunnel.table(), self.history.fold(self.history.len()));
        let left = self.world.journalled_and_open();
        assert!(left.is_empty(), "sessions {left:?} are left open");
    }

    /// Faults stop; the sink must reach the end of the log, and show exactly its fold.
    fn finish(&mut self) -> Result<(), Error> {
        self.faults = false;
        if !self.mode.overlap {
            // A notice that was lost is never made up for; an engine gives up at last.
            self.restart()?;
        }
        while !self.late.is_empty() {
            self.apply_late();
        }
        for _ in 0..20_000 {
            let done = self.completed.is_some_and(|(_, position)| position == self.history.len());
            if done && self.world.pending() == 0 {
                return Ok(());
            }
            if !done && self.read == self.history.len() && self.open.is_empty() {
                self.begin_checkpoint();
            }
            self.step()?;
            self.check();
        }
        panic!("the sink did not reach the end: {}", self.world.status());
    }
}

/// Runs one seed; a transient failure of an attempt is answered as an engine does, by another.
/// Panics at what breaks a promise.
pub(crate) fn run(seed: u64, mode: Mode) -> Tally {
    let mut engine = Engine::new(seed, mode);
    match engine.run() {
        Ok(()) => engine.check_end(),
        Err(error) => {
            let lost = mode.expires && error.kind == ErrorKind::SessionLost;
            assert!(lost, "{error}");
            // Its word on commits counts no more, what is visible does.
            let table = engine.world.tunnel.table();
            engine.check_rows(&table);
            engine.tally.stops += 1;
        }
    }
    Tally {
        ignored: engine.world.ignored,
        cached_packs: engine.world.caches.packs,
        cache_refusals: engine.world.caches.refused,
        ..engine.tally
    }
}

/// Longer than any session may live.
const DAY_AND_MORE_MS: u64 = 25 * 3_600_000;
/// Attempts after faults have stopped, at most.
const LAST_ATTEMPTS: usize = 50;
