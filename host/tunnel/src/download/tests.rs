//! Downloads from a service whose answers are written down.
//!
//! Invariant: each test says every answer that the service gives, byte for byte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::record::crc::crc32c;
use upsert_sink_format::record::{encode_row, stream_trailer};

use super::*;
use crate::components::{BoxFuture, Components, Transport, TransportError};
use crate::credentials::{CredentialSource, Credentials, Secret};
use crate::response::REQUEST_ID;
use crate::settings::ClientSettings;
use crate::table::Table;

const DAY: &str = "day='mon'";

#[derive(Default)]
struct Service {
    answers: Mutex<VecDeque<(u16, Bytes)>>,
    requests: Mutex<Vec<String>>,
}

impl Transport for Service {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, std::result::Result<http::Response<Bytes>, TransportError>> {
        let line = format!("{} {}", request.method(), request.uri());
        self.requests.lock().expect("no panic").push(line);
        let answer = self.answers.lock().expect("no panic").pop_front();
        let (status, body) = answer.expect("every answer is in the script");
        let response = http::Response::builder().status(status).header(REQUEST_ID, "r1");
        Box::pin(async { Ok(response.body(body).expect("a response")) })
    }
}

impl Service {
    fn then(&self, status: u16, body: impl Into<Bytes>) {
        self.answers.lock().expect("no panic").push_back((status, body.into()));
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().expect("no panic"))
    }
}

fn table(service: &Arc<Service>) -> Table {
    let endpoint = "http://10.0.0.9/api".parse().expect("a URL");
    let mut settings = ClientSettings::new(endpoint, "p".parse().expect("a name"));
    settings.tunnel_endpoint = Some("http://10.0.0.8".parse().expect("a URL"));
    settings.credentials = CredentialSource::Given(Credentials {
        access_id: String::from("id"),
        access_key: Secret::new("key"),
        sts_token: None,
    });
    let transport = Arc::clone(service) as _;
    let components = Components { transport, ..Components::system() };
    Table::new(Arc::new(Endpoint::new(settings, &components)), "t".parse().expect("a name"))
}

fn described(rows: u64, status: &str) -> String {
    format!(
        r#"{{"DownloadID":"d1","Status":"{status}","RecordCount":{rows},"Schema":{{"columns":[
            {{"name":"id","type":"bigint","nullable":"false"}},
            {{"name":"v","type":"string","nullable":"true"}}],"partitionKeys":[]}}}}"#
    )
}

fn row(id: i64) -> DownloadedRow {
    let text = (id % 3 != 0).then(|| Value::Bytes(format!("row {id}").into_bytes()));
    vec![Some(Value::Int(id)), text]
}

/// The stream of the rows with these ids.
fn stream(ids: std::ops::Range<i64>) -> Vec<u8> {
    let types = [ColumnType::BigInt, ColumnType::String];
    let (mut out, mut crcs, count) = (Vec::new(), Vec::new(), ids.end - ids.start);
    for id in ids {
        crcs.extend(encode_row(&types, &row(id), &mut out).to_le_bytes());
    }
    stream_trailer(crc32c(&crcs), count, &mut out);
    out
}

async fn begun(service: &Arc<Service>, rows: u64) -> TableDownload {
    service.then(200, described(rows, "normal"));
    table(service).download(DAY).await.expect("it is begun")
}

#[tokio::test]
async fn rows_come_by_the_ranges_that_are_asked_for() {
    let service = Arc::new(Service::default());
    let download = begun(&service, 5).await;
    assert_eq!(download.rows(), 5);
    assert_eq!(download.columns()[1].column_type, "string");
    assert!(download.columns()[1].nullable && !download.columns()[0].nullable);
    service.then(200, stream(3..5));
    assert_eq!(download.read(3, 2).await.expect("read"), [row(3), row(4)]);
    let lines = service.requests();
    let begins = "POST http://10.0.0.8/projects/p/tables/t?downloads&partition=day%3Dmon&";
    assert!(lines[0].starts_with(begins), "{}", lines[0]);
    let asks = "GET http://10.0.0.8/projects/p/tables/t?downloadid=d1&data&rowrange=%283%2C2%29&\
                partition=day%3Dmon&";
    assert!(lines[1].starts_with(asks), "{}", lines[1]);
}

