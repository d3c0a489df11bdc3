//! Which checkpoint a table is compared at: jobs that are killed while commits are held back by a
//! rule of the server, and a table that changes while it is read.
//!
//! Invariant: nothing waits for time; a commit is under way when the server says that it holds it.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::*;

/// A call of `/__faults`: answers the rules.
fn faults(server: &Server, method: &str, rules: &str) -> Value {
    let address = server.endpoint.trim_start_matches("http://").trim_end_matches("/api");
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = rules.len();
    write!(
        stream,
        "{method} /__faults HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: \
         {length}\r\n\r\n{rules}"
    )
    .expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let body = answer.split_once("\r\n\r\n").expect("a body").1;
    let json = body.find('{').zip(body.rfind('}')).map(|(start, end)| &body[start..=end]);
    serde_json::from_str(json.expect("JSON")).expect("JSON")
}

/// Waits until a rule holds a request.
fn wait_until_held(server: &Server) {
    let holds = |rules: &Value| {
        let rules = rules["rules"].as_array().expect("a list");
        rules.iter().any(|rule| rule["holding"].as_u64().is_some_and(|holding| holding > 0))
    };
    while !holds(&faults(server, "GET", "")) {
        std::thread::yield_now();
    }
}

/// A rule that holds requests back for longer than any test.
fn held(matches: &str) -> String {
    format!(r#"{{"rules": [{{"match": {matches}, "do": {{"delay": {{"ms": 600000}}}}}}]}}"#)
}

/// People of two days, so many of them that a slow job is killed before their end.
fn people_of_two_days(place: &Place, server: &Server) {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let create = "CREATE TABLE people (id BIGINT PRIMARY KEY, name STRING) \
            PARTITIONED BY (day STRING) \
            TBLPROPERTIES ('transactional'='true','write.bucket.num'='4')";
        client(&server.endpoint).catalog().execute(create).await.expect("created");
    });
    let day = |n: u64| if n.is_multiple_of(2) { "mon" } else { "tue" };
    let line = |n: u64| {
        let (id, day) = (n % 900, day(n));
        format!("{{\"op\":\"I\",\"id\":{id},\"name\":\"n{n}\",\"day\":\"{day}\"}}\n")
    };
    place.write("rows.json", (0..60_000).map(line).collect::<String>());
    let source = JSON.replace(", \"paid DECIMAL(5,2)\"", "");
    place.write("job.toml", format!("{source}[sink]\n{}", options(server)));
}

/// Runs the job until its newest checkpoint is stored and a commit is held; then kills it.
fn kill_at_a_held_commit(place: &Place, server: &Server, rules: &str) {
    let (mut child, mut lines) = start_slowly(place);
    faults(server, "POST", rules);
    wait_until_held(server);
    lines.find(|line| line.contains(": stored")).expect("one more checkpoint");
    child.kill().expect("killed");
    child.wait().expect("ended");
}

fn newest_state(place: &Place) -> u64 {
    let states = std::fs::read_dir(place.path("upsert-sink-state/job")).expect("it is there");
    let number = |name: std::ffi::OsString| {
        let name = name.into_string().ok()?;
        name.strip_prefix("checkpoint-")?.strip_suffix(".state")?.parse::<u64>().ok()
    };
    let numbers = states.filter_map(|entry| number(entry.expect("readable").file_name()));
    numbers.max().expect("a checkpoint")
}

#[test]
fn an_older_checkpoint_is_taken_if_the_newest_is_not_committed() {
    let place = Place::new();
    let server = Server::start(&place);
    people_of_two_days(&place, &server);
    kill_at_a_held_commit(&place, &server, &held(r#"{"operation": "commit"}"#));
    let output = verify(&place, &[]);
    // The commits of the last three checkpoints may be held, and older states are not kept.
    if output.status.success() {
        let report = report(&output);
        assert_eq!(report["equal"], true);
        let checkpoint = report["checkpoint"].as_u64().expect("a number");
        assert!(checkpoint < newest_state(&place), "{report}");
    } else {
        assert_refused(&output, 2, &["none of its checkpoints is committed", "run the job again"]);
    }
    faults(&server, "DELETE", "");
    place.job();
    assert_eq!(equal(&place, &[])["rows_found"], 900);
}

#[test]
fn a_checkpoint_that_is_committed_in_part_is_refused_until_the_job_ran_again() {
    let place = Place::new();
    let server = Server::start(&place);
    people_of_two_days(&place, &server);
    let one_day = r#"{"operation": "commit", "query": {"partition": "day=tue"}}"#;
    kill_at_a_held_commit(&place, &server, &held(one_day));
    let output = verify(&place, &[]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    // Commits of three checkpoints may be held, and older states are not kept.
    let words = ["is committed in part", "none of its checkpoints is committed"];
    assert!(!output.status.success(), "{message}");
    assert!(words.iter().any(|words| message.contains(words)), "{message}");
    assert!(message.contains("run the job again"), "{message}");
    faults(&server, "DELETE", "");
    place.job();
    assert_eq!(equal(&place, &[])["rows_found"], 900);
}

#[test]
fn a_table_that_changes_while_it_is_read_is_not_accused() {
    let place = Place::new();
    let server = Server::start(&place);
    job_at(&place, &server, 0..700);
    place.job();
    let write = |name: &'static str| {
        let endpoint = server.endpoint.clone();
        let row = vec![Some(Cell::Int(7)), Some(Cell::Bytes(name.into()))];
        write_at(&endpoint, "people", vec![("", Op::Upsert, row)]);
    };
    write("one");
    // The sums are read by the first download, the keys by the second.
    let second = r#"{"rules": [{"match": {"query": {"downloads": "*"}}, "when": {"nth": 2},
                     "do": {"delay": {"ms": 600000}}}]}"#;
    faults(&server, "POST", second);
    let mut command = place.command(&["verify", "job.toml"]);
    let child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    wait_until_held(&server);
    write("two");
    faults(&server, "DELETE", "");
    let output = child.wait_with_output().expect("it ends");
    assert_refused(&output, 1, &["the table changed while it was read", "verify again"]);
    assert_eq!(different(&place, &[])["wrong_keys"], 1);
}
