//! Writes batches in the `columns` form: for tests, benchmarks and hosts that have no Arrow.
//!
//! The counterpart of `parse`; a row's way through the sink begins behind it. Invariant: what is
//! built from columns of a plan's types, all of the same length, is a batch that `RowBatch::parse`
//! takes.

use alloc::vec;
use alloc::vec::Vec;

use super::RowKind;
use super::column::TimeUnit;
use super::form::{FormNode, FormWriter, Layout};
use crate::record::Value;
use crate::schema::RowType;

/// A batch under construction.
///
/// ```
/// use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder, RowKind};
///
/// let bytes = BatchBuilder::new(2)
///     .kinds(&[RowKind::Insert, RowKind::Delete])
///     .column(ColumnBuilder::int64([Some(1), Some(2)]))
///     .column(ColumnBuilder::utf8([Some("a"), None]))
///     .build();
/// assert_eq!(&bytes[..4], b"USRB");
/// ```
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    rows: usize,
    kinds: Vec<u8>,
    columns: Vec<ColumnBuilder>,
}

impl BatchBuilder {
    /// A batch of so many rows, all of them inserts, without columns.
    pub fn new(rows: usize) -> Self {
        Self { rows, kinds: Vec::new(), columns: Vec::new() }
    }

    /// Sets the kind of each row.
    pub fn kinds(mut self, kinds: &[RowKind]) -> Self {
        self.kinds = kinds.iter().map(|kind| *kind as u8).collect();
        self
    }

    /// Adds the next column.
    pub fn column(mut self, column: ColumnBuilder) -> Self {
        self.columns.push(column);
        self
    }

    /// The bytes of the batch.
    ///
    /// Panics if the batch is larger than 4 GiB.
    pub fn build(&self) -> Vec<u8> {
        let mut form = FormWriter::new();
        for column in &self.columns {
            column.write_into(&mut form);
        }
        let written = form.finish(self.rows, self.columns.len(), &self.kinds);
        written.expect("a batch is smaller than 4 GiB")
    }
}

/// One column of a batch: its buffers as they will stand there, and its children.
#[derive(Clone, Debug)]
pub struct ColumnBuilder {
    layout: Layout,
    unit: u8,
    scale: u8,
    values: usize,
    buffers: Vec<Vec<u8>>,
    children: Vec<Self>,
}

impl ColumnBuilder {
    /// A column of `BOOLEAN`.
    pub fn bools(rows: impl IntoIterator<Item = Option<bool>>) -> Self {
        let (nulls, rows) = split(rows);
        Self::new(Layout::Bool, &nulls, vec![bits(&rows)])
    }

    /// A column of `TINYINT`.
    pub fn int8(rows: impl IntoIterator<Item = Option<i8>>) -> Self {
        Self::words(Layout::Int8, rows, i8::to_le_bytes)
    }

    /// A column of `SMALLINT`.
    pub fn int16(rows: impl IntoIterator<Item = Option<i16>>) -> Self {
        Self::words(Layout::Int16, rows, i16::to_le_bytes)
    }

    /// A column of `INT`.
    pub fn int32(rows: impl IntoIterator<Item = Option<i32>>) -> Self {
        Self::words(Layout::Int32, rows, i32::to_le_bytes)
    }

    /// A column of `BIGINT`.
    pub fn int64(rows: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self::words(Layout::Int64, rows, i64::to_le_bytes)
    }

    /// A column of `FLOAT`.
    pub fn float32(rows: impl IntoIterator<Item = Option<f32>>) -> Self {
        Self::words(Layout::Float32, rows, f32::to_le_bytes)
    }

    /// A column of `DOUBLE`.
    pub fn float64(rows: impl IntoIterator<Item = Option<f64>>) -> Self {
        Self::words(Layout::Float64, rows, f64::to_le_bytes)
    }

    /// A column of `DECIMAL(p, scale)`: unscaled values.
    pub fn decimal128(scale: u8, rows: impl IntoIterator<Item = Option<i128>>) -> Self {
        Self { scale, ..Self::words(Layout::Decimal128, rows, i128::to_le_bytes) }
    }

