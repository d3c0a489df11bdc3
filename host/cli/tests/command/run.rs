//! Jobs: every source, going on where a run ended, and stopping cleanly.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::envelope::{create, image, job, update};
use crate::support::{JSON, Place, SAMPLE, TABLE, report};

fn flights(place: &Place) {
    let job = include_str!("../../../../tests/jobs/flights-full.toml");
    place.write("job.toml", job.replace("${FLIGHTS_FEED}", SAMPLE));
}

#[test]
fn a_parquet_feed_equals_its_independent_fold() {
    let place = Place::new();
    flights(&place);
    let run = ["run", "job.toml", "--verify", "--report", "json"];
    let first = report(&place.run(&run));
    assert_eq!(first["events"], 80_406);
    assert_eq!((&first["rows"], &first["partitions"]), (&json!(26_483), &json!(31)));
    assert_eq!(first["verified"], true);
    assert_eq!(first["http_requests"], first["server_http_requests"]);
}

#[test]
fn a_finished_job_does_nothing_and_says_so() {
    let place = Place::new();
    place.write("rows.json", "{\"op\":\"I\",\"id\":1,\"name\":\"ann\",\"day\":\"mon\"}\n");
    place.write("job.toml", format!("{JSON}{TABLE}"));
    assert_eq!(place.job()["events"], 1);
    let output = place.run(&["run", "job.toml", "--report", "json"]);
    assert_eq!(report(&output)["events"], 0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("this job is finished"));
}

#[test]
fn rows_of_json_insert_update_and_delete() {
    let place = Place::new();
    place.write(
        "rows.json",
        "{\"op\":\"I\",\"id\":1,\"name\":\"ann\",\"paid\":1.50,\"day\":\"mon\"}\n\
         {\"op\":\"I\",\"id\":2,\"name\":\"bob\",\"paid\":\"2.25\",\"day\":\"mon\"}\n\n\
         {\"op\":\"U\",\"id\":1,\"name\":\"ann\",\"paid\":3,\"day\":\"mon\"}\n\
         {\"op\":\"D\",\"id\":2,\"day\":\"mon\"}\n",
    );
    place.write("job.toml", format!("{JSON}{TABLE}"));
    let report = place.job();
    assert_eq!((&report["events"], &report["rows"]), (&json!(5), &json!(1)));
    let rows = place.query("SELECT id, name, paid, day FROM people");
    assert_eq!(rows.to_string(), "[[1,\"ann\",3.0,\"mon\"]]");
}

#[test]
fn debezium_changes_move_rows_between_partitions() {
    let place = Place::new();
    let ann =
        |day: &str| format!("{{\"id\":1,\"name\":\"ann\",\"paid\":\"1.00\",\"day\":\"{day}\"}}");
    let bob = "{\"id\":2,\"name\":\"bob\",\"paid\":null,\"day\":\"mon\"}";
    place.write(
        "rows.json",
        format!(
            "{{\"schema\":{{}},\"payload\":{{\"op\":\"r\",\"before\":null,\"after\":{}}}}}\n\
             {{\"op\":\"c\",\"before\":null,\"after\":{bob}}}\n\
             {{\"op\":\"u\",\"before\":{},\"after\":{}}}\n\
             {{\"op\":\"d\",\"before\":{bob},\"after\":null}}\nnull\n",
            ann("mon"),
            ann("mon"),
            ann("tue"),
        ),
    );
    let source = JSON.replace("\"json\"", "\"debezium\"").replace("op-column = \"op\"\n", "");
    place.write("job.toml", format!("{source}{TABLE}"));
    place.job();
    assert_eq!(place.query("SELECT id, day FROM people"), json!([[1, "tue"]]));
}

