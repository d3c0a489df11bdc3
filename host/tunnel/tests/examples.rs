//! The example, against the local server.
//!
//! Invariant: the example is the one that readers are shown, word for word.

#[expect(dead_code, reason = "its `main` is run by hand")]
#[path = "../examples/five_rows.rs"]
mod five_rows;

use upsert_sink_format::tunnel::SessionStatus;
use upsert_sink_server::{Server, ServerSettings};
use upsert_sink_tunnel::components::Components;
use upsert_sink_tunnel::{Catalog, ClientSettings, CredentialSource, Credentials, Secret};

#[tokio::test]
async fn five_rows_are_upserted_and_visible_however_often_it_runs() {
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
    for _ in 0..2 {
        let status = five_rows::upsert(settings.clone()).await.expect("it is done");
        assert_eq!(status, SessionStatus::Committed);
    }
    let catalog = Catalog::new(settings, &Components::system());
    let name = five_rows::TABLE.parse().expect("a name");
    let table = catalog.quoted(&name);
    let mut rows = catalog.rows(&format!("SELECT id, name FROM {table}")).await.expect("rows");
    rows.sort();
    let text = |text: &str| Some(String::from(text));
    let expected = [("1", "ant"), ("2", "bee"), ("3", "cat"), ("4", "doe"), ("5", "eel")];
    assert_eq!(rows, expected.map(|(id, name)| vec![text(id), text(name)]));
    let described = catalog.table(&name).await.expect("it is described");
    assert_eq!((described.buckets, described.primary_key), (4, vec![String::from("id")]));
}
