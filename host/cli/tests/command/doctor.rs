//! `doctor` as a process, against a running local server: what it prints, and how it ends.
//!
//! That it sees each broken assumption is proved by the suite `doctor` of `tests/`.

use serde_json::Value;

use crate::support::{JSON, Place, Server, TABLE, assert_refused, report};

/// A place whose server has the table `people`.
fn with_people() -> (Place, Server) {
    let place = Place::new();
    place.write("rows.json", "{\"op\":\"I\",\"id\":1,\"day\":\"mon\"}\n");
    place.write("job.toml", format!("{JSON}{TABLE}"));
    place.job();
    let server = Server::start(&place);
    (place, server)
}

fn verdict<'a>(document: &'a Value, name: &str) -> &'a str {
    let findings = document["findings"].as_array().expect("a list");
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.and_then(|finding| finding["verdict"].as_str()).expect(name)
}

#[test]
fn a_local_server_is_sound_and_nothing_is_left_on_it() {
    let (place, server) = with_people();
    let arguments = ["doctor", "--endpoint", &server.endpoint, "--table", "people", "--hold", "1s"];
    let output = place.run(&[&arguments[..], &["--report", "json"]].concat());
    let document = report(&output);
    assert_eq!(document["sound"], true, "{document}");
    for name in ["endpoint", "credentials", "project", "clock", "table", "options", "b", "d"] {
        assert_eq!(verdict(&document, name), "holds", "{name}: {document}");
    }
    for name in ["a", "c", "e"] {
        assert_ne!(verdict(&document, name), "broken", "{name}: {document}");
    }
    assert_eq!(document["left_behind"], Value::Null);
    drop(server);
    assert_eq!(place.query("SELECT id FROM people").to_string(), "[[1]]");
    let output = place.run(&["sessions", "--report", "json"]);
    assert_eq!(report(&output)["open"].as_array().map(Vec::len), Some(0));
}

#[test]
fn findings_are_printed_for_people_with_what_follows() {
    let (place, server) = with_people();
    let output = place.run(&["doctor", "--endpoint", &server.endpoint, "--hold", "1s"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["holds     clock", "what the sink will do", "sink.doubt", "sink.session.overlap"] {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn how_it_ends_says_what_is_wrong() {
    let (place, server) = with_people();
    let endpoint = server.endpoint.as_str();
    let doctor = |more: &[&str]| place.run(&[&["doctor", "--hold", "1s"], more].concat());
    let nobody = doctor(&["--endpoint", "http://127.0.0.1:1/api"]);
    assert_refused(&nobody, 1, &["endpoint", "http://127.0.0.1:1/api"]);
    let project = doctor(&["--endpoint", endpoint, "--project", "elsewhere"]);
    assert_refused(&project, 2, &["project", "NoSuchProject", "elsewhere"]);
    let table = doctor(&["--endpoint", endpoint, "--table", "nobody", "--no-scratch"]);
    assert_refused(&table, 2, &["table", "nobody"]);
    let options = ["--endpoint", endpoint, "--table", "people", "--no-scratch"];
    let writers = doctor(&[&options[..], &["--set", "sink.parallelism=3"]].concat());
    assert_refused(&writers, 2, &["options", "3 writers for 4 buckets"]);
    let misspelt = doctor(&[&options[..], &["--set", "sink.doubts=fail"]].concat());
    assert_refused(&misspelt, 2, &["sink.doubts", "did you mean `sink.doubt`"]);
    let remote = doctor(&["--endpoint", "http://service.example/api", "--project", "p"]);
    assert_refused(&remote, 2, &["ALIBABA_CLOUD_ACCESS_KEY_ID"]);
    let embedded = doctor(&["--job", "job.toml"]);
    assert_refused(&embedded, 2, &["the job has no endpoint"]);
}
