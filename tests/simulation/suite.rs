//! The seeds that are run: on two threads, each seed on one of them.
//!
//! `SIMULATION_SEEDS` says how many, `SIMULATION_FIRST` from which on; a nightly run
//! (`SIMULATION_NIGHTLY`) fails when something that should happen sometimes never did. Invariant: a
//! failure prints the line with which it can be run again, made as small as it gets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use upsert_sink_tests::clock::Stopwatch;
use upsert_sink_tests::simulation::{
    Death, Fault, Faults, Outcome, Plan, Promise, Subject, Subjects, SyncSite, Trace, number, run,
    shrink,
};

/// Seeds of one run, unless told otherwise.
const SEEDS: u64 = 40;
/// One of so many seeds runs the native core; the others run the component.
const NATIVE_EVERY: u64 = 20;
/// Worlds that were found to fail, and are kept.
const KEPT: &str = include_str!("seeds.txt");

fn subjects() -> &'static Subjects {
    static SUBJECTS: OnceLock<Subjects> = OnceLock::new();
    SUBJECTS.get_or_init(Subjects::new)
}

fn setting(name: &str, default: u64) -> Result<u64> {
    std::env::var(name).map_or(Ok(default), |text| number(&text).context(name.to_owned()))
}

/// The sum over all worlds of a run.
#[derive(Default)]
struct Sum {
    outcome: Outcome,
    in_doubt: u64,
    failed: Option<(Plan, String)>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        let sum = &mut self.outcome;
        self.in_doubt += u64::from(outcome.crashes_in_doubt > 0);
        sum.attempts += outcome.attempts;
        sum.checkpoints += outcome.checkpoints;
        sum.crashes += outcome.crashes;
        sum.crashes_in_doubt += outcome.crashes_in_doubt;
        sum.commits_in_doubt += outcome.commits_in_doubt;
        sum.views += outcome.views;
        sum.moves_seen += outcome.moves_seen;
        sum.faults.add(&outcome.faults);
        sum.sometimes.add(&outcome.sometimes);
    }
}

fn all(first: u64, seeds: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    let stop = sum.lock().expect("no holder panics").failed.is_some();
                    if seed >= first + seeds || stop {
                        return;
                    }
                    let native = seed.is_multiple_of(NATIVE_EVERY);
                    let subject = if native { Subject::Native } else { Subject::Component };
                    let plan = Plan::of(seed, subject);
                    let outcome = run(&plan, subjects(), &Trace::new(false));
                    let mut sum = sum.lock().expect("no holder panics");
                    match outcome {
                        Ok(outcome) => sum.add(&outcome),
                        Err(error) => sum.failed = Some((plan, format!("{error:#}"))),
                    }
                }
            });
        }
    });
    sum.into_inner().expect("no holder panics")
}

/// Whatever the faults: no view breaks a promise, and in the end the table is the fold of the
/// input.
#[test]
fn every_seed_keeps_its_promises_and_comes_to_its_end() -> Result<()> {
    let (first, seeds) = (setting("SIMULATION_FIRST", 1)?, setting("SIMULATION_SEEDS", SEEDS)?);
    let nightly = std::env::var_os("SIMULATION_NIGHTLY").is_some();
    subjects();
    let watch = Stopwatch::start();
    let sum = all(first, seeds);
    if let Some((plan, error)) = sum.failed {
        println!("fails: {error}\n{}", plan.command());
        let smaller = shrink(&plan, subjects());
        bail!("keep this line in seeds.txt: {}: {error}", smaller.command());
    }
    let (minutes, o) = (watch.elapsed().as_secs_f64() / 60.0, &sum.outcome);
    println!("{seeds} seeds, {} attempts, {} views, {minutes:.2} minutes", o.attempts, o.views);
    println!("{} checkpoints, {} crashes, ", o.checkpoints, o.crashes);
    println!("{} crashes with a commit in doubt, ", o.crashes_in_doubt);
    println!("{} commits in doubt, {} views with moved rows", o.commits_in_doubt, o.moves_seen);
    let percent = 100 * sum.in_doubt / seeds.max(1);
    println!("{percent} % of the seeds crash with a commit in doubt");
    println!("faults: {:?}", o.faults);
    let never = [o.faults.never().iter().map(ToString::to_string).collect(), o.sometimes.never()];
    let never: Vec<String> = never.concat();
    println!("never happened: {never:?}");
    if nightly {
        o.sometimes.lines().iter().for_each(|line| println!("{line}"));
        ensure!(never.is_empty(), "what never happens proves nothing: {never:?}");
    }
    if seeds >= SEEDS {
        ensure!(percent >= 30, "too few seeds crash with a commit in doubt");
        ensure!(o.checkpoints >= 60 * seeds, "the worlds are too short");
        ensure!(o.moves_seen > 0, "a move that is never looked for proves nothing");
    }
    Ok(())
}

/// The same seed is the same run, byte for byte: of the component twice, and of its native twin.
#[test]
fn component_and_native_core_leave_the_same_trace() -> Result<()> {
    for seed in 1000..1012 {
        let hash = |subject| run(&Plan::of(seed, subject), subjects(), &Trace::new(false));
        let component = hash(Subject::Component)?;
        ensure!(component == hash(Subject::Component)?, "seed {seed} differs from itself");
        ensure!(component == hash(Subject::Native)?, "seed {seed} differs from its twin");
    }
    Ok(())
}

