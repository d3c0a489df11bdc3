//! hyper's timer, made of the server's clock: time limits of connections are the server's time too.
//!
//! Between `http/mod.rs` and the [`Clock`]. Invariant: it waits for nothing but that clock.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use hyper::rt::{Sleep, Timer};

use super::Clock;

/// A clock, as hyper asks for the time.
#[derive(Clone)]
pub(crate) struct ClockTimer(pub(crate) Arc<dyn Clock>);

impl Timer for ClockTimer {
    fn sleep(&self, span: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait(Mutex::new(self.0.sleep(span))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

/// The lock is never taken: it lets a future be shared that only one ever polls.
struct Wait(Mutex<BoxFuture<'static, ()>>);

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().expect("nobody locks it").as_mut().poll(cx)
    }
}

impl Sleep for Wait {}
