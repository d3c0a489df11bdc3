//! One attempt of a job: a process, and what it has told of its phases.
//!
//! Invariant: what it had told when the signal reached it decides the phase of a kill.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upsert_sink_tests::progress::Watch;

use crate::crash::process::{Ended, Process};

/// A running attempt.
pub(crate) struct Attempt {
    process: Process,
    watch: Watch,
}

impl Attempt {
    /// Starts one, and waits until it says where it goes on.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut attempt = Self { process: Process::start(arguments)?, watch: Watch::default() };
        let began = attempt.until(|watch| watch.began.is_some())?;
        ensure!(began, "it never said where it goes on: {}", attempt.process.last_words());
        Ok(attempt)
    }

    /// Reads on until it is so; false if it ends before.
    pub(crate) fn until(&mut self, is_so: impl Fn(&Watch) -> bool) -> Result<bool> {
        while !is_so(&self.watch) {
            let Some(line) = self.process.line()? else { return Ok(false) };
            self.watch.note(&line);
        }
        Ok(true)
    }

    /// Its progress so far, as far as it was read.
    pub(crate) fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The event after which it began.
    pub(crate) fn began(&self) -> u64 {
        self.watch.began.unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        self.process.has_ended()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) -> Result<Watch> {
        for line in self.process.kill()? {
            self.watch.note(&line);
        }
        Ok(self.watch)
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Result<Ended> {
        self.process.finish()
    }

    /// Waits for its end, which must be a good one; answers its report.
    pub(crate) fn finish(self) -> Result<Value> {
        let ended = self.process.finish()?;
        ensure!(ended.status.success(), "exit {}: {}", ended.status, ended.stderr);
        serde_json::from_str(&ended.stdout).context("the report is JSON")
    }
}
