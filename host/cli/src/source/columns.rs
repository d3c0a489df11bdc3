//! JSON values as Arrow arrays of the declared types.
//!
//! `json.rs` and `debezium.rs` call it once per batch, `csv.rs` once per column. Invariant: a
//! value is converted exactly or refused; a fault names the row, the column, the value and the
//! type.

use std::sync::Arc;

use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray, RecordBatch,
    RecordBatchOptions, StringArray, StructArray,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, FieldRef, Fields, SchemaRef, TimeUnit};
use base64::Engine;

use super::value::Json;

/// A value that its column cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ColumnFault {
    /// Which of the objects.
    pub(crate) row: usize,
    /// The mistake.
    pub(crate) message: String,
}

impl ColumnFault {
    /// The fault, with the name of its column.
    pub(crate) fn of_column(self, name: &str) -> Self {
        Self { message: format!("column `{name}`: {}", self.message), ..self }
    }
}

/// Builds one row per object. A field that is missing is null.
pub(crate) fn build_batch(
    schema: &SchemaRef,
    objects: &[&Json<'_>],
) -> Result<RecordBatch, ColumnFault> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        columns.push(build_field(field, objects)?);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(objects.len()));
    let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &rows);
    Ok(batch.expect("each column has its field's type, and every field is nullable"))
}

