//! Exchanges on the bad network: each request and its answer, and what becomes of them on their
//! way.
//!
//! Below `proxy.rs`, which says what is to be held and when it goes on. Invariant: an exchange goes
//! wrong by decision only, and every decision comes from the seed or from the test.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::SocketAddr;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::crash::components::delay;
use crate::crash::http::{self, Call, Message};
use crate::crash::proxy::{Gate, Point};

/// The fate of something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Wait,
    GoOn,
    Cut,
}

/// Counts of what went through, and of what went wrong by intent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) exchanges: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Packs that came again, byte for byte, and their rows.
    pub(crate) packs_again: u64,
    pub(crate) rows_again: u64,
    seen: HashSet<u64>,
    /// Messages that the proxy did not understand.
    pub(crate) strange: Vec<String>,
}

/// The settings of the network, and what is going on in it.
pub(crate) struct State {
    pub(crate) target: SocketAddr,
    pub(crate) trap: Option<(Call, Point)>,
    /// Exchanges that the trap has stopped.
    pub(crate) caught: u64,
    /// Exchanges that the server has a part of, and whose answers the client has not.
    pub(crate) under_way: u64,
    /// Requests that wait at the gate.
    pub(crate) waiting: u64,
    /// Answers that wait for `answers`.
    pub(crate) answers_held: u64,
    /// So many of a thousand exchanges go wrong.
    pub(crate) faults_per_mille: u32,
    pub(crate) random: fastrand::Rng,
    pub(crate) traffic: Traffic,
}

/// The same, for all connections.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) gate: watch::Sender<Gate>,
    pub(crate) answers: watch::Sender<Held>,
    pub(crate) trapped: watch::Sender<Held>,
}

impl Shared {
    /// Everything passes.
    pub(crate) fn new(state: State) -> Self {
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            gate: watch::Sender::new(Gate::Open),
            answers: watch::Sender::new(Held::GoOn),
            trapped: watch::Sender::new(Held::Wait),
        }
    }

    /// Whoever holds it does not wait.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    fn strange(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::Other {
            self.state().traffic.strange.push(error.to_string());
        }
    }
}

/// The fault of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    CutRequest,
    CutAnswer,
    LostAnswer,
    Delay,
}

impl State {
    /// So many of a thousand exchanges with the server at `target` go wrong.
    pub(crate) fn new(target: SocketAddr, seed: u64, faults_per_mille: u32) -> Self {
        Self {
            target,
            trap: None,
            caught: 0,
            under_way: 0,
            waiting: 0,
            answers_held: 0,
            faults_per_mille,
            random: fastrand::Rng::with_seed(seed),
            traffic: Traffic::default(),
        }
    }

    /// Decides what becomes of a request, and counts it.
    fn plan(&mut self, request: &Message) -> (Fault, Option<Point>) {
        let call = request.call();
        self.traffic.count(request);
        if let Some((_, point)) = self.trap.filter(|(wanted, _)| *wanted == call) {
            self.trap = None;
            return (Fault::None, Some(point));
        }
        if call == Call::Other || self.random.u32(0..1000) >= self.faults_per_mille {
            return (Fault::None, None);
        }
        let faults = [Fault::CutRequest, Fault::CutAnswer, Fault::LostAnswer, Fault::Delay];
        let fault = self.random.choice(faults).unwrap_or(Fault::Delay);
        *self.traffic.faults.entry(fault.name()).or_default() += 1;
        (fault, None)
    }

    /// Somewhere within a message.
    fn within(&mut self, message: &Message) -> usize {
        self.random.usize(1..message.bytes.len().max(2))
    }

    fn slow(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(1..DELAY_MS_MAX))
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::CutRequest => "request cut",
            Self::CutAnswer => "answer cut",
            Self::LostAnswer => "answer lost",
            Self::Delay => "delayed",
        }
    }
}

impl Traffic {
    fn count(&mut self, request: &Message) {
        self.exchanges += 1;
        if request.call() != Call::Put {
            return;
        }
        let mut hasher = DefaultHasher::new();
        // The signature and the time of a request differ each time, its target and body do not.
        request.first_line().hash(&mut hasher);
        request.bytes[request.body..].hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            self.packs_again += 1;
            self.rows_again += request.records();
        }
    }
}

/// One connection of the sink: exchange after exchange, until something breaks it.
pub(crate) async fn serve(mut client: TcpStream, shared: &Shared) {
    let mut server = None;
    loop {
        match http::read(&mut client).await {
            Ok(Some(request)) => {
                let ended = exchange(&mut client, &mut server, shared, &request).await;
                if ended.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => return shared.strange(&error),
        }
    }
}

/// Counts an exchange as under way until it ends, however that is.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.change(|state| state.under_way += 1);
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.under_way -= 1);
    }
}

