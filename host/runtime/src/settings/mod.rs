//! The host's options, parsed once into valid types: where the service is, who asks, where files
//! go, what the sandbox may use. Everything else is the guest's, and goes to it unread.
//!
//! Read by `open.rs`; the Tunnel's client takes its own out of them. Invariant: an option has one
//! owner; a secret is never printed.

mod credentials;
mod options;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use upsert_sink_format::id::Millis;
use upsert_sink_format::option::text::Bare;
use upsert_sink_format::option::{OptionDoc, text};
use upsert_sink_tunnel::{ClientSettings, Name};

use crate::error::Result;
use crate::sandbox::Limits;
use crate::settings::options::{OPTIONS, Options};

/// The settings of a sink.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The service and the project: the settings of the Tunnel's client.
    pub client: ClientSettings,
    /// The table.
    pub table: Name,
    /// The number of writers. Read from the guest's `sink.parallelism`, which the guest checks
    /// against the buckets.
    pub parallelism: NonZeroU32,
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
    /// After how long without contact a session is asked for its status.
    pub keep_alive: Duration,
    /// The file cache that each writer is lent; none is without it.
    pub cache: Option<CacheSettings>,
    /// The limits of each instance.
    pub limits: Limits,
    /// The guest's options as the user wrote them, sorted by name.
    pub guest_options: Vec<(String, String)>,
}

/// The file cache of each writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// Where its files are, at least one; they take turns. Those that are missing are made.
    pub directories: Vec<PathBuf>,
    /// The bytes that one writer may keep there, at least one.
    pub bytes: u64,
}

impl CacheSettings {
    /// None if no directory is named and none is needed, or nothing may be kept.
    fn read(options: &mut Options, journal_dir: &Path) -> Result<Option<Self>> {
        let bytes = options.bytes("sandbox.cache-limit", 0, 1 << 40)? as u64;
        let named = options.text("sink.file-cached.tmp.dirs");
        let named = named.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut directories: Vec<PathBuf> = named.map(PathBuf::from).collect();
        if directories.is_empty() && options.caches_all() {
            directories.push(journal_dir.join("cache"));
        }
        Ok((bytes > 0 && !directories.is_empty()).then_some(Self { directories, bytes }))
    }
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
        let journal_dir: PathBuf = options.required("sink.journal-dir")?;
        let settings = Self {
            cache: CacheSettings::read(&mut options, &journal_dir)?,
            client: client(&mut options)?,
            table: options.required("tableName")?,
            parallelism: options.parallelism()?,
            journal_dir,
            dead_letter_file: options.optional("sink.dead-letter-file")?,
            record_dir: options.optional("record.dir")?,
            record_bytes_max: options.bytes("record.bytes-max", 1 << 20, 1 << 40)? as u64,
            checkpoint_interval: Duration::ZERO,
            keep_alive: options.duration("sink.session.keep-alive")?,
            limits,
            guest_options: Vec::new(),
        };
        Ok(Self { guest_options: options.into_guest_options(), ..settings })
    }

    /// The settings of a sink to `table` of the local server at `endpoint`, with its journal in
    /// `journal_dir`, and the default for the rest.
    ///
    /// # Errors
    /// `InvalidConfig` for an address or a name that is none.
    pub fn local(
        endpoint: impl Into<String>,
        table: impl Into<String>,
        journal_dir: impl Into<PathBuf>,
    ) -> Result<Self> {
        let options = [
            (String::from("endpoint"), endpoint.into()),
            (String::from("project"), String::from("local")),
            (String::from("tableName"), table.into()),
            (String::from("sink.journal-dir"), String::from(".")),
        ];
        Ok(Self { journal_dir: journal_dir.into(), ..Self::from_options(options)? })
    }

    /// The host's options, sorted by name. Those of the guest are [`crate::Plugin::options`].
    pub fn describe() -> Vec<OptionDoc> {
        let mut described: Vec<_> = OPTIONS.iter().map(OptionDoc::from).collect();
        described.sort_by(|a, b| a.name.cmp(&b.name));
        described
    }

    /// The full name of the table, for messages and for the journal.
    pub fn table_name(&self) -> String {
        self.client.full_name(&self.table)
    }

    /// Whether the endpoint is on this machine: that is a local server, which asks for no pause
    /// between commits.
    pub fn is_local(&self) -> bool {
        self.client.endpoint.is_local()
    }
}

