//! Embeds the sink: rows, one checkpoint, and the proof that they are committed.
//!
//! ```sh
//! cargo run --release -- serve                                             # prints its endpoint
//! cargo run --release -p upsert-sink --example embed -- ENDPOINT DIRECTORY
//! ```
//!
//! The directory keeps the sink's journal and the engine's checkpoint.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use upsert_sink::{Catalog, ColumnType, Components, NewColumn, NewTable, Plugin, Settings, Sink};

/// The table.
pub(crate) const TABLE: &str = "embedded";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("write an endpoint and a directory: embed http://… /tmp/sink".into());
    };
    let rows = embed(&endpoint, Path::new(&directory)).await?;
    println!("{rows} rows of {TABLE} are committed");
    Ok(())
}

/// Creates the table if it is not there, and upserts three rows exactly-once.
pub(crate) async fn embed(endpoint: &str, directory: &Path) -> Result<usize, Box<dyn Error>> {
    let settings = Settings::local(endpoint, TABLE, directory.join("journal"))?;
    create_table(&settings).await?;

    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let names: ArrayRef = Arc::new(StringArray::from(vec!["ant", "bee", "cat"]));
    let rows = RecordBatch::try_from_iter([("id", ids), ("name", names)])?;

    let sink = Sink::builder(Plugin::embedded()?, settings).schema(rows.schema()).open().await?;
    sink.write(&rows, &[]).await?; // no row kinds: all are inserts
    let checkpoint = sink.checkpoint(1).await?; // the rows are at the service, and not visible
    std::fs::write(directory.join("checkpoint"), checkpoint.to_bytes())?; // the engine's state
    sink.checkpoint_completed(1).await?; // now they may become visible
    sink.committed(1).await?; // and now they are
    sink.close().await?;
    Ok(rows.num_rows())
}

async fn create_table(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let catalog = Catalog::new(settings, &Components::system());
    let columns =
        vec![NewColumn::new("id", ColumnType::BigInt), NewColumn::new("name", ColumnType::String)];
    let key = vec![String::from("id")];
    catalog.create_table(&NewTable::new(TABLE.parse()?, columns, key, 4)).await?;
    Ok(())
}
