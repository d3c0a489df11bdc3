//! Runs the built binary in a directory of its own.
//!
//! Shared by the suites beside it. Invariant: nothing is read from or left outside of that
//! directory.

#![allow(dead_code, reason = "not every suite needs all of it")]

pub(crate) mod envelope;
mod server;

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
pub(crate) use server::Server;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_upsert-sink");

/// The sample feed.
pub(crate) const SAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/data/flights_cdc_2013_01.parquet");

/// A directory with a job.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// A table of people, keyed by number, partitioned by day.
pub(crate) const TABLE: &str = "[table]\nname = \"people\"\n\
    columns = [\"id BIGINT NOT NULL\", \"name VARCHAR(5)\", \"paid DECIMAL(5,2)\"]\n\
    primary-key = [\"id\"]\npartitioned-by = [\"day STRING\"]\nbuckets = 4\n\
    [sink]\n\"sink.parallelism\" = 2\n";

/// A source of JSON rows for it.
pub(crate) const JSON: &str = "[source]\nformat = \"json\"\npath = \"${ROWS}\"\nop-column = \
    \"op\"\n\
    columns = [\"id BIGINT\", \"name STRING\", \"paid DECIMAL(5,2)\", \"day STRING\"]\n";

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("written");
    }

    /// The binary with arguments, in this directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.dir.path()).env("ROWS", self.path("rows.json"));
        command.env_remove("ALIBABA_CLOUD_ACCESS_KEY_ID");
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary starts")
    }

    /// Runs it with text on standard input.
    pub(crate) fn run_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary starts");
        // A refused job does not read its input: the pipe is closed then.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// Runs `job.toml`; it must succeed.
    pub(crate) fn job(&self) -> Value {
        report(&self.run(&["run", "job.toml", "--report", "json"]))
    }

    /// The rows of a query.
    pub(crate) fn query(&self, sql: &str) -> Value {
        report(&self.run(&["query", sql, "--report", "json"]))["rows"].clone()
    }
}

/// The document of a successful command.
pub(crate) fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// Asserts that a command failed with this code, in words that include all of these, without a
/// panic.
pub(crate) fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{message}");
    assert!(message.contains("error: ") && !message.contains("panicked"), "{message}");
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}
