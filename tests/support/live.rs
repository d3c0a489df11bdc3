//! One round trip through a service, whichever it is: create a table, write, commit, read, drop.
//!
//! Run by `tests/run live` on a real project, and by the suite `doctor` on the local server.
//! Invariant: no table but its own is touched, and that one is dropped whatever happened.

use std::sync::Arc;

use anyhow::{Result, ensure};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use upsert_sink::{Catalog, Components, Plugin, RowKind, Settings, Sink};

/// Makes the round trip; the settings' own table is not looked at.
///
/// # Errors
/// The service or the sink fails, or other rows are read than were written.
pub async fn round_trip(
    plugin: &Plugin,
    settings: &Settings,
    components: &Components,
) -> Result<()> {
    let mut nonce = [0; 8];
    components.entropy.fill(&mut nonce);
    let table = format!("upsert_sink_live_{:016x}", u64::from_le_bytes(nonce));
    let journal_dir = settings.journal_dir.join(&table);
    let settings = Settings { table: table.parse()?, journal_dir, ..settings.clone() };
    let catalog = Catalog::new(&settings, components);
    let name = catalog.quoted(&settings.table);
    let create = format!(
        "CREATE TABLE {name} (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) PARTITIONED BY (pt \
         STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='4')"
    );
    catalog.execute(&create).await?;
    let written = write(plugin, &settings, components).await;
    let select = format!("SELECT id, v FROM {name} WHERE pt='day'");
    let read = match written {
        Ok(()) => catalog.rows(&select).await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    catalog.execute(&format!("DROP TABLE {name}")).await?;
    let mut rows = read?;
    rows.sort();
    let text = |text: &str| Some(String::from(text));
    let expected = [vec![text("1"), text("new")], vec![text("3"), text("ä \"3\"")]];
    ensure!(rows == expected, "{expected:?} was written and committed, {rows:?} was read");
    Ok(())
}

/// Two checkpoints: rows, then an update and a delete.
async fn write(plugin: &Plugin, settings: &Settings, components: &Components) -> Result<()> {
    let first = rows(&[(1, "old"), (2, "gone"), (3, "ä \"3\"")])?;
    let builder = Sink::builder(plugin.clone(), settings.clone()).components(components.clone());
    let sink = builder.schema(first.schema()).restore(None).open().await?;
    sink.write(&first, &[]).await?;
    sink.checkpoint(1).await?;
    sink.checkpoint_completed(1).await?;
    sink.committed(1).await?;
    let second = rows(&[(1, "new"), (2, "")])?;
    sink.write(&second, &[RowKind::UpdateAfter, RowKind::Delete]).await?;
    sink.checkpoint(2).await?;
    sink.checkpoint_completed(2).await?;
    sink.committed(2).await?;
    sink.close().await?;
    Ok(())
}

fn rows(rows: &[(i64, &str)]) -> Result<RecordBatch> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "day")));
    Ok(RecordBatch::try_from_iter([("id", ids), ("v", texts), ("pt", parts)])?)
}
