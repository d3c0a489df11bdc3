//! The pause before the next attempt, as a function of the attempt and a seed.
//!
//! Under `operation`, which puts off the next attempt. Invariant: no clock and
//! no randomness; the same ticket and attempt always wait equally long, and two sinks do not wait
//! in step because their nonces differ.

use upsert_sink_format::id::{Millis, Ticket};
use upsert_sink_format::tunnel::{Refusal, RefusalKind};

/// Waits after attempts that may have been carried out, or that never left.
///
/// Java's client waits 1, 2, 4 … 64 s; half of each wait is drawn here, so that buckets that failed
/// together do not come back together.
const DOUBT: Backoff = Backoff { first: 500, most: 20_000 };

/// Waits after the service asked for less. 64 s is where the vendor's clients stop doubling.
const SLOW_DOWN: Backoff = Backoff { first: 1_000, most: 64_000 };

/// A doubling wait, in milliseconds.
#[derive(Clone, Copy)]
struct Backoff {
    first: u64,
    most: u64,
}

/// The reason for a pause before the next attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause<'a> {
    /// The outcome of the attempt is in doubt.
    Doubt,
    /// Something that is under way is asked after, in so long.
    Poll(Millis),
    /// The attempt was refused, and another is allowed.
    Refused(&'a Refusal),
}

/// Attempts at one operation, and the waits between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attempts {
    seed: u64,
    made: u32,
}

impl Attempts {
    /// The first attempt at `ticket` of the start whose nonce this is.
    pub(crate) fn first(nonce: u64, ticket: Ticket) -> Self {
        Self { seed: mix(nonce ^ mix(ticket.0)), made: 1 }
    }

    /// The number of attempts that were made.
    pub(crate) fn made(&self) -> u32 {
        self.made
    }

    /// Counts one more attempt.
    pub(crate) fn again(&mut self) {
        self.made = self.made.saturating_add(1);
    }

    /// The time to wait before the next attempt.
    pub(crate) fn pause(&self, pause: Pause<'_>) -> Millis {
        match pause {
            Pause::Doubt => self.wait(DOUBT),
            Pause::Poll(time) => time,
            Pause::Refused(refusal) => {
                let backoff = match refusal.kind {
                    RefusalKind::SlowDown => SLOW_DOWN,
                    RefusalKind::Denied
                    | RefusalKind::Full
                    | RefusalKind::Invalid
                    | RefusalKind::Moved
                    | RefusalKind::NoSuchPartition
                    | RefusalKind::NoSuchSession
                    | RefusalKind::NotSent
                    | RefusalKind::Transient => DOUBT,
                };
                self.wait(backoff).max(refusal.retry_after)
            }
        }
    }

    /// Between half and all of the doubled wait.
    fn wait(&self, backoff: Backoff) -> Millis {
        let doublings = self.made.saturating_sub(1).min(32);
        let full = backoff.first.saturating_mul(1 << doublings).min(backoff.most);
        let half = full / 2;
        Millis(half + mix(self.seed.wrapping_add(u64::from(self.made))) % (full - half + 1))
    }
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_stay_within_their_bounds_and_never_overflow() {
        let mut attempts = Attempts::first(7, Ticket(1));
        for made in 1..200_u32 {
            let full = 500_u64.saturating_mul(1 << (made - 1).min(32)).min(20_000);
            let wait = attempts.pause(Pause::Doubt).0;
            assert!(wait >= full / 2 && wait <= full, "attempt {made} waits {wait} of {full}");
            attempts.again();
        }
    }

    #[test]
    fn two_tickets_do_not_wait_in_step() {
        let waits = |ticket| Attempts::first(7, Ticket(ticket)).pause(Pause::Doubt);
        assert!((1..20).any(|ticket| waits(ticket) != waits(0)));
    }
}
