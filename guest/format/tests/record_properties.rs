//! Whatever the types and values: a record written from a batch equals the one written from values,
//! and reads back.
//!
//! Batches come from `BatchBuilder`, so that builder, parser, both encoders and the decoder are
//! held against each other. Invariant: every column type occurs, nested ones included.

use proptest::collection::vec;
use proptest::prelude::*;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowBatch, RowKind};
use upsert_sink_format::record::{
    Op, RecordBlock, RecordBytes, RecordEncoder, Value, decode_pack, decode_row, decode_rows,
    encode_row, encode_values, pack_trailer,
};
use upsert_sink_format::schema::{ColumnType, RowPlan, TableSchema};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

/// A column type and the row type whose values it takes unchanged.
fn types() -> impl Strategy<Value = (ColumnType, String)> {
    let same = |text: &'static str| (ColumnType::parse(text).expect(text), text.to_uppercase());
    let other =
        |column: &str, row: &str| (ColumnType::parse(column).expect(column), row.to_string());
    let leaf = prop::sample::select(vec![
        same("bigint"),
        same("int"),
        same("smallint"),
        same("tinyint"),
        same("boolean"),
        same("float"),
        same("double"),
        same("decimal(38,18)"),
        same("decimal(5,0)"),
        same("string"),
        same("varchar(20)"),
        same("char(20)"),
        same("date"),
        other("binary", "BYTES"),
        other("json", "STRING"),
        other("datetime", "TIMESTAMP_LTZ(3)"),
        other("timestamp", "TIMESTAMP_LTZ(9)"),
        other("timestamp_ntz", "TIMESTAMP(9)"),
        other("interval_year_month", "INTERVAL YEAR TO MONTH"),
        other("interval_day_time", "INTERVAL DAY TO SECOND"),
    ]);
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            inner
                .clone()
                .prop_map(|(c, r)| (ColumnType::Array(Box::new(c)), format!("ARRAY<{r}>"))),
            (inner.clone(), inner.clone()).prop_map(|((k, rk), (v, rv))| {
                (ColumnType::Map(Box::new(k), Box::new(v)), format!("MAP<{rk}, {rv}>"))
            }),
            vec(inner, 1..4).prop_map(|fields| {
                let name = |i| format!("f{i}");
                let rows = fields.iter().enumerate().map(|(i, (_, r))| format!("{} {r}", name(i)));
                let rows = format!("ROW<{}>", rows.collect::<Vec<_>>().join(", "));
                let columns = fields.into_iter().enumerate().map(|(i, (c, _))| (name(i), c));
                (ColumnType::Struct(columns.collect()), rows)
            }),
        ]
    })
}

/// Values of a column, some of them null.
fn nullable(column: &ColumnType) -> BoxedStrategy<Option<Value>> {
    prop::option::weighted(0.8, value(column)).boxed()
}

fn value(column: &ColumnType) -> BoxedStrategy<Value> {
    match column {
        ColumnType::Boolean => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Float => {
            any::<u32>().prop_map(|bits| Value::Float(f32::from_bits(bits))).boxed()
        }
        ColumnType::Double => {
            any::<u64>().prop_map(|bits| Value::Double(f64::from_bits(bits))).boxed()
        }
        ColumnType::Decimal { precision, .. } => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            prop_oneof![-most..=most, -9_999i128..=9_999].prop_map(Value::Decimal).boxed()
        }
        ColumnType::Date => (-719_162i64..=2_932_896).prop_map(Value::Date).boxed(),
        ColumnType::Datetime => {
            (-62_135_596_800_000i64..253_402_300_800_000).prop_map(Value::Datetime).boxed()
        }
        ColumnType::Timestamp | ColumnType::TimestampNtz => {
            (-9_000_000_000i64..9_000_000_000, 0u32..1_000_000_000)
                .prop_map(|(seconds, nanos)| Value::Timestamp { seconds, nanos })
                .boxed()
        }
        ColumnType::IntervalDayTime => (-9_000_000_000i64..9_000_000_000, 0i32..1_000_000_000)
            .prop_map(|(seconds, nanos)| Value::DayTime { seconds, nanos })
            .boxed(),
        ColumnType::IntervalYearMonth => {
            any::<i32>().prop_map(|m| Value::YearMonth(i64::from(m))).boxed()
        }
        ColumnType::Binary => vec(any::<u8>(), 0..70).prop_map(Value::Bytes).boxed(),
        ColumnType::Varchar(_) | ColumnType::Char(_) => text("\\PC{0,20}"),
        ColumnType::String | ColumnType::Json => {
            prop_oneof![text("\\PC{0,70}"), text("[ -~]{0,40}")].boxed()
        }
        ColumnType::Array(element) => vec(nullable(element), 0..4).prop_map(Value::Array).boxed(),
        ColumnType::Map(key, to) => {
            vec((value(key), nullable(to)), 0..4).prop_map(Value::Map).boxed()
        }
        ColumnType::Struct(fields) => fields
            .iter()
            .map(|(_, field)| nullable(field))
            .collect::<Vec<_>>()
            .prop_map(Value::Struct)
            .boxed(),
        integer => {
            let (least, most) = integer.integer_range().expect("only integers are left");
            prop_oneof![least..=most, (-2i64..=100)].prop_map(Value::Int).boxed()
        }
    }
}

