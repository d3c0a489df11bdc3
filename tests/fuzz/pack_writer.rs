//! A second writer of packs, made from the description of the wire and not from our encoder, with
//! the liberties that clients take.
//!
//! Used by `pack.rs`, which holds the reader against it. Invariant: what it writes is a pack that a
//! server must take, and `records` are what it means.
//!
//! Liberties: numbers of 32 bits sign-extended to ten bytes; meta columns that nobody needs; no
//! list of value columns, or one; spans with negative nanoseconds; decimals without trailing zeros
//! or with an exponent.

use fastrand::Rng;
use upsert_sink_format::record::{DecodedRecord, Op, Value, decimal_text};
use upsert_sink_format::schema::ColumnType;

/// Some records of these columns.
pub(crate) fn records(rng: &mut Rng, columns: &[ColumnType]) -> Vec<DecodedRecord> {
    let record = |rng: &mut Rng| DecodedRecord {
        op: if rng.u8(..4) == 0 { Op::Delete } else { Op::Upsert },
        values: columns.iter().map(|column| nullable(rng, column)).collect(),
        value_columns: (0..rng.usize(..4).saturating_sub(1)).map(|_| number(rng)).collect(),
    };
    (0..rng.usize(..4)).map(|_| record(rng)).collect()
}

fn nullable(rng: &mut Rng, column: &ColumnType) -> Option<Value> {
    (rng.u8(..5) > 0).then(|| value(rng, column))
}

fn value(rng: &mut Rng, column: &ColumnType) -> Value {
    match column {
        ColumnType::Boolean => Value::Bool(rng.bool()),
        ColumnType::Float => Value::Float(f32::from_bits(rng.u32(..))),
        ColumnType::Double => Value::Double(f64::from_bits(rng.u64(..))),
        ColumnType::Decimal { precision, .. } => {
            let most = 10_i128.pow(u32::from(*precision)) - 1;
            Value::Decimal(rng.i128(-most..=most) >> rng.u32(..127))
        }
        ColumnType::Binary => Value::Bytes((0..rng.usize(..6)).map(|_| rng.u8(..)).collect()),
        ColumnType::Date => Value::Date(number(rng)),
        ColumnType::Datetime => Value::Datetime(number(rng)),
        ColumnType::IntervalYearMonth => Value::YearMonth(number(rng)),
        ColumnType::Timestamp | ColumnType::TimestampNtz => {
            Value::Timestamp { seconds: number(rng), nanos: rng.u32(..1_000_000_000) }
        }
        ColumnType::IntervalDayTime => {
            Value::DayTime { seconds: number(rng), nanos: rng.i32(-999_999_999..=999_999_999) }
        }
        ColumnType::Array(element) => {
            Value::Array((0..rng.usize(..4)).map(|_| nullable(rng, element)).collect())
        }
        ColumnType::Map(key, to) => {
            let entry = |rng: &mut Rng| (value(rng, key), nullable(rng, to));
            Value::Map((0..rng.usize(..4)).map(|_| entry(rng)).collect())
        }
        ColumnType::Struct(fields) => {
            Value::Struct(fields.iter().map(|(_, field)| nullable(rng, field)).collect())
        }
        text if text.is_text() => {
            let letters = (0..rng.usize(..4)).map(|_| rng.char(..));
            Value::Bytes(letters.collect::<String>().into_bytes())
        }
        integer => {
            let (least, most) = integer.integer_range().expect("only integers are left");
            Value::Int(rng.i64(least..=most) >> rng.u32(..63))
        }
    }
}

fn number(rng: &mut Rng) -> i64 {
    rng.i64(..) >> rng.u32(..63)
}

/// The pack of these records.
pub(crate) fn write(rng: &mut Rng, records: &[DecodedRecord], columns: &[ColumnType]) -> Vec<u8> {
    let (mut pack, mut checksums) = (Vec::new(), Vec::new());
    for record in records {
        let mut fields = Fields::default();
        for (index, (column, value)) in columns.iter().zip(&record.values).enumerate() {
            let Some(value) = value else { continue };
            fields.begin(index + 1, wire_type(column));
            fields.value(rng, column, value);
        }
        fields.meta(rng, columns.len(), record);
        pack.extend(fields.bytes);
        let checksum = crc32c::crc32c(&fields.checked);
        tag(&mut pack, (1 << 25) - 1024, 0);
        word(rng, &mut pack, checksum);
        checksums.extend(checksum.to_le_bytes());
    }
    tag(&mut pack, (1 << 25) - 2, 0);
    varint(&mut pack, zigzag(records.len() as i64));
    tag(&mut pack, (1 << 25) - 1, 0);
    word(rng, &mut pack, crc32c::crc32c(&checksums));
    pack
}

/// A record's fields, and what its checksum is of.
#[derive(Default)]
struct Fields {
    bytes: Vec<u8>,
    checked: Vec<u8>,
}

impl Fields {
    fn begin(&mut self, number: usize, wire_type: u32) {
        let number = u32::try_from(number).expect("a table has few columns");
        tag(&mut self.bytes, number, wire_type);
        self.checked.extend(number.to_le_bytes());
    }

