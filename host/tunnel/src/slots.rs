//! Upsert sessions as the service describes them: JSON in, a checked description and the map of
//! slots out.
//!
//! Between `response.rs` and `table/mod.rs`. Invariant: what is kept of the service's answer is
//! safe to put into a request again, and the slots cover every bucket exactly once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::Value;
use upsert_sink_format::id::SessionId;
use upsert_sink_format::tunnel::{ColumnDescription, SessionInfo, SessionStatus};

use crate::error::TunnelError;
use crate::response::is_worker;

/// Which worker takes which bucket of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotMap {
    /// By bucket.
    routes: Vec<Route>,
}

impl SlotMap {
    /// The workers of all buckets, again for each bucket.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.worker.as_str())
    }
}

/// Where the packs of one bucket go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) slot: String,
    pub(crate) worker: String,
}

/// The sessions in use: their slots, and when the service last heard of them.
#[derive(Debug, Default)]
pub(crate) struct KnownSessions {
    known: Mutex<BTreeMap<String, KnownSession>>,
}

#[derive(Clone, Debug)]
struct KnownSession {
    partition: String,
    slots: SlotMap,
    contact_ms: u64,
}

impl KnownSessions {
    /// A session was described by the service.
    pub(crate) fn learn(&self, id: &str, partition: &str, slots: SlotMap, now_ms: u64) {
        let partition = String::from(partition);
        self.lock().insert(String::from(id), KnownSession { partition, slots, contact_ms: now_ms });
    }

    /// Nothing more is to be sent to a session.
    pub(crate) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// The route of a bucket; none if the session is not known here.
    pub(crate) fn route(&self, id: &str, bucket: u32) -> Option<Route> {
        let index = usize::try_from(bucket).ok()?;
        self.lock().get(id)?.slots.routes.get(index).cloned()
    }

    /// The workers of a session, each once.
    pub(crate) fn workers(&self, id: &str) -> Vec<String> {
        let sessions = self.lock();
        let workers: BTreeSet<_> =
            sessions.get(id).into_iter().flat_map(|one| one.slots.workers()).collect();
        workers.into_iter().map(String::from).collect()
    }

    /// The slots of a session; none if it is not known here.
    pub(crate) fn slots(&self, id: &str) -> Option<SlotMap> {
        self.lock().get(id).map(|known| known.slots.clone())
    }

    /// The service has heard of a session.
    pub(crate) fn touch(&self, id: &str, now_ms: u64) {
        if let Some(known) = self.lock().get_mut(id) {
            known.contact_ms = now_ms;
        }
    }

    /// A slot has moved: all buckets of it have.
    pub(crate) fn moved(&self, id: &str, slot: &str, worker: &str) {
        let mut sessions = self.lock();
        let routes = sessions.get_mut(id).map(|known| &mut known.slots.routes);
        for route in routes.into_iter().flatten().filter(|route| route.slot == slot) {
            route.worker = String::from(worker);
        }
    }

    /// The slots are not true any more: the next pack asks for them again.
    pub(crate) fn forget_slots(&self, id: &str) {
        if let Some(known) = self.lock().get_mut(id) {
            known.slots.routes.clear();
        }
    }

    /// Sessions (id, partition) that the service has not heard of since `since_ms`.
    pub(crate) fn silent_since(&self, since_ms: u64) -> Vec<(String, String)> {
        let sessions = self.lock();
        let silent = sessions.iter().filter(|(_, known)| known.contact_ms <= since_ms);
        silent.map(|(id, known)| (id.clone(), known.partition.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, KnownSession>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Deserialize)]
struct SessionJson {
    id: String,
    schema: SchemaJson,
    hash_key: Vec<String>,
    hasher: String,
    slots: Vec<SlotJson>,
    status: String,
    #[serde(default)]
    enable_partial_update: Value,
}

/// The columns of a session.
#[derive(Deserialize)]
pub(crate) struct SchemaJson {
    pub(crate) columns: Vec<SessionColumnJson>,
}

/// A column of a session, of uploads and of downloads alike.
#[derive(Deserialize)]
pub(crate) struct SessionColumnJson {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default)]
    nullable: Value,
    #[serde(default)]
    column_id: Value,
}

