//! The subject of one run of the checker: the input, how often things may go wrong, which rule is
//! switched off, which assumption about the service is broken.

use crate::promise::Promise;

/// In what order the service lets rows of two open sessions win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The rows of the pack that arrived later win. The sink does not promise anything then.
    Arrival,
    /// The rows of the session that was committed later win.
    Commit,
    /// The rows of the session that was created later win.
    Creation,
}

/// One rule of design §5 that is not kept, around the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Rule 0: a session is named by the barrier before it; without: a partition's open session is
    /// used on.
    SessionsAreNamed,
    /// Rule 0: a session is created when all writers have passed its barrier; without: at once.
    AheadWriterWaits,
    /// Rule 0: completion commits what was named before it; without: all that is prepared.
    CompletionCommitsItsOwn,
    /// Rule 0: what an aborted barrier holds waits for the next; without: it is forgotten.
    AbortedWaitsForTheNext,
    /// Rule 1: what the checkpoint holds is committed on restore; without: it is not.
    CommittedOnRestore,
    /// Rule 1: a committable is kept until its commit is known; without: until its checkpoint is
    /// complete.
    KeptUntilKnown,
    /// Rule 2: the next commit waits for the outcome of the one before; without: all are sent.
    CommitsAreOrdered,
    /// Rule 3: an acknowledgement is of one pack; without: of any pack of that bucket.
    AckOfOnePack,
    /// Rule 3: a bucket has one pack under way; without: as many as there are.
    OnePackOfABucket,
    /// Rule 3: a pack is kept until its 200; without: one attempt is enough.
    PackKeptUntilItsAck,
    /// Rule 4: after a doubt a fresh session; without: it is sent again, and nothing else happens.
    DoubtRollsOver,
    /// Rule 5: "not found" alone is no evidence; without: it is.
    NotFoundIsNoEvidence,
    /// Rule 6: a session's id is journalled before a writer gets it; without: it is not.
    SessionsAreJournalled,
    /// Rule 6: aborts are journalled; without: they are not.
    AbortsAreJournalled,
    /// Rule 6: before they are sent; without: when they are answered.
    AbortsAreJournalledFirst,
    /// Rule 6: sessions of dead attempts are aborted; without: they are left.
    PredecessorsAreAborted,
    /// Rule 6: the outcome of the abort is awaited; without: it is only sent.
    AbortsAreAwaited,
    /// Rule 6: identity is found without the engine's state; without: only in it.
    IdentityOutsideState,
    /// Rule 6: known commits are journalled; without: they are not.
    KnownIsJournalled,
    /// Rules 5 and 6: a commit that is known by evidence is journalled, too; without: only what the
    /// service said.
    EvidenceIsJournalled,
    /// Rule 6: a live lease stops the start; without: the attempt before lives on.
    LeaseStopsTheStart,
    /// Rule 7: writers restart together; without: one does.
    WritersRestartTogether,
    /// Rule 7: sessions are handed out when every restored writer has reported; without: when the
    /// first has.
    RestoreIsAwaited,
    /// Rule 8: two checkpoints are retained; without: one.
    TwoAreRetained,
}

/// One assumption about the service that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assumption {
    /// (b): sessions that have ended refuse packs.
    EndedSessionsRefusePacks,
    /// (c): a commit is atomic over buckets.
    CommitIsAtomic,
    /// (d): a young session in contact is not dropped.
    YoungSessionsStay,
    /// (e): nobody on the way repeats a pack.
    NobodyRepeatsPacks,
}

/// How often each thing may happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Barriers that are begun.
    pub checkpoints: u8,
    /// Checkpoints that are given up, or aborted when they are prepared.
    pub aborted: u8,
    /// Completions that nobody is told of.
    pub lost_notices: u8,
    /// Attempts that are killed, at any point.
    pub crashes: u8,
    /// Attempts that end by themselves.
    pub failures: u8,
    /// Packs that get no answer, and come later or never.
    pub late_packs: u8,
    /// Commits that get no answer, and come later or never.
    pub late_commits: u8,
    /// Other requests that get no answer, and come later or never.
    pub late_others: u8,
    /// Appends to the journal during which other things happen than a crash.
    pub slow_appends: u8,
    /// Restores of a retained checkpoint that is not the newest.
    pub older: u8,
    /// Intermediate savepoints among the barriers.
    pub savepoints: u8,
    /// Times that pass: two hours, which is beyond the idle limit, or a day, beyond the lifecycle.
    pub waits: u8,
    /// Sessions that the service drops, if it may.
    pub dropped: u8,
    /// Requests and replies that are lost.
    pub lost_letters: u8,
    /// Requests and replies that come twice.
    pub repeated_letters: u8,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The key of each row of the input; even ones are of bucket 0, odd ones of bucket 1.
    pub log: &'static [u8],
    /// Whether a row fills its bucket's buffer, and so is a pack of its own at once.
    pub full: bool,
    /// The order in which the service lets rows win.
    pub order: Order,
    /// Whether the service forgets a session as soon as it has ended.
    pub forgets: bool,
    /// `sink.delivery-guarantee = at-least-once`.
    pub at_least_once: bool,
    /// Further options.
    pub options: Vec<(&'static str, &'static str)>,
    /// Barriers under way at once.
    pub in_flight: u8,
    /// Whether barriers come without rows since the one before.
    pub empty: bool,
    /// Whether requests and replies take their time.
    pub letters: bool,
    /// Whether a restart may change the number of writers, or who takes up which state.
    pub rescale: bool,
    /// How often things happen.
    pub bounds: Bounds,
    /// Whether the service has one open session at a time.
    pub one_session: bool,
    /// Promises that are not looked at.
    pub tolerated: Vec<Promise>,
    /// The rule that is off.
    pub without: Option<Rule>,
    /// The assumption that is broken.
    pub broken: Option<Assumption>,
}

impl Plan {
    /// Exactly-once, all rules on, all assumptions kept, nothing goes wrong.
    pub fn exactly_once(log: &'static [u8]) -> Self {
        assert!(log.len() <= 16, "positions are bits of a u16");
        Self {
            log,
            full: true,
            order: Order::Commit,
            forgets: false,
            at_least_once: false,
            options: Vec::new(),
            in_flight: 1,
            empty: false,
            letters: false,
            rescale: false,
            bounds: Bounds { failures: 2, ..Bounds::default() },
            one_session: false,
            tolerated: Vec::new(),
            without: None,
            broken: None,
        }
    }

    /// The same under at-least-once.
    pub fn at_least_once(log: &'static [u8]) -> Self {
        Self { at_least_once: true, ..Self::exactly_once(log) }
    }

    pub(crate) fn is_off(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    pub(crate) fn is_broken(&self, assumption: Assumption) -> bool {
        self.broken == Some(assumption)
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> u8 {
        u8::try_from(self.log.len()).expect("at most 16 rows")
    }
}
