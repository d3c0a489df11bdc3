//! A program that answers each line it is given with a line.
//!
//! Under the suites that start the clients of others. Invariant: none outlives the value that
//! stands for it, and one that dies is told with its last words.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A program that runs.
#[derive(Debug)]
pub struct Talker {
    name: String,
    child: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
    errors: PathBuf,
}

impl Talker {
    /// Starts it in this directory, where its standard error goes to a file of its name.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: String, mut command: Command, directory: &Path) -> Result<Self> {
        let errors = directory.join(format!("{name}.errors"));
        let mut child = command
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let lines = child.stdin.take().context("standard input is a pipe")?;
        let answers = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { name, child, lines, answers, errors })
    }

    /// The system's number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its answer to a line, which is called `what` if it does not live to answer.
    ///
    /// # Errors
    /// Its last words, if it has ended.
    pub fn say(&mut self, what: &str, line: &str) -> Result<String> {
        let sent = writeln!(self.lines, "{line}").and_then(|()| self.lines.flush());
        let mut answer = String::new();
        if sent.is_err() || self.answers.read_line(&mut answer)? == 0 {
            let words = std::fs::read_to_string(&self.errors).unwrap_or_default();
            bail!("{} ended at {what}: {words}", self.name);
        }
        Ok(answer)
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
