//! The seeds that are run, and how one of them is run again.
//!
//! `SIMULATION_SEED=0x…` runs one, `SIMULATION_SEEDS=N` so many; `SIMULATION_TRACE=1` prints all
//! that happened. Invariant: a failure prints its seed.

use anyhow::{Result, ensure};
use tokio::runtime::Builder;
use tokio::task::LocalSet;
use upsert_sink::Plugin;

use crate::engine::{Engine, Outcome};
use crate::world::{Plan, Promise, Tally, Trace};

/// Seeds of one run for the default promise, unless told otherwise.
const SEEDS: u64 = 10;

fn run(seed: u64, plugin: &Plugin) -> Result<Outcome> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let trace = Trace::new();
    let (plugin, world) = (plugin.clone(), trace.clone());
    let world = async { Engine::new(Plan::of(seed), plugin, world).await?.run().await };
    let outcome = LocalSet::new().block_on(&runtime, world);
    print!("{}", trace.lines());
    outcome
}

fn seeds() -> Result<Vec<u64>> {
    if let Ok(seed) = std::env::var("SIMULATION_SEED") {
        return Ok(vec![u64::from_str_radix(seed.trim_start_matches("0x"), 16)?]);
    }
    let count = std::env::var("SIMULATION_SEEDS").map_or(Ok(SEEDS), |count| count.parse())?;
    // Of the promises beside the default one, each has fewer.
    let seeds = (0..Promise::COUNT).flat_map(|promise| {
        let count = if promise == 0 { count } else { count.div_ceil(3) };
        (0..count).map(move |number| promise << 32 | (0x5EED_0000 + number))
    });
    Ok(seeds.collect())
}

/// Whatever the faults: no view breaks a promise, and in the end the table is the fold of the
/// input.
#[test]
fn every_seed_comes_to_the_fold_and_is_the_same_run_twice() -> Result<()> {
    let plugin = Plugin::embedded()?;
    let (mut faults, mut moves_seen) = (Tally::default(), 0);
    let seeds = seeds()?;
    for seed in &seeds {
        let again = || format!("SIMULATION_SEED={seed:#x} bash tests/run simulation");
        let first = run(*seed, &plugin).map_err(|error| error.context(again()))?;
        let second = run(*seed, &plugin).map_err(|error| error.context(again()))?;
        println!("seed {seed:#x}: {first:?}");
        ensure!(first == second, "two runs differ, {first:?} and {second:?}: {}", again());
        faults.add(&first.faults);
        moves_seen += first.moves_seen;
    }
    println!("faults in all: {faults:?}");
    println!("{moves_seen} views with moved rows");
    ensure!(moves_seen > 0 || seeds.len() == 1, "a move that is never looked for proves nothing");
    let all_happened = faults.is_complete() || seeds.len() < SEEDS as usize;
    ensure!(all_happened, "a fault that never happens proves nothing: {faults:?}");
    Ok(())
}
