//! Loses a process between a checkpoint and its completion, and restores: the rows are committed
//! once, with the rows that are replayed.
//!
//! ```sh
//! cargo run --release -- serve                                               # prints its endpoint
//! cargo run --release -p upsert-sink --example restore -- ENDPOINT DIRECTORY
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch};
use upsert_sink::{
    Catalog, Checkpoint, ColumnType, Components, NewColumn, NewTable, Plugin, Settings, Sink,
};

/// The table.
pub(crate) const TABLE: &str = "restored";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("write an endpoint and a directory: restore http://… /tmp/sink".into());
    };
    restore(&endpoint, Path::new(&directory)).await?;
    println!("rows 1 to 4 of {TABLE} are committed, each once");
    Ok(())
}

/// The engine's input: a row for each number.
fn input(numbers: std::ops::Range<i64>) -> Result<RecordBatch, Box<dyn Error>> {
    let ids: ArrayRef = Arc::new(numbers.collect::<Int64Array>());
    Ok(RecordBatch::try_from_iter([("id", ids)])?)
}

/// Fails after a checkpoint was stored, and goes on from it.
pub(crate) async fn restore(endpoint: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    let settings = Settings::local(endpoint, TABLE, directory.join("journal"))?;
    let catalog = Catalog::new(&settings, &Components::system());
    let columns = vec![NewColumn::new("id", ColumnType::BigInt)];
    let key = vec![String::from("id")];
    catalog.create_table(&NewTable::new(TABLE.parse()?, columns, key, 4)).await?;
    let plugin = Plugin::embedded()?; // compiled once, for every sink of this process
    let schema = input(1..2)?.schema();

    let sink = Sink::builder(plugin.clone(), settings.clone()).schema(Arc::clone(&schema));
    let sink = sink.open().await?;
    sink.write(&input(1..3)?, &[]).await?;
    let stored = sink.checkpoint(1).await?.to_bytes(); // the engine stores it, at input position 3
    sink.write(&input(3..4)?, &[]).await?; // no checkpoint holds this row
    drop(sink); // the process dies: nobody has said that checkpoint 1 is complete

    let checkpoint = Checkpoint::from_bytes(&stored)?;
    let sink = Sink::builder(plugin, settings).schema(schema).restore(Some(checkpoint));
    let sink = sink.open().await?; // rows 1 and 2 are committed now; row 3 is gone
    sink.write(&input(3..5)?, &[]).await?; // the engine replays from its position
    sink.checkpoint(2).await?;
    sink.checkpoint_completed(2).await?;
    sink.committed(2).await?;
    sink.close().await?;
    Ok(())
}
