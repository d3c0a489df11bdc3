//! The needs of every start: the service answers, takes the key, tells our time, has the project
//! and the table, and the options fit them.
//!
//! The first part of a diagnosis. Invariant: reads only; the options are judged by the guest, as at
//! a real start, and not here.

use http::HeaderMap;
use upsert_sink_core::io::Task;
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{RefusalKind, TableDescription};
use upsert_sink_tunnel::{Client, NotDone, ProjectAnswer, TunnelError};

use super::row_types::row_type;
use super::{Chart, Finding, Scope};
use crate::capability::grant::Grant;
use crate::components::Components;
use crate::error::{Error, escape};
use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::settings::Settings;

const ENDPOINT: &str = "the service answers";
const CREDENTIALS: &str = "it takes the key";
const PROJECT: &str = "the project is there";
const CLOCK: &str = "its clock and ours differ by less than 15 minutes";
const WAY: &str = "no intermediary is on the way";
const TABLE: &str = "the table is a Delta table with a primary key";
const OPTIONS: &str = "key, buckets, parallelism and options fit each other";

/// Looks; an error says why nothing further can be seen.
pub(super) async fn look(
    plugin: &Plugin,
    settings: &Settings,
    components: &Components,
    scope: Scope,
    chart: &mut Chart<'_>,
) -> Result<(), String> {
    let client = Client::new(settings, components);
    let asked_ms = components.clock.now_ms();
    let ProjectAnswer { headers, known, .. } = client.project().await;
    let answered_ms = components.clock.now_ms();
    project(known, settings, chart)?;
    clock(&headers, asked_ms, answered_ms, chart);
    way(&headers, chart);
    if !scope.table {
        return Ok(());
    }
    match client.catalog().table(&settings.table).await {
        Ok(table) => {
            chart.add(Finding::holds("table", TABLE, described(&table, settings)));
            options(plugin, settings, components, &table, chart);
        }
        Err(error) => {
            chart.add(Finding::broken("table", TABLE, error.to_string()));
            chart.add(Finding::untested("options", OPTIONS, "the table is not known"));
        }
    }
    Ok(())
}

/// Network, key and project, by the first answer.
fn project(
    known: Result<(), TunnelError>,
    settings: &Settings,
    chart: &mut Chart<'_>,
) -> Result<(), String> {
    let endpoint = settings.client.endpoint.as_str();
    let error = match known {
        Ok(()) => {
            chart.add(Finding::holds("endpoint", ENDPOINT, endpoint));
            let seen = match settings.is_local() {
                true => "taken, as a local server may take any",
                false => "a signed request was answered",
            };
            chart.add(Finding::holds("credentials", CREDENTIALS, seen));
            chart.add(Finding::holds("project", PROJECT, settings.client.project.as_str()));
            return Ok(());
        }
        Err(error) => error,
    };
    let refusal = match error.not_done() {
        NotDone::Refused(refusal) => refusal,
        NotDone::InDoubt(why) => {
            let seen = format!("{endpoint} gave no clear answer: {why}; is it the service's?");
            chart.add(Finding::broken("endpoint", ENDPOINT, seen));
            return Err(String::from("the service gave no clear answer"));
        }
        _ => {
            chart.add(Finding::broken("endpoint", ENDPOINT, error.to_string()));
            return Err(String::from("the service cannot be asked"));
        }
    };
    let words = match refusal.code.as_str() {
        "" => refusal.message.clone(),
        code => format!("{code}: {}", refusal.message),
    };
    if refusal.kind == RefusalKind::NotSent {
        let seen = format!("{endpoint}: {words}; correct `endpoint`, or open the way to it");
        chart.add(Finding::broken("endpoint", ENDPOINT, seen));
        return Err(String::from("the service cannot be reached"));
    }
    chart.add(Finding::holds("endpoint", ENDPOINT, endpoint));
    if refusal.kind == RefusalKind::Denied {
        let seen = format!("{words}; correct the key, or grant it what it needs");
        chart.add(Finding::broken("credentials", CREDENTIALS, seen));
        return Err(String::from("the service does not take the key"));
    }
    chart.add(Finding::broken("project", PROJECT, format!("{words}; correct `project`")));
    Err(String::from("the project is not there"))
}