    /// A column of `STRING`, `CHAR(n)`, `VARCHAR(n)`.
    pub fn utf8<'a>(rows: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        Self::slices(Layout::Utf8, rows.into_iter().map(|row| row.map(str::as_bytes)))
    }

    /// A column of `BYTES`.
    pub fn binary<'a>(rows: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        Self::slices(Layout::Binary, rows)
    }

    /// A column of `DATE`: days since 1970-01-01.
    pub fn date32(rows: impl IntoIterator<Item = Option<i32>>) -> Self {
        Self::words(Layout::Date32, rows, i32::to_le_bytes)
    }

    /// A column of `TIMESTAMP` and `TIMESTAMP_LTZ`, since 1970-01-01T00:00:00 in the unit.
    pub fn timestamp(unit: TimeUnit, rows: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self { unit: unit as u8, ..Self::words(Layout::Timestamp, rows, i64::to_le_bytes) }
    }

    /// A column of `TIMESTAMP` and `TIMESTAMP_LTZ`, in the layout that holds all years: seconds
    /// since 1970-01-01T00:00:00, rounded down, and the nanoseconds after them.
    pub fn instants(rows: impl IntoIterator<Item = Option<(i64, u32)>>) -> Self {
        let (nulls, rows) = split(rows);
        let seconds = rows.iter().flat_map(|(seconds, _)| seconds.to_le_bytes()).collect();
        let nanos = rows.iter().flat_map(|(_, nanos)| nanos.to_le_bytes()).collect();
        Self::new(Layout::Instant, &nulls, vec![seconds, nanos])
    }

    /// A column of `INTERVAL DAY TO SECOND`, in the unit.
    pub fn duration(unit: TimeUnit, rows: impl IntoIterator<Item = Option<i64>>) -> Self {
        Self { unit: unit as u8, ..Self::words(Layout::Duration, rows, i64::to_le_bytes) }
    }

    /// A column of `INTERVAL YEAR TO MONTH`.
    pub fn months(rows: impl IntoIterator<Item = Option<i32>>) -> Self {
        Self::words(Layout::Months, rows, i32::to_le_bytes)
    }

    /// A column of `ARRAY<t>`: how many elements each row has, and the elements of all rows.
    pub fn list(lengths: impl IntoIterator<Item = Option<usize>>, elements: Self) -> Self {
        let (nulls, lengths) = split(lengths);
        let column = Self::new(Layout::List, &nulls, vec![offsets(lengths.into_iter())]);
        Self { children: vec![elements], ..column }
    }

    /// A column of `MAP<k, v>`: how many entries each row has, and the keys and the values of all
    /// rows.
    pub fn map(lengths: impl IntoIterator<Item = Option<usize>>, keys: Self, values: Self) -> Self {
        let (nulls, lengths) = split(lengths);
        let column = Self::new(Layout::Map, &nulls, vec![offsets(lengths.into_iter())]);
        Self { children: vec![keys, values], ..column }
    }

    /// A column of `ROW<…>`: which rows there are (false is null), and the fields, each with as
    /// many values.
    pub fn fields(rows: &[bool], fields: Vec<Self>) -> Self {
        let nulls: Vec<bool> = rows.iter().map(|present| !present).collect();
        Self { children: fields, ..Self::new(Layout::Struct, &nulls, vec![]) }
    }

    /// A column of any row type, from values. Decimals are unscaled at the row type's scale;
    /// timestamps are instants if the row type's unit cannot show one of them; spans are in
    /// nanoseconds. A value of another type becomes null.
    ///
    /// ```
    /// use upsert_sink_format::batch::ColumnBuilder;
    /// use upsert_sink_format::record::Value;
    /// use upsert_sink_format::schema::RowType;
    ///
    /// let row_type = RowType::parse("ARRAY<INT>").expect("a type");
    /// let seven = Value::Array(vec![Some(Value::Int(7)), None]);
    /// let column = ColumnBuilder::of(&row_type, &[Some(seven), None]);
    /// ```
    pub fn of(row_type: &RowType, rows: &[Option<Value>]) -> Self {
        match row_type {
            RowType::Boolean => Self::bools(each(rows, |value| match value {
                Value::Bool(value) => Some(*value),
                _ => None,
            })),
            RowType::TinyInt => Self::int8(each(rows, |v| integer(v)?.try_into().ok())),
            RowType::SmallInt => Self::int16(each(rows, |v| integer(v)?.try_into().ok())),
            RowType::Int => Self::int32(each(rows, |v| integer(v)?.try_into().ok())),
            RowType::BigInt => Self::int64(each(rows, integer)),
            RowType::Float => Self::float32(each(rows, |value| match value {
                Value::Float(value) => Some(*value),
                _ => None,
            })),
            RowType::Double => Self::float64(each(rows, |value| match value {
                Value::Double(value) => Some(*value),
                _ => None,
            })),
            RowType::Decimal { scale, .. } => Self::decimal128(
                *scale,
                each(rows, |value| match value {
                    Value::Decimal(unscaled) => Some(*unscaled),
                    _ => None,
                }),
            ),
            RowType::String | RowType::Char(_) | RowType::Varchar(_) => {
                Self::slices(Layout::Utf8, each(rows, bytes))
            }
            RowType::Bytes => Self::slices(Layout::Binary, each(rows, bytes)),
            RowType::Date => Self::date32(each(rows, |v| integer(v)?.try_into().ok())),
            RowType::Timestamp(digits) | RowType::TimestampLtz(digits) => {
                let unit =
                    TimeUnit::of_digits(*digits).expect("a row type has 0, 3, 6 or 9 digits");
                let shown = |value| parts(value).is_none() || shows(value, unit);
                match rows.iter().flatten().all(shown) {
                    true => Self::timestamp(unit, each(rows, |value| instant(value, unit))),
                    false => Self::instants(each(rows, |value| {
                        let (seconds, nanos) = parts(value)?;
                        Some((seconds, u32::try_from(nanos).ok()?))
                    })),
                }
            }
            RowType::IntervalDaySecond => {
                Self::duration(TimeUnit::Nanos, each(rows, |value| instant(value, TimeUnit::Nanos)))
            }
            RowType::IntervalYearMonth => Self::months(each(rows, |v| integer(v)?.try_into().ok())),
            RowType::Array(element) => Self::of_arrays(element, rows),
            RowType::Map(key, value) => Self::of_maps(key, value, rows),
            RowType::Row(fields) => Self::of_rows(fields, rows),
        }
    }

    fn of_arrays(element: &RowType, rows: &[Option<Value>]) -> Self {
        let arrays: Vec<Option<&Vec<Option<Value>>>> = each(rows, |value| match value {
            Value::Array(elements) => Some(elements),
            _ => None,
        })
        .collect();
        let elements: Vec<Option<Value>> =
            arrays.iter().flatten().flat_map(|elements| elements.iter().cloned()).collect();
        Self::list(arrays.iter().map(|row| row.map(Vec::len)), Self::of(element, &elements))
    }

    fn of_maps(key: &RowType, value: &RowType, rows: &[Option<Value>]) -> Self {
        let maps: Vec<Option<&Entries>> = each(rows, |value| match value {
            Value::Map(entries) => Some(entries),
            _ => None,
        })
        .collect();
        let entries = || maps.iter().flatten().flat_map(|entries| entries.iter());
        let keys: Vec<Option<Value>> = entries().map(|(key, _)| Some(key.clone())).collect();
        let values: Vec<Option<Value>> = entries().map(|(_, value)| value.clone()).collect();
        let lengths = maps.iter().map(|row| row.map(Vec::len));
        Self::map(lengths, Self::of(key, &keys), Self::of(value, &values))
    }

    fn of_rows(fields: &[(alloc::string::String, RowType)], rows: &[Option<Value>]) -> Self {
        let structs: Vec<Option<&Vec<Option<Value>>>> = each(rows, |value| match value {
            Value::Struct(fields) => Some(fields),
            _ => None,
        })
        .collect();
        let present: Vec<bool> = structs.iter().map(Option::is_some).collect();
        let columns = fields.iter().enumerate().map(|(index, (_, row_type))| {
            let field: Vec<Option<Value>> = structs
                .iter()
                .map(|row| row.and_then(|fields| fields.get(index).cloned().flatten()))
                .collect();
            Self::of(row_type, &field)
        });
        Self::fields(&present, columns.collect())
    }

    fn words<T: Copy + Default, const N: usize>(
        layout: Layout,
        rows: impl IntoIterator<Item = Option<T>>,
        to_bytes: fn(T) -> [u8; N],
    ) -> Self {
        let (nulls, rows) = split(rows);
        Self::new(layout, &nulls, vec![rows.into_iter().flat_map(to_bytes).collect()])
    }

    fn slices<'a>(layout: Layout, rows: impl IntoIterator<Item = Option<&'a [u8]>>) -> Self {
        let (nulls, rows) = split(rows);
        let offsets = offsets(rows.iter().map(|row| row.len()));
        Self::new(layout, &nulls, vec![offsets, rows.concat()])
    }

    fn new(layout: Layout, nulls: &[bool], mut buffers: Vec<Vec<u8>>) -> Self {
        let present: Vec<bool> = nulls.iter().map(|null| !null).collect();
        let validity = if nulls.contains(&true) { bits(&present) } else { Vec::new() };
        buffers.insert(0, validity);
        Self { layout, unit: 0, scale: 0, values: nulls.len(), buffers, children: Vec::new() }
    }

    /// Adds its node and those of its children, depth first.
    fn write_into<'a>(&'a self, form: &mut FormWriter<&'a [u8]>) {
        form.node(FormNode {
            layout: self.layout,
            unit: self.unit,
            scale: self.scale,
            children: self.children.len(),
            values: self.values,
        });
        self.buffers.iter().for_each(|buffer| form.buffer(buffer));
        self.children.iter().for_each(|child| child.write_into(form));
    }
}

