//! Inputs that change nothing, each with its reason.
//!
//! Beside the row's way. Late, repeated and foreign messages are normal: they are counted under the
//! reason and dropped. Invariant: a machine that ignores an input names one of these; there is no
//! silent arm.

/// The reason for which an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ignored {
    /// The end of a checkpoint that was superseded, or had ended before.
    EndedBefore,
    /// A message of another start of the sink.
    ForeignStart,
    /// The commit of a session that was known before.
    KnownBefore,
    /// An outcome of a ticket that is no longer held, or has no attempt under way.
    LateOutcome,
    /// A reply to a request that is not the newest.
    LateReply,
    /// A request that is not the writer's newest.
    LateRequest,
    /// A committable that was handed over before.
    PreparedBefore,
    /// A timer that fired when nothing was due.
    TimerWithoutCause,
}

impl Ignored {
    /// All reasons, in order.
    pub const ALL: [Self; 8] = [
        Self::EndedBefore,
        Self::ForeignStart,
        Self::KnownBefore,
        Self::LateOutcome,
        Self::LateReply,
        Self::LateRequest,
        Self::PreparedBefore,
        Self::TimerWithoutCause,
    ];

    /// The counter's name.
    pub fn counter(self) -> &'static str {
        match self {
            Self::EndedBefore => "upsert_sink.ignored.ended_before",
            Self::ForeignStart => "upsert_sink.ignored.foreign_start",
            Self::KnownBefore => "upsert_sink.ignored.known_before",
            Self::LateOutcome => "upsert_sink.ignored.late_outcome",
            Self::LateReply => "upsert_sink.ignored.late_reply",
            Self::LateRequest => "upsert_sink.ignored.late_request",
            Self::PreparedBefore => "upsert_sink.ignored.prepared_before",
            Self::TimerWithoutCause => "upsert_sink.ignored.timer_without_cause",
        }
    }
}
