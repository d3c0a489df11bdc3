//! A power cut under `serve`: what it had written and told nobody of is torn, again and again under
//! one job.
//!
//! Invariant: only bytes are damaged that were written after the last answer, while every later
//! answer is held back.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upsert_sink_tests::binary;

use crate::crash::components::jitter;
use crate::crash::http::Call;
use crate::crash::proxy::{Gate, Point, Proxy};
use crate::crash::site::Site;
use crate::crash::tally::seed;
use crate::crash::torn;

const EVENTS: u64 = 120_000;
const RATE: u64 = 20_000;
const POWER_CUTS: u32 = 8;

#[test]
fn a_server_whose_unacknowledged_records_were_torn_has_all_that_it_acknowledged() -> Result<()> {
    let mut random = seed("torn records of serve")?;
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let (mut server, address) = site.serve()?;
    site.create_table(address)?;
    let proxy = Proxy::start(address, random.u64(..), 0)?;
    site.point_at(proxy.address(), "1000")?;
    let mut attempt = site.run()?;
    for _ in 0..POWER_CUTS {
        let further = attempt.watch().stored + 1;
        ensure!(attempt.until(|watch| watch.stored >= further)?, "the input is too short");
        // A pack stands at the gate, and everything before it is answered.
        let caught = proxy.catch(Call::Put, Point::Asked, || attempt.has_ended())?;
        ensure!(caught, "the input is too short");
        proxy.gate(Gate::Closed);
        proxy.quiet(|| Ok(false))?;
        let durable = torn::lengths(&site.data.join("spool"))?;
        proxy.hold_answers();
        proxy.gate(Gate::PacksOnly);
        proxy.let_go()?;
        proxy.answer_held(|| Ok(false))?;
        jitter(&mut random, Duration::from_millis(10));
        server.kill()?;
        let spool = torn::newest(&site.data.join("spool"), ".packs")?;
        let length = durable.get(&spool).copied().unwrap_or_default().max(torn::synced(&spool)?);
        println!("{}", torn::tear(&spool, length, &mut random)?);
        let record = torn::newest(&site.data.join("log"), ".json")?;
        let next = torn::next(&record)?;
        println!("{}", torn::begin_record(&next, &fs::read(&record)?, &mut random)?);
        let address;
        (server, address) = site.serve()?;
        proxy.lead_to(address);
        proxy.cut_answers()?;
        proxy.gate(Gate::Open);
    }
    attempt.finish()?;
    let born_dead = site.check()?;
    println!("{POWER_CUTS} power cuts; {born_dead} empty sessions whose ids reached nobody");
    server.kill()?;
    Ok(())
}

/// Damage that no power cut does is not repaired: it is reported, with the file.
#[test]
fn a_server_with_a_damaged_log_says_which_file_it_is() -> Result<()> {
    let mut random = seed("damaged log of serve")?;
    let site = Site::new(random.u64(..), 5_000, RATE)?;
    site.run()?.finish()?;
    site.check()?;
    let log = site.data.join("log");
    let records: Vec<_> = torn::lengths(&log)?.into_iter().collect();
    let (path, length) = &records[random.usize(0..records.len() - 1)];
    let whole = fs::read(path)?;
    let mut damaged = whole.clone();
    damaged[random.usize(0..*length)] ^= 1;
    fs::write(path, damaged)?;
    let data = site.data.display().to_string();
    let ended = binary::run(&["serve", "--data", &data])?;
    println!("{}", ended.stderr);
    let name = path.file_name().context("a name")?.to_string_lossy().into_owned();
    ensure!(!ended.status.success() && ended.stderr.contains(&name), "{ended:?}");
    fs::write(path, whole)?;
    site.has_finished()?;
    site.check()?;
    Ok(())
}
