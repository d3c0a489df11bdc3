//! The machines under random schedules: messages, operations, barriers, completions and crashes in
//! any order, with late copies of packs, commits and aborts.
//!
//! Checked after every step: nothing is visible beyond the last completed checkpoint, no key goes
//! back, and the table is the fold of the input up to a checkpoint once all of that checkpoint is
//! committed. Checked at the end, when faults have stopped: the table is the fold of the input. A
//! failing seed is printed; `SEED=n` runs one alone.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

#[allow(dead_code, reason = "two suites share it, and each uses a part")]
#[path = "script/tunnel.rs"]
mod tunnel;
#[allow(dead_code, reason = "two suites share it, and each uses a part")]
#[path = "script/world.rs"]
mod world;

use std::collections::{BTreeMap, VecDeque};

use upsert_sink_core::error::{Error, ErrorKind};
use upsert_sink_core::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_core::id::CheckpointId;
use upsert_sink_core::ignored::Ignored;
use upsert_sink_core::io::{
    CheckpointOutcome, CommitterInput, Operation, Outcome, RefusalKind, WriterInput,
};
use upsert_sink_core::record::Value;
use upsert_sink_core::schema::ColumnType;
use world::World;

const WRITERS: u32 = 2;
const SEEDS: u64 = 200;
const STEPS: usize = 400;

/// Small, seeded and good enough to choose faults.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

enum Event {
    Row(usize),
    Barrier(u64),
}

/// A stream engine: a log of rows, and its checkpoints.
struct Engine {
    world: World,
    dice: Dice,
    /// Partition, key; the value of a row is its position, so that every copy of it can be told
    /// apart.
    log: Vec<(&'static str, i64)>,
    read: usize,
    queues: Vec<VecDeque<Event>>,
    checkpoint: u64,
    /// Checkpoints whose barriers are on their way or passed: position, writers that have answered.
    open: BTreeMap<u64, usize>,
    prepared: BTreeMap<u64, usize>,
    completed: Option<(u64, usize)>,
    late: Vec<Operation>,
    seen: BTreeMap<String, usize>,
    crashes: usize,
    /// Some seeds checkpoint often, some fill their sessions with packs.
    rows_per_checkpoint: usize,
    /// Some seeds crash often, some live long enough for late copies to be overtaken.
    steps_per_crash: usize,
    faults: bool,
}

fn writer_of(key: i64) -> usize {
    let value = Value::Int(key);
    let hash = hash_values(Hasher::Default, &[(&ColumnType::BigInt, Some(&value))]).unwrap();
    bucket_of(hash, 2).0 as usize % WRITERS as usize
}

/// A row of half a bucket's buffer.
fn row(key: i64, position: usize) -> String {
    format!("{key}={position:0>600}")
}

impl Engine {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let log = (0..120).map(|_| (["x", "y"][dice.below(2)], dice.below(3) as i64)).collect();
        // Two rows fill a bucket's buffer, so that a session takes many packs.
        let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut world = World::default();
        let merge = if seed.is_multiple_of(2) { "true" } else { "false" };
        world.options = vec![
            option("upsert.writer.bucket.buffer-size", "1 kb"),
            option("sink.merge.enable", merge),
        ];
        Self {
            world,
            dice,
            log,
            read: 0,
            queues: (0..WRITERS).map(|_| VecDeque::new()).collect(),
            checkpoint: 0,
            open: BTreeMap::new(),
            prepared: BTreeMap::new(),
            completed: None,
            late: Vec::new(),
            seen: BTreeMap::new(),
            crashes: 0,
            rows_per_checkpoint: [1, 6, 30][seed as usize % 3],
            steps_per_crash: [8, 40, 400][seed as usize / 3 % 3],
            faults: true,
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        self.read = self.completed.map_or(0, |(_, position)| position);
        self.open.clear();
        self.prepared.clear();
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.world.open(WRITERS, self.completed.map(|(id, _)| id))
    }

    fn restart(&mut self) -> Result<(), Error> {
        self.crashes += 1;
        for (operation, _) in self.world.in_network() {
            if self.dice.one_in(2) {
                self.late.push(operation);
            }
        }
        self.world.crash();
        self.world.forget_operations();
        if self.dice.one_in(2) {
            self.world.lose_messages();
        }
        self.start()
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
        if let Some((_, key)) = self.log.get(self.read) {
            self.queues[writer_of(*key)].push_back(Event::Row(self.read));
            self.read += 1;
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
        let writer = self.dice.below(WRITERS as usize);
        if !self.world.accepting(writer) {
            return Ok(());
        }
        match self.queues[writer].pop_front() {
            None => Ok(()),
            Some(Event::Barrier(id)) => {
                self.world.writer(writer, WriterInput::BarrierArrived(CheckpointId(id)))
            }
            Some(Event::Row(position)) => {
                let (day, key) = self.log[position];
                self.world.write(writer, day, &[&row(key, position)])
            }
        }
    }

    fn note_snapshots(&mut self) -> Result<(), Error> {
        let full = |id: &u64| self.world.answered(*id) == WRITERS as usize;
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
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.dice.below(ids.len())];
        let position = self.prepared.remove(&id).unwrap();
        if self.faults && self.dice.one_in(4) {
            return self.world.end(id, CheckpointOutcome::Aborted, true);
        }
        self.completed = self.completed.max(Some((id, position)));
        self.prepared.retain(|other, _| *other > id);
        if self.faults && self.dice.one_in(4) {
            return Ok(()); // The notice is lost.
        }
        self.world.end(id, CheckpointOutcome::Completed, true)
    }

