//! One upsert session: its id, its state, and where its packs lie.
//!
//! `sessions.rs` opens and ends it, `spool/mod.rs` keeps it over a restart, `table/delta.rs` reads
//! its packs at a commit. Invariant: a pack is in `packs` only when it is durable, and once a
//! commit has begun no pack is added.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use upsert_sink_format::id::Millis;
use upsert_sink_format::schema::{ColumnType, TableSchema};

use crate::error::Refusal;

/// The facts of a session that never change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionFacts {
    pub(crate) id: String,
    pub(crate) table_id: String,
    pub(crate) table: String,
    /// The values of the partition columns, outermost first.
    pub(crate) partition: Vec<String>,
    pub(crate) created_ms: u64,
    pub(crate) lifecycle_hours: u32,
    pub(crate) slots: u32,
    /// How many columns the table had: packs number their fields by it. Columns are only ever
    /// added at the end.
    #[serde(default = "all_columns")]
    pub(crate) columns: usize,
}

fn all_columns() -> usize {
    usize::MAX
}

impl SessionFacts {
    /// The types of the columns that packs of this session have.
    pub(crate) fn column_types(&self, table: &TableSchema) -> Vec<ColumnType> {
        let mut types = table.column_types();
        types.truncate(self.columns);
        types
    }

    /// When the session may be dropped.
    pub(crate) fn ends_ms(&self) -> u64 {
        self.created_ms.saturating_add(u64::from(self.lifecycle_hours) * HOUR_MS)
    }
}

/// Where a session stands, in the vendor's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Normal,
    Committing,
    Committed,
    Aborted,
    Expired,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }
}

/// Where a durable pack lies in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRange {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) bucket: u32,
    pub(crate) records: u32,
}

/// One session. Packs of committed sessions are forgotten.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) facts: SessionFacts,
    progress: Mutex<Progress>,
    /// Told when the last admitted pack has ended.
    quiet: Notify,
}

#[derive(Debug)]
struct Progress {
    status: Status,
    packs: Vec<PackRange>,
    /// Packs that were admitted and are not yet durable.
    arriving: u32,
}

impl Session {
    pub(crate) fn new(facts: SessionFacts, status: Status, packs: Vec<PackRange>) -> Arc<Self> {
        let progress = Mutex::new(Progress { status, packs, arriving: 0 });
        Arc::new(Self { facts, progress, quiet: Notify::new() })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("no holder panics")
    }

    /// The state at a time: an open session expires at the end of its lifecycle.
    pub(crate) fn status(&self, now: Millis) -> Status {
        let mut progress = self.progress();
        if progress.status == Status::Normal && now.0 >= self.facts.ends_ms() {
            progress.status = Status::Expired;
        }
        progress.status
    }

    /// Whether it is neither committed nor aborted nor expired.
    pub(crate) fn is_open(&self, now: Millis) -> bool {
        matches!(self.status(now), Status::Normal | Status::Committing)
    }

    pub(crate) fn pack_count(&self) -> usize {
        self.progress().packs.len()
    }

    /// Admits one pack, before anything of it is written.
    ///
    /// Refused unless the session is open, so that a refused pack certainly has no effect.
    pub(crate) fn admit(self: &Arc<Self>, now: Millis) -> Result<AdmittedPack, Refusal> {
        let status = self.status(now);
        let mut progress = self.progress();
        if progress.status != Status::Normal {
            return Err(Refusal::conflict(format!(
                "upsert session {} is {}: it takes no more packs; write to a new session",
                self.facts.id,
                status.word(),
            )));
        }
        progress.arriving += 1;
        Ok(AdmittedPack { session: Arc::clone(self), range: None })
    }

    /// Closes the session to packs, for a commit. Refused, with its status, if another commit of it
    /// is under way, or it has ended.
    pub(crate) fn close(&self, now: Millis) -> Result<(), Status> {
        let status = self.status(now);
        let mut progress = self.progress();
        if progress.status != Status::Normal {
            return Err(status);
        }
        progress.status = Status::Committing;
        Ok(())
    }

    /// Waits for the packs that were admitted before the session was closed, and answers all of
    /// them by bucket, each bucket's in order of arrival.
    pub(crate) async fn packs(&self) -> PacksByBucket {
        loop {
            let quiet = self.quiet.notified();
            {
                let progress = self.progress();
                if progress.arriving == 0 {
                    return by_bucket(&progress.packs);
                }
            }
            quiet.await;
        }
    }

    /// Ends a commit whose log record is durable.
    pub(crate) fn close_committed(&self) {
        let mut progress = self.progress();
        progress.status = Status::Committed;
        progress.packs = Vec::new();
    }

    /// Ends a commit that certainly has no log record: the session is open again.
    pub(crate) fn reopen(&self) {
        self.progress().status = Status::Normal;
    }

