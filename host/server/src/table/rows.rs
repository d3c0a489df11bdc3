//! Decoded records as Arrow columns: the types a table's rows have in files and in query results.
//!
//! A pack comes here from `decode_pack` twice: when it is accepted (so that nothing is accepted
//! which a commit could not write) and when it is committed, on the way into `table/delta.rs`.
//! Invariant: a batch that was built once builds again.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, DurationNanosecondArray,
    Float32Array, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array,
    IntervalYearMonthArray, ListArray, MapArray, RecordBatch, StringArray, StructArray,
    TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{
    ArrowError, DataType, Field, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit,
};
use upsert_sink_format::record::{DecodedRecord, Op, Value};
use upsert_sink_format::schema::{ColumnType, TableColumn, TableSchema};

/// The column of a delta file that says what a row does: 85 upserts, 68 deletes, as on the wire.
pub(crate) const OP_COLUMN: &str = "__operation";
/// The column of a delta file that numbers the rows of a commit in their order.
pub(crate) const SEQUENCE_COLUMN: &str = "__sequence";
/// The columns of a delta file that are none of its table's: the two above, at its end.
pub(crate) const META_COLUMNS: usize = 2;
/// One more, the last, in the files of tables whose rows may set some columns only: a bit for each
/// column that the row sets, lowest first; null if the row is whole.
pub(crate) const SET_COLUMN: &str = "__value_cols";
/// The metadata of a field that holds its column's own type.
pub(crate) const TYPE_KEY: &str = "maxcompute.type";
/// The value of [`OP_COLUMN`] for a row that deletes its key.
pub(crate) const DELETE: i8 = b'D' as i8;

const UPSERT: i8 = b'U' as i8;
/// Rows in memory as values, at most; as columns they are far smaller.
const BATCH_ROWS_MAX: usize = 1024;

/// The Arrow type of a table's type.
pub(crate) fn data_type(column: &ColumnType) -> DataType {
    match column {
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Int => DataType::Int32,
        ColumnType::SmallInt => DataType::Int16,
        ColumnType::TinyInt => DataType::Int8,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Float => DataType::Float32,
        ColumnType::Double => DataType::Float64,
        ColumnType::Decimal { precision, scale } => {
            DataType::Decimal128(*precision, i8::try_from(*scale).expect("scales are at most 38"))
        }
        ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) | ColumnType::Json => {
            DataType::Utf8
        }
        ColumnType::Binary => DataType::Binary,
        ColumnType::Date => DataType::Date32,
        ColumnType::Datetime => DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into())),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
        ColumnType::TimestampNtz => DataType::Timestamp(TimeUnit::Nanosecond, None),
        ColumnType::IntervalYearMonth => DataType::Interval(IntervalUnit::YearMonth),
        ColumnType::IntervalDayTime => DataType::Duration(TimeUnit::Nanosecond),
        ColumnType::Array(element) => DataType::List(element_field(element)),
        ColumnType::Map(key, value) => {
            let entries = DataType::Struct(entry_fields(key, value));
            DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
        }
        ColumnType::Struct(fields) => DataType::Struct(struct_fields(fields)),
    }
}

/// The values of a partition column, as the catalog keeps them, in its own type.
///
/// Errors: a value that is none of that type.
pub(crate) fn parsed<'v>(
    column: &TableColumn,
    values: impl IntoIterator<Item = &'v str>,
) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let texts = StringArray::from_iter_values(values);
    cast_with_options(&texts, &data_type(&column.column_type), &strict)
}

/// The schema of a table's files. A delete has values in its key's columns only, a partial
/// row in those that it sets, too.
pub(crate) fn file_schema(table: &TableSchema, partial: bool) -> SchemaRef {
    let mut fields: Vec<Field> = table
        .columns
        .iter()
        .enumerate()
        .map(|(at, c)| Field::new(&c.name, data_type(&c.column_type), !table.key.contains(&at)))
        .collect();
    fields.push(Field::new(OP_COLUMN, DataType::Int8, false));
    fields.push(Field::new(SEQUENCE_COLUMN, DataType::Int64, false));
    fields.extend(partial.then(|| Field::new(SET_COLUMN, DataType::Binary, true)));
    Arc::new(Schema::new(fields))
}

/// The schema that queries see: the columns, then the partition columns. Each field names the
/// column's own type, which says more than Arrow's.
pub(crate) fn query_schema(table: &TableSchema) -> SchemaRef {
    let field = |c: &TableColumn, nullable| {
        let metadata = [(TYPE_KEY.to_owned(), c.column_type.to_string())];
        Field::new(&c.name, data_type(&c.column_type), nullable).with_metadata(metadata.into())
    };
    let columns = table.columns.iter().map(|c| field(c, c.nullable));
    let partitions = table.partition_columns.iter().map(|c| field(c, false));
    Arc::new(Schema::new(columns.chain(partitions).collect::<Vec<_>>()))
}

