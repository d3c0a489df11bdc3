//! `simulate`: worlds of the simulation from the command line.
//!
//! One seed, or as many from it on as there is time for. Invariant: what it prints with
//! `--trace-hash` is the same for the same seed, whatever the machine and whatever the subject.

use anyhow::{Context, Result, bail};
use upsert_sink_tests::clock::Stopwatch;
use upsert_sink_tests::simulation::{
    Fault, Outcome, Plan, Sometimes, Subjects, Tally, Trace, number, run, shrink,
};

const USAGE: &str = "simulate --seed N [--seconds S] [--trace-hash] [--subject component|native] \
                     [--without FAULT,…] [--changes N] [--trace] [--shrink]";

/// The run that was asked for.
struct Asked {
    plan: Plan,
    seconds: Option<u64>,
    hash_only: bool,
    trace: bool,
    shrink: bool,
}

impl Asked {
    fn read(words: impl Iterator<Item = String>) -> Result<Self> {
        let (plan, rest) = Plan::read(words).context(USAGE)?;
        let mut asked = Self { plan, seconds: None, hash_only: false, trace: false, shrink: false };
        let mut rest = rest.into_iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--seconds" => {
                    asked.seconds = Some(number(&rest.next().context("--seconds needs a value")?)?);
                }
                "--trace-hash" => asked.hash_only = true,
                "--trace" => asked.trace = true,
                "--shrink" => asked.shrink = true,
                other => bail!("{other} is no option; usage: {USAGE}"),
            }
        }
        Ok(asked)
    }

    /// The world of another seed, with the same left out.
    fn plan(&self, seed: u64) -> Plan {
        let mut plan = Plan::of(seed, self.plan.subject);
        let drawn = Plan::of(self.plan.seed, self.plan.subject);
        let gone = |fault: &Fault| self.plan.faults.rate(*fault) < drawn.faults.rate(*fault);
        Fault::all().filter(gone).for_each(|fault| plan.faults.set(fault, 0));
        if self.plan.changes != drawn.changes {
            plan.changes = self.plan.changes;
        }
        plan
    }
}

/// The sum over all worlds so far.
#[derive(Default)]
struct Sum {
    seeds: u64,
    seeds_in_doubt: u64,
    outcome: Outcome,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.seeds_in_doubt += u64::from(outcome.crashes_in_doubt > 0);
        self.outcome.checkpoints += outcome.checkpoints;
        self.outcome.crashes += outcome.crashes;
        self.outcome.crashes_in_doubt += outcome.crashes_in_doubt;
        self.outcome.commits_in_doubt += outcome.commits_in_doubt;
        self.outcome.faults.add(&outcome.faults);
        self.outcome.sometimes.add(&outcome.sometimes);
    }

    fn report(&self, watch: &Stopwatch) {
        let minutes = watch.elapsed().as_secs_f64() / 60.0;
        let rate = |count: u64| count as f64 / minutes;
        let (seeds, o) = (self.seeds, &self.outcome);
        println!("{seeds} seeds in {:.1} s on one thread", minutes * 60.0);
        println!("| | in all | a minute |\n|---|---|---|");
        for (what, count) in [
            ("checkpoints", o.checkpoints),
            ("crashes", o.crashes),
            ("crashes with a commit in doubt", o.crashes_in_doubt),
            ("commits in doubt", o.commits_in_doubt),
        ] {
            println!("| {what} | {count} | {:.0} |", rate(count));
        }
        let percent = 100 * self.seeds_in_doubt / seeds.max(1);
        println!("{percent} % of the seeds crash with a commit in doubt");
        let (tally, sometimes): (&Tally, &Sometimes) = (&o.faults, &o.sometimes);
        println!("faults: {tally:?}");
        println!("{} events in states were seen", sometimes.lines().len());
    }
}

fn main() -> Result<()> {
    let asked = Asked::read(std::env::args().skip(1))?;
    let subjects = Subjects::new();
    let (watch, mut sum) = (Stopwatch::start(), Sum::default());
    for seed in asked.plan.seed.. {
        let plan = asked.plan(seed);
        let trace = Trace::new(asked.trace);
        let outcome = run(&plan, &subjects, &trace);
        if asked.trace {
            print!("{}", trace.lines());
        }
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                println!("seed {seed} fails: {error:#}\n{}", plan.command());
                if asked.shrink {
                    println!("smaller: {}", shrink(&plan, &subjects).command());
                }
                bail!("seed {seed} fails");
            }
        };
        if asked.hash_only {
            println!("{:016x}", outcome.trace);
        }
        sum.add(&outcome);
        if asked.seconds.is_none_or(|seconds| watch.elapsed().as_secs() >= seconds) {
            break;
        }
    }
    if !asked.hash_only {
        sum.report(&watch);
    }
    Ok(())
}