#[tokio::test]
async fn a_reader_hands_out_all_rows_in_their_order_and_asks_for_as_many_as_fit() {
    let service = Arc::new(Service::default());
    let download = begun(&service, 500).await;
    let mut reader = download.reader(600);
    let first = FIRST_ROWS as i64;
    service.then(200, stream(0..first));
    let rows = reader.next().await.expect("read").expect("some");
    assert_eq!(rows, (0..first).map(row).collect::<Vec<_>>());
    let fitting = (600 * first / stream(0..first).len() as i64).min(500 - first);
    let mut next = first;
    while next < 500 {
        let end = (next + reader.rows_at_once as i64).min(500);
        service.then(200, stream(next..end));
        let rows = reader.next().await.expect("read").expect("some");
        assert_eq!(rows, (next..end).map(row).collect::<Vec<_>>());
        assert!((end - next) <= 2 * fitting, "{} rows, about {fitting} fit", end - next);
        next = end;
    }
    assert_eq!(reader.next().await.expect("read"), None);
}

#[tokio::test]
async fn a_range_that_failed_is_read_again_from_its_beginning_and_half_as_long() {
    let service = Arc::new(Service::default());
    let mut reader = begun(&service, 50).await.reader(1 << 20);
    service.then(502, "<html>");
    let error = reader.next().await.expect_err("it failed");
    assert!(error.is_in_doubt() && error.at.contains("rows 0 to 50"), "{error}");
    service.then(200, stream(0..25));
    assert_eq!(reader.next().await.expect("read").expect("some")[0], row(0));
    service.then(200, stream(25..50));
    assert_eq!(reader.next().await.expect("read").expect("some")[0], row(25));
    assert_eq!(reader.next().await.expect("read"), None);
}

#[tokio::test]
async fn a_damaged_or_cut_stream_is_refused_as_what_it_is() {
    let service = Arc::new(Service::default());
    let download = begun(&service, 9).await;
    let (whole, mut refused) = (stream(0..9), 0);
    for at in 0..whole.len() {
        service.then(200, whole[..at].to_vec());
        let cut = download.read(0, 9).await.expect_err("it is cut");
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        service.then(200, damaged);
        let damaged = match download.read(0, 9).await {
            Err(error) => error,
            // The kind of a number that ends a record says nothing.
            Ok(rows) => {
                assert_eq!(rows, (0..9).map(row).collect::<Vec<_>>());
                continue;
            }
        };
        refused += 1;
        for error in [cut, damaged] {
            assert_eq!(error.kind, ErrorKind::Corrupt, "at {at}: {error}");
            assert!(error.message.contains("the rows are damaged: stream, record"), "{error}");
            assert!(error.at.contains("download of t, day='mon', rows 0 to 9"), "{error}");
        }
    }
    assert!(refused > whole.len() * 9 / 10 - 9, "{refused} of {}", whole.len());
    for (ids, came) in [(0..8, "8 rows came instead of 9"), (0..10, "10 rows came instead of 9")] {
        service.then(200, stream(ids));
        let error = download.read(0, 9).await.expect_err("another number of rows");
        assert!(error.message.contains(came), "{error}");
    }
}

#[tokio::test]
async fn a_download_that_is_not_ready_or_forgotten_is_told_apart() {
    let service = Arc::new(Service::default());
    let kind = |error: &TunnelError| error.refusal().map(|refusal| refusal.kind);
    service.then(200, described(1, "initiating"));
    let error = table(&service).download("").await.err().expect("not yet");
    assert_eq!((kind(&error), error.kind), (Some(RefusalKind::Transient), ErrorKind::Retry));
    let forgotten = r#"{"Code":"NoSuchDownload","Message":"m"}"#;
    let download = begun(&service, 1).await;
    service.then(404, forgotten);
    let error = download.read(0, 1).await.expect_err("it is forgotten");
    assert_eq!(kind(&error), Some(RefusalKind::NoSuchSession));
    for garbled in ["{", r#"{"DownloadID":"d\r\n","Status":"normal","RecordCount":1}"#] {
        service.then(200, garbled);
        let error = table(&service).download("").await.err().expect("garbled");
        assert!(error.is_in_doubt(), "{error}");
    }
    let strange = described(1, "normal").replace("d1", "d 1");
    service.then(200, strange);
    let error = table(&service).download("").await.err().expect("no id");
    assert!(error.message.contains("characters that no id has"), "{error}");
    let error = table(&service).download("day=mon").await.err().expect("not sent");
    assert!(error.message.contains("not of the form"), "{error}");
}
