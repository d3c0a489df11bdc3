//! A column of rows as a user declares it: `name TYPE`, with `NOT NULL` or without.
//!
//! Read from job files, before anything is opened; a sink then gets name and type. Invariant: what
//! is read is read to its end, and a refusal shows the text as it was written.

use alloc::format;
use alloc::string::{String, ToString};

use super::row_type::RowType;
use super::type_text::{DEPTH_MAX, TypeText};
use crate::error::Error;

/// A declared column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowColumn {
    /// Its name, in backticks or without.
    pub name: String,
    /// Its type.
    pub row_type: RowType,
    /// Whether a row may leave it empty.
    pub nullable: bool,
}

impl RowColumn {
    /// Reads one column.
    ///
    /// Errors: `InvalidConfig` for a text that is none, with what it should be.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::config(format!("{text:?}"), why);
        let mut cursor = TypeText::new(text);
        let name = cursor.name().ok_or_else(|| wrong("write `name TYPE`"))?;
        let row_type = RowType::declared(&mut cursor).ok_or_else(|| wrong(&type_rule()))?;
        let rest = [cursor.word(), cursor.word()];
        let nullable = match [rest[0].as_str(), rest[1].as_str()] {
            ["", ""] => true,
            ["not", "null"] => false,
            _ => return Err(wrong(AFTER_TYPE)),
        };
        if !cursor.is_at_end() {
            return Err(wrong(AFTER_TYPE));
        }
        Ok(Self { name, row_type, nullable })
    }
}

fn type_rule() -> String {
    [
        "the type is not known here; write BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, \
         DECIMAL(p, s) with p up to 38, STRING, CHAR(n), VARCHAR(n), JSON, BYTES, BINARY, DATE, \
         TIME, DATETIME, TIMESTAMP(p), TIMESTAMP_NTZ(p), TIMESTAMP_LTZ(p) with p up to 9, \
         INTERVAL YEAR TO MONTH, INTERVAL DAY TO SECOND, or ARRAY<>, MAP<,>, ROW<name type> of \
         these, nested at most ",
        &DEPTH_MAX.to_string(),
        " deep",
    ]
    .concat()
}

const AFTER_TYPE: &str = "only NOT NULL may follow the type";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        RowColumn::parse(&format!("c {text}")).expect(text).row_type.to_string()
    }

    #[test]
    fn the_names_of_users_are_read_too() {
        for (text, row_type) in [
            ("bigint", "BIGINT"),
            ("Integer", "INT"),
            ("DECIMAL", "DECIMAL(38, 18)"),
            ("DECIMAL(5)", "DECIMAL(5, 0)"),
            ("JSON", "STRING"),
            ("TIME(3)", "STRING"),
            ("VARBINARY(16)", "BYTES"),
            ("DATETIME", "TIMESTAMP_LTZ(3)"),
            ("TIMESTAMP_NTZ", "TIMESTAMP(6)"),
            ("TIMESTAMP(4)", "TIMESTAMP(6)"),
            ("TIMESTAMP_LTZ(1)", "TIMESTAMP_LTZ(3)"),
            ("STRUCT<a: INT, b ROW<c STRING>>", "ROW<a INT, b ROW<c STRING>>"),
            ("MAP<STRING, ARRAY<INT>>", "MAP<STRING, ARRAY<INT>>"),
        ] {
            assert_eq!(read(text), row_type);
        }
    }

    #[test]
    fn names_and_nullability_are_kept() {
        let column = RowColumn::parse(" `odd name`  INT  not  null ").expect("valid");
        assert_eq!((column.name.as_str(), column.nullable), ("odd name", false));
        assert!(RowColumn::parse("day STRING").expect("valid").nullable);
    }

    #[test]
    fn what_is_not_a_column_is_refused_with_its_text() {
        let wrong =
            ["", "x", "x BIGGINT", "x DECIMAL(99)", "x INT NULLABLE", "x ARRAY<INT", "x INT ;"];
        for text in wrong {
            let error = RowColumn::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
        let deep = format!("x {}INT{}", "ARRAY<".repeat(20), ">".repeat(20));
        let error = RowColumn::parse(&deep).expect_err("too deep").to_string();
        assert!(error.contains("nested at most 16"), "{error}");
    }
}
