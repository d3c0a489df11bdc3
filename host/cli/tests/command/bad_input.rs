//! Wrong input: each is refused by name and place, with a remedy and a code, and nothing panics.

use std::process::Output;

use crate::support::{JSON, Place, SAMPLE, TABLE, assert_refused};

/// Runs a job of these texts over these rows.
fn run(source: &str, table: &str, rows: &[u8]) -> Output {
    let place = Place::new();
    place.write("rows.json", rows);
    place.write("job.toml", format!("{source}{table}"));
    place.run(&["run", "job.toml"])
}

fn row(fields: &str) -> Vec<u8> {
    format!("{{\"op\":\"I\",{fields}}}\n").into_bytes()
}

const GOOD: &str = "\"id\":1,\"name\":\"ann\",\"paid\":1,\"day\":\"mon\"";

#[test]
fn a_misspelt_option_is_told_its_nearest_name() {
    for (written, meant) in [
        ("upsert.writer.buffer-sise", "upsert.writer.buffer-size"),
        ("tunnelEndpiont", "tunnelEndpoint"),
    ] {
        let table = format!("{TABLE}\"{written}\" = 1\n");
        assert_refused(&run(JSON, &table, &row(GOOD)), 2, &[written, meant]);
    }
}

#[test]
fn a_wrong_unit_is_named_with_its_option() {
    let table = format!("{TABLE}\"upsert.writer.buffer-size\" = \"64 parsecs\"\n");
    assert_refused(&run(JSON, &table, &row(GOOD)), 2, &["upsert.writer.buffer-size", "64 parsecs"]);
    let place = Place::new();
    let output = place.run(&["demo", "--checkpoint-interval", "1 parsec"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn a_missing_key_column_is_named() {
    let source = JSON.replace("\"id BIGINT\", ", "");
    assert_refused(&run(&source, TABLE, &row(GOOD)), 2, &["id"]);
}

#[test]
fn a_null_key_is_refused() {
    assert_refused(&run(JSON, TABLE, &row("\"name\":\"ann\",\"day\":\"mon\"")), 2, &["id"]);
}

#[test]
fn a_type_that_does_not_fit_the_table_is_named_with_both() {
    let source = JSON.replace("\"name STRING\"", "\"name BIGINT\"");
    let output = run(&source, TABLE, &row("\"id\":1,\"name\":1,\"day\":\"mon\""));
    assert_refused(&output, 2, &["name", "BIGINT"]);
}

#[test]
fn an_over_long_varchar_is_refused() {
    let output = run(JSON, TABLE, &row("\"id\":1,\"name\":\"abcdef\",\"day\":\"mon\""));
    assert_refused(&output, 2, &["name", "5"]);
}

#[test]
fn a_bad_decimal_is_named_by_line_and_column() {
    for paid in ["1.234", "1000", "\"x\""] {
        let mut rows = row(GOOD);
        rows.extend(row(&format!("\"id\":2,\"paid\":{paid},\"day\":\"mon\"")));
        assert_refused(&run(JSON, TABLE, &rows), 2, &["line 2", "`paid`", "DECIMAL(5, 2)"]);
    }
}

#[test]
fn malformed_json_and_bad_utf8_are_named_by_line() {
    let mut rows = row(GOOD);
    rows.extend(b"{\"op\":\"I\",\n");
    assert_refused(&run(JSON, TABLE, &rows), 2, &["rows.json, line 2", "malformed JSON"]);
    let mut rows = row(GOOD);
    rows.extend(b"\xff\n");
    assert_refused(&run(JSON, TABLE, &rows), 2, &["rows.json, line 2", "UTF-8"]);
}

#[test]
fn a_truncated_parquet_file_is_named() {
    let sample = std::fs::read(SAMPLE).expect("the sample");
    let source = "[source]\nformat = \"parquet\"\npath = \"${ROWS}\"\n";
    let output = run(source, TABLE, &sample[..sample.len() / 2]);
    assert_refused(&output, 2, &["rows.json", "no whole Parquet file"]);
}

#[test]
fn a_missing_file_and_a_pattern_without_one_are_named() {
    let source = JSON.replace("${ROWS}", "nowhere.json");
    assert_refused(&run(&source, TABLE, b""), 2, &["nowhere.json"]);
    let source = JSON.replace("${ROWS}", "nowhere-*.json");
    assert_refused(&run(&source, TABLE, b""), 2, &["nowhere-*.json", "no file matches"]);
    let place = Place::new();
    assert_refused(&place.run(&["run", "none.toml"]), 2, &["job file none.toml"]);
}

#[test]
fn an_unwritable_directory_is_named() {
    let place = Place::new();
    place.write("file", "");
    place.write("rows.json", row(GOOD));
    place.write("job.toml", format!("{JSON}{TABLE}"));
    let output = place.run(&["run", "job.toml", "--data", "file/data"]);
    assert_refused(&output, 1, &["file/data"]);
    let output = place.run(&["run", "job.toml", "--state", "file/state"]);
    assert_refused(&output, 1, &["file/state"]);
}

#[test]
fn exactly_once_from_standard_input_is_refused_with_the_remedy() {
    let source = JSON.replace("${ROWS}", "-");
    assert_refused(&run(&source, TABLE, b""), 2, &["standard input", "at-least-once"]);
}

#[test]
fn a_changed_file_and_a_newer_state_are_refused() {
    let place = Place::new();
    place.write("rows.json", row(GOOD));
    place.write("job.toml", format!("{JSON}{TABLE}"));
    place.job();
    place.write("rows.json", row(&GOOD.replace("ann", "bob")));
    let changed = place.run(&["run", "job.toml"]);
    assert_refused(&changed, 2, &["rows.json", "changed since it was first read"]);
    place.write("rows.json", row(GOOD));
    let state = place.path("upsert-sink-state/job/checkpoint-00000000000000000001.state");
    let mut bytes = std::fs::read(&state).expect("the first checkpoint");
    bytes[5] = 9;
    std::fs::write(&state, bytes).expect("written");
    let newer = place.run(&["run", "job.toml"]);
    assert_refused(&newer, 2, &["version 9 was written by a newer upsert-sink"]);
}

#[test]
fn a_second_job_on_the_same_state_is_refused() {
    let place = Place::new();
    place.write("rows.json", row(GOOD));
    place.write("job.toml", format!("{JSON}{TABLE}"));
    std::fs::create_dir(place.path("state")).expect("created");
    let lock = std::fs::File::create(place.path("state/lock")).expect("created");
    lock.lock().expect("locked");
    let output = place.run(&["run", "job.toml", "--state", "state"]);
    assert_refused(&output, 1, &["state directory state", "another job is running"]);
}

#[test]
fn a_port_in_use_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let place = Place::new();
    assert_refused(&place.run(&["serve", "--listen", &address]), 1, &[&address]);
}

#[test]
fn fault_rules_that_mean_nothing_are_refused_with_their_place_and_the_remedy() {
    let place = Place::new();
    place.write("faults.json", "{\"rules\": [{\"do\": {\"delay\": {\"seconds\": 3}}}]}");
    let serve = |file| place.run(&["serve", "--faults", file]);
    assert_refused(&serve("faults.json"), 2, &["faults.json", "rules[0]", "expected `ms`"]);
    assert_refused(&serve("none.json"), 1, &["none.json", "No such file"]);
    let slots = place.run(&["serve", "--slots", "0"]);
    assert_eq!(slots.status.code(), Some(2), "a limit of nothing is no limit to serve with");
    for latency in ["0s", "2.5", "2.0005s", "soon"] {
        assert_refused(&place.run(&["serve", "--commit-latency", latency]), 2, &[latency]);
    }
}

#[test]
fn an_endpoint_needs_credentials_from_the_environment() {
    let table = format!("{TABLE}endpoint = \"http://127.0.0.1:1/api\"\nproject = \"p\"\n");
    assert_refused(&run(JSON, &table, &row(GOOD)), 2, &["ALIBABA_CLOUD_ACCESS_KEY_ID"]);
}

#[test]
fn a_key_of_the_whole_table_without_before_images_is_refused() {
    let table = format!("{TABLE}\"sink.key.scope\" = \"table\"\n");
    let parts = ["sink.key.scope", "update-before", "`partition`"];
    assert_refused(&run(JSON, &table, &row(GOOD)), 2, &parts);
    let source = JSON.replace("op-column = \"op\"\n", "before-images = true\n");
    assert_refused(&run(&source, &table, &row(GOOD)), 2, &["before-images", "op-column"]);
    let source = source.replace("\"json\"", "\"debezium\"");
    let update = format!("{{\"op\":\"u\",\"after\":{{{GOOD}}}}}\n").into_bytes();
    let parts = ["line 1", "`before`", "before-images", "REPLICA IDENTITY FULL"];
    assert_refused(&run(&source, &table, &update), 2, &parts);
}

#[test]
fn a_rollover_without_overlapping_sessions_is_refused() {
    let table = format!("{TABLE}\"sink.session.overlap\" = false\n\"sink.doubt\" = \"rollover\"\n");
    let parts = ["sink.doubt", "sink.session.overlap", "`fail`"];
    assert_refused(&run(JSON, &table, &row(GOOD)), 2, &parts);
}

#[test]
fn a_server_is_not_opened_to_others_and_keys_have_one_place() {
    let place = Place::new();
    let serve = |arguments: &[&str]| place.run(&[&["serve"], arguments].concat());
    let open = serve(&["--listen", "0.0.0.0:0"]);
    assert_refused(&open, 2, &["0.0.0.0:0", "--auth strict"]);
    assert_refused(&serve(&["--auth", "strict"]), 2, &["--keys", "UPSERT_SINK_KEYS"]);
    assert_refused(&serve(&["--keys", "k.json"]), 2, &["--auth strict"]);
    assert_refused(&serve(&["--auth", "strict", "--keys", "k.json"]), 2, &["k.json"]);
    std::fs::write(place.path("k.json"), r#"[{"AccessKeyId":"a","AccessKeySecret":7}]"#)
        .expect("written");
    let strict = serve(&["--auth", "strict", "--keys", "k.json"]);
    assert_refused(&strict, 2, &["AccessKeySecret", "column"]);
}

/// A job of partial rows whose table was made by a job of whole rows.
#[test]
fn partial_rows_are_refused_where_table_or_options_do_not_allow_them() {
    let place = Place::new();
    place.write("rows.json", row(GOOD));
    place.write("job.toml", format!("{JSON}{TABLE}"));
    place.job();
    let partial = format!("{JSON}{TABLE}\"upsert.partial-column.enable\" = true\n");
    place.write("partial.toml", &partial);
    let words = [
        "`upsert.partial-column.enable`",
        "people",
        "'acid.partial.fields.update.enable'='true'",
        "write whole rows",
    ];
    assert_refused(&place.run(&["run", "partial.toml"]), 2, &words);
    let options = [
        ("\"sink.partial-column.mode\" = \"static\"\n", "`upsert.partial-column.enable` is false"),
        ("\"sink.partial-column.mode\" = \"some\"\n", "`dynamic`, `static`"),
        ("\"upsert.partial-column.enable\" = \"some\"\n", "`some` is not a boolean"),
    ];
    for (option, words) in options {
        assert_refused(&run(JSON, &format!("{TABLE}{option}"), &row(GOOD)), 2, &[words]);
    }
    let on = format!("{TABLE}\"upsert.partial-column.enable\" = true\n");
    let unknown = JSON.replace("\"name STRING\"", "\"nome STRING\"");
    assert_refused(&run(&unknown, &on, &row(GOOD)), 2, &["nome", "did you mean name?"]);
    let keyless = JSON.replace("\"id BIGINT\", ", "");
    assert_refused(&run(&keyless, &on, &row(GOOD)), 2, &["id", "primary key"]);
    let needed = on.replace("name VARCHAR(5)", "name VARCHAR(5) NOT NULL");
    let null = row("\"id\":1,\"paid\":1,\"day\":\"mon\"");
    assert_refused(&run(JSON, &needed, &null), 2, &["name", "it is null"]);
    let without = JSON.replace("\"name STRING\", ", "");
    assert_refused(&run(&without, &needed, &null), 2, &["name", "make it nullable"]);
    let source = "[source]\nformat = \"parquet\"\npath = \"${ROWS}\"\n";
    place.write("verify.toml", format!("{source}{on}"));
    assert_refused(&place.run(&["run", "verify.toml", "--verify"]), 2, &["--verify", "partial"]);
}
