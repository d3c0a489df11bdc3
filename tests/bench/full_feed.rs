//! The whole feed through the binary: events a second and the largest memory, server included.
//!
//! Runs the job three times in fresh directories. Invariant: it fails on a wrong result only.

use anyhow::Result;
use serde_json::Value;
use upsert_sink_tests::binary;
use upsert_sink_tests::feed::{self, Feed};

const ROUNDS: usize = 3;

fn run(feed: &Feed) -> Result<Value> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let job = feed::top().join("tests/jobs/flights-full.toml").display().to_string();
    let (data, state) = (place("data"), place("state"));
    let arguments = ["run", &job, "--data", &data, "--state", &state, "--report", "json"];
    let report = binary::run(&arguments)?.report()?;
    assert_eq!(report["events"], feed.events, "{report}");
    assert_eq!(report["rows"], feed.rows, "{report}");
    Ok(report)
}

fn main() -> Result<()> {
    let feed = Feed::chosen();
    println!("feed: {}, {} events; each round in a fresh directory\n", feed.name, feed.events);
    println!(
        "| events/s | peak memory, MB | freshness p50, ms | p99, ms | checkpoints | sessions |"
    );
    println!("|---|---|---|---|---|---|");
    for _ in 0..ROUNDS {
        let report = run(&feed)?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        println!(
            "| {:.0} | {:.0} | {:.0} | {:.0} | {} | {} |",
            number(&report["events_per_second"]),
            number(&report["peak_rss_bytes"]) / 1e6,
            number(&report["freshness_ms"]["p50"]),
            number(&report["freshness_ms"]["p99"]),
            report["checkpoints"],
            report["sessions"],
        );
    }
    Ok(())
}
