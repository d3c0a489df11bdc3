//! Arrow types and the row types of `wit/README.md`: text, layout, and the plain type that others
//! are cast to.
//!
//! Used by `batch/mod.rs`. Invariant: every Arrow type either has exactly one row type, or is
//! refused with a reason.

use std::sync::Arc;

use arrow_schema::DataType;
use arrow_schema::Field;
use arrow_schema::IntervalUnit;
use arrow_schema::TimeUnit;

/// Why a type is refused, to follow "the column's type T".
pub(crate) type Refusal = String;

/// The row type as SQL writes it.
pub(crate) fn text(data_type: &DataType) -> Result<String, Refusal> {
    let normal = normal(data_type)?;
    Ok(match &normal {
        DataType::Boolean => String::from("BOOLEAN"),
        DataType::Int8 => String::from("TINYINT"),
        DataType::Int16 => String::from("SMALLINT"),
        DataType::Int32 => String::from("INT"),
        DataType::Int64 => String::from("BIGINT"),
        DataType::Float32 => String::from("FLOAT"),
        DataType::Float64 => String::from("DOUBLE"),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Utf8 => String::from("STRING"),
        DataType::Binary => String::from("BYTES"),
        DataType::Date32 => String::from("DATE"),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", digits(*unit)),
        DataType::Duration(_) => String::from("INTERVAL DAY TO SECOND"),
        DataType::Interval(IntervalUnit::YearMonth) => String::from("INTERVAL YEAR TO MONTH"),
        DataType::List(element) => format!("ARRAY<{}>", text(element.data_type())?),
        DataType::Map(entries, _) => {
            let (key, value) = entry(entries)?;
            format!("MAP<{}, {}>", text(key.data_type())?, text(value.data_type())?)
        }
        DataType::Struct(fields) => {
            let fields: Result<Vec<_>, _> = fields.iter().map(|field| field_text(field)).collect();
            format!("ROW<{}>", fields?.join(", "))
        }
        other => return Err(unknown(other)),
    })
}

/// A field of a row, with its name in back quotes where it is not a plain word.
fn field_text(field: &Field) -> Result<String, Refusal> {
    let name = field.name();
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let row_type = text(field.data_type())?;
    if starts_plain && name.chars().all(plain) {
        return Ok(format!("{name} {row_type}"));
    }
    Ok(format!("`{}` {row_type}", name.replace('`', "``")))
}

/// Layout, unit and scale of a node.
pub(crate) fn layout(normal: &DataType) -> Result<(u8, u8, i8), Refusal> {
    Ok(match normal {
        DataType::Boolean => (1, 0, 0),
        DataType::Int8 => (2, 0, 0),
        DataType::Int16 => (3, 0, 0),
        DataType::Int32 => (4, 0, 0),
        DataType::Int64 => (5, 0, 0),
        DataType::Float32 => (6, 0, 0),
        DataType::Float64 => (7, 0, 0),
        DataType::Decimal128(_, scale) => (8, 0, *scale),
        DataType::Utf8 => (9, 0, 0),
        DataType::Binary => (10, 0, 0),
        DataType::Date32 => (11, 0, 0),
        DataType::Timestamp(unit, _) => (12, unit_number(*unit), 0),
        DataType::Duration(unit) => (13, unit_number(*unit), 0),
        DataType::Interval(IntervalUnit::YearMonth) => (14, 0, 0),
        DataType::List(_) => (15, 0, 0),
        DataType::Map(..) => (16, 0, 0),
        DataType::Struct(_) => (17, 0, 0),
        other => return Err(unknown(other)),
    })
}

/// The plain type that values of this one are cast to; itself if it is plain.
pub(crate) fn normal(data_type: &DataType) -> Result<DataType, Refusal> {
    Ok(match data_type {
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            if *scale < 0 {
                return Err(String::from("has a negative scale; cast it to a scale of 0 or more"));
            }
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Date64 => DataType::Date32,
        DataType::Dictionary(_, values) => normal(values)?,
        DataType::RunEndEncoded(_, values) => normal(values.data_type())?,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::ListView(element)
        | DataType::LargeListView(element)
        | DataType::FixedSizeList(element, _) => DataType::List(normal_field(element)?),
        DataType::Map(entries, sorted) => DataType::Map(normal_field(entries)?, *sorted),
        DataType::Struct(fields) => {
            let fields: Result<Vec<_>, _> = fields.iter().map(normal_field).collect();
            DataType::Struct(fields?.into())
        }
        plain if layout(plain).is_ok() => plain.clone(),
        other => return Err(unknown(other)),
    })
}

fn normal_field(field: &Arc<Field>) -> Result<Arc<Field>, Refusal> {
    let data_type = normal(field.data_type())?;
    if data_type == *field.data_type() {
        return Ok(Arc::clone(field));
    }
    Ok(Arc::new(field.as_ref().clone().with_data_type(data_type)))
}

fn entry(entries: &Field) -> Result<(&Field, &Field), Refusal> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        _ => Err(String::from("is a map without keys and values")),
    }
}

fn digits(unit: TimeUnit) -> u8 {
    unit_number(unit) * 3
}

fn unit_number(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

fn unknown(data_type: &DataType) -> Refusal {
    let remedy = match data_type {
        DataType::Time32(_) | DataType::Time64(_) => "write it as text or as a timestamp",
        DataType::Decimal256(..) => "cast it to a decimal of at most 38 digits",
        DataType::Null => "cast it to the type that it stands for",
        DataType::Interval(_) => "cast it to a duration or to months",
        _ => "cast it to a type of wit/README.md",
    };
    format!("has no row type; {remedy}")
}
