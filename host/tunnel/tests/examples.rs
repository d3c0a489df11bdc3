//! The example, and a compaction of its table, against the local server.
//!
//! Invariant: the example is the one that readers are shown, word for word.

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../examples/five_rows.rs"]
mod five_rows;

use tempfile::TempDir;
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::tunnel::SessionStatus;
use upsert_sink_server::{Server, ServerSettings};
use upsert_sink_tunnel::components::Components;
use upsert_sink_tunnel::{
    Catalog, Client, ClientSettings, CredentialSource, Credentials, Name, Secret, TextRow,
};

/// A local server, and a client's settings.
struct Local {
    server: Server,
    settings: ClientSettings,
    _directory: TempDir,
}

impl Local {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let components = upsert_sink_server::ServerComponents::system();
        let server = Server::start(ServerSettings::new(directory.path()), components).await;
        let server = server.expect("a server");
        let mut settings = ClientSettings::new(
            server.endpoint().parse().expect("a URL"),
            "local".parse().expect("a name"),
        );
        settings.credentials = CredentialSource::Given(Credentials {
            access_id: String::from("local"),
            access_key: Secret::new("local"),
            sts_token: None,
        });
        Self { server, settings, _directory: directory }
    }

    async fn upsert_five_rows(&self) {
        let status = five_rows::upsert(self.settings.clone()).await.expect("it is done");
        assert_eq!(status, SessionStatus::Committed);
    }

    fn catalog(&self) -> Catalog {
        Catalog::new(self.settings.clone(), &Components::system())
    }

    async fn rows(&self) -> Vec<TextRow> {
        let table = self.catalog().quoted(&table());
        let rows = self.catalog().rows(&format!("SELECT id, name FROM {table}")).await;
        let mut rows = rows.expect("rows");
        rows.sort();
        rows
    }
}

fn table() -> Name {
    five_rows::TABLE.parse().expect("a name")
}

fn five() -> Vec<TextRow> {
    let text = |text: &str| Some(String::from(text));
    let rows = [("1", "ant"), ("2", "bee"), ("3", "cat"), ("4", "doe"), ("5", "eel")];
    rows.iter().map(|(id, name)| vec![text(id), text(name)]).collect()
}

#[tokio::test]
async fn five_rows_are_upserted_and_visible_however_often_it_runs() {
    let local = Local::start().await;
    for _ in 0..2 {
        local.upsert_five_rows().await;
    }
    assert_eq!(local.rows().await, five());
    let described = local.catalog().table(&table()).await.expect("it is described");
    assert_eq!((described.buckets, described.primary_key), (4, vec![String::from("id")]));
}

#[tokio::test]
async fn a_compaction_is_taken_note_of_and_changes_no_row() {
    let local = Local::start().await;
    for _ in 0..3 {
        local.upsert_five_rows().await;
    }
    let client = Client::new(local.settings.clone(), &Components::system());
    let instance = client.table(&table()).compact("").await.expect("it is taken note of");
    client.catalog().wait(&instance).await.expect("it succeeds");
    assert_eq!(local.server.stats().compactions, 1);
    assert_eq!(local.rows().await, five());
    let instance = local.catalog().compact(&table(), "day='1'").await.expect("taken note of");
    let failed = local.catalog().wait(&instance).await.expect_err("it has no partitions");
    assert!(failed.kind == ErrorKind::InvalidConfig && failed.message.contains("day"), "{failed}");
    let nothing = "nothing".parse().expect("a name");
    let instance = local.catalog().compact(&nothing, "").await.expect("taken note of");
    let failed = local.catalog().wait(&instance).await.expect_err("there is no such table");
    assert!(failed.message.contains("ODPS-0130131"), "{failed}");
}
