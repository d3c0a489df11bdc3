//! The numbers of the record format: tags, wire types, meta columns.
//!
//! Shared by both encoders and `decode`; they stand nowhere else. Invariant: they are those that
//! the vendor's clients put on the wire (`tests/fixtures`).

use crate::schema::ColumnType;

/// A number of variable length, or one byte of a boolean.
pub(super) const VARINT: u32 = 0;
/// 8 bytes.
pub(super) const FIXED_64: u32 = 1;
/// A length and bytes; nested types and times have this wire type without a length.
pub(super) const DELIMITED: u32 = 2;
/// 4 bytes.
pub(super) const FIXED_32: u32 = 5;

/// Meta columns follow the table's: `__version` is the first.
pub(super) const VERSION: u32 = 1;
/// `__app_version`.
pub(super) const APP_VERSION: u32 = 2;
/// `__operation`.
pub(super) const OPERATION: u32 = 3;
/// `__key_cols`.
pub(super) const KEY_COLUMNS: u32 = 4;
/// `__value_cols`.
pub(super) const VALUE_COLUMNS: u32 = 5;

/// Ends a record; its value is the record's checksum.
pub(super) const END_RECORD: u32 = (1 << 25) - 1024;
/// How many records a pack has.
pub(super) const COUNT: u32 = (1 << 25) - 2;
/// The checksum of a pack.
pub(super) const CHECKSUM: u32 = (1 << 25) - 1;

/// A field's tag.
pub(super) const fn tag(number: u32, wire_type: u32) -> u32 {
    (number << 3) | wire_type
}

/// The wire type of a column's values.
pub(super) const fn wire_type(column: &ColumnType) -> u32 {
    match column {
        ColumnType::BigInt
        | ColumnType::Int
        | ColumnType::SmallInt
        | ColumnType::TinyInt
        | ColumnType::Boolean
        | ColumnType::Date
        | ColumnType::Datetime
        | ColumnType::IntervalYearMonth => VARINT,
        ColumnType::Float => FIXED_32,
        ColumnType::Double => FIXED_64,
        ColumnType::Decimal { .. }
        | ColumnType::String
        | ColumnType::Varchar(_)
        | ColumnType::Char(_)
        | ColumnType::Binary
        | ColumnType::Timestamp
        | ColumnType::TimestampNtz
        | ColumnType::IntervalDayTime
        | ColumnType::Json
        | ColumnType::Array(_)
        | ColumnType::Map(..)
        | ColumnType::Struct(_) => DELIMITED,
    }
}
