//! The first command as a newcomer types it, and the file of options that the program writes.
//!
//! Runs the built binary in an empty directory. Invariant: every figure here is of an independent
//! fold of the feed.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use upsert_sink::Settings;
use upsert_sink_tests::plugin::plugin;
use upsert_sink_tests::{binary, feed};

fn demo(directory: &Path) -> Result<Value> {
    let directory = directory.display().to_string();
    binary::run(&["demo", "--dir", &directory, "--report", "json"])?.report()
}

/// The whole straight line in one command.
#[test]
fn the_demo_shows_the_table_that_the_feed_comes_to() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let report = demo(directory.path())?;
    println!("{report:#}");
    assert_eq!(report["events"], 80_406);
    assert_eq!(report["rows"], 26_483);
    assert_eq!(report["partitions"], 31);
    assert_eq!(report["sum_distance"], 26_859_611);
    assert_eq!(report["sum_arr_delay"], 161_819);
    assert_eq!(report["verified"], true);
    assert_eq!(report["http_requests"], report["server_http_requests"]);
    for key in ["sessions", "commits", "bytes", "http_requests", "checkpoints", "peak_rss_bytes"] {
        assert!(report[key].as_u64().is_some_and(|value| value > 0), "{key}: {}", report[key]);
    }
    assert!(report["events_per_second"].as_f64().is_some_and(|rate| rate > 0.0));
    let ledger = report["ledger"].as_array().expect("a list");
    let rows: u64 = ledger.iter().filter_map(|record| record["rows"].as_u64()).sum();
    assert_eq!(rows, 80_406, "each row is in one checkpoint's record");
    assert_eq!(report["advice"], json!([]), "a healthy run gets no advice");
    for key in ["p50", "p99"] {
        assert!(report["freshness_ms"][key].is_number(), "freshness_ms.{key}");
    }
    Ok(())
}

/// The table stays when the program has ended, and no session is left open.
#[test]
fn after_the_demo_the_table_can_be_queried_and_no_session_is_open() -> Result<()> {
    let directory = tempfile::tempdir()?;
    demo(directory.path())?;
    let data = directory.path().join("data").display().to_string();
    let sql = "SELECT count(*) AS n FROM flights WHERE day = '2013-01-01'";
    let answer = binary::run(&["query", sql, "--data", &data, "--report", "json"])?.report()?;
    assert!(answer["columns"].is_array(), "{answer}");
    let row = &answer["rows"][0];
    let count = row.get(0).or_else(|| row.get("n")).and_then(Value::as_i64);
    // 842 flights were scheduled that day; those that were cancelled are deleted.
    assert!(count.is_some_and(|count| (800..=842).contains(&count)), "{answer}");
    let sessions = binary::run(&["sessions", "--data", &data, "--report", "json"])?.report()?;
    assert_eq!(sessions["open"], json!([]));
    Ok(())
}

/// The import list is the security statement.
#[test]
fn the_component_imports_nothing_but_the_contract() -> Result<()> {
    let report = binary::run(&["inspect", "--report", "json"])?.report()?;
    let names = |key: &str| report[key].as_array().cloned().unwrap_or_default();
    assert!(!names("imports").is_empty(), "{report}");
    for import in names("imports") {
        let import = import.as_str().unwrap_or_default();
        assert!(import.starts_with("upsert-sink:plugin/"), "{import}");
    }
    assert_eq!(names("exports").len(), 5, "{report}");
    assert_eq!(report["sha256"].as_str().map(str::len), Some(64));
    Ok(())
}

/// The file of options is what the program prints, word for word.
#[test]
fn the_file_of_options_is_what_the_program_prints() -> Result<()> {
    let kept = std::fs::read_to_string(feed::top().join("host/cli/options.md"))?;
    let printed = binary::run(&["options", "--report", "markdown"])?;
    assert!(printed.status.success(), "{}", printed.stderr);
    assert!(
        kept == printed.stdout,
        "the program prints other options; write the file anew:\n\
         cargo run --release -- options --report markdown > host/cli/options.md"
    );
    Ok(())
}

/// Each option has one owner.
#[test]
fn options_of_guest_and_host_are_disjoint() -> Result<()> {
    let guest = plugin().options()?;
    let guest: BTreeSet<String> = guest.into_iter().map(|option| option.name).collect();
    let host: BTreeSet<String> = Settings::describe().into_iter().map(|doc| doc.name).collect();
    assert!(guest.is_disjoint(&host), "{:?}", guest.intersection(&host));
    assert!(guest.len() > 10 && host.len() > 5, "{} and {}", guest.len(), host.len());
    Ok(())
}
