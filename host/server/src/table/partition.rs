//! Partition specifications: read, shown, and turned into the paths of files.
//!
//! Routes and DDL parse them before they look into `table/catalog.rs`. Invariant: showing values
//! and parsing the result gives the same values.

use upsert_sink_format::schema::{ColumnType, TableColumn, TableSchema};

use crate::error::Refusal;

/// Reads `day='2013-01-01',hour=3`, with or without quotes and with `,` or `/` between, into values
/// in table order.
///
/// Errors: `InvalidPartitionSpec` unless it names every partition column, in the table's order,
/// with a value of its type.
pub(crate) fn parse(schema: &TableSchema, spec: &str) -> Result<Vec<String>, Refusal> {
    read(schema, spec, false)
}

/// As [`parse`], but the last columns may be missing, or all of them.
pub(crate) fn parse_prefix(schema: &TableSchema, spec: &str) -> Result<Vec<String>, Refusal> {
    read(schema, spec, true)
}

fn read(schema: &TableSchema, spec: &str, may_end: bool) -> Result<Vec<String>, Refusal> {
    let refuse = |why: String| {
        let wanted: Vec<_> =
            schema.partition_columns.iter().map(|c| format!("{}='…'", c.name)).collect();
        let wanted = match wanted.is_empty() {
            true => "the table has no partition columns, so no partition may be named".to_owned(),
            false => format!("write {}", wanted.join(",")),
        };
        Refusal::invalid_partition(format!(
            "partition {spec:?} of table {}: {why}; {wanted}",
            schema.name
        ))
    };
    let mut rest = spec.trim();
    let mut values = Vec::with_capacity(schema.partition_columns.len());
    for (at, column) in schema.partition_columns.iter().enumerate() {
        if may_end && rest.trim().is_empty() {
            break;
        }
        if at > 0 {
            rest = rest.trim_start().strip_prefix([',', '/']).unwrap_or(rest).trim_start();
        }
        let value = rest_after_name(rest, &column.name)
            .ok_or_else(|| refuse(format!("column {} is missing here: {rest:?}", column.name)))?;
        let next = schema.partition_columns.get(at + 1).map(|next| next.name.as_str());
        let (value, after) =
            split_value(value, next).ok_or_else(|| refuse("a quote is not closed".to_owned()))?;
        values.push(check_value(column, value).map_err(refuse)?);
        rest = after;
    }
    match rest.trim().is_empty() {
        true => Ok(values),
        false => Err(refuse(format!("{rest:?} is left over"))),
    }
}

/// Checks a value of a partition column, and writes it as the catalog keeps it.
pub(crate) fn check_value(column: &TableColumn, value: String) -> Result<String, String> {
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(format!("the value of {} must have 1 to {VALUE_BYTES_MAX} bytes", column.name));
    }
    match &column.column_type {
        ColumnType::TinyInt | ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt => {
            let number: Result<i64, _> = value.parse();
            number.map(|n| n.to_string()).map_err(|_| {
                format!("{value:?} is no {}, the type of {}", column.column_type, column.name)
            })
        }
        _ => Ok(value),
    }
}

/// Writes values as `day='2013-01-01',hour='3'`.
pub(crate) fn display(schema: &TableSchema, values: &[String]) -> String {
    let one = |(column, value): (&TableColumn, &String)| {
        let value = value.replace('\\', "\\\\").replace('\'', "\\'");
        format!("{}='{value}'", column.name)
    };
    let all: Vec<_> = schema.partition_columns.iter().zip(values).map(one).collect();
    all.join(",")
}

/// The path of a partition's file, safe in any file system and readable where values are.
pub(crate) fn file_path(
    schema: &TableSchema,
    table_id: &str,
    values: &[String],
    name: &str,
) -> String {
    match folder(schema, values) {
        folder if folder.is_empty() => format!("{DATA}/{table_id}/{name}.parquet"),
        folder => format!("{DATA}/{table_id}/{folder}/{name}.parquet"),
    }
}

