//! A program that embeds the sink from its packages: writes three rows, commits them, and says so.

use std::sync::Arc;

use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch};
use upsert_sink::{Catalog, Components, Plugin, Settings, Sink};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().ok_or("the endpoint is missing")?;
    let journal = arguments.next().ok_or("the journal's directory is missing")?;
    let plugin = Plugin::embedded()?;
    println!("component {}", plugin.inspect().sha256);
    let settings = Settings::local(endpoint, "t", journal)?;
    let create = "CREATE TABLE t (id BIGINT PRIMARY KEY) TBLPROPERTIES ('transactional'='true')";
    Catalog::new(&settings, &Components::system()).execute(create).await?;
    let ids = Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef;
    let rows = RecordBatch::try_from_iter([("id", ids)])?;
    let sink = Sink::builder(plugin, settings).schema(rows.schema()).restore(None).open().await?;
    sink.write(&rows, &[]).await?;
    sink.checkpoint(1).await?;
    sink.checkpoint_completed(1).await?;
    sink.committed(1).await?;
    sink.close().await?;
    println!("committed {} rows", rows.num_rows());
    Ok(())
}
