//! CSV: one record per event, its columns declared by the job and found by their names.
//!
//! `lines.rs` gives the records, `csv-core` takes them apart, `columns.rs` builds the batch.
//! Invariant: every field is read exactly as it was quoted or the job stops with the number of the
//! line; an empty line is an event without rows, and a header is none.

use std::ops::Range;

use anyhow::Context;
use arrow_array::{RecordBatch, RecordBatchOptions, StringArray};
use arrow_schema::{DataType, SchemaRef};
use csv_core::ReadRecordResult;
use upsert_sink::RowKind;

use crate::failure::bad_input;
use crate::source::columns::{ColumnFault, build_column};
use crate::source::kinds::OpColumn;
use crate::source::lines::{LineReader, Lines};
use crate::source::value::Json;
use crate::source::{Events, Source, value};

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CsvLayout {
    /// Where the names of the fields are.
    pub(crate) naming: Naming,
    /// Parts fields; one ASCII character.
    pub(crate) delimiter: u8,
    /// Around text with delimiters, ends of lines or quotes, which are doubled; none: every
    /// character is text.
    pub(crate) quote: Option<u8>,
    /// A field without quotes that is this text is null.
    pub(crate) null_text: String,
}

/// Where the names of the fields are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    /// In the first record of each file.
    Header,
    /// In the job, in the order of the fields.
    Job(Vec<String>),
}

/// Records, each a row.
pub(crate) struct CsvSource {
    reader: LineReader,
    schema: SchemaRef,
    op: Option<OpColumn>,
    layout: CsvLayout,
    splitter: Splitter,
    /// Where the columns are in the file that is being read.
    places: Option<Places>,
}

impl CsvSource {
    /// Reads rows of `schema`, of which every field is nullable. Without an op column all rows are
    /// inserts.
    pub(crate) fn new(
        reader: LineReader,
        schema: SchemaRef,
        op: Option<OpColumn>,
        layout: CsvLayout,
    ) -> Self {
        let reader = reader.quoted_by(layout.quote);
        let splitter = Splitter::new(&layout);
        Self { reader, schema, op, layout, splitter, places: None }
    }

    /// Finds the columns of the file that `lines` are of; answers which of them is the first row.
    fn begin_file(&mut self, lines: &Lines) -> anyhow::Result<usize> {
        let file = lines.end.file;
        if self.places.as_ref().is_some_and(|places| places.file == file) {
            return Ok(0);
        }
        let (places, first) = match &self.layout.naming {
            Naming::Job(names) => {
                let places = Places::new(file, names, &self.schema, self.op.as_ref());
                (places.map_err(|message| bad_input(format!("[source] fields: {message}")))?, 0)
            }
            Naming::Header if lines.begins_file => (self.header(file, lines)?, 1),
            // Reading goes on in the middle: the header is read again.
            Naming::Header => (self.header(file, &self.reader.head(file)?)?, 0),
        };
        self.places = Some(places);
        Ok(first)
    }

    /// Reads the header, which is the first of `lines`.
    fn header(&self, file: usize, lines: &Lines) -> anyhow::Result<Places> {
        let fault = |message: String| lines.fault(0, &message);
        let line = lines.line(0);
        if line.is_empty() {
            return Err(fault(String::from(
                "it is empty, but the first line names the fields; remove it, or set header = \
                 false and fields = [\"name\", …]",
            )));
        }
        let mut fields = Fields::default();
        Splitter::new(&self.layout).split(line, &mut fields).map_err(fault)?;
        let names: Vec<String> =
            (0..fields.len()).map(|field| String::from(fields.text(field))).collect();
        Places::new(file, &names, &self.schema, self.op.as_ref()).map_err(fault)
    }

    /// The rows of lines from `first` on.
    fn rows(&mut self, lines: &Lines, first: usize) -> anyhow::Result<Events> {
        let places = self.places.as_ref().context("a file is begun before its rows are read")?;
        let mut fields = Fields::default();
        // The line of each row.
        let mut numbers = Vec::with_capacity(lines.len());
        for index in first..lines.len() {
            let line = lines.line(index);
            if line.is_empty() {
                continue;
            }
            let found = self.splitter.split(line, &mut fields).and_then(|found| {
                if found == places.width { Ok(()) } else { Err(places.wrong_width(found)) }
            });
            found.map_err(|message| lines.fault(index, &message))?;
            numbers.push(index);
        }
        let batch = Batch { fields: &fields, places, rows: numbers.len(), layout: &self.layout };
        let fault = |row: usize, message: &str| lines.fault(numbers[row], message);
        let rows = batch.build(&self.schema).map_err(|error| fault(error.row, &error.message))?;
        let kinds = match &self.op {
            None => Vec::new(),
            Some(op) => batch.kinds(op).map_err(|(row, message)| fault(row, &message))?,
        };
        Ok(Events { rows, kinds, events: (lines.len() - first) as u64, end: lines.end })
    }
}

