//! The machines under random schedules (`script/schedule.rs` says what is checked). A failing seed
//! is printed; `SEED=n` runs one alone.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod script;

use script::schedule::{EXACTLY_ONCE, Mode, Tally, run};
use upsert_sink_core::ignored::Ignored;

const SEEDS: u64 = 200;
/// Seeds of the suites beside the default one.
const SEEDS_MORE: u64 = 100;

/// Runs all seeds, or the one that is asked for.
fn run_all(mode: Mode, seeds: u64) -> Option<Tally> {
    if let Ok(seed) = std::env::var("SEED") {
        run(seed.parse().unwrap(), mode);
        return None;
    }
    let mut all = Tally::default();
    for seed in 1..=seeds {
        let outcome = std::panic::catch_unwind(|| run(seed, mode));
        let tally = outcome.unwrap_or_else(|_| panic!("SEED={seed} fails"));
        all.crashes += tally.crashes;
        all.moves_seen += tally.moves_seen;
        all.stops += tally.stops;
        all.appends_failed += tally.appends_failed;
        all.completed += tally.completed;
        all.cached_packs += tally.cached_packs;
        all.cache_refusals += tally.cache_refusals;
        for (reason, count) in tally.ignored {
            *all.ignored.entry(reason).or_insert(0) += count;
        }
    }
    assert!(all.crashes > seeds as usize, "only {} crashes: too kind", all.crashes);
    assert!(all.appends_failed > 0, "no append to the journal failed: too kind");
    assert!(all.completed > seeds as usize * 4, "only {} checkpoints: too hard", all.completed);
    Some(all)
}

#[test]
fn exactly_once_holds_under_every_random_schedule() {
    let Some(Tally { ignored, .. }) = run_all(EXACTLY_ONCE, SEEDS) else { return };
    let listed: Vec<&str> = Ignored::ALL.iter().map(|reason| reason.counter()).collect();
    let seen: Vec<&str> = ignored.keys().map(String::as_str).collect();
    assert_eq!(seen, listed, "every reason to ignore an input is listed, and occurs: {ignored:?}");
}

#[test]
fn at_least_once_converges_under_every_random_schedule() {
    run_all(Mode { exactly_once: false, ..EXACTLY_ONCE }, SEEDS_MORE);
}

#[test]
fn without_overlap_no_second_session_is_asked_for_and_all_promises_hold() {
    run_all(Mode { overlap: false, ..EXACTLY_ONCE }, SEEDS_MORE);
    run_all(Mode { overlap: false, exactly_once: false, ..EXACTLY_ONCE }, SEEDS_MORE);
}

#[test]
fn a_moved_row_is_never_in_neither_partition() {
    for overlap in [true, false] {
        let mode = Mode { moves: true, overlap, ..EXACTLY_ONCE };
        let Some(all) = run_all(mode, SEEDS_MORE) else { return };
        assert!(all.moves_seen > 1_000, "only {} views with moves", all.moves_seen);
    }
    run_all(Mode { moves: true, exactly_once: false, ..EXACTLY_ONCE }, SEEDS_MORE);
}

#[test]
fn exactly_once_holds_while_writers_come_and_go() {
    run_all(Mode { rescales: true, ..EXACTLY_ONCE }, SEEDS_MORE);
}

#[test]
fn a_session_too_old_stops_the_sink_and_nothing_wrong_is_ever_visible() {
    let Some(all) = run_all(Mode { expires: true, ..EXACTLY_ONCE }, SEEDS_MORE) else { return };
    assert!(all.stops > 10, "only {} stops", all.stops);
}

#[test]
fn exactly_once_holds_where_the_service_orders_sessions_by_creation() {
    run_all(Mode { by_creation: true, ..EXACTLY_ONCE }, SEEDS_MORE);
    run_all(Mode { by_creation: true, moves: true, ..EXACTLY_ONCE }, SEEDS_MORE);
}

#[test]
fn rows_in_file_caches_are_sent_once_whatever_the_disk_does() {
    for moves in [false, true] {
        let mode = Mode { cached: true, moves, ..EXACTLY_ONCE };
        let Some(all) = run_all(mode, SEEDS_MORE) else { return };
        assert!(all.cached_packs > 1_000, "only {} packs were cached", all.cached_packs);
        assert!(all.cache_refusals > 100, "only {} appends were refused", all.cache_refusals);
    }
    run_all(Mode { cached: true, exactly_once: false, ..EXACTLY_ONCE }, SEEDS_MORE);
    run_all(Mode { cached: true, overlap: false, ..EXACTLY_ONCE }, SEEDS_MORE);
}
