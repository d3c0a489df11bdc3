//! The catalog: tables as they are described, SQL that creates and changes them, and compactions.
//!
//! Beside the way of rows. Invariant: reads, queries, DDL and merges of files only; no row is
//! written this way.

use std::sync::Arc;

use http::Method;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::TableDescription;

use crate::components::Components;
use crate::definition::NewTable;
use crate::endpoint::{Endpoint, Request};
use crate::error::{Result, TunnelError, escape};
use crate::instance::InstanceId;
use crate::name::Name;
use crate::response::judge;
use crate::settings::ClientSettings;
use crate::sql::TextRow;
use crate::{compaction, description, instance, partition, sql, xml};

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

    /// The time at which a table was last changed, in whole seconds; none if the catalog does not
    /// tell.
    ///
    /// # Errors
    /// As [`Catalog::table`].
    pub async fn changed_at(&self, table: &Name) -> Result<Option<Millis>> {
        let name = self.endpoint.settings.full_name(table);
        let request = Request::new(Method::GET, self.endpoint.table_path(table.as_str(), ""));
        let body = judge(self.endpoint.ask_catalog(request).await);
        description::changed_at(&body.map_err(|error| error.at(name.as_str()))?, &name)
    }

    /// The partitions of a table, `day='2013-01-01',hour='7'` each; none of a table without
    /// partition columns. They are asked for page by page.
    ///
    /// # Errors
    /// `InvalidConfig` if there is no such table, or for a partition whose name is spelled in a way
    /// that cannot be asked for; `Corrupt` if the list cannot be read; `Denied`, `Retry`.
    pub async fn partitions(&self, table: &Name) -> Result<Vec<String>> {
        let name = self.endpoint.settings.full_name(table);
        let mut all = Vec::new();
        let mut marker = String::new();
        loop {
            let path = self.endpoint.table_path(table.as_str(), "");
            let request = Request::new(Method::GET, path)
                .query("partitions", "")
                .query("name", "")
                .query("expectmarker", "true")
                .query("maxitems", PAGE.to_string());
            let request = match marker.as_str() {
                "" => request,
                marker => request.query("marker", marker),
            };
            let body = judge(self.endpoint.ask_catalog(request).await);
            let body = body.map_err(|error| error.at(name.as_str()))?;
            let (page, next) = page_of(&body).map_err(|error| error.at(name.as_str()))?;
            // A marker that stays would be asked for for ever.
            let ended = next.is_empty() || page.is_empty() || next == marker;
            all.extend(page);
            if ended {
                return Ok(all);
            }
            marker = next;
        }
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

/// The partitions of a page, and where the next one begins.
fn page_of(body: &[u8]) -> Result<(Vec<String>, String)> {
    let garbled = |error: &dyn std::fmt::Display| {
        TunnelError::garbled(format!("the list of partitions is garbled: {error}"))
    };
    let text = std::str::from_utf8(body).map_err(|error| garbled(&error))?;
    let root = xml::parse(text).map_err(|error| garbled(&error))?;
    let marker = root.child("Marker").map(|marker| marker.text.clone()).unwrap_or_default();
    let listed = root.children.iter().filter(|child| child.name == "Partition");
    let spec = |partition: &xml::XmlNode| {
        let name = partition.child("Name").ok_or_else(|| garbled(&"a partition has no name"))?;
        partition::listed(&name.text).ok_or_else(|| {
            let name = escape(&name.text, 200);
            TunnelError::unusable(format!(
                "the partition `{name}` cannot be asked for: its name is not of the form \
                 name=value with values without quotes, slashes, commas and equals signs"
            ))
        })
    };
    Ok((listed.map(spec).collect::<Result<_>>()?, marker))
}

/// Partitions that are asked for at once.
const PAGE: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_partitions_is_read_with_where_the_next_begins() {
        let page = |marker: &str, names: &[&str]| {
            let names =
                names.iter().map(|name| format!("<Partition><Name>{name}</Name></Partition>"));
            let names: String = names.collect();
            let text = format!("<Partitions><Marker>{marker}</Marker>{names}</Partitions>");
            page_of(text.as_bytes())
        };
        let (names, marker) = page("day=c", &["day='a'", "day=b"]).expect("a page");
        assert_eq!((names, marker.as_str()), (vec!["day='a'".into(), "day='b'".into()], "day=c"));
        assert_eq!(page("", &[]), Ok((Vec::new(), String::new())));
        let strange = page("", &["day=a=b"]).expect_err("it cannot be asked for");
        assert!(strange.message.contains("`day=a=b` cannot be asked for"), "{strange}");
        let nameless = page_of(b"<Partitions><Partition/></Partitions>").expect_err("garbled");
        assert!(nameless.message.contains("a partition has no name"), "{nameless}");
        assert!(page_of(b"<Partitions>").is_err());
    }
}