/// Whole rows of a table as a base has them: each upserts, and they are numbered from `first`.
/// `schema` is that of the file, and the rows have the table's columns.
pub(crate) fn base_rows(
    schema: &SchemaRef,
    rows: &RecordBatch,
    first: u64,
) -> Result<RecordBatch, ArrowError> {
    let numbers = (first..).take(rows.num_rows()).map(|number| number as i64);
    let mut arrays = rows.columns().to_vec();
    arrays.push(Arc::new(Int8Array::from_value(UPSERT, rows.num_rows())));
    arrays.push(Arc::new(Int64Array::from_iter_values(numbers)));
    RecordBatch::try_new(Arc::clone(schema), arrays)
}

/// Records that are being gathered into batches.
pub(crate) struct Rows<'a> {
    table: &'a TableSchema,
    schema: SchemaRef,
    columns: Vec<Vec<Option<Value>>>,
    operations: Vec<i8>,
    /// The columns that each row sets, if rows may set some only.
    set: Option<Vec<Option<Vec<u8>>>>,
    sequence: i64,
}

impl<'a> Rows<'a> {
    /// No rows yet. Whether they may set some columns only is the table's property.
    pub(crate) fn new(table: &'a TableSchema, partial: bool) -> Self {
        Self {
            table,
            schema: file_schema(table, partial),
            columns: vec![Vec::new(); table.columns.len()],
            operations: Vec::new(),
            set: partial.then(Vec::new),
            sequence: 0,
        }
    }

    /// Adds a record; answers a batch when there are enough. A record of a session that is older
    /// than the last columns has null in them. A column that a partial row does not set is null.
    ///
    /// Errors, in words: a value that its column cannot hold, or a null where none may be.
    pub(crate) fn push(&mut self, record: DecodedRecord) -> Result<Option<RecordBatch>, String> {
        let deletes = record.op == Op::Delete;
        let set = self.set_by(&record);
        let mut values = record.values;
        values.resize(self.table.columns.len(), None);
        if let Some(bits) = &set {
            for (at, value) in values.iter_mut().enumerate() {
                if !is_set(bits, at) && !self.table.key.contains(&at) {
                    *value = None;
                }
            }
        }
        for (at, value) in values.into_iter().enumerate() {
            let column = &self.table.columns[at];
            if value.is_none() && !column.nullable && (!deletes || self.table.key.contains(&at)) {
                return Err(format!("column {} is null, but may not be", column.name));
            }
            self.columns[at].push(value);
        }
        self.operations.push(if deletes { DELETE } else { UPSERT });
        if let Some(sets) = &mut self.set {
            sets.push(set);
        }
        match self.operations.len() >= BATCH_ROWS_MAX {
            true => self.take(),
            false => Ok(None),
        }
    }

    /// The bits of the columns that a partial record sets.
    fn set_by(&self, record: &DecodedRecord) -> Option<Vec<u8>> {
        if !record.is_partial() {
            return None;
        }
        let mut bits = vec![0; self.table.columns.len().div_ceil(8)];
        for at in record.value_columns.iter().filter_map(|id| usize::try_from(*id).ok()) {
            if let Some(byte) = bits.get_mut(at / 8) {
                *byte |= 1 << (at % 8);
            }
        }
        Some(bits)
    }

    /// The rows that no batch has yet.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>, String> {
        let rows = self.operations.len();
        if rows == 0 {
            return Ok(None);
        }
        let mut arrays = Vec::with_capacity(self.schema.fields().len());
        for (column, values) in self.table.columns.iter().zip(&mut self.columns) {
            let taken: Vec<Option<&Value>> = values.iter().map(Option::as_ref).collect();
            let array = array(&column.column_type, &taken)
                .map_err(|message| format!("column {}: {message}", column.name))?;
            arrays.push(array);
            values.clear();
        }
        let next = self.sequence + i64::try_from(rows).expect("a batch is small");
        arrays.push(Arc::new(Int8Array::from(std::mem::take(&mut self.operations))));
        arrays.push(Arc::new(Int64Array::from_iter_values(self.sequence..next)));
        if let Some(sets) = &mut self.set {
            arrays.push(Arc::new(BinaryArray::from_iter(sets.drain(..))));
        }
        self.sequence = next;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays);
        batch.map(Some).map_err(|error| error.to_string())
    }
}

