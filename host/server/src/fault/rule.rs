//! Rules of faults: JSON in, valid rules out.
//!
//! Between `serve --faults FILE` or `POST /__faults` and `fault/mod.rs`, which applies them.
//! Invariant: a rule that was parsed can be applied; one that means nothing is refused, with the
//! remedy.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use super::reply::FaultReply;
use crate::error::Error;
use crate::request::Request;

/// Rules of faults, in the order in which a request is compared with them.
///
/// ```
/// use upsert_sink_server::FaultRules;
///
/// let rules = r#"{"rules": [
///     {"match": {"operation": "put", "query": {"bucketid": "3"}}, "when": {"first": 2},
///      "do": {"tengine": {"status": 502, "at": "after"}}},
///     {"match": {"operation": "commit"}, "when": {"percent": 10}, "do": "lost-reply"}
/// ]}"#;
/// assert!(FaultRules::parse(rules).is_ok());
/// let wrong = FaultRules::parse(r#"{"rules": [{"do": {"delay": {"seconds": 1}}}]}"#);
/// assert!(wrong.unwrap_err().to_string().contains("`ms`"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultRules(pub(super) Vec<Rule>);

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) matches: Matches,
    pub(super) occasion: Occasion,
    pub(super) fault: Fault,
    pub(super) lifetime: Duration,
    /// As it was written, for whoever asks which rules there are.
    pub(super) written: Value,
}

/// Which requests a rule sees: those that all of its parts fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Matches {
    operation: Option<UpsertCall>,
    method: Option<Method>,
    path: Option<Path>,
    query: Vec<(String, Wanted)>,
}

/// A call of the upsert protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UpsertCall {
    Create,
    Reload,
    Put,
    Commit,
    Abort,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    Exactly(String),
    Below(String),
}

/// The value that a parameter must have.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Absent,
    Present,
    Exactly(String),
}

/// The requests that a rule applies to, among those that fit it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    Always,
    Nth(NonZeroU64),
    First(NonZeroU64),
    Every(NonZeroU64),
    Percent(u64),
}

/// Whether a fault is applied before or after its request, or its commit's log record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Moment {
    /// Prevents the rest.
    #[default]
    Before,
    /// Leaves the rest as it was.
    After,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// This is answered, before the request is carried out or in place of its own answer.
    Answer(Moment, FaultReply),
    /// Nothing happens for so long.
    Delay(Moment, Duration),
    /// The connection ends when so many bytes of the request's body were read.
    CutRequest(usize),
    /// The connection ends when so many bytes of the answer's body were sent.
    CutResponse(usize),
    /// The request is carried out, and the connection ends.
    LostReply,
    /// The session expires before the request is carried out.
    SessionExpired,
    /// The server ends before or after the log record of a commit is durable.
    Crash(Moment),
}

impl FaultRules {
    /// Reads rules.
    ///
    /// Errors: `Faults` naming the rule, what is wrong with it, and what may stand there.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let wrong = |message: String| Err(Error::Faults(message));
        if json.len() > JSON_BYTES_MAX {
            return wrong(format!("{} bytes; at most {JSON_BYTES_MAX}: write less", json.len()));
        }
        let written: WrittenRules = match serde_json::from_str(json) {
            Ok(written) => written,
            Err(error) => {
                return wrong(format!("{error}; write {{\"rules\": [{{\"do\": …}}, …]}}"));
            }
        };
        if written.rules.len() > RULES_MAX {
            let count = written.rules.len();
            return wrong(format!("{count} rules; at most {RULES_MAX}: leave some out"));
        }
        let mut rules = Vec::with_capacity(written.rules.len());
        for (at, value) in written.rules.into_iter().enumerate() {
            match Rule::parse(value) {
                Ok(rule) => rules.push(rule),
                Err(message) => return wrong(format!("rules[{at}]: {message}")),
            }
        }
        Ok(Self(rules))
    }
}

impl Rule {
    fn parse(value: Value) -> Result<Self, String> {
        let written = Written::deserialize(&value).map_err(|error| error.to_string())?;
        let name = written.name.unwrap_or_default();
        if name.len() > NAME_BYTES_MAX {
            return Err(format!("name: {} bytes; at most {NAME_BYTES_MAX}", name.len()));
        }
        let lifetime_s = written.ttl_seconds.unwrap_or(LIFETIME_S);
        if !(1..=LIFETIME_S_MAX).contains(&lifetime_s) {
            return Err(format!(
                "ttl_seconds = {lifetime_s}: a rule lives for 1 to {LIFETIME_S_MAX} seconds; post \
                 it again to prolong it"
            ));
        }
        let matches = Matches::parse(written.matches)?;
        Ok(Self {
            name,
            occasion: written.when.map_or(Ok(Occasion::Always), Occasion::parse)?,
            fault: Fault::parse(written.fault, matches.operation)?,
            matches,
            lifetime: Duration::from_secs(lifetime_s),
            written: value,
        })
    }
}

