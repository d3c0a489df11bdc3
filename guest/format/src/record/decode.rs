//! Reads packs, which clients send to the Tunnel, and streams of rows, which they download.
//!
//! The server's end of a row's way, and the reader's. Invariant: a record is handed out only after
//! its own checksum was right, and the call succeeds only if count and checksum of the whole are,
//! too. Whatever the bytes are, it does not panic, does not recurse deeper than types nest, and
//! allocates in proportion to the bytes that are really there.

use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use super::crc::Crc;
use super::decimal::parse_decimal;
use super::value::Value;
use super::varint::{read_varint, unzigzag};
use super::{Op, wire};
use crate::error::Error;
use crate::schema::ColumnType;

/// One record of a pack.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodedRecord {
    /// Its effect.
    pub op: Op,
    /// One for each column; none is null, or absent of a delete.
    pub values: Vec<Option<Value>>,
    /// The ids of the columns that a partial update sets; empty for a full row.
    pub value_columns: Vec<i64>,
}

/// Reads a pack of records with these columns (without partition columns), and hands each record to
/// `visit`. Returns how many there were. Records handed out before an error must not be used.
///
/// Errors: `Corrupt`, naming the record and its byte, for anything that the format does not allow,
/// a wrong checksum or count, a number out of its column's range, and text that is not UTF-8; and
/// those of `visit`.
pub fn decode_pack(
    body: &[u8],
    columns: &[ColumnType],
    visit: &mut dyn FnMut(DecodedRecord) -> Result<(), Error>,
) -> Result<u32, Error> {
    FieldSource::new("pack", body).records(|source| source.record(columns), visit)
}

/// Reads a stream of rows of these columns, as a download has it, and hands each row to `visit`.
/// Returns how many there were. Rows handed out before an error must not be used.
///
/// Errors: as of `decode_pack`.
pub fn decode_rows(
    body: &[u8],
    columns: &[ColumnType],
    visit: &mut dyn FnMut(Vec<Option<Value>>) -> Result<(), Error>,
) -> Result<u32, Error> {
    FieldSource::new("stream", body).records(|source| source.row(columns), visit)
}

/// Reads one row that `encode_row` wrote.
///
/// Errors: as of `decode_pack`.
pub fn decode_row(bytes: &[u8], columns: &[ColumnType]) -> Result<Vec<Option<Value>>, Error> {
    FieldSource::new("row", bytes).alone(|source| source.row(columns))
}

/// Reads one record that stands alone.
///
/// Errors: as of `decode_pack`.
pub(super) fn decode_record(bytes: &[u8], columns: &[ColumnType]) -> Result<DecodedRecord, Error> {
    FieldSource::new("pack", bytes).alone(|source| source.record(columns))
}

/// A place in a pack or a stream, and the checksum of the record that it is in.
struct FieldSource<'a> {
    /// The whole, for messages.
    name: &'static str,
    bytes: &'a [u8],
    at: usize,
    crc: Crc,
    record: u32,
}

impl<'a> FieldSource<'a> {
    fn new(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { name, bytes, at: 0, crc: Crc::START, record: 0 }
    }

    /// All records, each with its checksum, and what follows the last one.
    fn records<T>(
        mut self,
        read: impl Fn(&mut Self) -> Result<(T, u32), Error>,
        visit: &mut dyn FnMut(T) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        let mut crc = Crc::START;
        loop {
            let begin = self.at;
            if self.tag()? >> 3 == wire::COUNT {
                break;
            }
            self.at = begin;
            let (record, record_crc) = read(&mut self)?;
            crc = crc.word(record_crc);
            visit(record)?;
            // Each takes at least 5 bytes, so that 32 bits cannot overflow before memory does.
            self.record = self.record.saturating_add(1);
        }
        let (name, count) = (self.name, self.integer()?);
        if count != i64::from(self.record) {
            let message = format!("the {name} counts {count} records, but has {}", self.record);
            return Err(self.refuse(message));
        }
        if self.tag()? != wire::tag(wire::CHECKSUM, wire::VARINT) {
            return Err(self.refuse(format!("the {name}'s checksum is missing")));
        }
        if self.varint()? as u32 != crc.finish() {
            return Err(self.refuse(format!("the {name}'s checksum is wrong")));
        }
        match self.at == self.bytes.len() {
            true => Ok(self.record),
            false => Err(self.refuse(format!("bytes follow the {name}'s checksum"))),
        }
    }

    /// One record, and nothing after it.
    fn alone<T>(mut self, read: impl Fn(&mut Self) -> Result<(T, u32), Error>) -> Result<T, Error> {
        let (record, _) = read(&mut self)?;
        match self.at == self.bytes.len() {
            true => Ok(record),
            false => Err(self.refuse("bytes follow the record")),
        }
    }

    /// One record and its checksum.
    fn record(&mut self, columns: &[ColumnType]) -> Result<(DecodedRecord, u32), Error> {
        let mut meta = Meta::default();
        let (values, crc) = self.fields(columns, Some(&mut meta))?;
        let op = meta.op.ok_or_else(|| self.refuse("the record does not tell its operation"))?;
        Ok((DecodedRecord { op, values, value_columns: meta.value_columns }, crc))
    }

