//! The types of the table's columns, in the table's own words.
//!
//! Read once at open from the catalog or the session, then used by plan, hash and record.
//! Invariant: a `ColumnType` is one that MaxCompute has, with parameters in their bounds, nested at
//! most `DEPTH_MAX` deep.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::type_text::{DEPTH_MAX, TypeText, write_name};
use crate::error::Error;

/// The type of one column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// `bigint`, 64 bits.
    BigInt,
    /// `int`, 32 bits.
    Int,
    /// `smallint`, 16 bits.
    SmallInt,
    /// `tinyint`, 8 bits.
    TinyInt,
    /// `boolean`.
    Boolean,
    /// `float`, 32 bits.
    Float,
    /// `double`, 64 bits.
    Double,
    /// `decimal(precision,scale)`; `decimal` alone is (38,18).
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most the precision.
        scale: u8,
    },
    /// `string`, UTF-8, at most 8 MiB.
    String,
    /// `varchar(n)`, at most n characters, n up to 65535.
    Varchar(u32),
    /// `char(n)`, at most n characters, n up to 255. Not padded on the wire.
    Char(u32),
    /// `binary`, at most 8 MiB.
    Binary,
    /// `date`, days.
    Date,
    /// `datetime`, milliseconds of UTC.
    Datetime,
    /// `timestamp`, nanoseconds of UTC.
    Timestamp,
    /// `timestamp_ntz`, nanoseconds without a zone.
    TimestampNtz,
    /// `interval_year_month`, months.
    IntervalYearMonth,
    /// `interval_day_time`, nanoseconds.
    IntervalDayTime,
    /// `json`, as text.
    Json,
    /// `array<element>`; elements may be null.
    Array(Box<Self>),
    /// `map<key,value>`; values may be null, keys not.
    Map(Box<Self>, Box<Self>),
    /// `struct<name:type,…>`; fields may be null.
    Struct(Vec<(String, Self)>),
}

impl ColumnType {
    /// Reads a type as the catalog writes it; case and blanks do not matter.
    ///
    /// Errors: `InvalidConfig` for a type that is not known, wrong parameters, or nesting deeper
    /// than 16.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut cursor = TypeText::new(text);
        let parsed = parse_at(&mut cursor, 1).filter(|_| cursor.is_at_end());
        parsed.ok_or_else(|| {
            Error::config(
                format!("type {text}"),
                "not a column type of a Delta table that this sink can write; it writes bigint, \
                 int, smallint, tinyint, boolean, float, double, decimal(1..38,0..precision), \
                 string, varchar(1..65535), char(1..255), binary, date, datetime, timestamp, \
                 timestamp_ntz, interval_year_month, interval_day_time, json, and array<>, map<,>, \
                 struct<name:type> of these, at most 16 deep",
            )
        })
    }

    /// Whether its values are UTF-8 text: string, varchar, char, json.
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::String | Self::Varchar(_) | Self::Char(_) | Self::Json)
    }

    /// The least and greatest value of an integer type; none for other types.
    pub const fn integer_range(&self) -> Option<(i64, i64)> {
        match self {
            Self::BigInt => Some((i64::MIN, i64::MAX)),
            Self::Int => Some((i32::MIN as i64, i32::MAX as i64)),
            Self::SmallInt => Some((i16::MIN as i64, i16::MAX as i64)),
            Self::TinyInt => Some((i8::MIN as i64, i8::MAX as i64)),
            _ => None,
        }
    }
}

fn parse_at(cursor: &mut TypeText<'_>, depth: usize) -> Option<ColumnType> {
    if depth > DEPTH_MAX {
        return None;
    }
    let word = cursor.word();
    Some(match word.as_str() {
        "bigint" => ColumnType::BigInt,
        "int" => ColumnType::Int,
        "smallint" => ColumnType::SmallInt,
        "tinyint" => ColumnType::TinyInt,
        "boolean" => ColumnType::Boolean,
        "float" => ColumnType::Float,
        "double" => ColumnType::Double,
        "string" => ColumnType::String,
        "binary" => ColumnType::Binary,
        "date" => ColumnType::Date,
        "datetime" => ColumnType::Datetime,
        "timestamp" => ColumnType::Timestamp,
        "timestamp_ntz" => ColumnType::TimestampNtz,
        "interval_year_month" => ColumnType::IntervalYearMonth,
        "interval_day_time" => ColumnType::IntervalDayTime,
        "json" => ColumnType::Json,
        "varchar" => ColumnType::Varchar(cursor.one_argument().filter(|n| in_bounds(*n, 65535))?),
        "char" => ColumnType::Char(cursor.one_argument().filter(|n| in_bounds(*n, 255))?),
        "decimal" => parse_decimal(cursor)?,
        "array" | "map" | "struct" => parse_nested(&word, cursor, depth)?,
        _ => return None,
    })
}

