//! Keys that expire every few minutes, and the program that hands them out.
//!
//! Invariant: at any time of the service one key is good that the shop has, unless a fault makes it
//! hand out an older one, or none.

use std::io;
use std::sync::Arc;

use arrow_array::temporal_conversions::timestamp_ms_to_datetime;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::json;
use upsert_sink::components as sink;

use super::clock::VirtualClock;
use crate::simulation::faults::Fault;
use crate::simulation::network::Network;

/// How long a key is the newest.
const PERIOD_MS: u64 = 300_000;
/// How many there are; the last never expires.
const KEYS: u64 = 400;

/// Hands out keys.
pub(crate) struct KeyShop {
    pub(crate) network: Arc<Network>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) beginning_ms: u64,
}

impl KeyShop {
    /// All keys, as a server is told them.
    pub(crate) fn all(beginning_ms: u64) -> Vec<u8> {
        let keys: Vec<_> = (0..KEYS).map(|number| key(beginning_ms, number)).collect();
        serde_json::to_vec(&keys).expect("keys are text")
    }
}

fn key(beginning_ms: u64, number: u64) -> serde_json::Value {
    let mut key = json!({
        "AccessKeyId": format!("id{number}"),
        "AccessKeySecret": format!("secret{number}"),
        "SecurityToken": format!("token{number}"),
    });
    if number + 1 < KEYS {
        // Twice as long as it is the newest.
        let expires_ms = beginning_ms + (number + 2) * PERIOD_MS;
        let expires = i64::try_from(expires_ms).ok().and_then(timestamp_ms_to_datetime);
        let expires = expires.expect("a time of this century");
        key["Expiration"] = json!(expires.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    key
}

impl sink::Surroundings for KeyShop {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn output_of(&self, _: &[String], _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let number = (self.clock.now_ms() - self.beginning_ms) / PERIOD_MS;
        let mut number = number.min(KEYS - 1);
        self.network.count(Fault::Tokens);
        let mut answer = Ok(());
        if self.network.goes_wrong(Fault::StaleToken) {
            match self.network.chance.below(2) {
                0 => number = number.saturating_sub(1),
                _ => answer = Err(io::Error::other("the shop is closed")),
            }
        }
        let key = key(self.beginning_ms, number);
        let text = serde_json::to_vec(&key).expect("a key is text");
        let opened = self.clock.after(5);
        async move {
            opened.await;
            answer.map(|()| text)
        }
        .boxed()
    }
}