fn text(pattern: &'static str) -> BoxedStrategy<Value> {
    pattern.prop_map(|text| Value::Bytes(text.into_bytes())).boxed()
}

#[derive(Clone, Debug)]
struct Table {
    columns: Vec<(ColumnType, String)>,
    /// By column, then by row. The key, a bigint, comes first and is not here.
    values: Vec<Vec<Option<Value>>>,
    keys: Vec<i64>,
    deletes: Vec<bool>,
}

fn tables() -> impl Strategy<Value = Table> {
    (vec(types(), 1..5), 1usize..12).prop_flat_map(|(columns, rows)| {
        let values: Vec<_> =
            columns.iter().map(|(column, _)| vec(nullable(column), rows)).collect();
        (Just(columns), values, vec(any::<i64>(), rows), vec(prop::bool::weighted(0.2), rows))
            .prop_map(|(columns, values, keys, deletes)| Table { columns, values, keys, deletes })
    })
}

impl Table {
    fn schema_and_plan(&self) -> (TableSchema, RowPlan) {
        let mut columns = vec![describe("k", "bigint")];
        let mut rows = vec![("k".into(), "BIGINT".into())];
        for (index, (column, row)) in self.columns.iter().enumerate() {
            columns.push(describe(&format!("c{index}"), &column.to_string()));
            // The batch has them the other way round.
            rows.insert(0, (format!("C{index}"), row.clone()));
        }
        let schema = TableSchema::parse(&TableDescription {
            name: "t".into(),
            columns,
            partition_columns: vec![],
            primary_key: vec!["k".into()],
            buckets: 4,
        })
        .expect("a table");
        let plan = RowPlan::new(&schema, &rows, &[]).expect("a plan");
        (schema, plan)
    }

    fn batch(&self, plan: &RowPlan) -> Vec<u8> {
        let keys = ColumnBuilder::int64(self.keys.iter().map(|key| Some(*key)));
        let columns = self.values.iter().rev().zip(&plan.row_columns);
        let kinds = [RowKind::Insert, RowKind::Delete];
        let kinds: Vec<_> = self.deletes.iter().map(|d| kinds[usize::from(*d)]).collect();
        let batch = BatchBuilder::new(self.keys.len()).kinds(&kinds);
        columns
            .fold(batch, |batch, (values, (_, row))| batch.column(ColumnBuilder::of(row, values)))
            .column(keys)
            .build()
    }

    fn op(&self, row: usize) -> Op {
        if self.deletes[row] { Op::Delete } else { Op::Upsert }
    }

    /// The values that a record of the row holds: a delete has its key only.
    fn row(&self, row: usize) -> Vec<Option<Value>> {
        let rest =
            self.values.iter().map(|column| column[row].clone().filter(|_| !self.deletes[row]));
        std::iter::once(Some(Value::Int(self.keys[row]))).chain(rest).collect()
    }
}

