//! `plan JOB.toml`: whether a job will hold, before its first row.
//!
//! The load of one checkpoint comes from a sample of the input or from arguments (`sample.rs`), the
//! times of the service from the job's ledger, from arguments, or from its vendor's measurements;
//! `upsert_sink::ledger::Forecast` foresees the rest. Invariant: nothing is written, and no service
//! is asked for more than the table's description; every assumption is printed.

mod sample;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use upsert_sink::ledger::{ExpectedLoad, Forecast, ForecastLimits, ServiceCosts};
use upsert_sink::{Components, Plugin, Settings, TableDescription};
use upsert_sink_format::option::text;
use upsert_sink_format::schema::TableSchema;
use upsert_sink_tunnel::Catalog;

use self::sample::Sample;
use crate::command::options::check_names;
use crate::command::run::{credentials, parse_duration, parse_rate, state_dir};
use crate::command::verify::rules::{JobOptions, JobRules};
use crate::failure::{Unsound, bad_input};
use crate::job::{Job, RowForm};
use crate::ledger::JobLedger;
use crate::report::{ReportForm, bytes, thousands};
use crate::{plugin, report, sink};

/// The arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPLANATION)]
pub(crate) struct PlanArguments {
    /// The job file
    job: PathBuf,
    /// Events that are expected per second, such as 5000/s
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: u64,
    /// Time between two checkpoints
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    checkpoint_interval: Duration,
    /// Partitions with rows in each checkpoint [default: those in the sample]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    partitions: Option<u64>,
    /// Bytes of a row in a pack [default: the mean of the sample]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    row_bytes: Option<u64>,
    /// Events of the input that are looked at
    #[arg(long, value_name = "N", default_value_t = 100_000,
        value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    sample: u64,
    /// How long the service takes for a commit [default: the ledger's median, or see below]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    commit_time: Option<Duration>,
    /// How long it takes for a pack [default: the ledger's mean, or see below]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pack_time: Option<Duration>,
    /// Where the job keeps its ledger [default: upsert-sink-state/NAME of the job]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

const EXPLANATION: &str = "\
The input's first events say how large a row is, how many are replaced before they are sent, and
how many partitions and buckets have rows; a checkpoint with more events than the sample is taken
to be the sample over and over. What the service takes is measured where the job has run before;
else 2.5 s a commit, as the vendor has measured it, and 100 ms a pack; 25 ms and 5 ms where the
job has no endpoint and uses the local server.
Exit codes: 0 the job holds; 1 something failed; 2 the job or its input cannot be used; 4 it will
  not hold, and the options to set are printed.";

/// Events of a checkpoint, at most: figures of it stay numbers.
const EVENTS_MOST: u64 = 1_000_000_000;

/// The service as the vendor has measured it, and the local server.
const SERVICE: ServiceCosts = ServiceCosts { commit_ms: 2_500, pack_ms: 100 };
const LOCAL: ServiceCosts = ServiceCosts { commit_ms: 25, pack_ms: 5 };

#[derive(Debug, Serialize)]
struct PlanReport {
    /// The load of one checkpoint.
    load: ExpectedLoad,
    /// Events that were looked at; none if arguments said all.
    sampled: u64,
    /// The times of the service.
    costs: ServiceCosts,
    /// Where that comes from.
    costs_from: &'static str,
    /// The options in effect.
    limits: ForecastLimits,
    /// The checkpoint that follows.
    forecast: Forecast,
}

/// Plans a job, and prints what was found.
pub(crate) async fn run(arguments: PlanArguments) -> anyhow::Result<()> {
    let job = Job::read(&arguments.job)?;
    let plugin = plugin::embedded()?;
    check_names(job.options.keys(), &plugin)?;
    let settings = settings(&job, arguments.checkpoint_interval)?;
    let table = described(&job, &settings).await?;
    let schema = TableSchema::parse(&table)?;
    let rules = JobRules::of(&settings, &plugin, &schema)?;
    let limits = limits(&settings, &plugin, table.buckets)?;
    let sample = Sample::read(&job, &table, schema, &rules, arguments.sample)?;
    let events = arguments.rate.saturating_mul(limits.interval_ms) / 1000;
    if events > EVENTS_MOST {
        return Err(bad_input(format!(
            "--rate and --checkpoint-interval make {events} events of a checkpoint, and at most \
             {EVENTS_MOST} are planned: lower one of the two"
        )));
    }
    let mut load = sample.load(events.max(1), arguments.partitions);
    load.row_bytes = arguments.row_bytes.unwrap_or(load.row_bytes).max(1);
    let (costs, costs_from) = costs(&arguments, &job)?;
    let forecast = Forecast::of(&load, &costs, &limits);
    let report = PlanReport { load, sampled: sample.events, costs, costs_from, limits, forecast };
    match arguments.report {
        ReportForm::Json => report::print_json(&report)?,
        ReportForm::Text => report::print_lines(&report.lines()),
    }
    match report.forecast.broken.first() {
        None => Ok(()),
        Some(limit) => Err(anyhow::Error::new(Unsound(limit.words.clone()))),
    }
}

/// The settings of the job; without an endpoint, those for a local server that is not started.
fn settings(job: &Job, interval: Duration) -> anyhow::Result<Settings> {
    let mut options = job.options.clone();
    if let Some(table) = &job.table {
        sink::set_default(&mut options, sink::TABLE, &table.name);
    }
    if sink::is_set(&options, sink::ENDPOINT) {
        credentials(&mut options)?;
    } else {
        sink::set_default(&mut options, sink::ENDPOINT, "http://127.0.0.1:1/api");
        sink::set_default(&mut options, sink::PROJECT, "local");
    }
    // Nothing is written there.
    sink::settings(options, &PathBuf::from("."), interval)
}

/// The table as the job creates it, or as its catalog has it.
async fn described(job: &Job, settings: &Settings) -> anyhow::Result<TableDescription> {
    if let Some(table) = &job.table {
        return Ok(table.new_table(RowForm::of(&job.options))?.description());
    }
    if !sink::is_set(&job.options, sink::ENDPOINT) {
        return Err(bad_input(
            "the job has neither [table] nor an endpoint, so nobody knows its columns and buckets; \
             write [table]",
        ));
    }
    let catalog = Catalog::new(settings, &Components::system());
    Ok(catalog.table(&settings.table).await?)
}

/// The options in effect that bound a checkpoint.
fn limits(settings: &Settings, plugin: &Plugin, buckets: u32) -> anyhow::Result<ForecastLimits> {
    let options = JobOptions { set: &settings.guest_options, docs: plugin.options()? };
    let count = |name: &str| -> anyhow::Result<u32> {
        let value = options.value(name)?;
        text::count(value).map_err(|rule| bad_input(format!("{name} = {value}: {rule}")))
    };
    let size = |name: &str| -> anyhow::Result<u64> {
        let value = options.value(name)?;
        let size = text::size(value);
        size.map(|n| n.0).map_err(|rule| bad_input(format!("{name} = {value}: {rule}")))
    };
    let adapts = options.is("upsert.flush.concurrent", "auto")?;
    Ok(ForecastLimits {
        interval_ms: u64::try_from(settings.checkpoint_interval.as_millis()).unwrap_or(u64::MAX),
        writers: settings.parallelism.get(),
        buckets,
        commit_threads: count("upsert.commit.thread-num")?,
        flush_concurrent: if adapts { None } else { Some(count("upsert.flush.concurrent")?) },
        partition_limit: count("sink.dynamic-partition.limit")?,
        memory_budget: size("sink.memory.budget")?,
        bucket_bytes: size("upsert.writer.bucket.buffer-size")?,
        slots: count("upsert.write.slot-num")?,
        by_partition: options.is("sink.group-partition.enable", "true")?,
        cached: settings.cache.is_some(),
    })
}

/// The times of the service, and how they are known.
fn costs(arguments: &PlanArguments, job: &Job) -> anyhow::Result<(ServiceCosts, &'static str)> {
    let (mut costs, mut from) = match sink::is_set(&job.options, sink::ENDPOINT) {
        true => (SERVICE, "the vendor's figures"),
        false => (LOCAL, "the local server's usual figures"),
    };
    let state = state_dir(arguments.state.as_deref(), job);
    if state.is_dir() {
        let ledger = JobLedger::read(&state).context("the job's ledger")?;
        let last = ledger.records.iter().rev().find(|record| record.commits.count > 0);
        if let Some(record) = last {
            costs.commit_ms = record.commits.median_ms.max(1);
            let packs = record.sent.packs.max(1);
            costs.pack_ms = (record.times_us.network / packs / 1000).max(1);
            from = "the job's ledger";
        }
    } else if arguments.state.is_some() {
        let state = state.display();
        return Err(bad_input(format!("--state {state}: it is not there; name the job's")));
    }
    let ms =
        |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).clamp(1, 3_600_000);
    costs.commit_ms = arguments.commit_time.map_or(costs.commit_ms, ms);
    costs.pack_ms = arguments.pack_time.map_or(costs.pack_ms, ms);
    if arguments.commit_time.is_some() && arguments.pack_time.is_some() {
        from = "the arguments";
    }
    Ok((costs, from))
}

