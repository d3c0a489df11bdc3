//! The regimes of the specification: many partitions, commits as slow as the real service's, and
//! memory that does not grow with either.
//!
//! Each test is one regime in a world of virtual time (`world.rs`). Invariant: what is asserted is
//! a bound that the service's own times give, never the speed of this machine.

mod world;

use std::time::Duration;

use anyhow::{Result, ensure};
use upsert_sink::Checkpoint;
use upsert_sink::components::Clock;
use upsert_sink::ledger::{ExpectedLoad, Forecast, ForecastLimits, ServiceCosts};
use world::{World, rows};

/// The time of a commit on the real service, as its vendor measured it.
const COMMIT: Duration = Duration::from_millis(2_500);
const THREADS: usize = 32;

#[tokio::test(start_paused = true)]
async fn a_checkpoint_of_a_thousand_partitions_takes_little_more_than_its_commits() -> Result<()> {
    const PARTITIONS: i64 = 1_000;
    let world = World::new(COMMIT).await?;
    let sink = world.sink(&[("upsert.commit.thread-num", "32")], None).await?;
    sink.write(&rows(0, PARTITIONS, 1), &[]).await?;
    let barrier_ms = world.clock.now_ms();
    sink.checkpoint(1).await?;
    sink.checkpoint_completed(1).await?;
    let flushed = world.seconds_since(barrier_ms);
    // Rows flow while all those commits are under way, and memory stays in the budget.
    let (mut longest, mut held) = (0.0_f64, 0);
    for version in 2..42 {
        let handed_ms = world.clock.now_ms();
        sink.write(&rows(0, PARTITIONS, version), &[]).await?;
        longest = longest.max(world.seconds_since(handed_ms));
        held = held.max(sink.metrics().held_bytes);
    }
    sink.committed(1).await?;
    let whole = world.seconds_since(barrier_ms);
    let one_after_another = COMMIT.as_secs_f64() * PARTITIONS as f64;
    let least = one_after_another / THREADS as f64;
    println!(
        "{PARTITIONS} partitions, {COMMIT:?} a commit, {THREADS} at once: {whole:.1} s for the \
         checkpoint, {:.2} of the least; flushed in {flushed:.2} s; {held} bytes held; one commit \
         after another, as Flink CDC does: {one_after_another:.0} s",
        whole / least
    );
    ensure!(whole <= 1.15 * least, "{whole:.1} s, and {least:.1} s is the least");
    let foreseen = foreseen(PARTITIONS.cast_unsigned());
    println!("foreseen before the first row: {foreseen:.1} s");
    ensure!((foreseen - whole).abs() <= 0.25 * whole, "{foreseen:.1} s were foreseen");
    ensure!(longest < 1.0, "a batch waited {longest:.1} s while commits were under way");
    ensure!(held <= 64 << 20, "{held} bytes are held");
    sink.checkpoint(2).await?;
    sink.checkpoint_completed(2).await?;
    sink.committed(2).await?;
    sink.close().await?;
    ensure!(world.visible().await? == PARTITIONS, "each row is visible once");
    world.ensure_quiet()
}

/// The seconds of such a checkpoint as `plan` foresees them.
fn foreseen(partitions: u64) -> f64 {
    let load = ExpectedLoad {
        rows: partitions,
        rows_sent: partitions,
        row_bytes: 40,
        partitions,
        buckets_touched: partitions,
    };
    let costs = ServiceCosts { commit_ms: COMMIT.as_millis() as u64, pack_ms: 1 };
    let limits = ForecastLimits {
        interval_ms: 100_000,
        writers: 1,
        buckets: 4,
        commit_threads: THREADS as u32,
        flush_concurrent: None,
        partition_limit: 10_000,
        memory_budget: 64 << 20,
        bucket_bytes: 1 << 20,
        slots: 1,
        by_partition: false,
        cached: false,
    };
    let forecast = Forecast::of(&load, &costs, &limits);
    assert_eq!(forecast.broken, [], "80 s of commits are within 100 s");
    (forecast.flush_ms + forecast.commit_ms) as f64 / 1e3
}

#[tokio::test(start_paused = true)]
async fn partitions_without_new_rows_cost_nothing_at_a_checkpoint_and_stay_in_it() -> Result<()> {
    const PARTITIONS: i64 = 50;
    let world = World::new(COMMIT).await?;
    let sink = world.sink(&[], None).await?;
    sink.write(&rows(0, PARTITIONS, 1), &[]).await?;
    sink.checkpoint(1).await?;
    world.take_requests();
    // Checkpoint 1 never completes: its sessions wait in the state of the next one.
    sink.write(&rows(0, 1, 2), &[]).await?;
    let second = sink.checkpoint(2).await?.to_bytes();
    let requests = world.take_requests();
    let expected = [("create", 1), ("put", 1)].map(|(kind, count)| (String::from(kind), count));
    ensure!(requests == expected.into(), "one partition had a row: {requests:?}");
    drop(sink);
    let restored = Checkpoint::from_bytes(&second)?;
    let sink = world.sink(&[], Some(restored)).await?;
    sink.checkpoint(3).await?;
    sink.checkpoint_completed(3).await?;
    sink.committed(3).await?;
    sink.close().await?;
    ensure!(world.visible().await? == PARTITIONS, "the idle partitions are committed too");
    world.ensure_quiet()
}