impl Matches {
    fn parse(written: WrittenMatch) -> Result<Self, String> {
        let method = match written.method.as_deref() {
            None => None,
            Some(name) if METHODS.contains(&name) => {
                Some(Method::from_bytes(name.as_bytes()).expect("it is in the list of methods"))
            }
            Some(name) => return Err(format!("method = {name:?}: one of {}", METHODS.join(", "))),
        };
        let path = match written.path {
            None => None,
            Some(path) if !path.starts_with('/') => {
                return Err(format!("path = {path:?}: it begins with / and may end in *"));
            }
            Some(path) => Some(match path.strip_suffix('*') {
                Some(above) => Path::Below(above.to_owned()),
                None => Path::Exactly(path),
            }),
        };
        let wanted = |value: Option<String>| match value {
            None => Wanted::Absent,
            Some(any) if any == "*" => Wanted::Present,
            Some(value) => Wanted::Exactly(value),
        };
        let query = written.query.into_iter().map(|(name, value)| (name, wanted(value)));
        Ok(Self { operation: written.operation, method, path, query: query.collect() })
    }

    /// Whether a request is one of them.
    pub(super) fn fit(&self, request: &Request) -> bool {
        let path = || format!("/{}", request.path.join("/"));
        self.operation.is_none_or(|operation| Some(operation) == UpsertCall::of(request))
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.path.as_ref().is_none_or(|wanted| match wanted {
                Path::Exactly(wanted) => path() == *wanted,
                Path::Below(above) => path().starts_with(above),
            })
            && self.query.iter().all(|(name, wanted)| match (wanted, request.parameter(name)) {
                (Wanted::Absent, found) => found.is_none(),
                (Wanted::Present, found) => found.is_some(),
                (Wanted::Exactly(wanted), found) => found == Some(wanted),
            })
    }
}

impl UpsertCall {
    fn of(request: &Request) -> Option<Self> {
        if request.path.last().map(String::as_str) != Some("upserts") {
            return None;
        }
        match (&request.method, request.parameter("upsertid")) {
            (&Method::POST, None) => Some(Self::Create),
            (&Method::GET, Some(_)) => Some(Self::Reload),
            (&Method::PUT, Some(_)) => Some(Self::Put),
            (&Method::POST, Some(_)) => Some(Self::Commit),
            (&Method::DELETE, Some(_)) => Some(Self::Abort),
            _ => None,
        }
    }
}

impl Occasion {
    fn parse(written: WrittenOccasion) -> Result<Self, String> {
        let counted = |name: &str, count| {
            NonZeroU64::new(count).ok_or_else(|| format!("{name} = 0: requests count from 1"))
        };
        match written {
            WrittenOccasion::Nth(count) => counted("nth", count).map(Self::Nth),
            WrittenOccasion::First(count) => counted("first", count).map(Self::First),
            WrittenOccasion::Every(count) => counted("every", count).map(Self::Every),
            WrittenOccasion::Percent(percent @ 0..=100) => Ok(Self::Percent(percent)),
            WrittenOccasion::Percent(percent) => {
                Err(format!("percent = {percent}: it is from 0 to 100"))
            }
        }
    }

    /// Whether the rule applies to the request that is the `seen`-th; it draws only if that
    /// matters.
    pub(super) fn is_now(self, seen: u64, draw: impl FnOnce() -> u64) -> bool {
        match self {
            Self::Always => true,
            Self::Nth(count) => seen == count.get(),
            Self::First(count) => seen <= count.get(),
            Self::Every(count) => seen.is_multiple_of(count.get()),
            Self::Percent(percent) => draw() % 100 < percent,
        }
    }
}

