//! The catalog: tables as they are described, SQL that creates and changes them, and compactions.
//!
//! Beside the way of rows. Invariant: reads, queries, DDL and merges of files only; no row is
//! written this way.

use std::sync::Arc;

use http::Method;
use upsert_sink_format::tunnel::TableDescription;

use crate::components::Components;
use crate::definition::NewTable;
use crate::endpoint::{Endpoint, Request};
use crate::error::Result;
use crate::instance::InstanceId;
use crate::name::Name;
use crate::response::judge;
use crate::settings::ClientSettings;
use crate::sql::TextRow;
use crate::{compaction, description, instance, partition, sql};

/// The catalog of a project. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    endpoint: Arc<Endpoint>,
}

impl Catalog {
    /// Prepares requests to the settings' endpoint; the first one connects.
    pub fn new(settings: impl Into<ClientSettings>, components: &Components) -> Self {
        Self::of(Arc::new(Endpoint::new(settings.into(), components)))
    }

    pub(crate) fn of(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Runs one statement to its end.
    ///
    /// # Errors
    /// `InvalidConfig` with the service's message if it fails; `Retry` if its outcome is not known.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        sql::run(&self.endpoint, sql).await.map_err(|error| error.at("sql"))
    }

    /// Runs one query to its end, and reads the few rows that it finds, as text; a null is none.
    ///
    /// # Errors
    /// As [`Catalog::execute`].
    pub async fn rows(&self, sql: &str) -> Result<Vec<TextRow>> {
        sql::rows(&self.endpoint, sql).await.map_err(|error| error.at("sql"))
    }

    /// A table.
    ///
    /// # Errors
    /// `InvalidConfig` if there is no such table or it takes no upserts; `Corrupt` if its
    /// description cannot be read; `Denied`, `Retry`.
    pub async fn table(&self, table: &Name) -> Result<TableDescription> {
        let name = self.endpoint.settings.full_name(table);
        let path = self.endpoint.table_path(table.as_str(), "");
        let request = Request::new(Method::GET, path).query("extended", "");
        let body = judge(self.endpoint.ask_catalog(request).await);
        description::parse(&body.map_err(|error| error.at(name.as_str()))?, &name)
    }

    /// Creates a table, if there is none of that name.
    ///
    /// # Errors
    /// `InvalidConfig` for a definition that breaks a rule, or with the service's message if it
    /// refuses it; `Retry` if the outcome is not known.
    pub async fn create_table(&self, table: &NewTable) -> Result<()> {
        let name = self.quoted(&table.name);
        self.execute(&table.statement(&name)?).await
    }

    /// Drops a table, if it is there.
    ///
    /// # Errors
    /// As [`Catalog::execute`].
    pub async fn drop_table(&self, table: &Name) -> Result<()> {
        let name = self.quoted(table);
        self.execute(&format!("DROP TABLE IF EXISTS {name}")).await
    }

    /// Creates a partition, such as `day='2013-01-01',hour='7'`, if there is none.
    ///
    /// # Errors
    /// `InvalidConfig` for a partition that is spelled otherwise, and as [`Catalog::execute`].
    pub async fn create_partition(&self, table: &Name, partition: &str) -> Result<()> {
        let name = self.quoted(table);
        let spec = partition::for_sql(partition).ok_or_else(|| partition::malformed(partition))?;
        self.execute(&format!("ALTER TABLE {name} ADD IF NOT EXISTS PARTITION ({spec})")).await
    }

    /// Asks for a major compaction of a partition, such as `day='2013-01-01'`, or of the table, if
    /// the partition is empty. Returns when the service has taken note of it; the compaction goes
    /// on without anybody, and [`Catalog::wait`] waits for its end.
    ///
    /// # Errors
    /// `InvalidConfig` for a partition that is spelled otherwise, or with the service's message if
    /// it refuses the task; `SlowDown`, `Denied`. In doubt, the compaction may have begun, and may
    /// be asked for again: it changes no row.
    pub async fn compact(&self, table: &Name, partition: &str) -> Result<InstanceId> {
        let name = self.endpoint.settings.full_name(table);
        let job = compaction::job(&self.endpoint.settings, table, partition)?;
        instance::post(&self.endpoint, job).await.map_err(|error| error.at(name))
    }

    /// Waits for the end of an instance, such as a compaction.
    ///
    /// # Errors
    /// `InvalidConfig` with the service's message if it failed; `Retry` if its end is not known
    /// after five minutes.
    pub async fn wait(&self, instance: &InstanceId) -> Result<()> {
        let place = format!("instance {instance}");
        instance::settle(&self.endpoint, instance).await.map_err(|error| error.at(place))
    }

    /// The requests sent so far, by all that share this catalog's client.
    pub fn http_requests(&self) -> u64 {
        self.endpoint.meter.read().http_requests
    }

    /// A table's full name in SQL, quoted.
    pub fn quoted(&self, table: &Name) -> String {
        self.endpoint.settings.quoted_name(table.as_str())
    }
}
