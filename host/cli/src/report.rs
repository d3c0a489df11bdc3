//! The report of a command, as one JSON document or for people.
//!
//! The last thing a command prints. Invariant: keys are only ever added; a figure that is not known
//! is null, never a guess.

use std::io::Write;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use upsert_sink::ledger::{CheckpointRecord, Hint};

use crate::engine::RunOutcome;

/// How a command reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportForm {
    /// For people.
    #[default]
    Text,
    /// One JSON document on standard output; everything else goes to standard error.
    Json,
}

/// The report of `demo` and `run`.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct JobReport {
    /// Events handed over by this run.
    pub(crate) events: u64,
    /// Rows of the table now.
    pub(crate) rows: Option<u64>,
    /// Partitions of the table that have rows.
    pub(crate) partitions: Option<u64>,
    /// The demo's sum of distances, in miles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sum_distance: Option<i64>,
    /// The demo's sum of arrival delays, in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sum_arr_delay: Option<i64>,
    /// Whether the table equals the independent fold of the feed; null if it was not compared.
    pub(crate) verified: Option<bool>,
    /// Sessions created.
    pub(crate) sessions: u64,
    /// Sessions committed.
    pub(crate) commits: u64,
    /// Bytes of packs sent.
    pub(crate) bytes: u64,
    /// Requests the client sent.
    pub(crate) http_requests: u64,
    /// Requests the embedded server answered; null with another endpoint.
    pub(crate) server_http_requests: Option<u64>,
    /// Events per second, until the last commit was known.
    pub(crate) events_per_second: u64,
    /// Handed over → visible.
    pub(crate) freshness_ms: Percentiles,
    /// The most memory this process had, the embedded server included.
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Checkpoints completed.
    pub(crate) checkpoints: u64,
    /// Time between two checkpoints, at most.
    pub(crate) checkpoint_interval_ms: u64,
    /// Whether the input was read to its end.
    pub(crate) finished: bool,
    /// The newest checkpoints of this run.
    pub(crate) ledger: Vec<CheckpointRecord>,
    /// Options to set, as far as they tell.
    pub(crate) advice: Vec<Hint>,
}

/// Two percentiles in milliseconds; null without rows.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Percentiles {
    /// Half of the rows were visible so soon.
    pub(crate) p50: Option<u64>,
    /// 99 of 100 rows were.
    pub(crate) p99: Option<u64>,
}

impl JobReport {
    /// Takes over what the engine counted.
    pub(crate) fn of(outcome: &RunOutcome, interval: Duration) -> Self {
        let events_per_second = outcome.events * 1000 / outcome.elapsed_ms.max(1);
        Self {
            events: outcome.events,
            events_per_second,
            freshness_ms: Percentiles {
                p50: outcome.freshness.percentile(50),
                p99: outcome.freshness.percentile(99),
            },
            checkpoints: outcome.checkpoints,
            checkpoint_interval_ms: u64::try_from(interval.as_millis()).unwrap_or(u64::MAX),
            finished: outcome.finished,
            ledger: outcome.ledger.records.clone(),
            advice: outcome.ledger.advice(),
            ..Self::default()
        }
    }

    /// Takes over what the sink counted.
    pub(crate) fn with_metrics(mut self, metrics: &upsert_sink::Metrics) -> Self {
        self.sessions = metrics.sessions_created;
        self.commits = metrics.commits;
        self.bytes = metrics.bytes_sent;
        self.http_requests = metrics.http_requests;
        self
    }

    /// The figures that every job has, one per line.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![(
            "events",
            format!("{} at {}/s", thousands(self.events), thousands(self.events_per_second)),
        )];
        if let (Some(rows), Some(partitions)) = (self.rows, self.partitions) {
            lines.push(("table", format!("{} rows in {partitions} partitions", thousands(rows))));
        }
        lines.push((
            "checkpoints",
            format!("{}, every {} ms at the latest", self.checkpoints, self.checkpoint_interval_ms),
        ));
        lines.push(("sessions", format!("{} created, {} committed", self.sessions, self.commits)));
        lines.push((
            "sent",
            format!("{} in {} requests", bytes(self.bytes), thousands(self.http_requests)),
        ));
        if let (Some(p50), Some(p99)) = (self.freshness_ms.p50, self.freshness_ms.p99) {
            lines.push((
                "freshness",
                format!("p50 {p50} ms, p99 {p99} ms from handed over to visible"),
            ));
        }
        if let Some(peak) = self.peak_rss_bytes {
            lines.push(("memory", format!("{} at most", bytes(peak))));
        }
        lines.extend(self.advice.iter().map(|hint| ("advice", hint.words.clone())));
        lines
    }
}

/// Prints names and values, aligned.
pub(crate) fn print_lines(lines: &[(&'static str, String)]) {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for (name, value) in lines {
        println!("  {name:<width$}  {value}");
    }
}

/// Prints text that a reader may stop reading, as `| head` does: that is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// Prints a document and nothing else.
pub(crate) fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    print(&(serde_json::to_string_pretty(document)? + "\n"))
}

/// The most memory that this process had so far, in bytes; none where the system does not tell.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A number with its thousands apart.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of bytes for people.
pub(crate) fn bytes(number: u64) -> String {
    match number {
        0..1024 => format!("{number} B"),
        1024..0x10_0000 => format!("{:.1} KiB", number as f64 / 1024.0),
        _ => format!("{:.1} MiB", number as f64 / f64::from(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000_898), "1,000,898");
    }

    #[test]
    fn the_system_tells_the_peak_memory() {
        assert!(peak_rss_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn unknown_figures_are_null() {
        let json = serde_json::to_value(JobReport::default()).expect("serialisable");
        assert!(json["verified"].is_null() && json["rows"].is_null());
        assert!(json.get("sum_distance").is_none());
    }
}
