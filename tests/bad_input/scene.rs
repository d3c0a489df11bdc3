//! A directory with a table that holds two committed rows, and jobs that try to add to it.
//!
//! Under every case of this suite. Invariant: after a refusal the table is what was committed
//! before.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;
use upsert_sink_tests::binary::{self, Finished};

/// The first words of each line of a job that are replaced, and what replaces them.
pub(crate) type Change<'a> = (&'a str, &'a str);

const GOOD_ROWS: &str = r#"{"id":1,"name":"one","code":"ab","price":"1.50","day":"mon"}
{"id":2,"name":"two","code":"cd","price":"2.25","day":"tue"}
"#;

const COLUMNS: &str =
    r#"columns = ["id BIGINT", "name STRING", "code STRING", "price DECIMAL(5, 2)", "day STRING"]"#;

/// A table and its directory.
pub(crate) struct Scene {
    directory: TempDir,
    committed: Value,
}

impl Scene {
    /// A table with two rows.
    pub(crate) fn new() -> Result<Self> {
        let mut scene = Self { directory: tempfile::tempdir()?, committed: Value::Null };
        fs::write(scene.path("good.json"), GOOD_ROWS)?;
        let job = scene.write_job("good.json", &[])?;
        scene.run(&job, "state-good")?.report()?;
        scene.committed = scene.rows()?;
        assert_eq!(scene.committed.as_array().map(Vec::len), Some(2), "two good rows");
        Ok(scene)
    }

    /// A place in the scene's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes a job that reads `input`, with some lines changed; answers its path.
    pub(crate) fn write_job(&self, input: &str, changes: &[Change<'_>]) -> Result<String> {
        let path = if input == "-" { input.to_owned() } else { self.text(input) };
        let mut text = format!(
            "[source]\nformat = \"json\"\npath = {path:?}\n{COLUMNS}\n[table]\nname = \"t\"\n\
             columns = [\"id BIGINT\", \"name STRING\", \"code VARCHAR(4)\", \
             \"price DECIMAL(5, 2)\"]\n\
             primary-key = [\"id\"]\npartitioned-by = [\"day STRING\"]\nbuckets = 4\n\
             [sink]\n\"sink.parallelism\" = 2\n"
        );
        for (line, changed) in changes {
            assert!(text.contains(line), "the job has no {line:?}");
            text = text.replacen(line, changed, 1);
        }
        let job = self.path(&format!("{}.toml", input.replace(['.', '-'], "_")));
        fs::write(&job, text)?;
        Ok(job.display().to_string())
    }

    /// The arguments that run a job on the scene's table.
    pub(crate) fn arguments(&self, job: &str, state: &str) -> Vec<String> {
        let (data, state) = (self.text("data"), self.text(state));
        ["run", job, "--data", &data, "--state", &state, "--report", "json"]
            .map(str::to_owned)
            .into()
    }

    /// Runs a job to its end.
    pub(crate) fn run(&self, job: &str, state: &str) -> Result<Finished> {
        binary::run(&self.arguments(job, state))
    }

    /// Runs a job over these rows that must be refused with these words.
    pub(crate) fn refuses_rows(
        &self,
        rows: &[u8],
        changes: &[Change<'_>],
        words: &[&str],
    ) -> Result<()> {
        fs::write(self.path("bad.json"), rows)?;
        let job = self.write_job("bad.json", changes)?;
        self.refuses(&self.run(&job, "state-bad")?, words)
    }

    /// Runs a job over good rows whose text must be refused with these words.
    pub(crate) fn refuses_job(&self, changes: &[Change<'_>], words: &[&str]) -> Result<()> {
        let job = self.write_job("good.json", changes)?;
        self.refuses(&self.run(&job, "state-bad")?, words)
    }

    /// It ended with an error that names these words; nothing panicked and nothing is lost.
    pub(crate) fn refuses(&self, finished: &Finished, words: &[&str]) -> Result<()> {
        assert_refused(finished, words);
        assert_eq!(self.rows()?, self.committed, "the table is what was committed before");
        Ok(())
    }

    fn rows(&self) -> Result<Value> {
        let sql = "SELECT id, name, code, price, day FROM t ORDER BY id";
        let arguments = ["query", sql, "--data", &self.text("data"), "--report", "json"];
        Ok(binary::run(&arguments)?.report()?["rows"].clone())
    }
}

/// A non-zero exit by our own decision, and a message with these words.
pub(crate) fn assert_refused(finished: &Finished, words: &[&str]) {
    let message = &finished.stderr;
    println!("{}", message.lines().last().unwrap_or_default());
    assert!(matches!(finished.status.code(), Some(1..=3)), "{:?}: {message}", finished.status);
    assert!(!message.contains("panicked"), "{message}");
    assert!(message.contains("error: "), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}
