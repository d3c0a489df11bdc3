//! A local server for recorded requests, spoken to byte by byte over TCP.
//!
//! Invariant: what is sent is what was recorded, so no HTTP library stands between the recording
//! and the server.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use serde_json::Value as Json;
use tempfile::TempDir;
use upsert_sink::{Catalog, Settings};
use upsert_sink_server::{Server, ServerComponents, ServerSettings};

use crate::protocol::fixture::{Described, Exchange};

/// The project of the recordings.
pub(crate) const PROJECT: &str = "proj";
/// The one partition of the recordings.
const PARTITION: &str = "pt='20260326'";

pub(crate) struct Local {
    directory: TempDir,
    server: Server,
    /// The sessions of the recording, and what they are called here.
    sessions: BTreeMap<String, String>,
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    pub(crate) fn code(&self) -> String {
        self.json()["Code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn session_status(&self) -> String {
        self.json()["status"].as_str().unwrap_or_default().to_owned()
    }
}

impl Local {
    pub(crate) async fn start() -> Self {
        Self::with(|settings| settings).await
    }

    pub(crate) async fn with(change: impl FnOnce(ServerSettings) -> ServerSettings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = ServerSettings::new(directory.path().join("data"));
        let settings = ServerSettings { project: PROJECT.to_owned(), ..settings };
        let server =
            Server::start(change(settings), ServerComponents::system()).await.expect("a port");
        Self { directory, server, sessions: BTreeMap::new() }
    }

    /// Settings of a sink to a table of this server.
    pub(crate) fn settings(&self, table: &str) -> Settings {
        let journal = self.directory.path().join("journal");
        let settings = Settings::local(self.server.endpoint(), table, journal);
        let mut settings = settings.expect("valid settings");
        settings.client.project = PROJECT.parse().expect("a name");
        settings
    }

    /// Creates the table of a label, and its partition.
    pub(crate) async fn create(&self, described: &Described) {
        let settings = self.settings(&described.table);
        let components = upsert_sink::Components::system();
        let catalog = Catalog::new(&settings, &components);
        catalog.execute(&described.ddl()).await.expect("the table is created");
        if !described.partition_columns().is_empty() {
            let table = &described.table;
            let add = format!("ALTER TABLE {table} ADD IF NOT EXISTS PARTITION ({PARTITION})");
            catalog.execute(&add).await.expect("the partition is added");
        }
    }

    /// Sends a recorded request in the session that it has here.
    pub(crate) async fn send(&mut self, exchange: &Exchange) -> Answer {
        let answer = self.send_body(exchange, &exchange.target, &exchange.body).await;
        if exchange.creates() && answer.status == 200 {
            let recorded: Json = serde_json::from_str(&exchange.answer).expect("a session");
            let id = |json: &Json| json["id"].as_str().expect("an id").to_owned();
            self.sessions.insert(id(&recorded), id(&answer.json()));
        }
        answer
    }

    /// Sends a recorded request with another target or body.
    pub(crate) async fn send_body(&self, exchange: &Exchange, target: &str, body: &[u8]) -> Answer {
        let mut target = target.to_owned();
        if let Some(ours) = exchange.parameter("upsertid").and_then(|id| self.sessions.get(&id)) {
            let recorded = exchange.parameter("upsertid").expect("it was just there");
            target = target.replace(&recorded, ours);
        }
        let mut head = format!("{} {target} HTTP/1.1\r\n", exchange.method);
        for (name, value) in &exchange.headers {
            if !matches!(name.as_str(), "connection" | "content-length") {
                head += &format!("{name}: {value}\r\n");
            }
        }
        if exchange.method != "GET" {
            head += &format!("content-length: {}\r\n", body.len());
        }
        head += "connection: close\r\n\r\n";
        let request = [head.as_bytes(), body].concat();
        let address = self.server.address();
        let answer = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("it listens");
            stream.write_all(&request).expect("it reads");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("it answers");
            String::from_utf8(answer).expect("answers are UTF-8")
        });
        parse(&answer.await.expect("it does not panic"))
    }

    /// The rows of a query, each value as text and `-` for none.
    pub(crate) async fn query(&self, sql: &str) -> Vec<Vec<String>> {
        let data = self.directory.path().join("data");
        let batches = upsert_sink_server::query(&data, sql).await.expect("a valid query");
        batches.iter().flat_map(texts).collect()
    }
}

fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let has_id = head.to_lowercase().contains("\r\nx-odps-request-id: ");
    assert!(has_id, "every answer has the service's id: {head}");
    Answer { status, body: body.to_owned() }
}

fn texts(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("-");
    let columns = batch.columns().iter();
    let columns: Vec<_> = columns
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("a known type"))
        .collect();
    let row = |row| columns.iter().map(|column| column.value(row).to_string()).collect();
    (0..batch.num_rows()).map(row).collect()
}
