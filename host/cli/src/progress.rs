//! ProgressLine on standard error while a job runs: a live bar on a terminal, plain lines
//! elsewhere.
//!
//! `engine.rs` reports every step here. Invariant: standard output stays free for the report, and
//! the lines that scripts read (`checkpoint N: …`) are whole lines in the order of what happened.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// The stage that a checkpoint just reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckpointPhase {
    /// The barrier is on its way; the sink flushes.
    Flushing,
    /// Everything before the barrier is acknowledged, and the state is on disk.
    Stored,
    /// Its sessions are known to be committed.
    Committed,
}

impl CheckpointPhase {
    fn word(self) -> &'static str {
        match self {
            Self::Flushing => "flushing",
            Self::Stored => "stored",
            Self::Committed => "committed",
        }
    }
}

/// Without a bar, a line is told about so often.
const LINE_EVENTS: u64 = 500;

/// Tells people how a job goes.
#[derive(Clone, Debug)]
pub(crate) struct ProgressLine {
    bar: Option<ProgressBar>,
}

impl ProgressLine {
    /// A bar if standard error is a terminal; `events` is how many are to come, if that is known.
    pub(crate) fn new(events: Option<u64>) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self { bar: None };
        }
        let bar = match events {
            Some(events) => ProgressBar::new(events).with_style(style(
                "{spinner} {wide_bar:.cyan/blue} {human_pos}/{human_len} events, {per_sec:.0}  \
                {msg}",
            )),
            None => ProgressBar::no_length()
                .with_style(style("{spinner} {human_pos} events, {per_sec:.0}  {msg}")),
        };
        Self { bar: Some(bar) }
    }

    /// So many more events were handed over, `total` over all runs of the job.
    pub(crate) fn events(&self, events: u64, total: u64) {
        match &self.bar {
            Some(bar) => bar.inc(events),
            // One line each time another step is reached: often enough to see where a job was when
            // it died.
            None if (total - events) / LINE_EVENTS < total / LINE_EVENTS => {
                eprintln!("handed over: event {total}");
            }
            None => {}
        }
    }

    /// A checkpoint got further. `events` is how many lie before it, over all runs of the job.
    pub(crate) fn checkpoint(&self, id: u64, phase: CheckpointPhase, events: u64) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("checkpoint {id} {}", phase.word())),
            None => eprintln!("checkpoint {id}: {} at event {events}", phase.word()),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is valid")
}
