//! kill -9 of the real job in each phase of a checkpoint, until the table is the one of a run that
//! nobody disturbed.
//!
//! Proves exactly-once end to end: process, state files, journal, sessions, server. Invariant: a
//! kill that replayed nothing proves nothing, so it does not count and is repeated.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use upsert_sink_tests::binary::{self, Running};
use upsert_sink_tests::feed::{self, Feed};
use upsert_sink_tests::progress::{Phase, Watch};

/// The phases to be killed in, and after how many completed checkpoints of that attempt at least.
const KILLS: [(u32, Phase); 3] = [(1, Phase::Writing), (2, Phase::Barrier), (3, Phase::Committing)];
/// Attempts for one kill that replays something.
const TRIES_MAX: usize = 12;
/// At this rate the undisturbed job would take so many seconds.
const SECONDS_OF_FEED: u64 = 30;

struct Job {
    arguments: Vec<String>,
    data: String,
    state: PathBuf,
}

impl Job {
    fn new(directory: &Path, feed: &Feed, job: &str) -> Self {
        let place = |name: &str| directory.join(name).display().to_string();
        let job = feed::top().join("tests/jobs").join(job).display().to_string();
        let data = place("data");
        let mut arguments = vec!["run".to_owned(), job];
        let rate = format!("{}/s", feed.events / SECONDS_OF_FEED);
        for (option, value) in [
            ("--data", data.as_str()),
            ("--state", place("state").as_str()),
            ("--checkpoint-interval", "500ms"),
            ("--rate", rate.as_str()),
            ("--report", "json"),
        ] {
            arguments.extend([option.to_owned(), value.to_owned()]);
        }
        Self { arguments, data, state: directory.join("state") }
    }

    /// Starts the job; answers it with what it has told, up to where it goes on.
    fn start(&self) -> Result<(Running, Watch)> {
        let mut running = Running::start(&self.arguments)?;
        let mut watch = Watch::default();
        let mut told = Vec::new();
        while let Some(line) = running.line()? {
            watch.note(&line);
            if watch.began.is_some() {
                return Ok((running, watch));
            }
            told.push(line);
        }
        bail!("it never said where it goes on: {}", told.join("\n"))
    }

    /// Lets it run until so many checkpoints are complete and the phase has begun, then kills it.
    fn kill_in(
        mut running: Running,
        mut watch: Watch,
        checkpoints: u32,
        phase: Phase,
    ) -> Result<Watch> {
        while let Some(line) = running.line()? {
            // Rows beyond the last durable checkpoint must have been handed over, to be replayed.
            if watch.note(&line)
                && watch.stored >= checkpoints
                && watch.phase() == phase
                && watch.has_rows_to_replay()
            {
                // The last lines, written before the signal reached it, decide the phase.
                for line in running.kill()? {
                    watch.note(&line);
                }
                return Ok(watch);
            }
        }
        bail!("the job ended before {checkpoints} checkpoints were complete and {phase:?} began")
    }

    /// The files in the directories that file caches had.
    fn cache_files(&self) -> Result<Vec<PathBuf>> {
        let (mut left, mut directories) = (Vec::new(), vec![self.state.clone()]);
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() {
                    directories.push(path);
                } else if path.parent().is_some_and(|parent| parent.ends_with("cache")) {
                    left.push(path);
                }
            }
        }
        Ok(left)
    }

    fn query(&self, sql: &str) -> Result<Value> {
        let report = binary::run(&["query", sql, "--data", &self.data, "--report", "json"])?;
        Ok(report.report()?["rows"].clone())
    }

    fn open_sessions(&self) -> Result<Value> {
        let report = binary::run(&["sessions", "--data", &self.data, "--report", "json"])?;
        Ok(report.report()?["open"].clone())
    }
}

/// Kills it once in this phase such that rows are replayed; answers the next attempt, already
/// running.
fn kill_once(job: &Job, attempt: (Running, Watch), kill: (u32, Phase)) -> Result<(Running, Watch)> {
    let (mut running, mut watch) = attempt;
    for _ in 0..TRIES_MAX {
        let killed = Job::kill_in(running, watch, kill.0, kill.1)?;
        (running, watch) = job.start()?;
        let replayed = killed.reached.saturating_sub(watch.began.unwrap_or_default());
        let counts = replayed > 0 && killed.phase() == kill.1;
        println!(
            "kill -9 after {} completed checkpoints, phase {:?}: {replayed} rows replayed{}",
            killed.stored,
            killed.phase(),
            if counts { "" } else { " (does not count, once more)" },
        );
        if counts {
            return Ok((running, watch));
        }
    }
    bail!("no kill in phase {:?} replayed a row in {TRIES_MAX} attempts", kill.1)
}

/// The answer of an aggregate query: one row of numbers, as an array or as an object.
fn numbers(rows: &Value) -> Result<Vec<i64>> {
    let row = rows.get(0).context("one row")?;
    let values: Vec<&Value> = match row {
        Value::Array(values) => values.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        other => bail!("a row is {other}"),
    };
    values.into_iter().map(|value| value.as_i64().context("a whole number")).collect()
}

fn crash_demo(job: &str) -> Result<()> {
    let feed = Feed::chosen();
    println!("{job}, feed: {}, {} events", feed.name, feed.events);
    let directory = tempfile::tempdir()?;
    let job = Job::new(directory.path(), &feed, job);
    let mut attempt = job.start()?;
    for kill in KILLS {
        attempt = kill_once(&job, attempt, kill)?;
    }
    attempt.0.finish()?.report()?;
    let sql = "SELECT count(*), sum(dep_delay), sum(air_time) FROM flights";
    let figures = numbers(&job.query(sql)?)?;
    println!("{sql}\n{figures:?}");
    assert_eq!(figures, [feed.rows, feed.sum_dep_delay, feed.sum_air_time]);
    assert_eq!(job.open_sessions()?, json!([]), "no session is left open");
    let left = job.cache_files()?;
    assert!(left.is_empty(), "cache files are left: {left:?}");
    Ok(())
}

/// Whatever the moment of a kill: the table is that of an undisturbed run, and no session is left.
#[test]
fn killed_in_every_phase_the_table_is_the_same() {
    if let Err(error) = crash_demo("flights-full.toml") {
        panic!("{error:?}");
    }
}

/// The same with rows in file caches, which are lost with their process, and with compactions.
#[test]
fn killed_with_cached_rows_and_compactions_the_table_is_the_same() {
    if let Err(error) = crash_demo("flights-cached.toml") {
        panic!("{error:?}");
    }
}