#[derive(Deserialize)]
struct SlotJson {
    slot_id: Value,
    buckets: Vec<u32>,
    worker_addr: String,
}

/// Reads the body of a create, a commit or a status. One that cannot be read leaves the request in
/// doubt.
pub(crate) fn described(body: &[u8]) -> Result<(SessionInfo, SlotMap), TunnelError> {
    parse(body).map_err(TunnelError::in_doubt)
}

/// Reads the body of a create, a commit or a status.
pub(crate) fn parse(body: &[u8]) -> Result<(SessionInfo, SlotMap), String> {
    let json: SessionJson = serde_json::from_slice(body)
        .map_err(|error| format!("the description of the session is garbled: {error}"))?;
    if !is_id(&json.id) {
        return Err(String::from("the id of the session has characters that no id has"));
    }
    let slots = slot_map(&json.slots)?;
    let ids = json.schema.columns.iter().map(|column| whole_number(&column.column_id));
    let column_ids = ids.collect::<Option<Vec<i64>>>().unwrap_or_default();
    let info = SessionInfo {
        id: SessionId(json.id),
        status: status(&json.status)?,
        buckets: u32::try_from(slots.routes.len()).map_err(|error| error.to_string())?,
        hasher: json.hasher,
        hash_key: json.hash_key,
        columns: json.schema.columns.into_iter().map(Into::into).collect(),
        column_ids,
        partial_update: is_true(&json.enable_partial_update),
    };
    Ok((info, slots))
}

impl From<SessionColumnJson> for ColumnDescription {
    fn from(column: SessionColumnJson) -> Self {
        let nullable = nullable(&column.nullable);
        Self { name: column.name, column_type: column.column_type, nullable }
    }
}

/// Whether the text can be the id of a session, which goes into queries, journals and log lines.
pub(crate) fn is_id(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    !text.is_empty() && text.len() <= 128 && text.bytes().all(allowed)
}

fn status(text: &str) -> Result<SessionStatus, String> {
    match text.to_ascii_lowercase().as_str() {
        "normal" => Ok(SessionStatus::Normal),
        "committing" => Ok(SessionStatus::Committing),
        "committed" => Ok(SessionStatus::Committed),
        "expired" => Ok(SessionStatus::Expired),
        "critical" => Ok(SessionStatus::Critical),
        "aborted" => Ok(SessionStatus::Aborted),
        other => Err(format!("the session's status `{}` is not known", other.escape_default())),
    }
}

/// The service writes `"true"`; a plain `true` is understood, too.
fn nullable(value: &Value) -> bool {
    match value {
        Value::Bool(nullable) => *nullable,
        Value::String(text) => !text.eq_ignore_ascii_case("false"),
        _ => true,
    }
}

/// The service writes `"2"`; a plain `2` is understood, too.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => text.parse().ok(),
        number => number.as_i64(),
    }
}

/// The service writes `true`; `"true"` is understood, too.
fn is_true(value: &Value) -> bool {
    match value {
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        value => value.as_bool().unwrap_or_default(),
    }
}

