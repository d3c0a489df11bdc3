//! The machines against scripts: `testdata/*.txt` hold commands, `----`, and what must follow.
//!
//! A script begins with the promise it keeps. `UPDATE_SCRIPTS=1 cargo test -p upsert-sink-core
//! --test machines` writes what follows now into the files, for review.
//!
//! | command | what it does |
//! |---|---|
//! | `options k=v …` | for the starts that follow |
//! | `open N [from C]` | starts the sink with N writers, restoring checkpoint C |
//! | `write W DAY 1=a -2 …` | rows for writer W: `1=a` inserts, `-2` deletes |
//! | `write W DAY <3 y:>3=b …` | a before-image, and an after-image in partition `y` |
//! | `barrier C [W]`, `savepoint C [W]` | to all writers, or to one |
//! | `prepared C`, `complete C`, `abort C` | all have answered, it is durable, it never will be |
//! | `deliver`, `lose` | messages between the roles |
//! | `ok PREFIX`, `ok` | carries out the operation under way whose label begins so, or all |
//! | `doubt PREFIX` | no answer; the effect may follow by `late PREFIX` |
//! | `applied PREFIX` | carried out, but the answer is lost |
//! | `late N` | carries out the Nth doubted operation now |
//! | `refuse PREFIX KIND` | a definite no |
//! | `repeat-outcome` | gives the last outcome once more |
//! | `before-images` | the engine sends them |
//! | `one-session` | the service refuses a second open session of a partition |
//! | `slow-journal` | appends to the journal wait for one of the next three |
//! | `durable PREFIX` | the first append whose label begins so is durable, and its owner knows |
//! | `durable-unheard PREFIX` | it is durable, and nobody learns of it |
//! | `append-fails PREFIX KIND` | a definite no, or `doubt` |
//! | `pass MS`, `crash`, `forgets`, `expire ID`, `unjournal ID` | time, faults |
//! | `table`, `table-ends`, `status`, `accepting`, `under-way`, `open-sessions` | shows |
//! | `journal` | shows what is durable |

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod script;

use std::fmt::Write;
use std::path::Path;

use script::tunnel;
use script::world::{Owner, World};
use upsert_sink_core::io::{BarrierKind, CheckpointOutcome, CommitterInput, WriterInput};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Ticket};
use upsert_sink_format::tunnel::{Operation, Outcome, RefusalKind};

struct Script {
    world: World,
    writers: u32,
    doubted: Vec<Operation>,
    last: Option<(Owner, Ticket, Outcome)>,
}

impl Script {
    fn run(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let result = self.step(words[0], &words[1..]);
        let mut told = std::mem::take(&mut self.world.told);
        match result {
            Ok(shown) => told.extend(shown),
            Err(error) => told.push(format!("fails {:?}: {error}", error.kind)),
        }
        told
    }

    fn step(&mut self, command: &str, words: &[&str]) -> Result<Vec<String>, Error> {
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match command {
            "options" => {
                let option = |word: &&str| {
                    let (name, value) = word.split_once('=').unwrap();
                    (name.to_owned(), value.to_owned())
                };
                self.world.options = words.iter().map(option).collect();
            }
            "open" => {
                self.writers = u32::try_from(number(0)).unwrap();
                let from = words.get(2).map(|id| id.parse().unwrap());
                self.world.open(self.writers, from)?;
            }
            "write" => self.world.rows(words[0].parse().unwrap(), words[1], &words[2..])?,
            "barrier" => self.barrier(BarrierKind::Checkpoint, words)?,
            "savepoint" => self.barrier(BarrierKind::Savepoint, words)?,
            "before-images" => self.world.before_images = true,
            "one-session" => self.world.tunnel.one_session = true,
            "prepared" => self.world.prepared(number(0))?,
            "complete" => self.world.end(number(0), CheckpointOutcome::Completed, true)?,
            "abort" => self.world.end(number(0), CheckpointOutcome::Aborted, true)?,
            "deliver" => self.world.deliver()?,
            "lose" => self.world.lose_messages(),
            "pass" => self.world.pass(number(0))?,
            "timer" => self.world.commit(CommitterInput::TimerFired)?,
            "crash" => {
                self.world.crash();
                self.world.lose_messages();
            }
            "forgets" => self.world.tunnel.forgets = true,
            "slow-journal" => self.world.slow_journal = true,
            "journal" => return Ok(self.world.journal()),
            "expire" => self.world.tunnel.expire(words[0]),
            "unjournal" => self.world.unjournal(words[0]),
            "table" => return Ok(self.world.tunnel.table()),
            "table-ends" => {
                let end = |line: &String| format!("… {}", &line[line.len() - 4..]);
                return Ok(self.world.tunnel.table().iter().map(end).collect());
            }
            "accepting" => {
                let accepts = |at: u32| match self.world.accepting(at as usize) {
                    true => format!("w{at} accepts rows"),
                    false => format!("w{at} accepts no rows"),
                };
                return Ok((0..self.writers).map(accepts).collect());
            }
            "status" => return Ok(vec![self.world.status()]),
            "under-way" => {
                return Ok([self.world.labels(), self.world.append_labels()].concat());
            }
            "open-sessions" => {
                return Ok(self
                    .world
                    .tunnel
                    .open_sessions()
                    .into_iter()
                    .map(String::from)
                    .collect());
            }
            other => self.answer(other, words)?,
        }
        Ok(Vec::new())
    }