/// Whether a column is among those of the bits.
pub(crate) fn is_set(bits: &[u8], column: usize) -> bool {
    bits.get(column / 8).is_some_and(|byte| byte >> (column % 8) & 1 == 1)
}

/// Values of one type as an Arrow array. Nesting is bounded by the type's parser.
pub(crate) fn array(column: &ColumnType, values: &[Option<&Value>]) -> Result<ArrayRef, String> {
    let wrong = |v: &&Value| !v.fits(column);
    if let Some(value) = values.iter().flatten().find(|v| wrong(v)) {
        return Err(format!("{value:?} is no {column}"));
    }
    Ok(match column {
        ColumnType::BigInt => Arc::new(Int64Array::from_iter(numbers(column, values)?)),
        ColumnType::Int => Arc::new(Int32Array::from_iter(numbers(column, values)?)),
        ColumnType::SmallInt => Arc::new(Int16Array::from_iter(numbers(column, values)?)),
        ColumnType::TinyInt => Arc::new(Int8Array::from_iter(numbers(column, values)?)),
        ColumnType::Date => Arc::new(Date32Array::from_iter(numbers(column, values)?)),
        ColumnType::Datetime => {
            let array = TimestampMillisecondArray::from_iter(numbers(column, values)?);
            Arc::new(array.with_timezone(UTC))
        }
        ColumnType::IntervalYearMonth => {
            Arc::new(IntervalYearMonthArray::from_iter(numbers(column, values)?))
        }
        ColumnType::Timestamp => {
            let array = TimestampNanosecondArray::from_iter(nanoseconds(column, values)?);
            Arc::new(array.with_timezone(UTC))
        }
        ColumnType::TimestampNtz => {
            Arc::new(TimestampNanosecondArray::from_iter(nanoseconds(column, values)?))
        }
        ColumnType::IntervalDayTime => {
            Arc::new(DurationNanosecondArray::from_iter(nanoseconds(column, values)?))
        }
        ColumnType::Boolean => {
            Arc::new(values.iter().map(|v| as_bool(*v)).collect::<BooleanArray>())
        }
        ColumnType::Float => {
            Arc::new(values.iter().map(|v| as_float(*v)).collect::<Float32Array>())
        }
        ColumnType::Double => {
            Arc::new(values.iter().map(|v| as_double(*v)).collect::<Float64Array>())
        }
        ColumnType::Decimal { precision, scale } => decimals(*precision, *scale, values)?,
        ColumnType::Binary => {
            let bytes: Vec<_> = values.iter().map(|v| v.and_then(bytes_of)).collect();
            Arc::new(BinaryArray::from(bytes))
        }
        ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) | ColumnType::Json => {
            Arc::new(StringArray::from(texts(column, values)?))
        }
        ColumnType::Array(element) => lists(element, values)?,
        ColumnType::Map(key, value) => maps(key, value, values)?,
        ColumnType::Struct(fields) => structs(fields, values)?,
    })
}

fn numbers<T: TryFrom<i64>>(
    column: &ColumnType,
    values: &[Option<&Value>],
) -> Result<Vec<Option<T>>, String> {
    let number = |value: &Option<&Value>| {
        let Some(Value::Int(n) | Value::Date(n) | Value::Datetime(n) | Value::YearMonth(n)) = value
        else {
            return Ok(None);
        };
        T::try_from(*n).map(Some).map_err(|_| format!("{n} is out of the range of {column}"))
    };
    values.iter().map(number).collect()
}

fn nanoseconds(column: &ColumnType, values: &[Option<&Value>]) -> Result<Vec<Option<i64>>, String> {
    let one = |value: &Option<&Value>| {
        let (seconds, nanos) = match value {
            Some(Value::Timestamp { seconds, nanos }) => (*seconds, i64::from(*nanos)),
            Some(Value::DayTime { seconds, nanos }) => (*seconds, i64::from(*nanos)),
            _ => return Ok(None),
        };
        let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        i64::try_from(total).map(Some).map_err(|_| {
            format!(
                "{seconds} seconds and {nanos} nanoseconds are out of the range that this \
                 server keeps of {column}: 292 years around 1970"
            )
        })
    };
    values.iter().map(one).collect()
}

fn as_bool(value: Option<&Value>) -> Option<bool> {
    match value {
        Some(Value::Bool(value)) => Some(*value),
        _ => None,
    }
}

fn as_float(value: Option<&Value>) -> Option<f32> {
    match value {
        Some(Value::Float(value)) => Some(*value),
        _ => None,
    }
}

fn as_double(value: Option<&Value>) -> Option<f64> {
    match value {
        Some(Value::Double(value)) => Some(*value),
        _ => None,
    }
}

