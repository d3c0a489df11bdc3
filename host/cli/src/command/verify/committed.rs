//! The newest checkpoint of a job whose rows are all visible, and nothing beyond it.
//!
//! First step of `mod.rs`. A state file is written before its checkpoint is committed, so the
//! newest one proves nothing by itself: the journal is asked what became of its sessions, and the
//! service where the journal does not know. Invariant: a checkpoint is taken only if every session
//! that it stands for is known to be committed, and no later one of the job is.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use upsert_sink::sessions::JournalState;
use upsert_sink::{Checkpoint, Components, journal, sessions};
use upsert_sink_format::tunnel::{RefusalKind, SessionRef, SessionStatus};
use upsert_sink_tunnel::Table;

use crate::failure::bad_input;
use crate::state::{StateDirectory, Stored};

/// The end of a session, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    NotCommitted,
    /// Neither the journal nor the service knows it.
    Unknown,
}

/// The sessions of a job: what its journal says, and what the service does.
struct Fates<'a> {
    table: &'a Table,
    journaled: BTreeMap<String, JournalState>,
    known: BTreeMap<String, Fate>,
}

/// Finds the checkpoint.
///
/// Errors: a state without a checkpoint, one of which no checkpoint is committed, and one whose
/// newest checkpoint is committed in part or not known to be.
pub(super) async fn newest(
    states: &StateDirectory,
    journal_dir: &Path,
    table: &Table,
) -> anyhow::Result<Stored> {
    let dir = states.path().display();
    let mut fates = Fates::read(journal_dir, table).await?;
    let ids = states.retained()?;
    let mut later: Vec<(u64, Vec<SessionRef>)> = Vec::new();
    for id in ids.iter().rev() {
        let stored = states.load(Some(*id))?.context("a retained checkpoint is there")?;
        let sessions = sessions::of_checkpoint(&Checkpoint::from_bytes(&stored.sink)?)?;
        let sessions: Vec<SessionRef> = sessions.into_values().collect();
        // A finished job has waited for every commit.
        if stored.job.finished || fates.all_committed(*id, &sessions).await? {
            fates.check_later(&sessions, &later)?;
            return Ok(stored);
        }
        later.push((*id, sessions));
    }
    match ids.last() {
        None => Err(bad_input(format!(
            "state directory {dir}: the job has no checkpoint yet; run it first"
        ))),
        Some(id) => Err(bad_input(format!(
            "state directory {dir}: none of its checkpoints is committed, the newest is {id}; run \
             the job again, which commits it, then verify"
        ))),
    }
}

impl<'a> Fates<'a> {
    async fn read(journal_dir: &Path, table: &'a Table) -> anyhow::Result<Self> {
        let disk = Components::system().disk;
        let contents = journal::read(journal_dir, &*disk).await?;
        let records = contents.map(|contents| sessions::of(&contents)).transpose()?;
        if records.is_none() {
            eprintln!(
                "there is no journal in {}: the service is asked what became of the sessions",
                journal_dir.display()
            );
        }
        let records = records.unwrap_or_default().into_iter();
        let journaled = records.map(|(id, record)| (id, record.state)).collect();
        Ok(Self { table, journaled, known: BTreeMap::new() })
    }

    /// Whether all sessions of a checkpoint are committed.
    ///
    /// Errors: a session that nobody knows.
    async fn all_committed(&mut self, id: u64, sessions: &[SessionRef]) -> anyhow::Result<bool> {
        let mut all = true;
        for session in sessions {
            match self.fate(session).await? {
                Fate::Committed => {}
                Fate::NotCommitted => all = false,
                Fate::Unknown => bail!(
                    "checkpoint {id}: neither the journal nor the service knows whether session \
                     {} is committed; run the job again, which settles it, then verify",
                    session.id
                ),
            }
        }
        Ok(all)
    }

    async fn fate(&mut self, session: &SessionRef) -> anyhow::Result<Fate> {
        let id = &session.id.0;
        if let Some(fate) = self.known.get(id) {
            return Ok(*fate);
        }
        let fate = match self.journaled.get(id) {
            Some(JournalState::Committed) => Fate::Committed,
            Some(JournalState::Aborted) => Fate::NotCommitted,
            // The commit may have been carried out, and its record not written.
            Some(JournalState::Aborting | JournalState::Open) | None => self.ask(session).await?,
        };
        self.known.insert(id.clone(), fate);
        Ok(fate)
    }

    async fn ask(&self, session: &SessionRef) -> anyhow::Result<Fate> {
        match self.table.status(session).await {
            Ok(info) if info.status == SessionStatus::Committed => Ok(Fate::Committed),
            Ok(_) => Ok(Fate::NotCommitted),
            Err(error) => match error.refusal().map(|refusal| refusal.kind) {
                Some(RefusalKind::NoSuchSession) => Ok(Fate::Unknown),
                _ => Err(error.into()),
            },
        }
    }

    /// Refuses a checkpoint of which the table holds more than it should, because a later one is
    /// committed in part.
    fn check_later(
        &self,
        sessions: &[SessionRef],
        later: &[(u64, Vec<SessionRef>)],
    ) -> anyhow::Result<()> {
        for (id, others) in later {
            let committed = |session: &&SessionRef| {
                let is_later = !sessions.contains(session);
                is_later && self.known.get(&session.id.0) == Some(&Fate::Committed)
            };
            if others.iter().any(|session| committed(&session)) {
                bail!(
                    "checkpoint {id} is committed in part: the table is between two checkpoints; \
                     run the job again, which commits the rest, then verify"
                );
            }
        }
        Ok(())
    }
}
