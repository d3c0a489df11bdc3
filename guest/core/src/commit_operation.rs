//! The purposes of the committer's operations.
//!
//! Under the committer. Invariant: a commit and its record are of one session; a compaction and a
//! count are of a partition, and no commit waits for them.

use alloc::format;
use alloc::string::String;

use upsert_sink_format::id::Millis;

use crate::evidence::Evidence;
use crate::operation::Purpose;
use crate::session::SessionName;

/// The purpose of an operation.
#[derive(Clone, Debug)]
pub(crate) enum CommitOperation {
    Commit(SessionName),
    /// The record of a commit, on this evidence.
    Journal(SessionName, Evidence),
    /// A major compaction of a partition.
    Compact(String),
    /// The record of a partition's count.
    Count(String),
}

impl CommitOperation {
    /// The session of a commit that is under way.
    pub(crate) fn name(&self) -> &SessionName {
        match self {
            Self::Commit(name) | Self::Journal(name, _) => name,
            Self::Compact(_) | Self::Count(_) => unreachable!("no commit"),
        }
    }
}

impl Purpose for CommitOperation {
    type Patience = Millis;

    fn place(&self) -> String {
        match self {
            Self::Commit(name) | Self::Journal(name, _) => place(name),
            Self::Compact(partition) | Self::Count(partition) => place_of(partition),
        }
    }

    fn overdue(limit: Millis, _attempts: u32, time: Millis, cause: &str) -> Option<String> {
        let seconds = limit.0 / 1000;
        (time > limit).then(|| {
            format!(
                "the outcome of the commit is not known after upsert.commit.timeout = {seconds} s, \
                 the last cause being: {cause}; start again, the commit is then taken up again"
            )
        })
    }
}

/// The place of a session, for messages.
pub(crate) fn place(name: &SessionName) -> String {
    place_of(&name.partition)
}

/// A partition, for messages.
pub(crate) fn place_of(partition: &str) -> String {
    if partition.is_empty() {
        return String::from("the table");
    }
    format!("partition {partition}")
}
