//! The outputs of one machine that are not carried out yet.
//!
//! Between every machine and the component's shell, which carries them out after each input.
//! Invariant: they leave in the order in which they were pushed, and all of them before the next
//! input.

use alloc::collections::VecDeque;
use alloc::string::String;

use crate::ignored::Ignored;
use crate::io::{
    CommitterOutput, CoordinatorOutput, Level, Telemetry, TunnelCommand, WriterOutput,
};

/// The output of a machine that uses the Tunnel.
pub(crate) trait Output {
    /// Gives the operator a line or a count.
    const TELL: fn(Telemetry) -> Self;
    /// Uses the Tunnel.
    const TUNNEL: fn(TunnelCommand) -> Self;
}

impl Output for WriterOutput {
    const TELL: fn(Telemetry) -> Self = Self::Tell;
    const TUNNEL: fn(TunnelCommand) -> Self = Self::Tunnel;
}

impl Output for CoordinatorOutput {
    const TELL: fn(Telemetry) -> Self = Self::Tell;
    const TUNNEL: fn(TunnelCommand) -> Self = Self::Tunnel;
}

impl Output for CommitterOutput {
    const TELL: fn(Telemetry) -> Self = Self::Tell;
    const TUNNEL: fn(TunnelCommand) -> Self = Self::Tunnel;
}

/// A queue of outputs, oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Outputs<O>(VecDeque<O>);

impl<O: Output> Outputs<O> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// Panics if one is left.
    pub(crate) fn assert_drained(&self) {
        assert!(self.0.is_empty(), "an output that is left is carried out too late");
    }

    /// Appends one.
    pub(crate) fn push(&mut self, output: O) {
        self.0.push_back(output);
    }

    /// Takes the oldest.
    pub(crate) fn pop(&mut self) -> Option<O> {
        self.0.pop_front()
    }

    /// Uses the Tunnel.
    pub(crate) fn tunnel(&mut self, command: TunnelCommand) {
        self.push(O::TUNNEL(command));
    }

    /// Writes a line for the operator.
    pub(crate) fn log(&mut self, level: Level, line: String) {
        self.push(O::TELL(Telemetry::Log(level, line)));
    }

    /// Adds to a counter.
    pub(crate) fn count(&mut self, counter: &'static str, value: u64) {
        self.push(O::TELL(Telemetry::Count(counter, value)));
    }

    /// Counts an input that changes nothing.
    pub(crate) fn ignore(&mut self, reason: Ignored) {
        self.count(reason.counter(), 1);
    }
}
