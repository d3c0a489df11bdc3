//! Bugs that others had, to be planted one at a time, so that the tests can prove that they would
//! have found them.
//!
//! Below every machine: the line that a bug would change asks `planted` first. Invariant: unless
//! the crate is built with `--cfg planted`, which no shipped build is, the answer is a constant no,
//! and nothing of a bug is compiled.

#[cfg(planted)]
use core::sync::atomic::{AtomicUsize, Ordering};

/// Declares the bugs with their sources, which a planted build can tell.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident: $source:literal,)+) => {
        /// A bug that can be planted.
        #[cfg_attr(
            not(planted),
            expect(unreachable_pub, reason = "it is named from outside where it is planted")
        )]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        #[cfg(planted)]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Who had it, or where it was shown to be one.
            pub const fn source(self) -> &'static str {
                match self {
                    $(Self::$name => $source,)+
                }
            }
        }
    };
}

bugs! {
    /// What a later outcome says is taken for the outcome of the oldest pack.
    AckNotMatched: "model of the protocol, run E2: an acknowledgement not matched to its pack",
    /// New sessions are handed out before those of dead attempts are gone.
    AbortsNotAwaited: "model of the protocol: aborts sent, but not waited for",
    /// A writer that is told that its checkpoint was aborted drops what the checkpoint held.
    AbortedCheckpointDrops: "Flink's sink contract: an aborted checkpoint is not discarded data",
    /// All sessions are committed when any checkpoint completes.
    CommitsAllAtCompletion: "model of the protocol: commit all at completion",
    /// Sessions are committed at the barrier although exactly-once was promised.
    CommitsAtBarrier: "the vendor's Flink connector; model of the protocol, run A",
    /// A commit whose outcome is in doubt is taken for done.
    CommitInDoubtIsDone: "FoundationDB layers: commit_unknown_result taken for success",
    /// The commit of a session does not wait for that of the session before it.
    CommitsUnordered: "model of the protocol, run E: commits of a partition not ordered",
    /// Deletes are not written.
    DeletesDropped: "Hudi and Paimon users: deletes of a change feed dropped by a default",
    /// A pack without an answer is taken for written.
    DoubtedPackDropped: "odps-sdk-core: after a read timeout the pack is not sent again",
    /// A message of an earlier start of the sink is taken for one of this start.
    ForeignStartTrusted: "failure catalogue C20: a zombie writer goes on",
    /// Commits are told as known when they are sent.
    KnownWhenSent: "Iceberg: the marker of a commit written before the commit",
    /// A late reply is taken for the reply to the newest request.
    LateReplyTrusted: "Flink, FLINK-21996: operator events lost and repeated",
    /// Partitions that lose rows are committed before those that receive them.
    LosersFirst: "failure catalogue D4: the delete is visible before the insert",
    /// Of two records of one key the first is kept.
    MergeKeepsFirst: "failure catalogue D1: the first row of a key wins in a buffer",
    /// A row that moved stays where it was, too.
    MovedRowStays: "failure catalogue D4: the old partition keeps the row",
    /// A session that the service does not know is taken for committed, however old it is.
    NotFoundIsCommitted: "odps-sdk-core, UpsertSessionImpl.commit; PyODPS; model, run I",
    /// Sessions of dead attempts stay open.
    NoAbortOfPredecessors: "model of the protocol: predecessors not aborted",
    /// What a restored checkpoint holds is not committed.
    NoRecommitOnRestore: "Hudi, HUDI-9570: a task dies after the snapshot, before the notice",
    /// New sessions are handed out before restored commits are known.
    NoRestoreGate: "model of the protocol: no restore gate",
    /// A session with a pack in doubt takes further packs.
    NoRollover: "odps-sdk-core: the session is used on after a retry; model, run F",
    /// Of the sessions of one checkpoint only the first is committed.
    OneCommitPerCheckpoint: "Iceberg #14090: several committables shared one marker",
    /// The newest pack of a bucket is sent first.
    PacksOutOfOrder: "failure catalogue D1: the order of flushes is not that of rows",
    /// Of what a restored checkpoint holds only the first session is committed.
    PartialRecommit: "Hudi, HUDI-5506: a partial recommit",
    /// After a change of parallelism only one of the former writers' states is taken up.
    RescaleForgets: "Hudi, HUDI-4521: no recommit after rescaling",
    /// A session is retired although a checkpoint holds it.
    RetiresHeldSessions: "Hudi #19215: loss at a global failover",
    /// A session is retired when the first writer has left it.
    RetiresTooEarly: "failure catalogue C19: another writer's session is aborted",
    /// Without overlap, the next session is asked for before the commit of the one before is known.
    SecondSession: "delta-table notes: a service that refuses two open sessions",
    /// Rows after a barrier go into the session of those before it.
    SessionOutlivesBarrier: "model of the protocol: sessions not named after barriers",
    /// A refusal that asks for a pause is taken for success.
    SlowDownIsSuccess: "PyODPS 0.13.2: a status that is no error is success",
    /// The snapshot is taken while packs are not acknowledged.
    SnapshotBeforeAcks: "failure catalogue C1: a barrier while packs are under way",
    /// A snapshot holds the sessions of the last barrier only.
    SnapshotForgetsEarlier: "failure catalogue C6: sessions of an aborted checkpoint forgotten",
    /// A writer drops a session when its checkpoint completes, before its commit is known.
    DroppedAtCompletion: "model of the protocol: committable dropped at completion",
    /// Two packs of a bucket are under way at once.
    TwoPacksOfABucket: "model of the protocol: two packs of a bucket in flight",
    /// The bytes of an acknowledged pack are never given back.
    AccountLeaks: "Hudi, HUDI-7447: a writer that hangs; failure catalogue I18",
}

/// The number of the planted bug, counted from one.
#[cfg(planted)]
static PLANTED: AtomicUsize = AtomicUsize::new(0);

/// Plants a bug in place of the one before, or none.
#[cfg(planted)]
pub fn plant(bug: Option<Bug>) {
    PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
}

/// Whether this bug is planted.
#[cfg(planted)]
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.load(Ordering::Relaxed) == bug as usize + 1
}

/// Whether this bug is planted: never, in this build.
#[cfg(not(planted))]
#[inline(always)]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}
