//! The tables of a server: the commit log, its fold, and the commits that are added to it.
//!
//! The lowest of the three things that a server keeps: [`Sessions`](crate::sessions::Sessions)
//! commit to tables, [`Jobs`](crate::jobs::Jobs) change and read them, and tables know neither.
//! Invariant: a reader sees a version of all tables that no later change touches, and the files of
//! a version stay while somebody in this process may read them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::TryStreamExt;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use upsert_sink_format::id::Millis;

use crate::components::{Clock, Directory, ServerComponents};
use crate::error::{Error, Refusal};
use crate::project::Project;
use crate::session::{PacksByBucket, SessionFacts};
use crate::spool::Spool;
use crate::table::catalog::{Catalog, Change, Commit, Compaction, LogRecord, Table, TableFile};
use crate::table::commit::{CommitHook, CommitOutcome, GroupCommit};
use crate::table::log::{Log, NotWritten};
use crate::table::partition::DATA;
use crate::table::readable::Readable;

/// All tables of a directory.
pub(crate) struct Tables {
    pub(crate) project: Project,
    directory: Arc<dyn Directory>,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
    commits: GroupCommit,
    replaced: Mutex<Vec<ReplacedFile>>,
}

/// A file that a compaction has replaced.
struct ReplacedFile {
    file: Arc<TableFile>,
    since: Millis,
}

/// Whether a compaction counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compacted {
    Yes,
    /// Its partition was emptied meanwhile, or its table dropped.
    No,
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
        let for_commits = Arc::clone(&clock);
        let commits = GroupCommit::new(Arc::clone(&directory), for_commits, Arc::clone(&log), hook);
        Ok(Self { project, directory, clock, log, commits, replaced: Mutex::default() })
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

    /// Puts a compaction of these files into the log, if they are still the oldest of their
    /// partition. Commits that came meanwhile stay behind it.
    pub(crate) async fn compact(
        &self,
        compaction: Compaction,
        replaced: &[Arc<TableFile>],
    ) -> Result<Compacted, NotWritten<Error>> {
        let base = compaction.base.as_ref().map(|base| base.path.clone());
        let written = self.put_compaction(compaction).await;
        let is_base_of_none = matches!(
            &written,
            Ok(Compacted::No) | Err(NotWritten::Decided(_) | NotWritten::Failed(_))
        );
        if let Some(path) = base.filter(|_| is_base_of_none) {
            self.remove(&path).await;
        }
        if matches!(&written, Ok(Compacted::Yes)) {
            self.leave(replaced);
        }
        written
    }

    async fn put_compaction(&self, compaction: Compaction) -> Result<Compacted, NotWritten<Error>> {
        self.log.change(|catalog| Ok::<_, Error>(catalog.newer_format())).await?;
        let mut counts = Compacted::No;
        let decide = |catalog: &Catalog| {
            let table = catalog.table_by_id(&compaction.table_id);
            let files = table.and_then(|table| table.partitions.get(&compaction.partition));
            if files.is_some_and(|files| compaction.fits(files)) {
                counts = Compacted::Yes;
                return Ok(Some(Change::Compact(compaction)));
            }
            Ok::<_, Error>(None)
        };
        self.log.change(decide).await?;
        Ok(counts)
    }

    /// Deletes the files that were replaced long enough ago and that nobody in this process reads.
    pub(crate) async fn delete_replaced(&self) {
        let now = self.clock.now();
        let unread = {
            let mut replaced = self.replaced();
            let is_read = |old: &ReplacedFile| {
                Arc::strong_count(&old.file) > 1 || now.since(old.since).0 < REPLACED_KEPT_MS
            };
            let (kept, unread): (Vec<_>, Vec<_>) =
                std::mem::take(&mut *replaced).into_iter().partition(is_read);
            *replaced = kept;
            unread
        };
        for old in unread {
            self.remove(&old.file.path).await;
        }
    }

    /// A record of the log.
    ///
    /// Errors: `Disk`, `Damaged`.
    pub(crate) async fn record(&self, version: u64) -> Result<LogRecord, Error> {
        self.log.record(version).await
    }

    /// The directory of all files.
    pub(crate) fn directory(&self) -> &Arc<dyn Directory> {
        &self.directory
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

    fn leave(&self, files: &[Arc<TableFile>]) {
        let since = self.clock.now();
        let files = files.iter().map(|file| ReplacedFile { file: Arc::clone(file), since });
        self.replaced().extend(files);
    }

    /// Deletes a file that is part of no table; if that fails, the next start does it.
    async fn remove(&self, path: &str) {
        if let Err(error) = self.directory.remove(path).await {
            tracing::warn!(path, %error, "a file that nobody needs could not be deleted");
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<ReplacedFile>> {
        self.replaced.lock().expect("no holder panics")
    }

    /// Deletes the files of commits and compactions that never reached the log, whole or not, those
    /// that were replaced, and those of dropped tables. Nobody may be committing.
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

/// How long a file stays after it was replaced: a process that reads the directory without the
/// server has so much time for one table.
const REPLACED_KEPT_MS: u64 = 10 * 60_000;
