//! The client's settings: where the service is, who asks, how requests and packs are sent.
//!
//! Read by `endpoint.rs` and `table/mod.rs`. Invariant: every text that goes into a path, a query
//! or a header is checked once, when the client is made.

use std::time::Duration;

use crate::compression::Compression;
use crate::credentials::CredentialSource;
use crate::error::{Result, TunnelError, escape};
use crate::workers::WorkerAllowList;

/// The settings of a [`Client`](crate::Client). [`ClientSettings::new`] has a default for
/// everything but the service and the project.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientSettings {
    /// The service, such as `http://service.cn.maxcompute.aliyun.com/api`.
    pub endpoint: String,
    /// The Tunnel; asked from the service if it is not set. Messages call it `tunnelEndpoint`, as
    /// the vendor's connectors do.
    pub tunnel_endpoint: Option<String>,
    /// The project.
    pub project: String,
    /// The schema, in projects that have schemas.
    pub schema: Option<String>,
    /// The source of the credentials that sign requests. Default: the environment variables of the
    /// vendor's clients.
    pub credentials: CredentialSource,
    /// The service's region; with it, signatures are of version 4.
    pub region: Option<String>,
    /// The quota that pays for the Tunnel's slots.
    pub quota_name: Option<String>,
    /// Tags of the Tunnel's requests, for the service's own statistics; at most 16.
    pub tunnel_tags: Vec<String>,
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
    pub fn new(endpoint: impl Into<String>, project: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            tunnel_endpoint: None,
            project: project.into(),
            schema: None,
            credentials: CredentialSource::Environment,
            region: None,
            quota_name: None,
            tunnel_tags: Vec::new(),
            worker_allow_list: WorkerAllowList::default(),
            compression: Compression::Lz4,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(120),
        }
    }

    /// The full name of a table, for messages.
    pub(crate) fn full_name(&self, table: &str) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{schema}.{table}", self.project),
            None => format!("{}.{table}", self.project),
        }
    }

    /// A table in SQL, quoted.
    pub(crate) fn quoted_name(&self, table: &str) -> String {
        let parts = [Some(self.project.as_str()), self.schema.as_deref(), Some(table)];
        let quoted: Vec<_> = parts.into_iter().flatten().map(|part| format!("`{part}`")).collect();
        quoted.join(".")
    }

    /// Checks every text that goes into a path, a query or a header, as
    /// [`Client::connect`](crate::Client::connect) does.
    ///
    /// # Errors
    /// `InvalidConfig` naming the setting, its value and the rule.
    pub fn check(&self) -> Result<()> {
        check_url("endpoint", &self.endpoint)?;
        if let Some(tunnel) = &self.tunnel_endpoint {
            check_url("tunnelEndpoint", tunnel)?;
        }
        check_name("project", &self.project)?;
        for (setting, name) in [
            ("schemaName", &self.schema),
            ("region", &self.region),
            ("quotaName", &self.quota_name),
        ] {
            if let Some(name) = name {
                check_name(setting, name)?;
            }
        }
        if self.tunnel_tags.len() > TAGS_MAX {
            let count = self.tunnel_tags.len();
            let message = format!("tunnelTags: {count} of them; leave at most {TAGS_MAX}");
            return Err(TunnelError::unusable(message).at("tunnelTags"));
        }
        self.tunnel_tags.iter().try_for_each(|tag| check_name("tunnelTags", tag))
    }
}

/// Whether a text may stand as a name in paths, headers and SQL: 1 to 128 letters, digits, `_` and
/// `-`.
pub fn is_name(text: &str) -> bool {
    let sound = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(sound)
}

/// Whether a text is the address of a service: an http or https URL with a host, without a query.
pub fn is_service_url(text: &str) -> bool {
    let parsed: Option<http::Uri> = text.parse().ok();
    parsed.is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        scheme && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none()
    })
}

pub(crate) fn check_name(setting: &str, name: &str) -> Result<()> {
    let rule = "made of 1 to 128 letters, digits, _ and -";
    if is_name(name) { Ok(()) } else { Err(wrong(setting, name, rule)) }
}

fn check_url(setting: &str, url: &str) -> Result<()> {
    if is_service_url(url) { Ok(()) } else { Err(wrong(setting, url, "an http or https URL")) }
}

fn wrong(setting: &str, value: &str, rule: &str) -> TunnelError {
    let value = escape(value, 100);
    TunnelError::unusable(format!("{setting} = {value}: it must be {rule}; correct it")).at(setting)
}

const NAME_BYTES_MAX: usize = 128;
/// The most tags that requests may have.
pub const TAGS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_setting_carries_a_path_or_a_header() {
        let good = ClientSettings::new("http://127.0.0.1:1/api", "p");
        good.check().expect("the defaults are valid");
        let says = |settings: ClientSettings| settings.check().expect_err("refused").to_string();
        let tags = vec![String::from("a\r\nx: y")];
        assert!(says(ClientSettings { tunnel_tags: tags, ..good.clone() }).contains("tunnelTags"));
        let region = Some(String::from("cn/hangzhou"));
        assert!(says(ClientSettings { region, ..good.clone() }).contains("region"));
        let project = String::from("p/../q");
        assert!(says(ClientSettings { project, ..good.clone() }).contains("project = p/../q"));
        let endpoint = String::from("ftp://x");
        assert!(says(ClientSettings { endpoint, ..good }).contains("http"));
    }

    #[test]
    fn a_table_has_a_name_for_messages_and_one_for_sql() {
        let plain = ClientSettings::new("http://h/api", "p");
        assert_eq!(
            (plain.full_name("t"), plain.quoted_name("t")),
            ("p.t".into(), "`p`.`t`".into())
        );
        let schema = Some(String::from("s"));
        let with_schema = ClientSettings { schema, ..plain };
        assert_eq!(with_schema.full_name("t"), "p.s.t");
        assert_eq!(with_schema.quoted_name("t"), "`p`.`s`.`t`");
    }
}
