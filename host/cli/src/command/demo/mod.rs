//! `demo`: a month of real flights through everything, checked against an independent fold.
//!
//! The same way that `run` takes, with the sample feed inside the program; `figures` adds up what
//! the table holds. Invariant: it succeeds
//! only if the table equals the fold, and the client's requests equal those that the server
//! counted.

mod figures;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use upsert_sink::{Catalog, Components};
use upsert_sink_server::Server;

use self::figures::Figures;
use crate::command::run::parse_duration;
use crate::engine::{Cadence, Engine};
use crate::failure::Differs;
use crate::fold::{Comparison, Fold, FoldColumns};
use crate::job::{JobTable, RowForm};
use crate::progress::ProgressLine;
use crate::report::{JobReport, ReportForm};
use crate::source::Source;
use crate::source::kinds::OpColumn;
use crate::source::parquet::{ParquetFile, ParquetSource, Selection};
use crate::source::position::Offset;
use crate::state::{JobState, StateDirectory};
use crate::{local, plugin, report, sink};

/// Departures of January 2013 from New York, as changes.
const SAMPLE: &[u8] = include_bytes!("../../../data/flights_cdc_2013_01.parquet");
/// Its events.
const SAMPLE_EVENTS: u64 = 80_406;
/// A fast machine would be done before the first interval is over, and show one checkpoint.
const CHECKPOINT_EVENTS_MAX: u64 = 10_000;
/// Divides the events of a checkpoint.
const BATCH_ROWS: usize = 2_500;
const WRITERS: u32 = 4;
const BUCKETS: u32 = 8;
/// A build that has run the demo need not have queries.
const QUERY: &str = "cargo run --release --features query -- query";

/// The arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoArguments {
    /// Where to keep tables and state; without it, a directory that is removed at the end
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Time between two checkpoints, at most
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    checkpoint_interval: Duration,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Runs the demo, and prints what it did.
pub(crate) async fn run(arguments: DemoArguments) -> anyhow::Result<()> {
    let (dir, _temporary) = directory(arguments.dir.as_deref())?;
    let data = dir.join("data");
    let server = local::start(&data).await?;
    let mut report = ingest(&server, &dir, arguments.checkpoint_interval).await?;
    let (figures, comparison) = read_back(&data, &mut report).await?;
    report.server_http_requests = Some(server.stats().http_requests);
    report.peak_rss_bytes = report::peak_rss_bytes();
    match arguments.report {
        ReportForm::Json => report::print_json(&report)?,
        ReportForm::Text => {
            show(&report, &comparison);
            show_carriers(&figures, arguments.dir.is_some().then_some(&data))?;
        }
    }
    server.shutdown().await?;
    check(&report, &comparison)
}

/// The directory, and what removes it at the end if it is a temporary one.
fn directory(wanted: Option<&Path>) -> anyhow::Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(dir) = wanted else {
        let temporary = tempfile::Builder::new().prefix("upsert-sink-demo-").tempdir()?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    if dir.join("data").exists() || dir.join("state").exists() {
        bail!(
            "directory {}: a demo ran here before; name another one, or remove it",
            dir.display()
        );
    }
    Ok((dir.to_owned(), None))
}

async fn ingest(server: &Server, dir: &Path, interval: Duration) -> anyhow::Result<JobReport> {
    let states = StateDirectory::open(&dir.join("state"))?;
    let source = source()?;
    let components = Components::system();
    let table = table(&source.schema())?;
    let mut options = sink::Options::new();
    sink::set_default(&mut options, sink::TABLE, &table.name);
    options.insert(String::from("sink.parallelism"), WRITERS.to_string());
    local::point_at(server, &mut options);
    let settings = sink::settings(options, &states.journal_dir(), interval)?;
    let catalog = Catalog::new(&settings, &components);
    catalog.create_table(&table.new_table(RowForm::Whole)?).await?;
    let plugin = plugin::embedded()?;
    let opened = sink::open(&plugin, settings, (source.schema(), false), &components, None).await?;
    let state = JobState {
        checkpoint: 0,
        table: format!("{}.{}", local::PROJECT, table.name),
        files: Vec::new(),
        offset: Offset::default(),
        events: 0,
        finished: false,
    };
    let cadence = Cadence { interval, events_max: Some(CHECKPOINT_EVENTS_MAX), rate: None };
    let engine = Engine::new(opened, states, components, state)?
        .cadence(cadence)
        .progress(ProgressLine::new(Some(SAMPLE_EVENTS)));
    let (outcome, opened) = engine.run(Box::new(source)).await?;
    if !outcome.finished {
        bail!("the demo was stopped after {} events", outcome.events);
    }
    let metrics = opened.metrics();
    opened.close().await?;
    let mut report = JobReport::of(&outcome, interval).with_metrics(&metrics);
    report.http_requests += catalog.http_requests();
    Ok(report)
}