fn in_bounds(length: u32, most: u32) -> bool {
    (1..=most).contains(&length)
}

fn parse_decimal(cursor: &mut TypeText<'_>) -> Option<ColumnType> {
    if !cursor.eat('(') {
        return Some(ColumnType::Decimal { precision: 38, scale: 18 });
    }
    let precision = cursor.number().filter(|p| in_bounds(*p, 38))?;
    let scale = if cursor.eat(',') { cursor.number().filter(|s| *s <= precision)? } else { 0 };
    let closed = cursor.eat(')');
    closed.then_some(ColumnType::Decimal { precision: precision as u8, scale: scale as u8 })
}

fn parse_nested(word: &str, cursor: &mut TypeText<'_>, depth: usize) -> Option<ColumnType> {
    if !cursor.eat('<') {
        return None;
    }
    let nested = match word {
        "array" => ColumnType::Array(Box::new(parse_at(cursor, depth + 1)?)),
        "map" => {
            let key = Box::new(parse_at(cursor, depth + 1)?);
            let value = if cursor.eat(',') { parse_at(cursor, depth + 1)? } else { return None };
            ColumnType::Map(key, Box::new(value))
        }
        _ => ColumnType::Struct(parse_fields(cursor, depth)?),
    };
    cursor.eat('>').then_some(nested)
}

fn parse_fields(cursor: &mut TypeText<'_>, depth: usize) -> Option<Vec<(String, ColumnType)>> {
    let mut fields = Vec::new();
    loop {
        let name = cursor.name()?;
        let field = if cursor.eat(':') { parse_at(cursor, depth + 1)? } else { return None };
        fields.push((name, field));
        if !cursor.eat(',') {
            return Some(fields);
        }
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = match self {
            Self::BigInt => "bigint",
            Self::Int => "int",
            Self::SmallInt => "smallint",
            Self::TinyInt => "tinyint",
            Self::Boolean => "boolean",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Binary => "binary",
            Self::Date => "date",
            Self::Datetime => "datetime",
            Self::Timestamp => "timestamp",
            Self::TimestampNtz => "timestamp_ntz",
            Self::IntervalYearMonth => "interval_year_month",
            Self::IntervalDayTime => "interval_day_time",
            Self::Json => "json",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Varchar(length) => return write!(f, "varchar({length})"),
            Self::Char(length) => return write!(f, "char({length})"),
            Self::Array(element) => return write!(f, "array<{element}>"),
            Self::Map(key, value) => return write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => return write_struct(fields, f),
        };
        f.write_str(plain)
    }
}

fn write_struct(fields: &[(String, ColumnType)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("struct<")?;
    for (i, (name, column_type)) in fields.iter().enumerate() {
        if i > 0 {
            f.write_str(",")?;
        }
        write_name(name, f)?;
        write!(f, ":{column_type}")?;
    }
    f.write_str(">")
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn every_type_is_written_as_it_is_read() {
        let all = "bigint int smallint tinyint boolean float double string binary date datetime \
            timestamp timestamp_ntz interval_year_month interval_day_time json decimal(20,4) \
            decimal(38,38) varchar(65535) char(255) array<bigint> map<string,array<int>> \
            struct<x:bigint,y:map<string,struct<z:json>>>";
        for text in all.split_whitespace() {
            assert_eq!(ColumnType::parse(text).expect(text).to_string(), text);
        }
        let quoted = "struct<`a b`:int,`c``d`:string>";
        assert_eq!(ColumnType::parse(quoted).expect("quoted names").to_string(), quoted);
    }

    #[test]
    fn case_and_blanks_do_not_matter() {
        let read = ColumnType::parse(" MAP < STRING , Decimal( 10 , 2 ) > ").expect("a map");
        assert_eq!(read.to_string(), "map<string,decimal(10,2)>");
        assert_eq!(ColumnType::parse("decimal").expect("decimal").to_string(), "decimal(38,18)");
    }

    #[test]
    fn what_is_no_type_is_refused() {
        let wrong = "blob decimal(39,1) decimal(4,5) decimal(0,0) varchar varchar(0) \
            varchar(65536) char(256) array<> array<bigint map<string> struct<> struct<x> \
            struct<x:int,> bigint) int>";
        for text in wrong.split_whitespace() {
            assert!(ColumnType::parse(text).is_err(), "{text}");
        }
        assert!(ColumnType::parse("").is_err());
    }

    #[test]
    fn nesting_ends_at_sixteen() {
        let nested = |depth: usize| "array<".repeat(depth) + "int" + &">".repeat(depth);
        assert!(ColumnType::parse(&nested(15)).is_ok());
        assert!(ColumnType::parse(&nested(16)).is_err());
        assert!(ColumnType::parse(&nested(100_000)).is_err());
    }
}