/// A key that is unique in the whole table: one envelope moves a row to another partition, one
/// gives it another key, one does both, and one changes it where it is.
#[test]
fn rows_that_move_leave_their_old_place() {
    let place = Place::new();
    let lines = [
        create(&image(1, "ann", "mon")),
        create(&image(2, "bob", "mon")),
        create(&image(3, "cid", "mon")),
        create(&image(4, "dee", "mon")),
        update(&image(1, "ann", "mon"), &image(1, "ann", "tue")),
        update(&image(2, "bob", "mon"), &image(20, "bob", "mon")),
        update(&image(3, "cid", "mon"), &image(30, "cid", "wed")),
        update(&image(4, "dee", "mon"), &image(4, "eve", "mon")),
        update(&image(1, "ann", "tue"), &image(1, "ann", "wed")),
    ];
    place.write("rows.json", lines.concat());
    place.write("job.toml", job("rows.json"));
    place.job();
    let rows = place.query("SELECT id, name, day FROM people ORDER BY id");
    let expected =
        json!([[1, "ann", "wed"], [4, "eve", "mon"], [20, "bob", "mon"], [30, "cid", "wed"]]);
    assert_eq!(rows, expected);
    // In another run, what moves finds its old place in the table.
    place.write("more.json", update(&image(1, "ann", "wed"), &image(1, "ann", "mon")));
    place.write("more.toml", job("more.json"));
    report(&place.run(&["run", "more.toml", "--report", "json"]));
    let rows = place.query("SELECT id, day FROM people WHERE id = 1");
    assert_eq!(rows, json!([[1, "mon"]]));
}

#[test]
fn an_op_column_may_have_before_images() {
    let place = Place::new();
    place.write(
        "rows.json",
        "{\"op\":\"+I\",\"id\":1,\"name\":\"ann\",\"day\":\"mon\"}\n\
         {\"op\":\"-U\",\"id\":1,\"name\":\"ann\",\"day\":\"mon\"}\n\
         {\"op\":\"+U\",\"id\":1,\"name\":\"ann\",\"day\":\"tue\"}\n",
    );
    let source = format!("{JSON}before-images = true\n");
    place.write("job.toml", format!("{source}{TABLE}\"sink.key.scope\" = \"table\"\n"));
    place.job();
    assert_eq!(place.query("SELECT id, day FROM people"), json!([[1, "tue"]]));
}

#[test]
fn a_job_runs_without_overlapping_sessions() {
    let place = Place::new();
    let job =
        include_str!("../../../../tests/jobs/flights-full.toml").replace("${FLIGHTS_FEED}", SAMPLE);
    place.write("job.toml", job.replace("[sink]\n", "[sink]\n\"sink.session.overlap\" = false\n"));
    let run = ["run", "job.toml", "--checkpoint-interval", "50ms", "--verify", "--report", "json"];
    assert_eq!(report(&place.run(&run))["verified"], true);
    assert_whole(&place);
}

#[test]
fn standard_input_is_read_at_least_once() {
    let place = Place::new();
    let source = JSON.replace("${ROWS}", "-");
    let sink = "\"sink.delivery-guarantee\" = \"at-least-once\"\n";
    place.write("job.toml", format!("{source}{TABLE}{sink}"));
    let rows = "{\"op\":\"I\",\"id\":7,\"day\":\"mon\"}\n{\"op\":\"I\",\"id\":8,\"day\":\"mon\"}";
    let output = place.run_with_input(&["run", "job.toml", "--report", "json"], rows);
    assert_eq!(report(&output)["events"], 2);
    assert_eq!(place.query("SELECT id FROM people ORDER BY id"), json!([[7], [8]]));
}

#[test]
fn files_that_come_later_are_read_by_the_next_run() {
    let place = Place::new();
    let pattern = place.path("part-*.json").display().to_string();
    place.write("job.toml", format!("{}{TABLE}", JSON.replace("${ROWS}", &pattern)));
    place.write("part-b.json", "{\"op\":\"I\",\"id\":1,\"name\":\"old\",\"day\":\"mon\"}\n");
    assert_eq!(place.job()["events"], 1);
    place.write("part-a.json", "{\"op\":\"U\",\"id\":1,\"name\":\"new\",\"day\":\"mon\"}\n");
    assert_eq!(place.job()["events"], 1);
    assert_eq!(place.query("SELECT name FROM people"), json!([["new"]]));
}