fn describe(name: &str, column_type: &str) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable: true }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_batch_is_written_like_its_values_and_read_back(table in tables()) {
        let (schema, plan) = table.schema_and_plan();
        let bytes = table.batch(&plan);
        let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
        let encoder = RecordEncoder::new(&schema, &plan);
        let types = schema.column_types();
        let (mut body, mut crcs) = (Vec::new(), Vec::new());
        let mut plain = Vec::new();
        for (row, in_block) in records_in_blocks(&encoder, &batch).into_iter().enumerate() {
            let crc = encoder.encode(&batch, row, &mut plain).expect("no rule is broken");
            let mut expected = Vec::new();
            let expected_crc = encode_values(&types, &table.row(row), table.op(row), &mut expected);
            prop_assert_eq!((&plain, crc), (&expected, expected_crc));
            if let Some(in_block) = in_block {
                prop_assert_eq!(in_block, (expected, expected_crc));
            }
            body.extend_from_slice(&plain);
            crcs.push(crc);
        }
        pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
        let mut row = 0;
        let count = decode_pack(&body, &types, &mut |record| {
            // The debug form tells apart what equality does not: two zeros, and a NaN from itself.
            assert_eq!(format!("{:?}", record.values), format!("{:?}", table.row(row)));
            assert_eq!((record.op, record.value_columns.len()), (table.op(row), 0));
            row += 1;
            Ok(())
        });
        prop_assert_eq!(count, Ok(table.keys.len() as u32));
    }

    #[test]
    fn a_stream_of_rows_is_read_back_and_a_changed_one_never_panics(
        table in tables(),
        at in any::<prop::sample::Index>(),
        bit in 0u32..8,
    ) {
        let types = table.schema_and_plan().0.column_types();
        let (mut stream, mut crcs, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        let rows: Vec<_> = (0..table.keys.len()).map(|row| table.row(row)).collect();
        for row in &rows {
            alone.clear();
            crcs.push(encode_row(&types, row, &mut alone));
            let read = decode_row(&alone, &types).expect("it was written");
            prop_assert_eq!(format!("{read:?}"), format!("{row:?}"));
            prop_assert!(decode_row(&alone[..alone.len() - 1], &types).is_err());
            stream.extend_from_slice(&alone);
        }
        pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut stream);
        let mut read = Vec::new();
        let count = decode_rows(&stream, &types, &mut |row| {
            read.push(row);
            Ok(())
        });
        prop_assert_eq!(count, Ok(rows.len() as u32));
        prop_assert_eq!(format!("{read:?}"), format!("{rows:?}"));
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        // A few changes mean nothing: bits of a checksum beyond its 32, which a client may set.
        let _refused_or_read = decode_rows(&stream, &types, &mut |_| Ok(()));
        let error = decode_rows(&stream[..at], &types, &mut |_| Ok(())).expect_err("it is cut");
        prop_assert!(error.at.starts_with("stream, record "), "{}", error);
    }

    #[test]
    fn a_corrupt_batch_is_refused_or_read_but_never_panics(
        table in tables(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        header_only in any::<bool>(),
        end in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let (schema, plan) = table.schema_and_plan();
        let mut bytes = table.batch(&plan);
        let reach = if header_only { bytes.len().min(240) } else { bytes.len() };
        for (at, byte) in changes {
            bytes[at.index(reach)] = byte;
        }
        if let Some(end) = end {
            bytes.truncate(end.index(bytes.len()));
        }
        read_everything(&schema, &plan, &bytes);
    }

    #[test]
    fn any_bytes_after_the_letters_never_panic(
        mut bytes in vec(any::<u8>(), 0..200),
        length in any::<bool>(),
    ) {
        let columns = vec![(ColumnType::String, "STRING".into())];
        let table = Table { columns, values: vec![], keys: vec![], deletes: vec![] };
        let (schema, plan) = table.schema_and_plan();
        bytes.splice(0..0, *b"USRB\x01\x00\x01\x00");
        if length && bytes.len() >= 32 {
            let told = bytes.len() as u64;
            bytes[24..32].copy_from_slice(&told.to_le_bytes());
        }
        read_everything(&schema, &plan, &bytes);
    }

    #[test]
    fn a_corrupt_pack_is_refused_or_read_but_never_panics(
        table in tables(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let types = table.schema_and_plan().0.column_types();
        let mut body = Vec::new();
        for row in 0..table.keys.len() {
            encode_values(&types, &table.row(row), table.op(row), &mut body);
        }
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        // Without a trailer it is always refused; the checksum of one record may still be right.
        prop_assert!(decode_pack(&body, &types, &mut |_| Ok(())).is_err());
    }

    #[test]
    fn equal_keys_have_equal_bytes_and_others_do_not(
        rows in vec(("[ab]{0,3}", "[ab]{0,3}", 0i64..3), 1..12),
    ) {
        let (schema, plan) = text_keys();
        let batch = BatchBuilder::new(rows.len())
            .column(ColumnBuilder::utf8(rows.iter().map(|row| Some(row.0.as_str()))))
            .column(ColumnBuilder::utf8(rows.iter().map(|row| Some(row.1.as_str()))))
            .column(ColumnBuilder::int64(rows.iter().map(|row| Some(row.2))))
            .build();
        let batch = RowBatch::parse(&batch, &plan).expect("a batch");
        let encoder = RecordEncoder::new(&schema, &plan);
        let merged = encoder.clone().merged(true);
        let mut block = RecordBlock::new();
        prop_assert_eq!(merged.encode_block(&batch, 0, &mut block), rows.len());
        let mut out = RecordBytes::new();
        for (a, row_a) in rows.iter().enumerate() {
            encoder.key(&batch, a, &mut out);
            let key_a = out.to_vec();
            let merge_key_a = merged.merge_key(&batch, a, None, &mut out).to_vec();
            for (b, row_b) in rows.iter().enumerate() {
                encoder.key(&batch, b, &mut out);
                prop_assert_eq!(row_a == row_b, key_a == *out);
                // One row in a block and the other written the plain way merge, too.
                let in_block = block.key(b);
                prop_assert!(in_block.is_some(), "these records begin with their keys");
                let merge_key_b = merged.merge_key(&batch, b, in_block, &mut out);
                prop_assert_eq!(row_a == row_b, merge_key_a == merge_key_b);
            }
        }
    }
}

#[test]
fn a_record_of_any_size_is_written_like_its_values_and_leaves_its_neighbours_alone() {
    let (schema, plan) = text_keys();
    let encoder = RecordEncoder::new(&schema, &plan);
    let mut key = RecordBytes::new();
    let (mut keys, mut ways) = (Vec::new(), [0, 0]);
    // Around the sizes up to which a block takes a row, and far beyond.
    let lengths = (0..700).chain(7_900..8_300).chain(15_900..16_500).chain([100_000, 1]);
    for (length, neighbours) in lengths.flat_map(|length| [(length, 0), (length, 1), (length, 3)]) {
        let text = "0123456789abcdef".repeat(length / 16 + 1);
        let texts: Vec<&str> = [&text[..length]].into_iter().chain(["n"; 3]).collect();
        let texts = &texts[..=neighbours];
        let batch = BatchBuilder::new(texts.len())
            .column(ColumnBuilder::utf8(texts.iter().map(|text| Some(*text))))
            .column(ColumnBuilder::utf8(texts.iter().map(|_| Some("b"))))
            .column(ColumnBuilder::int64((0..texts.len()).map(|row| Some(7 << (20 * row)))))
            .build();
        let batch = RowBatch::parse(&batch, &plan).expect("a batch");
        let in_blocks = records_in_blocks(&encoder, &batch);
        for (row, in_block) in in_blocks.into_iter().enumerate() {
            let text = |text: &str| Some(Value::Bytes(text.into()));
            let values = [text(texts[row]), text("b"), Some(Value::Int(7 << (20 * row)))];
            let mut expected = Vec::new();
            let crc = encode_values(&schema.column_types(), &values, Op::Upsert, &mut expected);
            ways[usize::from(in_block.is_some())] += 1;
            if let Some(in_block) = in_block {
                assert_eq!(in_block, (expected, crc), "row {row} of {length} bytes");
            }
        }
        if neighbours == 0 && length > 700 {
            encoder.key(&batch, 0, &mut key);
            keys.push(key.to_vec());
        }
    }
    assert!(ways.iter().all(|rows| *rows > 1_000), "both ways are taken: {ways:?}");
    let count = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), count, "no two keys are equal");
}

