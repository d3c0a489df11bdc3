//! Runs of clients against the discarding server, and what they come to.
//!
//! Between the tables and the processes. Invariant: a run whose rows did not all arrive, or arrived
//! otherwise than they are, is an error and no figure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;

use crate::arrived::Arrived;
use crate::order::Order;
use crate::peer::{Kind, Peer, Spent};
use crate::rows::Rows;
use crate::server::Discarding;

/// The server, and the clients that were started so far.
pub(crate) struct Bench {
    // Before the directory that they work in.
    peers: BTreeMap<Kind, Peer>,
    server: Discarding,
    directory: TempDir,
    texts: PathBuf,
    digest: u64,
}

/// A run that was right.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) spent: Spent,
    pub(crate) arrived: Arrived,
}

/// All runs of one kind.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

impl Bench {
    pub(crate) fn start() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let rows = Rows::draw();
        let texts = directory.path().join("texts");
        rows.write(&texts)?;
        let (server, digest) = (Discarding::start()?, rows.digest());
        Ok(Self { peers: BTreeMap::new(), server, directory, texts, digest })
    }

    /// One run. With `decode` the server reads every record, which takes its time: such a run is
    /// for warming up.
    pub(crate) fn run(
        &mut self,
        kind: Kind,
        order: Order,
        delay_ms: u64,
        decode: bool,
    ) -> Result<Run> {
        let run = self.attempt(kind, order, delay_ms, decode)?;
        let of = format!("{kind:?}, {order:?}, {delay_ms} ms");
        let Run { spent, arrived } = &run;
        if let Some(why) = &spent.failed {
            bail!("{of}: it failed: {why}");
        }
        ensure!(arrived.wrong.is_none(), "{of}: {:?}", arrived.wrong);
        ensure!(arrived.records == order.rows, "{of}: {} rows arrived", arrived.records);
        ensure!(arrived.commits == 1, "{of}: {} commits", arrived.commits);
        ensure!(!decode || arrived.digest == self.digest, "{of}: other rows arrived");
        Ok(run)
    }

    /// One run, whatever comes of it.
    pub(crate) fn attempt(
        &mut self,
        kind: Kind,
        order: Order,
        delay_ms: u64,
        decode: bool,
    ) -> Result<Run> {
        let peer = match self.peers.entry(kind) {
            std::collections::btree_map::Entry::Occupied(there) => there.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(Peer::start(
                kind,
                &self.server.endpoint(),
                self.directory.path(),
                &self.texts,
            )?),
        };
        self.server.begin(delay_ms, decode);
        let spent = peer.run(order)?;
        Ok(Run { spent, arrived: self.server.end() })
    }

    /// Ends a client, and with it what is left of its sessions.
    pub(crate) fn dismiss(&mut self, kind: Kind) {
        self.peers.remove(&kind);
    }

    /// Ends all of it.
    pub(crate) fn stop(self) {
        drop(self.peers);
        self.server.stop();
    }
}

impl Runs {
    pub(crate) fn add(&mut self, run: Run) {
        self.0.push(run);
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn wall_s(&self) -> f64 {
        self.median(|run| run.spent.wall_s)
    }

    pub(crate) fn rows_per_s(&self) -> f64 {
        self.median(|run| run.arrived.records as f64 / run.spent.wall_s)
    }

    pub(crate) fn cpu_s_per_million(&self) -> f64 {
        self.median(|run| run.spent.cpu_s * 1e6 / run.arrived.records as f64)
    }

    pub(crate) fn bytes_per_row(&self) -> f64 {
        self.median(|run| run.arrived.bytes as f64 / run.arrived.records as f64)
    }

    pub(crate) fn packs(&self) -> f64 {
        self.median(|run| run.arrived.packs as f64)
    }

    pub(crate) fn connections(&self) -> f64 {
        self.median(|run| run.arrived.connections as f64)
    }

    fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        let mut figures: Vec<f64> = self.0.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
    }
}
