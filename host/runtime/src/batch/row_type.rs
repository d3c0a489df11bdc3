//! Arrow types and the row types of `wit/README.md`, both ways; and the plain type that others are
//! cast to.
//!
//! Used by `batch/mod.rs`, and by engines that name their columns in SQL's words. Invariant: every
//! Arrow type either has exactly one row type, or is refused with a reason.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, IntervalUnit, TimeUnit};
use upsert_sink_format::batch::{FormNode, Layout};
use upsert_sink_format::schema::RowType;

/// The row type of values of this Arrow type.
///
/// # Errors
/// The reason why there is none.
pub fn of(data_type: &DataType) -> Result<RowType, String> {
    let normal = normal(data_type)?;
    Ok(match &normal {
        DataType::Boolean => RowType::Boolean,
        DataType::Int8 => RowType::TinyInt,
        DataType::Int16 => RowType::SmallInt,
        DataType::Int32 => RowType::Int,
        DataType::Int64 => RowType::BigInt,
        DataType::Float32 => RowType::Float,
        DataType::Float64 => RowType::Double,
        DataType::Decimal128(precision, scale) => {
            RowType::Decimal { precision: *precision, scale: scale.unsigned_abs() }
        }
        DataType::Utf8 => RowType::String,
        DataType::Binary => RowType::Bytes,
        DataType::Date32 => RowType::Date,
        DataType::Timestamp(unit, None) => RowType::Timestamp(digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => RowType::TimestampLtz(digits(*unit)),
        DataType::Duration(_) => RowType::IntervalDaySecond,
        DataType::Interval(IntervalUnit::YearMonth) => RowType::IntervalYearMonth,
        DataType::List(element) => RowType::Array(Box::new(of(element.data_type())?)),
        DataType::Map(entries, _) => {
            let (key, value) = entry(entries)?;
            RowType::Map(Box::new(of(key.data_type())?), Box::new(of(value.data_type())?))
        }
        DataType::Struct(fields) => {
            let field = |field: &Arc<Field>| Ok((field.name().clone(), of(field.data_type())?));
            RowType::Row(fields.iter().map(field).collect::<Result<_, String>>()?)
        }
        other => return Err(unknown(other)),
    })
}

/// The Arrow type whose values have this row type: the plain one, which needs no cast.
pub fn to_arrow(row_type: &RowType) -> DataType {
    match row_type {
        RowType::Boolean => DataType::Boolean,
        RowType::TinyInt => DataType::Int8,
        RowType::SmallInt => DataType::Int16,
        RowType::Int => DataType::Int32,
        RowType::BigInt => DataType::Int64,
        RowType::Float => DataType::Float32,
        RowType::Double => DataType::Float64,
        RowType::Decimal { precision, scale } => {
            let scale = i8::try_from(*scale).expect("a scale is at most 38");
            DataType::Decimal128(*precision, scale)
        }
        RowType::String | RowType::Char(_) | RowType::Varchar(_) => DataType::Utf8,
        RowType::Bytes => DataType::Binary,
        RowType::Date => DataType::Date32,
        RowType::Timestamp(digits) => DataType::Timestamp(unit(*digits), None),
        RowType::TimestampLtz(digits) => DataType::Timestamp(unit(*digits), Some("UTC".into())),
        RowType::IntervalYearMonth => DataType::Interval(IntervalUnit::YearMonth),
        RowType::IntervalDaySecond => DataType::Duration(TimeUnit::Nanosecond),
        RowType::Array(element) => {
            DataType::List(Arc::new(Field::new("element", to_arrow(element), true)))
        }
        RowType::Map(key, value) => {
            let key = Field::new("key", to_arrow(key), false);
            let value = Field::new("value", to_arrow(value), true);
            let entries = DataType::Struct(Fields::from(vec![key, value]));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        RowType::Row(fields) => {
            let field = |(name, row_type): &(String, RowType)| {
                Field::new(name.clone(), to_arrow(row_type), true)
            };
            DataType::Struct(fields.iter().map(field).collect())
        }
    }
}

/// The head of a node of this type, without children and values.
pub(crate) fn head(normal: &DataType) -> Result<FormNode, String> {
    let layout = layout(normal).ok_or_else(|| unknown(normal))?;
    let (unit, scale) = match normal {
        DataType::Timestamp(unit, _) | DataType::Duration(unit) => (unit_number(*unit), 0),
        DataType::Decimal128(_, scale) => (0, scale.unsigned_abs()),
        _ => (0, 0),
    };
    Ok(FormNode { layout, unit, scale, children: 0, values: 0 })
}

/// The layout of a plain type; none if it is not plain.
fn layout(normal: &DataType) -> Option<Layout> {
    Some(match normal {
        DataType::Boolean => Layout::Bool,
        DataType::Int8 => Layout::Int8,
        DataType::Int16 => Layout::Int16,
        DataType::Int32 => Layout::Int32,
        DataType::Int64 => Layout::Int64,
        DataType::Float32 => Layout::Float32,
        DataType::Float64 => Layout::Float64,
        DataType::Decimal128(..) => Layout::Decimal128,
        DataType::Utf8 => Layout::Utf8,
        DataType::Binary => Layout::Binary,
        DataType::Date32 => Layout::Date32,
        DataType::Timestamp(..) => Layout::Timestamp,
        DataType::Duration(_) => Layout::Duration,
        DataType::Interval(IntervalUnit::YearMonth) => Layout::Months,
        DataType::List(_) => Layout::List,
        DataType::Map(..) => Layout::Map,
        DataType::Struct(_) => Layout::Struct,
        _ => return None,
    })
}

/// The plain type that values of this one are cast to; itself if it is plain.
pub(crate) fn normal(data_type: &DataType) -> Result<DataType, String> {
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
        plain if layout(plain).is_some() => plain.clone(),
        other => return Err(unknown(other)),
    })
}

fn normal_field(field: &Arc<Field>) -> Result<Arc<Field>, String> {
    let data_type = normal(field.data_type())?;
    if data_type == *field.data_type() {
        return Ok(Arc::clone(field));
    }
    Ok(Arc::new(field.as_ref().clone().with_data_type(data_type)))
}

fn entry(entries: &Field) -> Result<(&Field, &Field), String> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Ok((&fields[0], &fields[1])),
        _ => Err(String::from("is a map without keys and values")),
    }
}

fn digits(unit: TimeUnit) -> u8 {
    unit_number(unit) * 3
}

fn unit(digits: u8) -> TimeUnit {
    match digits {
        0 => TimeUnit::Second,
        1..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn unit_number(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

fn unknown(data_type: &DataType) -> String {
    let remedy = match data_type {
        DataType::Time32(_) | DataType::Time64(_) => "write it as text or as a timestamp",
        DataType::Decimal256(..) => "cast it to a decimal of at most 38 digits",
        DataType::Null => "cast it to the type that it stands for",
        DataType::Interval(_) => "cast it to a duration or to months",
        _ => "cast it to a type of wit/README.md",
    };
    format!("has no row type; {remedy}")
}
