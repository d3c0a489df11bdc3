//! Quotas: Tunnel slots of the project, bytes per second of a bucket. Both off by default.
//!
//! `sessions.rs` asks before it creates a session or keeps a pack. Invariant: a refused request
//! has had no effect; what is counted never exceeds the quota, also not between two requests at
//! once.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, MutexGuard};

use http::StatusCode;
use upsert_sink_format::id::Millis;

use crate::error::Refusal;

/// Limits of the use by clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas {
    /// Tunnel slots of all open sessions together; none is no limit.
    pub slots: Option<NonZeroU32>,
    /// Bytes of packs per second and bucket of a partition; none is no limit.
    pub bucket_bytes_per_second: Option<NonZeroU64>,
}

/// The use that is made of the quotas.
#[derive(Debug)]
pub(crate) struct QuotaUse {
    quotas: Quotas,
    /// Slots of sessions that are being created.
    reserved: Mutex<u32>,
    flows: Mutex<BTreeMap<Flow, Balance>>,
}

/// A bucket of a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) table_id: String,
    pub(crate) partition: Vec<String>,
    pub(crate) bucket: u32,
}

/// The bytes that a bucket may still send, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Balance {
    left: i64,
    at: Millis,
}

impl Balance {
    /// The balance at a later time: it fills up to one second's worth.
    fn refilled(self, rate: i64, now: Millis) -> Self {
        let elapsed = i64::try_from(now.since(self.at).0).unwrap_or(i64::MAX);
        let left = self.left.saturating_add(rate.saturating_mul(elapsed));
        Self { left: left.min(full(rate)), at: now.max(self.at) }
    }
}

fn full(rate: i64) -> i64 {
    rate.saturating_mul(1000)
}

impl QuotaUse {
    pub(crate) fn new(quotas: Quotas) -> Self {
        Self { quotas, reserved: Mutex::default(), flows: Mutex::default() }
    }

    /// Takes slots for a session that is being created, until what is answered is dropped; by then
    /// the session must be among those that `in_use` counts.
    pub(crate) fn reserve(
        &self,
        slots: u32,
        in_use: impl FnOnce() -> u32,
    ) -> Result<Reserved<'_>, Refusal> {
        let mut reserved = self.reserved();
        if let Some(most) = self.quotas.slots {
            let used = in_use().saturating_add(*reserved);
            if used.saturating_add(slots) > most.get() {
                return Err(Refusal::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "SlotExceeded",
                    format!(
                        "{used} of the project's {most} Tunnel slots are in use, and {slots} more \
                         were asked for; try again when sessions have ended"
                    ),
                ));
            }
        }
        *reserved = reserved.saturating_add(slots);
        Ok(Reserved { quota: self, slots })
    }

    /// Takes the bytes of one pack. A pack may be larger than a second's worth: it is taken when
    /// nothing is owed, and the next ones wait for it.
    pub(crate) fn take(&self, flow: Flow, bytes: usize, now: Millis) -> Result<(), Refusal> {
        let Some(limit) = self.quotas.bucket_bytes_per_second else { return Ok(()) };
        // In thousandths of a byte and milliseconds, the rate is the same number.
        let rate = i64::try_from(limit.get().min(RATE_MAX)).expect("far below 2^63");
        let mut flows = self.flows.lock().expect("no holder panics");
        if flows.len() >= FLOWS_MAX {
            flows.retain(|_, balance| balance.refilled(rate, now).left < full(rate));
        }
        let bucket = flow.bucket;
        let balance = flows.entry(flow).or_insert(Balance { left: full(rate), at: now });
        *balance = balance.refilled(rate, now);
        if balance.left <= 0 {
            let wait_ms = 1 + balance.left.unsigned_abs() / rate.unsigned_abs();
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "FlowExceeded",
                format!(
                    "bucket {bucket} has used up its {limit} bytes per second; send it again in \
                     {wait_ms} ms"
                ),
            ));
        }
        let cost = i64::try_from(bytes).unwrap_or(i64::MAX).saturating_mul(1000);
        balance.left = balance.left.saturating_sub(cost);
        Ok(())
    }

    fn reserved(&self) -> MutexGuard<'_, u32> {
        self.reserved.lock().expect("no holder panics")
    }
}

/// Slots that are taken.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    quota: &'a QuotaUse,
    slots: u32,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        *self.quota.reserved() -= self.slots;
    }
}

/// A tebibyte per second is no limit on any machine, and its sums fit.
const RATE_MAX: u64 = 1 << 40;
/// Buckets that are remembered before those that owe nothing are forgotten.
const FLOWS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(slots: u32, rate: u64) -> QuotaUse {
        let bucket_bytes_per_second = NonZeroU64::new(rate);
        QuotaUse::new(Quotas { slots: NonZeroU32::new(slots), bucket_bytes_per_second })
    }

    fn flow(bucket: u32) -> Flow {
        Flow { table_id: "t".into(), partition: vec!["a".into()], bucket }
    }

    #[test]
    fn a_bucket_fills_with_time_and_others_do_not_pay_for_it() {
        let quota = quota(0, 1000);
        let take = |bucket, bytes, now| quota.take(flow(bucket), bytes, Millis(now)).is_ok();
        assert!(take(1, 3000, 0), "larger than a second's worth, but nothing is owed");
        assert!(!take(1, 1, 1999));
        assert!(take(2, 1, 1999));
        assert!(take(1, 1, 2001));
        assert!(quota.take(flow(1), 1, Millis(2000)).is_err(), "time that goes back gives nothing");
    }

    #[test]
    fn slots_are_counted_while_sessions_are_being_created() {
        let quota = quota(3, 0);
        let first = quota.reserve(2, || 0).expect("free");
        assert_eq!(quota.reserve(2, || 0).unwrap_err().code, "SlotExceeded");
        drop(first);
        quota.reserve(1, || 2).expect("the first has become a session");
        assert!(quota.reserve(2, || 2).is_err());
        assert!(quota.take(flow(0), usize::MAX, Millis(0)).is_ok(), "no limit");
    }
}
