//! The table that the suite prints: each row's fault, what the sink does, its attempts, the end.
//!
//! Filled by the tests, printed by the last of them. Invariant: a row is in the table only if all
//! of it was checked.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tokio::runtime::Builder;

use crate::faults::scene::Scene;

/// The sources of the tests: the last one to end prints the table.
const SOURCES: [&str; 5] = [
    include_str!("slow_downs.rs"),
    include_str!("doubts.rs"),
    include_str!("refusals.rs"),
    include_str!("outages.rs"),
    include_str!("crashes.rs"),
];

static TABLE: Mutex<Table> = Mutex::new(Table { rows: BTreeMap::new(), ended: 0 });

struct Table {
    /// By place in the sources.
    rows: BTreeMap<(usize, u32, usize), [String; 4]>,
    ended: usize,
}

/// One test: of one or more rows.
pub(crate) struct Test {
    place: (usize, u32),
    rows: Vec<[String; 4]>,
}

impl Test {
    /// Begins a test.
    #[track_caller]
    pub(crate) fn begin() -> Self {
        let place = Location::caller();
        let files = ["slow_downs.rs", "doubts.rs", "refusals.rs", "outages.rs", "crashes.rs"];
        let file = files.iter().position(|file| place.file().ends_with(file));
        Self { place: (file.unwrap_or(files.len()), place.line()), rows: Vec::new() }
    }

    /// Plays one row on a server of its own.
    pub(crate) fn row(
        &mut self,
        fault: &str,
        does: &str,
        play: impl AsyncFnOnce(&mut Scene) -> Result<()>,
    ) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let told = runtime.block_on(async {
            let mut scene = Scene::new().await?;
            let played = play(&mut scene).await;
            let unmet = scene.world.rules().iter().any(|rule| rule.fired == 0);
            let attempts = || format!("{:?}", scene.world.wire.attempts());
            played.with_context(|| format!("row `{fault}`; attempts: {}", attempts()))?;
            anyhow::ensure!(!unmet, "row `{fault}`: a rule that never acted proves nothing");
            scene.kill().await;
            Ok::<_, anyhow::Error>([scene.attempts_told.join("; "), scene.state_told.join("; ")])
        });
        let [attempts, state] = told.unwrap_or_else(|error| panic!("{error:?}"));
        self.rows.push([fault.to_owned(), does.to_owned(), attempts, state]);
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let mut table = TABLE.lock().expect("no holder panics");
        for (number, row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            table.rows.insert((self.place.0, self.place.1, number), row);
        }
        table.ended += 1;
        let begin = concat!("Test::", "begin()");
        let all: usize = SOURCES.iter().map(|source| source.matches(begin).count()).sum();
        let is_filtered = std::env::args().skip(1).any(|argument| !argument.starts_with('-'));
        if table.ended == all || is_filtered {
            print(&table.rows);
        }
    }
}

fn print(rows: &BTreeMap<(usize, u32, usize), [String; 4]>) {
    let head = ["what goes wrong", "what the sink does", "attempts", "in the end"];
    let widths: [usize; 4] = std::array::from_fn(|column| {
        let cells = rows.values().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    });
    let mut lines = vec![line(&head.map(str::to_owned), &widths)];
    lines.push(line(&widths.map(|width| "-".repeat(width)), &widths));
    lines.extend(rows.values().map(|row| line(row, &widths)));
    println!("\n{}\n{} rows", lines.join("\n"), rows.len());
}

fn line(cells: &[String; 4], widths: &[usize; 4]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, width)| {
        let padding = " ".repeat(width - cell.chars().count());
        format!(" {cell}{padding} ")
    });
    format!("|{}|", cells.collect::<Vec<_>>().join("|"))
}