#[test]
fn a_table_of_many_columns_is_written_like_its_values() {
    let names: Vec<String> = (0..1_200).map(|index| format!("c{index}")).collect();
    let schema = TableSchema::parse(&TableDescription {
        name: "t".into(),
        columns: names.iter().map(|name| describe(name, "bigint")).collect(),
        partition_columns: vec![],
        primary_key: vec!["c0".into()],
        buckets: 4,
    })
    .expect("a table");
    for columns in [1, 127, 128, 250, 400, 1_200] {
        let names = names[..columns].iter();
        let rows: Vec<_> = names.map(|name| (name.clone(), "BIGINT".to_string())).collect();
        let plan = RowPlan::new(&schema, &rows, &[]).expect("a plan");
        let number = |index: usize| Some((index as i64 - 600) << (index % 60));
        let batch = (0..columns).fold(BatchBuilder::new(1), |batch, index| {
            batch.column(ColumnBuilder::int64([number(index)]))
        });
        let batch = batch.build();
        let batch = RowBatch::parse(&batch, &plan).expect("a batch");
        let values: Vec<_> = (0..1_200)
            .map(|index| number(index).filter(|_| index < columns).map(Value::Int))
            .collect();
        let (mut record, mut expected) = (Vec::new(), Vec::new());
        let encoder = RecordEncoder::new(&schema, &plan);
        let crc = encoder.encode(&batch, 0, &mut record).expect("no rule is broken");
        assert_eq!(encode_values(&schema.column_types(), &values, Op::Upsert, &mut expected), crc);
        assert_eq!(record, expected, "{columns} columns");
        let in_block = records_in_blocks(&encoder, &batch).remove(0);
        assert_eq!(in_block.is_some(), columns <= 400, "{columns} columns");
        if let Some(in_block) = in_block {
            assert_eq!(in_block, (expected, crc), "{columns} columns");
        }
    }
}

