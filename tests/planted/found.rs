//! Each planted bug is found: the random schedules that the core passes fail with any one of them.
//!
//! A test of the copy of the core that `run` beside it makes, and there `tests/planted.rs`. Prints
//! for each bug its source, after how many schedules it was found from each of five starting seeds,
//! and by which check. Without a bug the same schedules pass, so that nothing is found that is not
//! there. `PLANTED=name` plants the bugs alone whose names begin so.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod script;

use std::fs::{read_dir, read_to_string};
use std::panic::catch_unwind;
use std::path::Path;

use script::schedule::{EXACTLY_ONCE, Mode, run};
use upsert_sink_core::planted::plant;

/// Independent of each other: schedules of different starts are never the same.
const STARTS: [u64; 5] = [1, 10_001, 20_001, 30_001, 40_001];
/// A bug that so many schedules do not find is not found.
const SCHEDULES_MOST: u64 = 2_000;
/// Schedules from each start that pass without a bug.
const SCHEDULES_SOUND: u64 = 100;

/// Schedules take turns.
const MODES: [Mode; 9] = [
    EXACTLY_ONCE,
    Mode { rescales: true, ..EXACTLY_ONCE },
    Mode { moves: true, ..EXACTLY_ONCE },
    Mode { rescales: true, moves: true, ..EXACTLY_ONCE },
    Mode { overlap: false, ..EXACTLY_ONCE },
    Mode { expires: true, ..EXACTLY_ONCE },
    Mode { by_creation: true, ..EXACTLY_ONCE },
    Mode { cached: true, ..EXACTLY_ONCE },
    Mode { cached: true, moves: true, ..EXACTLY_ONCE },
];

/// Not found by any schedule: the committer sends the commits of a partition in the order of their
/// names, so a restored session goes first even where nobody waits for it to be known. The gate is
/// a second wall.
const NOT_SEEN: &str = "no-restore-gate";

/// A bug that was built in, as the head of its patch tells.
#[derive(Debug)]
struct Bug {
    name: String,
    source: String,
}

impl Bug {
    fn of(patch: &Path) -> Self {
        let name = patch.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = read_to_string(patch).unwrap();
        let source = text.lines().find_map(|line| line.strip_prefix("Source: "));
        let source = source.unwrap_or_else(|| panic!("{name}.patch has no line `Source: `"));
        let own = format!("\"{name}\")");
        let switches: Vec<&str> = text.split("crate::planted!(").skip(1).collect();
        assert!(
            !switches.is_empty() && switches.iter().all(|switch| switch.starts_with(&own)),
            "{name}.patch must insert crate::planted!({own}, and no other switch"
        );
        Self { source: source.to_owned(), name }
    }

    /// All of them, in the order of their names.
    fn all() -> Vec<Self> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bugs");
        let patches = read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut bugs: Vec<Self> = patches.map(|patch| Self::of(&patch)).collect();
        bugs.sort_by(|one, other| one.name.cmp(&other.name));
        bugs
    }
}

/// The failure that a schedule finds.
fn finding(number: u64) -> Option<String> {
    let mode = MODES[(number % MODES.len() as u64) as usize];
    let panic = catch_unwind(|| run(number, mode)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let text = text.unwrap_or_else(|| "a panic".into()).replace("000", "");
    let line: Vec<&str> = text.lines().map(str::trim).collect();
    Some(line.join(" ").chars().take(90).collect())
}

/// After how many schedules the planted bug is found, and what finds it.
fn schedules_to_detection(start: u64) -> Option<(u64, String)> {
    (0..SCHEDULES_MOST).find_map(|at| finding(start + at).map(|found| (at + 1, found)))
}

#[test]
fn every_planted_bug_is_found_from_each_starting_seed_and_nothing_without_one() {
    let bugs = Bug::all();
    assert!(bugs.iter().any(|bug| bug.name == NOT_SEEN), "no bug is named {NOT_SEEN}");
    std::panic::set_hook(Box::new(|_| {}));
    plant(None);
    for start in STARTS {
        for number in start..start + SCHEDULES_SOUND {
            assert_eq!(finding(number), None, "schedule {number}, and no bug is planted");
        }
    }
    let mut missed = Vec::new();
    println!("| planted bug | source | schedules to detection | found the first time by |");
    println!("|---|---|---|---|");
    let wanted = std::env::var("PLANTED").unwrap_or_default();
    let left = bugs.iter().filter(|bug| bug.name != NOT_SEEN);
    for bug in left.filter(|bug| bug.name.starts_with(&wanted)) {
        plant(Some(&bug.name));
        let found: Vec<_> = std::thread::scope(|threads| {
            let begin = |start| threads.spawn(move || schedules_to_detection(start));
            let searches = STARTS.map(begin);
            searches.into_iter().map(|search| search.join().unwrap()).collect()
        });
        let count = |found: &Option<(u64, String)>| {
            found
                .as_ref()
                .map_or_else(|| "never".to_owned(), |(schedules, _)| schedules.to_string())
        };
        let counts = found.iter().map(count).collect::<Vec<_>>().join(", ");
        let by = found.iter().flatten().next().map_or("", |(_, by)| by.as_str());
        println!("| {} | {} | {counts} | {by} |", bug.name, bug.source);
        if found.iter().any(Option::is_none) {
            missed.push(&bug.name);
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}
