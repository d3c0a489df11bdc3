//! `run JOB.toml`: from files or standard input into a table, exactly once across any number of
//! starts.
//!
//! Reads the job, opens what it needs in order (state, server, catalog, source, sink), and starts
//! the engine. Invariant: nothing is opened for writing before everything the user gave has been
//! checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use upsert_sink::{Catalog, Checkpoint, Components, ErrorKind, Plugin, Settings};
use upsert_sink_server::Server;

use crate::command::options::check_names;
use crate::engine::{Cadence, Engine, RunOutcome};
use crate::failure::{Differs, bad_input};
use crate::fold::{Fold, FoldColumns};
use crate::job::{Format, Job, RowForm};
use crate::progress::ProgressLine;
use crate::report::{JobReport, ReportForm};
use crate::source::debezium::RowPlace;
use crate::source::{BATCH_ROWS_MAX, Source, files, position};
use crate::state::{JobState, StateDirectory, Stored};
use crate::{local, plugin, report, sink, source};

/// Where the embedded server keeps its tables unless it is told.
pub(crate) const DATA: &str = "upsert-sink-data";
/// Where jobs keep their state unless they are told, each in a directory of its own.
const STATE: &str = "upsert-sink-state";
/// The documentation of job files, for `--help`.
const JOB_FILE: &str = "\
Job file (TOML):
  [source]
    format       parquet, csv, json (one object per line) or debezium (one envelope per line)
    path, paths  files, patterns with * ? [ ], or - for standard input; ${NAME} is a variable
    columns      csv, json, debezium: [\"name TYPE\", …], types as in Flink; parquet: names to take
    op-column    the column that says what a row does: I, U, D, +I, -U, +U, -D; without it I
    ops          other values of it: { put = \"update\", del = \"delete\" }
    before-images  true: rows as they were come before rows as they are (`-U`, or Debezium)
  CSV only:
    header       true: the first record of each file names its fields (default)
    fields       with header = false: the names of the fields in their order
    delimiter    one ASCII character (default \",\")
    quote        around text with delimiters or line ends, doubled within (default '\"'); \"\": none
    null-text    an unquoted field that is this text is null (default \"\"); a quoted one never is
  [table]        name, columns, primary-key, partitioned-by, buckets: created if it is not there,
                 for partial rows if \"upsert.partial-column.enable\" = true
  [sink]         options of the sink by their names; `upsert-sink options` lists them";
/// With a rate, so many batches a second at least.
const BATCHES_PER_SECOND: u64 = 100;

/// The arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JOB_FILE)]
pub(crate) struct RunArguments {
    /// The job file
    job: PathBuf,
    /// Where the embedded server keeps its tables; not with an endpoint of the job's own
    #[arg(long, value_name = "DIR", default_value = DATA)]
    data: PathBuf,
    /// Where the job keeps its checkpoints and journal [default: upsert-sink-state/NAME of the job]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Events handed over per second, at most, such as 5000/s
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<u64>,
    /// Time between two checkpoints
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    checkpoint_interval: Duration,
    /// Go back to this retained checkpoint, and replay from it
    #[arg(long, value_name = "ID")]
    restore: Option<u64>,
    /// At the end, compare the table with an independent fold of the whole feed (Parquet only)
    #[arg(long)]
    verify: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// A job, with everything it needs open.
struct OpenedJob {
    arguments: RunArguments,
    job: Job,
    states: StateDirectory,
    stored: Option<Stored>,
    state: JobState,
    server: Option<Server>,
    catalog: Catalog,
    settings: Settings,
    components: Components,
    plugin: Plugin,
}

/// Runs the job to the end of its input or until it is stopped, and prints what it did.
pub(crate) async fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let job = Job::read(&arguments.job)?;
    check(&arguments, &job)?;
    let plugin = plugin::embedded()?;
    check_names(job.options.keys(), &plugin)?;
    let found = files::resolve(&job.paths)?;
    let states = StateDirectory::open(&state_dir(arguments.state.as_deref(), &job))?;
    let stored = states.load(arguments.restore)?;
    let known = stored.as_ref().map(|stored| stored.job.files.as_slice()).unwrap_or_default();
    let files = files::continued(known, found)?;
    let state = match &stored {
        Some(stored) => JobState { files, ..stored.job.clone() },
        None => JobState {
            checkpoint: 0,
            table: String::new(),
            files,
            offset: position::Offset::default(),
            events: 0,
            finished: false,
        },
    };
    let opened = open(arguments, job, plugin, states, stored, state).await?;
    opened.run().await
}

/// Refuses what can be refused before anything is opened.
fn check(arguments: &RunArguments, job: &Job) -> anyhow::Result<()> {
    let guarantee = job.options.get("sink.delivery-guarantee").map(String::as_str);
    if job.paths.iter().any(|path| path == "-") && guarantee != Some("at-least-once") {
        return Err(bad_input(
            "[source] path = \"-\": standard input cannot be read again after a crash, so \
            exactly-once cannot be kept; read files, or set \"sink.delivery-guarantee\" = \
            \"at-least-once\" in [sink]",
        ));
    }
    if arguments.verify && !matches!(job.format, Format::Parquet { .. }) {
        return Err(bad_input("--verify folds Parquet feeds only; leave it out for this job"));
    }
    if arguments.verify && RowForm::of(&job.options) == RowForm::Partial {
        return Err(bad_input(
            "--verify folds whole rows, and with \"upsert.partial-column.enable\" = true rows are \
            partial; leave it out for this job",
        ));
    }
    let is_remote = sink::is_set(&job.options, sink::ENDPOINT);
    if arguments.verify && (job.table.is_none() || is_remote) {
        return Err(bad_input(
            "--verify reads the table back from the embedded server: it needs [table], and no \
            endpoint in [sink]",
        ));
    }
    Ok(())
}

async fn open(
    arguments: RunArguments,
    job: Job,
    plugin: Plugin,
    states: StateDirectory,
    stored: Option<Stored>,
    mut state: JobState,
) -> anyhow::Result<OpenedJob> {
    let (options, server) = reach(&job, &arguments.data).await?;
    let rows = RowForm::of(&options);
    let settings = sink::settings(options, &states.journal_dir(), arguments.checkpoint_interval)?;
    let components = Components::system();
    let catalog = Catalog::new(&settings, &components);
    if let (Some(_), Some(table)) = (&server, &job.table) {
        catalog.create_table(&table.new_table(rows)?).await?;
    }
    let table = settings.table_name();
    if stored.is_some() && state.table != table {
        return Err(bad_input(format!(
            "this --state belongs to a job that writes {}, not {table}; use another --state \
            directory",
            state.table
        )));
    }
    state.table = table;
    let opened = OpenedJob {
        arguments,
        job,
        states,
        stored,
        state,
        server,
        catalog,
        settings,
        components,
        plugin,
    };
    Ok(opened)
}

/// Where a job keeps its state: there, or in a directory of its name.
pub(crate) fn state_dir(wanted: Option<&Path>, job: &Job) -> PathBuf {
    wanted.map_or_else(|| Path::new(STATE).join(&job.name), Path::to_owned)
}

/// The options of a job with all that leads to its table; and the server, if the job has no
/// endpoint of its own: then it is started on `data`.
pub(crate) async fn reach(
    job: &Job,
    data: &Path,
) -> anyhow::Result<(sink::Options, Option<Server>)> {
    let mut options = job.options.clone();
    if let Some(table) = &job.table {
        sink::set_default(&mut options, sink::TABLE, &table.name);
    }
    if sink::is_set(&options, sink::ENDPOINT) {
        credentials(&mut options)?;
        return Ok((options, None));
    }
    let server = local::start(data).await?;
    local::point_at(&server, &mut options);
    Ok((options, Some(server)))
}

/// Credentials come from the environment, so that no job file need hold them.
pub(crate) fn credentials(options: &mut sink::Options) -> anyhow::Result<()> {
    // Then the library gets them, from there.
    if sink::is_set(options, sink::CREDENTIALS_PROVIDER) {
        return Ok(());
    }
    for (names, variable, is_required) in [
        (sink::ACCESS_ID, "ALIBABA_CLOUD_ACCESS_KEY_ID", true),
        (sink::ACCESS_KEY, "ALIBABA_CLOUD_ACCESS_KEY_SECRET", true),
        (sink::STS_TOKEN, "ALIBABA_CLOUD_SECURITY_TOKEN", false),
    ] {
        match std::env::var(variable) {
            Ok(value) => sink::set_default(options, names, value),
            Err(_) if is_required && !sink::is_set(options, names) => {
                return Err(bad_input(format!(
                    "an endpoint needs credentials: set {variable} in the environment, or \
                    `credentials.provider` among the options"
                )));
            }
            Err(_) => {}
        }
    }
    Ok(())
}

impl OpenedJob {
    async fn run(mut self) -> anyhow::Result<()> {
        let known = self.stored.as_ref().map_or(0, |stored| stored.job.files.len());
        if self.state.finished && self.state.files.len() == known {
            eprintln!(
                "this job is finished: {} events up to checkpoint {}; nothing to do",
                self.state.events, self.state.checkpoint
            );
            let report = JobReport { finished: true, ..JobReport::default() };
            return self.report(report).await;
        }
        self.state.finished = false;
        let source = self.source().await?;
        let restore = match &self.stored {
            Some(stored) => {
                eprintln!(
                    "restored checkpoint {}: going on after event {}",
                    stored.job.checkpoint, stored.job.events
                );
                self.states.forget_after(stored.job.checkpoint)?;
                Some(Checkpoint::from_bytes(&stored.sink)?)
            }
            None => {
                eprintln!("starting at event 0");
                None
            }
        };
        let settings = self.settings.clone();
        let rows = (source.schema(), self.job.before_images);
        let opened = sink::open(&self.plugin, settings, rows, &self.components, restore).await?;
        let cadence = Cadence {
            interval: self.arguments.checkpoint_interval,
            events_max: None,
            rate: self.arguments.rate,
        };
        let components = self.components.clone();
        let engine = Engine::new(opened, self.states.clone(), components, self.state.clone())?
            .cadence(cadence)
            .progress(ProgressLine::new(None));
        let (outcome, opened) = engine.run(source).await.map_err(advised)?;
        let metrics = opened.metrics();
        opened.close().await?;
        let mut report =
            JobReport::of(&outcome, self.arguments.checkpoint_interval).with_metrics(&metrics);
        report.http_requests += self.catalog.http_requests();
        self.tell_end(&outcome);
        self.report(report).await
    }

    fn tell_end(&self, outcome: &RunOutcome) {
        if !outcome.finished {
            eprintln!("stopped cleanly after {} events; run again to go on", outcome.events);
        }
    }

    async fn source(&self) -> anyhow::Result<Box<dyn Source>> {
        let place = match self.job.format {
            Format::Debezium { .. } => {
                RowPlace::of(&self.job, &self.catalog.table(&self.settings.table).await?)
            }
            Format::Parquet { .. } | Format::Json { .. } | Format::Csv { .. } => None,
        };
        let batch_rows = batch_rows(self.arguments.rate);
        source::open(&self.job, &self.state.files, place, self.state.offset, batch_rows)
    }

    /// Completes the report with what the table says now, checks it if that was asked for, and
    /// prints it.
    async fn report(self, mut report: JobReport) -> anyhow::Result<()> {
        let mut examples = Vec::new();
        if let (Some(server), Some(table)) = (&self.server, &self.job.table) {
            let (rows, partitions) = local::size(&self.arguments.data, table).await?;
            report.rows = Some(rows);
            report.partitions = Some(partitions);
            report.server_http_requests = Some(server.stats().http_requests);
        }
        if self.arguments.verify && report.finished {
            examples = self.verify().await?;
            report.verified = Some(examples.is_empty());
        }
        report.peak_rss_bytes = report::peak_rss_bytes();
        match self.arguments.report {
            ReportForm::Json => report::print_json(&report)?,
            // A job that had nothing to do has said so.
            ReportForm::Text if report.checkpoints == 0 => {}
            ReportForm::Text => report::print_lines(&report.lines()),
        }
        if let Some(server) = self.server {
            server.shutdown().await?;
        }
        if examples.is_empty() {
            return Ok(());
        }
        let message =
            format!("the table differs from the fold of the feed: {}", examples.join("; "));
        Err(anyhow::Error::new(Differs(message)))
    }

    /// Examples of differences between the table and the fold of all its input.
    async fn verify(&self) -> anyhow::Result<Vec<String>> {
        let (Format::Parquet { columns, op }, Some(table)) = (&self.job.format, &self.job.table)
        else {
            return Ok(Vec::new());
        };
        let partition = table.partition_names();
        let mut all = table.column_names();
        all.extend(partition.clone());
        if let Some(columns) = columns {
            all.retain(|name| columns.contains(name));
        }
        let key = table.primary_key.iter().cloned().chain(partition).collect();
        let removing = op.as_ref().map(|op| op.removing()).unwrap_or_default();
        let columns = FoldColumns { key, all, op: op.as_ref().map(|op| op.name.clone()), removing };
        let mut fold = Fold::default();
        for file in &self.state.files {
            fold.add(position::open(Path::new(&file.path))?, &columns)?;
        }
        let found = local::compare(&self.arguments.data, table, fold, &columns).await?;
        Ok(found.examples)
    }
}

/// Adds what to do after a failure that this engine can recover from.
fn advised(error: anyhow::Error) -> anyhow::Error {
    let kind = error.downcast_ref::<upsert_sink::Error>().map(|error| error.kind);
    let advice = match kind {
        Some(ErrorKind::SessionLost) => {
            "the newest checkpoint cannot be completed: go back to the one before it with --restore"
        }
        Some(ErrorKind::Retry | ErrorKind::SlowDown) => {
            "run again to go on from the newest checkpoint"
        }
        _ => return error,
    };
    error.context(advice)
}

/// Small batches under a rate, so that events flow instead of coming in heaps.
fn batch_rows(rate: Option<u64>) -> usize {
    let rows = rate.map_or(BATCH_ROWS_MAX as u64, |rate| rate / BATCHES_PER_SECOND);
    usize::try_from(rows).unwrap_or(BATCH_ROWS_MAX).clamp(1, BATCH_ROWS_MAX)
}

/// A duration such as `500ms`, `1s`, `3 min`, with its unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    match upsert_sink::parse_span(text)? {
        Duration::ZERO => Err(format!("{text:?}: it must be more than nothing")),
        span => Ok(span),
    }
}

/// A rate such as `5000/s`.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let number = text.strip_suffix("/s").ok_or(format!("{text:?}: write N/s, such as 5000/s"))?;
    match number.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?}: N is a whole number above 0")),
        Ok(rate) => Ok(rate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(parse_duration("3min"), Ok(Duration::from_secs(180)));
        for text in ["1", "s", "1 parsec", "0s", "-1s", "99999999999999999999s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_per_second() {
        assert_eq!(parse_rate("5000/s"), Ok(5000));
        for text in ["5000", "0/s", "x/s", "5/min"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
        assert_eq!(batch_rows(Some(1000)), 10);
        assert_eq!(batch_rows(Some(1)), 1);
        assert_eq!(batch_rows(None), BATCH_ROWS_MAX);
    }
}
