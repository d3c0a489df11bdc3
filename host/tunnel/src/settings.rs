//! The client's settings: where the service is, who asks, how requests and packs are sent.
//!
//! Read by `endpoint.rs` and `table/mod.rs`. Invariant: every text that goes into a path, a query
//! or a header is of a type that was checked when it was made.

use std::time::Duration;

use crate::compression::Compression;
use crate::credentials::CredentialSource;
use crate::name::{Name, ServiceUrl, Tags};
use crate::workers::WorkerAllowList;

/// The settings of a [`Client`](crate::Client). [`ClientSettings::new`] has a default for
/// everything but the service and the project.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The service, such as `http://service.cn.maxcompute.aliyun.com/api`.
    pub endpoint: ServiceUrl,
    /// The Tunnel; asked from the service if it is not set. Messages call it `tunnelEndpoint`, as
    /// the vendor's connectors do.
    pub tunnel_endpoint: Option<ServiceUrl>,
    /// The project.
    pub project: Name,
    /// The schema, in projects that have schemas.
    pub schema: Option<Name>,
    /// The source of the credentials that sign requests. Default: the environment variables of the
    /// vendor's clients.
    pub credentials: CredentialSource,
    /// The service's region; with it, signatures are of version 4.
    pub region: Option<Name>,
    /// The quota that pays for the Tunnel's slots.
    pub quota_name: Option<Name>,
    /// Tags of the Tunnel's requests, for the service's own statistics.
    pub tunnel_tags: Tags,
    /// The workers of the Tunnel that requests may be routed to. Messages call it
    /// `tunnel.worker-allow-list`.
    pub worker_allow_list: WorkerAllowList,
    /// The compression of packs. Default: lz4.
    pub compression: Compression,
    /// The longest time that connecting may take. Default: 10 seconds.
    pub connect_timeout: Duration,
    /// The longest time that one request may take; after that its outcome is in doubt. Default: 2
    /// minutes.
    pub request_timeout: Duration,
}

impl ClientSettings {
    /// Settings of a project at a service, with the default for the rest.
    pub fn new(endpoint: ServiceUrl, project: Name) -> Self {
        Self {
            endpoint,
            tunnel_endpoint: None,
            project,
            schema: None,
            credentials: CredentialSource::Environment,
            region: None,
            quota_name: None,
            tunnel_tags: Tags::default(),
            worker_allow_list: WorkerAllowList::default(),
            compression: Compression::Lz4,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(120),
        }
    }

    /// The full name of a table, for messages.
    pub fn full_name(&self, table: &Name) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{schema}.{table}", self.project),
            None => format!("{}.{table}", self.project),
        }
    }

    /// A table in SQL, quoted.
    pub(crate) fn quoted_name(&self, table: &str) -> String {
        let parts =
            [Some(self.project.as_str()), self.schema.as_ref().map(Name::as_str), Some(table)];
        let quoted: Vec<_> = parts.into_iter().flatten().map(|part| format!("`{part}`")).collect();
        quoted.join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_name_for_messages_and_one_for_sql() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let plain = ClientSettings::new("http://h/api".parse().expect("a URL"), name("p"));
        assert_eq!(
            (plain.full_name(&name("t")), plain.quoted_name("t")),
            ("p.t".into(), "`p`.`t`".into())
        );
        let schema = Some(name("s"));
        let with_schema = ClientSettings { schema, ..plain };
        assert_eq!(with_schema.full_name(&name("t")), "p.s.t");
        assert_eq!(with_schema.quoted_name("t"), "`p`.`s`.`t`");
    }
}
