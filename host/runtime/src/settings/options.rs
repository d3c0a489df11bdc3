//! The table of the host's options, and how their texts are read.
//!
//! Used by `settings/mod.rs`. Invariant: every option that is read is in the table, and every one
//! in the table is read; a message names the option, the value, the rule and what to set.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use upsert_sink_format::id::{ByteCount, Millis};
use upsert_sink_format::option::text::Bare;
use upsert_sink_format::option::{OptionDoc, text};
use upsert_sink_tunnel::{Compression, WorkerAllowList};

use crate::error::{Error, Result};

/// One option of the host.
pub(crate) struct HostOption {
    name: &'static str,
    alias: &'static str,
    value_type: &'static str,
    default_value: &'static str,
    bounds: &'static str,
    doc: &'static str,
}

impl From<&HostOption> for OptionDoc {
    fn from(option: &HostOption) -> Self {
        let also = match option.alias {
            "" => String::new(),
            alias => format!(" Also written `{alias}`."),
        };
        Self {
            name: String::from(option.name),
            value_type: String::from(option.value_type),
            default_value: String::from(option.default_value),
            bounds: String::from(option.bounds),
            doc: format!("{}{also}", option.doc),
        }
    }
}

macro_rules! option {
    ($name:literal $(/ $alias:literal)?, $value_type:literal = $default:literal, $bounds:literal,
        $doc:literal) => {
        HostOption {
            name: $name,
            alias: concat!($($alias)?),
            value_type: $value_type,
            default_value: $default,
            bounds: $bounds,
            doc: $doc,
        }
    };
}

