//! `verify JOB.toml`: whether a job's table holds what its source says, up to the job's last
//! committed checkpoint.
//!
//! The source is read once more (`changes`, `cells`) and folded (`bounded`, `spill`), the table is
//! read through download sessions (`table`); both give sums by bucket (`sums`), and only where they
//! differ keys are compared (`compare`). Invariant: nothing is written but spilled rows in the
//! state directory, which are removed; no bucket of any partition of either side is left out.

mod bounded;
mod cells;
pub(super) mod changes;
pub(super) mod codec;
mod committed;
mod compare;
mod report;
pub(super) mod rules;
mod spill;
mod sums;
mod table;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use upsert_sink::{Components, TableDescription};
use upsert_sink_format::option::text::size;
use upsert_sink_format::schema::TableSchema;
use upsert_sink_tunnel::{Client, Name, Table};

use self::bounded::{BoundedFold, FoldedParts};
use self::changes::{ChangeReader, Partitions};
use self::codec::{BucketPlace, RowCodec};
use self::compare::{Search, WrongKeys};
use self::report::{VerifyReport, WrongRow};
use self::rules::JobRules;
use self::spill::SpillDirectory;
use self::sums::Sums;
use self::table::TableReader;
use crate::command::options::check_names;
use crate::command::run::{DATA, reach, state_dir};
use crate::failure::{Differs, bad_input};
use crate::job::Job;
use crate::report::ReportForm;
use crate::source::BATCH_ROWS_MAX;
use crate::source::debezium::RowPlace;
use crate::source::position::{InputFile, Offset};
use crate::state::{JobState, StateDirectory, Stored};
use crate::{plugin, report as reports, sink, source};