#[tokio::test(start_paused = true)]
async fn when_checkpoints_outrun_commits_rows_are_pressed_back_and_nothing_grows() -> Result<()> {
    const CHECKPOINTS: u64 = 40;
    let world = World::new(COMMIT).await?;
    let sink = world.sink(&[], None).await?;
    let began_ms = world.clock.now_ms();
    let mut longest_state = 0;
    for id in 1..=CHECKPOINTS {
        sink.write(&rows(0, 3, id.cast_signed()), &[]).await?;
        let state = sink.checkpoint(id).await?.to_bytes();
        longest_state = longest_state.max(state.len());
        sink.checkpoint_completed(id).await?;
    }
    let pressed = sink.metrics().guest.get("upsert_sink.writers.pressed_back").copied();
    let fed = world.seconds_since(began_ms);
    sink.committed(CHECKPOINTS).await?;
    let behind = world.seconds_since(began_ms) - fed;
    println!(
        "{CHECKPOINTS} checkpoints against {COMMIT:?} a commit: fed in {fed:.1} s, the last \
         commits {behind:.1} s later; at most {longest_state} bytes of state; pressed back \
         {pressed:?} times"
    );
    ensure!(pressed.is_some_and(|times| times > 0), "rows were never pressed back");
    let ahead = behind / COMMIT.as_secs_f64();
    ensure!(ahead <= 8.0, "the sink was {ahead:.1} commits ahead of what is visible");
    ensure!(longest_state <= 16 << 10, "{longest_state} bytes of state for three partitions");
    sink.close().await?;
    ensure!(world.visible().await? == 3, "each row is visible once");
    world.ensure_quiet()
}

/// Sessions are asked for, told and committed in batches: twice as many partitions must not take
/// four times the messages.
#[tokio::test(start_paused = true)]
async fn what_a_partition_costs_does_not_grow_with_their_number() -> Result<()> {
    let mut costs = Vec::new();
    for partitions in [500, 4_000] {
        let world = World::new(Duration::ZERO).await?;
        let sink = world.sink(&[], None).await?;
        sink.write(&rows(0, partitions, 1), &[]).await?;
        sink.checkpoint(1).await?;
        sink.checkpoint_completed(1).await?;
        sink.committed(1).await?;
        sink.close().await?;
        let requests: u64 = world.take_requests().values().sum();
        costs.push(requests as f64 / partitions as f64);
        ensure!(world.visible().await? == partitions, "each row is visible once");
        world.ensure_quiet()?;
    }
    println!("requests a partition: {costs:?}");
    ensure!(costs[1] <= costs[0] * 1.05, "requests a partition: {costs:?}");
    Ok(())
}

/// Each start sees fewer commits than a compaction needs; the journal counts over all of them.
#[tokio::test(start_paused = true)]
async fn a_partition_is_compacted_after_so_many_commits_over_all_starts() -> Result<()> {
    const PARTITIONS: i64 = 2;
    let world = World::new(COMMIT).await?;
    let options =
        [("upsert.major-compact.enable", "true"), ("upsert.major-compact.min-commits", "3")];
    let mut restored = None;
    for id in 1..=6 {
        let sink = world.sink(&options, restored).await?;
        sink.write(&rows(0, PARTITIONS, id), &[]).await?;
        let id = id.cast_unsigned();
        let began_ms = world.clock.now_ms();
        let checkpoint = sink.checkpoint(id).await?;
        sink.checkpoint_completed(id).await?;
        sink.committed(id).await?;
        let whole = world.seconds_since(began_ms);
        ensure!(whole < 2.0 * COMMIT.as_secs_f64(), "checkpoint {id} took {whole:.1} s");
        world.clock.sleep(COMMIT).await;
        sink.close().await?;
        restored = Some(checkpoint);
        let compactions = world.compactions();
        let least = if id < 3 { 0 } else { PARTITIONS.cast_unsigned() };
        let most = id / 3 * PARTITIONS.cast_unsigned();
        ensure!((least..=most).contains(&compactions), "{compactions} after checkpoint {id}");
    }
    println!("{} compactions after 6 commits of {PARTITIONS} partitions", world.compactions());
    ensure!(world.compactions() == 2 * PARTITIONS.cast_unsigned(), "one after three commits each");
    ensure!(world.visible().await? == PARTITIONS, "each row is visible once");
    world.ensure_quiet()
}
