//! The demo, as a newcomer runs it.

use crate::support::{Place, assert_refused, report};

/// The figures are those of the feed's own documentation.
#[test]
fn the_demo_ends_with_the_documented_figures() {
    let place = Place::new();
    let report = report(&place.run(&["demo", "--dir", "kept", "--report", "json"]));
    for (key, value) in [
        ("events", 80_406),
        ("rows", 26_483),
        ("partitions", 31),
        ("sum_distance", 26_859_611),
        ("sum_arr_delay", 161_819),
    ] {
        assert_eq!(report[key], value, "{key}");
    }
    assert_eq!(report["verified"], true);
    assert_eq!(report["http_requests"], report["server_http_requests"]);
    assert!(report["checkpoints"].as_u64().is_some_and(|count| count >= 8), "{report}");
    let again = place.run(&["demo", "--dir", "kept"]);
    assert_refused(&again, 1, &["a demo ran here before"]);
    let rows = "SELECT count(*), sum(dep_delay), sum(air_time) FROM flights";
    let query = place.run(&["query", rows, "--data", "kept/data", "--report", "json"]);
    let rows = crate::support::report(&query)["rows"].clone();
    assert_eq!(rows, serde_json::json!([[26_483, 265_801, 4_070_239]]));
    let sessions = ["sessions", "--data", "kept/data", "--state", "kept/state", "--report", "json"];
    assert_eq!(crate::support::report(&place.run(&sessions))["open"], serde_json::json!([]));
}

/// People see what they asked for, and the temporary directory is gone.
#[test]
fn the_summary_is_for_people() {
    let place = Place::new();
    let output = place.run(&["demo", "--checkpoint-interval", "200ms"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    for part in
        ["80,406", "26,483 rows in 31 partitions", "freshness", "equals an independent fold"]
    {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// The demo adds up by itself, for not every build has SQL: it must come to what SQL comes to.
#[test]
fn the_table_of_carriers_is_the_one_that_select_gives() {
    let place = Place::new();
    let demo = place.run(&["demo", "--dir", "kept"]);
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stderr));
    let sql = "SELECT carrier, count(*) AS flights, round(avg(arr_delay), 1) AS late_by_minutes \
               FROM flights GROUP BY carrier ORDER BY flights DESC LIMIT 5";
    let selected = place.run(&["query", sql, "--data", "kept/data"]);
    let selected = String::from_utf8_lossy(&selected.stdout);
    let demo = String::from_utf8_lossy(&demo.stdout);
    assert!(selected.starts_with("+-"), "{selected}");
    assert!(demo.contains(&*selected), "no {selected} in: {demo}");
}

/// The plugin says itself what it may do.
#[test]
fn the_plugin_imports_only_its_own_contract() {
    let report = report(&Place::new().run(&["inspect", "--report", "json"]));
    let imports = report["imports"].as_array().expect("a list");
    assert!(!imports.is_empty());
    for import in imports {
        let import = import.as_str().expect("text");
        assert!(import.starts_with("upsert-sink:plugin/"), "{import}");
    }
    assert_eq!(report["sha256"].as_str().map(str::len), Some(64));
}

/// Each option has one owner.
#[test]
fn the_options_of_guest_and_host_are_disjoint() {
    let report = report(&Place::new().run(&["options", "--report", "json"]));
    let options = report["options"].as_array().expect("a list");
    let mut names: Vec<&str> =
        options.iter().filter_map(|option| option["name"].as_str()).collect();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for owner in ["guest", "host"] {
        assert!(options.iter().any(|option| option["owner"] == owner), "{owner}");
    }
}
