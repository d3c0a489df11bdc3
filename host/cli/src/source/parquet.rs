//! Parquet files, row by row in their order.
//!
//! `files.rs` names the files; the demo's sample is read from memory the same way. Invariant: one
//! row is one event, memory is bounded by a batch and the pages it lies on, and every file has the
//! columns of the first one.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;

use crate::failure::bad_input;
use crate::source::kinds::OpColumn;
use crate::source::position::Offset;
use crate::source::{Events, Source, position};

/// Where a Parquet file is.
#[derive(Clone, Debug)]
pub(crate) enum ParquetFile {
    /// On disk.
    Disk(PathBuf),
    /// In memory, with a name for messages.
    Memory(&'static str, Bytes),
}

impl ParquetFile {
    fn name(&self) -> String {
        match self {
            Self::Disk(path) => path.display().to_string(),
            Self::Memory(name, _) => String::from(*name),
        }
    }
}

/// Which columns are rows, and which one says what a row does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    /// The columns of the rows; none means all but the op column.
    pub(crate) columns: Option<Vec<String>>,
    /// The op column; none means that all rows are inserts.
    pub(crate) op: Option<OpColumn>,
}

/// Rows of Parquet files.
pub(crate) struct ParquetSource {
    files: Vec<ParquetFile>,
    selection: Selection,
    schema: SchemaRef,
    offset: Offset,
    reader: Option<ParquetRecordBatchReader>,
    batch_rows: usize,
}

impl ParquetSource {
    /// Reads from `offset` on, at most `batch_rows` rows at once. Looks at the first file.
    ///
    /// Errors: a file that is no Parquet, or lacks a selected column.
    pub(crate) fn open(
        files: Vec<ParquetFile>,
        selection: Selection,
        offset: Offset,
        batch_rows: usize,
    ) -> anyhow::Result<Self> {
        let first = files.first().ok_or_else(|| bad_input("a Parquet source needs a file"))?;
        let schema = selection.rows_of(schema_of(first)?.as_ref(), &first.name())?;
        Ok(Self { files, selection, schema, offset, reader: None, batch_rows })
    }

    fn next_of(&mut self, file: &ParquetFile) -> anyhow::Result<Option<RecordBatch>> {
        if self.reader.is_none() {
            self.reader = Some(self.open_reader(file)?);
        }
        let next = self.reader.as_mut().and_then(Iterator::next).transpose();
        next.map_err(|error| {
            bad_input(format!(
                "{}, after row {}: {error}; the file is damaged, fetch it again",
                file.name(),
                self.offset.event
            ))
        })
    }

    fn open_reader(&self, file: &ParquetFile) -> anyhow::Result<ParquetRecordBatchReader> {
        match file {
            ParquetFile::Disk(path) => self.reader_of(position::open(path)?, file),
            ParquetFile::Memory(_, bytes) => self.reader_of(bytes.clone(), file),
        }
    }

    fn reader_of<C: ChunkReader + 'static>(
        &self,
        input: C,
        file: &ParquetFile,
    ) -> anyhow::Result<ParquetRecordBatchReader> {
        let builder = builder(input, file)?;
        let rows = self.selection.rows_of(builder.schema(), &file.name())?;
        if rows != self.schema {
            return Err(bad_input(format!(
                "{}: its columns differ from those of the first file ({}); read it with a job of \
                its own",
                file.name(),
                difference(&self.schema, &rows)
            )));
        }
        let op = self.selection.op.iter().map(|op| op.name.as_str());
        let names: Vec<&str> =
            self.schema.fields().iter().map(|field| field.name().as_str()).chain(op).collect();
        let roots = builder.schema().fields().iter().enumerate();
        let roots = roots.filter(|(_, field)| names.contains(&field.name().as_str()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.map(|(index, _)| index));
        let offset = usize::try_from(self.offset.event).unwrap_or(usize::MAX);
        let builder =
            builder.with_projection(mask).with_offset(offset).with_batch_size(self.batch_rows);
        builder.build().map_err(|error| damaged(file, &error))
    }

    fn events(&self, batch: &RecordBatch, file: &ParquetFile) -> anyhow::Result<Events> {
        let kinds = match &self.selection.op {
            None => Vec::new(),
            Some(op) => op.translate(&ops(batch, op)?).map_err(|(row, message)| {
                let row = self.offset.event + row as u64 + 1;
                bad_input(format!("{}, row {row}: {message}", file.name()))
            })?,
        };
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for field in self.schema.fields() {
            let column = batch.column_by_name(field.name());
            let column = column.expect("the projection holds every selected column");
            columns.push(convert(column, field.data_type(), field.name(), file)?);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &rows)?;
        let events = batch.num_rows() as u64;
        let end = Offset { event: self.offset.event + events, ..self.offset };
        Ok(Events { rows, kinds, events, end })
    }
}

impl Source for ParquetSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> anyhow::Result<Option<Events>> {
        while let Some(file) = self.files.get(self.offset.file).cloned() {
            if let Some(batch) = self.next_of(&file)? {
                let events = self.events(&batch, &file)?;
                self.offset = events.end;
                return Ok(Some(events));
            }
            self.reader = None;
            self.offset = Offset { file: self.offset.file + 1, event: 0, byte: 0 };
        }
        Ok(None)
    }
}