/// The entries of a map.
type Entries = Vec<(Value, Option<Value>)>;

/// Which rows are null, and the rows with a default in place of null.
fn split<T: Default>(rows: impl IntoIterator<Item = Option<T>>) -> (Vec<bool>, Vec<T>) {
    rows.into_iter().map(|row| (row.is_none(), row.unwrap_or_default())).unzip()
}

fn bits(rows: &[bool]) -> Vec<u8> {
    let byte = |rows: &[bool]| {
        rows.iter().enumerate().fold(0, |byte, (i, bit)| byte | (u8::from(*bit) << i))
    };
    rows.chunks(8).map(byte).collect()
}

fn offsets(lengths: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    let mut end: i32 = 0;
    for length in lengths {
        let length = i32::try_from(length).expect("a column is smaller than 2 GiB");
        end = end.checked_add(length).expect("a column is smaller than 2 GiB");
        bytes.extend(end.to_le_bytes());
    }
    bytes
}

fn each<'a, T>(
    rows: &'a [Option<Value>],
    read: impl Fn(&'a Value) -> Option<T>,
) -> impl Iterator<Item = Option<T>> {
    rows.iter().map(move |row| row.as_ref().and_then(&read))
}

fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(value) | Value::Date(value) | Value::YearMonth(value) => Some(*value),
        _ => None,
    }
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

/// Seconds and nanoseconds of an instant or a span.
fn parts(value: &Value) -> Option<(i64, i64)> {
    Some(match value {
        Value::Timestamp { seconds, nanos } => (*seconds, i64::from(*nanos)),
        Value::DayTime { seconds, nanos } => (*seconds, i64::from(*nanos)),
        Value::Datetime(millis) => (millis.div_euclid(1_000), millis.rem_euclid(1_000) * 1_000_000),
        _ => return None,
    })
}

/// Whether a unit shows all of an instant.
fn shows(value: &Value, unit: TimeUnit) -> bool {
    let rest = |(_, nanos): (i64, i64)| nanos % (1_000_000_000 / unit.per_second());
    parts(value).map(rest) == Some(0) && instant(value, unit).is_some()
}

/// An instant or a span in a unit, rounded down; none if it does not fit into 64 bits.
fn instant(value: &Value, unit: TimeUnit) -> Option<i64> {
    let (seconds, nanos) = parts(value)?;
    let fraction = nanos.div_euclid(1_000_000_000 / unit.per_second());
    // Seconds are rounded down: before 1970 only the sum need fit.
    let whole = i128::from(seconds) * i128::from(unit.per_second());
    i64::try_from(whole + i128::from(fraction)).ok()
}