fn bytes_of(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        _ => None,
    }
}

fn decimals(precision: u8, scale: u8, values: &[Option<&Value>]) -> Result<ArrayRef, String> {
    let unscaled = |value: &Option<&Value>| match value {
        Some(Value::Decimal(unscaled)) => Some(*unscaled),
        _ => None,
    };
    let scale = i8::try_from(scale).expect("scales are at most 38");
    let array: Decimal128Array = values.iter().map(unscaled).collect();
    let array =
        array.with_precision_and_scale(precision, scale).map_err(|error| error.to_string())?;
    array.validate_decimal_precision(precision).map_err(|error| error.to_string())?;
    Ok(Arc::new(array))
}

fn texts<'v>(
    column: &ColumnType,
    values: &[Option<&'v Value>],
) -> Result<Vec<Option<&'v str>>, String> {
    let characters_max = match column {
        ColumnType::Varchar(max) | ColumnType::Char(max) => *max as usize,
        _ => usize::MAX,
    };
    let text = |value: &Option<&'v Value>| {
        let Some(bytes) = value.and_then(bytes_of) else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if text.len() > characters_max && text.chars().count() > characters_max {
            return Err(format!("{} characters are too many for {column}", text.chars().count()));
        }
        Ok(Some(text))
    };
    values.iter().map(text).collect()
}

fn validity(values: &[Option<&Value>]) -> Option<NullBuffer> {
    let nulls: NullBuffer = values.iter().map(Option::is_some).collect();
    (nulls.null_count() > 0).then_some(nulls)
}

fn lists(element: &ColumnType, values: &[Option<&Value>]) -> Result<ArrayRef, String> {
    let mut elements = Vec::new();
    let mut lengths = Vec::with_capacity(values.len());
    for value in values {
        let list: &[Option<Value>] = match value {
            Some(Value::Array(list)) => list,
            _ => &[],
        };
        elements.extend(list.iter().map(Option::as_ref));
        lengths.push(list.len());
    }
    let child = array(element, &elements)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    let list = ListArray::try_new(element_field(element), offsets, child, validity(values));
    list.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

fn maps(
    key: &ColumnType,
    value: &ColumnType,
    values: &[Option<&Value>],
) -> Result<ArrayRef, String> {
    let mut keys = Vec::new();
    let mut mapped = Vec::new();
    let mut lengths = Vec::with_capacity(values.len());
    for value in values {
        let entries: &[(Value, Option<Value>)] = match value {
            Some(Value::Map(entries)) => entries,
            _ => &[],
        };
        keys.extend(entries.iter().map(|(key, _)| Some(key)));
        mapped.extend(entries.iter().map(|(_, value)| value.as_ref()));
        lengths.push(entries.len());
    }
    let fields = entry_fields(key, value);
    let children = vec![array(key, &keys)?, array(value, &mapped)?];
    let entries = StructArray::try_new(fields.clone(), children, None);
    let entries = entries.map_err(|error| error.to_string())?;
    let field = Arc::new(Field::new("entries", DataType::Struct(fields), false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let map = MapArray::try_new(field, offsets, entries, validity(values), false);
    map.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

fn structs(fields: &[(String, ColumnType)], values: &[Option<&Value>]) -> Result<ArrayRef, String> {
    let field = |at: usize, value: &Option<&'_ Value>| -> Option<Value> {
        match value {
            Some(Value::Struct(fields)) => fields.get(at).cloned().flatten(),
            _ => None,
        }
    };
    let mut children = Vec::with_capacity(fields.len());
    for (at, (name, column)) in fields.iter().enumerate() {
        let owned: Vec<Option<Value>> = values.iter().map(|value| field(at, value)).collect();
        let child: Vec<Option<&Value>> = owned.iter().map(Option::as_ref).collect();
        children.push(array(column, &child).map_err(|message| format!("{name}: {message}"))?);
    }
    let array = StructArray::try_new_with_length(
        struct_fields(fields),
        children,
        validity(values),
        values.len(),
    );
    array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
}

fn element_field(element: &ColumnType) -> Arc<Field> {
    Arc::new(Field::new("element", data_type(element), true))
}

fn entry_fields(key: &ColumnType, value: &ColumnType) -> Fields {
    let key = Field::new("key", data_type(key), false);
    Fields::from(vec![key, Field::new("value", data_type(value), true)])
}

fn struct_fields(fields: &[(String, ColumnType)]) -> Fields {
    fields.iter().map(|(name, column)| Field::new(name, data_type(column), true)).collect()
}

const UTC: &str = "UTC";
