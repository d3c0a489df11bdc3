//! The progress of a running job: the events that it reports on standard error, and its phase.
//!
//! Between the process and the suites that kill it. Invariant: a line that is not understood is no
//! event.

/// One thing that the job told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on after this event: the start, or where a checkpoint had stood.
    Began(u64),
    /// The barrier of a checkpoint was sent to the writers at this event.
    Barrier(u64),
    /// A checkpoint is durable; it holds all events before this one.
    Stored(u64),
    /// All sessions of a checkpoint are known to be committed, and so many events were handed over.
    Committed(u64),
    /// So many events were handed to the sink.
    Events(u64),
}

impl Progress {
    /// Reads one line.
    pub fn parse(line: &str) -> Option<Self> {
        let number_after = |word: &str| {
            let rest = line.split(word).nth(1)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let at = number_after("at event ");
        if line.contains("restored checkpoint ") {
            return number_after("after event ").map(Self::Began);
        }
        if line.starts_with("starting at event ") {
            return at.map(Self::Began);
        }
        if line.contains(": flushing at event ") {
            return at.map(Self::Barrier);
        }
        if line.contains(": stored at event ") {
            return at.map(Self::Stored);
        }
        if line.contains(": committed at event ") {
            return at.map(Self::Committed);
        }
        number_after("handed over: event ").map(Self::Events)
    }

    /// How far the job had come.
    pub fn position(self) -> u64 {
        match self {
            Self::Began(at)
            | Self::Barrier(at)
            | Self::Stored(at)
            | Self::Committed(at)
            | Self::Events(at) => at,
        }
    }
}

/// The phase that a job is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It has begun, and nothing was handed over yet: what a checkpoint held is committed again.
    Restoring,
    /// Between two checkpoints.
    Writing,
    /// A barrier was sent, and its checkpoint is not durable yet.
    Barrier,
    /// A checkpoint is durable, and not all of its sessions are known to be committed.
    Committing,
}

/// An attempt of a job, as far as its lines tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The event after which it began; none before it has said so.
    pub began: Option<u64>,
    /// Checkpoints that became durable.
    pub stored: u32,
    /// Checkpoints that are known to be committed.
    pub committed: u32,
    /// Events before the newest durable checkpoint of this attempt.
    pub durable: u64,
    /// The furthest event that it told of.
    pub reached: u64,
    barrier: bool,
    handed: bool,
}

impl Watch {
    /// Takes note of a line; answers whether it told of something.
    pub fn note(&mut self, line: &str) -> bool {
        let Some(progress) = Progress::parse(line) else { return false };
        self.reached = self.reached.max(progress.position());
        match progress {
            Progress::Began(at) => {
                self.began = Some(at);
                self.durable = at;
            }
            Progress::Barrier(_) => self.barrier = true,
            Progress::Stored(at) => {
                self.barrier = false;
                self.stored += 1;
                self.durable = at;
            }
            Progress::Committed(_) => self.committed += 1,
            Progress::Events(_) => self.handed = true,
        }
        true
    }

    /// The phase that it is in.
    pub fn phase(&self) -> Phase {
        match () {
            () if self.barrier => Phase::Barrier,
            () if self.committed < self.stored => Phase::Committing,
            () if self.handed => Phase::Writing,
            () => Phase::Restoring,
        }
    }

    /// Whether rows were handed over that no durable checkpoint holds: a kill would replay them.
    pub fn has_rows_to_replay(&self) -> bool {
        self.reached > self.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_as_what_it_says() {
        let read = |line| Progress::parse(line);
        let restored = "restored checkpoint 3: going on after event 120";
        assert_eq!(read("starting at event 0"), Some(Progress::Began(0)));
        assert_eq!(read(restored), Some(Progress::Began(120)));
        assert_eq!(read("checkpoint 4: flushing at event 150"), Some(Progress::Barrier(150)));
        assert_eq!(read("checkpoint 4: stored at event 150"), Some(Progress::Stored(150)));
        assert_eq!(read("checkpoint 4: committed at event 170"), Some(Progress::Committed(170)));
        assert_eq!(read("handed over: event 160"), Some(Progress::Events(160)));
        assert_eq!(read("warning: bucket.buffer-size is small"), None);
    }

    /// A commit may be known while the barrier after it is on its way.
    #[test]
    fn the_phase_follows_from_all_lines_and_not_from_the_last_one() {
        let mut watch = Watch::default();
        let mut phase_after = |line: &str| {
            assert!(watch.note(line), "{line}");
            watch.phase()
        };
        let restored = "restored checkpoint 3: going on after event 120";
        assert_eq!(phase_after(restored), Phase::Restoring);
        assert_eq!(phase_after("handed over: event 150"), Phase::Writing);
        assert_eq!(phase_after("checkpoint 4: flushing at event 150"), Phase::Barrier);
        assert_eq!(phase_after("checkpoint 4: stored at event 150"), Phase::Committing);
        assert_eq!(phase_after("checkpoint 5: flushing at event 160"), Phase::Barrier);
        assert_eq!(phase_after("checkpoint 4: committed at event 160"), Phase::Barrier);
        assert_eq!(phase_after("checkpoint 5: stored at event 160"), Phase::Committing);
        assert_eq!(phase_after("checkpoint 5: committed at event 160"), Phase::Writing);
        assert!(!watch.has_rows_to_replay());
        watch.note("handed over: event 200");
        assert!(watch.has_rows_to_replay());
    }
}
