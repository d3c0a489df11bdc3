//! Counts of what happened: how often each fault, and each event in each state of a machine.
//!
//! Counted everywhere in a world, added up over many by the suite. Invariant: a counter only rises;
//! what must happen sometimes and never did is named.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use upsert_sink::twin::{Called, Probe};

use super::components::Power;
use super::faults::Fault;

/// How often each kind of fault happened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tally([u64; Fault::COUNT]);

impl Default for Tally {
    fn default() -> Self {
        Self([0; Fault::COUNT])
    }
}

impl Tally {
    /// It happened.
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// It happened so often.
    pub(crate) fn add_count(&mut self, fault: Fault, count: u64) {
        self.0[fault as usize] += count;
    }

    /// How often it happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    /// The faults that never happened.
    pub fn never(&self) -> Vec<&'static str> {
        Fault::all().filter(|fault| self.of(*fault) == 0).map(Fault::name).collect()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = Fault::all().filter(|fault| self.of(*fault) > 0);
        f.debug_map().entries(happened.map(|fault| (fault.name(), self.of(fault)))).finish()
    }
}

/// An event in a state: who, in which state, what, of which operation.
type Event = (&'static str, &'static str, &'static str, &'static str);

/// How often each event happened in each state, and each thing that a suite wants to have seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sometimes(BTreeMap<Event, u64>);

impl Sometimes {
    /// It happened.
    pub(crate) fn count(&mut self, event: Event) {
        *self.0.entry(event).or_default() += 1;
    }

    /// Adds what happened in another world.
    pub fn add(&mut self, other: &Self) {
        for (event, count) in &other.0 {
            *self.0.entry(*event).or_default() += count;
        }
    }

    /// All that happened, one line each.
    pub fn lines(&self) -> Vec<String> {
        let line = |((who, state, event, operation), count): (&Event, &u64)| {
            format!("{count:>12}  {who:<12} {state:<12} {operation:<18} {event}")
        };
        self.0.iter().map(line).collect()
    }

    /// The events that should have happened in a long enough run, and did not.
    pub fn never(&self) -> Vec<String> {
        let expected: BTreeSet<Event> = expected().into_iter().collect();
        let missing = expected.into_iter().filter(|event| !self.0.contains_key(event));
        let line = |(who, state, event, operation): Event| {
            format!("{who}, {state}: {operation} {event}").replace(":  ", ": ")
        };
        missing.map(line).collect()
    }
}

/// Every pair of a visible state and an event that can be, as far as the service of a simulation
/// can bring it about.
fn expected() -> Vec<Event> {
    let mut all = Vec::new();
    let mut of = |who, states: &[&'static str], operation, events: &[&'static str]| {
        for state in states {
            all.extend(events.iter().map(|event| (who, *state, *event, operation)));
        }
    };
    let writer = ["accepting", "full"];
    let ended = ["checkpoint aborted", "replied", "timer"];
    of("writer", &["new"], "", &["open"]);
    // The engine of a world is told of one barrier before it takes the next.
    of("writer", &["accepting"], "", &["rows", "barrier", "savepoint", "checkpoint completed"]);
    of("writer", &writer, "", &ended);
    let outcomes = ["done", "in doubt", "not sent", "refused, moved", "refused, slow down"];
    of("writer", &writer, "put-pack", &outcomes);
    of("writer", &["accepting"], "cache-append", &["done", "refused, transient"]);
    let (waiting, serving) = (["waiting"], ["serving"]);
    of("coordinator", &["new"], "", &["open"]);
    of("coordinator", &waiting, "", &["requested", "known", "timer"]);
    of("coordinator", &serving, "", &["requested", "known", "timer"]);
    of("coordinator", &waiting, "abort-session", &["done", "in doubt", "not sent"]);
    let created = ["done, normal", "in doubt", "not sent", "refused, slow down"];
    of("coordinator", &serving, "create-session", &created);
    of("coordinator", &waiting, "journal-append", &["done"]);
    of("coordinator", &serving, "journal-append", &["done"]);
    of("committer", &["committing"], "journal-append", &["done"]);
    of("coordinator", &serving, "create-partition", &["done", "in doubt", "not sent"]);
    of("committer", &["new"], "", &["open"]);
    of("committer", &["idle", "committing"], "", &["prepared", "checkpoint completed"]);
    of("committer", &["committing"], "", &["checkpoint aborted", "timer"]);
    let committed = ["done, committed", "in doubt", "not sent", "refused, no such session"];
    of("committer", &["committing"], "commit-session", &committed);
    of("committer", &["idle"], "compact-partition", &["done"]);
    let open = ["normal", "committed", "aborted", "expired"];
    of("session", &open, "put", &["arrived"]);
    all
}

/// Sees every call of a sink's instances, and breaks the import that it is told to.
#[derive(Debug)]
pub(crate) struct Watcher {
    power: Arc<Power>,
    /// Imports until one fails.
    imports_left: Mutex<Option<u64>>,
    seen: Mutex<Sometimes>,
}

impl Watcher {
    pub(crate) fn new(power: &Arc<Power>, imports: Option<u64>) -> Arc<Self> {
        let (power, imports_left) = (Arc::clone(power), Mutex::new(imports));
        Arc::new(Self { power, imports_left, seen: Mutex::default() })
    }

    /// The events that it has seen.
    pub(crate) fn seen(&self) -> Sometimes {
        self.seen.lock().expect("no holder panics").clone()
    }

    /// Whether it broke an import.
    pub(crate) fn has_broken(&self) -> bool {
        *self.imports_left.lock().expect("no holder panics") == Some(0)
    }
}

impl Probe for Watcher {
    fn called(&self, called: &Called<'_>) {
        let role = ["writer", "coordinator", "committer", "router"];
        let who = role.into_iter().find(|role| called.instance.starts_with(role));
        let event = (who.unwrap_or("other"), called.state, called.event, called.operation);
        self.seen.lock().expect("no holder panics").count(event);
    }

    fn imported(&self, instance: &str, import: &'static str) -> Result<(), String> {
        self.power.host_call();
        if self.power.is_off() {
            return Err(String::from("the process is dead"));
        }
        let mut left = self.imports_left.lock().expect("no holder panics");
        match &mut *left {
            None => Ok(()),
            Some(0 | 1) => {
                *left = Some(0);
                Err(format!("{import} of {instance} fails, as it was told"))
            }
            Some(count) => {
                *count -= 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let mut tally = Tally::default();
        assert_eq!(tally.never().len(), Fault::COUNT);
        tally.count(Fault::Lost);
        assert!(!tally.never().contains(&"lost"));
        let mut sometimes = Sometimes::default();
        let missing = sometimes.never().len();
        sometimes.count(("writer", "accepting", "rows", ""));
        assert_eq!(sometimes.never().len(), missing - 1);
        assert!(sometimes.never().contains(&String::from("committer, committing: timer")));
    }
}