impl Selection {
    /// The columns of the rows, in the file's order and as types that the sink takes.
    fn rows_of(&self, file: &Schema, name: &str) -> anyhow::Result<SchemaRef> {
        let op = self.op.as_ref().map(|op| op.name.as_str());
        let wanted = self.columns.iter().flatten().map(String::as_str).chain(op);
        for column in wanted {
            if file.index_of(column).is_err() {
                let known: Vec<&str> = file.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(bad_input(format!(
                    "{name}: there is no column `{column}`; it has {}",
                    known.join(", ")
                )));
            }
        }
        let mut fields = Vec::new();
        for field in file.fields() {
            let selected = match &self.columns {
                Some(columns) => columns.contains(field.name()),
                None => op != Some(field.name().as_str()),
            };
            if selected {
                fields.push(Field::new(field.name(), plain_type(field.data_type()), true));
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

/// The type that the sink takes for a type that Arrow has more than one of.
pub(crate) fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Time32(_) | DataType::Time64(_) => {
            DataType::Utf8
        }
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Date64 => DataType::Date32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::LargeList(element) => DataType::List(element.clone()),
        other => other.clone(),
    }
}

fn convert(
    column: &ArrayRef,
    data_type: &DataType,
    name: &str,
    file: &ParquetFile,
) -> anyhow::Result<ArrayRef> {
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    let exact = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, data_type, &exact)
        .map_err(|error| bad_input(format!("{}, column `{name}`: {error}", file.name())))
}

fn ops(batch: &RecordBatch, op: &OpColumn) -> anyhow::Result<StringArray> {
    let column = batch.column_by_name(&op.name).expect("the projection holds the op column");
    let text = arrow_cast::cast(column, &DataType::Utf8);
    let text = text.map_err(|error| bad_input(format!("op column `{}`: {error}", op.name)))?;
    Ok(text.as_string::<i32>().clone())
}

fn schema_of(file: &ParquetFile) -> anyhow::Result<SchemaRef> {
    match file {
        ParquetFile::Disk(path) => Ok(builder(position::open(path)?, file)?.schema().clone()),
        ParquetFile::Memory(_, bytes) => Ok(builder(bytes.clone(), file)?.schema().clone()),
    }
}

fn builder<C: ChunkReader + 'static>(
    input: C,
    file: &ParquetFile,
) -> anyhow::Result<ParquetRecordBatchReaderBuilder<C>> {
    ParquetRecordBatchReaderBuilder::try_new(input).map_err(|error| damaged(file, &error))
}

fn damaged(file: &ParquetFile, error: &parquet::errors::ParquetError) -> anyhow::Error {
    bad_input(format!(
        "{}: {error}; this is no whole Parquet file, fetch it again or correct `format`",
        file.name()
    ))
}

fn difference(first: &Schema, other: &Schema) -> String {
    for field in first.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return format!("`{}` is missing", field.name()),
            Ok(found) if found.data_type() != field.data_type() => {
                return format!(
                    "`{}` is {}, not {}",
                    field.name(),
                    found.data_type(),
                    field.data_type()
                );
            }
            Ok(_) => {}
        }
    }
    String::from("it has more columns, or another order")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../data/flights_cdc_2013_01.parquet");

    fn source(offset: Offset, batch_rows: usize) -> ParquetSource {
        let files = vec![ParquetFile::Memory("the sample", Bytes::from_static(SAMPLE))];
        let selection = Selection { columns: None, op: Some(OpColumn::new("op")) };
        ParquetSource::open(files, selection, offset, batch_rows).expect("the sample is Parquet")
    }

    #[test]
    fn every_row_of_the_sample_is_read_once() {
        let mut source = source(Offset::default(), 8192);
        assert!(source.schema().index_of("op").is_err());
        let (mut events, mut deletes) = (0, 0);
        while let Some(batch) = source.next().expect("readable") {
            assert!(batch.rows.num_rows() <= 8192);
            events += batch.events;
            deletes += batch.kinds.iter().filter(|&&k| k == upsert_sink::RowKind::Delete).count();
            assert_eq!(batch.end.event, events);
        }
        assert_eq!((events, deletes), (80_406, 521));
    }

    #[test]
    fn reading_goes_on_at_any_row() {
        let end = |row| Offset { file: 0, event: row, byte: 0 };
        let mut whole = source(end(0), 10);
        let mut rest = source(end(7), 3);
        let whole = whole.next().expect("readable").expect("not empty");
        let rest = rest.next().expect("readable").expect("not empty");
        assert_eq!(whole.rows.slice(7, 3), rest.rows);
        assert_eq!(rest.end, end(10));
        assert!(source(end(80_406), 10).next().expect("readable").is_none());
    }

    #[test]
    fn a_truncated_file_is_named() {
        let files = vec![ParquetFile::Memory("half", Bytes::from_static(&SAMPLE[..400_000]))];
        let error = ParquetSource::open(files, Selection::default(), Offset::default(), 10);
        let error = error.err().expect("truncated");
        assert!(error.to_string().starts_with("half: "), "{error}");
        assert_eq!(crate::failure::exit_code(&error), 2);
    }

    #[test]
    fn a_missing_column_is_named_with_those_there_are() {
        let files = vec![ParquetFile::Memory("the sample", Bytes::from_static(SAMPLE))];
        let columns = Some(vec![String::from("carier")]);
        let selection = Selection { columns, op: None };
        let error = ParquetSource::open(files, selection, Offset::default(), 10).err();
        let error = error.expect("there is no such column").to_string();
        assert!(error.contains("`carier`") && error.contains("carrier"), "{error}");
    }
}