/// All of them, in the order of [`super::Settings`].
pub(crate) const OPTIONS: &[HostOption] = &[
    option!(
        "endpoint" / "odps.end.point",
        "text" = "",
        "an http or https URL; required",
        "The service."
    ),
    option!(
        "tunnelEndpoint" / "odps.tunnel.end.point",
        "text" = "",
        "an http or https URL",
        "The Tunnel. Asked from the service if it is not set."
    ),
    option!(
        "project" / "odps.project.name",
        "text" = "",
        "letters, digits and _; required",
        "The project of the table."
    ),
    option!(
        "schemaName" / "odps.namespace.schema",
        "text" = "",
        "letters, digits and _",
        "The schema of the table, in projects that have schemas."
    ),
    option!(
        "tableName" / "table-name",
        "text" = "",
        "letters, digits and _; required",
        "The table. It must be a Delta table with a primary key."
    ),
    option!(
        "accessId" / "odps.access.id",
        "text" = "",
        "",
        "The id of the key that signs requests. The local server takes any."
    ),
    option!(
        "accessKey" / "odps.access.key",
        "text" = "",
        "",
        "The key that signs requests. Never logged, and never given to the guest."
    ),
    option!(
        "stsToken" / "odps.access.sts-token",
        "text" = "",
        "",
        "The security token of a temporary key."
    ),
    option!(
        "credentials.provider",
        "text" = "options",
        "options, environment, file or command",
        "Where keys come from: the three options above; `ALIBABA_CLOUD_ACCESS_KEY_ID`, `…_SECRET` \
         and `ALIBABA_CLOUD_SECURITY_TOKEN` (or `ODPS_ACCESS_ID`, `ODPS_ACCESS_KEY`, \
         `ODPS_STS_TOKEN`) in the environment; a file; or the output of a program. The last two \
         are JSON as the token service answers it: `AccessKeyId`, `AccessKeySecret`, \
         `SecurityToken`, `Expiration`. They are read again when 4/5 of their life are over, and \
         when the service refuses them; if that fails, the old ones serve until they expire. \
         Default: the options, so that nothing is read that was not asked for."
    ),
    option!(
        "credentials.file",
        "text" = "",
        "a file",
        "The file, if `credentials.provider` is `file`. Without an `Expiration` it is read again \
         every minute."
    ),
    option!(
        "credentials.command",
        "text" = "",
        "a program and its arguments, separated by blanks",
        "The program, if `credentials.provider` is `command`. It is started without a shell, and \
         may take 30 s and print 64 KiB."
    ),
    option!(
        "region" / "odps.region",
        "text" = "",
        "letters, digits, _ and -",
        "The region of the service, such as `cn-hangzhou`. With it, requests are signed by \
         version 4, which binds the key to day and region; without it by version 2, which every \
         region takes."
    ),
    option!(
        "quotaName" / "odps.tunnel.quota.name",
        "text" = "",
        "letters, digits, _ and -",
        "The quota group whose Tunnel slots are used."
    ),
    option!(
        "tunnelTags" / "odps.tunnel.tags",
        "text" = "",
        "at most 16 names of letters, digits, _ and -, with commas between them",
        "Tags of the Tunnel's requests, by which the service's usage statistics can be told apart."
    ),
    option!(
        "tunnel.worker-allow-list",
        "text" = "",
        "hosts, `*.domains` and IPv4 networks, with commas between them",
        "The workers of the Tunnel that requests may be routed to. Requests always go to the \
         Tunnel's own address; which of its workers takes them is named in a header, so a forged \
         answer could route rows astray. Default: a session may name any worker, and a slot may \
         move to the host of one that its session named, to the Tunnel's own host and to private \
         networks; after any other move the session is asked again."
    ),
    option!(
        "compressAlgorithm" / "odps.compress.algorithm",
        "text" = "auto",
        "auto, raw, zlib, snappy, lz4 or zstd",
        "How packs are compressed on the wire; one that would not become smaller stays raw. auto \
         is raw if the endpoint is on this machine, where bytes cost nothing, and lz4 elsewhere. \
         Measured by `tests/run bench` on the flight feed, bytes and CPU a row: lz4 34 % for \
         0.14 µs, snappy 36 % for 0.13, zstd 26 % for 0.21, zlib, the vendor's default, 32 % for \
         0.30; on text that does not repeat: lz4 89 %, snappy 100 %, zstd 74 %. So lz4 pays on \
         lines of up to 3 Gbit/s, and all the vendor's connectors have it; on a line below \
         1 Gbit/s, zstd is worth its CPU."
    ),
    option!(
        "sink.journal-dir",
        "text" = "",
        "a directory; required",
        "Where the sink's journal is kept across restarts: one directory for each sink."
    ),
    option!(
        "sink.dead-letter-file",
        "text" = "",
        "a file",
        "Where refused rows go, as lines of JSON, if `sink.invalid-row` is `dead-letter`."
    ),
    option!(
        "sink.file-cached.tmp.dirs",
        "text" = "",
        "directories, with commas between them",
        "Where rows wait on disk when memory is short, or always with `sink.file-cached.enable`. \
         Files there have no name, so that nothing is left of them however the process ends, and \
         what is in them is encrypted with a key that only its memory holds. A directory that is \
         missing is made; a link is refused. Default: the directory `cache` in \
         `sink.journal-dir` if `sink.file-cached.enable` is true, else none."
    ),
    option!(
        "record.dir",
        "text" = "",
        "a directory",
        "Records every call of the sink's guest there, one file for each start, to be replayed by \
         `upsert-sink replay FILE`. It holds the rows, and no secret: keep it as you keep the \
         table. One directory for each sink. If it cannot be written, the log says so and the \
         sink goes on without. Default: nothing is recorded, which costs nothing."
    ),
    option!(
        "record.bytes-max",
        "bytes" = "1 gb",
        "1 mb to 1024 gb",
        "What the files in `record.dir` may take together: the oldest is dropped first. One start \
         of the sink is one file and can be replayed from its beginning only, so a start that \
         needs more is recorded up to there; then coordinator and committer go on alone, in a \
         sixteenth of it that is kept for them."
    ),
    option!(
        "sink.session.keep-alive",
        "duration" = "30 s",
        "1 s to 1 h",
        "After how long without contact an open session is asked for its status."
    ),
    option!(
        "connect.timeout",
        "duration" = "10 s",
        "10 ms to 1 h",
        "How long connecting to the service may take."
    ),
    option!(
        "request.timeout",
        "duration" = "120 s",
        "10 ms to 1 h",
        "How long one request may take. After that its outcome is in doubt."
    ),
    option!(
        "sandbox.memory-limit",
        "bytes" = "256 mb",
        "16 mb to 4 gb",
        "The memory that each instance of the guest may use. More than `sink.memory.budget` needs."
    ),
    option!(
        "sandbox.cache-limit",
        "bytes" = "16 gb",
        "0 to 1024 gb",
        "The bytes of rows that each writer may keep in `sink.file-cached.tmp.dirs`. Beyond them \
         rows are sent before their checkpoint. 0: no file cache."
    ),
    option!(
        "sandbox.call-timeout",
        "duration" = "10 s",
        "10 ms to 1 h",
        "How long one call of the guest may run before it is interrupted."
    ),
];

/// The options as the user wrote them, while the host's are taken out.
pub(crate) struct Options {
    written: BTreeMap<String, String>,
}