/// Builds one column of its values, one for each row.
pub(crate) fn build_column(field: &FieldRef, values: &[Json<'_>]) -> Result<ArrayRef, ColumnFault> {
    let values: Vec<Option<&Json<'_>>> = values.iter().map(present).collect();
    build_named(field, &values)
}

fn build_field(field: &FieldRef, objects: &[&Json<'_>]) -> Result<ArrayRef, ColumnFault> {
    let values: Vec<Option<&Json<'_>>> =
        objects.iter().map(|object| object.field(field.name()).and_then(present)).collect();
    build_named(field, &values)
}

fn build_named(field: &FieldRef, values: Values<'_, '_>) -> Result<ArrayRef, ColumnFault> {
    build(field.data_type(), values).map_err(|fault| fault.of_column(field.name()))
}

type Values<'v, 'a> = &'v [Option<&'v Json<'a>>];
type Built = Result<ArrayRef, ColumnFault>;

fn build(data_type: &DataType, values: Values<'_, '_>) -> Built {
    match data_type {
        DataType::Boolean => Ok(Arc::new(BooleanArray::from(convert(values, data_type, boolean)?))),
        DataType::Int8 => primitive::<Int8Type>(values, data_type, integer),
        DataType::Int16 => primitive::<Int16Type>(values, data_type, integer),
        DataType::Int32 => primitive::<Int32Type>(values, data_type, integer),
        DataType::Int64 => primitive::<Int64Type>(values, data_type, integer),
        DataType::Float32 => primitive::<Float32Type>(values, data_type, float),
        DataType::Float64 => primitive::<Float64Type>(values, data_type, float),
        DataType::Decimal128(precision, scale) => {
            let parse = |value: &Json<'_>| decimal(value, *precision, *scale);
            primitive::<Decimal128Type>(values, data_type, parse)
        }
        DataType::Utf8 => {
            let texts = convert(values, data_type, text)?;
            Ok(Arc::new(StringArray::from_iter(texts)))
        }
        DataType::Binary => {
            let bytes = convert(values, data_type, base64)?;
            Ok(Arc::new(BinaryArray::from_iter(bytes)))
        }
        DataType::Date32 => primitive::<Date32Type>(values, data_type, date),
        DataType::Timestamp(unit, _) => timestamps(*unit, data_type, values),
        DataType::List(element) => list(element, values),
        DataType::Map(entries, _) => map(entries, values),
        DataType::Struct(fields) => structs(fields, values),
        other => {
            Err(ColumnFault { row: 0, message: format!("type {other} cannot be read from JSON") })
        }
    }
}

fn convert<'v, 'a, T>(
    values: Values<'v, 'a>,
    data_type: &DataType,
    parse: impl Fn(&'v Json<'a>) -> Option<T>,
) -> Result<Vec<Option<T>>, ColumnFault> {
    let mut converted = Vec::with_capacity(values.len());
    for (row, value) in values.iter().enumerate() {
        converted.push(match value {
            None => None,
            Some(value) => Some(parse(value).ok_or_else(|| mismatch(row, value, data_type))?),
        });
    }
    Ok(converted)
}

fn mismatch(row: usize, value: &Json<'_>, data_type: &DataType) -> ColumnFault {
    let value = value.describe();
    let name = describe(data_type);
    ColumnFault {
        row,
        message: format!("{value} is no {name}; correct the value or the column's type"),
    }
}

/// An Arrow type in the words of a job file.
fn describe(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => String::from("TINYINT (-128 to 127)"),
        DataType::Int16 => String::from("SMALLINT (-32768 to 32767)"),
        DataType::Int32 => String::from("INT (32 bits, no fraction)"),
        DataType::Int64 => String::from("BIGINT (64 bits, no fraction)"),
        DataType::Float32 => String::from("FLOAT"),
        DataType::Float64 => String::from("DOUBLE"),
        DataType::Decimal128(precision, scale) => {
            let whole = i16::from(*precision) - i16::from(*scale);
            format!("DECIMAL({precision}, {scale}): {whole} digits before the point, {scale} after")
        }
        DataType::Utf8 => String::from("text in quotes"),
        DataType::Binary => String::from("text in base64"),
        DataType::Date32 => String::from("DATE (\"YYYY-MM-DD\", or days since 1970)"),
        DataType::Timestamp(unit, _) => {
            format!("timestamp (\"YYYY-MM-DD HH:MM:SS[.f]\", or {unit:?}s since 1970)")
        }
        DataType::List(_) => String::from("ARRAY"),
        DataType::Map(_, _) => String::from("MAP (an object)"),
        DataType::Struct(_) => String::from("ROW (an object)"),
        other => other.to_string(),
    }
}

fn primitive<P: ArrowPrimitiveType>(
    values: Values<'_, '_>,
    data_type: &DataType,
    parse: impl Fn(&Json<'_>) -> Option<P::Native>,
) -> Built {
    let values = convert(values, data_type, parse)?;
    let array = PrimitiveArray::<P>::from_iter(values);
    Ok(Arc::new(array.with_data_type(data_type.clone())))
}

fn boolean(value: &Json<'_>) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(*value),
        _ => None,
    }
}

fn integer<N: std::str::FromStr>(value: &Json<'_>) -> Option<N> {
    match value {
        Json::Number(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn float<N: std::str::FromStr>(value: &Json<'_>) -> Option<N> {
    match value {
        Json::Number(digits) => digits.parse().ok(),
        Json::Text(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
            text.parse().ok()
        }
        _ => None,
    }
}

fn text<'v>(value: &'v Json<'_>) -> Option<&'v str> {
    match value {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

fn base64(value: &Json<'_>) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text(value)?).ok()
}

fn date(value: &Json<'_>) -> Option<i32> {
    use arrow_cast::parse::Parser;
    match value {
        Json::Number(_) => integer(value),
        Json::Text(text) => Date32Type::parse(text),
        _ => None,
    }
}

/// A decimal as an unscaled number: no digit is dropped, except zeros at the end of the fraction.
fn decimal(value: &Json<'_>, precision: u8, scale: i8) -> Option<i128> {
    let digits = match value {
        Json::Number(digits) => digits,
        Json::Text(text) => text.as_ref(),
        _ => return None,
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let all = format!("{whole}{fraction}");
    if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut unscaled = all.parse::<i128>().ok()?;
    let mut shift = i32::from(scale).checked_add(exponent)? - i32::try_from(fraction.len()).ok()?;
    while shift < 0 && unscaled % 10 == 0 && unscaled != 0 {
        unscaled /= 10;
        shift += 1;
    }
    if unscaled != 0 {
        unscaled = unscaled.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    }
    let fits = unscaled < 10_i128.checked_pow(u32::from(precision))?;
    fits.then_some(if negative { -unscaled } else { unscaled })
}

fn timestamps(unit: TimeUnit, data_type: &DataType, values: Values<'_, '_>) -> Built {
    let parse = |value: &Json<'_>| timestamp(value, unit);
    match unit {
        TimeUnit::Second => primitive::<TimestampSecondType>(values, data_type, parse),
        TimeUnit::Millisecond => primitive::<TimestampMillisecondType>(values, data_type, parse),
        TimeUnit::Microsecond => primitive::<TimestampMicrosecondType>(values, data_type, parse),
        TimeUnit::Nanosecond => primitive::<TimestampNanosecondType>(values, data_type, parse),
    }
}

/// Text without a zone is UTC; a number counts the type's own unit since 1970, as Debezium writes
/// it.
fn timestamp(value: &Json<'_>, unit: TimeUnit) -> Option<i64> {
    let text = match value {
        Json::Number(_) => return integer(value),
        Json::Text(text) => text,
        _ => return None,
    };
    let utc: arrow_array::timezone::Tz = "+00:00".parse().expect("UTC is a zone");
    let time = arrow_cast::parse::string_to_datetime(&utc, text).ok()?;
    match unit {
        TimeUnit::Second => Some(time.timestamp()),
        TimeUnit::Millisecond => Some(time.timestamp_millis()),
        TimeUnit::Microsecond => Some(time.timestamp_micros()),
        TimeUnit::Nanosecond => time.timestamp_nanos_opt(),
    }
}

/// Where the elements of each list are, and which row each element came from.
struct Flat<T> {
    items: Vec<T>,
    rows: Vec<usize>,
    lengths: Vec<usize>,
    present: Vec<bool>,
}

fn flatten<'v, 'a, T>(
    values: Values<'v, 'a>,
    data_type: &DataType,
    items_of: impl Fn(&'v Json<'a>) -> Option<Vec<T>>,
) -> Result<Flat<T>, ColumnFault> {
    let mut flat =
        Flat { items: Vec::new(), rows: Vec::new(), lengths: Vec::new(), present: Vec::new() };
    for (row, value) in values.iter().enumerate() {
        let items = match value {
            None => Vec::new(),
            Some(value) => items_of(value).ok_or_else(|| mismatch(row, value, data_type))?,
        };
        flat.rows.extend(std::iter::repeat_n(row, items.len()));
        flat.lengths.push(items.len());
        flat.present.push(value.is_some());
        flat.items.extend(items);
    }
    Ok(flat)
}

/// A fault in an element is a fault in the row that holds it.
fn in_row(rows: &[usize], fault: ColumnFault) -> ColumnFault {
    ColumnFault { row: rows.get(fault.row).copied().unwrap_or_default(), message: fault.message }
}

fn list(element: &FieldRef, values: Values<'_, '_>) -> Built {
    let data_type = DataType::List(element.clone());
    let flat = flatten(values, &data_type, |value| match value {
        Json::Array(items) => Some(items.iter().map(present).collect()),
        _ => None,
    })?;
    let elements = build(element.data_type(), &flat.items);
    let elements = elements.map_err(|fault| in_row(&flat.rows, fault))?;
    let offsets = OffsetBuffer::from_lengths(flat.lengths);
    Ok(Arc::new(ListArray::new(element.clone(), offsets, elements, Some(flat.present.into()))))
}

fn map(entries: &FieldRef, values: Values<'_, '_>) -> Built {
    let data_type = DataType::Map(entries.clone(), false);
    let flat = flatten(values, &data_type, |value| match value {
        Json::Object(fields) => Some(fields.iter().collect()),
        _ => None,
    })?;
    let DataType::Struct(fields) = entries.data_type() else {
        return Err(ColumnFault { row: 0, message: String::from("a map's entries are no struct") });
    };
    let keys = StringArray::from_iter_values(flat.items.iter().map(|(key, _)| key.as_ref()));
    let items: Vec<Option<&Json<'_>>> =
        flat.items.iter().map(|(_, value)| present(value)).collect();
    let items = build(fields[1].data_type(), &items);
    let items = items.map_err(|fault| in_row(&flat.rows, fault))?;
    let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys), items], None);
    let offsets = OffsetBuffer::from_lengths(flat.lengths);
    let present = Some(flat.present.into());
    Ok(Arc::new(MapArray::new(entries.clone(), offsets, pairs, present, false)))
}

fn present<'v, 'a>(value: &'v Json<'a>) -> Option<&'v Json<'a>> {
    Some(value).filter(|value| !value.is_null())
}

fn structs(fields: &Fields, values: Values<'_, '_>) -> Built {
    let data_type = DataType::Struct(fields.clone());
    let is_object = |value: &Json<'_>| matches!(value, Json::Object(_)).then_some(());
    convert(values, &data_type, is_object)?;
    let objects: Vec<&Json<'_>> = values.iter().map(|value| value.unwrap_or(&Json::Null)).collect();
    let columns: Result<Vec<_>, ColumnFault> =
        fields.iter().map(|field| build_field(field, &objects)).collect();
    let present: Vec<bool> = values.iter().map(Option::is_some).collect();
    Ok(Arc::new(StructArray::new(fields.clone(), columns?, Some(present.into()))))
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;
    use crate::source::types::parse_column;
    use crate::source::value::parse;

    fn one(column: &str, json: &str) -> Result<String, String> {
        let schema = SchemaRef::new(Schema::new(vec![parse_column(column).expect("a column")]));
        let line = format!("{{\"c\":{json}}}");
        let object = parse(&line).expect("JSON");
        let batch = build_batch(&schema, &[&object]).map_err(|fault| fault.message)?;
        let text = arrow_cast::display::array_value_to_string(batch.column(0), 0);
        Ok(text.expect("printable"))
    }

    #[test]
    fn decimals_are_exact() {
        let wide = "1234567890123456789.123456789012345678";
        assert_eq!(one("c DECIMAL(38, 18)", wide), Ok(String::from(wide)));
        assert_eq!(one("c DECIMAL(5, 2)", "-1.50"), Ok(String::from("-1.50")));
        assert_eq!(one("c DECIMAL(5, 2)", "\"12e1\""), Ok(String::from("120.00")));
        assert_eq!(one("c DECIMAL(5, 2)", "1.50000"), Ok(String::from("1.50")));
        assert_eq!(one("c DECIMAL(5, 0)", "1.5e1"), Ok(String::from("15")));
    }

    #[test]
    fn a_decimal_that_does_not_fit_is_refused() {
        for json in ["1.234", "1000", "\"x\"", "\"\"", "\"1,5\"", "1e400", "true"] {
            let message = one("c DECIMAL(5, 2)", json).expect_err(json);
            assert!(
                message.contains("column `c`") && message.contains("DECIMAL(5, 2)"),
                "{message}"
            );
        }
    }

    #[test]
    fn integers_are_never_rounded() {
        assert_eq!(one("c BIGINT", "9223372036854775807"), Ok(String::from("9223372036854775807")));
        for (column, json) in
            [("c TINYINT", "128"), ("c INT", "1.5"), ("c INT", "\"1\""), ("c BIGINT", "1e3")]
        {
            assert!(one(column, json).is_err(), "{column} {json}");
        }
    }

    #[test]
    fn times_are_read_as_text_and_as_debezium_numbers() {
        let time = Ok(String::from("2013-01-01T05:15:00"));
        assert_eq!(one("c TIMESTAMP(3)", "\"2013-01-01 05:15:00\""), time);
        assert_eq!(one("c TIMESTAMP(3)", "1357017300000"), time);
        assert_eq!(one("c DATE", "15706"), Ok(String::from("2013-01-01")));
        assert_eq!(one("c DATE", "\"2013-01-01\""), Ok(String::from("2013-01-01")));
        assert!(one("c DATE", "\"yesterday\"").is_err());
    }

    #[test]
    fn nested_values_keep_their_shape() {
        let row = one(
            "c ROW<a ARRAY<INT>, m MAP<STRING, BOOLEAN>>",
            "{\"a\":[1,null],\"m\":{\"k\":true}}",
        );
        assert_eq!(row, Ok(String::from("{a: [1, ], m: {k: true}}")));
        assert!(one("c ARRAY<INT>", "[1,\"x\"]").is_err());
    }

    #[test]
    fn a_missing_field_is_null_and_a_fault_names_its_row() {
        let schema = SchemaRef::new(Schema::new(vec![parse_column("c INT").expect("a column")]));
        let (first, second) = (parse("{}").expect("JSON"), parse("{\"c\":[]}").expect("JSON"));
        let fault = build_batch(&schema, &[&first, &second]).expect_err("an array is no INT");
        assert_eq!(fault.row, 1);
    }
}
