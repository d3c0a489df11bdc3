//! One value of the table, in memory.
//!
//! `decode` hands them out and `value_encode` takes them; the hot path from batch to record does
//! without it, except for nested types. Invariant: a value alone does not know its type; `fits`
//! says whether it is one of a column's.

use alloc::vec::Vec;

use crate::schema::ColumnType;

/// A value that is not null. Null is `None` of `Option<Value>`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A value of array.
    Array(Vec<Option<Self>>),
    /// A value of boolean.
    Bool(bool),
    /// A value of string, varchar, char, json (UTF-8) or binary.
    Bytes(Vec<u8>),
    /// A value of date: days since 1970-01-01.
    Date(i64),
    /// A value of datetime: milliseconds since 1970-01-01T00:00:00 UTC.
    Datetime(i64),
    /// A value of interval_day_time.
    DayTime {
        /// Whole seconds, rounded down.
        seconds: i64,
        /// Nanoseconds after them. Ours are 0 to 999,999,999; other clients may write negative
        /// ones.
        nanos: i32,
    },
    /// A value of decimal: the number times ten to the power of the column's scale.
    Decimal(i128),
    /// A value of double.
    Double(f64),
    /// A value of float.
    Float(f32),
    /// A value of bigint, int, smallint or tinyint.
    Int(i64),
    /// A value of map, in the order of the row.
    Map(Vec<(Self, Option<Self>)>),
    /// A value of struct: one for each field.
    Struct(Vec<Option<Self>>),
    /// A value of timestamp or timestamp_ntz.
    Timestamp {
        /// Whole seconds since 1970-01-01T00:00:00, rounded down.
        seconds: i64,
        /// Nanoseconds after them, 0 to 999,999,999.
        nanos: u32,
    },
    /// A value of interval_year_month: months.
    YearMonth(i64),
}

impl Value {
    /// Whether this is a value of `column`: the variant, and the number of a struct's fields.
    /// Ranges and lengths are not looked at.
    pub fn fits(&self, column: &ColumnType) -> bool {
        match (self, column) {
            (Self::Bool(_), ColumnType::Boolean)
            | (Self::Bytes(_), ColumnType::Binary)
            | (Self::Date(_), ColumnType::Date)
            | (Self::Datetime(_), ColumnType::Datetime)
            | (Self::DayTime { .. }, ColumnType::IntervalDayTime)
            | (Self::Decimal(_), ColumnType::Decimal { .. })
            | (Self::Double(_), ColumnType::Double)
            | (Self::Float(_), ColumnType::Float)
            | (Self::Timestamp { .. }, ColumnType::Timestamp | ColumnType::TimestampNtz)
            | (Self::YearMonth(_), ColumnType::IntervalYearMonth) => true,
            (Self::Bytes(_), text) => text.is_text(),
            (Self::Int(_), integer) => integer.integer_range().is_some(),
            (Self::Array(elements), ColumnType::Array(element)) => all_fit(elements, element),
            (Self::Map(entries), ColumnType::Map(key, value)) => {
                entries.iter().all(|(k, v)| k.fits(key) && v.as_ref().is_none_or(|v| v.fits(value)))
            }
            (Self::Struct(values), ColumnType::Struct(fields)) => {
                values.len() == fields.len()
                    && values
                        .iter()
                        .zip(fields)
                        .all(|(value, (_, field))| value.as_ref().is_none_or(|v| v.fits(field)))
            }
            _ => false,
        }
    }
}

fn all_fit(elements: &[Option<Value>], column: &ColumnType) -> bool {
    elements.iter().flatten().all(|element| element.fits(column))
}
