//! The types of the engine's rows, as SQL writes them, and what each may be written to.
//!
//! Read once at open from `Task::columns`, then used by plan and batch. Invariant: a `RowType` has
//! exactly one layout in the `columns` form of a batch (`wit/README.md`), and `may_become` is that
//! page's table.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::column_type::ColumnType;
use super::type_text::{DEPTH_MAX, TypeText, write_name};
use crate::error::Error;

/// The type of one column of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowType {
    /// `BOOLEAN`.
    Boolean,
    /// `TINYINT`, 8 bits.
    TinyInt,
    /// `SMALLINT`, 16 bits.
    SmallInt,
    /// `INT`, 32 bits.
    Int,
    /// `BIGINT`, 64 bits.
    BigInt,
    /// `FLOAT`, 32 bits.
    Float,
    /// `DOUBLE`, 64 bits.
    Double,
    /// `DECIMAL(p, s)`; `DECIMAL(p)` has scale 0.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most the precision.
        scale: u8,
    },
    /// `STRING`.
    String,
    /// `CHAR(n)`; its length is not checked, the column's is.
    Char(u32),
    /// `VARCHAR(n)`; its length is not checked, the column's is.
    Varchar(u32),
    /// `BYTES`.
    Bytes,
    /// `DATE`.
    Date,
    /// `TIMESTAMP(p)` with p = 0, 3, 6 or 9; `TIMESTAMP` is `TIMESTAMP(6)`.
    Timestamp(u8),
    /// `TIMESTAMP_LTZ(p)`, likewise.
    TimestampLtz(u8),
    /// `INTERVAL YEAR TO MONTH`.
    IntervalYearMonth,
    /// `INTERVAL DAY TO SECOND`; the unit is told by each batch.
    IntervalDaySecond,
    /// `ARRAY<t>`.
    Array(Box<Self>),
    /// `MAP<k, v>`.
    Map(Box<Self>, Box<Self>),
    /// `ROW<name t, …>`.
    Row(Vec<(String, Self)>),
}

impl RowType {
    /// Reads a type as SQL writes it; case and blanks do not matter.
    ///
    /// Errors: `InvalidConfig` for a type that is not in `wit/README.md`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut cursor = TypeText::new(text);
        let parsed = parse_at(&mut cursor, 1, Names::Contract).filter(|_| cursor.is_at_end());
        parsed.ok_or_else(|| {
            Error::config(
                format!("row type {text}"),
                "not a type that rows may have; they may have BOOLEAN, TINYINT, SMALLINT, INT, \
                 BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), STRING, CHAR(n), VARCHAR(n), BYTES, DATE, \
                 TIMESTAMP(0|3|6|9), TIMESTAMP_LTZ(0|3|6|9), INTERVAL YEAR TO MONTH, INTERVAL DAY \
                 TO SECOND, and ARRAY<>, MAP<,>, ROW<name type> of these, at most 16 deep",
            )
        })
    }

    /// Reads the type of a column as a user declares it: besides the names of the contract those of
    /// the table's types, and `TIMESTAMP(p)` with any p up to 9, which is rounded up to a unit.
    /// `JSON` and `TIME` are texts; a `DECIMAL` without digits is the table's.
    ///
    /// None for a type that is neither.
    pub(super) fn declared(cursor: &mut TypeText<'_>) -> Option<Self> {
        parse_at(cursor, 1, Names::Declared)
    }

    /// Whether values of this type may be written to `column`: the table of `wit/README.md`.
    pub fn may_become(&self, column: &ColumnType) -> bool {
        match (self, column) {
            (Self::Boolean, ColumnType::Boolean)
            | (Self::Float, ColumnType::Float | ColumnType::Double)
            | (Self::Double, ColumnType::Double)
            | (Self::Bytes, ColumnType::Binary)
            | (Self::Date, ColumnType::Date)
            | (Self::IntervalYearMonth, ColumnType::IntervalYearMonth)
            | (Self::IntervalDaySecond, ColumnType::IntervalDayTime) => true,
            (Self::Timestamp(_) | Self::TimestampLtz(_), to) => {
                matches!(
                    to,
                    ColumnType::Datetime | ColumnType::Timestamp | ColumnType::TimestampNtz
                )
            }
            (Self::String | Self::Char(_) | Self::Varchar(_), to) => to.is_text(),
            (
                Self::Decimal { precision, scale },
                ColumnType::Decimal { precision: p, scale: s },
            ) => s >= scale && p - s >= precision - scale,
            (Self::Array(from), ColumnType::Array(to)) => from.may_become(to),
            (Self::Map(key, value), ColumnType::Map(to_key, to_value)) => {
                key.may_become(to_key) && value.may_become(to_value)
            }
            (Self::Row(from), ColumnType::Struct(to)) => fields_may_become(from, to),
            (from, to) => match (from.integer_bits(), to.integer_range()) {
                (Some(bits), Some((_, most))) => most >= (i64::MAX >> (64 - bits)),
                _ => false,
            },
        }
    }

    /// Whether times without a zone become instants of `column`, which readers shift by the
    /// project's zone.
    pub fn is_shifted_in(&self, column: &ColumnType) -> bool {
        match (self, column) {
            (Self::Timestamp(_), to) => matches!(to, ColumnType::Datetime | ColumnType::Timestamp),
            (Self::Array(from), ColumnType::Array(to)) => from.is_shifted_in(to),
            (Self::Map(key, value), ColumnType::Map(to_key, to_value)) => {
                key.is_shifted_in(to_key) || value.is_shifted_in(to_value)
            }
            (Self::Row(from), ColumnType::Struct(to)) => {
                from.iter().zip(to).any(|((_, from), (_, to))| from.is_shifted_in(to))
            }
            _ => false,
        }
    }

    fn integer_bits(&self) -> Option<u32> {
        match self {
            Self::TinyInt => Some(8),
            Self::SmallInt => Some(16),
            Self::Int => Some(32),
            Self::BigInt => Some(64),
            _ => None,
        }
    }
}

