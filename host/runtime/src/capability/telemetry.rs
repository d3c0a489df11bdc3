//! The import `telemetry`: log lines and counters of the guest, bounded and made safe to print.
//!
//! To `tracing` and `metrics.rs`. Invariant: a guest can neither flood the log nor forge a line of
//! it.

use std::collections::BTreeMap;

use crate::bindings::telemetry;
use crate::capability::Capabilities;
use crate::error::escape;
use crate::sandbox::Limits;

/// The log lines and counts of one instance so far.
#[derive(Debug)]
pub(crate) struct TelemetryMeter {
    name: String,
    line_bytes_max: usize,
    lines_per_second: u64,
    counters_max: usize,
    now_ms: u64,
    // Thousandths of a line that may still be written: a token bucket, ten seconds deep.
    tokens: u64,
    suppressed: u64,
    counters: BTreeMap<String, u64>,
}

impl TelemetryMeter {
    /// For an instance of this name.
    pub(crate) fn new(name: String, limits: &Limits) -> Self {
        Self {
            name,
            line_bytes_max: limits.log_line_bytes,
            lines_per_second: limits.log_lines_per_second,
            counters_max: limits.counters,
            now_ms: 0,
            tokens: limits.log_lines_per_second * BURST,
            suppressed: 0,
            counters: BTreeMap::new(),
        }
    }

    /// Time passes: lines may be written again.
    pub(crate) fn begin_call(&mut self, now_ms: u64) {
        let earned = now_ms.saturating_sub(self.now_ms).saturating_mul(self.lines_per_second);
        self.tokens = self.tokens.saturating_add(earned).min(self.lines_per_second * BURST);
        self.now_ms = now_ms;
    }

    /// The counts since the last time.
    pub(crate) fn take_counters(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.counters)
    }

    /// The line as it may be written; none if there were too many.
    fn admit(&mut self, message: &str) -> Option<String> {
        if self.tokens < TOKENS_PER_LINE {
            self.suppressed += 1;
            return None;
        }
        self.tokens -= TOKENS_PER_LINE;
        let mut line = escape(message, self.line_bytes_max);
        let suppressed = std::mem::take(&mut self.suppressed);
        if suppressed > 0 {
            line += &format!(" [{suppressed} lines before this one were suppressed]");
        }
        Some(line)
    }

    fn count(&mut self, name: &str, value: u64) {
        if let Some(total) = self.counters.get_mut(name) {
            *total = total.saturating_add(value);
        } else if self.counters.len() < self.counters_max && name.len() <= COUNTER_NAME_BYTES_MAX {
            self.counters.insert(escape(name, COUNTER_NAME_BYTES_MAX), value);
        }
    }
}

impl telemetry::Host for Capabilities {
    fn log(&mut self, level: telemetry::Level, message: String) -> wasmtime::Result<()> {
        self.imported("log")?;
        self.note(|outputs| outputs.logged(level, &message));
        let Some(line) = self.telemetry.admit(&message) else { return Ok(()) };
        let guest = self.telemetry.name.as_str();
        match level {
            telemetry::Level::Warn => tracing::warn!(guest, "{line}"),
            telemetry::Level::Info => tracing::info!(guest, "{line}"),
            telemetry::Level::Debug => tracing::debug!(guest, "{line}"),
        }
        Ok(())
    }

    fn count(&mut self, name: String, value: u64) -> wasmtime::Result<()> {
        self.imported("count")?;
        self.note(|outputs| outputs.counted(&name, value));
        self.telemetry.count(&name, value);
        Ok(())
    }
}

const TOKENS_PER_LINE: u64 = 1000;
/// Ten seconds' worth of lines, in tokens for each line of a second.
const BURST: u64 = 10 * TOKENS_PER_LINE;
const COUNTER_NAME_BYTES_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry() -> TelemetryMeter {
        let limits = Limits { log_lines_per_second: 2, counters: 2, ..Limits::default() };
        TelemetryMeter::new(String::from("writer 0"), &limits)
    }

    #[test]
    fn a_flood_of_lines_is_suppressed_and_counted() {
        let mut telemetry = telemetry();
        let written = (0..100).filter(|_| telemetry.admit("line").is_some()).count();
        assert_eq!(written, 20);
        telemetry.begin_call(500);
        let next = telemetry.admit("line").expect("half a second earns one line");
        assert!(next.contains("80 lines"), "{next}");
    }

    #[test]
    fn a_line_is_cut_and_escaped() {
        let line = telemetry().admit(&"\n".repeat(10_000)).expect("the first line");
        assert!(!line.contains('\n'));
        assert!(line.len() <= 2 * 8192 + 3);
    }

    #[test]
    fn counters_are_bounded_by_name() {
        let mut telemetry = telemetry();
        for name in ["a", "b", "c", "a"] {
            telemetry.count(name, 1);
        }
        let counters = telemetry.take_counters();
        assert_eq!(counters, BTreeMap::from([("a".into(), 2), ("b".into(), 1)]));
    }
}
