//! A process whose lines are read as they come, and that can be killed at any of them.
//!
//! Invariant: no wait is endless: a process that says nothing for long fails the suite with all
//! that it had said.

use std::io::{BufReader, Read};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use upsert_sink_tests::binary;

use crate::crash::components::read_lines;

/// For a process that hangs; nothing is expected to take so long.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// A running process.
pub(crate) struct Process {
    child: Child,
    stdout: Option<BufReader<std::process::ChildStdout>>,
    said: Arc<Said>,
    read: usize,
}

#[derive(Default)]
struct Said {
    lines: Mutex<Lines>,
    more: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

/// The status and output of a process that has ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Process {
    /// Starts the binary.
    pub(crate) fn start(arguments: &[String]) -> Result<Self> {
        let mut child = binary::command(arguments).spawn()?;
        let stderr = child.stderr.take().context("standard error is a pipe")?;
        let stdout = child.stdout.take().map(BufReader::new);
        let said = Arc::new(Said::default());
        let taken = Arc::clone(&said);
        read_lines(BufReader::new(stderr), move |line| taken.add(line));
        Ok(Self { child, stdout, said, read: 0 })
    }

    /// The next line of its standard error; none at its end.
    pub(crate) fn line(&mut self) -> Result<Option<String>> {
        let silent = |lines: &mut Lines| lines.lines.len() == self.read && !lines.ended;
        let lines = self.said.lines();
        let waited = self.said.more.wait_timeout_while(lines, SILENCE_MAX, silent);
        let (lines, timeout) = waited.expect("no reader panics");
        if timeout.timed_out() {
            bail!("it has said nothing for {SILENCE_MAX:?}, after: {}", lines.tail());
        }
        let line = lines.lines.get(self.read).cloned();
        self.read += usize::from(line.is_some());
        Ok(line)
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// The next line of its standard output; none at its end.
    pub(crate) fn answer(&mut self) -> Result<Option<String>> {
        let stdout = self.stdout.as_mut().context("standard output is a pipe")?;
        let mut line = String::new();
        let read = std::io::BufRead::read_line(stdout, &mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// kill -9; answers the lines that nobody had read.
    pub(crate) fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let mut rest = Vec::new();
        while let Some(line) = self.line()? {
            rest.push(line);
        }
        Ok(rest)
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Result<Ended> {
        let mut stdout = String::new();
        if let Some(pipe) = &mut self.stdout {
            pipe.read_to_string(&mut stdout)?;
        }
        while self.line()?.is_some() {}
        let status = self.child.wait()?;
        let stderr = self.said.lines().lines.join("\n");
        Ok(Ended { status, stdout, stderr })
    }

    /// The last that it has said.
    pub(crate) fn last_words(&self) -> String {
        self.said.lines().tail()
    }
}

impl Said {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().expect("no reader panics")
    }

    fn add(&self, line: Option<String>) {
        let mut lines = self.lines();
        match line {
            Some(line) => lines.lines.push(line),
            None => lines.ended = true,
        }
        drop(lines);
        self.more.notify_all();
    }
}

impl Lines {
    fn tail(&self) -> String {
        self.lines[self.lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

const TAIL_LINES: usize = 20;

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