/// Fields are matched by position and must have the same names, without regard to case.
fn fields_may_become(from: &[(String, RowType)], to: &[(String, ColumnType)]) -> bool {
    from.len() == to.len()
        && from
            .iter()
            .zip(to)
            .all(|((a, from), (b, to))| a.eq_ignore_ascii_case(b) && from.may_become(to))
}

/// Whose names of types are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// Those of the contract only.
    Contract,
    /// Those of users, too.
    Declared,
}

fn parse_at(cursor: &mut TypeText<'_>, depth: usize, names: Names) -> Option<RowType> {
    if depth > DEPTH_MAX {
        return None;
    }
    let word = cursor.word();
    Some(match word.as_str() {
        "boolean" => RowType::Boolean,
        "tinyint" => RowType::TinyInt,
        "smallint" => RowType::SmallInt,
        "int" => RowType::Int,
        "bigint" => RowType::BigInt,
        "float" => RowType::Float,
        "double" => RowType::Double,
        "string" => RowType::String,
        "bytes" => RowType::Bytes,
        "date" => RowType::Date,
        "char" => RowType::Char(cursor.one_argument().filter(|n| *n > 0)?),
        "varchar" => RowType::Varchar(cursor.one_argument().filter(|n| *n > 0)?),
        "decimal" => parse_decimal(cursor, names)?,
        "timestamp" => RowType::Timestamp(parse_digits(cursor, names)?),
        "timestamp_ltz" => RowType::TimestampLtz(parse_digits(cursor, names)?),
        "interval" => parse_interval(cursor)?,
        "array" => RowType::Array(Box::new(parse_nested(cursor, depth, names)?)),
        "map" => parse_map(cursor, depth, names)?,
        "row" => parse_row(cursor, depth, names)?,
        other if names == Names::Declared => match other {
            "struct" => parse_row(cursor, depth, names)?,
            other => parse_alias(other, cursor)?,
        },
        _ => return None,
    })
}

/// The names of plain types that only users write.
fn parse_alias(word: &str, cursor: &mut TypeText<'_>) -> Option<RowType> {
    Some(match word {
        "integer" => RowType::Int,
        "json" => RowType::String,
        "time" => {
            skip_length(cursor)?;
            RowType::String
        }
        "binary" | "varbinary" => {
            skip_length(cursor)?;
            RowType::Bytes
        }
        "datetime" => RowType::TimestampLtz(3),
        "timestamp_ntz" => RowType::Timestamp(parse_digits(cursor, Names::Declared)?),
        _ => return None,
    })
}