    /// One row, which has no meta columns, and its checksum.
    fn row(&mut self, columns: &[ColumnType]) -> Result<(Vec<Option<Value>>, u32), Error> {
        self.fields(columns, None)
    }

    /// The values of a record and its checksum.
    fn fields(
        &mut self,
        columns: &[ColumnType],
        mut meta: Option<&mut Meta>,
    ) -> Result<(Vec<Option<Value>>, u32), Error> {
        self.crc = Crc::START;
        let mut values = vec![None; columns.len()];
        let mut last = 0;
        loop {
            let tag = self.tag()?;
            let (number, wire_type) = (tag >> 3, tag & 7);
            if number == wire::END_RECORD {
                break;
            }
            if number <= last {
                return Err(self.refuse(format!("field {number} follows field {last}")));
            }
            last = number;
            self.crc = self.crc.word(number);
            match (columns.get(number as usize - 1), &mut meta) {
                (Some(column), _) if wire::wire_type(column) == wire_type => {
                    values[number as usize - 1] = Some(self.value(column)?);
                }
                (Some(column), _) => {
                    return Err(self.refuse(format!(
                        "field {number} is {column}, but has wire type {wire_type}"
                    )));
                }
                (None, Some(meta)) => {
                    self.meta(number - columns.len() as u32, wire_type, meta)?;
                }
                (None, None) => return Err(self.refuse(format!("there is no column {number}"))),
            }
        }
        let crc = self.crc.finish();
        match self.varint()? as u32 == crc {
            true => Ok((values, crc)),
            false => Err(self.refuse("the record's checksum is wrong")),
        }
    }

    /// A meta column, by its place after the table's.
    fn meta(&mut self, number: u32, wire_type: u32, meta: &mut Meta) -> Result<(), Error> {
        let expected = match number {
            wire::VERSION | wire::APP_VERSION | wire::OPERATION => wire::VARINT,
            wire::KEY_COLUMNS | wire::VALUE_COLUMNS => wire::DELIMITED,
            _ => return Err(self.refuse(format!("there is no meta column {number}"))),
        };
        if wire_type != expected {
            return Err(self.refuse(format!("meta column {number} has wire type {wire_type}")));
        }
        match number {
            wire::OPERATION => meta.op = Some(self.operation()?),
            wire::VALUE_COLUMNS => meta.value_columns = self.ids()?,
            wire::KEY_COLUMNS => drop(self.ids()?),
            _ => drop(self.checked_integer()?),
        }
        Ok(())
    }

    fn operation(&mut self) -> Result<Op, Error> {
        match self.checked_integer()? {
            85 => Ok(Op::Upsert),
            68 => Ok(Op::Delete),
            other => Err(self.refuse(format!("operation {other} is neither U (85) nor D (68)"))),
        }
    }

    /// An array of bigint, none of them null.
    fn ids(&mut self) -> Result<Vec<i64>, Error> {
        let count = self.count()?;
        let mut ids = Vec::new();
        for _ in 0..count {
            if self.is_null()? {
                return Err(self.refuse("the id of a column is null"));
            }
            ids.push(self.checked_integer()?);
        }
        Ok(ids)
    }

    fn value(&mut self, column: &ColumnType) -> Result<Value, Error> {
        Ok(match column {
            ColumnType::BigInt | ColumnType::Int | ColumnType::SmallInt | ColumnType::TinyInt => {
                Value::Int(self.integer_of(column)?)
            }
            ColumnType::Boolean => Value::Bool(self.boolean()?),
            ColumnType::Float => Value::Float(f32::from_le_bytes(self.take()?)),
            ColumnType::Double => Value::Double(f64::from_le_bytes(self.take()?)),
            ColumnType::Decimal { scale, .. } => Value::Decimal(self.decimal(column, *scale)?),
            ColumnType::Binary => Value::Bytes(self.slice()?.to_vec()),
            ColumnType::String
            | ColumnType::Varchar(_)
            | ColumnType::Char(_)
            | ColumnType::Json => Value::Bytes(self.text(column)?.as_bytes().to_vec()),
            ColumnType::Date => Value::Date(self.checked_integer()?),
            ColumnType::Datetime => Value::Datetime(self.checked_integer()?),
            ColumnType::IntervalYearMonth => Value::YearMonth(self.checked_integer()?),
            ColumnType::Timestamp | ColumnType::TimestampNtz => {
                let (seconds, nanos) = self.time()?;
                let nanos = u32::try_from(nanos)
                    .map_err(|_| self.refuse(format!("a timestamp has {nanos} nanoseconds")))?;
                Value::Timestamp { seconds, nanos }
            }
            ColumnType::IntervalDayTime => {
                let (seconds, nanos) = self.time()?;
                Value::DayTime { seconds, nanos }
            }
            ColumnType::Array(element) => Value::Array(self.array(element)?),
            ColumnType::Map(key, value) => self.map(key, value)?,
            ColumnType::Struct(fields) => {
                let mut values = Vec::with_capacity(fields.len());
                for (_, field) in fields {
                    values.push(self.nullable(field)?);
                }
                Value::Struct(values)
            }
        })
    }

