//! Time and threads of this suite.
//!
//! Invariant: nothing waits for time where there is an event to wait for; jitter comes after one.

use std::io::BufRead;
use std::time::Duration;

/// Lets a random moment pass after an event, so that kills do not always hit the same instruction.
#[allow(clippy::disallowed_methods, reason = "jitter after an event, not a wait for one")]
pub(crate) fn jitter(random: &mut fastrand::Rng, most: Duration) {
    let most = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
    std::thread::sleep(Duration::from_micros(random.u64(0..=most)));
}

/// Delays a request on the simulated network.
#[allow(clippy::disallowed_methods, reason = "a slow network takes real time")]
pub(crate) async fn delay(span: Duration) {
    tokio::time::sleep(span).await;
}

/// Reads lines on a thread of their own, so that a process never waits for its reader.
#[allow(clippy::disallowed_methods, reason = "a pipe is read by a thread")]
pub(crate) fn read_lines(
    from: impl BufRead + Send + 'static,
    mut take: impl FnMut(Option<String>) + Send + 'static,
) {
    std::thread::spawn(move || {
        for line in from.lines() {
            let Ok(line) = line else { break };
            take(Some(line));
        }
        take(None);
    });
}
