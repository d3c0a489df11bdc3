//! The server of a world: its lives, what it leaves behind when it dies, and whoever looks at its
//! table at every commit.
//!
//! Behind `network.rs`. Invariant: the table is looked at after every commit that was carried out
//! and at every start, before anybody can learn of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Request, Response};
use upsert_sink_server::components::simulated::{self, LastSync, SimulatedDirectories, Unsynced};
use upsert_sink_server::{
    Auth, FaultRules, Keys, ServerComponents, ServerSettings, Service, Severed,
};

use super::checker::Checker;
use super::components::{KeyShop, Shown, SyncSite, VirtualClock};
use super::faults::Fault;
use super::tally::Tally;
use super::world::{Chance, Plan, Trace};

/// A server that lives, and the disk that it would leave behind.
struct Alive {
    service: Arc<Service>,
    disk: Arc<SimulatedDirectories>,
    /// How many servers there were before it.
    life: u64,
    /// It has died, and the next one is not there yet.
    is_down: bool,
}

/// How long a slow commit takes, as the vendor has measured it.
const COMMIT_LATENCY: Duration = Duration::from_millis(2_500);

/// Where the server keeps its tables.
const DIRECTORY: &str = "/server";

/// All lives of the server.
pub(crate) struct Lives {
    plan: Plan,
    clock: Arc<VirtualClock>,
    trace: Trace,
    chance: Chance,
    beginning_ms: u64,
    alive: Mutex<Alive>,
    /// Requests until the server that followed one which died at a sync dies too.
    requests_left: Mutex<Option<u64>>,
    /// Held while it starts again.
    starting: tokio::sync::Mutex<()>,
    /// Told what the table shows.
    pub(crate) checker: Arc<tokio::sync::Mutex<Checker>>,
    calm: Mutex<bool>,
    /// How often its own faults acted, in lives that are over.
    fired: Mutex<Tally>,
}

impl Lives {
    /// A server on an empty disk.
    pub(crate) async fn begin(
        plan: &Plan,
        clock: &Arc<VirtualClock>,
        trace: &Trace,
        checker: Checker,
    ) -> Result<Arc<Self>> {
        let beginning_ms = clock.now_ms();
        let disk = with_table(plan, clock).await?.crash(Unsynced::Lost).await;
        let service = open(plan, clock, &disk, 0, beginning_ms).await?;
        if let Some(sync) = plan.server_dies_at_sync {
            disk.fail_at(LastSync { number: disk.syncs() + sync, effective: false });
        }
        Ok(Arc::new(Self {
            plan: plan.clone(),
            clock: Arc::clone(clock),
            trace: trace.clone(),
            chance: Chance::new(plan.seed, 5),
            beginning_ms,
            alive: Mutex::new(Alive { service, disk, life: 0, is_down: false }),
            requests_left: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            checker: Arc::new(tokio::sync::Mutex::new(checker)),
            calm: Mutex::new(false),
            fired: Mutex::default(),
        }))
    }

    /// When everything began.
    pub(crate) fn beginning_ms(&self) -> u64 {
        self.beginning_ms
    }

