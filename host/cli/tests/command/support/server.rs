//! A running `serve` of a test.
//!
//! Invariant: it is killed when the test is over.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::support::Place;

/// A server on the place's data, and its endpoint. It is killed when it is dropped. Nobody reads on
/// after its first line, which must not end it.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) endpoint: String,
}

impl Server {
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(place: &Place, more: &[&str]) -> Self {
        let serve = ["serve", "--data", "upsert-sink-data"];
        let mut command = place.command(&[&serve, more].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let line = stdout.lines().map_while(Result::ok).find(|line| line.contains(" at http"));
        let line = line.expect("it prints its endpoint");
        let endpoint = line.split(" at ").nth(1).and_then(|rest| rest.split(',').next());
        Self { endpoint: String::from(endpoint.expect("an endpoint")), child }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
