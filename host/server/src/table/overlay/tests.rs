//! Whatever fits into memory, the same rows come out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow_array::Int64Array;
use upsert_sink_format::record::{Op, Value, encode_partial, pack_trailer};
use upsert_sink_format::schema::{ColumnType, TableColumn, TableSchema};

use super::*;
use crate::components::simulated::SimulatedDirectories;
use crate::components::{Access, Directories, Directory};
use crate::spool;
use crate::spool::{Frame, Spool};
use crate::table::catalog::TableFile;
use crate::table::delta;
use crate::table::merge::KEY_BYTES_MAX;
use crate::table::rows::query_schema;

/// Key, then two columns.
type Stored = BTreeMap<i64, [Option<i64>; 2]>;

const KEYS: i64 = 300;
const ROUNDS: u64 = 5;

fn table() -> TableSchema {
    let column = |name: &str| TableColumn {
        name: name.into(),
        column_type: ColumnType::BigInt,
        nullable: name != "id",
    };
    TableSchema {
        name: "t".into(),
        columns: vec![column("id"), column("a"), column("b")],
        partition_columns: vec![],
        key: vec![0],
        buckets: 1,
    }
}

/// Writes a round of rows, and folds them.
async fn delta_file(
    directory: &dyn Directory,
    spool: &Spool,
    round: u64,
    stored: &mut Stored,
) -> Arc<TableFile> {
    let (table, mut rng) = (table(), fastrand::Rng::with_seed(round));
    let (mut body, mut crcs) = (Vec::new(), Vec::new());
    for n in 0..KEYS {
        let (id, value) = (rng.i64(0..KEYS), n + 1_000 * round.cast_signed());
        let (op, set): (Op, &[i64]) = match rng.u8(..8) {
            0 => (Op::Delete, &[]),
            1 => (Op::Upsert, &[]),
            2 | 3 => (Op::Upsert, &[1, 2]),
            4 | 5 => (Op::Upsert, &[1]),
            _ => (Op::Upsert, &[2]),
        };
        let values = [Some(Value::Int(id)), Some(Value::Int(value)), None];
        crcs.push(encode_partial(&table.column_types(), &values, op, set, &mut body));
        if op == Op::Delete {
            stored.remove(&id);
            continue;
        }
        let row = stored.entry(id).or_default();
        for (at, value) in [Some(value), None].into_iter().enumerate() {
            if set.is_empty() || set.contains(&(at as i64 + 1)) {
                row[at] = value;
            }
        }
    }
    pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
    let records = u32::try_from(KEYS).expect("few");
    let frame = Frame::Pack { session: "s", bucket: 0, records, body: &body };
    let packs = [(0, vec![spool.append(&frame).await.expect("spooled")])].into();
    let path = format!("data/{round}.parquet");
    let types = table.column_types();
    let file = delta::write(directory, spool, (&table, true), &types, &packs, path).await;
    Arc::new(file.expect("written"))
}

#[tokio::test]
async fn rows_that_do_not_fit_into_memory_are_merged_all_the_same() {
    let disk = SimulatedDirectories::new();
    let directory = disk.open(Path::new("/d"), Access::Serve).expect("an empty disk");
    let recovered = spool::recover(&*directory, &|_| false).await.expect("nothing there");
    let spool = recovered.into_spool(Arc::clone(&directory), 1 << 20).await.expect("begun");
    let (mut files, mut stored) = (Vec::new(), Stored::new());
    for round in 0..ROUNDS {
        let file = delta_file(&*directory, &spool, round, &mut stored).await;
        files.push(OpenTableFile::open(directory.objects(), file).await.expect("a delta file"));
    }
    let runs: Vec<_> = files.iter().map(|file| (file, file.file.runs[0])).collect();
    for (key_bytes_max, group_bytes_max) in
        [(KEY_BYTES_MAX, GROUP_BYTES_MAX), (2_000, GROUP_BYTES_MAX), (KEY_BYTES_MAX, 4_000), (0, 0)]
    {
        let scan = Scan {
            objects: directory.objects(),
            table: Arc::new(table()),
            projection: vec![2, 0, 1],
            schema: Arc::new(query_schema(&table()).project(&[2, 0, 1]).expect("columns")),
            key_bytes_max,
        };
        let overlay = Overlay { group_bytes_max, ..Overlay::new(&scan, &runs, &[]) };
        let (send, mut receive) = tokio::sync::mpsc::channel(10_000);
        assert!(overlay.send(&send).await.expect("merged"));
        drop(send);
        let mut found = Stored::new();
        while let Some(batch) = receive.recv().await {
            let batch = batch.expect("a batch");
            let column = |at: usize| {
                let array = batch.column(at).as_any().downcast_ref::<Int64Array>();
                array.expect("integers").clone()
            };
            let (b, id, a) = (column(0), column(1), column(2));
            for row in 0..batch.num_rows() {
                let value = |of: &Int64Array| of.is_valid(row).then(|| of.value(row));
                let before = found.insert(id.value(row), [value(&a), value(&b)]);
                assert!(before.is_none(), "key {} came twice", id.value(row));
            }
        }
        assert_eq!(found, stored, "{key_bytes_max} {group_bytes_max}");
    }
}
