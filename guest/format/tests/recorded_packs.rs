//! Every pack that the vendor's clients sent uncompressed decodes to its rows, and is written again
//! as Java wrote it.
//!
//! Reads `tests/fixtures`; compressed bodies are read by the server's tests, since core does not
//! decompress. Invariant: all 92 uncompressed packs of the 118 are checked.

use serde_json::{Map, Value as Json, json};
use upsert_sink_format::record::{
    DecodedRecord, Op, Value, decimal_text, decode_pack, encode_partial, pack_trailer,
};
use upsert_sink_format::schema::ColumnType;

struct Recorded {
    name: String,
    columns: Vec<(String, ColumnType)>,
    rows: Vec<Json>,
    body: Vec<u8>,
}

fn read(path: &str) -> Json {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/");
    let text = std::fs::read_to_string(format!("{root}{path}")).expect("it is in the repository");
    serde_json::from_str(&text).expect("it is JSON")
}

fn uncompressed() -> Vec<Recorded> {
    let all = read("decoded_packs.json");
    let all = all.as_object().expect("packs by name");
    assert_eq!(all.len(), 118);
    let raw = all.iter().filter(|(_, pack)| pack["content_encoding"].is_null());
    raw.map(|(name, pack)| {
        let columns = pack["schema"].as_array().expect("columns").iter().map(|column| {
            let text = column[1].as_str().expect("a type");
            (column[0].as_str().expect("a name").into(), ColumnType::parse(text).expect(text))
        });
        let exchange = read(&format!("exchanges/{name}"));
        let hex = exchange["body_hex"].as_str().expect("a body");
        let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
        Recorded {
            name: name.clone(),
            columns: columns.collect(),
            rows: pack["rows"].as_array().expect("rows").clone(),
            body: (0..hex.len()).step_by(2).map(byte).collect(),
        }
    })
    .collect()
}

fn decode(pack: &Recorded) -> Vec<DecodedRecord> {
    let columns: Vec<_> = pack.columns.iter().map(|(_, column)| column.clone()).collect();
    let mut records = Vec::new();
    let count = decode_pack(&pack.body, &columns, &mut |record| {
        records.push(record);
        Ok(())
    });
    assert_eq!(count.map(|count| count as usize), Ok(records.len()), "{}", pack.name);
    records
}

/// A record as the fixture writes rows.
fn as_json(columns: &[(String, ColumnType)], record: &DecodedRecord) -> Json {
    let mut row = Map::new();
    for ((name, column), value) in columns.iter().zip(&record.values) {
        if value.is_some() {
            row.insert(name.clone(), value_as_json(column, value.as_ref()));
        }
    }
    row.insert("__operation".into(), json!(if record.op == Op::Upsert { 85 } else { 68 }));
    row.insert("__value_cols".into(), json!(record.value_columns));
    Json::Object(row)
}

fn value_as_json(column: &ColumnType, value: Option<&Value>) -> Json {
    match (column, value) {
        (_, None) => Json::Null,
        (_, Some(Value::Bool(value))) => json!(value),
        (
            _,
            Some(
                Value::Int(value)
                | Value::Date(value)
                | Value::Datetime(value)
                | Value::YearMonth(value),
            ),
        ) => json!(value),
        (_, Some(Value::Float(value))) => json!(value),
        (_, Some(Value::Double(value))) => json!(value),
        (ColumnType::Decimal { scale, .. }, Some(Value::Decimal(unscaled))) => {
            json!(decimal_text(*unscaled, *scale))
        }
        (ColumnType::Binary, Some(Value::Bytes(bytes))) => {
            json!(bytes.iter().fold(String::from("hex:"), |text, byte| format!("{text}{byte:02x}")))
        }
        (_, Some(Value::Bytes(bytes))) => json!(std::str::from_utf8(bytes).expect("UTF-8")),
        (_, Some(Value::Timestamp { seconds, nanos })) => json!([seconds, nanos]),
        (_, Some(Value::DayTime { seconds, nanos })) => json!([seconds, nanos]),
        (ColumnType::Array(element), Some(Value::Array(values))) => {
            values.iter().map(|value| value_as_json(element, value.as_ref())).collect()
        }
        (ColumnType::Map(to_key, to_value), Some(Value::Map(entries))) => entries
            .iter()
            .map(|(key, value)| {
                json!([value_as_json(to_key, Some(key)), value_as_json(to_value, value.as_ref())])
            })
            .collect(),
        (ColumnType::Struct(fields), Some(Value::Struct(values))) => Json::Object(
            fields
                .iter()
                .zip(values)
                .map(|((name, field), value)| (name.clone(), value_as_json(field, value.as_ref())))
                .collect(),
        ),
        (column, value) => panic!("{value:?} is no {column}"),
    }
}

#[test]
fn every_uncompressed_pack_decodes_to_its_rows() {
    let packs = uncompressed();
    for pack in &packs {
        let rows: Vec<Json> =
            decode(pack).iter().map(|record| as_json(&pack.columns, record)).collect();
        assert_eq!(rows, pack.rows, "{}", pack.name);
    }
    assert_eq!(packs.len(), 92);
}

#[test]
fn javas_rows_are_written_byte_for_byte() {
    let (mut compared, mut partial) = (0, 0);
    for pack in uncompressed().iter().filter(|pack| pack.name.contains("java")) {
        let records = decode(pack);
        partial += records.iter().filter(|record| record.is_partial()).count();
        let columns: Vec<_> = pack.columns.iter().map(|(_, column)| column.clone()).collect();
        let mut body = Vec::new();
        let crcs: Vec<u32> = records
            .iter()
            .map(|DecodedRecord { op, values, value_columns }| {
                encode_partial(&columns, values, *op, value_columns, &mut body)
            })
            .collect();
        pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
        assert_eq!(body, pack.body, "{}", pack.name);
        compared += 1;
    }
    assert!(compared >= 40, "only {compared} packs were compared");
    assert_eq!(partial, 4, "all that was recorded of partial update");
}

#[test]
fn a_changed_byte_never_passes_for_the_same_rows() {
    for pack in uncompressed().iter().step_by(7) {
        let columns: Vec<_> = pack.columns.iter().map(|(_, column)| column.clone()).collect();
        let good = decode(pack);
        for at in 0..pack.body.len() {
            let mut body = pack.body.clone();
            body[at] ^= 1 << (at % 8);
            let mut records = Vec::new();
            let decoded = decode_pack(&body, &columns, &mut |record| {
                records.push(record);
                Ok(())
            });
            // The high bits of a checksum written in ten bytes are ignored, as the vendor's server
            // must.
            assert!(decoded.is_err() || records == good, "{} byte {at}", pack.name);
        }
        for end in 0..pack.body.len() {
            let decoded = decode_pack(&pack.body[..end], &columns, &mut |_| Ok(()));
            assert!(decoded.is_err(), "{} cut at {end}", pack.name);
        }
    }
}