    /// An operation is carried out and answered, or not, or neither yet.
    fn answer(&mut self) -> Result<(), Error> {
        let under_way = self.world.in_network();
        if under_way.is_empty() {
            return Ok(());
        }
        let (operation, at) = under_way[self.dice.below(under_way.len())].clone();
        if self.faults && self.dice.one_in(3) {
            return match self.dice.below(5) {
                0 | 4 => {
                    self.late.push(operation);
                    self.world.complete(at.0, at.1, Outcome::InDoubt("no answer".into()))
                }
                1 => {
                    self.world.apply_unheard(&operation);
                    self.world.complete(at.0, at.1, Outcome::InDoubt("the answer is lost".into()))
                }
                2 => {
                    // Applied and answered, and once more later: of packs, no intermediary may do
                    // that on its own (assumption e).
                    if !matches!(operation, Operation::PutPack { .. }) {
                        self.late.push(operation.clone());
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

    fn apply_late(&mut self) {
        if !self.late.is_empty() {
            let operation = self.late.swap_remove(self.dice.below(self.late.len()));
            self.world.apply_unheard(&operation);
        }
    }

    /// Nothing visible beyond the last completed checkpoint, and no key goes back.
    fn check(&mut self) {
        let bound = self.completed.map_or(0, |(_, position)| position);
        for line in self.world.tunnel.table() {
            let (key, value) = line
                .split_once('=')
                .and_then(|(day, rest)| {
                    let (key, value) = rest.split_once('=')?;
                    Some((format!("{day}={key}"), value.parse::<usize>().unwrap()))
                })
                .unwrap();
            assert!(value < bound, "{line} is visible before its checkpoint ({bound}) is complete");
            let seen = self.seen.entry(key).or_insert(value);
            assert!(*seen <= value, "{line} went back from {seen}");
            *seen = value;
        }
        if let Some((id, position)) = self.completed
            && self.world.committed() == id
        {
            assert_eq!(self.world.tunnel.table(), self.fold(position), "after checkpoint {id}");
        }
    }

    /// Faults stop; the sink must reach the end of the log, and show exactly its fold.
    fn finish(&mut self) -> Result<(), Error> {
        self.faults = false;
        while !self.late.is_empty() {
            self.apply_late();
        }
        for _ in 0..20_000 {
            let done = self.completed.is_some_and(|(_, position)| position == self.log.len());
            if done && self.world.pending() == 0 {
                return Ok(());
            }
            if !done && self.read == self.log.len() && self.open.is_empty() {
                self.begin_checkpoint();
            }
            self.step()?;
            self.check();
        }
        panic!("the sink did not reach the end: {}", self.world.status());
    }

    /// The table after so many rows.
    fn fold(&self, position: usize) -> Vec<String> {
        let mut fold = BTreeMap::new();
        for (position, (day, key)) in self.log[..position].iter().enumerate() {
            fold.insert((*day, *key), position);
        }
        let line = |((day, key), position): (&(&str, i64), &usize)| {
            format!("day='{day}' {}", row(*key, *position))
        };
        fold.iter().map(line).collect()
    }
}

/// Runs one seed; a transient failure of an attempt is answered as an engine does, by another.
fn run(seed: u64) -> (usize, BTreeMap<String, u64>) {
    let mut engine = Engine::new(seed);
    engine.start().unwrap();
    for _ in 0..STEPS {
        if let Err(error) = engine.step() {
            assert_eq!(error.kind, ErrorKind::Retry, "{error}");
            engine.restart().unwrap();
        }
        engine.check();
    }
    while let Err(error) = engine.finish() {
        assert_eq!(error.kind, ErrorKind::Retry, "{error}");
        engine.restart().unwrap();
    }
    assert_eq!(engine.world.tunnel.table(), engine.fold(engine.log.len()));
    (engine.crashes, engine.world.ignored)
}

#[test]
fn exactly_once_holds_under_every_random_schedule() {
    if let Ok(seed) = std::env::var("SEED") {
        run(seed.parse().unwrap());
        return;
    }
    let (mut crashes, mut ignored) = (0, BTreeMap::new());
    for seed in 1..=SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let (some, counted) = outcome.unwrap_or_else(|_| panic!("SEED={seed} fails"));
        crashes += some;
        for (reason, count) in counted {
            *ignored.entry(reason).or_insert(0) += count;
        }
    }
    assert!(crashes > SEEDS as usize, "only {crashes} crashes: the schedules are too kind");
    let listed: Vec<&str> = Ignored::ALL.iter().map(|reason| reason.counter()).collect();
    let seen: Vec<&str> = ignored.keys().map(String::as_str).collect();
    assert_eq!(seen, listed, "every reason to ignore an input is listed, and occurs: {ignored:?}");
}
