//! A power cut under `run`: its journal, its state and its server's files end within a record.
//!
//! Invariant: only what no other process can have seen is damaged, unless the test says that it is
//! more than a power cut does; then it must stop, and what it advises must work.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use upsert_sink::journal::JournalRecord;
use upsert_sink::sessions::{JournalState, SessionRecord};
use upsert_sink_format::frame;
use upsert_sink_tests::binary;

use crate::crash::components::jitter;
use crate::crash::http::Call;
use crate::crash::proxy::{Gate, Point, Proxy};
use crate::crash::site::Site;
use crate::crash::tally::seed;
use crate::crash::torn;

const EVENTS: u64 = 120_000;
const RATE: u64 = 30_000;
const POWER_CUTS: u32 = 5;

/// The journal: letters and version, then records in frames.
const MAGIC_BYTES: usize = 8;

/// The last record of a journal: where it begins, and what it says.
fn last_record(journal: &[u8]) -> Result<(usize, JournalRecord)> {
    let (mut at, mut last) = (MAGIC_BYTES, 0);
    let mut record = None;
    while at < journal.len() {
        let payload = frame::whole_at(journal, at).context("a journal with a torn record")?;
        record = Some(serde_json::from_slice(&journal[payload.clone()])?);
        (last, at) = (at, payload.end);
    }
    Ok((last, record.context("a journal without a record")?))
}

/// Whether a record says that a session was created.
fn is_of_a_new_session(record: &JournalRecord) -> bool {
    let JournalRecord::Appended { bytes, .. } = record else { return false };
    SessionRecord::from_bytes(bytes).is_ok_and(|session| session.state == JournalState::Open)
}

/// A session's id is durable before a pack of it is sent. So while no pack reaches the server, the
/// record of the last session may be torn.
#[test]
fn a_journal_torn_within_the_record_of_a_session_without_packs_is_cut_there() -> Result<()> {
    let mut random = seed("torn journal of run")?;
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let (server, address) = site.serve()?;
    site.create_table(address)?;
    let proxy = Proxy::start(address, random.u64(..), 0)?;
    site.point_at(proxy.address(), "1000")?;
    let journal = site.state.join("journal/sink.journal");
    let mut torn = 0;
    while torn < POWER_CUTS {
        proxy.gate(Gate::NoPacks);
        let mut attempt = site.run()?;
        let caught = proxy.catch(Call::Put, Point::Asked, || attempt.has_ended())?;
        ensure!(caught, "the input is too short");
        jitter(&mut random, Duration::from_millis(20));
        attempt.kill()?;
        let (start, record) = last_record(&fs::read(&journal)?)?;
        if is_of_a_new_session(&record) {
            let cut = random.usize(start..fs::metadata(&journal)?.len().try_into()?);
            let bytes = fs::read(&journal)?;
            fs::write(&journal, &bytes[..cut])?;
            println!("the journal is cut at byte {cut} of {}", bytes.len());
            torn += 1;
        }
        // Nothing of the dead job comes late: it had sent no pack.
        proxy.cut()?;
        proxy.cut_waiting()?;
        let mut attempt = site.run()?;
        ensure!(attempt.until(|watch| watch.stored > 0)?, "the input is too short");
        attempt.kill()?;
    }
    site.run()?.finish()?;
    let born_dead = site.check()?;
    println!("{POWER_CUTS} power cuts; {born_dead} empty sessions whose ids reached nobody");
    server.kill()?;
    Ok(())
}

/// Everything that was being written: the next record of the journal, the next checkpoint, and of
/// the embedded server the next pack and the next version of its log.
#[test]
fn records_that_were_just_begun_are_dropped() -> Result<()> {
    let mut random = seed("begun records of run")?;
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    for _ in 0..POWER_CUTS {
        let mut attempt = site.run()?;
        let stored = random.u32(1..4);
        ensure!(attempt.until(|watch| watch.stored >= stored)?, "the input is too short");
        jitter(&mut random, Duration::from_millis(100));
        attempt.kill()?;
        let journal = site.state.join("journal/sink.journal");
        let bytes = fs::read(&journal)?;
        let (start, _) = last_record(&bytes)?;
        println!("{}", torn::begin_record(&journal, &bytes[start..], &mut random)?);
        let state = torn::newest(&site.state, ".state")?;
        let next = torn::next(&state)?.with_extension("new");
        println!("{}", torn::begin_record(&next, &fs::read(&state)?, &mut random)?);
        let record = torn::newest(&site.data.join("log"), ".json")?;
        let next = torn::next(&record)?;
        println!("{}", torn::begin_record(&next, &fs::read(&record)?, &mut random)?);
        // Files that appear whole are written under such names first.
        fs::write(next.with_extension("json#1"), "{")?;
        let spool = torn::newest(&site.data.join("spool"), ".packs")?;
        let frames = fs::read(&spool)?;
        // The first record of a segment begins behind eight letters; a part of it is none.
        let frame = &frames[8..frames.len().min(200)];
        println!("{}", torn::begin_record(&spool, frame, &mut random)?);
    }
    site.run()?.finish()?;
    site.check()?;
    Ok(())
}

/// Stops with an error that names the file; answers it.
fn refused(site: &Site, file: &Path) -> Result<String> {
    let ended = binary::run(&site.run_arguments())?;
    println!("{}", ended.stderr);
    let name = file.file_name().context("a name")?.to_string_lossy().into_owned();
    ensure!(!ended.status.success() && ended.stderr.contains(&name), "{ended:?}");
    Ok(ended.stderr)
}

/// More than a power cut does: the newest checkpoint was durable, and is damaged all the same.
#[test]
fn a_damaged_checkpoint_is_told_and_without_it_the_job_goes_on_from_the_one_before() -> Result<()> {
    let mut random = seed("damaged checkpoint")?;
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let mut attempt = site.run()?;
    ensure!(attempt.until(|watch| watch.stored >= 3)?, "the input is too short");
    jitter(&mut random, Duration::from_millis(100));
    attempt.kill()?;
    let newest = torn::newest(&site.state, ".state")?;
    println!("{}", torn::tear(&newest, 0, &mut random)?);
    let message = refused(&site, &newest)?;
    ensure!(message.contains("remove it to go on from the checkpoint before it"), "{message}");
    fs::remove_file(&newest)?;
    site.run()?.finish()?;
    site.check()?;
    Ok(())
}

/// Bytes that are no record, where the next one would be: the journal says how to go on.
#[test]
fn a_journal_with_rubbish_at_its_end_is_told_and_cut_as_advised_the_job_goes_on() -> Result<()> {
    let mut random = seed("rubbish in the journal")?;
    let site = Site::new(random.u64(..), EVENTS, RATE)?;
    let mut attempt = site.run()?;
    ensure!(attempt.until(|watch| watch.stored >= 2)?, "the input is too short");
    attempt.kill()?;
    let journal = site.state.join("journal/sink.journal");
    let whole = fs::read(&journal)?;
    let rubbish: Vec<u8> = (0..random.usize(12..400)).map(|_| random.u8(1..)).collect();
    fs::write(&journal, [whole.as_slice(), &rubbish].concat())?;
    let message = refused(&site, &journal)?;
    let advice = format!("cut it to its first {} bytes", whole.len());
    ensure!(message.contains(&advice), "{message}");
    fs::write(&journal, whole)?;
    site.run()?.finish()?;
    site.check()?;
    Ok(())
}
