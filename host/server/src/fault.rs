//! Faults by rule: what is to go wrong, with which requests, and how often it did.
//!
//! Stands in the way of every request at two places, both in `service.rs`: before its route
//! ([`Met::before`]) and after it ([`Met::after`]); what only a connection can do (be cut, be
//! closed) is told to `http.rs` as [`Severed`]. Rules come from `fault/rule.rs`. Invariant: without
//! rules nothing is different; rules, their lives and the requests they hold are bounded, and the
//! requests that set rules are never met by one.

mod life;
mod reply;
mod rule;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::Response;
use http::Uri;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;
use upsert_sink_format::id::Millis;

use self::rule::Fault;
use self::rule::RULES_MAX;
use self::rule::Rule;
use crate::components::Clock;
use crate::components::Components;
use crate::components::Entropy;
use crate::error::Error;
use crate::request::Request;
use crate::service::Inner;

pub(crate) use self::life::Life;
pub(crate) use self::rule::FAULTS;
pub use self::rule::FaultRules;
pub(crate) use self::rule::Moment;

/// The rules of one server.
pub struct Faults {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    book: Mutex<Book>,
    /// Told when rules were taken away: what they hold goes on.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Book {
    rules: Vec<Standing>,
    last_id: u64,
}

/// A rule and what came of it.
struct Standing {
    id: u64,
    rule: Rule,
    until: Millis,
    seen: u64,
    fired: u64,
    holding: u64,
}

/// A rule that stands, and how often it acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FaultStatus {
    /// Its number; never used again.
    pub id: u64,
    /// Its name; may be empty.
    pub name: String,
    /// Requests that it fitted.
    pub seen: u64,
    /// Requests that it acted on.
    pub fired: u64,
    /// Requests that it delays now.
    pub holding: u64,
    /// How long it will stand.
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

/// A request that a rule acts on.
#[derive(Clone, Debug)]
pub(crate) struct Met {
    rule: u64,
    fault: Fault,
    session: Option<String>,
}

impl Faults {
    pub(crate) fn new(rules: FaultRules, components: &Components) -> Self {
        let faults = Self {
            clock: Arc::clone(&components.clock),
            entropy: Arc::clone(&components.entropy),
            book: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        faults.add(rules).expect("an empty book has room for all that can be parsed");
        faults
    }

    /// Adds rules, behind those that stand: all of them, or none.
    ///
    /// Errors: `Faults` if there would be too many.
    pub fn add(&self, rules: FaultRules) -> Result<(), Error> {
        let now = self.clock.now();
        let mut book = self.book();
        book.rules.retain(|standing| standing.until > now);
        let count = book.rules.len() + rules.0.len();
        if count > RULES_MAX {
            return Err(Error::Faults(format!(
                "{count} rules would stand, at most {RULES_MAX} can; remove some with DELETE \
                 /__faults"
            )));
        }
        for rule in rules.0 {
            book.last_id += 1;
            let lifetime = u64::try_from(rule.lifetime.as_millis()).unwrap_or(u64::MAX);
            let (id, until) = (book.last_id, now.plus(Millis(lifetime)));
            book.rules.push(Standing { id, rule, until, seen: 0, fired: 0, holding: 0 });
        }
        Ok(())
    }

    /// Removes one rule. False if there is none of this number.
    pub fn remove(&self, id: u64) -> bool {
        let mut book = self.book();
        let before = book.rules.len();
        book.rules.retain(|standing| standing.id != id);
        let removed = book.rules.len() < before;
        drop(book);
        self.changed.send_replace(());
        removed
    }

    /// Removes all rules; requests that they delay go on.
    pub fn clear(&self) {
        self.book().rules.clear();
        self.changed.send_replace(());
    }

    /// The rules that stand, in the order in which they are asked.
    pub fn status(&self) -> Vec<FaultStatus> {
        let now = self.clock.now();
        let book = self.book();
        let standing = book.rules.iter().filter(|standing| standing.until > now);
        let status = |standing: &Standing| FaultStatus {
            id: standing.id,
            name: standing.rule.name.clone(),
            seen: standing.seen,
            fired: standing.fired,
            holding: standing.holding,
            seconds_left: standing.until.since(now).0.div_ceil(1000),
            rule: standing.rule.written.clone(),
        };
        standing.map(status).collect()
    }

    /// The fault that a request meets: every rule that fits it counts it, the first whose occasion
    /// it is acts.
    pub(crate) fn meet(&self, method: &Method, uri: &Uri) -> Option<Met> {
        if self.book().rules.is_empty() {
            return None;
        }
        let asked = http::Request::builder().method(method).uri(uri.clone());
        let asked = Request::new(asked.body(Bytes::new()).ok()?).ok()?;
        if asked.path.first().is_some_and(|part| part == ROUTE) {
            return None;
        }
        let now = self.clock.now();
        let mut met = None;
        for standing in &mut self.book().rules {
            if standing.until <= now || !standing.rule.matches.fit(&asked) {
                continue;
            }
            standing.seen += 1;
            let draw = || self.entropy.draw();
            if met.is_none() && standing.rule.occasion.is_now(standing.seen, draw) {
                standing.fired += 1;
                let session = asked.parameter("upsertid").map(str::to_owned);
                let (rule, fault) = (standing.id, standing.rule.fault.clone());
                met = Some(Met { rule, fault, session });
            }
        }
        met
    }

    /// Waits for the delay of a rule, or until the rule is gone.
    async fn hold(&self, rule: u64, span: Duration) {
        let mut changed = self.changed.subscribe();
        let Some(_held) = self.begin_to_hold(rule) else { return };
        let removed = changed.wait_for(|()| !self.book().rules.iter().any(|s| s.id == rule));
        futures::future::select(std::pin::pin!(removed), self.clock.sleep(span)).await;
    }

    fn begin_to_hold(&self, rule: u64) -> Option<Held<'_>> {
        let mut book = self.book();
        if book.rules.iter().map(|standing| standing.holding).sum::<u64>() >= HOLDING_MAX {
            tracing::warn!("too many requests are delayed: one more goes on at once");
            return None;
        }
        book.rules.iter_mut().find(|standing| standing.id == rule)?.holding += 1;
        Some(Held { faults: self, rule })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no holder panics")
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("rules", &self.status()).finish()
    }
}

