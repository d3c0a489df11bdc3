//! The tables of a server: the commit log, its fold, and the commits that are added to it.
//!
//! The lowest of the three things that a server keeps: [`Sessions`](crate::sessions::Sessions)
//! commit to tables, [`Jobs`](crate::jobs::Jobs) change and read them, and tables know neither.
//! Invariant: a reader sees a version of all tables that no later change touches.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard};

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::components::{Directory, ServerComponents};
use crate::error::{Error, Refusal};
use crate::project::Project;
use crate::session::{PacksByBucket, SessionFacts};
use crate::spool::Spool;
use crate::table::catalog::{Catalog, Change, Commit, Table};
use crate::table::commit::{CommitHook, CommitOutcome, DATA, GroupCommit};
use crate::table::log::{Log, NotWritten};
use crate::table::readable::Readable;

/// All tables of a directory.
pub(crate) struct Tables {
    pub(crate) project: Project,
    directory: Arc<dyn Directory>,
    log: Arc<Log>,
    commits: GroupCommit,
}

impl Tables {
    /// Reads the log of a directory, and begins it if there is none.
    pub(crate) async fn open(
        directory: &Arc<dyn Directory>,
        components: &ServerComponents,
        project: Project,
        hook: Arc<dyn CommitHook>,
    ) -> Result<Self, Error> {
        let directory = Arc::clone(directory);
        let clock = Arc::clone(&components.clock);
        let identity = || format!("{:016x}", components.entropy.draw());
        let log = Log::open(Arc::clone(&directory), Arc::clone(&clock), identity).await?;
        let log = Arc::new(log);
        let commits = GroupCommit::new(Arc::clone(&directory), clock, Arc::clone(&log), hook);
        Ok(Self { project, directory, log, commits })
    }

    /// The fold of all durable records.
    pub(crate) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.log.catalog()
    }

    /// A table by its name, as it is now.
    ///
    /// Errors: `NoSuchTable`.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Table>, Refusal> {
        self.catalog().table(name).map(Arc::clone)
    }

    /// Writes the change that `decide` makes of the newest catalog, if any, and applies it.
    pub(crate) async fn change<E>(
        &self,
        decide: impl FnOnce(&Catalog) -> Result<Option<Change>, E>,
    ) -> Result<(), NotWritten<E>> {
        self.log.change(decide).await
    }

    /// Commits the packs of a session, which lie in the spool, to its partition.
    pub(crate) async fn commit(
        &self,
        spool: &Spool,
        table: &Table,
        session: &SessionFacts,
        packs: &PacksByBucket,
    ) -> CommitOutcome {
        self.commits.commit(spool, table, session, packs).await
    }

    /// Writes the file of a commit that `finish_commit` makes visible.
    ///
    /// Errors: `Disk`, `Damaged`.
    pub(crate) async fn prepare_commit(
        &self,
        spool: &Spool,
        table: &Table,
        session: &SessionFacts,
        packs: &PacksByBucket,
    ) -> Result<Commit, Error> {
        self.commits.prepare(spool, table, session, packs).await
    }

    /// Puts a commit that was prepared into the log.
    pub(crate) async fn finish_commit(&self, commit: Commit) -> CommitOutcome {
        self.commits.finish(commit).await
    }

    /// The files of tables.
    pub(crate) fn objects(&self) -> Arc<dyn ObjectStore> {
        self.directory.objects()
    }

    /// The version of all tables that a query reads which begins now.
    pub(crate) fn readable(&self) -> Readable {
        Readable {
            project: self.project.name().to_owned(),
            tables: self.catalog().tables.clone(),
            objects: self.objects(),
        }
    }

    /// Deletes the files of commits that never reached the log, whole or not, and of dropped
    /// tables. Nobody may be committing.
    pub(crate) async fn delete_orphans(&self) -> Result<(), Error> {
        let discarded = self.directory.discard_unfinished(DATA).await;
        discarded.map_err(|error| Error::disk(DATA, error))?;
        let known: HashSet<String> = {
            let catalog = self.catalog();
            let files = catalog.tables.values().flat_map(|table| table.partitions.values());
            files.flatten().map(|file| file.path.clone()).collect()
        };
        let objects = self.objects();
        let listed = objects.list(Some(&ObjectPath::from(DATA))).try_collect::<Vec<_>>().await;
        for meta in listed.map_err(|error| Error::disk(DATA, error))? {
            if !known.contains(meta.location.as_ref()) {
                let deleted = objects.delete(&meta.location).await;
                deleted.map_err(|error| Error::disk(meta.location.as_ref(), error))?;
            }
        }
        Ok(())
    }
}
