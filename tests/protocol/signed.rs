//! Signatures: the recorded ones at our server, and ours, in strict mode.
//!
//! Each crate also checks the recorded canonical texts by itself, in
//! `host/tunnel/src/sign.rs` and `host/server/src/auth/tests.rs`. Invariant: signer and
//! verifier share no code, and both agree with the vendor's 28 recorded signatures.

use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use http::Request;
use serde_json::Value as Json;
use upsert_sink::{Catalog, Components, CredentialSource, Credentials, ErrorKind, Secret, Sink};
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::{ManualClock, SimulatedDirectories, components};
use upsert_sink_server::{Auth, Keys, ServerSettings, Service};
use upsert_sink_tests::plugin::plugin;

use crate::protocol::fixture::{described, exchanges, read};
use crate::protocol::local::{Local, PROJECT};

const KEYS: &str = r#"[
    {"AccessKeyId":"plain","AccessKeySecret":"secret-one"},
    {"AccessKeyId":"temporary","AccessKeySecret":"two","SecurityToken":"token",
     "Expiration":"2099-01-01T00:00:00Z"}]"#;

fn strict(json: &str) -> Auth {
    Auth::Strict(Keys::from_json(json.as_bytes()).expect("keys"))
}

/// Whether a server of that time and these keys looks at a recorded request at all.
async fn lets_in(vector: &Json, keys: &str, late_ms: u64) -> bool {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let date = vector["signed_headers"]["date"].as_str().expect("a date");
    let day = date.get(5..7).and_then(|day| day.parse::<u64>().ok()).expect("a day");
    let time: Vec<u64> =
        date[17..25].split(':').map(|part| part.parse().expect("a number")).collect();
    // All were made in November 2026, which began 1793491200 s after the epoch.
    let signed = 1_793_491_200 + (day - 1) * 86_400 + time[0] * 3600 + time[1] * 60 + time[2];
    let clock = Arc::new(ManualClock::new(Millis(signed * 1000 + late_ms)));
    let settings = ServerSettings {
        project: PROJECT.to_owned(),
        auth: strict(keys),
        ..ServerSettings::new("/simulated")
    };
    let parts = components(clock, SimulatedDirectories::new(), 7);
    let service = Service::open(&settings, &parts).await.expect("an empty disk can be served");
    let mut request = Request::builder().method(text("method")).uri(text("target"));
    for (name, value) in vector["signed_headers"].as_object().expect("headers") {
        if let Some(value) = value.as_str().filter(|value| !value.is_empty()) {
            request = request.header(name, value);
        }
    }
    request = request.header("authorization", text("authorization"));
    if let Some(token) = vector["sts"].as_str() {
        request = request.header("authorization-sts-token", token);
    }
    let answer = service.respond(request.body(bytes::Bytes::new()).expect("a request")).await;
    !String::from_utf8_lossy(answer.body()).contains("ODPS-0410")
}

#[tokio::test]
async fn every_recorded_signature_is_accepted_at_its_time_by_its_key() {
    let fixtures = read("signature_vectors.json");
    let vectors = fixtures["vectors"].as_array().expect("vectors");
    let key = r#"[{"AccessKeyId":"testAccessId","AccessKeySecret":"testAccessKey"}]"#;
    let temporary = key.replace("}]", r#","SecurityToken":"testStsToken"}]"#);
    for vector in vectors {
        let keys = if vector["sts"].is_null() { key } else { &temporary };
        assert!(lets_in(vector, keys, 0).await, "{vector}");
        assert!(!lets_in(vector, keys, 901_000).await, "a quarter of an hour later: {vector}");
        let other = keys.replace("testAccessKey", "another");
        assert!(!lets_in(vector, &other, 0).await, "by another key: {vector}");
    }
    assert_eq!(vectors.len(), 28);
}

fn credentials(id: &str, key: &str, token: Option<&str>) -> CredentialSource {
    CredentialSource::Given(Credentials {
        access_id: id.to_owned(),
        access_key: Secret::new(key),
        sts_token: token.map(Secret::new),
    })
}

fn rows() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..100))),
        ("k", Arc::new(StringArray::from_iter_values((0..100).map(|id| id.to_string())))),
        ("v", Arc::new(StringArray::from(vec!["v"; 100]))),
        ("n", Arc::new(Int64Array::from(vec![None; 100]))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, a)| (n, a, true))).expect("rows")
}

#[tokio::test]
async fn a_sink_works_with_a_server_that_checks_every_signature() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("key.json");
    let key = r#"{"AccessKeyId":"temporary","AccessKeySecret":"two","SecurityToken":"token",
        "Expiration":"2099-01-01T00:00:00Z"}"#;
    std::fs::write(&path, key).expect("written");
    let command = vec![String::from("cat"), path.display().to_string()];
    for (version, source) in [
        (2, credentials("plain", "secret-one", None)),
        (4, credentials("plain", "secret-one", None)),
        (2, credentials("temporary", "two", Some("token"))),
        (4, CredentialSource::File(path)),
        (4, CredentialSource::Command(command)),
    ] {
        let local = Local::with(|settings| ServerSettings { auth: strict(KEYS), ..settings }).await;
        let described = described(&exchanges("java_basic_4buckets")).remove(0);
        let mut settings = local.settings(&described.table);
        settings.client.credentials = source;
        settings.client.region = (version == 4).then(|| "cn-hangzhou".parse().expect("a name"));
        let catalog = Catalog::new(&settings, &Components::system());
        catalog.execute(&described.ddl()).await.expect("it is signed");
        let batch = rows();
        let sink = Sink::builder(plugin(), settings).schema(batch.schema()).open().await;
        let sink = sink.expect("the sink opens");
        sink.write(&batch, &[]).await.expect("the rows are taken");
        sink.checkpoint(1).await.expect("the barrier passes");
        sink.checkpoint_completed(1).await.expect("told");
        sink.committed(1).await.expect("it is committed");
        sink.close().await.expect("it ends well");
        assert_eq!(local.query("SELECT count(*) FROM t_basic").await, [["100"]]);
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_services_reason_and_without_the_secret() {
    for (source, says) in [
        (credentials("nobody", "hush", None), "accessKeyId not found"),
        (credentials("plain", "hush", None), "Invalid signature value"),
        (credentials("temporary", "two", None), "authorization-sts-token is missing"),
        (credentials("temporary", "two", Some("hush")), "security token is not that of the key"),
    ] {
        let local = Local::with(|settings| ServerSettings { auth: strict(KEYS), ..settings }).await;
        let mut settings = local.settings("t_basic");
        settings.client.credentials = source;
        let catalog = Catalog::new(&settings, &Components::system());
        let error = catalog.table(&settings.table).await.expect_err("it is refused");
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        let text = error.to_string();
        assert!(text.contains(says) && !text.contains("hush"), "{text}");
    }
}
