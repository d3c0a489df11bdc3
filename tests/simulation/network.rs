//! The network between sink and server: delays, losses, late and doubled requests.
//!
//! Each request draws its fate when it is sent. Invariant: what the sender learns is true: "not
//! sent" only if nothing ever arrives, an answer only if the server gave it, and everything else is
//! doubt. A pack whose answer came is never carried out again.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use upsert_sink::components::{Transport, TransportError};

use super::components::{Power, VirtualClock};
use super::faults::Fault;
use super::server::Lives;
use super::tally::{Sometimes, Tally};
use super::world::{Chance, Plan, Trace};

/// The longest that a late request is under way.
const LATE_MS: u64 = 8_000;

/// All ways to the server.
pub(crate) struct Network {
    /// The chance that decides what happens on the way.
    pub(crate) chance: Chance,
    /// The server.
    pub(crate) lives: Arc<Lives>,
    clock: Arc<VirtualClock>,
    trace: Trace,
    plan: Plan,
    calm: Mutex<bool>,
    counted: Mutex<(Tally, Sometimes)>,
    /// Sessions that packs were sent to.
    written: Mutex<BTreeSet<String>>,
}

impl Network {
    /// Ways to a server.
    pub(crate) fn new(
        plan: &Plan,
        clock: &Arc<VirtualClock>,
        trace: &Trace,
        lives: Arc<Lives>,
    ) -> Arc<Self> {
        Arc::new(Self {
            chance: Chance::new(plan.seed, 2),
            lives,
            clock: Arc::clone(clock),
            trace: trace.clone(),
            plan: plan.clone(),
            calm: Mutex::new(false),
            counted: Mutex::default(),
            written: Mutex::default(),
        })
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        *self.calm.lock().expect("no holder panics") = true;
        self.lives.calm();
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        *self.calm.lock().expect("no holder panics")
    }

    /// Whether a fault happens now; counts it if it does.
    pub(crate) fn goes_wrong(&self, fault: Fault) -> bool {
        let wrong = self.plan.faults.happens(fault, &self.chance) && !self.is_calm();
        if wrong {
            self.count(fault);
        }
        wrong
    }

    /// Counts a fault.
    pub(crate) fn count(&self, fault: Fault) {
        self.counted.lock().expect("no holder panics").0.count(fault);
    }

    /// The counts so far.
    pub(crate) fn counted(&self) -> (Tally, Sometimes) {
        let (mut tally, sometimes) = self.counted.lock().expect("no holder panics").clone();
        tally.add(&self.lives.fired());
        (tally, sometimes)
    }

    /// The sessions that packs were sent to.
    pub(crate) fn written(&self) -> BTreeSet<String> {
        self.written.lock().expect("no holder panics").clone()
    }

    fn delay(&self) -> BoxFuture<'static, ()> {
        self.clock.after(self.chance.below(self.plan.delay_ms))
    }

    fn fate(&self) -> Option<Fault> {
        let fates = [Fault::Refused, Fault::Lost, Fault::Unanswered, Fault::Late, Fault::Doubled];
        fates.into_iter().find(|fate| self.goes_wrong(*fate))
    }

    /// Counts a request to a session, and lets the service forget a session that has ended.
    fn of_session(&self, mut request: Request<Bytes>) -> Request<Bytes> {
        let Some(id) = session(request.uri()) else { return request };
        let Some(status) = self.lives.service().session_status(id) else { return request };
        let call = match *request.method() {
            Method::PUT => "put",
            Method::POST => "commit",
            Method::DELETE => "abort",
            _ => "status",
        };
        {
            let mut counted = self.counted.lock().expect("no holder panics");
            counted.1.count(("session", status, "arrived", call));
        }
        let has_ended = !matches!(status, "normal" | "committing");
        if has_ended && self.goes_wrong(Fault::Forgotten) {
            let unknown = format!("{}00000000", &id[..id.len() - 8]);
            let uri = request.uri().to_string().replace(id, &unknown);
            *request.uri_mut() = uri.parse().expect("as long and as plain as before");
        }
        request
    }

    async fn carry_out(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        self.lives.carry_out(self.of_session(request)).await
    }

    /// Carries it out later, whatever becomes of its sender.
    fn carry_out_later(self: &Arc<Self>, request: Request<Bytes>) {
        let late = self.clock.after(self.chance.below(LATE_MS));
        let network = Arc::clone(self);
        tokio::spawn(async move {
            late.await;
            network.carry_out(request).await
        });
    }

    async fn send(
        self: Arc<Self>,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        if let (&Method::PUT, Some(id)) = (request.method(), session(request.uri())) {
            self.written.lock().expect("no holder panics").insert(id.to_owned());
        }
        let fate = self.fate();
        let told = format!(
            "{} {} {} {}",
            request.method(),
            request.uri(),
            hash(request.body()),
            fate.map_or("", Fault::name)
        );
        self.trace.note(self.clock.now_ms(), &told);
        self.delay().await;
        let doubt = |message: &str| Err(TransportError { sent: true, message: message.into() });
        match fate {
            Some(Fault::Refused) => Err(TransportError { sent: false, message: "refused".into() }),
            Some(Fault::Lost) => doubt("lost"),
            Some(Fault::Late) => {
                self.carry_out_later(request);
                doubt("given up")
            }
            Some(Fault::Unanswered) => {
                self.carry_out(request).await;
                doubt("no answer")
            }
            Some(Fault::Doubled) if request.method() == Method::PUT => {
                self.carry_out(request.clone()).await;
                self.carry_out_later(request);
                doubt("no answer")
            }
            fate => {
                let answer = self.carry_out(request.clone()).await;
                if fate == Some(Fault::Doubled) {
                    self.carry_out_later(request);
                }
                self.delay().await;
                answer.map_or_else(|| doubt("the server died"), Ok)
            }
        }
    }
}