/// A table of people whose columns come from two jobs, for partial rows.
const PARTIAL: &str = "[table]\nname = \"people\"\n\
    columns = [\"id BIGINT\", \"name STRING\", \"city STRING\", \"paid BIGINT\"]\n\
    primary-key = [\"id\"]\nbuckets = 4\n\
    [sink]\n\"sink.parallelism\" = 2\n\"upsert.partial-column.enable\" = true\n";

/// A job over `file`, whose rows have these columns beside the key.
fn partial_job(place: &Place, file: &str, columns: &str, more: &str) {
    let path = place.path(file).display().to_string();
    let source = format!(
        "[source]\nformat = \"json\"\npath = {path:?}\nop-column = \"op\"\n\
         columns = [\"id BIGINT\", {columns}]\n"
    );
    place.write(&format!("{file}.toml"), format!("{source}{PARTIAL}{more}"));
}

#[test]
fn two_jobs_fill_the_columns_of_one_table() {
    let place = Place::new();
    place.write(
        "names.json",
        "{\"op\":\"I\",\"id\":1,\"name\":\"ann\"}\n{\"op\":\"I\",\"id\":2,\"name\":\"bob\"}\n\
         {\"op\":\"I\",\"id\":3,\"name\":\"cid\"}\n{\"op\":\"U\",\"id\":2,\"name\":\"ben\"}\n",
    );
    place.write(
        "cities.json",
        "{\"op\":\"I\",\"id\":1,\"city\":\"oslo\",\"paid\":5}\n\
         {\"op\":\"U\",\"id\":1,\"city\":null,\"paid\":6}\n\
         {\"op\":\"D\",\"id\":3}\n{\"op\":\"I\",\"id\":3,\"city\":\"rome\"}\n\
         {\"op\":\"I\",\"id\":4,\"city\":\"bonn\"}\n",
    );
    let run = |job: &str| report(&place.run(&["run", job, "--report", "json"]));
    let cities = "\"city STRING\", \"paid BIGINT\"";
    partial_job(&place, "names.json", "\"name STRING\"", "");
    partial_job(&place, "cities.json", cities, "");
    run("names.json.toml");
    run("cities.json.toml");
    let all = "SELECT id, name, city, paid FROM people ORDER BY id";
    let expected = json!([
        [1, "ann", "oslo", 6],
        [2, "ben", null, null],
        [3, null, "rome", null],
        [4, null, "bonn", null]
    ]);
    assert_eq!(place.query(all), expected);
    // A null of a static row is written.
    place.write("more.json", "{\"op\":\"U\",\"id\":1,\"city\":null,\"paid\":7}\n");
    partial_job(&place, "more.json", cities, "\"sink.partial-column.mode\" = \"static\"\n");
    run("more.json.toml");
    assert_eq!(
        place.query(&all.replace("ORDER", "WHERE id = 1 ORDER")),
        json!([[1, "ann", null, 7]])
    );
}

/// Each key gets one column after another, over and over, while the job is killed and goes on.
#[test]
fn a_killed_job_of_partial_rows_goes_on_exactly_once() {
    let place = Place::new();
    let mut rows = String::new();
    for n in 0..40_000 {
        let id = n % 997;
        let field = match n % 3 {
            0 => format!("\"name\":\"n{n}\""),
            1 => format!("\"city\":\"c{n}\""),
            _ => format!("\"paid\":{n}"),
        };
        rows += &format!("{{\"op\":\"I\",\"id\":{id},{field}}}\n");
        if n % 4_001 == 0 {
            rows += &format!("{{\"op\":\"D\",\"id\":{id}}}\n");
        }
    }
    place.write("rows.json", &rows);
    let columns = "\"name STRING\", \"city STRING\", \"paid BIGINT\"";
    partial_job(&place, "rows.json", columns, "");
    let run = ["run", "rows.json.toml", "--rate", "20000/s", "--checkpoint-interval", "100ms"];
    let mut child = place.command(&run).stderr(Stdio::piped()).spawn().expect("it starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = stderr.lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("checkpoint 2: stored")).expect("a second checkpoint");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let output = place.run(&["run", "rows.json.toml", "--report", "json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("restored checkpoint "));
    let expected = fold_of(&rows);
    let found = place.query("SELECT id, name, city, paid FROM people ORDER BY id");
    assert_eq!(found, serde_json::Value::Array(expected));
}

