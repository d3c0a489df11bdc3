//! Runs the checker over a plan, and says what it found.
//!
//! Breadth first and on one thread, so that the way to a broken promise is a shortest one, and the
//! same in every run.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::Ordering;

use stateright::{Checker, HasDiscoveries, Model as _};

use crate::action::KINDS;
use crate::plan::Plan;
use crate::promise::{PROMISES, Promise, REACHED};
use crate::world::Model;

/// The findings of the checker.
#[derive(Debug)]
pub struct Report {
    /// States that differ.
    pub states: usize,
    /// Steps from the first state to the last that was met.
    pub depth: usize,
    /// States of machines, and steps of them, that were met.
    pub machines: (usize, usize),
    /// Whether the end was reached at least once.
    pub ends: bool,
    /// The kinds of things that happened.
    pub happened: Vec<&'static str>,
    /// Each promise that was broken, and the shortest way there.
    pub broken: Vec<(Promise, Vec<String>)>,
}

impl Report {
    /// The way to a promise that is broken.
    pub fn way(&self, promise: Promise) -> Option<&[String]> {
        let found = self.broken.iter().find(|(broken, _)| *broken == promise);
        found.map(|(_, way)| way.as_slice())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (machines, steps) = self.machines;
        write!(
            f,
            "{} states, {} steps deep; {machines} states of machines, {steps} steps of them",
            self.states, self.depth
        )?;
        for (promise, way) in &self.broken {
            write!(f, "\nbroken in {} steps: {}", way.len(), promise.text())?;
            for action in way {
                write!(f, "\n  {action}")?;
            }
        }
        Ok(())
    }
}

/// Walks every state that the plan's bounds allow; or, given promises, until one of them is broken.
pub fn check(plan: Plan, until: &[Promise]) -> Report {
    let builder = Model::new(plan).checker();
    let wanted: BTreeSet<&'static str> = until.iter().map(|promise| promise.text()).collect();
    let finish = match wanted.is_empty() {
        true => HasDiscoveries::AnyFailures,
        false => HasDiscoveries::AnyOf(wanted),
    };
    let checker = builder.finish_when(finish).spawn_bfs().join();
    let discoveries = checker.discoveries();
    let ends = discoveries.contains_key(REACHED);
    let mut broken = Vec::new();
    for (promise, text) in PROMISES {
        if let Some(path) = discoveries.get(text) {
            let way = path.clone().into_actions().into_iter().map(|action| format!("{action:?}"));
            broken.push((promise, way.collect()));
        }
    }
    Report {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        machines: checker.model().machines_met(),
        ends,
        happened: happened(checker.model()),
        broken,
    }
}

fn happened(model: &Model) -> Vec<&'static str> {
    let bits = model.happened.load(Ordering::Relaxed);
    let kinds = KINDS.iter().enumerate().filter(|(kind, _)| bits >> kind & 1 == 1);
    kinds.map(|(_, text)| *text).collect()
}
