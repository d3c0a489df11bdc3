//! The network between sink and server: delays, losses, late copies; and the death of the server.
//!
//! Each request draws its fate when it is sent. Invariant: what the sender learns is true: "not
//! sent" only if nothing ever arrives, an answer only if the server gave it, and everything else is
//! doubt.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use upsert_sink::components::{Transport, TransportError};
use upsert_sink_server::components::simulated::{self, SimulatedDisk, Unsynced};
use upsert_sink_server::{Components, ServerSettings, Service};

use crate::components::{Power, VirtualClock};
use crate::world::{Chance, Plan, Tally, Trace};

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    Refused,
    Lost,
    Unanswered,
    Late,
}

/// A server that lives, and the disk that it would leave behind.
struct Alive {
    service: Arc<Service>,
    disk: Arc<SimulatedDisk>,
    /// How many servers there were before it.
    life: u64,
}

/// The server and all ways to it.
pub(crate) struct Network {
    /// Virtual time.
    pub(crate) clock: Arc<VirtualClock>,
    /// What happened.
    pub(crate) trace: Arc<Trace>,
    plan: Plan,
    chance: Chance,
    alive: Mutex<Alive>,
    /// Whether faults are off.
    calm: Mutex<bool>,
    /// What went wrong so far.
    tally: Mutex<Tally>,
}

impl Network {
    /// A server on an empty disk.
    pub(crate) async fn new(plan: &Plan, clock: Arc<VirtualClock>, trace: Arc<Trace>) -> Arc<Self> {
        let disk = SimulatedDisk::new();
        let service = serve(plan, &clock, &disk, 0).await;
        Arc::new(Self {
            clock,
            trace,
            plan: plan.clone(),
            chance: Chance::new(plan.seed, 2),
            alive: Mutex::new(Alive { service, disk, life: 0 }),
            calm: Mutex::new(false),
            tally: Mutex::default(),
        })
    }

    /// The server as it is now.
    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.alive.lock().expect("no holder panics").service)
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        *self.calm.lock().expect("no holder panics") = true;
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_calm(&self) -> bool {
        *self.calm.lock().expect("no holder panics")
    }

    /// What went wrong so far.
    pub(crate) fn tally(&self) -> Tally {
        *self.tally.lock().expect("no holder panics")
    }

    /// Counts a fault.
    pub(crate) fn count(&self, fault: impl FnOnce(&mut Tally)) {
        fault(&mut self.tally.lock().expect("no holder panics"));
    }

    /// kill -9 of the server, and a new one on what it left.
    pub(crate) async fn kill_server(&self) {
        let kinds = [Unsynced::Kept, Unsynced::Lost, Unsynced::Torn];
        let unsynced = kinds[self.chance.below(3) as usize];
        let (disk, life) = {
            let alive = self.alive.lock().expect("no holder panics");
            (Arc::clone(&alive.disk), alive.life + 1)
        };
        self.trace.note(self.clock.now_ms(), &format!("server killed, {unsynced:?}"));
        self.count(|tally| tally.server_kills += 1);
        let disk = disk.crash(unsynced).await;
        let service = serve(&self.plan, &self.clock, &disk, life).await;
        *self.alive.lock().expect("no holder panics") = Alive { service, disk, life };
    }

    fn fate(&self) -> Fate {
        let faults = &self.plan.faults;
        let mut drawn = self.chance.below(100);
        if self.is_calm() {
            return Fate::Answered;
        }
        for (percent, fate) in [
            (faults.refused, Fate::Refused),
            (faults.lost, Fate::Lost),
            (faults.unanswered, Fate::Unanswered),
            (faults.late, Fate::Late),
        ] {
            if drawn < percent {
                return fate;
            }
            drawn -= percent;
        }
        Fate::Answered
    }

    fn delay(&self) -> BoxFuture<'static, ()> {
        self.clock.after(self.chance.below(self.plan.faults.delay_ms))
    }

    /// Carries it out; none if the server died meanwhile.
    async fn carry_out(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let (service, life) = {
            let alive = self.alive.lock().expect("no holder panics");
            (Arc::clone(&alive.service), alive.life)
        };
        let response = service.respond(request).await;
        let same = self.alive.lock().expect("no holder panics").life == life;
        same.then_some(response)
    }

    async fn send(
        self: Arc<Self>,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, TransportError> {
        let fate = self.fate();
        let told =
            format!("{} {} {} {fate:?}", request.method(), request.uri(), hash(request.body()));
        self.trace.note(self.clock.now_ms(), &told);
        self.delay().await;
        self.count(|tally| match fate {
            Fate::Answered => {}
            Fate::Refused => tally.refused += 1,
            Fate::Lost => tally.lost += 1,
            Fate::Unanswered => tally.unanswered += 1,
            Fate::Late => tally.late += 1,
        });
        let doubt = |message: &str| Err(TransportError { sent: true, message: message.into() });
        match fate {
            Fate::Refused => Err(TransportError { sent: false, message: "refused".into() }),
            Fate::Lost => doubt("lost"),
            Fate::Late => {
                let late = self.clock.after(self.chance.below(5_000));
                let network = Arc::clone(&self);
                tokio::spawn(async move {
                    late.await;
                    network.carry_out(request).await
                });
                doubt("given up")
            }
            Fate::Unanswered => {
                self.carry_out(request).await;
                doubt("no answer")
            }
            Fate::Answered => {
                let answer = self.carry_out(request).await;
                self.delay().await;
                answer.map_or_else(|| doubt("the server died"), Ok)
            }
        }
    }
}

async fn serve(
    plan: &Plan,
    clock: &Arc<VirtualClock>,
    disk: &Arc<SimulatedDisk>,
    life: u64,
) -> Arc<Service> {
    let clock: Arc<VirtualClock> = Arc::clone(clock);
    let components: Components =
        simulated::components(clock, Arc::clone(disk), plan.seed ^ (life << 32));
    let one_session = plan.promise.one_session;
    let settings = ServerSettings { one_session, ..ServerSettings::new("/server") };
    let opened = Service::open(&settings, &components).await;
    opened.expect("a server recovers from every crash")
}

fn hash(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, step)
}

/// The network as one attempt of the sink sees it.
pub(crate) struct Line {
    /// Where it leads.
    pub(crate) network: Arc<Network>,
    /// Whether the attempt lives.
    pub(crate) power: Arc<Power>,
}

impl Transport for Line {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        async move {
            self.power.or_never().await;
            // A task of its own: what was sent arrives, also if its sender dies.
            let sent = tokio::spawn(Arc::clone(&self.network).send(request)).await;
            self.power.or_never().await;
            sent.expect("the network does not panic")
        }
        .boxed()
    }
}
