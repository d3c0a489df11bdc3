//! The promises of the client on the wire, against a service whose answers are written down.
//!
//! Invariant: each test says every answer that the service gives, and all requests are looked at.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use upsert_sink_format::tunnel::{Answer, Outcome};

use super::*;
use crate::components::simulated::InlineProcessors;
use crate::components::{BoxFuture, Clock, Components, Surroundings, Transport, TransportError};
use crate::compression::Compression;
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::name::{Name, ServiceUrl};
use crate::settings::ClientSettings;
use crate::workers::WorkerAllowList;

const NOW_MS: u64 = 1_780_000_000_000;
const NOW: &str = "Thu, 28 May 2026 20:26:40 GMT";
const HTML: &str = "<html><head><title>502 Bad Gateway</title></head></html>";

/// One answer: status, headers, body.
type Scripted = (u16, Vec<(&'static str, String)>, String);

#[derive(Default)]
struct Service {
    answers: Mutex<VecDeque<Scripted>>,
    requests: Mutex<Vec<http::Request<Bytes>>>,
    now_ms: AtomicU64,
    /// The outputs of the program for credentials, one after the other.
    printed: Mutex<VecDeque<String>>,
}

impl Transport for Service {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, std::result::Result<http::Response<Bytes>, TransportError>> {
        self.requests.lock().expect("no panic").push(request);
        let answer = self.answers.lock().expect("no panic").pop_front();
        let (status, headers, body) = answer.expect("every answer is in the script");
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Box::pin(async move {
            // Others send before this one hears.
            tokio::task::yield_now().await;
            Ok(response.body(Bytes::from(body)).expect("a response"))
        })
    }
}

impl Clock for Service {
    fn now_ms(&self) -> u64 {
        NOW_MS + self.now_ms.load(Ordering::Relaxed)
    }

    fn sleep_until(&self, _: u64) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

impl Surroundings for Service {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn output_of(&self, _: &[String], _: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let printed = self.printed.lock().expect("no panic").pop_front();
        Box::pin(async { Ok(printed.ok_or(io::ErrorKind::NotFound)?.into_bytes()) })
    }
}

struct Scene {
    service: Arc<Service>,
    table: Table,
}

impl Scene {
    /// Its settings are changed by `set`, from those of a key that stays and packs that are not
    /// compressed.
    fn new(set: impl FnOnce(&mut ClientSettings), answers: Vec<Scripted>) -> Self {
        let service = Arc::new(Service::default());
        let mut settings = ClientSettings::new(url("http://10.0.0.9/api"), name("p"));
        settings.credentials = key(None);
        settings.compression = Compression::Raw;
        set(&mut settings);
        let components = Components {
            clock: Arc::clone(&service) as _,
            transport: Arc::clone(&service) as _,
            surroundings: Arc::clone(&service) as _,
            processors: Arc::new(InlineProcessors),
            ..Components::system()
        };
        let endpoint = Endpoint::new(settings, &components);
        service.answers.lock().expect("no panic").extend(answers);
        Self { service, table: Table::new(Arc::new(endpoint), name("t")) }
    }

    async fn create(&self, partition: &str) -> Outcome {
        let created = self.table.create_session(partition, Hours(24), 2).await;
        created.map_or_else(Outcome::from, |session| described_as(session.into_info()))
    }

    async fn put(&self, bucket: u32) -> Outcome {
        self.send(bucket, &body()).await
    }

    async fn send(&self, bucket: u32, body: &PackBody) -> Outcome {
        let put = self.table.put_pack(&session(), BucketId(bucket), 3, body).await;
        put.map_or_else(Outcome::from, |()| Outcome::Done(Answer::None))
    }

    async fn commit(&self) -> Outcome {
        self.table.commit(&session()).await.map_or_else(Outcome::from, described_as)
    }

    async fn status(&self) -> Outcome {
        self.table.status(&session()).await.map_or_else(Outcome::from, described_as)
    }

    async fn abort(&self) -> Outcome {
        let aborted = self.table.abort(&session()).await;
        aborted.map_or_else(Outcome::from, |()| Outcome::Done(Answer::None))
    }

    /// The requests since the last time, `METHOD path?query` each.
    fn lines(&self) -> Vec<String> {
        let requests = self.requests();
        requests.iter().map(|one| format!("{} {}", one.method(), one.uri())).collect()
    }

    fn requests(&self) -> Vec<http::Request<Bytes>> {
        let left = self.service.answers.lock().expect("no panic").len();
        assert_eq!(left, 0, "answers that nobody asked for");
        std::mem::take(&mut self.service.requests.lock().expect("no panic"))
    }

    fn then(&self, answer: Scripted) {
        self.service.answers.lock().expect("no panic").push_back(answer);
    }
}

fn session() -> SessionRef {
    SessionRef { id: SessionId(String::from("s1")), partition: String::new() }
}

fn body() -> PackBody {
    PackBody::new(Bytes::from(vec![b'r'; 5000]))
}

fn described_as(info: SessionInfo) -> Outcome {
    Outcome::Done(Answer::Session(info))
}

/// A key that stays, perhaps a temporary one.
fn key(token: Option<&str>) -> CredentialSource {
    CredentialSource::Given(Credentials {
        access_id: String::from("id"),
        access_key: Secret::new("key"),
        sts_token: token.map(Secret::new),
    })
}

fn plain(_: &mut ClientSettings) {}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn url(text: &str) -> ServiceUrl {
    text.parse().expect("a URL")
}

fn at_the_tunnel(settings: &mut ClientSettings) {
    settings.tunnel_endpoint = Some(url("http://10.0.0.7/"));
}

fn ok(body: impl Into<String>) -> Scripted {
    (200, vec![("x-odps-request-id", String::from("r"))], body.into())
}

fn refuses(status: u16, code: &str) -> Scripted {
    (status, vec![("date", String::from(NOW))], format!(r#"{{"Code":"{code}","Message":"m"}}"#))
}

fn moves(worker: Option<&str>) -> Scripted {
    let (status, mut headers, body) = refuses(308, "SlotReassigned");
    headers.extend(worker.map(|worker| ("odps-tunnel-routed-server", String::from(worker))));
    (status, headers, body)
}

fn discovered() -> Scripted {
    ok("10.0.0.7:8080")
}

/// Four buckets; slot 0 has the even ones.
fn described(status: &str, workers: [&str; 2]) -> Scripted {
    let [even, odd] = workers;
    ok(format!(
        r#"{{"id":"s1","status":"{status}","hasher":"default","hash_key":["id"],
            "schema":{{"columns":[{{"name":"id","type":"bigint","nullable":"false"}}]}},
            "slots":[{{"slot_id":"0","buckets":[0,2],"worker_addr":"{even}"}},
                     {{"slot_id":"1","buckets":[1,3],"worker_addr":"{odd}"}}]}}"#
    ))
}

const WORKERS: [&str; 2] = ["11.0.0.1:80", "11.0.0.2:80"];

fn header<'a>(request: &'a http::Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

fn routed(request: &http::Request<Bytes>) -> &str {
    header(request, "odps-tunnel-routed-server")
}

fn refused_as(outcome: &Outcome) -> (RefusalKind, &str) {
    match outcome {
        Outcome::Refused(refusal) => (refusal.kind, &refusal.message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_is_created_as_the_vendors_clients_do() {
    let set = |settings: &mut ClientSettings| {
        settings.schema = Some(name("sch"));
        settings.quota_name = Some(name("q1"));
        settings.tunnel_tags = "nightly,team-a".parse().expect("tags");
        settings.credentials = key(Some("tok"));
    };
    let scene = Scene::new(set, vec![discovered(), described("normal", WORKERS)]);
    let created = scene.create("day='2026-01-01',h='a b'").await;
    assert!(matches!(created, Outcome::Done(Answer::Session(_))), "{created:?}");
    let requests = scene.requests();
    let lines: Vec<_> = requests.iter().map(|one| one.uri().to_string()).collect();
    assert_eq!(
        lines,
        [
            "http://10.0.0.9/api/projects/p/tunnel?service&quotaName=q1&curr_project=p\
             &curr_schema=sch",
            "http://10.0.0.7:8080/projects/p/schemas/sch/tables/t/upserts?slotnum=2&lifecycle=24\
             &partition=day%3D2026-01-01%2Ch%3Da%20b&quotaName=q1&curr_project=p&curr_schema=sch",
        ]
    );
    for (name, value) in [
        ("x-odps-tunnel-version", "6"),
        ("odps-tunnel-date-transform", "v1"),
        ("odps-tunnel-sdk-support-schema-evolution", "true"),
        ("odps-tunnel-tags", "nightly,team-a"),
        ("authorization-sts-token", "tok"),
        ("content-length", "0"),
        ("date", NOW),
    ] {
        assert_eq!(header(&requests[1], name), value, "{name}");
    }
    assert_eq!(header(&requests[1], "user-agent"), header(&requests[1], "x-odps-user-agent"));
}

#[tokio::test]
async fn a_garbled_address_of_the_tunnel_is_told_and_asked_again() {
    let scene = Scene::new(plain, vec![ok("http://evil/#"), discovered(), ok("")]);
    let created = scene.create("").await;
    let (kind, message) = refused_as(&created);
    assert_eq!(kind, RefusalKind::NotSent);
    assert!(message.contains("tunnelEndpoint"), "{message}");
    scene.create("").await;
    assert_eq!(scene.lines().len(), 3);
}

#[tokio::test]
async fn a_pack_names_its_slot_and_every_repetition_is_the_very_same_bytes() {
    for (compression, encoding) in [
        (Compression::Raw, ""),
        (Compression::Zlib, "deflate"),
        (Compression::Snappy, "x-snappy-framed"),
        (Compression::Zstd, "zstd"),
    ] {
        let answers = vec![described("normal", WORKERS), refuses(500, "Internal"), ok("")];
        let set = |settings: &mut ClientSettings| {
            at_the_tunnel(settings);
            settings.compression = compression;
        };
        let scene = Scene::new(set, answers);
        scene.create("").await;
        let pack = body();
        let doubt = scene.send(3, &pack).await;
        assert!(matches!(doubt, Outcome::InDoubt(_)), "{doubt:?}");
        let done = scene.send(3, &pack).await;
        assert_eq!(done, Outcome::Done(Answer::None));
        let requests = scene.requests();
        let uri = "http://10.0.0.7/projects/p/tables/t/upserts?upsertid=s1&bucketid=3&slotid=1\
                   &record_count=3&curr_project=p";
        for request in &requests[1..] {
            assert_eq!(request.uri().to_string(), uri);
            assert_eq!(routed(request), WORKERS[1]);
            assert_eq!(header(request, "content-encoding"), encoding);
            assert_eq!(header(request, "content-length"), request.body().len().to_string());
        }
        assert_eq!(requests[1].body().as_ptr(), requests[2].body().as_ptr());
        assert_eq!(requests[1].body().len() == 5000, encoding.is_empty());
    }
}

#[tokio::test]
async fn a_move_with_an_address_takes_the_whole_slot_along() {
    let answers = vec![
        discovered(),
        described("normal", WORKERS),
        moves(Some("10.9.9.9:80")),
        ok(""),
        ok(""),
        ok(""),
    ];
    let scene = Scene::new(plain, answers);
    scene.create("").await;
    assert_eq!(refused_as(&scene.put(1).await).0, RefusalKind::Moved);
    for bucket in [1, 3, 0] {
        assert_eq!(scene.put(bucket).await, Outcome::Done(Answer::None));
    }
    let requests = scene.requests();
    let workers: Vec<_> = requests[2..].iter().map(routed).collect();
    assert_eq!(workers, [WORKERS[1], "10.9.9.9:80", "10.9.9.9:80", WORKERS[0]]);
}

#[tokio::test]
async fn a_move_without_an_address_or_to_one_that_is_not_allowed_asks_the_session_again() {
    for worker in [None, Some("evil.com:80"), Some("127.0.0.1:22"), Some("x y")] {
        let answers = vec![
            discovered(),
            described("normal", WORKERS),
            moves(worker),
            described("normal", ["11.0.0.3:80", "11.0.0.4:80"]),
            ok(""),
        ];
        let scene = Scene::new(plain, answers);
        scene.create("").await;
        assert_eq!(refused_as(&scene.put(1).await).0, RefusalKind::Moved);
        assert_eq!(scene.put(1).await, Outcome::Done(Answer::None));
        let requests = scene.requests();
        assert_eq!(requests[3].method(), Method::GET);
        assert_eq!(routed(&requests[4]), "11.0.0.4:80", "{worker:?}");
    }
}

#[tokio::test]
async fn a_front_that_does_not_reach_the_worker_makes_the_session_be_asked_again() {
    for status in [502, 504] {
        let answers = vec![
            discovered(),
            described("normal", WORKERS),
            (status, Vec::new(), String::from(HTML)),
            described("normal", ["11.0.0.3:80", "11.0.0.4:80"]),
            ok(""),
        ];
        let scene = Scene::new(plain, answers);
        scene.create("").await;
        assert!(matches!(scene.put(0).await, Outcome::InDoubt(_)));
        assert_eq!(scene.put(0).await, Outcome::Done(Answer::None));
        let requests = scene.requests();
        assert_eq!((requests[3].method(), routed(&requests[4])), (&Method::GET, "11.0.0.3:80"));
    }
}

/// The guest learns of its session all the same, so that it can be recorded, and aborted.
#[tokio::test]
async fn a_worker_that_is_not_in_the_list_takes_no_row_and_its_session_is_not_forgotten() {
    let set = |settings: &mut ClientSettings| {
        settings.worker_allow_list = WorkerAllowList::parse("11.0.0.1").expect("a list");
    };
    let scene = Scene::new(set, vec![discovered(), described("normal", WORKERS)]);
    let created = scene.create("").await;
    assert!(matches!(created, Outcome::Done(Answer::Session(_))), "{created:?}");
    for bucket in [0, 1] {
        scene.then(described("normal", WORKERS));
        let put = scene.put(bucket).await;
        let (kind, message) = refused_as(&put);
        assert_eq!(kind, RefusalKind::Denied);
        assert!(
            message.contains("11.0.0.2:80") && message.contains("worker-allow-list"),
            "{message}"
        );
    }
    let requests = scene.requests();
    let asked = requests[2..].iter().map(|request| request.method().clone());
    assert_eq!(asked.collect::<Vec<_>>(), [Method::GET, Method::GET], "no row was sent");
    // A commit counts all the same, and an abort goes without a worker's name.
    scene.then(described("committed", WORKERS));
    let committed = scene.commit().await;
    assert!(matches!(committed, Outcome::Done(Answer::Session(_))), "{committed:?}");
    scene.then(ok(""));
    let aborted = scene.abort().await;
    assert_eq!(aborted, Outcome::Done(Answer::None));
    assert_eq!(scene.requests().iter().map(routed).collect::<Vec<_>>(), ["", ""]);
}

#[tokio::test]
async fn commit_status_and_abort_are_routed_to_the_worker_of_bucket_0() {
    let answers = vec![
        discovered(),
        described("normal", WORKERS),
        described("committing", WORKERS),
        described("committing", WORKERS),
        ok(""),
    ];
    let scene = Scene::new(plain, answers);
    scene.create("").await;
    for outcome in [scene.commit().await, scene.status().await] {
        match outcome {
            Outcome::Done(Answer::Session(info)) => {
                assert_eq!(info.status, SessionStatus::Committing);
            }
            other => panic!("{other:?}"),
        }
    }
    let aborted = scene.abort().await;
    assert_eq!(aborted, Outcome::Done(Answer::None));
    let requests = scene.requests();
    for (request, method) in requests[2..].iter().zip([Method::POST, Method::GET, Method::DELETE]) {
        assert_eq!((request.method(), routed(request)), (&method, WORKERS[0]));
        let uri = request.uri().to_string();
        assert!(uri.ends_with("/upserts?upsertid=s1&curr_project=p"), "{uri}");
        assert!(request.body().is_empty());
    }
}

#[tokio::test]
async fn a_session_without_contact_is_asked_for_its_status() {
    let answers = vec![discovered(), described("normal", WORKERS), ok("")];
    let scene = Scene::new(plain, answers);
    scene.create("").await;
    scene.service.now_ms.store(29_999, Ordering::Relaxed);
    scene.table.keep_alive(Duration::from_secs(30)).await;
    assert_eq!(scene.put(0).await, Outcome::Done(Answer::None), "which is contact, too");
    scene.service.now_ms.store(59_998, Ordering::Relaxed);
    scene.table.keep_alive(Duration::from_secs(30)).await;
    assert_eq!(scene.lines().len(), 3, "nothing was asked");
    scene.then(described("normal", WORKERS));
    scene.service.now_ms.store(59_999, Ordering::Relaxed);
    scene.table.keep_alive(Duration::from_secs(30)).await;
    assert!(scene.lines()[0].starts_with("GET http://10.0.0.7:8080/projects/p/tables/t/upserts?"));
}

#[tokio::test]
async fn a_compaction_is_done_when_the_service_has_taken_note_and_a_doubt_asks_again() {
    let taken = || {
        let (_, mut headers, body) = ok("");
        headers.push(("location", String::from("http://10.0.0.9/api/projects/p/instances/i7")));
        (201, headers, body)
    };
    let busy = refuses(429, "QPSExceeded");
    let answers = vec![(502, Vec::new(), String::from(HTML)), busy, taken(), ok(""), taken()];
    let scene = Scene::new(plain, answers);
    let compact = async |partition| scene.table.compact(partition).await.map_err(Outcome::from);
    assert!(matches!(compact("day='1'").await, Err(Outcome::InDoubt(_))));
    let refused = compact("day='1'").await.expect_err("it is busy");
    assert_eq!(refused_as(&refused).0, RefusalKind::SlowDown);
    assert_eq!(compact("day='1'").await.expect("taken note of").as_str(), "i7");
    assert!(matches!(compact("").await, Err(Outcome::InDoubt(_))), "an instance without an id");
    assert_eq!(compact("").await.expect("taken note of").as_str(), "i7");
    let wrong = compact("day=1").await.expect_err("nothing is sent for it");
    assert_eq!(refused_as(&wrong).0, RefusalKind::Invalid);
    let requests = scene.requests();
    let (partition, table) = ("<TableName>t partition(day=", "<TableName>t</TableName>");
    for (request, named) in requests.iter().zip([partition, partition, partition, table, table]) {
        let line = format!("{} {}", request.method(), request.uri());
        assert_eq!(line, "POST http://10.0.0.9/api/projects/p/instances?curr_project=p");
        let body = String::from_utf8_lossy(request.body());
        assert!(body.contains(named) && body.contains("major_compact"), "{body}");
    }
}

#[tokio::test]
async fn a_wrong_clock_is_corrected_once_for_each_refusal() {
    let late = |date: &str| {
        let (status, _, body) = refuses(400, "RequestTimeTooSkewd");
        (status, vec![("date", String::from(date))], body)
    };
    let twenty = "Thu, 28 May 2026 20:46:40 GMT";
    let answers = vec![late(twenty), discovered(), described("normal", WORKERS)];
    let set = |settings: &mut ClientSettings| settings.region = Some(name("cn-hangzhou"));
    let scene = Scene::new(set, answers);
    assert!(matches!(scene.create("").await, Outcome::Done(_)));
    let requests = scene.requests();
    let dates: Vec<_> = requests.iter().map(|request| header(request, "date")).collect();
    assert_eq!(dates, [NOW, twenty, twenty], "what was learned is kept");
    assert!(header(&requests[2], "authorization").contains("/20260528/cn-hangzhou/odps/"));
    // Refused again for the same time: no third attempt.
    scene.then(late(twenty));
    assert_eq!(refused_as(&scene.put(0).await).0, RefusalKind::Denied);
    // A date that nothing can be right about.
    scene.then(late("Thu, 28 May 2027 20:46:40 GMT"));
    assert_eq!(refused_as(&scene.put(0).await).0, RefusalKind::Denied);
    assert_eq!(scene.requests().len(), 2);
}

#[tokio::test]
async fn requests_that_are_refused_together_are_all_made_again() {
    let late = || {
        let (status, _, body) = refuses(401, "RequestTimeTooSkewed");
        (status, vec![("date", String::from("Thu, 28 May 2026 20:46:40 GMT"))], body)
    };
    let answers = vec![late(), late(), described("normal", WORKERS), described("normal", WORKERS)];
    let scene = Scene::new(at_the_tunnel, answers);
    let (one, other) = tokio::join!(scene.create(""), scene.create(""));
    assert!(matches!((one, other), (Outcome::Done(_), Outcome::Done(_))));
    assert_eq!(scene.lines().len(), 4);
}

#[tokio::test]
async fn refused_credentials_are_replaced_once_and_the_request_is_made_again() {
    let print = |id: &str| {
        format!(r#"{{"AccessKeyId":"{id}","AccessKeySecret":"k","SecurityToken":"of-{id}"}}"#)
    };
    let set = |settings: &mut ClientSettings| {
        settings.credentials = CredentialSource::Command(vec![String::from("get")]);
    };
    let answers = vec![
        discovered(),
        refuses(403, "SecurityTokenExpired"),
        described("normal", WORKERS),
        refuses(403, "NoPermission"),
    ];
    let scene = Scene::new(set, answers);
    scene.service.printed.lock().expect("no panic").extend([print("a"), print("b"), print("b")]);
    assert!(matches!(scene.create("").await, Outcome::Done(_)));
    assert_eq!(refused_as(&scene.put(0).await).0, RefusalKind::Denied, "the same key again");
    let requests = scene.requests();
    let tokens: Vec<_> =
        requests.iter().map(|request| header(request, "authorization-sts-token")).collect();
    assert_eq!(tokens, ["of-a", "of-a", "of-b", "of-b"]);
    assert!(header(&requests[3], "authorization").starts_with("ODPS b:"));
}

#[tokio::test]
async fn without_credentials_nothing_is_sent_and_the_reason_is_told() {
    let set = |settings: &mut ClientSettings| {
        settings.credentials = CredentialSource::Environment;
    };
    let scene = Scene::new(set, Vec::new());
    let created = scene.create("").await;
    let (kind, message) = refused_as(&created);
    assert_eq!(kind, RefusalKind::Denied);
    assert!(message.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{message}");
    assert!(scene.lines().is_empty());
}