/// A length in parentheses, if there is one; none if it is not a number.
fn skip_length(cursor: &mut TypeText<'_>) -> Option<()> {
    if !cursor.eat('(') {
        return Some(());
    }
    cursor.number()?;
    cursor.eat(')').then_some(())
}

fn parse_decimal(cursor: &mut TypeText<'_>, names: Names) -> Option<RowType> {
    if !cursor.eat('(') {
        let bare = RowType::Decimal { precision: 38, scale: 18 };
        return (names == Names::Declared).then_some(bare);
    }
    let precision = cursor.number().filter(|p| (1..=38).contains(p))?;
    let scale = if cursor.eat(',') { cursor.number().filter(|s| *s <= precision)? } else { 0 };
    let closed = cursor.eat(')');
    closed.then_some(RowType::Decimal { precision: precision as u8, scale: scale as u8 })
}

fn parse_digits(cursor: &mut TypeText<'_>, names: Names) -> Option<u8> {
    if !cursor.eat('(') {
        return Some(6);
    }
    let digits = cursor.number().filter(|p| *p <= 9)?;
    let unit = digits.next_multiple_of(3) as u8;
    let exact = u32::from(unit) == digits;
    (cursor.eat(')') && (exact || names == Names::Declared)).then_some(unit)
}

fn parse_interval(cursor: &mut TypeText<'_>) -> Option<RowType> {
    let words = [cursor.word(), cursor.word(), cursor.word()];
    match [words[0].as_str(), words[1].as_str(), words[2].as_str()] {
        ["year", "to", "month"] => Some(RowType::IntervalYearMonth),
        ["day", "to", "second"] => Some(RowType::IntervalDaySecond),
        _ => None,
    }
}

/// One type in angle brackets.
fn parse_nested(cursor: &mut TypeText<'_>, depth: usize, names: Names) -> Option<RowType> {
    if !cursor.eat('<') {
        return None;
    }
    let element = parse_at(cursor, depth + 1, names)?;
    cursor.eat('>').then_some(element)
}

fn parse_map(cursor: &mut TypeText<'_>, depth: usize, names: Names) -> Option<RowType> {
    if !cursor.eat('<') {
        return None;
    }
    let key = Box::new(parse_at(cursor, depth + 1, names)?);
    if !cursor.eat(',') {
        return None;
    }
    let value = Box::new(parse_at(cursor, depth + 1, names)?);
    cursor.eat('>').then_some(RowType::Map(key, value))
}

fn parse_row(cursor: &mut TypeText<'_>, depth: usize, names: Names) -> Option<RowType> {
    if !cursor.eat('<') {
        return None;
    }
    let mut fields = Vec::new();
    loop {
        let name = cursor.name()?;
        if names == Names::Declared {
            cursor.eat(':');
        }
        fields.push((name, parse_at(cursor, depth + 1, names)?));
        if !cursor.eat(',') {
            break;
        }
    }
    cursor.eat('>').then_some(RowType::Row(fields))
}

impl fmt::Display for RowType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = match self {
            Self::Boolean => "BOOLEAN",
            Self::TinyInt => "TINYINT",
            Self::SmallInt => "SMALLINT",
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Float => "FLOAT",
            Self::Double => "DOUBLE",
            Self::String => "STRING",
            Self::Bytes => "BYTES",
            Self::Date => "DATE",
            Self::IntervalYearMonth => "INTERVAL YEAR TO MONTH",
            Self::IntervalDaySecond => "INTERVAL DAY TO SECOND",
            Self::Decimal { precision, scale } => {
                return write!(f, "DECIMAL({precision}, {scale})");
            }
            Self::Char(length) => return write!(f, "CHAR({length})"),
            Self::Varchar(length) => return write!(f, "VARCHAR({length})"),
            Self::Timestamp(digits) => return write!(f, "TIMESTAMP({digits})"),
            Self::TimestampLtz(digits) => return write!(f, "TIMESTAMP_LTZ({digits})"),
            Self::Array(element) => return write!(f, "ARRAY<{element}>"),
            Self::Map(key, value) => return write!(f, "MAP<{key}, {value}>"),
            Self::Row(fields) => return write_row(fields, f),
        };
        f.write_str(plain)
    }
}