impl Source for CsvSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> anyhow::Result<Option<Events>> {
        while let Some(lines) = self.reader.next()? {
            let first = self.begin_file(&lines)?;
            if first < lines.len() {
                return self.rows(&lines, first).map(Some);
            }
        }
        Ok(None)
    }
}

/// Which field of a record is which column.
struct Places {
    file: usize,
    width: usize,
    /// By column of the schema.
    columns: Vec<usize>,
    op: Option<usize>,
}

impl Places {
    fn new(
        file: usize,
        names: &[String],
        schema: &SchemaRef,
        op: Option<&OpColumn>,
    ) -> Result<Self, String> {
        if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(format!("two fields are named `{}`; rename one of them", names[twice]));
        }
        let place = |name: &str| {
            names.iter().position(|found| found == name).ok_or_else(|| {
                format!(
                    "no field is named `{name}`, only {}; correct the header, or `columns` and \
                     `op-column` of the job",
                    names.join(", ")
                )
            })
        };
        let columns = schema.fields().iter().map(|field| place(field.name()));
        let columns = columns.collect::<Result<_, _>>()?;
        let op = op.map(|op| place(&op.name)).transpose()?;
        Ok(Self { file, width: names.len(), columns, op })
    }

    fn wrong_width(&self, found: usize) -> String {
        format!(
            "{found} fields, but {} are named; add or remove fields, or quote a delimiter that is \
             text",
            self.width
        )
    }
}

/// The fields of many records, one after another, without their quotes.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    ends: Vec<usize>,
    quoted: Vec<bool>,
}

impl Fields {
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn text(&self, field: usize) -> &str {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        let text = std::str::from_utf8(&self.text[start..self.ends[field]]);
        text.expect("a line is UTF-8, and it is parted at ASCII characters")
    }
}

/// Takes records apart.
struct Splitter {
    core: csv_core::Reader,
    delimiter: u8,
    quote: Option<u8>,
}

impl Splitter {
    fn new(layout: &CsvLayout) -> Self {
        let mut builder = csv_core::ReaderBuilder::new();
        builder.delimiter(layout.delimiter).double_quote(true);
        match layout.quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        let mut core = builder.build();
        // It takes a byte order mark off the first record that it sees; `lines.rs` has done that.
        core.read_record(b"\n.\n", &mut [0; 8], &mut [0; 8]);
        Self { core, delimiter: layout.delimiter, quote: layout.quote }
    }

    /// Appends the fields of one record; answers how many there are.
    ///
    /// Errors: what is malformed, and at which byte of the record, counted from 1.
    fn split(&mut self, record: &str, fields: &mut Fields) -> Result<usize, String> {
        let record = record.as_bytes();
        let before = fields.len();
        self.check_quotes(record, &mut fields.quoted)
            .map_err(|(at, what)| format!("malformed CSV at byte {}: {what}", at + 1))?;
        let (count, start) = (fields.quoted.len() - before, fields.text.len());
        // Both have room to spare, so that only the end of the input stops the reader.
        fields.text.resize(start + record.len() + 1, 0);
        fields.ends.resize(before + count + 1, 0);
        let (text, ends) = (&mut fields.text[start..], &mut fields.ends[before..]);
        let (_, _, written, ended) = self.core.read_record(record, text, ends);
        let rest = self.core.read_record(b"\n", &mut text[written..], &mut ends[ended..]);
        let (result, _, more, last) = rest;
        assert!(
            result == ReadRecordResult::Record && ended + last == count,
            "what was checked is one record of as many fields"
        );
        ends.iter_mut().for_each(|end| *end += start);
        fields.text.truncate(start + written + more);
        fields.ends.truncate(before + count);
        Ok(count)
    }

