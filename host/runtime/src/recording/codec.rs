//! Values as bytes: numbers little-endian, lists and texts behind their length.
//!
//! Used by `input.rs` and `entry.rs`. Invariant: what is read is checked to be there; no length is
//! believed before its bytes are.

use upsert_sink_format::id::SessionId;
use upsert_sink_format::tunnel::ColumnDescription;

/// What is read, or what is wrong with it.
pub(super) type Read<T> = Result<T, &'static str>;

/// Bytes that grow.
#[derive(Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.byte(u8::from(value));
    }

    pub(super) fn number(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.0.extend_from_slice(value);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(super) fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.length(items.len());
        items.iter().for_each(|item| each(self, item));
    }

    pub(super) fn columns(&mut self, columns: &[ColumnDescription]) {
        self.list(columns, |out, column| {
            out.text(&column.name);
            out.text(&column.column_type);
            out.flag(column.nullable);
        });
    }

    fn length(&mut self, length: usize) {
        self.number(u64::try_from(length).expect("a length of this machine has at most 64 bits"));
    }
}

/// Bytes that are read from the front.
pub(super) struct Decoder<'a>(pub(super) &'a [u8]);

impl<'a> Decoder<'a> {
    pub(super) fn byte(&mut self) -> Read<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn flag(&mut self) -> Read<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag is neither 0 nor 1"),
        }
    }

    pub(super) fn number(&mut self) -> Read<u64> {
        let bytes = self.take(8)?.first_chunk().expect("eight bytes were taken");
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(super) fn small(&mut self) -> Read<u32> {
        u32::try_from(self.number()?).map_err(|_| "a number has more than 32 bits")
    }

    pub(super) fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn text(&mut self) -> Read<String> {
        let bytes = self.bytes()?.to_vec();
        String::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
    }

    /// Grows with what is there, not with the length that is said.
    pub(super) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let length = self.length()?;
        if length > self.0.len() {
            return Err("a list is longer than its bytes");
        }
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(each(self)?);
        }
        Ok(items)
    }

    pub(super) fn columns(&mut self) -> Read<Vec<ColumnDescription>> {
        self.list(|read| {
            let (name, column_type) = (read.text()?, read.text()?);
            Ok(ColumnDescription { name, column_type, nullable: read.flag()? })
        })
    }

    pub(super) fn session(&mut self) -> Read<SessionId> {
        self.text().map(SessionId)
    }

    pub(super) fn end(&self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err("something follows its end") }
    }

    fn length(&mut self) -> Read<usize> {
        usize::try_from(self.number()?).map_err(|_| "a length is larger than memory")
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, after) = self.0.split_at_checked(count).ok_or("it ends too early")?;
        self.0 = after;
        Ok(taken)
    }
}