fn text_keys() -> (TableSchema, RowPlan) {
    let schema = TableSchema::parse(&TableDescription {
        name: "t".into(),
        columns: vec![describe("a", "string"), describe("b", "string"), describe("c", "bigint")],
        partition_columns: vec![],
        primary_key: vec!["a".into(), "b".into(), "c".into()],
        buckets: 4,
    })
    .expect("a table");
    let rows = [("a", "STRING"), ("b", "STRING"), ("c", "BIGINT")];
    let rows = rows.map(|(name, text)| (name.to_string(), text.to_string()));
    let plan = RowPlan::new(&schema, &rows, &[]).expect("a plan");
    (schema, plan)
}

/// The record of each row with its checksum, block after block; none where a row was left out.
fn records_in_blocks(encoder: &RecordEncoder, batch: &RowBatch<'_>) -> Vec<Option<(Vec<u8>, u32)>> {
    let (mut block, mut records) = (RecordBlock::new(), Vec::new());
    while records.len() < batch.rows() {
        let rows = encoder.encode_block(batch, records.len(), &mut block);
        assert!(rows > 0, "every block has a row");
        let record = |index| block.record(index).map(|(record, crc)| (record.to_vec(), crc));
        records.extend((0..rows).map(record));
    }
    records
}

/// Reads all that a batch offers, if it is one.
fn read_everything(schema: &TableSchema, plan: &RowPlan, bytes: &[u8]) {
    let Ok(batch) = RowBatch::parse(bytes, plan) else { return };
    let encoder = RecordEncoder::new(schema, plan);
    let (mut out, mut key) = (Vec::new(), RecordBytes::new());
    for (row, in_block) in records_in_blocks(&encoder, &batch).into_iter().enumerate() {
        let plain = encoder.encode(&batch, row, &mut out).ok().map(|crc| (out.clone(), crc));
        // What a block writes is what the plain way writes; what that refuses no block writes.
        assert!(in_block.is_none() || in_block == plain);
        if plain.is_some() {
            encoder.key(&batch, row, &mut key);
        }
        for column in batch.columns() {
            let _ = (column.text(row), column.bytes(row), column.integer(row));
        }
    }
}