/// The arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXPLANATION)]
pub(crate) struct VerifyArguments {
    /// The job file
    job: PathBuf,
    /// Where the embedded server keeps its tables; not with an endpoint of the job's own
    #[arg(long, value_name = "DIR", default_value = DATA)]
    data: PathBuf,
    /// Where the job keeps its checkpoints and journal [default: upsert-sink-state/NAME of the job]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Memory for rows and sums, such as 64mb; more rows are written to the state directory
    #[arg(long, value_name = "BYTES", default_value = "256mb", value_parser = parse_memory)]
    memory: usize,
    /// As many wrong keys are named
    #[arg(long, value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    examples: u32,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

const EXPLANATION: &str = "\
The job's files are read again up to the last checkpoint of --state that is committed, and folded
by key. The table is read through download sessions. Both sides give a sum of digests for each
bucket of each partition; where two differ, the keys are compared one by one, and the first wrong
ones named:
  missing  the table has no row where the source leaves one
  stale    the table has another row; the columns that differ are shown
  extra    the table has a row where the source leaves none
The job must not run meanwhile, and nobody else may write to the table: their rows are wrong keys.
Exit codes: 0 equal; 1 something failed, or the table changed meanwhile; 2 the job, its state or
  its source cannot be used; 3 the table differs.";

/// All that is open while a job is verified.
struct Scene {
    job: Job,
    stored: Stored,
    client: Client,
    name: Name,
    table: Table,
    description: TableDescription,
    codec: RowCodec,
    rules: JobRules,
    spill: SpillDirectory,
    components: Components,
    memory: usize,
    examples: usize,
}

/// One side of the comparison: the source.
struct Expected {
    folded: FoldedParts,
    sums: Sums,
    refused: u64,
    cut: u64,
}

/// Verifies a job's table, and prints what was found.
pub(crate) async fn run(arguments: VerifyArguments) -> anyhow::Result<()> {
    let job = Job::read(&arguments.job)?;
    check(&job)?;
    let states = StateDirectory::existing(&state_dir(arguments.state.as_deref(), &job))?;
    let is_embedded = !sink::is_set(&job.options, sink::ENDPOINT);
    if is_embedded && !arguments.data.is_dir() {
        let data = arguments.data.display();
        return Err(bad_input(format!("--data {data}: it is not there; name the job's")));
    }
    let plugin = plugin::embedded()?;
    check_names(job.options.keys(), &plugin)?;
    let (options, server) = reach(&job, &arguments.data).await?;
    let settings = sink::settings(options, &states.journal_dir(), Duration::ZERO)?;
    let components = Components::system();
    let client = Client::new(&settings, &components);
    let table = client.table(&settings.table);
    let stored = committed::newest(&states, &settings.journal_dir, &table).await?;
    check_state(&stored.job, &settings.table_name())?;
    let description = client.catalog().table(&settings.table).await?;
    let schema = TableSchema::parse(&description)?;
    let rules = JobRules::of(&settings, &plugin, &schema)?;
    let scene = Scene {
        codec: RowCodec::new(schema, rules.hasher),
        spill: SpillDirectory::within(states.path())?,
        memory: arguments.memory,
        examples: arguments.examples as usize,
        name: settings.table.clone(),
        job,
        stored,
        client,
        table,
        description,
        rules,
        components,
    };
    let (mut report, changed) = scene.verify().await?;
    let changed_ms = scene.client.catalog().changed_at(&scene.name).await?.map(|at| at.0);
    let stored_ms = states.stored_at_ms(report.checkpoint);
    scene.note(&mut report, changed_ms.zip(stored_ms));
    drop(scene);
    if let Some(server) = server {
        server.shutdown().await?;
    }
    print(&report, arguments.report)?;
    ended(&report, &changed)
}

/// Refuses a job whose source cannot be read again.
fn check(job: &Job) -> anyhow::Result<()> {
    if job.paths.iter().any(|path| path == "-") {
        return Err(bad_input(
            "[source] path = \"-\": standard input cannot be read again, so there is nothing to \
             verify the table against; keep its rows in files, and let a job read those",
        ));
    }
    Ok(())
}

/// The state is of this table, and its files are those that were read.
fn check_state(state: &JobState, table: &str) -> anyhow::Result<()> {
    if state.table != table {
        return Err(bad_input(format!(
            "this --state belongs to a job that writes {}, not {table}; name the job's own",
            state.table
        )));
    }
    let mut read = state.files.iter().take(state.offset.file + 1);
    if state.files.iter().any(InputFile::is_standard_input) {
        return Err(bad_input("the job has read standard input, which cannot be read again"));
    }
    read.try_for_each(InputFile::check_unchanged)
}

impl Scene {
    /// Compares both sides. Also answers the partitions that were changed meanwhile.
    async fn verify(&self) -> anyhow::Result<(VerifyReport, Vec<String>)> {
        let mut partitions = Partitions::default();
        let expected = self.fold(&mut partitions)?;
        let listed = self.listed(&mut partitions).await?;
        let reader = TableReader {
            table: &self.table,
            codec: &self.codec,
            components: &self.components,
            answer_bytes: self.answer_bytes(),
        };
        let mut found = self.sums();
        let numbers: Vec<u32> = listed.iter().copied().collect();
        reader.sums(&numbers, &partitions, &mut found).await?;
        let (differing, buckets) = expected.sums.differing(&found, partitions.count());
        let mut report = VerifyReport {
            table: self.stored.job.table.clone(),
            checkpoint: self.stored.job.checkpoint,
            events: self.stored.job.events,
            equal: differing.is_empty(),
            partitions: partitions.count().into(),
            buckets,
            buckets_differing: differing.len() as u64,
            rows_expected: expected.sums.rows(),
            rows_found: found.rows(),
            rows_refused: expected.refused,
            times_cut: expected.cut,
            wrong_keys_complete: true,
            spilled_bytes: expected.folded.spilled_bytes,
            parts: expected.folded.leaves.len() as u64,
            ..VerifyReport::default()
        };
        let mut changed = Vec::new();
        if !differing.is_empty() {
            let search = Search {
                codec: &self.codec,
                reader: &reader,
                partitions: &partitions,
                listed: &listed,
                found: &found,
                differing: &differing,
                bytes_max: self.memory / bounded::SHARE,
                examples: self.examples,
            };
            let wrong = search.run(expected.folded, &self.spill).await?;
            changed.extend(wrong.changed.iter().map(|at| String::from(partitions.name(*at))));
            self.add_wrong(&wrong, &partitions, &mut report)?;
        }
        report.peak_rss_bytes = reports::peak_rss_bytes();
        Ok((report, changed))
    }

    /// Reads the source up to the checkpoint, and not one event further.
    fn fold(&self, partitions: &mut Partitions) -> anyhow::Result<Expected> {
        let place = RowPlace::of(&self.job, &self.description);
        let state = &self.stored.job;
        let open = |offset, batch_rows| {
            source::open(&self.job, &state.files, place.clone(), offset, batch_rows)
        };
        let mut input = open(Offset::default(), batch_rows(state.events))?;
        let mut changes = ChangeReader::new(&self.codec, &self.rules, &input.schema())?;
        let share = self.memory / bounded::SHARE;
        let mut fold = BoundedFold::new(&self.codec, &self.spill, share);
        let (mut read, mut end) = (0, Offset::default());
        while read < state.events {
            let left = state.events - read;
            if left < BATCH_ROWS_MAX as u64 {
                // A batch that ends where the checkpoint does.
                input = open(end, batch_rows(left))?;
            }
            let Some(events) = input.next()? else { break };
            changes.read(&events, read, partitions, &mut |key, to| fold.add(key, to))?;
            (read, end) = (read + events.events, events.end);
        }
        if (read, end) != (state.events, state.offset) {
            return Err(bad_input(format!(
                "the source has other events than the checkpoint was taken of: {read} up to \
                 {end:?}, not {} up to {:?}; read it with the job that wrote the table",
                state.events, state.offset
            )));
        }
        changes.finish(&mut |key, to| fold.add(key, to))?;
        let mut sums = self.sums();
        let folded = fold.finish(&mut |held| {
            let mut rows = held.rows.iter().filter_map(|(key, state)| Some((key, state.row()?)));
            rows.try_for_each(|(key, row)| sums.add(BucketPlace::of(key), row))
        })?;
        Ok(Expected { folded, sums, refused: changes.refused, cut: changes.cut() })
    }

