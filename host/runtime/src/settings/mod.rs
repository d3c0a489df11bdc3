//! The host's options, parsed once into valid types: where the service is, who asks, where files
//! go, what the sandbox may use. Everything else is the guest's, and goes to it unread.
//!
//! Read by `open.rs`, and by the Tunnel's client as its own settings. Invariant: an option has one
//! owner; a secret is never printed.

mod credentials;
mod options;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use upsert_sink_format::id::Millis;
use upsert_sink_format::option::text::Bare;
use upsert_sink_format::option::{OptionDoc, text};
use upsert_sink_tunnel::{ClientSettings, Compression, CredentialSource, WorkerAllowList};

use crate::error::{Error, Result};
use crate::sandbox::Limits;
use crate::settings::options::{OPTIONS, Options};

/// The settings of a sink.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The service, such as `http://service.cn.maxcompute.aliyun.com/api`; the local server prints
    /// its own.
    pub endpoint: String,
    /// The Tunnel; asked from the service if it is not set.
    pub tunnel_endpoint: Option<String>,
    /// The project.
    pub project: String,
    /// The schema, in projects that have them.
    pub schema: Option<String>,
    /// The table.
    pub table: String,
    /// The source of the credentials that sign requests.
    pub credentials: CredentialSource,
    /// The service's region; with it, signatures are of version 4.
    pub region: Option<String>,
    /// The quota that pays for the Tunnel's slots.
    pub quota_name: Option<String>,
    /// Tags of the Tunnel's requests, for the service's own statistics.
    pub tunnel_tags: Vec<String>,
    /// The workers of the Tunnel that requests may be routed to.
    pub worker_allow_list: WorkerAllowList,
    /// How packs are compressed.
    pub compression: Compression,
    /// The number of writers. Read from the guest's `sink.parallelism`, which the guest checks
    /// against the buckets.
    pub parallelism: u32,
    /// Where this sink's journal is. One directory for each sink, kept across restarts.
    pub journal_dir: PathBuf,
    /// Where refused rows go, as lines of JSON, if `sink.invalid-row = dead-letter`.
    pub dead_letter_file: Option<PathBuf>,
    /// Where every call of the sink's instances is recorded; nothing is recorded without it.
    pub record_dir: Option<PathBuf>,
    /// The most that all recordings of that directory may take.
    pub record_bytes_max: u64,
    /// The engine's checkpoint interval, as far as it is known; zero if it is not. Told by the
    /// engine, not by an option.
    pub checkpoint_interval: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// After how long without contact a session is asked for its status.
    pub keep_alive: Duration,
    /// The limits of each instance.
    pub limits: Limits,
    /// The guest's options as the user wrote them, sorted by name.
    pub guest_options: Vec<(String, String)>,
}

impl Settings {
    /// Takes the host's options out of what the user wrote, by name or by alias; the rest becomes
    /// `guest_options`.
    ///
    /// # Errors
    /// `InvalidConfig` naming the option, its value, the rule and what to set.
    pub fn from_options(options: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut options = Options::new(options)?;
        let limits = Limits {
            memory_bytes: options.bytes("sandbox.memory-limit", 16 << 20, 4 << 30)?,
            call_timeout: options.duration("sandbox.call-timeout")?,
            ..Limits::default()
        };
        let endpoint = options.url("endpoint")?;
        let is_local = is_local(&endpoint);
        let settings = Self {
            endpoint,
            tunnel_endpoint: options.optional_url("tunnelEndpoint")?,
            project: options.name("project")?,
            schema: options.optional_name("schemaName")?,
            table: options.name("tableName")?,
            credentials: credentials::read(&mut options)?,
            region: options.optional_name("region")?,
            quota_name: options.optional_name("quotaName")?,
            tunnel_tags: options.tags("tunnelTags")?,
            worker_allow_list: options.worker_allow_list("tunnel.worker-allow-list")?,
            compression: options.compression("compressAlgorithm", is_local)?,
            parallelism: options.parallelism()?,
            journal_dir: options.path("sink.journal-dir")?,
            dead_letter_file: options.optional("sink.dead-letter-file").map(PathBuf::from),
            record_dir: options.optional("record.dir").map(PathBuf::from),
            record_bytes_max: options.bytes("record.bytes-max", 1 << 20, 1 << 40)? as u64,
            checkpoint_interval: Duration::ZERO,
            connect_timeout: options.duration("connect.timeout")?,
            request_timeout: options.duration("request.timeout")?,
            keep_alive: options.duration("sink.session.keep-alive")?,
            limits,
            guest_options: Vec::new(),
        };
        Ok(Self { guest_options: options.into_guest_options(), ..settings })
    }

