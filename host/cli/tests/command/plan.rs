//! Plans of jobs: what is foreseen is what a run comes to, and a job that will not hold is told
//! what to set.

use serde_json::{Value, json};

use crate::support::{JSON, Place, SAMPLE, TABLE, assert_refused, report};

/// A job over so many rows in two partitions, each key twice.
fn place(rows: u64) -> Place {
    let place = Place::new();
    place.write("job.toml", format!("{}{TABLE}", JSON.replace("${ROWS}", "rows.json")));
    let row = |id: u64| {
        let (key, day) = (id / 2, if (id / 2).is_multiple_of(2) { "mon" } else { "tue" });
        format!("{{\"op\":\"U\",\"id\":{key},\"name\":\"n{}\",\"day\":\"{day}\"}}\n", id % 2)
    };
    place.write("rows.json", (0..rows).map(row).collect::<String>());
    place
}

fn number(value: &Value, figure: &str) -> u64 {
    value.pointer(figure).and_then(Value::as_u64).expect(figure)
}

/// One checkpoint of the whole feed: rows, packs, partitions and bytes are those of the run.
#[test]
fn the_load_that_is_foreseen_is_the_load_of_the_run() {
    let place = Place::new();
    let job = include_str!("../../../../tests/jobs/flights-full.toml");
    place.write("job.toml", job.replace("${FLIGHTS_FEED}", SAMPLE));
    let hour = ["--checkpoint-interval", "1h", "--report", "json"];
    let plan = ["plan", "job.toml", "--rate", "23/s", "--sample", "1000000"];
    let planned = report(&place.run(&[plan.as_slice(), &hour].concat()));
    // 82,800 events are expected in an hour, and the sample's 80,406 stand for them.
    let share = 82_800.0 / 80_406.0;
    let run = report(&place.run(&[["run", "job.toml"].as_slice(), &hour].concat()));
    let record = &run["ledger"][0];
    assert_eq!(run["ledger"].as_array().map(Vec::len), Some(1), "one checkpoint");
    assert_eq!(number(&planned, "/load/partitions"), number(record, "/partitions"));
    assert_eq!(number(&planned, "/forecast/packs"), number(record, "/sent/packs"));
    let requests = number(&planned, "/forecast/requests");
    assert_eq!(requests, number(record, "/sent/packs") + 2 * number(record, "/partitions"));
    for (planned, measured) in [
        (number(&planned, "/load/rows_sent"), number(record, "/sent/records")),
        (number(&planned, "/forecast/bytes"), number(record, "/sent/bytes")),
    ] {
        let ratio = planned as f64 / share / measured as f64;
        assert!((0.75..1.25).contains(&ratio), "{planned} foreseen, {measured} measured");
    }
    let broken: &[Value] = planned["forecast"]["broken"].as_array().expect("a list");
    assert!(broken.is_empty(), "{broken:?}");
    // The next plan rests on what this run has measured.
    let again = report(&place.run(&[plan.as_slice(), &hour].concat()));
    assert_eq!(again["costs_from"], "the job's ledger");
    assert_eq!(number(&again, "/costs/commit_ms"), number(record, "/commits/median_ms").max(1));
}

#[test]
fn a_job_that_will_not_hold_ends_with_what_to_set() {
    let place = place(1000);
    let plan = ["plan", "job.toml", "--rate", "1000/s", "--checkpoint-interval", "60s"];
    let slow = ["--commit-time", "2.5s", "--pack-time", "50ms", "--partitions", "90"];
    let holds = place.run(&[plan.as_slice(), &slow].concat());
    let text = String::from_utf8_lossy(&holds.stdout).into_owned();
    assert!(holds.status.success() && text.contains("verdict     holds"), "{text}");
    assert!(text.contains("2,500 ms a commit, 50 ms a pack (the arguments)"), "{text}");
    let many = ["--commit-time", "2.5s", "--pack-time", "50ms", "--partitions", "1000"];
    let output = place.run(&[plan.as_slice(), &many].concat());
    let words = "will be refused: a writer gets rows of 1000 partitions";
    assert_refused(&output, 4, &[words, "`sink.dynamic-partition.limit` = 100"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = "1000 partitions × 2.5 s ÷ 16 threads = 157.5 s against 60 s";
    assert!(text.contains(words) && text.contains("interval to 80 s"), "{text}");
    assert!(!place.path("upsert-sink-data").exists(), "no server was started");
    assert!(!place.path("upsert-sink-state").exists(), "and nothing was written");
}

#[test]
fn rows_that_are_replaced_before_they_are_sent_are_not_counted() {
    let place = place(1000);
    let plan = ["plan", "job.toml", "--rate", "1000/s", "--report", "json"];
    let planned = report(&place.run(&plan));
    assert_eq!(planned["load"]["rows"], json!(1000));
    assert_eq!(planned["load"]["rows_sent"], json!(500));
    assert_eq!(planned["load"]["partitions"], json!(2));
    assert_eq!(planned["load"]["buckets_touched"], json!(8));
    let fewer = ["plan", "job.toml", "--rate", "100/s", "--report", "json", "--row-bytes", "77"];
    let planned = report(&place.run(&fewer));
    assert_eq!(planned["load"]["rows_sent"], json!(50), "the beginning of the sample");
    assert_eq!(planned["load"]["row_bytes"], json!(77));
}

#[test]
fn what_cannot_be_planned_is_refused_with_the_remedy() {
    let place = place(0);
    let plan = ["plan", "job.toml", "--rate", "100/s"];
    assert_refused(&place.run(&plan), 2, &["no rows yet"]);
    assert_refused(&place.run(&["plan", "job.toml"]), 2, &["--rate"]);
    place.write("rows.json", "{\"op\":\"U\",\"id\":1,\"day\":\"mon\"}\n");
    let endless = ["plan", "job.toml", "--rate", "18446744073709551615/s"];
    assert_refused(&place.run(&endless), 2, &["--rate", "at most 1000000000"]);
    assert_refused(&place.run(&["plan", "none.toml", "--rate", "1/s"]), 2, &["none.toml"]);
    let elsewhere = [plan.as_slice(), &["--state", "none"]].concat();
    place.write("rows.json", "{\"op\":\"U\",\"id\":1,\"day\":\"mon\"}\n");
    assert_refused(&place.run(&elsewhere), 2, &["--state none", "name the job's"]);
    place.write("rows.json", "{\"op\":\"U\",\"id\":\"one\",\"day\":\"mon\"}\n");
    assert_refused(&place.run(&plan), 2, &["rows.json", "id"]);
    place.write("job.toml", format!("{}{TABLE}", JSON.replace("${ROWS}", "-")));
    assert_refused(&place.run(&plan), 2, &["standard input", "a file"]);
}
