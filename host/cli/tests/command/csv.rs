//! Jobs over CSV: files, patterns and standard input, going on after a kill, and wrong input.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::support::{Place, TABLE, assert_refused, report};

const SOURCE: &str = "[source]\nformat = \"csv\"\npath = \"rows.csv\"\nop-column = \"op\"\n\
    columns = [\"id BIGINT\", \"name STRING\", \"paid DECIMAL(5,2)\", \"day STRING\"]\n";

#[test]
fn rows_of_csv_insert_update_and_delete() {
    let place = Place::new();
    place.write(
        "rows.csv",
        "day,op,id,name,paid,more\nmon,I,1,ann,1.50,x\nmon,I,2,\"b,\n\"\"\",2.25,\n\n\
         mon,U,1,,3,\nmon,I,3,\"\",,\nmon,D,2,,,\n",
    );
    place.write("job.toml", format!("{SOURCE}{TABLE}"));
    let report = place.job();
    assert_eq!((&report["events"], &report["rows"]), (&json!(6), &json!(2)));
    let rows = place.query("SELECT id, name, paid FROM people ORDER BY id");
    assert_eq!(rows.to_string(), "[[1,null,3.0],[3,\"\",null]]");
}

#[test]
fn files_of_a_pattern_each_have_their_header() {
    let place = Place::new();
    place.write("job.toml", format!("{}{TABLE}", SOURCE.replace("rows.csv", "part-*.csv")));
    place.write("part-b.csv", "op,id,name,paid,day\nI,1,old,,mon\n");
    assert_eq!(place.job()["events"], 1);
    place.write("part-a.csv", "\u{feff}day,name,paid,id,op\nmon,new,,1,U\n");
    assert_eq!(place.job()["events"], 1);
    assert_eq!(place.query("SELECT name FROM people"), json!([["new"]]));
}

#[test]
fn standard_input_is_read_with_names_of_the_job() {
    let place = Place::new();
    let source = SOURCE.replace("rows.csv", "-");
    let layout = "fields = [\"op\", \"id\", \"day\", \"name\", \"paid\"]\ndelimiter = \"\\t\"\n\
                  null-text = \"NULL\"\n";
    let sink = "\"sink.delivery-guarantee\" = \"at-least-once\"\n";
    place.write("job.toml", format!("{source}{layout}{TABLE}{sink}"));
    let rows = "I\t7\tmon\tNULL\tNULL\nI\t8\tmon\t\"a\tb\"\t1";
    let output = place.run_with_input(&["run", "job.toml", "--report", "json"], rows);
    assert_eq!(report(&output)["events"], 2);
    let rows = place.query("SELECT id, name FROM people ORDER BY id");
    assert_eq!(rows, json!([[7, null], [8, "a\tb"]]));
}

/// Rows over several lines, so that places in the file are no multiples of anything.
fn many_rows(rows: u64) -> String {
    let mut text = String::from("op,id,name,paid,day\n");
    for row in 0..rows {
        let (id, day) = (row % 20_000, row % 3);
        let name = if row % 7 == 0 { "\"a\n\"\"b\"" } else { "plain" };
        writeln!(text, "U,{id},{name},{}.25,d{day}", row % 900).expect("written to memory");
    }
    text
}

/// Three updates of each key, each into another partition than the one before.
#[test]
fn a_killed_job_goes_on_exactly_once() {
    let place = Place::new();
    place.write("rows.csv", many_rows(60_000));
    place.write("job.toml", format!("{SOURCE}{TABLE}"));
    let run = ["run", "job.toml", "--rate", "20000/s", "--checkpoint-interval", "100ms"];
    let mut child = place.command(&run).stderr(Stdio::piped()).spawn().expect("it starts");
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    let mut lines = stderr.lines().map_while(Result::ok);
    lines.find(|line| line.starts_with("checkpoint 2: stored")).expect("a second checkpoint");
    child.kill().expect("killed");
    child.wait().expect("ended");
    let output = place.run(&["run", "job.toml", "--report", "json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("restored checkpoint "));
    let report = report(&output);
    let events = report["events"].as_u64().expect("a number");
    assert!(events > 0 && events < 60_000, "{report}");
    let mut expected = std::collections::BTreeMap::new();
    for row in 0..60_000_u64 {
        expected.insert((row % 20_000, row % 3), row % 900 * 100 + 25);
    }
    let cents: u64 = expected.values().sum();
    let figures = place.query("SELECT count(*), sum(paid), sum(length(name)) FROM people");
    let names = (0..60_000_u64).map(|row| if row % 7 == 0 { 4 } else { 5 }).sum::<u64>();
    assert_eq!(expected.len(), 60_000, "each key is once in each partition");
    assert_eq!(figures[0][0], 60_000);
    let sum = figures[0][1].as_f64().map(|sum| (sum * 100.0).round() as u64);
    assert_eq!((sum, figures[0][2].as_u64()), (Some(cents), Some(names)));
}

#[test]
fn wrong_rows_are_refused_with_their_line() {
    for (rows, parts) in [
        ("op,id,name,paid,day\nI,1,ann,1,mon\nI,2,\"b\nc\",1.234,mon\n", ["line 3", "`paid`"]),
        ("op,id,name,paid,day\nI,1,ann,1\n", ["line 2", "4 fields, but 5 are named"]),
        ("op,id,name,paid\nI,1,ann,1\n", ["line 1", "no field is named `day`"]),
        ("op,id,name,paid,day\nI,1,a\"n\",1,mon\n", ["line 2", "malformed CSV at byte 6"]),
        ("op,id,name,paid,day\nX,1,ann,1,mon\n", ["line 2", "op column `op`"]),
        ("op,id,name,paid,day\nI,1,\"ann,1,mon\n", ["line 2", "not closed"]),
    ] {
        let place = Place::new();
        place.write("rows.csv", rows);
        place.write("job.toml", format!("{SOURCE}{TABLE}"));
        assert_refused(&place.run(&["run", "job.toml"]), 2, &[&["rows.csv"], &parts[..]].concat());
    }
    let place = Place::new();
    place.write("rows.csv", b"op,id,name,paid,day\nI,1,\xff,1,mon\n");
    place.write("job.toml", format!("{SOURCE}{TABLE}"));
    assert_refused(&place.run(&["run", "job.toml"]), 2, &["line 2", "byte 5 is not UTF-8"]);
}

#[test]
fn the_help_of_run_tells_every_key_of_a_job() {
    let help = Place::new().run(&["run", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for key in ["header", "fields", "delimiter", "quote", "null-text", "op-column", "primary-key"] {
        assert!(help.contains(key), "no {key} in: {help}");
    }
}