impl Fault {
    fn parse(written: WrittenFault, operation: Option<UpsertCall>) -> Result<Self, String> {
        match written {
            WrittenFault::Status { status, code, message, at } => {
                Ok(Self::Answer(at, coded(status, code, message)?))
            }
            WrittenFault::Tengine { status, at } => Ok(Self::Answer(
                at,
                FaultReply::Tengine(one_of("tengine", status, &[502, 503, 504])?),
            )),
            WrittenFault::SlotExceeded { status } => {
                let status = one_of("slot-exceeded", status.unwrap_or(429), &[429, 400])?;
                Ok(Self::Answer(Moment::Before, FaultReply::slot_exceeded(status)))
            }
            WrittenFault::FlowExceeded => {
                Ok(Self::Answer(Moment::Before, FaultReply::flow_exceeded()))
            }
            WrittenFault::SlotMoved { worker } => {
                let worker = worker.map(worker_address).transpose()?;
                Ok(Self::Answer(Moment::Before, FaultReply::SlotMoved(worker)))
            }
            WrittenFault::Delay { ms, at } => match ms {
                1..=DELAY_MS_MAX => Ok(Self::Delay(at, Duration::from_millis(ms))),
                _ => Err(format!("delay: ms = {ms}: it is from 1 to {DELAY_MS_MAX}")),
            },
            WrittenFault::CutRequest { bytes } => {
                length("cut-request", bytes).map(Self::CutRequest)
            }
            WrittenFault::CutResponse { bytes } => {
                length("cut-response", bytes).map(Self::CutResponse)
            }
            WrittenFault::LostReply => Ok(Self::LostReply),
            WrittenFault::SessionExpired => match operation {
                Some(UpsertCall::Create) | None => {
                    Err("session-expired: it needs a request with a session; add \"match\": \
                     {\"operation\": …} with reload, put, commit or abort"
                        .to_owned())
                }
                Some(_) => Ok(Self::SessionExpired),
            },
            WrittenFault::Crash { record } if operation == Some(UpsertCall::Commit) => {
                Ok(Self::Crash(record))
            }
            WrittenFault::Crash { .. } => {
                Err("crash: only a commit writes a log record; add \"match\": {\"operation\": \
                 \"commit\"}"
                    .to_owned())
            }
        }
    }
}

fn coded(status: u16, code: Option<String>, message: Option<String>) -> Result<FaultReply, String> {
    let Some(status) = StatusCode::from_u16(status).ok().filter(|_| (400..600).contains(&status))
    else {
        return Err(format!("status = {status}: an error has 400 to 599"));
    };
    let code = code.unwrap_or_else(|| FaultReply::usual_code(status).to_owned());
    let sane = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if code.is_empty() || code.len() > NAME_BYTES_MAX || !sane {
        return Err(format!("code = {code:?}: a code is letters and digits, such as NoSuchTable"));
    }
    let message = message.unwrap_or_else(|| "a fault rule says so".to_owned());
    Ok(FaultReply::Coded { status, code, message })
}

fn one_of(what: &str, status: u16, allowed: &[u16]) -> Result<StatusCode, String> {
    let found = allowed.iter().find(|allowed| **allowed == status);
    let status = found.and_then(|status| StatusCode::from_u16(*status).ok());
    status.ok_or_else(|| format!("{what}: the status is one of {allowed:?}"))
}

fn worker_address(worker: String) -> Result<HeaderValue, String> {
    let is_pair = worker.split_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && port.parse::<u16>().is_ok()
            && host.bytes().all(|b| b.is_ascii_graphic())
    });
    let wrong = || format!("slot-moved: worker = {worker:?}: it is host:port");
    if !is_pair {
        return Err(wrong());
    }
    HeaderValue::from_str(&worker).map_err(|_| wrong())
}