fn slot_map(slots: &[SlotJson]) -> Result<SlotMap, String> {
    let buckets: usize = slots.iter().map(|slot| slot.buckets.len()).sum();
    if buckets == 0 || buckets > BUCKETS_MAX {
        return Err(format!("the session has {buckets} buckets; 1 to {BUCKETS_MAX} are possible"));
    }
    let mut routes = vec![None; buckets];
    for slot in slots {
        let id = match &slot.slot_id {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        if !is_id(&id) || !is_worker(&slot.worker_addr) {
            return Err(String::from("a slot of the session has an id or address that none has"));
        }
        for bucket in &slot.buckets {
            let route = usize::try_from(*bucket).ok().and_then(|bucket| routes.get_mut(bucket));
            let route = route.ok_or_else(|| format!("bucket {bucket} of {buckets} has a slot"))?;
            let worker = slot.worker_addr.clone();
            if route.replace(Route { slot: id.clone(), worker }).is_some() {
                return Err(format!("bucket {bucket} has two slots"));
            }
        }
    }
    let routes: Option<Vec<Route>> = routes.into_iter().collect();
    routes.map(|routes| SlotMap { routes }).ok_or_else(|| String::from("a bucket has no slot"))
}

/// More than any table has; bounds what an answer can make us keep.
const BUCKETS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn session(slots: &str) -> String {
        format!(
            r#"{{"id":"2026-1","hash_key":["id"],"hasher":"default","status":"NORMAL",
                "schema":{{"columns":[{{"name":"id","type":"bigint","nullable":"false"}}]}},
                "slots":{slots}}}"#
        )
    }

    #[test]
    fn a_session_is_read_with_its_slots() {
        let slots = r#"[{"slot_id":"0","buckets":[0,2],"worker_addr":"a:1"},
                        {"slot_id":1,"buckets":[1],"worker_addr":"b:2"}]"#;
        let (info, map) = parse(session(slots).as_bytes()).expect("complete");
        assert_eq!((info.buckets, info.status), (3, SessionStatus::Normal));
        assert!(!info.columns[0].nullable);
        let sessions = KnownSessions::default();
        sessions.learn("2026-1", "", map, 1);
        assert_eq!(sessions.route("2026-1", 1).map(|route| route.slot), Some(String::from("1")));
        sessions.moved("2026-1", "0", "c:3");
        assert_eq!(sessions.route("2026-1", 2).map(|route| route.worker), Some("c:3".into()));
        assert_eq!(sessions.route("2026-1", 3), None);
    }

    #[test]
    fn ids_and_partial_rows_are_known_only_where_the_session_tells() {
        let slots = r#"[{"slot_id":"0","buckets":[0],"worker_addr":"a:1"}]"#;
        let told = |id: &str, partial: &str| {
            let text = session(slots).replace("\"nullable\"", &format!("{id}\"nullable\""));
            let text = text.replacen('{', &format!("{{{partial}"), 1);
            let (info, _) = parse(text.as_bytes()).expect("complete");
            (info.column_ids, info.partial_update)
        };
        assert_eq!(told("", ""), (vec![], false));
        for (id, ids) in [
            (r#""column_id":"7","#, vec![7]),
            (r#""column_id":7,"#, vec![7]),
            (r#""column_id":"x","#, vec![]),
            (r#""column_id":7.5,"#, vec![]),
        ] {
            assert_eq!(told(id, r#""enable_partial_update":true,"#), (ids.clone(), true));
            assert_eq!(told(id, r#""enable_partial_update":"False","#), (ids, false));
        }
    }

    #[test]
    fn slots_that_do_not_cover_the_buckets_once_are_refused() {
        for slots in [
            "[]",
            r#"[{"slot_id":"0","buckets":[0,0],"worker_addr":"a:1"}]"#,
            r#"[{"slot_id":"0","buckets":[1],"worker_addr":"a:1"}]"#,
            r#"[{"slot_id":"0","buckets":[0],"worker_addr":"a:1\r\nx: y"}]"#,
        ] {
            assert!(parse(session(slots).as_bytes()).is_err(), "{slots}");
        }
    }

    #[test]
    fn a_session_without_contact_is_found() {
        let sessions = KnownSessions::default();
        sessions.learn("a", "day='1'", SlotMap::default(), 10);
        sessions.learn("b", "", SlotMap::default(), 10);
        sessions.touch("b", 20);
        assert_eq!(sessions.silent_since(15), [(String::from("a"), String::from("day='1'"))]);
        sessions.forget("a");
        assert!(sessions.silent_since(15).is_empty());
    }
}
