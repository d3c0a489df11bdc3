//! `run` killed with -9 in each phase of a checkpoint: with its embedded server, which dies with
//! it, and at a network to a server that lives on.
//!
//! Invariant: each attempt that is killed while it writes had made a checkpoint durable before, so
//! that a series comes to its end.

use std::time::Duration;

use anyhow::{Result, ensure};
use upsert_sink_tests::progress::Phase;

use crate::crash::components::jitter;
use crate::crash::http::Call;
use crate::crash::job::Attempt;
use crate::crash::proxy::{POINTS, Proxy};
use crate::crash::site::Site;
use crate::crash::tally::{BORN_DEAD, Hit, Tally, seed, share};

/// Changes of a series, and how many of them are handed over in a second.
const EVENTS: u64 = 250_000;
const RATE: u64 = 50_000;
/// Kills of a series, at most: then its table is looked at.
const KILLS_OF_SERIES: u64 = 20;
/// So many of a thousand exchanges go wrong by themselves.
const FAULTS_PER_MILLE: u32 = 15;
/// For a series that never hits what it aims at.
const SERIES_MAX: u32 = 200;

const WRITING: Hit = Hit::Run(Phase::Writing);
const BARRIER: Hit = Hit::Run(Phase::Barrier);
const COMMITTING: Hit = Hit::Run(Phase::Committing);
const RESTORING: Hit = Hit::Run(Phase::Restoring);

#[test]
fn killed_in_any_phase_a_job_with_its_own_server_goes_on_exactly_once() -> Result<()> {
    let mut random = seed("run with its embedded server")?;
    let kills = share(45)?;
    let phases = [RESTORING, WRITING, BARRIER, COMMITTING];
    let mut tally = Tally::new("run with its embedded server", &phases);
    while !tally.is_complete(kills) {
        ensure!(tally.series() < SERIES_MAX, "phases are missed too often: {tally}");
        embedded_series(&mut random, &mut tally, kills)?;
    }
    println!("{tally}");
    for phase in [WRITING, BARRIER] {
        ensure!(tally.rows(phase) > 0, "no kill in {phase:?} made a row come again");
    }
    Ok(())
}

fn embedded_series(random: &mut fastrand::Rng, tally: &mut Tally, kills: u64) -> Result<()> {
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let mut attempt = site.run()?;
    let last = tally.kills() + KILLS_OF_SERIES;
    while !tally.is_complete(kills) && tally.kills() < last {
        let Hit::Run(phase) = tally.rarest() else { unreachable!("only `run` is killed here") };
        if !reach(&mut attempt, phase)? {
            break;
        }
        jitter(random, moment_of(phase));
        let killed = attempt.kill()?;
        attempt = site.run()?;
        let replayed = killed.reached.saturating_sub(attempt.began());
        tally.add(Hit::Run(killed.phase()), replayed);
    }
    finish(&site, attempt, tally)
}

/// Reads on until the phase has begun, after a durable checkpoint; false if the job ends before.
fn reach(attempt: &mut Attempt, phase: Phase) -> Result<bool> {
    attempt.until(|watch| {
        let has_rows = phase == Phase::Committing || watch.has_rows_to_replay();
        phase == Phase::Restoring || (watch.stored > 0 && watch.phase() == phase && has_rows)
    })
}

/// How long after the line that begins a phase the kill may come.
fn moment_of(phase: Phase) -> Duration {
    Duration::from_millis(match phase {
        Phase::Restoring => 60,
        Phase::Writing => 30,
        Phase::Barrier => 8,
        Phase::Committing => 12,
    })
}

fn finish(site: &Site, attempt: Attempt, tally: &mut Tally) -> Result<()> {
    attempt.finish()?;
    tally.count(BORN_DEAD, site.check()?);
    tally.end_series();
    Ok(())
}

#[test]
fn killed_with_a_request_on_the_wire_a_job_goes_on_exactly_once() -> Result<()> {
    let mut random = seed("run at a bad network")?;
    let kills = share(20)?;
    let mut tally = Tally::new("run at a bad network", &[WRITING, BARRIER, COMMITTING]);
    while !tally.is_complete(kills) {
        ensure!(tally.series() < SERIES_MAX, "phases are missed too often: {tally}");
        network_series(&mut random, &mut tally, kills)?;
    }
    println!("{tally}");
    Ok(())
}

fn network_series(random: &mut fastrand::Rng, tally: &mut Tally, kills: u64) -> Result<()> {
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let (server, address) = site.serve()?;
    site.create_table(address)?;
    let proxy = Proxy::start(address, random.u64(..), FAULTS_PER_MILLE)?;
    site.point_at(proxy.address(), "1000")?;
    let mut attempt = site.run()?;
    let last = tally.kills() + KILLS_OF_SERIES;
    while !tally.is_complete(kills) && tally.kills() < last {
        if !stop_on_the_wire(&mut attempt, &proxy, tally.rarest(), random)? {
            break;
        }
        jitter(random, Duration::from_millis(20));
        let killed = attempt.kill()?;
        // Requests that are held may arrive late, after the next attempt has begun.
        let comes_late = random.bool();
        if !comes_late {
            proxy.cut()?;
        }
        attempt = site.run()?;
        if comes_late {
            let _goes_on = attempt.until(|watch| watch.phase() != Phase::Restoring)?;
            proxy.let_go()?;
        }
        let replayed = killed.reached.saturating_sub(attempt.began());
        tally.add(Hit::Run(killed.phase()), replayed);
    }
    finish(&site, attempt, tally)?;
    tally.count_traffic(&proxy.traffic())?;
    server.kill()?;
    Ok(())
}

/// Brings the job into the phase, and stops a request of that phase on its way. False if the job
/// ends before.
fn stop_on_the_wire(
    attempt: &mut Attempt,
    proxy: &Proxy,
    hit: Hit,
    random: &mut fastrand::Rng,
) -> Result<bool> {
    let point = random.choice(POINTS).expect("there are points");
    // Commits follow a checkpoint at once: the trap is set while its barrier is under way.
    let (phase, call) = match hit {
        WRITING => (Phase::Writing, Call::Put),
        BARRIER => (Phase::Barrier, Call::Put),
        _ => (Phase::Barrier, Call::Commit),
    };
    if !reach(attempt, phase)? || !proxy.catch(call, point, || attempt.has_ended())? {
        return Ok(false);
    }
    // The line that tells of the phase may still be on its way.
    match hit {
        COMMITTING => attempt.until(|watch| watch.phase() != Phase::Barrier),
        _ => Ok(true),
    }
}
