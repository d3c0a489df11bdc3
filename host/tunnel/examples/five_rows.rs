//! Upserts five rows into a Delta table, which it creates if it is not there.
//!
//! ```sh
//! export ALIBABA_CLOUD_ACCESS_KEY_ID=… ALIBABA_CLOUD_ACCESS_KEY_SECRET=…
//! cargo run --release -p upsert-sink-tunnel --example five_rows -- ENDPOINT PROJECT
//! ```
//!
//! Stands on the crate alone. Invariant: a pack is sent until it is acknowledged, a session
//! committed until that is known. It starts nothing of its own: the endpoint is the service's, or
//! that of a local server (`cargo run --release -- serve` prints one; its project is `local`, and
//! it takes any key).

use std::error::Error;

use upsert_sink_format::id::Hours;
use upsert_sink_format::record::{Op, Value};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::SessionStatus;
use upsert_sink_tunnel::components::Components;
use upsert_sink_tunnel::{Client, ClientSettings, NewColumn, NewTable, Pack, Session, TunnelError};

/// The table.
pub(crate) const TABLE: &str = "five_rows";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(project)) = (arguments.next(), arguments.next()) else {
        return Err("write the endpoint and the project: five_rows http://… my_project".into());
    };
    let status = upsert(ClientSettings::new(endpoint.parse()?, project.parse()?)).await?;
    println!("five rows of {TABLE}: {status:?}");
    Ok(())
}

/// Creates the table and a session, sends the rows, and commits.
pub(crate) async fn upsert(settings: ClientSettings) -> Result<SessionStatus, TunnelError> {
    let client = Client::new(settings, &Components::system());
    let columns =
        vec![NewColumn::new("id", ColumnType::BigInt), NewColumn::new("name", ColumnType::String)];
    let table = client.table(&TABLE.parse()?);
    let key = vec![String::from("id")];
    client.catalog().create_table(&NewTable::new(TABLE.parse()?, columns, key, 4)).await?;
    // An empty partition: the table has none. The service may drop the session after a day.
    let session = table.create_session("", Hours(24), 1).await?;
    let mut packs = session.packs()?;
    for (id, name) in [(1, "ant"), (2, "bee"), (3, "cat"), (4, "doe"), (5, "eel")] {
        packs.add(Op::Upsert, &[Some(Value::Int(id)), Some(Value::Bytes(name.into()))])?;
    }
    for pack in packs.finish() {
        put(&session, &pack).await?;
    }
    commit(&session).await
}

/// Sends a pack until it is acknowledged. In doubt the same pack must be sent again: only then it
/// is known to be in the session, and once.
async fn put(session: &Session, pack: &Pack) -> Result<(), TunnelError> {
    for _ in 1..ATTEMPTS {
        match session.put_pack(pack).await {
            Err(error) if error.is_in_doubt() => {}
            settled => return settled,
        }
    }
    session.put_pack(pack).await
}

/// Commits until the outcome is known: a commit is idempotent.
async fn commit(session: &Session) -> Result<SessionStatus, TunnelError> {
    for _ in 1..ATTEMPTS {
        match session.commit().await {
            Err(error) if error.is_in_doubt() => {}
            Ok(SessionStatus::Committing) => {}
            settled => return settled,
        }
    }
    session.commit().await
}

/// A real program waits between attempts, longer each time.
const ATTEMPTS: u32 = 5;