fn clock(headers: &HeaderMap, asked_ms: u64, answered_ms: u64, chart: &mut Chart<'_>) {
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    let Some(date) = date.and_then(|date| date.duration_since(std::time::UNIX_EPOCH).ok()) else {
        chart.add(Finding::untested("clock", CLOCK, "the answer has no date"));
        return;
    };
    // A date is in whole seconds: half of one is the best guess.
    let theirs_ms = i64::try_from(date.as_millis()).unwrap_or(i64::MAX).saturating_add(500);
    let middle_ms = asked_ms.midpoint(answered_ms);
    let ahead_ms = i64::try_from(middle_ms).unwrap_or(i64::MAX).saturating_sub(theirs_ms);
    let seconds = ahead_ms.unsigned_abs().saturating_add(499) / 1000;
    let seen = match (seconds, ahead_ms > 0) {
        (0, _) => String::from("less than a second"),
        (_, true) => format!("ours is {seconds} s ahead"),
        (_, false) => format!("ours is {seconds} s behind"),
    };
    if ahead_ms.unsigned_abs() < SKEW_MS_MAX {
        chart.add(Finding::holds("clock", CLOCK, seen));
    } else {
        let seen = format!("{seen}, and it refuses signatures that are so far off; set our clock");
        chart.add(Finding::broken("clock", CLOCK, seen));
    }
}

/// A proxy is no fault, but it is where copies of packs come from.
fn way(headers: &HeaderMap, chart: &mut Chart<'_>) {
    let told = |name: &str| {
        let value = headers.get(name)?.to_str().ok()?;
        Some(format!("{name}: {}", escape(value, 100)))
    };
    let signs: Vec<String> = ["via", "x-cache", "age"].iter().filter_map(|n| told(n)).collect();
    let finding = match signs.is_empty() {
        true => Finding::holds("way", WAY, "no header of an answer tells of one"),
        false => {
            let seen = format!(
                "{}: switch off whatever repeats requests there, or rely on (e) below only as far \
                 as it says",
                signs.join(", ")
            );
            Finding::untested("way", WAY, seen)
        }
    };
    chart.add(finding);
}

fn described(table: &TableDescription, settings: &Settings) -> String {
    let (buckets, writers) = (table.buckets, settings.parallelism);
    let partitions: Vec<_> = table.partition_columns.iter().map(|c| c.name.as_str()).collect();
    let partitions = match partitions.as_slice() {
        [] => String::from("no partitions"),
        names => format!("partitioned by {}", names.join(", ")),
    };
    format!(
        "{}: key {}, {partitions}, {buckets} buckets, {writers} writers",
        table.name,
        table.primary_key.join(", ")
    )
}

/// The guest opens a writer on the table, with these options, as a real start would.
fn options(
    plugin: &Plugin,
    settings: &Settings,
    components: &Components,
    table: &TableDescription,
    chart: &mut Chart<'_>,
) {
    let mut first = None;
    // Outer levels of a partition may be fixed by an option; then rows do not have them.
    for fixed in 0..=table.partition_columns.len() {
        match open(plugin, settings, components, table, fixed) {
            Ok(()) => {
                let seen = format!(
                    "the guest opens a writer; {} of {} buckets for each",
                    table.buckets / settings.parallelism,
                    table.buckets
                );
                chart.add(Finding::holds("options", OPTIONS, seen));
                return;
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    let seen = first.map(|error| error.to_string()).unwrap_or_default();
    chart.add(Finding::broken("options", OPTIONS, seen));
}

fn open(
    plugin: &Plugin,
    settings: &Settings,
    components: &Components,
    table: &TableDescription,
    fixed: usize,
) -> Result<(), Error> {
    let columns = table.columns.iter().chain(table.partition_columns.iter().skip(fixed));
    let columns = columns.map(|column| {
        let column_type = ColumnType::parse(&column.column_type)?;
        Ok((column.name.clone(), row_type(&column_type)))
    });
    let task = Task {
        identity: String::from("doctor"),
        start: 1,
        nonce: 0,
        parallelism: settings.parallelism.get(),
        index: WriterIndex(0),
        options: settings.guest_options.clone(),
        columns: columns.collect::<Result<_, Error>>()?,
        table: table.clone(),
        local: settings.is_local(),
        checkpoint_interval: Millis(0),
        // As an engine that brings them: without them a global key would be refused for our sake.
        before_images: true,
        cache_bytes: settings.cache.as_ref().map_or(0, |cache| cache.bytes),
    };
    let name = String::from("the doctor's writer");
    let mut instance = Instance::new(plugin, name, settings.limits.clone(), Grant::NONE)?;
    instance.writer_open(components.clock.now_ms(), &task, &[]).map(drop)
}

/// The service's own limit.
const SKEW_MS_MAX: u64 = 15 * 60_000;
