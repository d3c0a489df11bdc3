//! `doctor`: whether a service is what the sink takes it for.
//!
//! Reads arguments or a job file, lets the library look, prints what it found. Invariant: nothing
//! is judged here; the exit code is that of the first thing that is broken.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use upsert_sink::doctor::{Diagnosis, Finding, Scope, Verdict};
use upsert_sink::{Components, Settings, doctor};

use crate::command::options::check_names;
use crate::command::run::{credentials, parse_duration};
use crate::failure::{Unsound, bad_input};
use crate::job::Job;
use crate::report::ReportForm;
use crate::sink::Options;
use crate::{local, plugin, report, sink};

/// The arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPLANATION)]
pub(crate) struct DoctorArguments {
    /// The service; or the job's
    #[arg(long, value_name = "URL", required_unless_present = "job")]
    endpoint: Option<String>,
    /// The project; or the job's; `local` at a local server
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// A table of yours, of which only the description is read; or the job's
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// An option of the sink, as in a job's [sink]; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_option)]
    options: Vec<(String, String)>,
    /// Take endpoint, table and options from this job file
    #[arg(long, value_name = "FILE")]
    job: Option<PathBuf>,
    /// Hold a session open for so long, at least
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    hold: Duration,
    /// Create no table: looks at credentials, clock, table and options only
    #[arg(long)]
    no_scratch: bool,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

const EXPLANATION: &str = "\
Credentials come from ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET.
The five assumptions are tried on a table upsert_sink_doctor_… that is created and dropped:
  a  two open sessions of one partition are ordered by commit, or by creation
  b  committed and aborted sessions reject late packs
  c  a commit is atomic over buckets
  d  an open session in contact is never dropped
  e  no intermediary repeats a PUT on its own
Each finding is `holds`, `broken`, or `untested` with the reason.
Exit codes: 0 nothing is broken; 1 the service cannot be reached, or not written to;
  2 credentials, project, table or options are wrong; 4 the clock or an assumption is.";

#[derive(Debug, Serialize)]
struct DoctorDocument<'a> {
    sound: bool,
    findings: Vec<CheckRow<'a>>,
    order: String,
    advice: Vec<AdviceRow<'a>>,
    /// The scratch table, if it could not be dropped.
    left_behind: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct CheckRow<'a> {
    name: &'a str,
    expected: &'a str,
    verdict: String,
    seen: &'a str,
}

#[derive(Debug, Serialize)]
struct AdviceRow<'a> {
    option: Option<&'a str>,
    set: Option<&'a str>,
    consequence: &'a str,
}

/// Looks, and prints what was found.
pub(crate) async fn run(arguments: DoctorArguments) -> anyhow::Result<()> {
    let plugin = plugin::embedded()?;
    let options = options(&arguments)?;
    check_names(options.keys(), &plugin)?;
    let names_table = sink::is_set(&options, sink::TABLE);
    let settings = settings(options)?;
    let scope = Scope { table: names_table, scratch: !arguments.no_scratch, hold: arguments.hold };
    let is_text = arguments.report == ReportForm::Text;
    let mut tell = |finding: &Finding| {
        if is_text {
            // A reader that stops reading is no failure, and the examination goes on.
            let _stopped = report::print(&(line(finding) + "\n"));
        }
    };
    let components = Components::system();
    let diagnosis = doctor::examine(&plugin, &settings, &components, scope, &mut tell).await;
    match arguments.report {
        ReportForm::Json => report::print_json(&document(&diagnosis))?,
        ReportForm::Text => report::print(&conclusion(&diagnosis))?,
    }
    ended(&diagnosis, &settings)
}

/// The options of the job, then those of the arguments.
fn options(arguments: &DoctorArguments) -> anyhow::Result<Options> {
    let mut options = BTreeMap::new();
    if let Some(path) = &arguments.job {
        let job = Job::read(path)?;
        options = job.options;
        if let Some(table) = &job.table {
            sink::set_default(&mut options, sink::TABLE, &table.name);
        }
    }
    for (name, value) in &arguments.options {
        options.insert(name.clone(), value.clone());
    }
    let given = [
        (sink::ENDPOINT, &arguments.endpoint),
        (sink::PROJECT, &arguments.project),
        (sink::TABLE, &arguments.table),
    ];
    for (names, value) in given {
        if let Some(value) = value {
            options.remove(names.1);
            options.insert(String::from(names.0), value.clone());
        }
    }
    if !sink::is_set(&options, sink::ENDPOINT) {
        return Err(bad_input(
            "the job has no endpoint: it runs on the embedded server, which keeps every \
             assumption; name another with --endpoint",
        ));
    }
    Ok(options)
}