/// The options of the Tunnel's client.
fn client(options: &mut Options) -> Result<ClientSettings> {
    let endpoint = options.required("endpoint")?;
    let mut client = ClientSettings::new(endpoint, options.required("project")?);
    client.tunnel_endpoint = options.optional("tunnelEndpoint")?;
    client.schema = options.optional("schemaName")?;
    client.credentials = credentials::read(options)?;
    client.region = options.optional("region")?;
    client.quota_name = options.optional("quotaName")?;
    client.tunnel_tags = options.optional("tunnelTags")?.unwrap_or_default();
    client.worker_allow_list = options.worker_allow_list("tunnel.worker-allow-list")?;
    client.compression = options.compression("compressAlgorithm", client.endpoint.is_local())?;
    client.connect_timeout = options.duration("connect.timeout")?;
    client.request_timeout = options.duration("request.timeout")?;
    Ok(client)
}

/// Reads a span of time as options and commands write it: a number and a unit, such as `500 ms`,
/// `2.5s`, `3 min`.
///
/// # Errors
/// The forms that are accepted.
pub fn parse_span(text: &str) -> std::result::Result<Duration, String> {
    let Millis(span) = text::span(text, Bare::Refused)?;
    Ok(Duration::from_millis(span))
}

impl From<&Settings> for ClientSettings {
    fn from(settings: &Settings) -> Self {
        settings.client.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use upsert_sink_tunnel::{Compression, CredentialSource};

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
        assert_eq!(settings.client.connect_timeout, Duration::from_secs(3));
    }

    #[test]
    fn an_option_may_be_written_by_either_name_but_not_by_both() {
        let mut written = options(&[("odps.project.name", "p2")]);
        assert!(Settings::from_options(written.clone()).is_err());
        written.remove("project");
        assert_eq!(Settings::from_options(written).expect("valid").client.project.as_str(), "p2");
    }

    #[test]
    fn the_guest_keeps_the_parallelism_that_the_host_reads() {
        let settings = Settings::from_options(options(&[("sink.parallelism", "4")]));
        let settings = settings.expect("valid");
        assert_eq!(settings.parallelism.get(), 4);
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
            Settings::from_options(written).expect("valid").client.compression
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
            Settings::from_options(options(pairs)).expect("valid").client.credentials
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

    #[test]
    fn a_file_cache_is_lent_where_a_directory_is_named_or_needed() {
        let cache =
            |pairs: &[(&str, &str)]| Settings::from_options(options(pairs)).expect("valid").cache;
        let of = |directories: &[&str], bytes: u64| {
            let directories = directories.iter().map(PathBuf::from).collect();
            Some(CacheSettings { directories, bytes })
        };
        assert_eq!(cache(&[]), None);
        let enabled = ("sink.file-cached.enable", "true");
        assert_eq!(cache(&[enabled]), of(&["/tmp/j/cache"], 16 << 30));
        let named = ("sink.file-cached.tmp.dirs", "/a, b");
        assert_eq!(cache(&[named, ("sandbox.cache-limit", "1 mb")]), of(&["/a", "b"], 1 << 20));
        assert_eq!(cache(&[named, enabled, ("sandbox.cache-limit", "0")]), None);
        assert!(error(&[("sandbox.cache-limit", "much")]).contains("0 to 1024 gb"));
    }

    /// One grammar for the options of guest and host.
    #[test]
    fn sizes_and_spans_are_written_as_in_the_guests_options() {
        let written = options(&[("sandbox.memory-limit", "128 MiB"), ("connect.timeout", "1 min")]);
        let settings = Settings::from_options(written).expect("valid");
        assert_eq!(settings.limits.memory_bytes, 128 << 20);
        assert_eq!(settings.client.connect_timeout, Duration::from_secs(60));
    }
}