    /// The host's options, sorted by name. Those of the guest are [`crate::Plugin::options`].
    pub fn describe() -> Vec<OptionDoc> {
        let mut described: Vec<_> = OPTIONS.iter().map(OptionDoc::from).collect();
        described.sort_by(|a, b| a.name.cmp(&b.name));
        described
    }

    /// The full name of the table, for messages and for the journal.
    pub fn table_name(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{schema}.{}", self.project, self.table),
            None => format!("{}.{}", self.project, self.table),
        }
    }

    /// Whether the endpoint is on this machine: that is a local server, which asks for no pause
    /// between commits.
    pub fn is_local(&self) -> bool {
        is_local(&self.endpoint)
    }

    /// Rules between settings that an embedder may have filled in by hand.
    pub(crate) fn check(&self) -> Result<()> {
        ClientSettings::from(self).check()?;
        options::check_name("tableName", &self.table)?;
        if self.parallelism == 0 {
            let message = "sink.parallelism = 0: at least 1 writer is needed; set it to 1 or more";
            return Err(Error::config("sink.parallelism", message));
        }
        Ok(())
    }
}

/// Reads a span of time as options and commands write it: a whole number and a unit, such as
/// `500 ms`, `10s`, `3 min`.
///
/// # Errors
/// The forms that are accepted.
pub fn parse_span(text: &str) -> std::result::Result<Duration, String> {
    let Millis(span) = text::span(text, Bare::Refused)?;
    Ok(Duration::from_millis(span))
}

impl From<&Settings> for ClientSettings {
    fn from(settings: &Settings) -> Self {
        let mut client = Self::new(&settings.endpoint, &settings.project);
        client.tunnel_endpoint.clone_from(&settings.tunnel_endpoint);
        client.schema.clone_from(&settings.schema);
        client.credentials = settings.credentials.clone();
        client.region.clone_from(&settings.region);
        client.quota_name.clone_from(&settings.quota_name);
        client.tunnel_tags.clone_from(&settings.tunnel_tags);
        client.worker_allow_list = settings.worker_allow_list.clone();
        client.compression = settings.compression;
        client.connect_timeout = settings.connect_timeout;
        client.request_timeout = settings.request_timeout;
        client
    }
}

