//! A job that is recorded, and the recordings that it leaves.
//!
//! Used by every test of this suite. Invariant: a scene has a directory of its own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upsert_sink_tests::binary::{self, Finished};
use upsert_sink_tests::feed::{self, Feed};

/// The exit code of failures that only a file can cause.
pub(crate) const BAD_INPUT: i32 = 2;
/// A call came to something else.
pub(crate) const DIFFERS: i32 = 3;

/// A job over the sample feed, recorded.
pub(crate) struct Scene {
    pub(crate) dir: tempfile::TempDir,
}

impl Scene {
    /// With these lines more among the sink's options.
    pub(crate) fn new(options: &str) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let job = fs::read_to_string(feed::top().join("tests/jobs/flights-full.toml"))?;
        let sample = Feed::sample().path.display().to_string();
        let mut job = job.replace("${FLIGHTS_FEED}", &sample);
        let records = dir.path().join("recordings").display().to_string();
        job += &format!("\n\"record.dir\" = {records:?}\n{options}\n");
        fs::write(dir.path().join("job.toml"), job)?;
        Ok(Self { dir })
    }

    /// The arguments of the job, with data and state of this name.
    pub(crate) fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let place = |file: String| self.dir.path().join(file).display().to_string();
        let (data, state) = (place(format!("data-{name}")), place(format!("state-{name}")));
        let mut arguments = vec!["run".to_owned(), place("job.toml".to_owned())];
        let fixed = ["--data", &data, "--state", &state, "--report", "json"];
        arguments.extend(fixed.iter().chain(more).map(|word| (*word).to_owned()));
        arguments
    }

    /// Runs the job to its end.
    pub(crate) fn run(&self, name: &str) -> Result<Value> {
        let interval = ["--checkpoint-interval", "100ms"];
        binary::run(&self.arguments(name, &interval))?.report()
    }

    /// The recordings, the oldest first.
    pub(crate) fn recordings(&self) -> Result<Vec<PathBuf>> {
        recordings(&self.dir.path().join("recordings"))
    }

    /// The one recording.
    pub(crate) fn recording(&self) -> Result<PathBuf> {
        let all = self.recordings()?;
        ensure!(all.len() == 1, "one recording, not {all:?}");
        all.into_iter().next().context("one")
    }

    /// A file beside the recordings with other bytes.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    }
}

/// The recordings of a directory, the oldest first.
pub(crate) fn recordings(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "recording") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// `upsert-sink replay`.
pub(crate) fn replay(recording: &Path, more: &[&str]) -> Result<Finished> {
    let recording = recording.display().to_string();
    let mut arguments = vec!["replay", recording.as_str(), "--report", "json"];
    arguments.extend(more);
    binary::run(&arguments)
}

/// It ends with this exit code and says all of this.
pub(crate) fn expect_refused(finished: &Finished, code: i32, says: &[&str]) -> Result<()> {
    let stderr = &finished.stderr;
    ensure!(finished.status.code() == Some(code), "{}: {stderr}", finished.status);
    for word in says {
        ensure!(stderr.contains(word), "`{word}` is not said: {stderr}");
    }
    Ok(())
}
