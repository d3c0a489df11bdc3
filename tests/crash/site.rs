//! A directory with an input, a job, its state, and a server's tables.
//!
//! Each series has one of its own. Invariant: `check` looks at everything a user could find
//! afterwards: the rows, the sessions, the files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;
use upsert_sink::sessions::{self, SessionRecord};
use upsert_sink::{Catalog, Components, Settings, journal};
use upsert_sink_tests::binary;

use crate::crash::input::{self, Input};
use crate::crash::job::Attempt;
use crate::crash::process::Process;

/// A place of its own.
pub(crate) struct Site {
    directory: TempDir,
    pub(crate) input: Input,
    /// Where the server keeps its tables.
    pub(crate) data: PathBuf,
    /// Where the job keeps its state.
    pub(crate) state: PathBuf,
    rate: u64,
}

impl Site {
    /// An input of so many changes, handed over at this rate.
    pub(crate) fn new(seed: u64, events: u64, rate: u64) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let input = Input::write(directory.path().join("input.json"), seed, events)?;
        let (data, state) = (directory.path().join("data"), directory.path().join("state"));
        let site = Self { directory, input, data, state, rate };
        site.write_job(&[])?;
        Ok(site)
    }

    fn write_job(&self, options: &[(&str, &str)]) -> Result<()> {
        // Small packs: many requests, of which any may be the one that is hit.
        let mut all = vec![("upsert.writer.bucket.buffer-size", "8 kb")];
        all.extend(options);
        Ok(std::fs::write(self.path("job.toml"), self.input.job(&all))?)
    }

    /// The job writes to the server at this address from now on.
    pub(crate) fn point_at(&self, address: SocketAddr, retries: &str) -> Result<()> {
        let (endpoint, tunnel) = (endpoint(address), format!("http://{address}"));
        self.write_job(&[
            ("endpoint", endpoint.as_str()),
            ("tunnelEndpoint", tunnel.as_str()),
            ("project", "local"),
            ("accessId", "local"),
            ("accessKey", "local"),
            ("upsert.writer.max-retries", retries),
            ("upsert.commit.max-retries", retries),
        ])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts an attempt of the job.
    pub(crate) fn run(&self) -> Result<Attempt> {
        Attempt::start(&self.run_arguments())
    }

    /// The arguments of an attempt.
    pub(crate) fn run_arguments(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.display().to_string();
        let (job, rate) = (text(&self.path("job.toml")), format!("{}/s", self.rate));
        let (data, state) = (text(&self.data), text(&self.state));
        let arguments = ["run", &job, "--data", &data, "--state", &state, "--rate", &rate];
        let rest = ["--checkpoint-interval", "150ms", "--report", "json"];
        arguments.into_iter().chain(rest).map(str::to_owned).collect()
    }

    /// Starts a server on its tables.
    pub(crate) fn serve(&self) -> Result<(Process, SocketAddr)> {
        let data = self.data.display().to_string();
        let arguments = ["serve", "--data", &data].map(str::to_owned);
        let mut server = Process::start(&arguments)?;
        let Some(line) = server.answer()? else {
            bail!("the server ended: {}", server.finish()?.stderr)
        };
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.with_context(|| format!("no endpoint in {line:?}"))?;
        Ok((server, address.parse()?))
    }

    /// Creates the table, where no job does.
    pub(crate) fn create_table(&self, address: SocketAddr) -> Result<()> {
        let settings = Settings::local(endpoint(address), "events", self.path("unused"))?;
        block_on(async {
            let catalog = Catalog::new(&settings, &Components::system());
            Ok(catalog.execute(input::CREATE).await?)
        })
    }

    /// The table is the fold of the input, no session is open, and no file is left behind. Answers
    /// how many sessions were born dead: created by the server, their ids told to nobody, because
    /// one of the two was killed or the reply lost meanwhile. They hold nothing, and expire.
    pub(crate) fn check(&self) -> Result<u64> {
        let data = self.data.display().to_string();
        let query = ["query", input::SELECT, "--data", &data, "--report", "json"];
        self.input.check(&binary::run(&query)?.report()?["rows"])?;
        let state = self.state.display().to_string();
        let sessions = ["sessions", "--data", &data, "--state", &state, "--report", "json"];
        let open = binary::run(&sessions)?.report()?["open"].clone();
        let open = open.as_array().context("a list of sessions")?;
        let journaled = self.journaled()?;
        let packs = upsert_sink_server::recorded_sessions(&self.data)?;
        for session in open {
            let id = session["id"].as_str().unwrap_or_default();
            ensure!(!journaled.contains_key(id), "an open session: {session}");
            let recorded = packs.iter().find(|recorded| recorded.id == id);
            let is_empty = recorded.is_some_and(|recorded| recorded.packs == 0);
            ensure!(is_empty, "rows in a session that no journal holds: {session}");
        }
        let unfinished = input::unfinished(&self.data)?;
        ensure!(unfinished.is_empty(), "left behind by a kill: {unfinished:?}");
        Ok(open.len() as u64)
    }

    fn journaled(&self) -> Result<BTreeMap<String, SessionRecord>> {
        let directory = self.state.join("journal");
        block_on(async {
            let disk = Components::system().disk;
            let contents = journal::read(&directory, &*disk).await?;
            Ok(sessions::of(&contents.context("the job has a journal")?)?)
        })
    }

    /// Runs the job to its end once more: there is nothing left to do.
    pub(crate) fn has_finished(&self) -> Result<Value> {
        binary::run(&self.run_arguments())?.report()
    }
}

fn endpoint(address: SocketAddr) -> String {
    format!("http://{address}/api")
}

fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