    /// Says of each field whether it is quoted. Stricter than `csv-core`, which takes any text for
    /// something.
    fn check_quotes(
        &self,
        record: &[u8],
        quoted: &mut Vec<bool>,
    ) -> Result<(), (usize, &'static str)> {
        let mut at = 0;
        loop {
            let is_quoted = self.quote.is_some() && record.get(at).copied() == self.quote;
            quoted.push(is_quoted);
            let end = if is_quoted { self.quoted_end(record, at)? } else { self.end(record, at)? };
            if end == record.len() {
                return Ok(());
            }
            at = end + 1;
        }
    }

    /// Where a field without quotes ends that begins at `at`.
    fn end(&self, record: &[u8], at: usize) -> Result<usize, (usize, &'static str)> {
        let stops = |byte: u8| {
            byte == self.delimiter || Some(byte) == self.quote || matches!(byte, b'\r' | b'\n')
        };
        let Some(length) = record[at..].iter().position(|byte| stops(*byte)) else {
            return Ok(record.len());
        };
        match record[at + length] {
            byte if byte == self.delimiter => Ok(at + length),
            b'\r' | b'\n' => {
                Err((at + length, "an end of line within a field; put the field in quotes"))
            }
            _ => {
                Err((at + length, "a quote within a field; quote the field, and double the quote"))
            }
        }
    }

    /// Where a quoted field ends that begins at `at`.
    fn quoted_end(&self, record: &[u8], at: usize) -> Result<usize, (usize, &'static str)> {
        let mut next = at + 1;
        loop {
            let length = record[next..].iter().position(|byte| Some(*byte) == self.quote);
            next += length.ok_or((at, "a quote is not closed"))? + 1;
            match record.get(next).copied() {
                None => return Ok(next),
                Some(byte) if Some(byte) == self.quote => next += 1,
                Some(byte) if byte == self.delimiter => return Ok(next),
                Some(_) => {
                    return Err((
                        next,
                        "text follows a closing quote; double a quote that is text",
                    ));
                }
            }
        }
    }
}

/// The rows of some lines.
struct Batch<'a> {
    fields: &'a Fields,
    places: &'a Places,
    rows: usize,
    layout: &'a CsvLayout,
}

impl<'a> Batch<'a> {
    fn build(&self, schema: &SchemaRef) -> Result<RecordBatch, ColumnFault> {
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (field, place) in schema.fields().iter().zip(&self.places.columns) {
            let mut values = Vec::with_capacity(self.rows);
            for (row, text) in self.column(*place).enumerate() {
                let value = text.map_or(Ok(Json::Null), |text| typed(field.data_type(), text));
                values.push(
                    value
                        .map_err(|message| ColumnFault { row, message }.of_column(field.name()))?,
                );
            }
            columns.push(build_column(field, &values)?);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &rows);
        Ok(batch.expect("each column has its field's type, and every field is nullable"))
    }

    fn kinds(&self, op: &OpColumn) -> Result<Vec<RowKind>, (usize, String)> {
        let Some(place) = self.places.op else { return Ok(Vec::new()) };
        op.translate(&StringArray::from_iter(self.column(place)))
    }

    /// One field of each row; none if it is null.
    fn column(&self, place: usize) -> impl Iterator<Item = Option<&'a str>> {
        let rows: Range<usize> = 0..self.rows;
        rows.map(move |row| {
            let field = row * self.places.width + place;
            let text = self.fields.text(field);
            let is_null = !self.fields.quoted[field] && text == self.layout.null_text;
            (!is_null).then_some(text)
        })
    }
}

/// A field as the value that JSON would have for it; `columns.rs` says what of it is wrong.
fn typed<'a>(data_type: &DataType, text: &'a str) -> Result<Json<'a>, String> {
    let signed = text.strip_prefix('-').unwrap_or(text);
    let is_whole = !signed.is_empty() && signed.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = signed.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && signed.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    Ok(match data_type {
        DataType::Boolean if text.eq_ignore_ascii_case("true") => Json::Bool(true),
        DataType::Boolean if text.eq_ignore_ascii_case("false") => Json::Bool(false),
        DataType::Date32 | DataType::Timestamp(_, _) if is_whole => Json::Number(text),
        numeric if numeric.is_numeric() && is_number => Json::Number(text),
        DataType::List(_) | DataType::Map(_, _) | DataType::Struct(_) => value::parse(text)
            .map_err(|(at, what)| {
                format!("malformed JSON at byte {at} of the field: {what}; a nested value is JSON")
            })?,
        _ => Json::Text(text.into()),
    })
}

#[cfg(test)]
mod tests;