/// The session that a request is about.
fn session(uri: &Uri) -> Option<&str> {
    let query = uri.query()?;
    query.split('&').find_map(|pair| pair.strip_prefix("upsertid="))
}

fn is_commit(request: &Request<Bytes>) -> bool {
    request.method() == Method::POST && session(request.uri()).is_some()
}

fn hash(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

/// The network as one attempt of the sink sees it.
pub(crate) struct Line {
    network: Arc<Network>,
    power: Arc<Power>,
    /// Commits until the attempt is killed at one.
    commits_left: Mutex<Option<u64>>,
    /// Sessions whose commit was sent, and whose outcome the attempt does not know.
    in_doubt: Mutex<BTreeSet<String>>,
    /// How often an outcome came back as not known.
    doubts: Mutex<u64>,
}

impl Line {
    /// A line of an attempt.
    pub(crate) fn new(
        network: &Arc<Network>,
        power: &Arc<Power>,
        commits: Option<u64>,
    ) -> Arc<Self> {
        Arc::new(Self {
            network: Arc::clone(network),
            power: Arc::clone(power),
            commits_left: Mutex::new(commits),
            in_doubt: Mutex::default(),
            doubts: Mutex::default(),
        })
    }

    /// Whether the attempt has sent a commit whose outcome it does not know.
    pub(crate) fn is_in_doubt(&self) -> bool {
        !self.in_doubt.lock().expect("no holder panics").is_empty()
    }

    /// Commits that ended in doubt.
    pub(crate) fn doubts(&self) -> u64 {
        *self.doubts.lock().expect("no holder panics")
    }

    fn is_last_commit(&self) -> bool {
        let mut left = self.commits_left.lock().expect("no holder panics");
        match &mut *left {
            Some(0) => true,
            Some(count) => {
                *count -= 1;
                false
            }
            None => false,
        }
    }

    async fn send_commit(
        &self,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let id = session(request.uri()).unwrap_or_default().to_owned();
        self.in_doubt.lock().expect("no holder panics").insert(id.clone());
        let dies = self.is_last_commit();
        let dies_first = dies && self.network.chance.happens(50);
        let sent = tokio::spawn(Arc::clone(&self.network).send(request));
        if dies_first {
            self.power.kill();
        }
        self.power.or_never().await;
        let sent = sent.await.expect("the network does not panic");
        if dies {
            self.power.kill();
        }
        self.power.or_never().await;
        let is_known = sent.as_ref().is_ok_and(|answer| !answer.status().is_server_error());
        if is_known || sent.as_ref().is_err_and(|error| !error.sent) {
            self.in_doubt.lock().expect("no holder panics").remove(&id);
        } else {
            *self.doubts.lock().expect("no holder panics") += 1;
        }
        sent
    }
}

impl Transport for Line {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        async move {
            self.power.host_call();
            self.power.or_never().await;
            if is_commit(&request) {
                return self.send_commit(request).await;
            }
            // A task of its own: what was sent arrives, also if its sender dies.
            let sent = tokio::spawn(Arc::clone(&self.network).send(request)).await;
            self.power.or_never().await;
            sent.expect("the network does not panic")
        }
        .boxed()
    }
}