struct Held<'a> {
    faults: &'a Faults,
    rule: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut book = self.faults.book();
        if let Some(standing) = book.rules.iter_mut().find(|standing| standing.id == self.rule) {
            standing.holding -= 1;
        }
    }
}

impl Met {
    /// How much of the request's body is read, if its connection is cut then.
    pub(crate) fn request_bytes(&self) -> Option<usize> {
        match self.fault {
            Fault::CutRequest(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// What happens before the route: the answer, if the route is not to be asked.
    pub(crate) async fn before(&self, server: &Inner, asked: &Asked) -> Option<Response<Bytes>> {
        match &self.fault {
            Fault::Answer(Moment::Before, reply) => Some(reply.render(asked.plane, &asked.id)),
            Fault::Delay(Moment::Before, span) => {
                server.faults.hold(self.rule, *span).await;
                None
            }
            Fault::CutRequest(_) => Some(unanswered()),
            Fault::SessionExpired => {
                let session =
                    self.session.as_ref().and_then(|id| server.sessions().get(id).cloned());
                if let Some(session) = session {
                    session.expire();
                }
                None
            }
            Fault::Crash(moment) => {
                server.life.arm(*moment);
                None
            }
            Fault::Answer(Moment::After, _)
            | Fault::Delay(Moment::After, _)
            | Fault::CutResponse(_)
            | Fault::LostReply => None,
        }
    }

    /// What becomes of the route's answer.
    pub(crate) async fn after(
        &self,
        server: &Inner,
        asked: &Asked,
        mut answer: Response<Bytes>,
    ) -> Response<Bytes> {
        match &self.fault {
            Fault::Answer(Moment::After, reply) => return reply.render(asked.plane, &asked.id),
            Fault::Delay(Moment::After, span) => server.faults.hold(self.rule, *span).await,
            Fault::CutResponse(bytes) => {
                answer.extensions_mut().insert(Severed::After(*bytes));
            }
            Fault::LostReply => return unanswered(),
            Fault::Answer(Moment::Before, _)
            | Fault::Delay(Moment::Before, _)
            | Fault::CutRequest(_)
            | Fault::SessionExpired
            | Fault::Crash(_) => {}
        }
        answer
    }
}

/// What a fault's own answer needs to know of its request.
pub(crate) struct Asked {
    pub(crate) plane: crate::error::Plane,
    pub(crate) id: String,
}

/// A response that nobody gets to see.
pub(crate) fn unanswered() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    response.extensions_mut().insert(Severed::Unanswered);
    response
}

/// The first part of the path under which rules are set.
pub(crate) const ROUTE: &str = "__faults";
/// Requests that are delayed at once, at most: each keeps its body in memory.
const HOLDING_MAX: u64 = 64;