    fn array(&mut self, element: &ColumnType) -> Result<Vec<Option<Value>>, Error> {
        let count = self.count()?;
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(self.nullable(element)?);
        }
        Ok(elements)
    }

    fn map(&mut self, key: &ColumnType, value: &ColumnType) -> Result<Value, Error> {
        let keys = self.array(key)?;
        let values = self.array(value)?;
        if keys.len() != values.len() {
            return Err(self.refuse(format!(
                "a map has {} keys and {} values",
                keys.len(),
                values.len()
            )));
        }
        let mut entries = Vec::with_capacity(keys.len());
        for (key, value) in keys.into_iter().zip(values) {
            entries.push((key.ok_or_else(|| self.refuse("a map's key is null"))?, value));
        }
        Ok(Value::Map(entries))
    }

    fn nullable(&mut self, column: &ColumnType) -> Result<Option<Value>, Error> {
        if self.is_null()? { Ok(None) } else { self.value(column).map(Some) }
    }

    /// A null flag, which is not part of the checksum.
    fn is_null(&mut self) -> Result<bool, Error> {
        match self.varint()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.refuse(format!("a null flag is {other}, not 0 or 1"))),
        }
    }

    /// The count of an array: each element takes at least its null flag.
    fn count(&mut self) -> Result<usize, Error> {
        let count = self.varint()? as u32 as usize;
        let left = self.bytes.len() - self.at;
        if count > left {
            return Err(self.refuse(format!("{count} elements in the {left} bytes that are left")));
        }
        Ok(count)
    }

    fn boolean(&mut self) -> Result<bool, Error> {
        let value = self.varint()?;
        if value > 1 {
            return Err(self.refuse(format!("a boolean is {value}, not 0 or 1")));
        }
        self.crc = self.crc.byte(value as u8);
        Ok(value == 1)
    }

    /// Fixed bytes that are part of the checksum.
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let bytes = self.bytes[self.at..].first_chunk().copied();
        let bytes: [u8; N] = bytes.ok_or_else(|| self.refuse("the bytes end within a value"))?;
        self.at += N;
        self.crc = self.crc.bytes(&bytes);
        Ok(bytes)
    }

    fn decimal(&mut self, column: &ColumnType, scale: u8) -> Result<i128, Error> {
        let text = self.text(column)?;
        parse_decimal(text, scale).ok_or_else(|| self.refuse(format!("it is no {column}")))
    }

    fn text(&mut self, column: &ColumnType) -> Result<&'a str, Error> {
        let at = self.at;
        core::str::from_utf8(self.slice()?).map_err(|_| {
            let place = Self { at, ..*self };
            place.refuse(format!("a {column} is not UTF-8"))
        })
    }

    /// A length and as many bytes; the bytes are part of the checksum.
    fn slice(&mut self) -> Result<&'a [u8], Error> {
        let length = self.varint()? as u32 as usize;
        let left = &self.bytes[self.at..];
        let Some(bytes) = left.get(..length) else {
            return Err(self
                .refuse(format!("a value of {length} bytes in the {} that are left", left.len())));
        };
        self.at += length;
        self.crc = self.crc.bytes(bytes);
        Ok(bytes)
    }

    fn time(&mut self) -> Result<(i64, i32), Error> {
        let seconds = self.checked_integer()?;
        let nanos = self.integer()?;
        if nanos.unsigned_abs() > 999_999_999 {
            return Err(self.refuse(format!("a time has {nanos} nanoseconds")));
        }
        self.crc = self.crc.word(nanos as u32);
        Ok((seconds, nanos as i32))
    }

    fn integer_of(&mut self, column: &ColumnType) -> Result<i64, Error> {
        let value = self.checked_integer()?;
        match column.integer_range() {
            Some((least, most)) if (least..=most).contains(&value) => Ok(value),
            _ => Err(self.refuse(format!("{value} is no {column}"))),
        }
    }

    /// An integer that is part of the checksum, as 8 bytes whatever its type.
    fn checked_integer(&mut self) -> Result<i64, Error> {
        let value = self.integer()?;
        self.crc = self.crc.bytes(&value.to_le_bytes());
        Ok(value)
    }

    fn integer(&mut self) -> Result<i64, Error> {
        self.varint().map(unzigzag)
    }

    /// The next tag. Only its low 32 bits count.
    fn tag(&mut self) -> Result<u32, Error> {
        let tag = self.varint()? as u32;
        if tag >> 3 == 0 {
            return Err(self.refuse("there is no field 0"));
        }
        Ok(tag)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let read = read_varint(&self.bytes[self.at..]);
        let (value, length) =
            read.ok_or_else(|| self.refuse("the bytes end within a number, or it is too long"))?;
        self.at += length;
        Ok(value)
    }

    fn refuse(&self, message: impl Into<String>) -> Error {
        let Self { name, record, at, .. } = self;
        Error::corrupt(format!("{name}, record {record}, byte {at}"), message)
    }
}

/// The meta columns of a record.
#[derive(Default)]
struct Meta {
    op: Option<Op>,
    value_columns: Vec<i64>,
}
