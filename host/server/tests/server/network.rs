//! Over TCP and on a real disk: the protocol's round trip, and what is refused at the start.

use std::net::SocketAddr;
use std::time::Duration;

use arrow_array::{Array, Int64Array};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use upsert_sink_server::{
    Error, Server, ServerComponents, ServerSettings, query, recorded_sessions,
};

use crate::support::{CREATE_TABLE, packs};

async fn send(address: SocketAddr, method: &str, path: &str, body: Vec<u8>) -> Response<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    drop(sender);
    driver.await.unwrap().unwrap();
    Response::from_parts(head, body)
}

async fn sql(address: SocketAddr, text: &str) {
    let job = format!(
        "<Instance><Job><Tasks><SQL><Name>n</Name><Query>{text}</Query></SQL></Tasks></Job>\
         </Instance>"
    );
    let reply = send(address, "POST", "/api/projects/local/instances", job.into_bytes()).await;
    assert_eq!(reply.status(), 201);
}

fn id_of(reply: &Response<Bytes>) -> String {
    let session: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
    session["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_goes_round_over_tcp_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let settings = ServerSettings::new(dir.path());
    let server = Server::start(settings.clone(), ServerComponents::system()).await.unwrap();
    let address = server.address();
    sql(address, CREATE_TABLE).await;
    sql(address, "ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='x')").await;
    let create = "/projects/local/tables/t/upserts?slotnum=1&partition=day%3Dx";
    let id = id_of(&send(address, "POST", create, Vec::new()).await);
    let open = id_of(&send(address, "POST", create, Vec::new()).await);
    for (bucket, (pack, count)) in packs(&[(1, Some("a")), (2, Some("b")), (3, Some("c"))]) {
        let path = format!(
            "/projects/local/tables/t/upserts?upsertid={id}&bucketid={bucket}&slotid=0\
             &record_count={count}"
        );
        let reply = send(address, "PUT", &path, pack).await;
        assert_eq!(reply.status(), 200, "{reply:?}");
        assert!(reply.headers().contains_key("x-odps-request-id"));
    }
    let commit = format!("/projects/local/tables/t/upserts?upsertid={id}");
    let reply = send(address, "POST", &commit, Vec::new()).await;
    assert!(String::from_utf8_lossy(reply.body()).contains("\"committed\""), "{reply:?}");
    assert_eq!(server.stats().commits, 1);
    assert_eq!(recorded_sessions(dir.path()).unwrap()[0].id, open);
    server.shutdown().await.unwrap();

    let server = Server::start(settings, ServerComponents::system()).await.unwrap();
    assert_eq!(server.open_sessions().len(), 1);
    let batches = query(dir.path(), "SELECT sum(id) FROM t").await.unwrap();
    let sum = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(sum.value(0), 6);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_waits_for_no_slow_commit_and_gives_its_directory_back() {
    let dir = tempfile::tempdir().unwrap();
    let commit_latency = Duration::from_secs(3600);
    let settings = ServerSettings { commit_latency, ..ServerSettings::new(dir.path()) };
    let server = Server::start(settings.clone(), ServerComponents::system()).await.unwrap();
    let address = server.address();
    sql(address, CREATE_TABLE).await;
    sql(address, "ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='x')").await;
    let create = "/projects/local/tables/t/upserts?partition=day%3Dx";
    let id = id_of(&send(address, "POST", create, Vec::new()).await);
    let commit = format!("/projects/local/tables/t/upserts?upsertid={id}");
    let reply = send(address, "POST", &commit, Vec::new()).await;
    assert!(String::from_utf8_lossy(reply.body()).contains("\"committing\""), "{reply:?}");
    server.shutdown().await.unwrap();
    let server = Server::start(settings, ServerComponents::system()).await.unwrap();
    assert_eq!(server.open_sessions()[0].id, id);
    server.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_succeed_says_why() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = ServerSettings::new(dir.path());
    let server = Server::start(settings.clone(), ServerComponents::system()).await.unwrap();
    let second = Server::start(settings, ServerComponents::system()).await.map(drop);
    let message = second.unwrap_err().to_string();
    assert!(message.contains("another server is using it"), "{message}");
    let taken = ServerSettings { listen: server.address(), ..ServerSettings::new(other.path()) };
    let second = Server::start(taken, ServerComponents::system()).await.map(drop);
    assert!(matches!(second, Err(Error::Listen { .. })), "{second:?}");
    let file = other.path().join("file");
    std::fs::write(&file, "").unwrap();
    let second =
        Server::start(ServerSettings::new(&file), ServerComponents::system()).await.map(drop);
    assert!(matches!(second, Err(Error::Directory { .. })), "{second:?}");
    let nothing = query(other.path(), "SELECT 1").await;
    assert!(matches!(nothing, Err(Error::NoTables { .. })), "{nothing:?}");
    let nothing = recorded_sessions(&other.path().join("none"));
    assert!(matches!(nothing, Err(Error::NoTables { .. })), "{nothing:?}");
    server.shutdown().await.unwrap();
}