fn length(what: &str, bytes: u64) -> Result<usize, String> {
    let length = usize::try_from(bytes).ok().filter(|bytes| *bytes <= CUT_BYTES_MAX);
    length.ok_or_else(|| format!("{what}: bytes = {bytes}: at most {CUT_BYTES_MAX}"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRules {
    rules: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    #[serde(rename = "match", default)]
    matches: WrittenMatch,
    when: Option<WrittenOccasion>,
    #[serde(rename = "do")]
    fault: WrittenFault,
    ttl_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatch {
    operation: Option<UpsertCall>,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    query: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum WrittenOccasion {
    Nth(u64),
    First(u64),
    Every(u64),
    Percent(u64),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum WrittenFault {
    Status {
        status: u16,
        code: Option<String>,
        message: Option<String>,
        #[serde(default)]
        at: Moment,
    },
    Tengine {
        status: u16,
        #[serde(default)]
        at: Moment,
    },
    SlotExceeded {
        status: Option<u16>,
    },
    FlowExceeded,
    SlotMoved {
        worker: Option<String>,
    },
    Delay {
        ms: u64,
        #[serde(default)]
        at: Moment,
    },
    CutRequest {
        bytes: u64,
    },
    CutResponse {
        bytes: u64,
    },
    LostReply,
    SessionExpired,
    Crash {
        record: Moment,
    },
}

/// The names of all faults, for `/capabilities`.
pub(crate) const FAULTS: [&str; 11] = [
    "status",
    "tengine",
    "slot-exceeded",
    "flow-exceeded",
    "slot-moved",
    "delay",
    "cut-request",
    "cut-response",
    "lost-reply",
    "session-expired",
    "crash",
];
/// Rules at once, at most: each request is compared with all of them.
pub(super) const RULES_MAX: usize = 64;
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];
const JSON_BYTES_MAX: usize = 256 * 1024;
const NAME_BYTES_MAX: usize = 100;
/// A rule that was forgotten ends by itself.
const LIFETIME_S: u64 = 3_600;
const LIFETIME_S_MAX: u64 = 24 * 3_600;
const DELAY_MS_MAX: u64 = 3_600_000;
const CUT_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn error(rule: &str) -> String {
        let rules = format!("{{\"rules\": [{{\"do\": \"lost-reply\"}}, {rule}]}}");
        FaultRules::parse(&rules).expect_err(rule).to_string()
    }

    #[test]
    fn what_a_rule_cannot_mean_is_refused_with_the_remedy() {
        for (rule, remedy) in [
            ("{}", "missing field `do`"),
            ("{\"do\": \"loose-reply\"}", "`lost-reply`"),
            ("{\"do\": \"lost-reply\", \"then\": 1}", "unknown field `then`"),
            ("{\"do\": \"lost-reply\", \"match\": {\"verb\": \"PUT\"}}", "`method`"),
            ("{\"do\": \"lost-reply\", \"match\": {\"method\": \"FETCH\"}}", "PUT"),
            ("{\"do\": \"lost-reply\", \"match\": {\"path\": \"upserts\"}}", "begins with /"),
            ("{\"do\": \"lost-reply\", \"match\": {\"operation\": \"putt\"}}", "`put`"),
            ("{\"do\": \"lost-reply\", \"when\": {\"nth\": 0}}", "count from 1"),
            ("{\"do\": \"lost-reply\", \"when\": {\"third\": 1}}", "`nth`"),
            ("{\"do\": \"lost-reply\", \"when\": {\"percent\": 101}}", "0 to 100"),
            ("{\"do\": \"lost-reply\", \"ttl_seconds\": 100000}", "1 to 86400"),
            ("{\"do\": {\"status\": {\"status\": 200}}}", "400 to 599"),
            ("{\"do\": {\"status\": {\"status\": 400, \"code\": \"a\\r\\nb\"}}}", "NoSuchTable"),
            ("{\"do\": {\"status\": {\"status\": 400, \"header\": \"a\"}}}", "unknown field"),
            ("{\"do\": {\"tengine\": {\"status\": 500}}}", "502"),
            ("{\"do\": {\"slot-exceeded\": {\"status\": 500}}}", "429"),
            ("{\"do\": {\"slot-moved\": {\"worker\": \"a\\nb:1\"}}}", "host:port"),
            ("{\"do\": {\"delay\": {\"ms\": 0}}}", "1 to 3600000"),
            ("{\"do\": {\"cut-response\": {\"bytes\": 999999999999}}}", "at most"),
            ("{\"do\": \"session-expired\"}", "operation"),
            ("{\"do\": {\"crash\": {\"record\": \"before\"}}}", "commit"),
        ] {
            let error = error(rule);
            assert!(error.contains("rules[1]"), "{rule}: {error}");
            assert!(error.contains(remedy), "{rule}: {error}");
        }
        let many = vec!["{\"do\": \"lost-reply\"}"; RULES_MAX + 1].join(",");
        let many = FaultRules::parse(&format!("{{\"rules\": [{many}]}}"));
        assert!(many.unwrap_err().to_string().contains("at most 64"));
        assert!(FaultRules::parse("[]").unwrap_err().to_string().contains("{\"rules\""));
    }

    #[test]
    fn every_fault_has_its_name() {
        for name in FAULTS {
            let error = error(&format!("{{\"do\": {{\"{name}\": 7}}}}"));
            assert!(!error.contains("unknown variant"), "{name}: {error}");
        }
    }

    #[test]
    fn an_occasion_counts_from_one() {
        let acts = |occasion: Occasion| {
            (1..=6).filter(|seen| occasion.is_now(*seen, || 49)).collect::<Vec<u64>>()
        };
        let count = |count| NonZeroU64::new(count).expect("above zero");
        assert_eq!(acts(Occasion::Nth(count(2))), [2]);
        assert_eq!(acts(Occasion::First(count(2))), [1, 2]);
        assert_eq!(acts(Occasion::Every(count(3))), [3, 6]);
        assert_eq!(acts(Occasion::Percent(50)).len(), 6);
        assert_eq!(acts(Occasion::Percent(49)).len(), 0);
    }
}