/// Each kept seed runs again.
#[test]
fn seeds_that_failed_once_do_not_fail_again() -> Result<()> {
    for line in KEPT.lines().filter(|line| line.starts_with("simulate ")) {
        let (plan, _) = Plan::read(line.split_whitespace().map(str::to_owned))?;
        run(&plan, subjects(), &Trace::new(false)).with_context(|| line.to_owned())?;
    }
    Ok(())
}

/// A short world in which nothing goes wrong but what a test says.
fn quiet(seed: u64, changes: u64) -> Plan {
    let plan = Plan::of(seed, Subject::Component);
    Plan { faults: Faults::NONE, promise: Promise::default(), changes, ..plan }
}

/// Runs the world again and again, with another death each time, until there is none any more.
fn every_death(plan: &Plan, death: impl Fn(u64) -> Death, dies: Fault) -> Result<u64> {
    for number in 1.. {
        let plan = Plan { first_death: Some(death(number)), ..plan.clone() };
        let outcome = run(&plan, subjects(), &Trace::new(false));
        let outcome = outcome.with_context(|| format!("{:?}", plan.first_death))?;
        if outcome.faults.of(dies) == 0 {
            return Ok(number - 1);
        }
    }
    Ok(0)
}

/// Wherever the process dies.
#[test]
fn a_crash_at_every_call_of_the_host_loses_nothing() -> Result<()> {
    for seed in [1, 2] {
        let calls = every_death(&quiet(seed, 300), Death::AtHostCall, Fault::KilledAtHostCall)?;
        println!("seed {seed}: {calls} calls of the host");
        ensure!(calls > 100, "{calls} calls are too few to be all");
    }
    Ok(())
}

/// Whichever call of the host traps its instance.
#[test]
fn a_failure_of_every_import_loses_nothing() -> Result<()> {
    for seed in [1, 2] {
        let imports = every_death(&quiet(seed, 300), Death::OfImport, Fault::ImportFails)?;
        println!("seed {seed}: {imports} calls of imports");
        ensure!(imports > 100, "{imports} calls are too few to be all");
    }
    Ok(())
}

/// Some world in which machines lose power breaks a promise if a sync is left out, and none if it
/// is not.
fn is_found(site: SyncSite) -> Result<()> {
    let mut found = None;
    for seed in 1..=60 {
        let mut plan = Plan { ignored_sync: Some(site), ..quiet(seed, 3_000) };
        for fault in [Fault::ServerKilled, Fault::Killed, Fault::KilledAtCommit] {
            plan.faults.set(fault, 900);
        }
        plan.faults.set(Fault::Unanswered, 50);
        let broken = run(&plan, subjects(), &Trace::new(false)).err();
        plan.ignored_sync = None;
        run(&plan, subjects(), &Trace::new(false)).with_context(|| format!("seed {seed}"))?;
        if let Some(broken) = broken {
            found = Some((seed, broken));
            break;
        }
    }
    let (seed, broken) = found.with_context(|| format!("{site:?} is left out: nobody noticed"))?;
    println!("{site:?} is left out: found at seed {seed}, {broken:#}");
    Ok(())
}

/// Wherever the server dies, and if the machine dies after it; whatever the next start takes for
/// durable. With the sync of a start left out, some death is one too many.
fn is_found_after_a_start(site: SyncSite) -> Result<()> {
    let mut found = None;
    for (seed, sync) in (1..=8).flat_map(|seed| (0..80).map(move |sync| (seed, sync))) {
        let mut plan = Plan { server_dies_at_sync: Some(sync), ..quiet(seed, 500) };
        plan.subject = Subject::Native;
        // Sessions that are open for long, and are aborted by the next attempt.
        plan.faults.set(Fault::KilledAtHostCall, 900);
        plan.faults.set(Fault::Aborted, 600);
        plan.ignored_sync = Some(site);
        let broken = run(&plan, subjects(), &Trace::new(false)).err();
        plan.ignored_sync = None;
        let kept = run(&plan, subjects(), &Trace::new(false));
        kept.with_context(|| format!("seed {seed}, death at sync {sync}"))?;
        if let Some(broken) = broken {
            found = Some((seed, sync, broken));
            break;
        }
    }
    let found = found.with_context(|| format!("{site:?} is left out: nobody noticed"))?;
    let (seed, sync, broken) = found;
    println!("{site:?} is left out: found at seed {seed}, death at sync {sync}, {broken:#}");
    Ok(())
}

#[test]
fn a_journal_that_is_appended_without_a_sync_is_found() -> Result<()> {
    is_found(SyncSite::JournalAppend)
}

#[test]
fn a_journal_that_is_begun_without_a_sync_is_found() -> Result<()> {
    is_found(SyncSite::JournalReplace)
}

#[test]
fn a_log_record_without_a_sync_is_found() -> Result<()> {
    is_found(SyncSite::Log)
}

#[test]
fn a_last_log_record_without_a_sync_at_a_start_is_found() -> Result<()> {
    is_found_after_a_start(SyncSite::LogAtStart)
}

#[test]
fn a_pack_without_a_sync_is_found() -> Result<()> {
    is_found(SyncSite::Spool)
}

#[test]
fn a_file_of_a_commit_without_a_sync_is_found() -> Result<()> {
    is_found(SyncSite::Data)
}
