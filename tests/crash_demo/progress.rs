//! What a running job tells on standard error, as events.
//!
//! Between the process and the suite. Invariant: a line that is not understood is no event.

/// One thing that the job told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It goes on after this event, where a checkpoint had stood.
    Restored(u64),
    /// The barrier of a checkpoint was sent to the writers at this event.
    Barrier(u64),
    /// A checkpoint is durable; it holds all events before this one.
    Completed(u64),
    /// All sessions of a checkpoint are known to be committed, and so many events were handed over.
    Committed(u64),
    /// So many events were handed to the sink.
    Events(u64),
}

impl Progress {
    /// Reads one line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let number_after = |word: &str| {
            let rest = line.split(word).nth(1)?;
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        let at = number_after("at event ");
        if line.contains("restored checkpoint ") {
            return number_after("after event ").map(Self::Restored);
        }
        if line.contains(": flushing at event ") {
            return at.map(Self::Barrier);
        }
        if line.contains(": stored at event ") {
            return at.map(Self::Completed);
        }
        if line.contains(": committed at event ") {
            return at.map(Self::Committed);
        }
        number_after("handed over: event ").map(Self::Events)
    }

    /// How far the job had come.
    pub(crate) fn position(self) -> u64 {
        match self {
            Self::Restored(at)
            | Self::Barrier(at)
            | Self::Completed(at)
            | Self::Committed(at)
            | Self::Events(at) => at,
        }
    }
}

/// What a job was doing when it was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two checkpoints.
    Writing,
    /// A barrier was sent, and not all of its rows are known to be flushed.
    Barrier,
    /// A checkpoint is durable, and not all of its sessions are known to be committed.
    Committing,
}

impl Phase {
    /// The phase that a line begins; none if it does not change.
    pub(crate) fn begun_by(progress: Progress) -> Option<Self> {
        match progress {
            Progress::Restored(_) | Progress::Committed(_) => Some(Self::Writing),
            Progress::Barrier(_) => Some(Self::Barrier),
            Progress::Completed(_) => Some(Self::Committing),
            Progress::Events(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_read_as_what_it_says() {
        let read = |line| Progress::parse(line);
        let restored = "restored checkpoint 3: going on after event 120";
        assert_eq!(read(restored), Some(Progress::Restored(120)));
        assert_eq!(read("checkpoint 4: flushing at event 150"), Some(Progress::Barrier(150)));
        assert_eq!(read("checkpoint 4: stored at event 150"), Some(Progress::Completed(150)));
        assert_eq!(read("checkpoint 4: committed at event 170"), Some(Progress::Committed(170)));
        assert_eq!(read("handed over: event 160"), Some(Progress::Events(160)));
        assert_eq!(read("warning: bucket.buffer-size is small"), None);
    }
}
