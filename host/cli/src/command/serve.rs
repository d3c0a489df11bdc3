//! `serve`: the local server alone, for other processes to write to.
//!
//! Invariant: the endpoint is printed once the server answers, and Ctrl-C lets requests end that
//! were begun.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use upsert_sink_server::{
    Auth, Error, FaultRules, Keys, Quotas, Server, ServerComponents, ServerSettings,
};

use crate::command::run::parse_duration;
use crate::failure::bad_input;
use crate::report::ReportForm;
use crate::signal::Stop;
use crate::{local, report};

/// The arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = FAULTS)]
pub(crate) struct ServeArguments {
    /// Where tables are kept
    #[arg(long, value_name = "DIR", default_value = crate::command::run::DATA)]
    data: PathBuf,
    /// Where to listen; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Rules of what is to go wrong, as JSON: to see a client fail. `serve --help` tells how
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Tunnel slots of all open sessions, at most; beyond, sessions are refused with SlotExceeded
    #[arg(long, value_name = "N")]
    slots: Option<NonZeroU32>,
    /// Bytes per second of each bucket, at most; beyond, packs are refused with FlowExceeded
    #[arg(long, value_name = "N")]
    bucket_bytes_per_second: Option<NonZeroU64>,
    /// How long a commit takes, such as 2.5s: until then it is `committing`, and no row of it is
    /// visible. The service needs 2.2 to 3.0 seconds; without it a commit takes milliseconds
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    commit_latency: Option<Duration>,
    /// Who may ask: anybody on this machine, or who signs with a key
    #[arg(long, value_enum, default_value_t)]
    auth: AuthMode,
    /// The keys for `--auth strict`: a JSON list of `AccessKeyId`, `AccessKeySecret`,
    /// `SecurityToken`, `Expiration`. Without it they are taken from UPSERT_SINK_KEYS
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// How to print the endpoint
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Who may ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum AuthMode {
    /// Anybody, with any key or none
    #[default]
    Open,
    /// Who signs with one of the keys
    Strict,
}

/// Serves until it is told to stop.
pub(crate) async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let settings = ServerSettings {
        listen: arguments.listen,
        auth: arguments.auth()?,
        faults: arguments.faults.as_deref().map_or(Ok(FaultRules::default()), read_faults)?,
        quotas: Quotas {
            slots: arguments.slots,
            bucket_bytes_per_second: arguments.bucket_bytes_per_second,
        },
        commit_latency: arguments.commit_latency.unwrap_or_default(),
        ..ServerSettings::new(&arguments.data)
    };
    let server = match Server::start(settings, ServerComponents::system()).await {
        Err(error @ Error::OpenToOthers { .. }) => return Err(bad_input(error.to_string())),
        started => started?,
    };
    let endpoint = server.endpoint();
    match arguments.report {
        ReportForm::Json => report::print_json(&json!({
            "endpoint": endpoint,
            "project": local::PROJECT,
            "data": arguments.data,
        }))?,
        // Nobody need go on reading: a server is no less one for that.
        ReportForm::Text => report::print(&format!(
            "serving {} at {endpoint}, project {}\nstop with Ctrl-C\n",
            arguments.data.display(),
            local::PROJECT
        ))?,
    }
    tokio::select! {
        () = stop.requested() => Ok(server.shutdown().await?),
        () = server.crashed() => Err(anyhow::anyhow!(
            "a fault rule has crashed the server; start it again on {} to recover",
            arguments.data.display()
        )),
    }
}

impl ServeArguments {
    fn auth(&self) -> anyhow::Result<Auth> {
        let text = match (self.auth, &self.keys) {
            (AuthMode::Open, None) => return Ok(Auth::Open),
            (AuthMode::Open, Some(_)) => {
                return Err(bad_input(
                    "--keys has no effect with --auth open; add --auth strict, or leave it out",
                ));
            }
            (AuthMode::Strict, Some(path)) => {
                let wrong = |error| bad_input(format!("--keys {}: {error}", path.display()));
                std::fs::read(path).map_err(wrong)?
            }
            (AuthMode::Strict, None) => match std::env::var(KEYS_VARIABLE) {
                Ok(text) => text.into_bytes(),
                Err(_) => {
                    return Err(bad_input(format!(
                        "--auth strict needs keys: name a file with --keys, or set {KEYS_VARIABLE}"
                    )));
                }
            },
        };
        let keys = Keys::from_json(&text).map_err(|error| bad_input(error.to_string()))?;
        Ok(Auth::Strict(keys))
    }
}

/// Keys in the environment, as the file has them.
const KEYS_VARIABLE: &str = "UPSERT_SINK_KEYS";

fn read_faults(path: &Path) -> anyhow::Result<FaultRules> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("--faults {}", path.display()))?;
    let rules = FaultRules::parse(&text);
    rules.map_err(|error| bad_input(format!("--faults {}: {error}", path.display())))
}

/// The part of `--help` about fault rules.
const FAULTS: &str = r#"Faults:
  Requests go wrong by rule: from the file of --faults, or set while the server runs with
  POST /__faults (GET lists the rules and how often each acted, DELETE removes all, DELETE
  /__faults/ID one; from this machine only).

  {"rules": [{"match": {"operation": "put", "query": {"bucketid": "3"}},
              "when": {"first": 2}, "do": {"tengine": {"status": 502}}}]}

  match  operation: create, reload, put, commit or abort; method; path (may end in *);
         query: {NAME: VALUE}, "*" for any value, null for none. All of them must fit.
  when   {"nth": N}, {"first": N}, {"every": N} or {"percent": N} of the requests that fit;
         all of them without it
  do     {"status": {"status": N, "code": C, "message": M, "at": A}}   a coded error
         {"tengine": {"status": 502, 503 or 504, "at": A}}   a page of the proxy
         {"slot-exceeded": {"status": 429 or 400}}   "flow-exceeded"
         {"slot-moved": {"worker": "HOST:PORT"}}   a 308; without a worker, none is named
         {"delay": {"ms": N, "at": A}}   until then, or until the rule is removed
         {"cut-request": {"bytes": N}}   so much of the body is read, then the connection closes
         {"cut-response": {"bytes": N}}   carried out, and so much of the body is answered
         "lost-reply"   carried out, and not answered
         "session-expired"
         {"crash": {"record": A}}   the server ends at a commit's log record
         A is "before" (the request is not carried out; the default) or "after"
  ttl_seconds, name   a rule ends after an hour unless it says otherwise"#;