impl PlanReport {
    fn lines(&self) -> Vec<(&'static str, String)> {
        let Self { load, costs, forecast, .. } = self;
        let ms = |ms: u64| format!("{} ms", thousands(ms));
        let checkpoint = format!(
            "{} rows, {} of them sent, {} bytes each, into {} partitions (by {} sampled events)",
            thousands(load.rows),
            thousands(load.rows_sent),
            load.row_bytes,
            thousands(load.partitions),
            thousands(self.sampled),
        );
        let service = format!(
            "{} a commit, {} a pack ({})",
            ms(costs.commit_ms),
            ms(costs.pack_ms),
            self.costs_from
        );
        let sent = format!(
            "{} in {} packs, {} requests, {} slots",
            bytes(forecast.bytes),
            thousands(forecast.packs),
            thousands(forecast.requests),
            thousands(forecast.slots)
        );
        let time = format!(
            "{} to flush, {} to commit, every {}",
            ms(forecast.flush_ms),
            ms(forecast.commit_ms),
            ms(self.limits.interval_ms)
        );
        let memory = format!("{} of rows in each writer", bytes(forecast.held_bytes));
        let mut lines = vec![
            ("checkpoint", checkpoint),
            ("service", service),
            ("sent", sent),
            ("time", time),
            ("memory", memory),
        ];
        match forecast.broken.is_empty() {
            true => lines.push(("verdict", String::from("holds"))),
            false => {
                lines.extend(forecast.broken.iter().map(|limit| ("verdict", limit.words.clone())));
            }
        }
        lines
    }
}
