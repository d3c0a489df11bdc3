//! The status of a job: its last checkpoints and the advice, while it runs and afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{JSON, Place, SAMPLE, TABLE, assert_refused, report};

/// The sum of a figure over the checkpoints of a report.
fn sum(report: &Value, figure: &str) -> u64 {
    let records = report["ledger"].as_array().expect("a list");
    records.iter().map(|record| record.pointer(figure).and_then(Value::as_u64).expect(figure)).sum()
}

#[test]
fn every_row_pack_and_commit_is_in_one_checkpoints_record() {
    let place = Place::new();
    let job = include_str!("../../../../tests/jobs/flights-full.toml");
    place.write("job.toml", job.replace("${FLIGHTS_FEED}", SAMPLE));
    let run = ["run", "job.toml", "--checkpoint-interval", "100ms", "--report", "json"];
    let told = report(&place.run(&run));
    assert_eq!(sum(&told, "/rows"), 80_406);
    assert_eq!(sum(&told, "/commits/count"), told["commits"].as_u64().expect("a number"));
    assert_eq!(sum(&told, "/sent/records") + sum(&told, "/merged"), 80_406);
    assert_eq!(sum(&told, "/sent/bytes"), sum(&told, "/buckets/total"));
    let checkpoints = told["ledger"].as_array().expect("a list").len() as u64;
    assert_eq!(Some(checkpoints), told["checkpoints"].as_u64());
    for figure in ["network", "disk", "guest", "commit", "flush"] {
        assert!(sum(&told, &format!("/times_us/{figure}")) > 0, "{figure}");
    }
    assert!(told["advice"].is_array());
    let status = report(&place.run(&["status", "job.toml", "--report", "json"]));
    assert_eq!((&status["ledger"], &status["advice"]), (&told["ledger"], &told["advice"]));
}

#[test]
fn the_status_goes_on_over_restarts_and_says_what_to_set() {
    let place = Place::new();
    let pattern = place.path("part-*.json").display().to_string();
    let small = "\"upsert.writer.buffer-size\" = \"1kb\"\n\
        \"upsert.writer.bucket.buffer-size\" = \"1kb\"\n";
    let source = JSON.replace("${ROWS}", &pattern);
    place.write("job.toml", format!("{source}{TABLE}{small}"));
    place.write("part-a.json", "{\"op\":\"I\",\"id\":1,\"name\":\"ann\",\"day\":\"mon\"}\n");
    let told = place.job();
    assert_eq!(told["advice"][0]["rule"], "small-buffers");
    place.write("part-b.json", "{\"op\":\"U\",\"id\":1,\"name\":\"bob\",\"day\":\"mon\"}\n");
    place.job();
    let status = report(&place.run(&["status", "job.toml", "--report", "json"]));
    let starts = status["ledger"].as_array().expect("a list").iter().map(|one| &one["start"]);
    assert!(starts.clone().any(|start| *start == 1) && starts.clone().any(|start| *start == 2));
    let state = place.path("upsert-sink-state/job");
    let output = place.run(&["status", "--state", &state.display().to_string()]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("checkpoint  rows  merged"), "{text}");
    assert!(text.contains("advice: packs are small: 1 packs had"), "{text}");
    let text = String::from_utf8_lossy(&place.run(&["run", "job.toml"]).stdout).into_owned();
    assert!(!text.contains("advice"), "nothing was done: {text}");
}

#[test]
fn a_running_job_shows_its_checkpoints() {
    let place = Place::new();
    let sink = "\"sink.delivery-guarantee\" = \"at-least-once\"\n";
    place.write("job.toml", format!("{}{TABLE}{sink}", JSON.replace("${ROWS}", "-")));
    let status = ["status", "job.toml", "--report", "json"];
    assert_refused(&place.run(&status), 2, &["upsert-sink-state/job: there is none"]);
    let mut command = place.command(&["run", "job.toml", "--checkpoint-interval", "50ms"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut rows = child.stdin.take().expect("piped");
    let begun = lines.next().expect("a line").expect("text");
    assert!(begun.contains("starting"), "{begun}");
    // A first batch is handed over when it is full, or at the end: so many rows fill one.
    for id in 0..20_000 {
        writeln!(rows, "{{\"op\":\"I\",\"id\":{id},\"day\":\"mon\"}}").expect("it reads");
    }
    rows.flush().expect("it reads");
    let mut committed = lines.map(|line| line.expect("text"));
    assert!(committed.any(|line| line.starts_with("checkpoint 1: committed")), "it ended");
    let running = report(&place.run(&status));
    assert!(sum(&running, "/rows") > 0, "{running}");
    drop(rows);
    // The rest may have been committed by then.
    committed.for_each(drop);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(sum(&report(&place.run(&status)), "/rows"), 20_000);
}

#[test]
fn what_has_no_ledger_is_refused_with_the_remedy() {
    let place = Place::new();
    assert_refused(&place.run(&["status", "--state", "none"]), 2, &["none: there is none"]);
    std::fs::create_dir(place.path("empty")).expect("created");
    let words = ["no checkpoint is known to be committed", "run the job"];
    assert_refused(&place.run(&["status", "--state", "empty"]), 2, &words);
    assert_refused(&place.run(&["status", "none.toml"]), 2, &["none.toml"]);
}