/// Empty without partition columns.
fn folder(schema: &TableSchema, values: &[String]) -> String {
    let name = display(schema, values).replace('\'', "");
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.=,".contains(c);
    if name.len() <= 100 && name.chars().all(plain) {
        return name;
    }
    let kept: String = name.chars().filter(|c| plain(*c)).take(80).collect();
    format!("{kept}-{:08x}", crc32c::crc32c(display(schema, values).as_bytes()))
}

fn rest_after_name<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (found, rest) = text.split_at_checked(name.len())?;
    let same = found.eq_ignore_ascii_case(name);
    same.then(|| rest.trim_start().strip_prefix('='))?.map(str::trim_start)
}

/// Splits a value from what follows it. An unquoted value ends where the next column begins.
fn split_value<'a>(text: &'a str, next: Option<&str>) -> Option<(String, &'a str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'));
    let Some(quote) = quote else {
        let ends = |(at, _): &(usize, &str)| {
            next.is_some_and(|next| rest_after_name(text[at + 1..].trim_start(), next).is_some())
        };
        let end = text.match_indices([',', '/']).find(ends).map_or(text.len(), |(at, _)| at);
        return Some((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            c if c == quote => return Some((value, &text[at + 1..])),
            c => value.push(c),
        }
    }
    None
}

/// The folder of all tables' files.
pub(crate) const DATA: &str = "data";
const VALUE_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> TableSchema {
        let column = |name: &str, column_type| TableColumn {
            name: name.into(),
            column_type,
            nullable: false,
        };
        TableSchema {
            name: "t".into(),
            columns: vec![column("id", ColumnType::BigInt)],
            partition_columns: vec![
                column("day", ColumnType::String),
                column("hour", ColumnType::Int),
            ],
            key: vec![0],
            buckets: 1,
        }
    }

    #[test]
    fn quoted_and_unquoted_specifications_name_the_same_partition() {
        let expected = vec!["2013-01-01".to_owned(), "3".to_owned()];
        for spec in [
            "day='2013-01-01',hour='3'",
            "day=2013-01-01,hour=3",
            "DAY=2013-01-01/hour=03",
            " day = \"2013-01-01\" / hour = 3 ",
        ] {
            assert_eq!(parse(&schema(), spec), Ok(expected.clone()), "{spec}");
        }
    }

    #[test]
    fn a_prefix_may_leave_out_the_last_columns() {
        assert_eq!(parse_prefix(&schema(), "day='x'"), Ok(vec!["x".to_owned()]));
        assert_eq!(parse_prefix(&schema(), ""), Ok(vec![]));
        assert!(parse_prefix(&schema(), "hour=1").is_err());
        assert!(parse_prefix(&schema(), "day='x',z=1").is_err());
    }

    #[test]
    fn any_value_survives_being_shown_and_parsed() {
        for value in ["a,b", "it's", "back\\slash", "x/hour=1", "ü =?%", "\""] {
            let values = vec![value.to_owned(), "7".to_owned()];
            assert_eq!(parse(&schema(), &display(&schema(), &values)), Ok(values));
        }
    }

    #[test]
    fn a_wrong_specification_says_what_is_expected() {
        for spec in
            ["", "day='x'", "hour=1,day=2", "day='x',hour=y", "day='x,hour=1", "day='x',hour=1,z=2"]
        {
            let refusal = parse(&schema(), spec).unwrap_err();
            assert_eq!(refusal.code, "InvalidPartitionSpec");
            assert!(refusal.message.contains("write day='…',hour='…'"), "{}", refusal.message);
        }
    }

    #[test]
    fn folders_of_different_partitions_differ() {
        let folder = |day: &str| folder(&schema(), &[day.to_owned(), "1".to_owned()]);
        assert_eq!(folder("2013-01-01"), "day=2013-01-01,hour=1");
        assert_ne!(folder("a/b"), folder("ab"));
        assert_ne!(folder("a b"), folder("a:b"));
    }
}