    /// Ends the lifecycle now, as a rule of faults asks; a commit under way goes on.
    pub(crate) fn expire(&self) {
        let mut progress = self.progress();
        if progress.status == Status::Normal {
            progress.status = Status::Expired;
        }
    }

    /// Aborts; answers the state before. A session that is being committed, or was, is left as it
    /// is.
    pub(crate) fn abort(&self, now: Millis) -> Status {
        let before = self.status(now);
        if before == Status::Normal {
            let mut progress = self.progress();
            progress.status = Status::Aborted;
            progress.packs = Vec::new();
        }
        before
    }
}

/// The packs of a session, by bucket.
pub(crate) type PacksByBucket = BTreeMap<u32, Vec<PackRange>>;

fn by_bucket(packs: &[PackRange]) -> PacksByBucket {
    let mut buckets = PacksByBucket::new();
    for pack in packs {
        buckets.entry(pack.bucket).or_default().push(*pack);
    }
    buckets
}

/// A pack on its way into the spool. Dropping it without `keep` means that it did not get there.
pub(crate) struct AdmittedPack {
    session: Arc<Session>,
    range: Option<PackRange>,
}

impl AdmittedPack {
    /// The pack is durable. Answers whether it counts: it does not if the session was aborted
    /// meanwhile.
    pub(crate) fn keep(mut self, range: PackRange) -> PackKept {
        self.range = Some(range);
        match self.session.progress().status {
            Status::Normal | Status::Committing => PackKept::Yes,
            Status::Committed | Status::Aborted | Status::Expired => PackKept::No,
        }
    }
}

/// Whether a durable pack is part of its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackKept {
    Yes,
    No,
}

impl Drop for AdmittedPack {
    fn drop(&mut self) {
        let mut progress = self.session.progress();
        progress.arriving -= 1;
        if let (Some(range), Status::Normal | Status::Committing) = (self.range, progress.status) {
            progress.packs.push(range);
        }
        drop(progress);
        self.session.quiet.notify_waiters();
    }
}

/// Makes and recognises session ids.
///
/// An id carries the mark of the server's directory. So an id that the directory made, and of which
/// neither log nor spool knows anything any more, is known to be of a session that ended without a
/// commit: the log never forgets those.
#[derive(Clone, Debug)]
pub(crate) struct SessionIds {
    identity: String,
}

impl SessionIds {
    pub(crate) fn new(identity: &str) -> Self {
        Self { identity: identity.to_owned() }
    }

    pub(crate) fn make(&self, now: Millis, random: u64) -> String {
        let body = format!("{:012x}{random:016x}", now.0);
        let mark = self.mark(&body);
        format!("{body}{mark:08x}")
    }

    pub(crate) fn is_ours(&self, id: &str) -> bool {
        let split = id.len().checked_sub(8).and_then(|at| id.split_at_checked(at));
        split.is_some_and(|(body, mark)| {
            body.len() == 28 && mark == format!("{:08x}", self.mark(body))
        })
    }

    fn mark(&self, body: &str) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(self.identity.as_bytes()), body.as_bytes())
    }
}

const HOUR_MS: u64 = 3_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Arc<Session> {
        let facts = SessionFacts {
            id: "s".into(),
            table_id: "t".into(),
            table: "t".into(),
            partition: vec![],
            created_ms: 0,
            lifecycle_hours: 1,
            slots: 1,
            columns: 1,
        };
        Session::new(facts, Status::Normal, vec![])
    }

    #[test]
    fn a_session_expires_at_the_end_of_its_lifecycle_and_not_before() {
        assert_eq!(session().status(Millis(HOUR_MS - 1)), Status::Normal);
        assert_eq!(session().status(Millis(HOUR_MS)), Status::Expired);
    }

    #[tokio::test]
    async fn a_commit_waits_for_admitted_packs_and_takes_them() {
        let session = session();
        let admission = session.admit(Millis(0)).expect("open");
        session.close(Millis(0)).expect("open");
        let packs = session.packs();
        tokio::pin!(packs);
        assert!(futures::poll!(&mut packs).is_pending());
        assert_eq!(session.admit(Millis(0)).map(|_| ()).unwrap_err().code, "StatusConflict");
        admission.keep(PackRange { segment: 1, offset: 0, length: 9, bucket: 3, records: 1 });
        assert_eq!(packs.await[&3].len(), 1);
        assert_eq!(session.close(Millis(0)), Err(Status::Committing), "it is closed once");
    }

    #[test]
    fn ids_of_another_directory_are_not_ours() {
        let (ours, theirs) = (SessionIds::new("a"), SessionIds::new("b"));
        let id = ours.make(Millis(7), 8);
        assert!(ours.is_ours(&id));
        assert!(!theirs.is_ours(&id));
        assert!(!ours.is_ours("é"));
    }
}
