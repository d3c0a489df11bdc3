//! The built binary `upsert-sink` as a process: run to its end, or started, watched and killed.
//!
//! Used by every suite that needs a real process. Invariant: no process outlives the value that
//! stands for it.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::feed::Feed;

/// The binary, beside the test that runs: `target/release/upsert-sink`.
pub fn path() -> PathBuf {
    let test = env::current_exe().expect("a running program has a path");
    let above = test.ancestors().skip(1).map(|directory| directory.join("upsert-sink"));
    let found = above.take(2).find(|path| path.is_file());
    found.expect("`cargo build --release --workspace` puts the binary beside the tests")
}

/// The status and output of a finished run.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The JSON document on standard output of a run that succeeded.
    pub fn report(&self) -> Result<Value> {
        ensure!(self.status.success(), "exit {}: {}", self.status, self.stderr);
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("one JSON document on stdout, found: {}", self.stdout))
    }
}

/// It, ready to be started: its input is empty, its outputs are pipes.
pub fn command<S: AsRef<OsStr>>(arguments: &[S]) -> Command {
    let mut command = Command::new(path());
    command.env("FLIGHTS_FEED", Feed::chosen().path);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Finished> {
    finished(command(arguments).spawn()?)
}

/// Runs it to its end with more variables in its environment.
pub fn run_with<S: AsRef<OsStr>>(arguments: &[S], variables: &[(&str, &str)]) -> Result<Finished> {
    finished(command(arguments).envs(variables.iter().copied()).spawn()?)
}

/// Runs it to its end with this on standard input.
pub fn run_on<S: AsRef<OsStr>>(arguments: &[S], input: &[u8]) -> Result<Finished> {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("standard input is a pipe")?;
    // A program that refuses its options ends without reading: its message counts, not the pipe.
    let _unread = stdin.write_all(input);
    drop(stdin);
    finished(child)
}

fn finished(child: Child) -> Result<Finished> {
    let output = child.wait_with_output()?;
    let text = |bytes| String::from_utf8(bytes).context("the output is UTF-8");
    Ok(Finished {
        status: output.status,
        stdout: text(output.stdout)?,
        stderr: text(output.stderr)?,
    })
}

/// A running process that is read line by line.
pub struct Running {
    child: Child,
    stderr: BufReader<ChildStderr>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Starts it.
    pub fn start<S: AsRef<OsStr>>(arguments: &[S]) -> Result<Self> {
        let mut child = command(arguments).spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("standard error is a pipe")?);
        let stdout = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        Ok(Self { child, stderr, stdout })
    }

    /// The next line of its standard error; none at its end. Waits for the process, not for time.
    pub fn line(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let read = self.stderr.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// The next line of its standard output; none at its end.
    pub fn answer(&mut self) -> Result<Option<String>> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end().to_owned()))
    }

    /// kill -9, and what it still had written.
    pub fn kill(mut self) -> Result<Vec<String>> {
        self.child.kill()?;
        self.child.wait()?;
        let mut rest = Vec::new();
        while let Some(line) = self.line()? {
            rest.push(line);
        }
        Ok(rest)
    }

    /// Waits for its end. Both outputs are read at once: it waits for whoever lets a pipe fill up.
    pub fn finish(mut self) -> Result<Finished> {
        let (mut stderr, mut stdout) = (String::new(), String::new());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| self.stdout.read_to_string(&mut stdout));
            self.stderr.read_to_string(&mut stderr)?;
            reader.join().expect("reading does not panic")
        })?;
        Ok(Finished { status: self.child.wait()?, stdout, stderr })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
