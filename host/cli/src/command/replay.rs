//! `replay`: a recorded sink once more, offline, call by call.
//!
//! The files are those of the option `record.dir`. Invariant: nothing is sent and nothing is
//! written; it succeeds only if every call that was recorded comes to the same.

use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;
use upsert_sink::ErrorKind;
use upsert_sink::recording::{
    Difference, Head, Recording, RecordingEnd, ReplayTelemetry, Replayed,
};

use crate::command::inspect;
use crate::failure::{Differs, bad_input};
use crate::report;
use crate::report::ReportForm;

/// The arguments of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArguments {
    /// A recording: a file of the sink's `record.dir`
    recording: PathBuf,
    /// The component to run; without it, the one inside this program
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Run it though another one was recorded: what it does must be the same, what it logs and
    /// counts may differ
    #[arg(long)]
    any_component: bool,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// The printed part of a replay.
#[derive(Debug, Serialize)]
struct Report<'a> {
    table: &'a str,
    start: u64,
    recorded_component: &'a str,
    component: &'a str,
    calls: u64,
    instances: &'a std::collections::BTreeMap<String, u64>,
    rows: u64,
    digest: &'a str,
    equal: bool,
    difference: Option<Differing<'a>>,
    ended: Option<&'static str>,
    torn_at: Option<u64>,
    writers_stopped: bool,
}

#[derive(Debug, Serialize)]
struct Differing<'a> {
    instance: &'a str,
    call: u64,
    now_ms: u64,
    input: &'a str,
    expected: &'a str,
    got: &'a str,
}

/// Replays the recording, and prints how far it is the same.
pub(crate) fn run(arguments: &ReplayArguments) -> anyhow::Result<()> {
    let name = arguments.recording.display().to_string();
    let file = File::open(&arguments.recording).map_err(|error| {
        bad_input(format!("recording {name}: {error}; name a file of the sink's `record.dir`"))
    })?;
    let recording = Recording::open(name, file).map_err(refused)?;
    let plugin = inspect::load(arguments.component.as_deref())?;
    let (head, component) = (recording.head().clone(), plugin.inspect().sha256);
    if component != head.component && !arguments.any_component {
        return Err(other_component(&head, &component));
    }
    let telemetry = if component == head.component {
        ReplayTelemetry::Compared
    } else {
        ReplayTelemetry::Ignored
    };
    let replayed = recording.replay(&plugin, telemetry).map_err(refused)?;
    match arguments.report {
        ReportForm::Json => report::print_json(&report_of(&head, &component, &replayed))?,
        ReportForm::Text => show(&head, &replayed)?,
    }
    match replayed.difference {
        None => Ok(()),
        Some(difference) => Err(anyhow::Error::new(Differs(told(&difference)))),
    }
}

/// A file that cannot be replayed is wrong input, wherever that shows.
fn refused(error: upsert_sink::Error) -> anyhow::Error {
    match error.kind {
        ErrorKind::Corrupt => bad_input(error.to_string()),
        _ => error.into(),
    }
}

fn other_component(head: &Head, ours: &str) -> anyhow::Error {
    let theirs = match head.component.as_str() {
        "" => "no component but a native one",
        sha256 => sha256,
    };
    bad_input(format!(
        "the recording is of the component {theirs}, this is {ours}; name the recorded one with \
         --component FILE, or see with --any-component whether this one does the same"
    ))
}

fn report_of<'a>(head: &'a Head, component: &'a str, replayed: &'a Replayed) -> Report<'a> {
    let differing = |difference: &'a Difference| Differing {
        instance: &difference.instance,
        call: difference.call,
        now_ms: difference.now_ms,
        input: &difference.input,
        expected: &difference.expected,
        got: &difference.got,
    };
    let (ended, torn_at) = match replayed.ended {
        None => (None, None),
        Some(RecordingEnd::Closed) => (Some("closed"), None),
        Some(RecordingEnd::Full) => (Some("full"), None),
        Some(RecordingEnd::BrokenOff) => (Some("broken-off"), None),
        Some(RecordingEnd::Torn(at)) => (Some("torn"), Some(at)),
    };
    Report {
        table: &head.table,
        start: head.start,
        recorded_component: &head.component,
        component,
        calls: replayed.calls,
        instances: &replayed.instances,
        rows: replayed.rows,
        digest: &replayed.digest,
        equal: replayed.is_equal(),
        difference: replayed.difference.as_ref().map(differing),
        ended,
        torn_at,
        writers_stopped: replayed.writers_stopped,
    }
}

fn show(head: &Head, replayed: &Replayed) -> anyhow::Result<()> {
    let instances = replayed.instances.iter().map(|(name, calls)| format!("{name} {calls}"));
    let instances: Vec<_> = instances.collect();
    let mut ends = match replayed.ended {
        None => String::from("at the first difference"),
        Some(RecordingEnd::Closed) => String::from("when the sink ended"),
        Some(RecordingEnd::Full) => String::from("when record.bytes-max was used up"),
        Some(RecordingEnd::BrokenOff) => String::from("when the process ended, or it still runs"),
        Some(RecordingEnd::Torn(at)) => {
            format!("when the process ended, in the write at byte {at}")
        }
    };
    if replayed.writers_stopped {
        ends += "; writers earlier, for want of room";
    }
    let mut text = format!("start {} of the sink to {}\n", head.start, head.table);
    for (name, value) in [
        ("calls", format!("{} ({})", report::thousands(replayed.calls), instances.join(", "))),
        ("rows", report::thousands(replayed.rows)),
        ("digest", replayed.digest.clone()),
        ("ends", ends),
    ] {
        text += &format!("  {name:<6}  {value}\n");
    }
    if replayed.is_equal() {
        text += "equal: every call came to what was recorded\n";
    }
    report::print(&text)
}

fn told(difference: &Difference) -> String {
    format!(
        "{}, call {}, at {} ms: {}\n  expected  {}\n  got       {}",
        difference.instance,
        difference.call,
        difference.now_ms,
        difference.input,
        difference.expected,
        difference.got
    )
}