    /// The server as it is now.
    pub(crate) fn service(&self) -> Arc<Service> {
        Arc::clone(&self.alive.lock().expect("no holder panics").service)
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm(&self) {
        *self.calm.lock().expect("no holder panics") = true;
        self.add_fired();
        self.service().faults().clear();
    }

    /// How often the server's own faults acted.
    pub(crate) fn fired(&self) -> Tally {
        self.add_fired();
        *self.fired.lock().expect("no holder panics")
    }

    fn add_fired(&self) {
        let mut fired = self.fired.lock().expect("no holder panics");
        for status in self.service().faults().status() {
            if let Some(fault) = Fault::named(&status.name) {
                fired.add_count(fault, status.fired);
            }
        }
    }

    /// kill -9, and a new one on what it left.
    pub(crate) async fn kill(&self) -> Result<()> {
        let life = self.life();
        self.restart(life).await
    }

    fn life(&self) -> u64 {
        self.alive.lock().expect("no holder panics").life
    }

    async fn restart(&self, dead: u64) -> Result<()> {
        let _starting = self.starting.lock().await;
        if self.life() != dead {
            return Ok(());
        }
        let kinds: &[Unsynced] = match (self.plan.server_dies_at_sync, self.plan.ignored_sync) {
            // First the process, then the machine: so a start that takes for durable what it finds
            // is found.
            (Some(_), _) if dead == 0 => &[Unsynced::Kept],
            (Some(_), _) => &[Unsynced::Lost],
            (None, Some(_)) => &[Unsynced::Kept, Unsynced::Lost],
            (None, None) => &[Unsynced::Kept, Unsynced::Lost, Unsynced::Torn],
        };
        let unsynced = self.chance.one_of(kinds);
        self.add_fired();
        let life = dead + 1;
        let disk = {
            // The dead server works for nobody: from here on nothing of it is answered.
            let mut alive = self.alive.lock().expect("no holder panics");
            (alive.life, alive.is_down) = (life, true);
            Arc::clone(&alive.disk)
        };
        self.trace.note(self.clock.now_ms(), &format!("server dies, {unsynced:?}"));
        let disk = disk.crash(unsynced).await;
        let service = open(&self.plan, &self.clock, &disk, life, self.beginning_ms).await?;
        if dead == 0 && self.plan.server_dies_at_sync.is_some() {
            let requests = self.chance.below(30);
            *self.requests_left.lock().expect("no holder panics") = Some(requests);
        }
        if *self.calm.lock().expect("no holder panics") {
            service.faults().clear();
        }
        *self.alive.lock().expect("no holder panics") =
            Alive { service, disk, life, is_down: false };
        self.look_now().await;
        Ok(())
    }

    /// The table is looked at, as soon as there is a server.
    pub(crate) async fn look(&self) {
        let _up = self.starting.lock().await;
        self.look_now().await;
    }

    async fn look_now(&self) {
        let mut checker = self.checker.lock().await;
        let service = self.service();
        checker.look(&service).await;
    }

    fn is_last(&self) -> bool {
        let mut left = self.requests_left.lock().expect("no holder panics");
        *left = left.map(|left| left.saturating_sub(1));
        left.take_if(|left| *left == 0).is_some()
    }

    /// Carries a request out; none if nobody gets an answer.
    pub(crate) async fn carry_out(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        let (service, disk, life) = {
            let alive = self.alive.lock().expect("no holder panics");
            if alive.is_down {
                return None;
            }
            (Arc::clone(&alive.service), Arc::clone(&alive.disk), alive.life)
        };
        let may_commit = request.method() == http::Method::POST;
        let response = service.respond(request).await;
        if self.life() != life {
            return None;
        }
        if may_commit {
            self.look().await;
        }
        let severed = response.extensions().get::<Severed>().is_some();
        if self.is_last() || disk.has_failed() || (severed && is_over(&service).await) {
            if let Err(error) = self.restart(life).await {
                self.checker.lock().await.broken(format!("{error:#}"));
            }
            return None;
        }
        (!severed).then_some(response)
    }

    /// Compares what a query shows with what the files hold.
    pub(crate) async fn query(&self) -> Result<()> {
        let batches = self.service().query("SELECT day, id, seq FROM t").await?;
        let checker = self.checker.lock().await;
        ensure!(checker.shows(&batches)?, "a query shows other rows than the files of the table");
        Ok(())
    }
}

async fn is_over(service: &Service) -> bool {
    futures::FutureExt::now_or_never(service.crashed()).is_some()
}

/// A disk with an empty table, made in peace.
async fn with_table(plan: &Plan, clock: &Arc<VirtualClock>) -> Result<Arc<SimulatedDirectories>> {
    let disk = SimulatedDirectories::new();
    let clock = Arc::new(Shown(Arc::clone(clock)));
    let components = simulated::components(clock, Arc::clone(&disk), plan.seed);
    let service = Service::open(&ServerSettings::new(DIRECTORY), &components).await?;
    let sql = format!(
        "CREATE TABLE t (id BIGINT NOT NULL, seq BIGINT, PRIMARY KEY (id)) \
         PARTITIONED BY (day STRING) \
         TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='{}')",
        plan.buckets
    );
    let body = format!(
        "<Instance><Job><Tasks><SQL><Name>create</Name><Query>{sql};</Query></SQL>\
         </Tasks></Job></Instance>"
    );
    let uri = "http://127.0.0.1:80/api/projects/local/instances";
    let answer = service.respond(Request::post(uri).body(Bytes::from(body))?).await;
    ensure!(answer.status().is_success(), "{}: {:?}", answer.status(), answer.body());
    Ok(disk)
}

async fn open(
    plan: &Plan,
    clock: &Arc<VirtualClock>,
    disk: &Arc<SimulatedDirectories>,
    life: u64,
    beginning_ms: u64,
) -> Result<Arc<Service>> {
    let ignored = |at_start: bool| match plan.ignored_sync {
        Some(SyncSite::Log) if !at_start => Some("log/"),
        Some(SyncSite::LogAtStart) if at_start => Some("log/"),
        Some(SyncSite::Spool) if !at_start => Some("spool/"),
        Some(SyncSite::Data) => Some("data/"),
        _ => None,
    };
    disk.ignore_syncs_in(ignored(true));
    let seed = plan.seed ^ (life << 32);
    let components: ServerComponents =
        simulated::components(Arc::new(Shown(Arc::clone(clock))), Arc::clone(disk), seed);
    let settings = ServerSettings {
        one_session: plan.promise.one_session,
        segment_bytes: 256 << 10,
        commit_latency: match plan.faults.rate(Fault::SlowCommits) {
            0 => Duration::ZERO,
            _ => COMMIT_LATENCY,
        },
        faults: rules(plan)?,
        auth: match plan.faults.rate(Fault::Tokens) {
            0 => Auth::Open,
            _ => Auth::Strict(Keys::from_json(&KeyShop::all(beginning_ms))?),
        },
        ..ServerSettings::new(DIRECTORY)
    };
    let service = Service::open(&settings, &components).await?;
    disk.ignore_syncs_in(ignored(false));
    Ok(service)
}

/// The faults that are the server's own, as its rules.
fn rules(plan: &Plan) -> Result<FaultRules> {
    let rule = |fault: Fault, operation: &str, does: &str| {
        let percent = plan.faults.rate(fault).div_ceil(10);
        (percent > 0).then(|| {
            format!(
                "{{\"name\":\"{}\",\"match\":{{\"operation\":\"{operation}\"}},\"when\":\
                 {{\"percent\":{percent}}},\"do\":{does},\"ttl_seconds\":86400}}",
                fault.name()
            )
        })
    };
    let failed = "{\"status\":{\"status\":500}}";
    let rules = [
        rule(Fault::SlotMoved, "put", "{\"slot-moved\":{\"worker\":\"127.0.0.1:80\"}}"),
        rule(Fault::SlotExceeded, "create", "{\"slot-exceeded\":{}}"),
        rule(Fault::FlowExceeded, "put", "\"flow-exceeded\""),
        rule(Fault::ServerError, "put", failed),
        rule(Fault::ServerError, "commit", failed),
        rule(Fault::ServerError, "create", failed),
        rule(Fault::Tengine, "put", "{\"tengine\":{\"status\":502,\"at\":\"before\"}}"),
        rule(Fault::Tengine, "commit", "{\"tengine\":{\"status\":503,\"at\":\"before\"}}"),
        rule(Fault::TengineAfter, "put", "{\"tengine\":{\"status\":502,\"at\":\"after\"}}"),
        rule(Fault::TengineAfter, "commit", "{\"tengine\":{\"status\":504,\"at\":\"after\"}}"),
        rule(Fault::Expired, "put", "\"session-expired\""),
        rule(Fault::Expired, "commit", "\"session-expired\""),
        rule(Fault::ServerCrashBefore, "commit", "{\"crash\":{\"record\":\"before\"}}"),
        rule(Fault::ServerCrashAfter, "commit", "{\"crash\":{\"record\":\"after\"}}"),
    ];
    let rules: Vec<String> = rules.into_iter().flatten().collect();
    Ok(FaultRules::parse(&format!("{{\"rules\":[{}]}}", rules.join(",")))?)
}
