//! Values of every type in the form that the suite and its clients share.
//!
//! Null is null; numbers, booleans, decimals, dates and texts are texts as people write them;
//! `binary` is in hexadecimal digits; `datetime` counts milliseconds and `timestamp` nanoseconds
//! from 1970 UTC; intervals count months or nanoseconds; arrays and structs are lists, maps are
//! lists of pairs. Invariant: each type of a Delta table is here.

use serde_json::{Value, json};

/// A type of a Delta table with a value of it.
pub(crate) struct Typed {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// The string that JDBC's `getString` gives for it; none if the driver itself cannot read it.
    pub(crate) jdbc: Option<&'static str>,
}

/// Each type with a value.
pub(crate) fn every_type() -> Vec<Typed> {
    let typed = |name, value, jdbc| Typed { name, value, jdbc };
    vec![
        typed("bigint", json!("-9223372036854775807"), Some("-9223372036854775807")),
        typed("int", json!("-2147483648"), Some("-2147483648")),
        typed("smallint", json!("-3"), Some("-3")),
        typed("tinyint", json!("127"), Some("127")),
        typed("boolean", json!("true"), Some("true")),
        typed("float", json!("1.5"), Some("1.5")),
        typed("double", json!("-2.25"), Some("-2.25")),
        typed("decimal(10,2)", json!("-123.45"), Some("-123.45")),
        typed("decimal(38,18)", json!("6.400000000000000001"), Some("6.400000000000000001")),
        typed("string", json!("größer, \"😀\"\nnext"), Some("größer, \"😀\"\nnext")),
        typed("varchar(6)", json!("größer"), Some("größer")),
        typed("char(3)", json!("abc"), Some("abc")),
        typed("binary", json!("00ff0a5c"), Some("=00=FF=0A\\")),
        typed("date", json!("2013-01-31"), Some("2013-01-31")),
        typed("datetime", json!("1357000000123"), Some("2013-01-01 00:26:40")),
        typed("timestamp", json!("1357000000123456789"), Some("2013-01-01 00:26:40.123456789")),
        typed("timestamp_ntz", json!("1357000000000000005"), None),
        typed("interval_year_month", json!("14"), Some("1-2")),
        typed("interval_day_time", json!("90061000000007"), Some("1 01:01:01.000000007")),
        typed("json", json!("{\"a\":[1,null]}"), None),
        typed("array<bigint>", json!(["1", null, "-3"]), Some("[1,null,-3]")),
        typed("map<string,int>", json!([["k", "7"], ["l", null]]), None),
        typed("struct<a:int,b:string>", json!(["1", "x"]), Some("{\"a\":1,\"b\":\"x\"}")),
    ]
}

/// The columns of a table with all types, after its key.
pub(crate) fn columns() -> Vec<Value> {
    let mut columns = vec![json!({"name": "id", "type": "bigint", "nullable": false})];
    let typed = every_type().into_iter().enumerate();
    columns.extend(typed.map(
        |(at, typed)| json!({"name": format!("c{at}"), "type": typed.name, "nullable": true}),
    ));
    columns
}

/// A row of that table with all values, or with none but its key.
pub(crate) fn row(id: i64, full: bool) -> Value {
    let mut values = serde_json::Map::new();
    values.insert("id".to_owned(), json!(id.to_string()));
    for (at, typed) in every_type().into_iter().enumerate() {
        values.insert(format!("c{at}"), if full { typed.value } else { Value::Null });
    }
    json!({"delete": false, "values": values})
}

/// The same row as clients read it.
pub(crate) fn read_row(id: i64, full: bool) -> Vec<Value> {
    let mut values = vec![json!(id.to_string())];
    let typed = every_type().into_iter();
    values.extend(typed.map(|typed| if full { typed.value } else { Value::Null }));
    values
}

/// Rows with texts of JSON written in one way: clients keep or change blanks.
pub(crate) fn same_json(rows: Vec<Value>) -> Vec<Value> {
    let at = every_type().iter().position(|typed| typed.name == "json").map_or(0, |at| at + 1);
    rows.into_iter()
        .map(|mut row| {
            if let Some(text) = row[at].as_str() {
                let parsed: Value = serde_json::from_str(text).unwrap_or(Value::Null);
                row[at] = json!(parsed.to_string());
            }
            row
        })
        .collect()
}
