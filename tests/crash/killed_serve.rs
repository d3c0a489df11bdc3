//! `serve` killed with -9 while idle, with a pack under way and with a commit under way, again and
//! again under one job, which goes on over a bad network.
//!
//! Invariant: the request that a kill interrupts is stopped at a known point first; the job itself
//! is never started again.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::crash::components::jitter;
use crate::crash::http::Call;
use crate::crash::job::Attempt;
use crate::crash::process::Process;
use crate::crash::proxy::{Gate, POINTS, Proxy};
use crate::crash::site::Site;
use crate::crash::tally::{BORN_DEAD, Hit, Tally, seed, share};

const EVENTS: u64 = 120_000;
const RATE: u64 = 20_000;
const KILLS_OF_SERIES: u64 = 20;
const FAULTS_PER_MILLE: u32 = 5;
const SERIES_MAX: u32 = 200;

#[test]
fn a_server_killed_in_any_phase_loses_nothing_that_it_acknowledged() -> Result<()> {
    let mut random = seed("serve under a job")?;
    let kills = share(35)?;
    let phases = [Hit::ServeIdle, Hit::ServePut, Hit::ServeCommit];
    let mut tally = Tally::new("serve under a job that goes on", &phases);
    while !tally.is_complete(kills) {
        ensure!(tally.series() < SERIES_MAX, "phases are missed too often: {tally}");
        series(&mut random, &mut tally, kills)?;
    }
    println!("{tally}");
    let rows = tally.rows(Hit::ServePut);
    ensure!(rows > 0, "no pack came again after a kill");
    Ok(())
}

fn series(random: &mut fastrand::Rng, tally: &mut Tally, kills: u64) -> Result<()> {
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let (mut server, address) = site.serve()?;
    site.create_table(address)?;
    let proxy = Proxy::start(address, random.u64(..), FAULTS_PER_MILLE)?;
    site.point_at(proxy.address(), "1000")?;
    let mut attempt = site.run()?;
    let last = tally.kills() + KILLS_OF_SERIES;
    while !tally.is_complete(kills) && tally.kills() < last {
        // Each kill finds the job further than the one before it.
        let further = attempt.watch().stored + 1;
        let hit = tally.rarest();
        if !attempt.until(|watch| watch.stored >= further)?
            || !stop(&mut attempt, &proxy, hit, random)?
        {
            break;
        }
        jitter(random, Duration::from_millis(15));
        let again = proxy.traffic().rows_again;
        server = replace(&site, server, &proxy)?;
        go_on(&proxy, hit, random.bool())?;
        let further = attempt.watch().stored + 1;
        let _ended = attempt.until(|watch| watch.stored >= further)?;
        tally.add(hit, proxy.traffic().rows_again - again);
    }
    attempt.finish()?;
    tally.count(BORN_DEAD, site.check()?);
    tally.count_traffic(&proxy.traffic())?;
    tally.end_series();
    server.kill()?;
    Ok(())
}

/// Brings the server into the phase, and stops it there. False if the job ends before.
fn stop(
    attempt: &mut Attempt,
    proxy: &Proxy,
    hit: Hit,
    random: &mut fastrand::Rng,
) -> Result<bool> {
    let point = random.choice(POINTS).expect("there are points");
    match hit {
        Hit::ServeIdle => {
            proxy.gate(Gate::Closed);
            proxy.quiet(|| attempt.has_ended())
        }
        Hit::ServePut => proxy.catch(Call::Put, point, || attempt.has_ended()),
        _ => proxy.catch(Call::Commit, point, || attempt.has_ended()),
    }
}

/// kill -9 of the server, and another one on its tables.
pub(crate) fn replace(site: &Site, server: Process, proxy: &Proxy) -> Result<Process> {
    server.kill()?;
    let (server, address) = site.serve()?;
    proxy.lead_to(address);
    Ok(server)
}

fn go_on(proxy: &Proxy, hit: Hit, comes_late: bool) -> Result<()> {
    match hit {
        Hit::ServeIdle => proxy.gate(Gate::Open),
        _ if comes_late => proxy.let_go()?,
        _ => proxy.cut()?,
    }
    Ok(())
}
