//! A client as a process: an order in, `ready` out, `go` in, an answer out; and what it used of
//! the processors in between.
//!
//! Invariant: all clients are measured from outside and in the same way, from `go` to the answer.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use upsert_sink_tests::clock::Stopwatch;
use upsert_sink_tests::talk::Talker;

use crate::order::Order;

/// One of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Ours,
    Java,
    PyOdps,
}

/// The cost of a run.
#[derive(Clone, Debug)]
pub(crate) struct Spent {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    /// The client's message when it could not go on.
    pub(crate) failed: Option<String>,
}

/// A client that runs.
pub(crate) struct Peer {
    kind: Kind,
    talker: Talker,
}

impl Kind {
    /// How it is started. `tests/run` makes what it needs and tells where it is.
    fn command(self) -> Result<Command> {
        let made = |variable: &str| {
            std::env::var(variable)
                .with_context(|| format!("{variable} is not set: run `bash tests/run peers`"))
        };
        let program =
            |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/peers").join(name);
        Ok(match self {
            Self::Ours => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("ours");
                command
            }
            Self::Java => {
                let mut command = Command::new("java");
                let libraries = format!("{}/sdk/lib/*", made("CLIENTS_JAVA")?);
                // The machine's own choice of everything but memory and time zone.
                command.args(["-Xmx2g", "-Duser.timezone=UTC", "-cp", &libraries]);
                command.arg(program("Peer.java"));
                command
            }
            Self::PyOdps => {
                let mut command = Command::new(made("CLIENTS_PYTHON")?);
                command.arg(program("peer.py"));
                command
            }
        })
    }
}

impl Peer {
    /// Starts a client.
    pub(crate) fn start(
        kind: Kind,
        endpoint: &str,
        directory: &Path,
        texts: &Path,
    ) -> Result<Self> {
        let mut command = kind.command()?;
        command.arg(endpoint).arg(texts);
        let talker = Talker::start(format!("{kind:?}"), command, directory)?;
        Ok(Self { kind, talker })
    }

    /// Has an order carried out.
    pub(crate) fn run(&mut self, order: Order) -> Result<Spent> {
        let ready = self.say(&order.to_line())?;
        if ready.trim_end() != "ready" {
            bail!("{:?} is not ready for {order:?}: {ready}", self.kind);
        }
        let before_s = self.cpu_s()?;
        let watch = Stopwatch::start();
        let answer = self.say("go")?;
        let wall_s = watch.elapsed().as_secs_f64();
        let cpu_s = self.cpu_s()? - before_s;
        let answer: Value = serde_json::from_str(&answer)
            .with_context(|| format!("{:?}, {order:?}: no JSON: {answer}", self.kind))?;
        let failed = answer["error"].as_str().map(str::to_owned);
        Ok(Spent { cpu_s, wall_s, failed })
    }

    fn say(&mut self, line: &str) -> Result<String> {
        self.talker.say(line, line)
    }

    /// The time of all its threads so far, in user and system mode, those that have ended included.
    fn cpu_s(&self) -> Result<f64> {
        let path = format!("/proc/{}/stat", self.talker.id());
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name of the program stands in brackets and may be anything.
        let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
        let ticks = ticks(UTIME).zip(ticks(STIME)).with_context(|| format!("{path}: {text}"))?;
        Ok((ticks.0 + ticks.1) / TICKS_PER_SECOND)
    }
}

/// Fields of `/proc/PID/stat`, counted from the one after the name.
const UTIME: usize = 11;
const STIME: usize = 12;
/// Linux tells times of processes in hundredths of a second, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
