//! Columns declared in job files, `name TYPE [NOT NULL]`, as Arrow fields.
//!
//! `job.rs` parses with it; `columns.rs` builds arrays of these types, and the sink maps them onto
//! the table's. Invariant: every type that parses can be built from JSON; one that cannot be is
//! refused here, by name.

use arrow_schema::Field;
use upsert_sink::{RowColumn, RowType, arrow_type};

/// Parses `name TYPE`, with `NOT NULL` or without.
///
/// Errors: what is wrong, as text.
pub(crate) fn parse_column(text: &str) -> Result<Field, String> {
    let column = RowColumn::parse(text).map_err(|error| error.to_string())?;
    fits_json(&column.row_type).map_err(|why| format!("{text:?}: {why}"))?;
    Ok(Field::new(column.name, arrow_type(&column.row_type), column.nullable))
}

/// Whether values of this type can be read from JSON and from text.
fn fits_json(row_type: &RowType) -> Result<(), &'static str> {
    match row_type {
        RowType::Map(key, value) => match **key {
            RowType::String | RowType::Char(_) | RowType::Varchar(_) => fits_json(value),
            _ => Err("the keys of a JSON object are text: use MAP<STRING, …>"),
        },
        RowType::Array(element) => fits_json(element),
        RowType::Row(fields) => fields.iter().try_for_each(|(_, field)| fits_json(field)),
        RowType::IntervalYearMonth | RowType::IntervalDaySecond => {
            Err("a span of time has no form in JSON or text here: use BIGINT and its unit")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, TimeUnit};

    use super::*;

    fn parse(text: &str) -> DataType {
        parse_column(&format!("c {text}")).expect("valid").data_type().clone()
    }

    #[test]
    fn every_type_of_the_documentation_parses() {
        assert_eq!(parse("bigint"), DataType::Int64);
        assert_eq!(parse("DECIMAL(10, 2)"), DataType::Decimal128(10, 2));
        assert_eq!(parse("VARCHAR(300)"), DataType::Utf8);
        assert_eq!(parse("TIMESTAMP(3)"), DataType::Timestamp(TimeUnit::Millisecond, None));
        let ltz = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        assert_eq!(parse("TIMESTAMP_LTZ(9)"), ltz);
        assert!(matches!(parse("MAP<STRING, ARRAY<INT>>"), DataType::Map(_, false)));
        assert!(
            matches!(parse("ROW<a INT, b ROW<c STRING>>"), DataType::Struct(f) if f.len() == 2)
        );
    }

    #[test]
    fn names_and_nullability_are_kept() {
        let field = parse_column(" `odd name`  INT  not  null ").expect("valid");
        assert_eq!((field.name().as_str(), field.is_nullable()), ("odd name", false));
        assert!(parse_column("day STRING").expect("valid").is_nullable());
    }

    #[test]
    fn what_is_not_a_column_is_refused_with_its_text() {
        for text in [
            "",
            "x",
            "x BIGGINT",
            "x DECIMAL(99)",
            "x INT NULLABLE",
            "x ARRAY<INT",
            "m MAP<INT, INT>",
            "i INTERVAL DAY TO SECOND",
        ] {
            let fault = parse_column(text).expect_err(text);
            assert!(fault.contains(&format!("{text:?}")), "{fault}");
        }
        let deep = format!("x {}INT{}", "ARRAY<".repeat(20), ">".repeat(20));
        assert!(parse_column(&deep).expect_err("too deep").contains("nested"));
    }
}
