//! The examples, against the local server.
//!
//! Invariant: the examples are those that readers are shown, word for word.

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../examples/embed.rs"]
mod embed;
#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../examples/own_parts.rs"]
mod own_parts;
#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../examples/restore.rs"]
mod restore;

use upsert_sink::{Catalog, Components, Settings};
use upsert_sink_server::{Server, ServerSettings};

struct Place {
    directory: tempfile::TempDir,
    server: Server,
}

impl Place {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let components = upsert_sink_server::ServerComponents::system();
        let settings = ServerSettings::new(directory.path().join("data"));
        let server = Server::start(settings, components).await.expect("a server");
        Self { directory, server }
    }

    /// The table's rows as text, sorted.
    async fn rows(&self, table: &str) -> Vec<Vec<Option<String>>> {
        let settings =
            Settings::local(self.server.endpoint(), table, "unused").expect("valid settings");
        let catalog = Catalog::new(&settings, &Components::system());
        let mut rows = catalog.rows(&format!("SELECT * FROM {table}")).await.expect("rows");
        rows.sort();
        rows
    }
}

fn texts(rows: &[&[&str]]) -> Vec<Vec<Option<String>>> {
    let row = |row: &&[&str]| row.iter().map(|text| Some(String::from(*text))).collect();
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn embed_commits_its_rows() {
    let place = Place::new().await;
    let rows = embed::embed(&place.server.endpoint(), place.directory.path()).await;
    assert_eq!(rows.expect("it runs"), 3);
    let expected = texts(&[&["1", "ant"], &["2", "bee"], &["3", "cat"]]);
    assert_eq!(place.rows(embed::TABLE).await, expected);
}

#[tokio::test]
async fn restore_commits_each_row_once() {
    let place = Place::new().await;
    restore::restore(&place.server.endpoint(), place.directory.path()).await.expect("it runs");
    assert_eq!(place.rows(restore::TABLE).await, texts(&[&["1"], &["2"], &["3"], &["4"]]));
}

#[tokio::test]
async fn own_parts_are_the_ones_that_are_used() {
    let place = Place::new().await;
    let requests = own_parts::run(&place.server.endpoint(), place.directory.path()).await;
    assert!(requests.expect("it runs") >= 5, "describe, create, put, commit and more");
    assert_eq!(place.rows(own_parts::TABLE).await, texts(&[&["1"]]));
}
