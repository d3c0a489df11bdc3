//! The work of a sink so far: counters and histograms, by OpenTelemetry's messaging names.
//!
//! Fed by the drivers, joined with the counters of the Tunnel's client, read through
//! `Sink::metrics`. Invariant: counters
//! only rise; nothing here changes what the sink does.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use upsert_sink_tunnel::Client;

use crate::ledger::LedgerTotals;

/// A reading of all counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Rows handed to `write`.
    pub rows: u64,
    /// Records in packs that the service has acknowledged.
    pub records: u64,
    /// Packs that the service has acknowledged.
    pub packs: u64,
    /// Sessions created.
    pub sessions_created: u64,
    /// Sessions known to be committed by this sink.
    pub commits: u64,
    /// Bytes of request bodies, repetitions included.
    pub bytes_sent: u64,
    /// Requests that reached the network, of which a first byte may have left.
    pub http_requests: u64,
    /// Bytes of rows that the writers hold now, in buffers and in packs that are not acknowledged.
    pub held_bytes: u64,
    /// From the hand-over of a batch until a writer takes it: back-pressure.
    pub buffer: Histogram,
    /// From the submission of a pack until it is acknowledged, repetitions included.
    pub flush: Histogram,
    /// From the submission of a commit until it is known to have succeeded.
    pub commit: Histogram,
    /// The sum of all checkpoints whose commits are known: see [`crate::ledger`].
    pub ledger: LedgerTotals,
    /// The guest's own counters.
    pub guest: BTreeMap<String, u64>,
}

/// Durations in milliseconds, by powers of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many durations were below 1, 2, 4, … milliseconds and not below the bound before; the
    /// last has no bound.
    pub buckets: [u64; 24],
    /// How many there were.
    pub count: u64,
    /// Their sum, in milliseconds.
    pub sum_ms: u64,
    /// The longest, in milliseconds.
    pub max_ms: u64,
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, duration_ms: u64) {
        let bits = 64 - usize::try_from(duration_ms.leading_zeros()).unwrap_or(64);
        self.buckets[bits.min(self.buckets.len() - 1)] += 1;
        self.count += 1;
        self.sum_ms = self.sum_ms.saturating_add(duration_ms);
        self.max_ms = self.max_ms.max(duration_ms);
    }

    /// A bound that the given part of the durations, in hundredths, does not exceed; zero if there
    /// are none.
    pub fn percentile_ms(&self, hundredths: u64) -> u64 {
        let rank = self.count.saturating_mul(hundredths).div_ceil(100);
        let mut seen = 0;
        for (bits, count) in self.buckets.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return (1_u64 << bits).saturating_sub(1).min(self.max_ms);
            }
        }
        self.max_ms
    }
}

impl Metrics {
    /// The counters under the names that OpenTelemetry gives them, with its unit.
    pub fn named(&self) -> Vec<(&'static str, &'static str, u64)> {
        let times = &self.ledger.times_us;
        vec![
            ("messaging.client.sent.messages", "{message}", self.rows),
            ("upsert_sink.records.acknowledged", "{record}", self.records),
            ("upsert_sink.packs.acknowledged", "{pack}", self.packs),
            ("upsert_sink.sessions.created", "{session}", self.sessions_created),
            ("upsert_sink.sessions.committed", "{session}", self.commits),
            ("upsert_sink.held", "By", self.held_bytes),
            ("http.client.request.body.size", "By", self.bytes_sent),
            ("http.client.requests", "{request}", self.http_requests),
            ("upsert_sink.checkpoints.committed", "{checkpoint}", self.ledger.checkpoints),
            ("upsert_sink.checkpoints.delayed", "{checkpoint}", self.ledger.delayed),
            ("upsert_sink.packs.repeated", "{pack}", self.ledger.sent.repeats),
            ("upsert_sink.requests.slowed_down", "{request}", self.ledger.requests.slowed_down),
            ("upsert_sink.time.waiting", "us", times.waiting),
            ("upsert_sink.time.queued", "us", times.queued),
            ("upsert_sink.time.flush", "us", times.flush),
            ("upsert_sink.time.network", "us", times.network),
            ("upsert_sink.time.slots", "us", times.slots),
            ("upsert_sink.time.disk", "us", times.disk),
            ("upsert_sink.time.guest", "us", times.guest),
            ("upsert_sink.time.commit", "us", times.commit),
        ]
    }

    /// The histograms under the name `messaging.client.operation.duration`, by the operation's
    /// name.
    pub fn durations(&self) -> [(&'static str, &Histogram); 3] {
        [("buffer", &self.buffer), ("send", &self.flush), ("settle", &self.commit)]
    }
}

/// Where the parts of one sink count.
pub(crate) struct Meter {
    metrics: Mutex<Metrics>,
    held: Mutex<BTreeMap<u32, u64>>,
    /// Counts what concerns the network.
    client: Client,
}

impl Meter {
    pub(crate) fn new(client: Client) -> Self {
        Self { metrics: Mutex::default(), held: Mutex::default(), client }
    }

    pub(crate) fn read(&self) -> Metrics {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        let client = self.client.metrics();
        Metrics {
            records: client.records,
            packs: client.packs,
            sessions_created: client.sessions_created,
            bytes_sent: client.bytes_sent,
            http_requests: client.http_requests,
            held_bytes: held,
            ..self.lock().clone()
        }
    }

    pub(crate) fn rows_written(&self, rows: usize) {
        self.lock().rows += u64::try_from(rows).unwrap_or(u64::MAX);
    }

    pub(crate) fn batch_taken(&self, waited_ms: u64) {
        self.lock().buffer.record(waited_ms);
    }

    pub(crate) fn pack_settled(&self, took_ms: u64) {
        self.lock().flush.record(took_ms);
    }

    pub(crate) fn commit_settled(&self, took_ms: u64) {
        let mut metrics = self.lock();
        metrics.commits += 1;
        metrics.commit.record(took_ms);
    }

    pub(crate) fn held(&self, writer: u32, bytes: u64) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(writer, bytes);
    }

    pub(crate) fn guest_counted(&self, counters: BTreeMap<String, u64>) {
        if counters.is_empty() {
            return;
        }
        let mut metrics = self.lock();
        for (name, value) in counters {
            // All instances of a sink share their names: the bound of one instance bounds them all.
            let total = metrics.guest.entry(name).or_default();
            *total = total.saturating_add(value);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_an_upper_bound() {
        let mut histogram = Histogram::default();
        for duration_ms in [0, 1, 3, 3, 100, u64::MAX] {
            histogram.record(duration_ms);
        }
        assert_eq!(histogram.percentile_ms(50), 3);
        assert_eq!(histogram.percentile_ms(80), 127);
        assert_eq!(Histogram::default().percentile_ms(99), 0);
    }
}
