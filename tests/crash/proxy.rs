//! A bad network between a sink and its server, on loopback: cuts connections within requests and
//! within answers, delays, swallows replies, and stops an exchange at an exact point.
//!
//! Stands where the sink takes the server to be; `exchange.rs` does what is decided here.
//! Invariant: what is held goes neither on nor back until it is let go, so that a process killed
//! meanwhile is killed in that phase for certain.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::net::TcpListener;

use crate::crash::exchange::{Held, Shared, State, Traffic, serve};
use crate::crash::http::Call;

/// Where an exchange is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The client has sent it; the server has no byte of it.
    Asked,
    /// The server has some bytes of it.
    HalfAsked,
    /// The server has all of it, and goes on.
    Sent,
    /// The server has answered; the client has no byte of that.
    Answered,
    /// The client has some bytes of the answer.
    HalfAnswered,
}

/// All of them.
pub(crate) const POINTS: [Point; 5] =
    [Point::Asked, Point::HalfAsked, Point::Sent, Point::Answered, Point::HalfAnswered];

/// The requests that go through to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    PacksOnly,
    NoPacks,
    Closed,
    /// Nothing, and what stands there is cut.
    Cut,
}

/// The network.
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Dropped with the proxy, and all connections with it.
    _runtime: tokio::runtime::Runtime,
}

impl Proxy {
    /// A network to the server at `target`.
    pub(crate) fn start(target: SocketAddr, seed: u64, faults_per_mille: u32) -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(State::new(target, seed, faults_per_mille)));
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move { serve(client, &shared).await });
            }
        });
        Ok(Self { shared, address, _runtime: runtime })
    }

    /// Where the sink takes the server to be.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server is there from now on.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        self.shared.state().target = target;
    }

    /// Sets which requests go to the server from now on.
    pub(crate) fn gate(&self, gate: Gate) {
        self.shared.gate.send_replace(gate);
    }

    /// Cuts the connections whose requests stand at the gate, and opens it.
    pub(crate) fn cut_waiting(&self) -> Result<()> {
        self.gate(Gate::Cut);
        let cut = self.wait(|state| state.waiting == 0, || Ok(false))?;
        self.gate(Gate::Open);
        ensure!(cut, "a wait that nothing ends has ended");
        Ok(())
    }

    /// Holds all answers from now on.
    pub(crate) fn hold_answers(&self) {
        self.shared.answers.send_replace(Held::Wait);
    }

    /// Cuts the connections whose answers are held, and lets later ones through.
    pub(crate) fn cut_answers(&self) -> Result<()> {
        self.shared.answers.send_replace(Held::Cut);
        let cut = self.wait(|state| state.answers_held == 0, || Ok(false))?;
        self.shared.answers.send_replace(Held::GoOn);
        ensure!(cut, "the sink ended meanwhile");
        Ok(())
    }

    /// Waits until the server is done with everything. False if `ended` says so first.
    pub(crate) fn quiet(&self, ended: impl FnMut() -> Result<bool>) -> Result<bool> {
        self.wait(|state| state.under_way == 0, ended)
    }

    /// Waits until an answer is held.
    pub(crate) fn answer_held(&self, ended: impl FnMut() -> Result<bool>) -> Result<bool> {
        self.wait(|state| state.answers_held > 0, ended)
    }

    /// Stops the next exchange of this kind at this point. Answers when it stands there; false if
    /// `ended` says so first.
    pub(crate) fn catch(
        &self,
        call: Call,
        point: Point,
        ended: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        self.shared.trapped.send_replace(Held::Wait);
        self.shared.state().trap = Some((call, point));
        let caught = self.wait(|state| state.caught > 0, ended)?;
        self.shared.state().trap = None;
        Ok(caught)
    }

    /// Lets what the trap holds go on, if late: also where the sink that sent it is dead.
    pub(crate) fn let_go(&self) -> Result<()> {
        self.release(Held::GoOn)
    }

    /// Cuts the connection that the trap holds.
    pub(crate) fn cut(&self) -> Result<()> {
        self.release(Held::Cut)
    }

    fn release(&self, held: Held) -> Result<()> {
        self.shared.trapped.send_replace(held);
        self.wait(|state| state.caught == 0, || Ok(false))?;
        Ok(())
    }

    /// The traffic so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.shared.state().traffic.clone()
    }

    fn wait(
        &self,
        mut is_so: impl FnMut(&State) -> bool,
        mut ended: impl FnMut() -> Result<bool>,
    ) -> Result<bool> {
        for _ in 0..LOOKS_MAX {
            let state = self.shared.state();
            let waited = self.shared.changed.wait_timeout_while(state, LOOK, |s| !is_so(s));
            let (state, _) = waited.expect("no holder panics");
            if is_so(&state) {
                return Ok(true);
            }
            drop(state);
            if ended()? {
                return Ok(false);
            }
        }
        bail!("what was waited for on the network did not come")
    }
}

/// How often a wait looks whether what it waits for can still come, and how often at most.
const LOOK: Duration = Duration::from_millis(50);
const LOOKS_MAX: u32 = 2400;