impl Options {
    pub(crate) fn new(options: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let mut written: BTreeMap<String, String> = options.into_iter().collect();
        for option in OPTIONS.iter().filter(|option| !option.alias.is_empty()) {
            let Some(value) = written.remove(option.alias) else { continue };
            if written.insert(String::from(option.name), value).is_some() {
                let message = format!(
                    "`{}` and `{}` are the same option; set one of them",
                    option.name, option.alias
                );
                return Err(Error::config(option.name, message));
            }
        }
        Ok(Self { written })
    }

    /// The value of an option, or its default; none if it is empty.
    fn value(&mut self, name: &str) -> Option<String> {
        let known = OPTIONS.iter().find(|option| option.name == name);
        let default = known.expect("every option that is read is in the table").default_value;
        let value = self.written.remove(name).unwrap_or_else(|| String::from(default));
        Some(String::from(value.trim())).filter(|value| !value.is_empty())
    }

    pub(crate) fn text(&mut self, name: &str) -> String {
        self.value(name).unwrap_or_default()
    }

    pub(crate) fn optional<T: FromStr>(&mut self, name: &str) -> Result<Option<T>> {
        let value = self.value(name);
        value.map(|value| value.parse().map_err(|_| wrong(name, &value))).transpose()
    }

    pub(crate) fn required<T: FromStr>(&mut self, name: &str) -> Result<T> {
        self.optional(name)?
            .ok_or_else(|| Error::config(name, format!("`{name}` is required and not set; set it")))
    }

    /// The guest's option, which it also checks: the host must know it before there is a guest.
    pub(crate) fn parallelism(&self) -> Result<NonZeroU32> {
        let Some(value) = self.written.get(PARALLELISM) else { return Ok(NonZeroU32::MIN) };
        match value.trim().parse() {
            Ok(writers) if writers > WRITERS_MAX => {
                let message = format!(
                    "{PARALLELISM} = {writers}: at most {WRITERS_MAX} writers run in one process; \
                     lower it"
                );
                Err(Error::config(PARALLELISM, message))
            }
            Ok(writers) => Ok(NonZeroU32::new(writers).unwrap_or(NonZeroU32::MIN)),
            // The guest refuses it, in its own words.
            Err(_) => Ok(NonZeroU32::MIN),
        }
    }

    /// The guest's option, which it also checks: whether all rows are to be cached.
    pub(crate) fn caches_all(&self) -> bool {
        let value = self.written.get("sink.file-cached.enable");
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    pub(crate) fn duration(&mut self, name: &str) -> Result<Duration> {
        let value = self.text(name);
        let allowed = |Millis(span): Millis| (10..=text::HOUR).contains(&span).then_some(span);
        let span = text::span(&value, Bare::Milliseconds).ok().and_then(allowed);
        span.map(Duration::from_millis).ok_or_else(|| wrong(name, &value))
    }

    pub(crate) fn bytes(&mut self, name: &str, minimum: u64, maximum: u64) -> Result<usize> {
        let value = self.text(name);
        let allowed =
            |ByteCount(size): ByteCount| (minimum..=maximum).contains(&size).then_some(size);
        let size = text::size(&value).ok().and_then(allowed);
        size.and_then(|size| usize::try_from(size).ok()).ok_or_else(|| wrong(name, &value))
    }

    /// `auto` depends on whether the service is on this machine.
    pub(crate) fn compression(&mut self, name: &str, is_local: bool) -> Result<Compression> {
        let value = self.text(name);
        if value.eq_ignore_ascii_case("auto") {
            return Ok(if is_local { Compression::Raw } else { Compression::Lz4 });
        }
        Compression::named(&value).ok_or_else(|| wrong(name, &value))
    }

    pub(crate) fn worker_allow_list(&mut self, name: &str) -> Result<WorkerAllowList> {
        let value = self.text(name);
        WorkerAllowList::parse(&value).map_err(|why| {
            let value = crate::error::escape(&value, 100);
            Error::config(name, format!("{name} = {value}: {why}; correct it, or leave it out"))
        })
    }

    pub(crate) fn into_guest_options(self) -> Vec<(String, String)> {
        self.written.into_iter().collect()
    }
}

pub(crate) fn wrong(name: &str, value: &str) -> Error {
    let option = OPTIONS.iter().find(|option| option.name == name);
    let (rule, default) = option.map_or(("", ""), |option| (option.bounds, option.default_value));
    let kind = option.map_or("", |option| option.value_type);
    let remedy = match default {
        "" => String::from("correct it"),
        default => format!("leave it out for {default}"),
    };
    let value = crate::error::escape(value, 100);
    Error::config(name, format!("{name} = {value}: it must be {kind}, {rule}; {remedy}"))
}

const PARALLELISM: &str = "sink.parallelism";
const WRITERS_MAX: u32 = 1024;
