//! `status`: the last checkpoints of a job, where their time went, and what to set.
//!
//! Reads the job's ledger, beside a run or after it. Invariant: nothing is judged here, and nothing
//! is written.

use std::path::PathBuf;

use serde::Serialize;
use upsert_sink::ledger::{CheckpointRecord, Hint};

use crate::command::run;
use crate::failure::bad_input;
use crate::job::Job;
use crate::ledger::JobLedger;
use crate::report;
use crate::report::{ReportForm, thousands};

/// Checkpoints that the table shows.
const ROWS: usize = 10;

/// The arguments of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArguments {
    /// The job file
    #[arg(required_unless_present = "state", conflicts_with = "state")]
    job: Option<PathBuf>,
    /// The job's state directory, in place of the job file
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

#[derive(Debug, Serialize)]
struct StatusDocument {
    ledger: Vec<CheckpointRecord>,
    advice: Vec<Hint>,
}

/// Shows the ledger of a job.
pub(crate) fn run(arguments: &StatusArguments) -> anyhow::Result<()> {
    let state = match (&arguments.state, &arguments.job) {
        (Some(state), _) => state.clone(),
        (None, Some(job)) => run::state_dir(None, &Job::read(job)?),
        (None, None) => return Err(bad_input("name a job file, or its --state directory")),
    };
    if !state.is_dir() {
        return Err(bad_input(format!(
            "state directory {}: there is none; run the job first, or name its directory with \
            --state",
            state.display()
        )));
    }
    let ledger = JobLedger::read(&state)?;
    if ledger.records.is_empty() {
        return Err(bad_input(format!(
            "state directory {}: no checkpoint is known to be committed; run the job, or wait for \
            its first one",
            state.display()
        )));
    }
    let advice = ledger.advice();
    match arguments.report {
        ReportForm::Json => report::print_json(&StatusDocument { ledger: ledger.records, advice }),
        ReportForm::Text => report::print(&text(&ledger.records, &advice)),
    }
}

fn text(records: &[CheckpointRecord], advice: &[Hint]) -> String {
    let shown = &records[records.len().saturating_sub(ROWS)..];
    let mut rows = vec![HEAD.map(String::from)];
    rows.extend(shown.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or_default());
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    for hint in advice {
        text += &format!("advice: {}\n", hint.words);
    }
    text
}

fn row(record: &CheckpointRecord) -> [String; COLUMNS] {
    let times = &record.times_us;
    let ms = |us: u64| thousands(us / 1_000);
    [
        record.id.to_string(),
        thousands(record.rows),
        thousands(record.merged),
        thousands(record.sent.packs),
        report::bytes(record.sent.wire_bytes),
        thousands(record.partitions),
        ms(times.rows),
        ms(times.flush),
        ms(times.commit),
        ms(times.waiting),
        ms(times.network),
        ms(times.slots),
    ]
}

const COLUMNS: usize = 12;
/// Times are milliseconds; the last three are summed over writers and over packs at once.
const HEAD: [&str; COLUMNS] = [
    "checkpoint",
    "rows",
    "merged",
    "packs",
    "sent",
    "partitions",
    "rows ms",
    "flush ms",
    "commit ms",
    "waiting ms",
    "network ms",
    "slots ms",
];