fn is_local(endpoint: &str) -> bool {
    let Some((_, rest)) = endpoint.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// The settings that an embedder must give, with the defaults for the rest.
impl Settings {
    /// The settings of a sink to `table` of the local server at `endpoint`, with its journal in
    /// `journal_dir`.
    pub fn local(
        endpoint: impl Into<String>,
        table: impl Into<String>,
        journal_dir: impl Into<PathBuf>,
    ) -> Self {
        let journal_dir: PathBuf = journal_dir.into();
        let options = BTreeMap::from([
            (String::from("endpoint"), endpoint.into()),
            (String::from("project"), String::from("local")),
            (String::from("tableName"), String::from("t")),
            (String::from("sink.journal-dir"), String::from(".")),
        ]);
        let settings = Self::from_options(options).expect("the defaults are valid");
        Self { table: table.into(), journal_dir, ..settings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            ("endpoint", "http://127.0.0.1:1/api"),
            ("project", "local"),
            ("tableName", "t"),
            ("sink.journal-dir", "/tmp/j"),
        ];
        let all = base.iter().chain(pairs);
        all.map(|(name, value)| (String::from(*name), String::from(*value))).collect()
    }

    fn error(pairs: &[(&str, &str)]) -> String {
        Settings::from_options(options(pairs)).expect_err("it is refused").to_string()
    }

    #[test]
    fn what_the_host_does_not_own_goes_to_the_guest() {
        let written = options(&[("upsert.writer.buffer-size", "1mb"), ("connect.timeout", "3 s")]);
        let settings = Settings::from_options(written).expect("valid");
        let guest = [(String::from("upsert.writer.buffer-size"), String::from("1mb"))];
        assert_eq!(settings.guest_options, guest);
        assert_eq!(settings.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn an_option_may_be_written_by_either_name_but_not_by_both() {
        let mut written = options(&[("odps.project.name", "p2")]);
        assert!(Settings::from_options(written.clone()).is_err());
        written.remove("project");
        assert_eq!(Settings::from_options(written).expect("valid").project, "p2");
    }

    #[test]
    fn the_guest_keeps_the_parallelism_that_the_host_reads() {
        let settings = Settings::from_options(options(&[("sink.parallelism", "4")]));
        let settings = settings.expect("valid");
        assert_eq!(settings.parallelism, 4);
        assert_eq!(settings.guest_options, [("sink.parallelism".into(), "4".into())]);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let written = options(&[("accessKey", "hush"), ("stsToken", "quiet")]);
        let settings = Settings::from_options(written).expect("valid");
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hush") && !printed.contains("quiet"), "{printed}");
    }

    #[test]
    fn bytes_are_saved_where_they_cost_something() {
        let compression = |endpoint: &str, value: &str| {
            let mut written = options(&[("compressAlgorithm", value)]);
            written.insert(String::from("endpoint"), String::from(endpoint));
            Settings::from_options(written).expect("valid").compression
        };
        let service = "http://service.cn.maxcompute.aliyun.com/api";
        assert_eq!(compression("http://localhost:1/api", "auto"), Compression::Raw);
        assert_eq!(compression(service, "Auto"), Compression::Lz4);
        assert_eq!(compression(service, "raw"), Compression::Raw);
        assert_eq!(compression("http://localhost:1/api", "zstd"), Compression::Zstd);
    }

    #[test]
    fn credentials_have_one_source() {
        let source = |pairs: &[(&str, &str)]| {
            Settings::from_options(options(pairs)).expect("valid").credentials
        };
        assert!(matches!(source(&[]), CredentialSource::Given(_)));
        let environment = source(&[("credentials.provider", "Environment")]);
        assert!(matches!(environment, CredentialSource::Environment));
        let command = [("credentials.provider", "command"), ("credentials.command", " get  it ")];
        assert!(matches!(source(&command), CredentialSource::Command(c) if c == ["get", "it"]));
        let file = ("credentials.provider", "file");
        assert!(error(&[file]).contains("needs `credentials.file`"));
        assert!(
            error(&[file, ("credentials.file", "f"), ("accessKey", "k")]).contains("accessKey")
        );
        assert!(error(&[("credentials.file", "f")]).contains("set credentials.provider to file"));
        assert!(error(&[("credentials.provider", "vault")]).contains("environment"));
    }

    #[test]
    fn an_embedders_settings_cannot_carry_headers() {
        let mut settings = Settings::local("http://127.0.0.1:1/api", "t", "j");
        settings.tunnel_tags = vec![String::from("a\r\nx: y")];
        assert!(settings.check().expect_err("a header").message.contains("tunnelTags"));
        settings.tunnel_tags.clear();
        settings.region = Some(String::from("cn/hangzhou"));
        assert!(settings.check().expect_err("a path").message.contains("region"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_rule() {
        assert!(
            error(&[("compressAlgorithm", "gzip")])
                .contains("auto, raw, zlib, snappy, lz4 or zstd")
        );
        assert!(error(&[("tunnelTags", "a b")]).contains("tunnelTags = a b"));
        assert!(error(&[("tunnel.worker-allow-list", "*")]).contains("10.0.0.0/8"));
        assert!(error(&[("connect.timeout", "soon")]).contains("connect.timeout = soon"));
        assert!(error(&[("endpoint", "ftp://x")]).contains("http"));
        assert!(error(&[("tableName", "t; drop")]).contains("tableName"));
        assert!(error(&[("sink.parallelism", "5000")]).contains("sink.parallelism = 5000"));
        assert!(error(&[("sandbox.memory-limit", "1kb")]).contains("sandbox.memory-limit"));
        assert!(error(&[("record.bytes-max", "1kb")]).contains("1 mb to 1024 gb"));
    }

    /// One grammar for the options of guest and host.
    #[test]
    fn sizes_and_spans_are_written_as_in_the_guests_options() {
        let written = options(&[("sandbox.memory-limit", "128 MiB"), ("connect.timeout", "1 min")]);
        let settings = Settings::from_options(written).expect("valid");
        assert_eq!(settings.limits.memory_bytes, 128 << 20);
        assert_eq!(settings.connect_timeout, Duration::from_secs(60));
    }

    #[test]
    fn loopback_is_local_and_nothing_else() {
        let local = |endpoint: &str| Settings::local(endpoint, "t", "j").is_local();
        assert!(local("http://127.0.0.1:80/api") && local("http://localhost/api"));
        assert!(local("http://[::1]:80/api"));
        assert!(!local("http://service.cn.maxcompute.aliyun.com/api"));
        assert!(!local("http://127.0.0.1.evil.com/api"));
    }
}