    /// The partitions that the catalog lists; a table without partition columns is one.
    async fn listed(&self, partitions: &mut Partitions) -> anyhow::Result<BTreeSet<u32>> {
        if self.codec.schema.partition_columns.is_empty() {
            return Ok(BTreeSet::from([partitions.number("")]));
        }
        let names = self.client.catalog().partitions(&self.name).await?;
        Ok(names.iter().map(|name| partitions.number(name)).collect())
    }

    fn sums(&self) -> Sums {
        Sums::new(self.codec.schema.buckets, self.memory / sums::SHARE)
    }

    /// Rows take some times more memory than the answers that they come in, and some answers are
    /// held at once.
    fn answer_bytes(&self) -> usize {
        (self.memory / 4 / table::PARTITIONS_AT_ONCE / ROW_GROWTH).clamp(16 << 10, 1 << 20)
    }

    fn add_wrong(
        &self,
        wrong: &WrongKeys,
        partitions: &Partitions,
        report: &mut VerifyReport,
    ) -> anyhow::Result<()> {
        report.wrong_keys = wrong.count;
        report.wrong_keys_complete = !wrong.stopped;
        for key in &wrong.named {
            report.wrong.push(WrongRow::of(key, &self.codec, partitions)?);
        }
        Ok(())
    }

    /// Adds what the reader of a report should know, about a table that differs above all.
    fn note(&self, report: &mut VerifyReport, changed_and_stored_ms: Option<(u64, u64)>) {
        let notes = &mut report.notes;
        if self.rules.partial {
            notes.push(String::from(
                "rows are partial: the table was compared as if this job alone wrote it",
            ));
        }
        if report.equal {
            return;
        }
        if self.rules.at_least_once && !self.stored.job.finished {
            notes.push(String::from(
                "at-least-once: rows after the checkpoint may be visible; run the job to its end, \
                 then verify",
            ));
        }
        if let Some((changed_ms, stored_ms)) = changed_and_stored_ms
            && let after_ms = changed_ms.saturating_sub(stored_ms)
            && after_ms > COMMIT_MS_MAX
        {
            notes.push(format!(
                "the table was changed {} s after the checkpoint was stored: others may have \
                 written to it since",
                after_ms / 1000
            ));
        }
    }
}

fn batch_rows(events: u64) -> usize {
    usize::try_from(events).unwrap_or(BATCH_ROWS_MAX).clamp(1, BATCH_ROWS_MAX)
}

fn print(report: &VerifyReport, form: ReportForm) -> anyhow::Result<()> {
    if form == ReportForm::Json {
        return reports::print_json(report);
    }
    reports::print_lines(&report.lines());
    let lines: String = report.wrong.iter().map(|row| row.line() + "\n").collect();
    reports::print(&lines)
}

/// A difference is an error of its own kind; but not one that was seen while the table changed.
fn ended(report: &VerifyReport, changed: &[String]) -> anyhow::Result<()> {
    if let Some(partition) = changed.first() {
        anyhow::bail!(
            "{} changed while it was read, so the differences prove nothing; verify again while \
             nobody writes to it",
            table::shown(partition)
        );
    }
    if report.equal {
        return Ok(());
    }
    let or_more = if report.wrong_keys_complete { "" } else { " or more" };
    let message = format!(
        "the table differs from its source: {}{or_more} wrong keys in {} of {} buckets",
        reports::thousands(report.wrong_keys),
        reports::thousands(report.buckets_differing),
        reports::thousands(report.buckets)
    );
    Err(anyhow::Error::new(Differs(message)))
}

/// A size with room for the buffers that any table needs.
fn parse_memory(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(size(text)?.0).map_err(|error| error.to_string())?;
    match bytes {
        MEMORY_MIN.. => Ok(bytes),
        _ => Err(format!("`{text}` is too little: give at least 1mb")),
    }
}

/// Less would be used up by the buffers of sixteen slices.
const MEMORY_MIN: usize = 1 << 20;
/// Rows in memory take so many times the bytes of the answer that they came in.
const ROW_GROWTH: usize = 8;
/// A commit may follow its checkpoint by so much, and clocks may differ.
const COMMIT_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_written_as_sizes_are_everywhere() {
        assert_eq!(parse_memory("64 MiB"), Ok(64 << 20));
        assert_eq!(parse_memory("1048576"), Ok(1 << 20));
        assert!(parse_memory("1023kb").is_err_and(|error| error.contains("at least 1mb")));
        assert!(parse_memory("64 parsecs").is_err_and(|error| error.contains("64 MiB")));
    }
}
