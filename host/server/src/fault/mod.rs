//! Faults by rule: the rules that are in force, and how often each was applied.
//!
//! Rules come from `fault/rule.rs`. `fault/layer.rs` applies them around the whole service; a
//! connection alone can be cut, so `http/mod.rs` does that as [`Severed`] says. Invariant: rules,
//! their lives and the requests they delay are bounded, and no rule applies to the requests that
//! set rules.

pub(crate) mod crash;
pub(crate) mod layer;
mod reply;
mod rule;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use upsert_sink_format::id::Millis;

pub(crate) use self::rule::FAULTS;
pub use self::rule::FaultRules;
use self::rule::{Fault, RULES_MAX, Rule};
use crate::components::{Clock, Entropy, ServerComponents};
use crate::error::Error;
use crate::request::{FAULTS_PATH, Request};

/// The rules of one server.
pub struct Faults {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    active: Mutex<ActiveRules>,
    /// Changed when rules are removed: requests that they delay go on.
    removed: watch::Sender<()>,
}

#[derive(Default)]
struct ActiveRules {
    rules: Vec<ActiveRule>,
    last_id: u64,
}

/// A rule and its counts.
struct ActiveRule {
    id: u64,
    rule: Rule,
    until: Millis,
    seen: u64,
    fired: u64,
    holding: u64,
}

/// A rule that is in force, and how often it was applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultStatus {
    /// Its number; never used again.
    pub id: u64,
    /// Its name; may be empty.
    pub name: String,
    /// Requests that it fitted.
    pub seen: u64,
    /// Requests that it was applied to.
    pub fired: u64,
    /// Requests that it delays now.
    pub holding: u64,
    /// How long it will be in force.
    pub seconds_left: u64,
    /// As it was written.
    pub rule: Value,
}

/// How a connection ends in place of an answer, as an extension of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection is severed")]
pub enum Severed {
    /// Nothing is answered.
    Unanswered,
    /// So many bytes of the body are sent, and never all of it.
    After(usize),
}

/// The fault of one request.
#[derive(Clone, Debug)]
pub(crate) struct ChosenFault {
    rule: u64,
    fault: Fault,
    session: Option<String>,
}

impl ChosenFault {
    /// How much of the request's body is read, if its connection is cut then.
    pub(crate) fn request_bytes(&self) -> Option<usize> {
        match self.fault {
            Fault::CutRequest(bytes) => Some(bytes),
            _ => None,
        }
    }
}

impl Faults {
    pub(crate) fn new(rules: FaultRules, components: &ServerComponents) -> Self {
        let faults = Self {
            clock: Arc::clone(&components.clock),
            entropy: Arc::clone(&components.entropy),
            active: Mutex::default(),
            removed: watch::Sender::new(()),
        };
        faults.add(rules).expect("without rules there is room for all that can be parsed");
        faults
    }

    /// Adds rules, behind those in force: all of them, or none.
    ///
    /// Errors: `Faults` if there would be too many.
    pub fn add(&self, rules: FaultRules) -> Result<(), Error> {
        let now = self.clock.now();
        let mut active = self.active();
        active.rules.retain(|rule| rule.until > now);
        let count = active.rules.len() + rules.0.len();
        if count > RULES_MAX {
            return Err(Error::Faults(format!(
                "{count} rules would stand, at most {RULES_MAX} can; remove some with DELETE \
                 /__faults"
            )));
        }
        for rule in rules.0 {
            active.last_id += 1;
            let lifetime = u64::try_from(rule.lifetime.as_millis()).unwrap_or(u64::MAX);
            let id = active.last_id;
            let until = now.plus(Millis(lifetime));
            active.rules.push(ActiveRule { id, rule, until, seen: 0, fired: 0, holding: 0 });
        }
        Ok(())
    }

    /// Removes one rule. False if there is none of this number.
    pub fn remove(&self, id: u64) -> bool {
        let mut active = self.active();
        let before = active.rules.len();
        active.rules.retain(|rule| rule.id != id);
        let removed = active.rules.len() < before;
        drop(active);
        self.removed.send_replace(());
        removed
    }

    /// Removes all rules; requests that they delay go on.
    pub fn clear(&self) {
        self.active().rules.clear();
        self.removed.send_replace(());
    }

    /// The rules in force, in the order in which a request is compared with them.
    pub fn status(&self) -> Vec<FaultStatus> {
        let now = self.clock.now();
        let active = self.active();
        let in_force = active.rules.iter().filter(|rule| rule.until > now);
        let status = |active: &ActiveRule| FaultStatus {
            id: active.id,
            name: active.rule.name.clone(),
            seen: active.seen,
            fired: active.fired,
            holding: active.holding,
            seconds_left: active.until.since(now).0.div_ceil(1000),
            rule: active.rule.written.clone(),
        };
        in_force.map(status).collect()
    }

    /// The fault of a request. Every rule that fits it counts it; the first rule whose occasion it
    /// is applies. To be called once for each request.
    pub(crate) fn choose(&self, method: &Method, uri: &Uri) -> Option<ChosenFault> {
        if self.active().rules.is_empty() {
            return None;
        }
        let head = http::Request::builder().method(method).uri(uri.clone());
        let request = Request::new(head.body(Bytes::new()).ok()?).ok()?;
        if request.path.first().is_some_and(|part| part == FAULTS_PATH) {
            return None;
        }
        let now = self.clock.now();
        let mut chosen = None;
        for active in &mut self.active().rules {
            if active.until <= now || !active.rule.matches.fit(&request) {
                continue;
            }
            active.seen += 1;
            let draw = || self.entropy.draw();
            if chosen.is_none() && active.rule.occasion.is_now(active.seen, draw) {
                active.fired += 1;
                let session = request.parameter("upsertid").map(str::to_owned);
                let fault = active.rule.fault.clone();
                chosen = Some(ChosenFault { rule: active.id, fault, session });
            }
        }
        chosen
    }

    /// Waits for the delay of a rule, or until the rule is removed.
    async fn delay(&self, rule: u64, span: Duration) {
        let mut removed = self.removed.subscribe();
        let Some(_delayed) = self.count_delayed(rule) else { return };
        let removed = removed.wait_for(|()| !self.active().rules.iter().any(|r| r.id == rule));
        futures::future::select(std::pin::pin!(removed), self.clock.sleep(span)).await;
    }

    fn count_delayed(&self, rule: u64) -> Option<DelayedRequest<'_>> {
        let mut active = self.active();
        if active.rules.iter().map(|rule| rule.holding).sum::<u64>() >= DELAYED_MAX {
            tracing::warn!("too many requests are delayed: one more goes on at once");
            return None;
        }
        active.rules.iter_mut().find(|active| active.id == rule)?.holding += 1;
        Some(DelayedRequest { faults: self, rule })
    }

    fn active(&self) -> MutexGuard<'_, ActiveRules> {
        self.active.lock().expect("no holder panics")
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("rules", &self.status()).finish()
    }
}

/// Counts among the requests that a rule delays, until it is dropped.
struct DelayedRequest<'a> {
    faults: &'a Faults,
    rule: u64,
}

impl Drop for DelayedRequest<'_> {
    fn drop(&mut self) {
        let mut active = self.faults.active();
        if let Some(rule) = active.rules.iter_mut().find(|rule| rule.id == self.rule) {
            rule.holding -= 1;
        }
    }
}

/// Requests that are delayed at once, at most: each keeps its body in memory.
const DELAYED_MAX: u64 = 64;
