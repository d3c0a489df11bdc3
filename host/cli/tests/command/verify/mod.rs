//! `verify`: a table that is as its source says, every way in which one may not be, and whatever
//! cannot be verified.

mod checkpoints;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use upsert_sink_format::id::Hours;
use upsert_sink_format::record::{Op, Value as Cell};
use upsert_sink_tunnel::components::Components;
use upsert_sink_tunnel::{Client, ClientSettings, CredentialSource, Credentials, Secret};

use crate::support::envelope::{create, delete, image, job, update};
use crate::support::{JSON, Place, SAMPLE, Server, TABLE, assert_refused, report};

/// A foreign write: a partition, an operation, and a row.
type Foreign = (&'static str, Op, Vec<Option<Cell>>);

fn flights(place: &Place) {
    let job = include_str!("../../../../../tests/jobs/flights-full.toml");
    place.write("job.toml", job.replace("${FLIGHTS_FEED}", SAMPLE));
}

fn verify(place: &Place, more: &[&str]) -> Output {
    place.run(&[&["verify", "job.toml", "--report", "json"], more].concat())
}

/// The report of a table that is as its source says.
fn equal(place: &Place, more: &[&str]) -> Value {
    let report = report(&verify(place, more));
    assert_eq!(report["equal"], true, "{report}");
    assert_eq!(report["rows_expected"], report["rows_found"]);
    assert!(!place.path("upsert-sink-state/job/verify").exists(), "spilled rows are left");
    report
}

/// The report of a table that is not.
fn different(place: &Place, more: &[&str]) -> Value {
    let output = verify(place, more);
    assert_refused(&output, 3, &["the table differs from its source"]);
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// A job of people over JSON lines, run to its end.
fn people(rows: &str) -> Place {
    let place = Place::new();
    place.write("rows.json", rows);
    place.write("job.toml", format!("{JSON}{TABLE}"));
    place.job();
    place
}

fn person(id: u64, name: &str, day: &str) -> String {
    format!("{{\"op\":\"I\",\"id\":{id},\"name\":\"{name}\",\"paid\":1.5,\"day\":\"{day}\"}}\n")
}

/// A row of people, as another program would write it.
fn row(id: i64, name: &str) -> Vec<Option<Cell>> {
    vec![Some(Cell::Int(id)), Some(Cell::Bytes(name.into())), Some(Cell::Decimal(150))]
}

fn client(endpoint: &str) -> Client {
    let endpoint = endpoint.parse().expect("a URL");
    let mut settings = ClientSettings::new(endpoint, "local".parse().expect("a name"));
    settings.credentials = CredentialSource::Given(Credentials {
        access_id: String::from("local"),
        access_key: Secret::new("local"),
        sts_token: None,
    });
    Client::new(settings, &Components::system())
}

/// Writes to a table past the job, as another program would.
fn write_past_the_job(place: &Place, table: &str, rows: Vec<Foreign>) {
    write_at(&Server::start(place).endpoint, table, rows);
}

/// The same, at a server that runs.
fn write_at(endpoint: &str, table: &str, rows: Vec<Foreign>) {
    let writes = async {
        let table = client(endpoint).table(&table.parse().expect("a name"));
        for (partition, op, row) in rows {
            if !partition.is_empty() {
                table.create_partition(partition).await.expect("created");
            }
            let session = table.create_session(partition, Hours(1), 1).await.expect("created");
            let mut packs = session.packs().expect("known types");
            packs.add(op, &row).expect("of this table");
            for pack in packs.finish() {
                session.put_pack(&pack).await.expect("acknowledged");
            }
            session.commit().await.expect("committed");
        }
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(writes);
}

#[test]
fn a_table_that_equals_its_source_verifies_and_every_bucket_and_row_is_counted() {
    let place = Place::new();
    flights(&place);
    place.job();
    let report = equal(&place, &[]);
    assert_eq!((&report["events"], &report["rows_found"]), (&json!(80_406), &json!(26_483)));
    assert_eq!((&report["partitions"], &report["buckets"]), (&json!(31), &json!(31 * 8)));
    assert_eq!((&report["buckets_differing"], &report["wrong_keys"]), (&json!(0), &json!(0)));
    assert_eq!(report["spilled_bytes"], 0);
    let text = place.run(&["verify", "job.toml"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("26,483 in the fold of the source, 26,483 in the table"), "{text}");
    assert!(text.contains("248 of 31 partitions compared, 0 differ"), "{text}");
}

#[test]
fn a_missing_a_stale_and_an_extra_row_are_named_by_their_keys() {
    let rows: String = (1..=40).map(|id| person(id, "ann", "mon")).collect();
    let place = people(&(rows + &person(50, "bob", "tue")));
    let mon = "day='mon'";
    write_past_the_job(
        &place,
        "people",
        vec![
            (mon, Op::Delete, row(7, "")),
            (mon, Op::Upsert, row(8, "eve")),
            (mon, Op::Upsert, row(99, "new")),
            ("day='wed'", Op::Upsert, row(50, "bob")),
        ],
    );
    let report = different(&place, &[]);
    assert_eq!((&report["rows_expected"], &report["rows_found"]), (&json!(41), &json!(42)));
    assert_eq!((&report["wrong_keys"], &report["wrong_keys_complete"]), (&json!(4), &json!(true)));
    assert_eq!((&report["partitions"], &report["buckets"]), (&json!(3), &json!(12)));
    let mut wrong = report["wrong"].as_array().expect("a list").clone();
    wrong.sort_by_key(|row| row["mismatch"].to_string() + &row["key"].to_string());
    let shown = |row: &Value| {
        (row["mismatch"].clone(), row["partition"].clone(), row["key"][0]["value"].clone())
    };
    let expected = [("extra", mon, "99"), ("extra", "day='wed'", "50")]
        .into_iter()
        .chain([("missing", mon, "7"), ("stale", mon, "8")])
        .map(|(fault, partition, id)| (json!(fault), json!(partition), json!(id)));
    let mut expected: Vec<_> = expected.collect();
    expected.sort_by_key(|(fault, _, id)| format!("{fault}{id}"));
    let mut found: Vec<_> = wrong.iter().map(shown).collect();
    found.sort_by_key(|(fault, _, id)| format!("{fault}{id}"));
    assert_eq!(found, expected);
    let stale = wrong.iter().find(|row| row["mismatch"] == "stale").expect("it is named");
    let difference = json!([{"name": "name", "expected": "\"ann\"", "found": "\"eve\""}]);
    assert_eq!(stale["columns"], difference);
    let text = place.run(&["verify", "job.toml", "--examples", "2"]);
    assert_refused(&text, 3, &["4 wrong keys in"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    let named = ["missing", "stale", "extra"].map(|fault| text.matches(fault).count());
    assert_eq!(named.iter().sum::<usize>(), 2, "{text}");
}

#[test]
fn less_memory_than_the_rows_take_finds_the_same() {
    let place = Place::new();
    flights(&place);
    place.job();
    let report = equal(&place, &["--memory", "1mb"]);
    assert!(report["spilled_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{report}");
    assert!(report["parts"].as_u64().is_some_and(|parts| parts >= 16), "{report}");
    assert_eq!(report["rows_found"], 26_483);
    delete_flights(&place);
    let all = different(&place, &["--examples", "1000"]);
    let within = different(&place, &["--examples", "1000", "--memory", "1mb"]);
    let sorted = |report: &Value| {
        let mut wrong: Vec<String> =
            report["wrong"].as_array().expect("a list").iter().map(Value::to_string).collect();
        wrong.sort();
        wrong
    };
    assert_eq!(all["wrong_keys"], 3);
    assert_eq!(sorted(&all), sorted(&within));
    assert_eq!(all["buckets_differing"], within["buckets_differing"]);
}

/// Deletes three flights of three days past the job.
fn delete_flights(place: &Place) {
    let server = Server::start(place);
    let days = ["2013-01-02", "2013-01-15", "2013-01-31"];
    let deletes = async {
        let table = client(&server.endpoint).table(&"flights".parse().expect("a name"));
        for day in days {
            let partition = format!("day='{day}'");
            let download = table.download(&partition).await.expect("begun");
            let rows = download.read(3, 1).await.expect("a row");
            let session = table.create_session(&partition, Hours(1), 1).await.expect("created");
            let mut packs = session.packs().expect("known types");
            packs.add(Op::Delete, &rows[0]).expect("of this table");
            for pack in packs.finish() {
                session.put_pack(&pack).await.expect("acknowledged");
            }
            session.commit().await.expect("committed");
        }
    };
    tokio::runtime::Runtime::new().expect("a runtime").block_on(deletes);
}

/// Starts a job slowly, and waits until some checkpoints are stored.
fn start_slowly(place: &Place) -> (std::process::Child, impl Iterator<Item = String> + use<>) {
    let run = ["run", "job.toml", "--rate", "20000/s", "--checkpoint-interval", "100ms"];
    let mut child = place.command(&run).stderr(Stdio::piped()).spawn().expect("it starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = stderr.lines().map_while(Result::ok);
    lines.by_ref().filter(|line| line.contains(": stored")).nth(2).expect("a third checkpoint");
    (child, lines)
}

fn stop(mut child: std::process::Child, lines: impl Iterator<Item = String>) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill is there");
    assert!(sent.success());
    lines.for_each(drop);
    assert!(child.wait().expect("ended").success());
}

#[test]
fn a_stopped_job_is_verified_up_to_its_checkpoint_and_no_further() {
    let place = Place::new();
    flights(&place);
    let (child, lines) = start_slowly(&place);
    stop(child, lines);
    let report = equal(&place, &[]);
    let events = report["events"].as_u64().expect("a number");
    assert!(events > 0 && events < 80_406, "{report}");
    assert!(report["rows_found"].as_u64().is_some_and(|rows| rows < 26_483), "{report}");
}

/// Records of several lines, so that places in the file are no multiples of anything.
#[test]
fn a_stopped_job_over_csv_is_verified_at_the_record_where_it_stopped() {
    let place = Place::new();
    let mut rows = String::from("op,id,name,paid,day\n");
    for n in 0..40_000 {
        let name = if n % 7 == 0 { "\"a\n\"\"b\"" } else { "plain" };
        rows += &format!("U,{},{name},{}.25,d{}\n", n % 9_000, n % 900, n % 3);
    }
    place.write("rows.csv", rows);
    let source = JSON.replace("\"json\"", "\"csv\"").replace("${ROWS}", "rows.csv");
    place.write("job.toml", format!("{source}{TABLE}"));
    let (child, lines) = start_slowly(&place);
    stop(child, lines);
    let report = equal(&place, &[]);
    assert!(report["events"].as_u64().is_some_and(|events| events < 40_000), "{report}");
}

/// Whenever it is killed: the table is never accused of what the job has not committed yet.
#[test]
fn a_killed_job_is_verified_or_told_to_run_again_and_never_accused() {
    let place = Place::new();
    flights(&place);
    let mut verified = 0;
    for _ in 0..3 {
        let (mut child, lines) = start_slowly(&place);
        child.kill().expect("killed");
        child.wait().expect("ended");
        drop(lines);
        let output = verify(&place, &[]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => verified += 1,
            _ => assert!(message.contains("run the job again"), "{message}"),
        }
    }
    eprintln!("verified after {verified} of 3 kills");
    place.job();
    assert_eq!(equal(&place, &[])["rows_found"], 26_483);
}

#[test]
fn files_that_came_after_the_checkpoint_are_not_folded() {
    let place = Place::new();
    let pattern = place.path("part-*.json").display().to_string();
    place.write("job.toml", format!("{}{TABLE}", JSON.replace("${ROWS}", &pattern)));
    place.write("part-a.json", person(1, "ann", "mon"));
    place.job();
    place.write("part-b.json", person(2, "bob", "mon"));
    assert_eq!(equal(&place, &[])["rows_expected"], 1);
    place.job();
    assert_eq!(equal(&place, &[])["rows_expected"], 2);
}

/// Deletes, rows that move to another key or partition, and keys of the whole table.
#[test]
fn rows_that_were_deleted_or_moved_are_not_expected_where_they_were() {
    let place = Place::new();
    let lines = [
        create(&image(1, "ann", "mon")),
        create(&image(2, "bob", "mon")),
        create(&image(3, "cid", "mon")),
        update(&image(1, "ann", "mon"), &image(1, "ann", "tue")),
        update(&image(2, "bob", "mon"), &image(20, "bob", "mon")),
        update(&image(3, "cid", "mon"), &image(3, "eve", "mon")),
        delete(&image(20, "bob", "mon")),
    ];
    place.write("rows.json", lines.concat());
    place.write("job.toml", job("rows.json"));
    place.job();
    assert_eq!(equal(&place, &[])["rows_expected"], 2);
    // A row that did not leave its old partition.
    write_past_the_job(&place, "people", vec![("day='mon'", Op::Upsert, row(1, "ann"))]);
    assert_eq!(different(&place, &[])["wrong"][0]["mismatch"], "extra");
}

#[test]
fn a_deleted_row_that_is_back_is_extra() {
    let delete = "{\"op\":\"D\",\"id\":1,\"day\":\"mon\"}\n";
    let place = people(&(person(1, "ann", "mon") + delete + &person(2, "bob", "mon")));
    assert_eq!(equal(&place, &[])["rows_expected"], 1);
    write_past_the_job(&place, "people", vec![("day='mon'", Op::Upsert, row(1, "ann"))]);
    let report = different(&place, &[]);
    assert_eq!(report["wrong"][0]["mismatch"], "extra");
    assert_eq!(report["wrong_keys"], 1);
}

/// A table of people whose rows are partial.
const PARTIAL: &str = "[table]\nname = \"people\"\n\
    columns = [\"id BIGINT\", \"name STRING\", \"city STRING\", \"paid BIGINT\"]\n\
    primary-key = [\"id\"]\nbuckets = 4\n[sink]\n\"upsert.partial-column.enable\" = true\n";

#[test]
fn partial_rows_are_folded_column_by_column() {
    let source = "[source]\nformat = \"json\"\npath = \"${ROWS}\"\nop-column = \"op\"\n\
        columns = [\"id BIGINT\", \"name STRING\", \"paid BIGINT\"]\n";
    let rows = "{\"op\":\"I\",\"id\":1,\"name\":\"ann\"}\n{\"op\":\"U\",\"id\":1,\"paid\":5}\n\
        {\"op\":\"I\",\"id\":2,\"name\":\"bob\",\"paid\":1}\n{\"op\":\"D\",\"id\":2}\n\
        {\"op\":\"I\",\"id\":2,\"paid\":7}\n{\"op\":\"I\",\"id\":3,\"name\":\"cid\"}\n\
        {\"op\":\"-U\",\"id\":3,\"name\":\"cid\"}\n{\"op\":\"+U\",\"id\":3,\"paid\":9}\n";
    for mode in ["dynamic", "static"] {
        let place = Place::new();
        place.write("rows.json", rows);
        let mode_option = format!("\"sink.partial-column.mode\" = \"{mode}\"\n");
        place.write("job.toml", format!("{source}{PARTIAL}{mode_option}"));
        place.job();
        let report = equal(&place, &[]);
        assert_eq!(report["rows_expected"], 3);
        assert!(report["notes"][0].as_str().is_some_and(|note| note.contains("this job alone")));
        let other = vec![
            Some(Cell::Int(1)),
            Some(Cell::Bytes(b"ann".to_vec())),
            Some(Cell::Bytes(b"oslo".to_vec())),
            Some(Cell::Int(5)),
        ];
        write_past_the_job(&place, "people", vec![("", Op::Upsert, other)]);
        let wrong = &different(&place, &[])["wrong"][0];
        assert!(wrong["columns"].to_string().contains("oslo"), "{wrong}");
    }
}

#[test]
fn rows_that_the_sink_set_aside_are_not_expected() {
    let place = Place::new();
    let rows = person(1, "ann", "mon")
        + &person(2, "too long", "mon")
        + &person(1, "also too long", "mon")
        + "{\"op\":\"I\",\"id\":3,\"name\":\"cid\",\"day\":\"a/b\"}\n\
           {\"op\":\"I\",\"name\":\"nobody\",\"day\":\"mon\"}\n";
    place.write("rows.json", rows);
    let set_aside = "\"sink.invalid-row\" = \"dead-letter\"\n\
        \"sink.dead-letter-file\" = \"dead.jsonl\"\n";
    place.write("job.toml", format!("{JSON}{TABLE}{set_aside}"));
    place.job();
    let dead = std::fs::read_to_string(place.path("dead.jsonl")).expect("rows were set aside");
    assert_eq!(dead.lines().count(), 4);
    let report = equal(&place, &[]);
    assert_eq!((&report["rows_expected"], &report["rows_refused"]), (&json!(1), &json!(4)));
    // A job that sets nothing aside cannot have read these rows.
    place.write("job.toml", format!("{JSON}{TABLE}"));
    assert_refused(&verify(&place, &[]), 2, &["column name", "the sink refuses such a row"]);
}

#[test]
fn null_and_fixed_partitions_and_cut_times_are_those_that_the_sink_writes() {
    let place = Place::new();
    place.write(
        "rows.json",
        "{\"id\":1,\"at\":\"2013-01-01 05:15:00.123456\",\"day\":null}\n\
         {\"id\":2,\"at\":\"2013-01-01 05:15:00.123\",\"day\":\"mon\"}\n\
         {\"id\":3,\"at\":null,\"day\":\"\"}\n",
    );
    place.write(
        "job.toml",
        "[source]\nformat = \"json\"\npath = \"rows.json\"\n\
         columns = [\"id BIGINT\", \"at TIMESTAMP_LTZ(6)\", \"day STRING\"]\n\
         [table]\nname = \"times\"\ncolumns = [\"id BIGINT\", \"at DATETIME\"]\n\
         primary-key = [\"id\"]\npartitioned-by = [\"day STRING\", \"hour INT\"]\nbuckets = 2\n\
         [sink]\npartition = \"day,hour=07\"\n",
    );
    place.job();
    let report = equal(&place, &[]);
    assert_eq!((&report["rows_found"], &report["times_cut"]), (&json!(3), &json!(1)));
    assert_eq!((&report["partitions"], &report["buckets"]), (&json!(2), &json!(4)));
}

#[test]
fn a_job_of_at_least_once_is_verified_at_its_end() {
    let place = Place::new();
    place.write("rows.json", person(1, "ann", "mon") + &person(1, "bob", "mon"));
    let sink = "\"sink.delivery-guarantee\" = \"at-least-once\"\n";
    place.write("job.toml", format!("{JSON}{TABLE}{sink}"));
    place.job();
    assert_eq!(equal(&place, &[])["rows_expected"], 1);
}

/// The options that lead a job to the table of people at a server.
fn options(server: &Server) -> String {
    format!(
        "endpoint = \"{}\"\nproject = \"local\"\ntableName = \"people\"\n\
         accessId = \"local\"\naccessKey = \"local\"\n",
        server.endpoint
    )
}

/// A job of people without partitions at a server that runs.
fn job_at(place: &Place, server: &Server, rows: impl Iterator<Item = u64>) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let create = "CREATE TABLE IF NOT EXISTS people (id BIGINT PRIMARY KEY, name STRING) \
            TBLPROPERTIES ('transactional'='true','write.bucket.num'='4')";
        client(&server.endpoint).catalog().execute(create).await.expect("created");
    });
    let line = |n: u64| format!("{{\"op\":\"I\",\"id\":{},\"name\":\"n{n}\"}}\n", n % 700);
    place.write("rows.json", rows.map(line).collect::<String>());
    let source = "[source]\nformat = \"json\"\npath = \"${ROWS}\"\nop-column = \"op\"\n\
        columns = [\"id BIGINT\", \"name STRING\"]\n[sink]\n";
    place.write("job.toml", format!("{source}{}", options(server)));
}

/// Over HTTP, beside a server that runs, with the journal and without it.
#[test]
fn a_job_with_an_endpoint_is_verified_there_even_without_its_journal() {
    let place = Place::new();
    let server = Server::start(&place);
    job_at(&place, &server, 0..40_000);
    let (child, lines) = start_slowly(&place);
    stop(child, lines);
    let report = equal(&place, &[]);
    assert_eq!((&report["partitions"], &report["buckets"]), (&json!(1), &json!(4)));
    std::fs::remove_dir_all(place.path("upsert-sink-state/job/journal")).expect("removed");
    let output = verify(&place, &[]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no journal in"));
    assert_eq!(self::report(&output)["equal"], true);
}

#[test]
fn a_bad_network_changes_nothing_of_what_is_found() {
    let place = Place::new();
    let rules = r#"{"rules": [
        {"match": {"query": {"downloads": "*"}}, "when": {"first": 2}, "do": {"slot-exceeded": {}}},
        {"match": {"query": {"rowrange": "*"}}, "when": {"every": 2},
         "do": {"cut-response": {"bytes": 50}}},
        {"match": {"query": {"rowrange": "*"}}, "when": {"nth": 3},
         "do": {"status": {"status": 404, "code": "NoSuchDownload"}}}]}"#;
    place.write("faults.json", rules);
    let server = Server::start_with(&place, &["--faults", "faults.json"]);
    job_at(&place, &server, 0..3_000);
    place.job();
    let report = equal(&place, &[]);
    assert_eq!((&report["rows_found"], &report["buckets"]), (&json!(700), &json!(4)));
}

#[test]
fn what_cannot_be_verified_is_refused_with_the_remedy() {
    let place = people(&person(1, "ann", "mon"));
    let verify = |more: &[&str]| verify(&place, more);
    assert_refused(&verify(&["--state", "none"]), 2, &["none", "it is not there"]);
    assert_refused(&verify(&["--data", "none"]), 2, &["--data none", "it is not there"]);
    assert!(!place.path("none").exists(), "nothing is made");
    std::fs::create_dir(place.path("empty")).expect("made");
    assert_refused(&verify(&["--state", "empty"]), 2, &["empty", "no checkpoint yet"]);
    for (memory, words) in [("1000", "at least 1mb"), ("1 parsec", "64 MiB")] {
        let output = verify(&["--memory", memory]);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(words));
    }
    let lock = std::fs::File::open(place.path("upsert-sink-state/job/lock")).expect("it is there");
    lock.lock().expect("locked");
    assert_refused(&verify(&[]), 1, &["another job is running on it"]);
    lock.unlock().expect("unlocked");
    let state = place.path("upsert-sink-state/job").display().to_string();
    place.write("other.toml", format!("{JSON}{}", TABLE.replace("people", "others")));
    let other = place.run(&["verify", "other.toml", "--state", &state]);
    assert_refused(&other, 2, &["local.people", "local.others"]);
    place.write("rows.json", person(1, "bob", "mon"));
    assert_refused(&verify(&[]), 2, &["rows.json", "changed since it was first read"]);
    place.write("job.toml", format!("{}{TABLE}", JSON.replace("${ROWS}", "-")));
    assert_refused(&verify(&[]), 2, &["standard input cannot be read again"]);
}