/// One request and its answer. An error means that the connection is to be closed.
async fn exchange(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    shared: &Shared,
    request: &Message,
) -> io::Result<()> {
    let passes = |gate: &Gate| match gate {
        Gate::Open | Gate::Cut => true,
        Gate::PacksOnly => request.call() == Call::Put,
        Gate::NoPacks => request.call() != Call::Put,
        Gate::Closed => false,
    };
    let (fault, point) = shared.change(|state| state.plan(request));
    if point == Some(Point::Asked) {
        held(shared).await?;
    }
    loop {
        if pass(shared, passes).await == Gate::Cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let _under_way = UnderWay::begin(shared);
        // Whoever closes the gate first and looks for what is under way then misses nothing.
        if !passes(&shared.gate.borrow()) {
            continue;
        }
        let mut reached = false;
        let answer = forward(server, shared, request, (fault, point), &mut reached).await;
        if reached && point == Some(Point::Sent) {
            held(shared).await?;
        }
        if let Err(error) = &answer {
            shared.strange(error);
            // It broke before it came to where it was to stop: the next one is to.
            if let Some(point) = point.filter(|point| !reached && *point != Point::Asked) {
                shared.change(|state| state.trap = Some((request.call(), point)));
            }
        }
        let answer = answer?;
        return deliver(client, shared, &answer, (fault, point)).await;
    }
}

/// Waits at the gate until it lets the request through, or cuts it.
async fn pass(shared: &Shared, passes: impl Fn(&Gate) -> bool) -> Gate {
    shared.change(|state| state.waiting += 1);
    let mut gate = shared.gate.subscribe();
    // The gate ends with the proxy, and then nothing matters any more.
    let gate = gate.wait_for(passes).await.map_or(Gate::Cut, |gate| *gate);
    shared.change(|state| state.waiting -= 1);
    gate
}

/// Takes the request to the server, and answers its answer.
async fn forward(
    server: &mut Option<TcpStream>,
    shared: &Shared,
    request: &Message,
    (fault, point): (Fault, Option<Point>),
    reached: &mut bool,
) -> io::Result<Message> {
    if server.is_none() {
        let target = shared.state().target;
        *server = Some(TcpStream::connect(target).await?);
    }
    let server = server.as_mut().expect("just connected");
    let (first, rest) = match fault == Fault::CutRequest || point == Some(Point::HalfAsked) {
        true => request.bytes.split_at(shared.state().within(request)),
        false => request.bytes.split_at(0),
    };
    http::write(server, first).await?;
    if point == Some(Point::HalfAsked) {
        *reached = true;
        held(shared).await?;
    }
    match fault {
        Fault::CutRequest => return Err(io::ErrorKind::ConnectionReset.into()),
        Fault::Delay => {
            let span = shared.state().slow();
            delay(span).await;
        }
        _ => {}
    }
    http::write(server, rest).await?;
    if point == Some(Point::Sent) {
        *reached = true;
        shared.change(|state| state.caught = 1);
    }
    http::read(server).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Takes the answer back.
async fn deliver(
    client: &mut TcpStream,
    shared: &Shared,
    answer: &Message,
    (fault, point): (Fault, Option<Point>),
) -> io::Result<()> {
    let all_held = *shared.answers.borrow() == Held::Wait;
    if all_held {
        shared.change(|state| state.answers_held += 1);
        let mut answers = shared.answers.subscribe();
        let decided = answers.wait_for(|held| *held != Held::Wait).await;
        let cut = decided.is_ok_and(|held| *held == Held::Cut);
        shared.change(|state| state.answers_held -= 1);
        if cut {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    if point == Some(Point::Answered) {
        held(shared).await?;
    }
    let (first, rest) = match fault == Fault::CutAnswer || point == Some(Point::HalfAnswered) {
        true => answer.bytes.split_at(shared.state().within(answer)),
        false => answer.bytes.split_at(0),
    };
    if fault == Fault::LostAnswer {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    http::write(client, first).await?;
    if point == Some(Point::HalfAnswered) {
        held(shared).await?;
    }
    if fault == Fault::CutAnswer {
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    http::write(client, rest).await
}

/// Stands still until the trap lets go. An error if it cuts.
async fn held(shared: &Shared) -> io::Result<()> {
    // At `Sent` the exchange has been caught while it went on.
    shared.change(|state| state.caught = 1);
    let mut trapped = shared.trapped.subscribe();
    let decided = trapped.wait_for(|held| *held != Held::Wait).await;
    let cut = decided.is_ok_and(|held| *held == Held::Cut);
    shared.change(|state| state.caught = 0);
    match cut {
        true => Err(io::ErrorKind::ConnectionReset.into()),
        false => Ok(()),
    }
}

const DELAY_MS_MAX: u64 = 60;