fn settings(mut options: Options) -> anyhow::Result<Settings> {
    // Only a name, for settings that have none: nothing is asked of that table.
    sink::set_default(&mut options, sink::TABLE, "upsert_sink_doctor");
    let is_local = is_local(&options);
    if is_local {
        sink::set_default(&mut options, sink::PROJECT, local::PROJECT);
        sink::set_default(&mut options, sink::ACCESS_ID, "local");
        sink::set_default(&mut options, sink::ACCESS_KEY, "local");
    }
    credentials(&mut options)?;
    // Only a name, too: a doctor keeps no journal.
    sink::settings(options, std::path::Path::new("."), Duration::ZERO)
}

fn is_local(options: &Options) -> bool {
    let endpoint = options.get(sink::ENDPOINT.0).or_else(|| options.get(sink::ENDPOINT.1));
    let mut only = BTreeMap::from([(String::from("project"), String::from(local::PROJECT))]);
    sink::set_default(&mut only, sink::TABLE, "t");
    endpoint.is_some_and(|endpoint| {
        sink::set_default(&mut only, sink::ENDPOINT, endpoint);
        let settings = sink::settings(only, std::path::Path::new("."), Duration::ZERO);
        settings.is_ok_and(|settings| settings.is_local())
    })
}

fn line(finding: &Finding) -> String {
    let Finding { name, expected, verdict, seen } = finding;
    let verdict = verdict.to_string();
    format!("{verdict:<9} {name:<12} {expected}\n{:23}{seen}", "")
}

fn document(diagnosis: &Diagnosis) -> DoctorDocument<'_> {
    let row = |finding: &'_ Finding| finding.verdict.to_string();
    DoctorDocument {
        sound: diagnosis.is_sound(),
        findings: diagnosis
            .findings
            .iter()
            .map(|finding| CheckRow {
                name: finding.name,
                expected: finding.expected,
                verdict: row(finding),
                seen: &finding.seen,
            })
            .collect(),
        order: format!("{:?}", diagnosis.order).to_lowercase(),
        advice: diagnosis
            .advice
            .iter()
            .map(|advice| AdviceRow {
                option: advice.option,
                set: advice.set,
                consequence: &advice.consequence,
            })
            .collect(),
        left_behind: diagnosis.left_behind.as_deref(),
    }
}

/// The consequences for the sink, for people.
fn conclusion(diagnosis: &Diagnosis) -> String {
    let count = |verdict: Verdict| {
        diagnosis.findings.iter().filter(|finding| finding.verdict == verdict).count()
    };
    let mut text = format!(
        "\n{} hold, {} broken, {} untested\nwhat the sink will do:\n",
        count(Verdict::Holds),
        count(Verdict::Broken),
        count(Verdict::Untested)
    );
    for advice in &diagnosis.advice {
        let option = advice.option.map(|option| format!("{option} ")).unwrap_or_default();
        text += &format!("  {option}{}\n", advice.consequence);
    }
    text
}

/// The first thing that is broken decides how this ends.
fn ended(diagnosis: &Diagnosis, settings: &Settings) -> anyhow::Result<()> {
    if let Some(table) = &diagnosis.left_behind {
        eprintln!(
            "the scratch table could not be dropped: run DROP TABLE IF EXISTS {}.{table}",
            settings.client.project
        );
    }
    let broken = diagnosis.findings.iter().find(|finding| finding.verdict == Verdict::Broken);
    let Some(Finding { name, expected, seen, .. }) = broken else { return Ok(()) };
    let message = format!("{name}: it was expected that {expected}; {seen}");
    Err(match *name {
        "endpoint" | "scratch" => anyhow::anyhow!(message),
        "credentials" | "project" | "table" | "options" => bad_input(message),
        _ => anyhow::Error::new(Unsound(message)),
    })
}

/// `NAME=VALUE`.
fn parse_option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(format!("{text:?}: write NAME=VALUE, such as sink.doubt=fail")),
    }
}