    fn meta(&mut self, rng: &mut Rng, columns: usize, record: &DecodedRecord) {
        for unneeded in [1, 2] {
            if rng.u8(..4) == 0 {
                self.begin(columns + unneeded, 0);
                self.integer(rng.i64(..));
            }
        }
        self.begin(columns + 3, 0);
        self.integer(i64::from(if record.op == Op::Delete { b'D' } else { b'U' }));
        if rng.bool() {
            let unneeded: Vec<i64> = (0..rng.usize(..3)).map(|_| rng.i64(..)).collect();
            self.ids(columns + 4, &unneeded);
        }
        if rng.bool() || !record.value_columns.is_empty() {
            self.ids(columns + 5, &record.value_columns);
        }
    }

    fn ids(&mut self, number: usize, ids: &[i64]) {
        self.begin(number, 2);
        varint(&mut self.bytes, ids.len() as u64);
        for id in ids {
            self.bytes.push(0);
            self.integer(*id);
        }
    }

    fn value(&mut self, rng: &mut Rng, column: &ColumnType, value: &Value) {
        match (column, value) {
            (_, Value::Bool(value)) => self.fixed(&[u8::from(*value)]),
            (_, Value::Float(value)) => self.fixed(&value.to_le_bytes()),
            (_, Value::Double(value)) => self.fixed(&value.to_le_bytes()),
            (_, Value::Bytes(bytes)) => self.counted(bytes),
            (ColumnType::Decimal { scale, .. }, Value::Decimal(unscaled)) => {
                let text = decimal(rng, *unscaled, *scale);
                self.counted(text.as_bytes());
            }
            (_, Value::Timestamp { seconds, nanos }) => {
                self.time(*seconds, i32::try_from(*nanos).expect("below a second"));
            }
            (_, Value::DayTime { seconds, nanos }) => self.time(*seconds, *nanos),
            (ColumnType::Array(element), Value::Array(values)) => self.list(rng, element, values),
            (ColumnType::Map(key, to), Value::Map(entries)) => {
                let keys: Vec<_> = entries.iter().map(|(key, _)| Some(key.clone())).collect();
                let values: Vec<_> = entries.iter().map(|(_, value)| value.clone()).collect();
                self.list(rng, key, &keys);
                self.list(rng, to, &values);
            }
            (ColumnType::Struct(fields), Value::Struct(values)) => {
                for ((_, field), value) in fields.iter().zip(values) {
                    self.nullable(rng, field, value.as_ref());
                }
            }
            (
                _,
                Value::Int(value)
                | Value::Date(value)
                | Value::Datetime(value)
                | Value::YearMonth(value),
            ) => self.integer(*value),
            (column, value) => unreachable!("{value:?} is no value of {column}"),
        }
    }

    fn list(&mut self, rng: &mut Rng, element: &ColumnType, values: &[Option<Value>]) {
        varint(&mut self.bytes, values.len() as u64);
        for value in values {
            self.nullable(rng, element, value.as_ref());
        }
    }

    fn nullable(&mut self, rng: &mut Rng, column: &ColumnType, value: Option<&Value>) {
        self.bytes.push(u8::from(value.is_none()));
        if let Some(value) = value {
            self.value(rng, column, value);
        }
    }

    fn integer(&mut self, value: i64) {
        varint(&mut self.bytes, zigzag(value));
        self.checked.extend(value.to_le_bytes());
    }

    fn time(&mut self, seconds: i64, nanos: i32) {
        self.integer(seconds);
        varint(&mut self.bytes, zigzag(i64::from(nanos)));
        self.checked.extend(nanos.to_le_bytes());
    }

    fn counted(&mut self, bytes: &[u8]) {
        varint(&mut self.bytes, bytes.len() as u64);
        self.fixed(bytes);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.checked.extend(bytes);
    }
}

/// A decimal as one of the clients may print it.
fn decimal(rng: &mut Rng, unscaled: i128, scale: u8) -> String {
    let plain = decimal_text(unscaled, scale);
    match rng.u8(..3) {
        0 if plain.contains('.') => plain.trim_end_matches('0').trim_end_matches('.').into(),
        1 => format!("{unscaled}E-{scale}"),
        _ => plain,
    }
}

fn wire_type(column: &ColumnType) -> u32 {
    match column {
        ColumnType::Double => 1,
        ColumnType::Float => 5,
        ColumnType::Boolean
        | ColumnType::Date
        | ColumnType::Datetime
        | ColumnType::IntervalYearMonth => 0,
        integer if integer.integer_range().is_some() => 0,
        _ => 2,
    }
}

fn tag(out: &mut Vec<u8>, number: u32, wire_type: u32) {
    varint(out, u64::from(number << 3 | wire_type));
}

/// A number of 32 bits, of which one client makes ten bytes if its highest bit is set.
fn word(rng: &mut Rng, out: &mut Vec<u8>, value: u32) {
    let extended = i64::from(value.cast_signed()).cast_unsigned();
    varint(out, if rng.bool() { extended } else { u64::from(value) });
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}