fn write_row(fields: &[(String, RowType)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("ROW<")?;
    for (i, (name, row_type)) in fields.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write_name(name, f)?;
        write!(f, " {row_type}")?;
    }
    f.write_str(">")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_row_type_is_written_as_it_is_read() {
        let all = [
            "BOOLEAN",
            "TINYINT",
            "SMALLINT",
            "INT",
            "BIGINT",
            "FLOAT",
            "DOUBLE",
            "STRING",
            "BYTES",
            "DATE",
            "INTERVAL YEAR TO MONTH",
            "INTERVAL DAY TO SECOND",
            "DECIMAL(10, 2)",
            "CHAR(3)",
            "VARCHAR(7)",
            "TIMESTAMP(0)",
            "TIMESTAMP(9)",
            "TIMESTAMP_LTZ(3)",
            "ARRAY<STRING>",
            "MAP<STRING, INT>",
            "ROW<a INT, `b c` ARRAY<ROW<d TIMESTAMP(6)>>>",
        ];
        for text in all {
            assert_eq!(RowType::parse(text).expect(text).to_string(), text);
            assert_eq!(RowType::parse(&text.to_lowercase()).expect(text).to_string(), text);
        }
        assert_eq!(RowType::parse("timestamp").expect("bare"), RowType::Timestamp(6));
        for text in
            ["TIMESTAMP(4)", "DECIMAL", "INTERVAL DAY", "ROW<>", "ROW<a>", "TEXT", "INT INT", ""]
        {
            assert!(RowType::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_widening_is_allowed() {
        let allowed = |row: &str, column: &str| {
            RowType::parse(row).expect(row).may_become(&ColumnType::parse(column).expect(column))
        };
        let integers = [
            ("TINYINT", "tinyint"),
            ("SMALLINT", "smallint"),
            ("INT", "int"),
            ("BIGINT", "bigint"),
        ];
        for (i, (row, _)) in integers.iter().enumerate() {
            for (j, (_, column)) in integers.iter().enumerate() {
                assert_eq!(allowed(row, column), j >= i, "{row} to {column}");
            }
        }
        assert!(
            allowed("FLOAT", "double") && !allowed("DOUBLE", "float") && !allowed("INT", "double")
        );
        assert!(
            allowed("DECIMAL(10, 2)", "decimal(12,4)")
                && allowed("DECIMAL(10, 2)", "decimal(10,2)")
        );
        assert!(
            !allowed("DECIMAL(10, 2)", "decimal(11,4)")
                && !allowed("DECIMAL(10, 2)", "decimal(38,1)")
        );
        for column in ["string", "char(1)", "varchar(1)", "json"] {
            assert!(
                allowed("STRING", column)
                    && allowed("CHAR(9)", column)
                    && !allowed("BYTES", column)
            );
        }
        assert!(allowed("TIMESTAMP(9)", "datetime") && !allowed("TIMESTAMP(9)", "date"));
        assert!(allowed("ARRAY<INT>", "array<bigint>") && !allowed("ARRAY<BIGINT>", "array<int>"));
        assert!(allowed("ROW<a INT, B STRING>", "struct<A:int,b:json>"));
        assert!(
            !allowed("ROW<a INT>", "struct<b:int>")
                && !allowed("ROW<a INT>", "struct<a:int,b:int>")
        );
    }

    #[test]
    fn only_times_without_a_zone_that_become_instants_are_shifted() {
        let shifted = |row: &str, column: &str| {
            let column = ColumnType::parse(column).expect(column);
            RowType::parse(row).expect(row).is_shifted_in(&column)
        };
        for column in ["timestamp", "datetime"] {
            assert!(shifted("TIMESTAMP(3)", column) && !shifted("TIMESTAMP_LTZ(3)", column));
        }
        assert!(!shifted("TIMESTAMP(9)", "timestamp_ntz") && !shifted("DATE", "date"));
        assert!(shifted("MAP<STRING, ARRAY<TIMESTAMP(3)>>", "map<string,array<datetime>>"));
        let row = "ROW<a TIMESTAMP(3), b TIMESTAMP_LTZ(3)>";
        assert!(shifted(row, "struct<a:datetime,b:datetime>"));
        assert!(!shifted(row, "struct<a:timestamp_ntz,b:datetime>"));
    }
}
