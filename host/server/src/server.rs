//! A running server, and ways to read its directory without one.
//!
//! Users of the crate hold it; it is made of `http/mod.rs` and `service.rs`. Invariant: reading a
//! directory changes nothing in it, whether or not a server runs on it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;

use crate::auth::Auth;
use crate::components::{Access, Clock, Directories, Directory, ServerComponents, run_apart};
use crate::error::Error;
use crate::fault::Faults;
use crate::http::Listener;
use crate::service::Service;
use crate::session::SessionFacts;
use crate::settings::ServerSettings;
use crate::stats::{OpenSessionStats, Stats};
use crate::table::catalog::Catalog;
use crate::table::log;
use crate::table::readable::{Readable, TableRows};
use crate::{http, spool};

/// A server that listens. Dropping it stops it at once; [`Server::shutdown`] answers first what was
/// asked.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    listener: Listener,
    address: SocketAddr,
}

impl Server {
    /// Starts a server on its directory and address, and recovers what was acknowledged.
    ///
    /// Errors: `OpenToOthers` if other machines could ask without a key, `Listen` if the address is
    /// taken, `InUse` if the directory has a server, `Directory`
    /// if it cannot be written to, `Damaged` or `TooNew` if what is in it cannot be trusted or
    /// read.
    pub fn start(
        settings: ServerSettings,
        components: ServerComponents,
    ) -> BoxFuture<'static, Result<Self, Error>> {
        Box::pin(async move {
            if settings.auth == Auth::Open && !settings.listen.ip().is_loopback() {
                return Err(Error::OpenToOthers { address: settings.listen });
            }
            let (listener, address) = http::bind(settings.listen).await?;
            let settings = ServerSettings { listen: address, ..settings };
            let service = Service::open(&settings, &components).await?;
            let clock = Arc::clone(&components.clock);
            let listener = Listener::serve(listener, Arc::clone(&service), clock, &settings);
            tracing::info!(%address, dir = %settings.dir.display(), "serving");
            Ok(Self { service, listener, address })
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint for clients, such as `http://127.0.0.1:8321/api`.
    pub fn endpoint(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Counts since the start.
    pub fn stats(&self) -> Stats {
        self.service.stats()
    }

    /// The sessions that are neither committed nor aborted nor expired, oldest first.
    pub fn open_sessions(&self) -> Vec<OpenSessionStats> {
        self.service.open_sessions()
    }

    /// The rules of faults.
    pub fn faults(&self) -> &Faults {
        self.service.faults()
    }

    /// Ends when a rule of faults has crashed this server. From then on it answers nobody; shut it
    /// down to have its directory back, as it was at the crash.
    pub fn crashed(&self) -> BoxFuture<'static, ()> {
        self.service.crashed()
    }

    /// Lets requests that were begun end, closes, and gives the directory back.
    ///
    /// Errors: none at present.
    pub fn shutdown(self) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async move {
            // Requests that a rule delays would keep their connections, and the shutdown, waiting.
            self.service.faults().clear();
            self.listener.shutdown().await;
            self.service.quiet().await;
            Ok(())
        })
    }
}

/// Runs one SELECT over the tables of a directory: what is committed, last writer of a key wins.
/// There is at least one batch, so that the columns are known.
///
/// Errors: `Directory` or `NoTables` if there is nothing to read, `Query` for SQL that is wrong or
/// no SELECT, `Damaged` or `TooNew` if the log cannot be trusted or read; `NoSelect` for any SQL in
/// a build without the feature `query`.
pub fn query<'a>(dir: &'a Path, sql: &'a str) -> BoxFuture<'a, Result<Vec<RecordBatch>, Error>> {
    Box::pin(async move {
        crate::query::check()?;
        crate::query::run(&readable(dir).await?, sql).await
    })
}

/// Streams the rows of one table of a directory, as a SELECT would find them, but without SQL:
/// what is committed, last writer of a key wins. They come partition by partition, in the order of
/// the partitions' values, and a batch is of one partition. In memory there are two batches and
/// what merging one bucket takes, whatever the table's size.
///
/// The columns are those that are named, in that order, partition columns among them; without
/// names all of them, the partition columns last. With an empty list, batches have rows but no
/// columns. A commit that comes later does not change what is read.
///
/// Errors: `Directory` or `NoTables` if there is nothing to read, `NoTable` or `NoColumn` for a
/// name that there is not, `Damaged` or `TooNew` if the log cannot be trusted or read; in the
/// stream `Read`, which ends it.
pub fn table_rows<'a>(
    dir: &'a Path,
    table: &'a str,
    columns: Option<&'a [String]>,
) -> BoxFuture<'a, Result<TableRows, Error>> {
    Box::pin(async move { readable(dir).await?.rows(table, columns) })
}

/// The open sessions that a directory holds, oldest first. Waits for the disk.
///
/// Errors: as of [`query`].
pub fn recorded_sessions(dir: &Path) -> Result<Vec<OpenSessionStats>, Error> {
    let path = dir.to_owned();
    let sessions = run_apart(async move {
        let components = ServerComponents::system();
        let (directory, catalog) = read(&path, &*components.disk).await?;
        open_sessions(&*directory, &catalog, &*components.clock).await
    });
    sessions.map_err(|error| Error::opening(dir, error))?
}

/// The tables of a directory, as they are now.
async fn readable(dir: &Path) -> Result<Readable, Error> {
    let components = ServerComponents::system();
    let (directory, catalog) = read(dir, &*components.disk).await?;
    let project = ServerSettings::new(dir).project;
    Ok(Readable { project, tables: catalog.tables, objects: directory.objects() })
}

async fn read(dir: &Path, disk: &dyn Directories) -> Result<(Arc<dyn Directory>, Catalog), Error> {
    let no_tables = || Error::NoTables { path: dir.to_owned() };
    let directory = disk.open(dir, Access::Read).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => no_tables(),
        _ => Error::opening(dir, error),
    })?;
    let catalog = log::fold(&*directory).await?.catalog;
    if catalog.version == 0 {
        return Err(no_tables());
    }
    Ok((directory, catalog))
}

async fn open_sessions(
    directory: &dyn Directory,
    catalog: &Catalog,
    clock: &dyn Clock,
) -> Result<Vec<OpenSessionStats>, Error> {
    let now = clock.now().0;
    let is_over = |facts: &SessionFacts| catalog.is_committed(&facts.id) || facts.ends_ms() <= now;
    let sessions = spool::recover(directory, &is_over).await?.sessions;
    let open = sessions.into_values().filter(|session| {
        !session.aborted && catalog.table_by_id(&session.facts.table_id).is_some()
    });
    Ok(open.map(|s| OpenSessionStats::new(&s.facts, s.packs.len(), catalog)).collect())
}
