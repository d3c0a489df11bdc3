//! Who was killed in which phase, and what that made come again.
//!
//! Every series adds to one. Invariant: a kill counts for the phase that it really hit.

use std::collections::BTreeMap;
use std::{env, fmt};

use anyhow::{Context, Result, ensure};
use upsert_sink_tests::progress::Phase;

use crate::crash::exchange::Traffic;

/// The phase in which a kill hit a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hit {
    /// `run`, by what it had told.
    Run(Phase),
    /// `serve`, with no request under way.
    ServeIdle,
    /// `serve`, with a pack under way.
    ServePut,
    /// `serve`, with a commit under way.
    ServeCommit,
}

/// Sessions that were created while one of the two was killed, or the reply lost.
pub(crate) const BORN_DEAD: &str = "empty sessions whose ids reached nobody";

/// Kills of each phase, at the least.
pub(crate) const OF_EACH_PHASE: u64 = 5;

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    kills: u64,
    rows: u64,
}

/// Kills by phase.
#[derive(Debug)]
pub(crate) struct Tally {
    name: &'static str,
    hits: Vec<Hit>,
    counts: BTreeMap<Hit, Count>,
    series: u32,
    events: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Nobody was killed yet; these are the phases to hit.
    pub(crate) fn new(name: &'static str, hits: &[Hit]) -> Self {
        let counts = hits.iter().map(|hit| (*hit, Count::default())).collect();
        Self { name, hits: hits.to_vec(), counts, series: 0, events: BTreeMap::new() }
    }

    /// One more kill, after which so many rows came again.
    pub(crate) fn add(&mut self, hit: Hit, rows: u64) {
        let count = self.counts.entry(hit).or_default();
        count.kills += 1;
        count.rows += rows;
    }

    /// A series has ended, and its table was the fold of its input.
    pub(crate) fn end_series(&mut self) {
        self.series += 1;
    }

    /// Series that have ended.
    pub(crate) fn series(&self) -> u32 {
        self.series
    }

    /// Counts another event, so many times.
    pub(crate) fn count(&mut self, event: &'static str, times: u64) {
        *self.events.entry(event).or_default() += times;
    }

    /// Counts the traffic of a series, all of which the proxy must have understood.
    pub(crate) fn count_traffic(&mut self, traffic: &Traffic) -> Result<()> {
        ensure!(traffic.strange.is_empty(), "the proxy did not understand: {:?}", traffic.strange);
        self.count("requests", traffic.exchanges);
        self.count("packs sent again", traffic.packs_again);
        traffic.faults.iter().for_each(|(fault, times)| self.count(fault, *times));
        Ok(())
    }

    /// All kills.
    pub(crate) fn kills(&self) -> u64 {
        self.counts.values().map(|count| count.kills).sum()
    }

    /// Rows that came again after kills in one phase.
    pub(crate) fn rows(&self, hit: Hit) -> u64 {
        self.counts.get(&hit).map_or(0, |count| count.rows)
    }

    /// The phase to hit that was hit least.
    pub(crate) fn rarest(&self) -> Hit {
        let rarest = self.hits.iter().min_by_key(|hit| self.counts[*hit].kills);
        *rarest.expect("there is one to hit")
    }

    /// Whether there were so many kills, and enough of each phase.
    pub(crate) fn is_complete(&self, kills: u64) -> bool {
        self.kills() >= kills && self.counts[&self.rarest()].kills >= OF_EACH_PHASE
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{} ({} series)", self.name, self.series)?;
        writeln!(f, "| {:<24} | {:>5} | {:>10} |", "killed with -9", "kills", "rows again")?;
        writeln!(f, "|{:-<26}|{:->7}|{:->12}|", "", "", "")?;
        for (hit, Count { kills, rows }) in &self.counts {
            let hit = match hit {
                Hit::Run(phase) => format!("run, {phase:?}"),
                Hit::ServeIdle => "serve, idle".to_owned(),
                Hit::ServePut => "serve, pack under way".to_owned(),
                Hit::ServeCommit => "serve, commit under way".to_owned(),
            };
            writeln!(f, "| {hit:<24} | {kills:>5} | {rows:>10} |")?;
        }
        let events: Vec<String> =
            self.events.iter().map(|(event, times)| format!("{event}: {times}")).collect();
        writeln!(f, "{}", events.join(", "))
    }
}

/// This series' share of all kills: `CRASH_KILLS`, by default as many as every change must survive.
pub(crate) fn share(percent: u64) -> Result<u64> {
    let kills = match env::var("CRASH_KILLS") {
        Ok(text) => text.parse().with_context(|| format!("CRASH_KILLS={text}: a whole number"))?,
        Err(_) => KILLS,
    };
    Ok((kills * percent).div_ceil(100))
}

/// Where a suite's random numbers begin: `CRASH_SEED`, or chance. Printed either way.
pub(crate) fn seed(suite: &str) -> Result<fastrand::Rng> {
    let seed = match env::var("CRASH_SEED") {
        Ok(text) => {
            let digits = text.trim_start_matches("0x");
            u64::from_str_radix(digits, 16).with_context(|| format!("CRASH_SEED={text}"))?
        }
        Err(_) => fastrand::u64(..),
    };
    println!("{suite}: CRASH_SEED=0x{seed:x}");
    Ok(fastrand::Rng::with_seed(seed))
}

const KILLS: u64 = 45;