    fn barrier(&mut self, kind: BarrierKind, words: &[&str]) -> Result<(), Error> {
        let barrier = CheckpointId(words[0].parse().unwrap());
        let only = words.get(1).map(|writer| writer.parse::<usize>().unwrap());
        for writer in (0..self.writers as usize).filter(|at| only.is_none_or(|only| only == *at)) {
            self.world.writer(writer, WriterInput::BarrierArrived(barrier, kind))?;
        }
        Ok(())
    }

    fn answer(&mut self, command: &str, words: &[&str]) -> Result<(), Error> {
        let prefix = words.join(" ");
        match command {
            "ok" if words.is_empty() => {
                while !self.world.labels().is_empty() {
                    self.take("", |_, applied| applied.unwrap())?;
                    self.world.deliver()?;
                }
                Ok(())
            }
            "ok" => self.take(&prefix, |_, applied| applied.unwrap()),
            "applied" => {
                let (owner, ticket, _) = self.world.take(&prefix, false).expect("under way");
                self.world.apply(&self.world.operation(owner, ticket));
                self.world.complete(owner, ticket, Outcome::InDoubt("no answer".into()))
            }
            "doubt" => {
                let (owner, ticket, _) = self.world.take(&prefix, false).expect("under way");
                let operation = self.world.operation(owner, ticket);
                self.doubted.push(operation);
                self.world.complete(owner, ticket, Outcome::InDoubt("no answer".into()))
            }
            "late" => {
                let at: usize = words[0].parse().unwrap();
                let outcome = self.world.tunnel.apply(&self.doubted[at].clone());
                if let Outcome::Refused(refusal) = outcome {
                    self.world.told.push(format!("the service refuses it: {}", refusal.code));
                }
                Ok(())
            }
            "refuse" => {
                let (kind, prefix) = (words[words.len() - 1], words[..words.len() - 1].join(" "));
                let (owner, ticket, _) = self.world.take(&prefix, false).expect("under way");
                let outcome = tunnel::refused(refusal_kind(kind), kind);
                self.world.complete(owner, ticket, outcome)
            }
            "durable" | "durable-unheard" => {
                let at = self.append_at(&prefix);
                self.world.make_durable(at, command == "durable")
            }
            "append-fails" => {
                let (kind, prefix) = (words[words.len() - 1], words[..words.len() - 1].join(" "));
                let outcome = match kind {
                    "doubt" => Outcome::InDoubt("the disk does not answer".into()),
                    kind => tunnel::refused(refusal_kind(kind), ""),
                };
                self.world.fail_append(self.append_at(&prefix), false, outcome)
            }
            "repeat-outcome" => {
                let (owner, ticket, outcome) = self.last.clone().expect("an outcome before");
                self.world.complete(owner, ticket, outcome)
            }
            other => panic!("no such command: {other}"),
        }
    }

    /// The first append under way whose label begins so.
    fn append_at(&self, prefix: &str) -> usize {
        let labels = self.world.append_labels();
        let at = labels.iter().position(|label| label.starts_with(prefix));
        at.unwrap_or_else(|| panic!("nothing like {prefix} in {labels:?}"))
    }

    fn take(
        &mut self,
        prefix: &str,
        outcome: impl FnOnce(Owner, Option<Outcome>) -> Outcome,
    ) -> Result<(), Error> {
        let taken = self.world.take(prefix, true);
        let (owner, ticket, applied) = taken.unwrap_or_else(|| panic!("nothing like {prefix}"));
        let outcome = outcome(owner, applied);
        self.last = Some((owner, ticket, outcome.clone()));
        self.world.complete(owner, ticket, outcome)
    }
}

fn refusal_kind(word: &str) -> RefusalKind {
    match word {
        "denied" => RefusalKind::Denied,
        "full" => RefusalKind::Full,
        "invalid" => RefusalKind::Invalid,
        "moved" => RefusalKind::Moved,
        "no-partition" => RefusalKind::NoSuchPartition,
        "no-session" => RefusalKind::NoSuchSession,
        "not-sent" => RefusalKind::NotSent,
        "slow-down" => RefusalKind::SlowDown,
        "transient" => RefusalKind::Transient,
        other => panic!("no such refusal: {other}"),
    }
}

/// Runs a script and returns it with what followed.
fn replay(text: &str) -> String {
    let mut script =
        Script { world: World::default(), writers: 0, doubted: Vec::new(), last: None };
    let mut replayed = String::new();
    let mut commands: Vec<&str> = Vec::new();
    let mut expected = false;
    for line in text.lines().chain([""]) {
        if line == "----" {
            expected = true;
            let told: Vec<String> =
                commands.drain(..).flat_map(|command| script.run(command)).collect();
            writeln!(replayed, "----").unwrap();
            told.iter().for_each(|line| writeln!(replayed, "{}", line.trim_end()).unwrap());
            if told.is_empty() {
                writeln!(replayed, "nothing").unwrap();
            }
            continue;
        }
        if line.is_empty() {
            expected = false;
        }
        if !expected {
            if !line.is_empty() && !line.starts_with('#') {
                commands.push(line);
            }
            writeln!(replayed, "{line}").unwrap();
        }
    }
    assert!(commands.is_empty(), "commands without an expectation at the end: {commands:?}");
    replayed.trim_end().to_owned() + "\n"
}

#[test]
fn every_script_keeps_its_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "the scripts are gone");
    let mut broken = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let replayed = replay(&text);
        if std::env::var_os("UPDATE_SCRIPTS").is_some() {
            std::fs::write(&file, &replayed).unwrap();
        } else if replayed != text {
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            broken.push(format!("{name} now gives\n{replayed}"));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