/// The rows of JSON lines, column by column.
fn fold_of(lines: &str) -> Vec<serde_json::Value> {
    let mut table = std::collections::BTreeMap::<u64, [serde_json::Value; 3]>::new();
    for line in lines.lines() {
        let row: serde_json::Value = serde_json::from_str(line).expect("an object");
        let id = row["id"].as_u64().expect("a key");
        if row["op"] == "D" {
            table.remove(&id);
            continue;
        }
        let stored = table.entry(id).or_default();
        for (stored, name) in stored.iter_mut().zip(["name", "city", "paid"]) {
            if !row[name].is_null() {
                *stored = row[name].clone();
            }
        }
    }
    table.into_iter().map(|(id, [name, city, paid])| json!([id, name, city, paid])).collect()
}

/// Starts the flights slowly, and waits until a checkpoint is stored.
fn start_slowly(place: &Place) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    flights(place);
    let run = ["run", "job.toml", "--rate", "20000/s", "--checkpoint-interval", "100ms"];
    let mut command: Command = place.command(&run);
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = stderr.lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("checkpoint 2: stored")).expect("a second checkpoint");
    (child, lines)
}

fn assert_whole(place: &Place) {
    let figures = place.query("SELECT count(*), sum(distance), sum(arr_delay) FROM flights");
    assert_eq!(figures, json!([[26_483, 26_859_611, 161_819]]));
    let sessions = place.run(&["sessions", "--report", "json"]);
    assert_eq!(report(&sessions)["open"], json!([]));
}

#[test]
fn a_killed_job_goes_on_exactly_once() {
    let place = Place::new();
    let (mut child, lines) = start_slowly(&place);
    child.kill().expect("killed");
    child.wait().expect("ended");
    drop(lines);
    let output = place.run(&["run", "job.toml", "--report", "json"]);
    let report = report(&output);
    assert!(String::from_utf8_lossy(&output.stderr).contains("restored checkpoint "));
    assert!(report["events"].as_u64().is_some_and(|events| events < 80_406), "{report}");
    assert_whole(&place);
}

#[test]
fn a_signal_stops_a_job_after_a_last_checkpoint() {
    let place = Place::new();
    let (mut child, lines) = start_slowly(&place);
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
    assert!(sent.success());
    let told: Vec<String> = lines.collect();
    assert!(child.wait().expect("ended").success(), "{told:?}");
    assert!(told.iter().any(|line| line.contains("stopped cleanly")), "{told:?}");
    let first = place.query("SELECT count(*) FROM flights");
    assert!(first[0][0].as_u64().is_some_and(|rows| rows > 0 && rows < 26_483), "{first}");
    place.job();
    assert_whole(&place);
}

/// With the year's feed if it is there, which has figures of its own, or with any that is named.
#[test]
fn a_large_feed_equals_its_independent_fold() {
    let year = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/flights_cdc.parquet");
    let feed = std::env::var("FLIGHTS_FEED").unwrap_or_else(|_| String::from(year));
    if !std::path::Path::new(&feed).exists() {
        eprintln!("the feed of the year is not there: set FLIGHTS_FEED to run this");
        return;
    }
    let place = Place::new();
    let job = include_str!("../../../../tests/jobs/flights-full.toml");
    place.write("job.toml", job.replace("${FLIGHTS_FEED}", &feed));
    let report = report(&place.run(&["run", "job.toml", "--verify", "--report", "json"]));
    assert_eq!(report["verified"], true);
    if report["events"] == 1_000_898 {
        assert_eq!(report["partitions"], 365);
        let figures = place.query("SELECT count(*), sum(dep_delay), sum(air_time) FROM flights");
        assert_eq!(figures, json!([[328_521, 4_152_200, 49_326_610]]));
    }
}
