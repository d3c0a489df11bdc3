//! Newline-delimited JSON: one object per line, its columns declared by the job.
//!
//! `lines.rs` gives the lines, `value.rs` parses each, `columns.rs` builds the batch. Invariant:
//! every line is one event; an empty line is an event without rows, and a line that cannot be used
//! stops the job with its number.

use arrow_array::StringArray;
use arrow_schema::SchemaRef;
use upsert_sink::RowKind;

use crate::source::columns::build_batch;
use crate::source::kinds::OpColumn;
use crate::source::lines::{LineReader, Lines};
use crate::source::value::Json;
use crate::source::{Events, Source, value};

/// Objects, each a row.
pub(crate) struct JsonSource {
    reader: LineReader,
    schema: SchemaRef,
    op: Option<OpColumn>,
}

impl JsonSource {
    /// Reads rows of `schema`, of which every field is nullable. Without an op column all rows are
    /// inserts.
    pub(crate) fn new(reader: LineReader, schema: SchemaRef, op: Option<OpColumn>) -> Self {
        Self { reader, schema, op }
    }
}

impl Source for JsonSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> anyhow::Result<Option<Events>> {
        let Some(lines) = self.reader.next()? else { return Ok(None) };
        let parsed = parse_lines(&lines)?;
        let mut objects = Vec::with_capacity(parsed.len());
        for (index, value) in &parsed {
            if !matches!(value, Json::Object(_)) {
                let message = format!("{} is no object; write one per line", value.describe());
                return Err(lines.fault(*index, &message));
            }
            objects.push(value);
        }
        let fault = |row: usize, message: &str| lines.fault(parsed[row].0, message);
        let rows = build_batch(&self.schema, &objects);
        let rows = rows.map_err(|error| fault(error.row, &error.message))?;
        let kinds = match &self.op {
            None => Vec::new(),
            Some(op) => kinds(op, &objects).map_err(|(row, message)| fault(row, &message))?,
        };
        Ok(Some(Events { rows, kinds, events: lines.len() as u64, end: lines.end }))
    }
}

/// Parses every line that is not empty; each value comes with its line's index.
pub(crate) fn parse_lines(lines: &Lines) -> anyhow::Result<Vec<(usize, Json<'_>)>> {
    let mut parsed = Vec::with_capacity(lines.len());
    for index in 0..lines.len() {
        let line = lines.line(index);
        if line.trim().is_empty() {
            continue;
        }
        let value = value::parse(line).map_err(|(at, what)| {
            lines.fault(index, &format!("malformed JSON at byte {at}: {what}"))
        })?;
        parsed.push((index, value));
    }
    Ok(parsed)
}

fn kinds(op: &OpColumn, objects: &[&Json<'_>]) -> Result<Vec<RowKind>, (usize, String)> {
    let ops = objects.iter().map(|object| match object.field(&op.name) {
        Some(Json::Text(text)) => Some(text.as_ref()),
        Some(Json::Number(digits)) => Some(*digits),
        _ => None,
    });
    op.translate(&StringArray::from_iter(ops))
}

#[cfg(test)]
mod tests {
    use arrow_schema::Schema;

    use super::*;
    use crate::source::position::{InputFile, Offset};
    use crate::source::types::parse_column;

    fn source(text: &str) -> (tempfile::TempDir, JsonSource) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("rows.json");
        std::fs::write(&path, text).expect("written");
        let files = vec![InputFile::read(&path).expect("readable")];
        let columns = ["id BIGINT", "name STRING"].map(|text| parse_column(text).expect("valid"));
        let schema = SchemaRef::new(Schema::new(columns.to_vec()));
        let reader = LineReader::new(files, Offset::default(), 100);
        (dir, JsonSource::new(reader, schema, Some(OpColumn::new("op"))))
    }

    #[test]
    fn empty_lines_are_events_without_rows() {
        let text =
            "{\"op\":\"I\",\"id\":1,\"name\":\"a\",\"other\":[]}\n\n{\"op\":\"D\",\"id\":1}\n";
        let (_dir, mut source) = source(text);
        let events = source.next().expect("valid").expect("not empty");
        assert_eq!((events.events, events.rows.num_rows()), (3, 2));
        assert_eq!(events.kinds, [RowKind::Insert, RowKind::Delete]);
        assert!(source.next().expect("valid").is_none());
    }

    #[test]
    fn faults_are_named_by_line() {
        for (text, line, part) in [
            ("{\"op\":\"I\",\"id\":1}\n{\"op\":\n", "line 2", "malformed JSON"),
            ("\n\n{\"op\":\"I\",\"id\":\"x\"}\n", "line 3", "column `id`"),
            ("{\"op\":\"Z\",\"id\":1}\n", "line 1", "op column `op`"),
            ("{\"id\":1}\n", "line 1", "null"),
            ("[1]\n", "line 1", "is no object"),
        ] {
            let (_dir, mut source) = source(text);
            let error = format!("{:#}", source.next().expect_err(text));
            assert!(error.contains(line) && error.contains(part), "{error}");
        }
    }
}