fn source() -> anyhow::Result<ParquetSource> {
    let files = vec![ParquetFile::Memory("the sample feed", Bytes::from_static(SAMPLE))];
    let selection = Selection { columns: None, op: Some(OpColumn::new("op")) };
    ParquetSource::open(files, selection, Offset::default(), BATCH_ROWS)
}

/// All columns of the feed but `op`, in its order; `day` is the partition.
fn table(schema: &arrow_schema::Schema) -> anyhow::Result<JobTable> {
    let mut columns = Vec::new();
    for field in schema.fields().iter().filter(|field| field.name() != "day") {
        columns.push(format!("{} {}", field.name(), sink::table_type(field.data_type())?));
    }
    Ok(JobTable {
        name: String::from("flights"),
        columns,
        primary_key: ["carrier", "flight", "origin"].map(String::from).to_vec(),
        partitioned_by: vec![String::from("day STRING")],
        buckets: BUCKETS,
    })
}

/// Fills in what the table says, and compares it with the fold.
async fn read_back(data: &Path, report: &mut JobReport) -> anyhow::Result<(Figures, Comparison)> {
    let table = table(&source()?.schema())?;
    let mut figures = Figures::default();
    let mut batches = local::rows(data, &table, &figures::COLUMNS.map(String::from)).await?;
    while let Some(batch) = batches.try_next().await? {
        figures.add(&batch)?;
    }
    report.rows = Some(figures.rows);
    report.partitions = Some(figures.days.len() as u64);
    report.sum_distance = Some(figures.distance);
    report.sum_arr_delay = Some(figures.arr_delay);
    let mut all = table.column_names();
    all.extend(table.partition_names());
    let mut key = table.primary_key.clone();
    key.extend(table.partition_names());
    let removing = vec![String::from("D")];
    let columns = FoldColumns { key, all, op: Some(String::from("op")), removing };
    let mut fold = Fold::default();
    fold.add(Bytes::from_static(SAMPLE), &columns).context("the sample feed")?;
    let comparison = local::compare(data, &table, fold, &columns).await?;
    report.verified = Some(comparison.differences == 0);
    Ok((figures, comparison))
}

fn check(report: &JobReport, comparison: &Comparison) -> anyhow::Result<()> {
    if comparison.differences > 0 {
        let examples = comparison.examples.join("; ");
        let differences = comparison.differences;
        let message = format!("{differences} rows differ from the fold of the feed: {examples}");
        return Err(anyhow::Error::new(Differs(message)));
    }
    let counted = report.server_http_requests.unwrap_or_default();
    if counted != report.http_requests {
        let sent = report.http_requests;
        let message = format!("the client sent {sent} requests, the server counted {counted}");
        return Err(anyhow::Error::new(Differs(message)));
    }
    Ok(())
}

fn show(report: &JobReport, comparison: &Comparison) {
    println!(
        "A month of flights from New York, each one scheduled, departed, landed or cancelled:"
    );
    println!();
    let mut lines = report.lines();
    let verdict = match comparison.differences {
        0 => String::from("the table equals an independent fold of the feed, row by row"),
        differences => format!("{differences} rows DIFFER from an independent fold of the feed"),
    };
    lines.push(("verified", verdict));
    report::print_lines(&lines);
}

/// Shows the busiest carriers, and how to ask a table that is kept for more.
fn show_carriers(figures: &Figures, kept: Option<&PathBuf>) -> anyhow::Result<()> {
    println!();
    println!("The busiest carriers, as the table has them:");
    println!("{}", arrow_cast::pretty::pretty_format_batches(&[figures.busiest()?])?);
    match kept {
        Some(data) => {
            println!("Ask for more: {QUERY} \"SELECT … FROM flights\" --data {}", data.display());
        }
        None => println!("Keep the tables with --dir DIR, and ask them with {QUERY}."),
    }
    Ok(())
}
