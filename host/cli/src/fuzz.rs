//! Fuzz bodies of what only this program reads: its checkpoint files, and the texts of sources.
//!
//! Compiled for tests. The corpus and the loop are those of `tests/fuzz`, and so are the variables
//! to run longer or again. Invariant: beyond "no panic", what is read is read alike when it is
//! written again, and a refusal names the file and the line.

use std::borrow::Cow;
use std::path::Path;

use anyhow::{Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{Schema, SchemaRef};
use upsert_sink_format::sealed::{Kind, Sealer};
use upsert_sink_tests::fuzz::{over_corpus, shape};

use crate::failure::exit_code;
use crate::job::{Job, RowForm};
use crate::source::columns::build_column;
use crate::source::csv::{CsvLayout, CsvSource, Naming};
use crate::source::lines::LineReader;
use crate::source::position::{InputFile, Offset};
use crate::source::types::parse_column;
use crate::source::value::Json;
use crate::source::{Source, value};
use crate::state;

#[test]
fn any_checkpoint_file_is_what_was_written_or_refused_by_name() -> Result<()> {
    let words = &["\"file\":", "\"event\":", "\"byte\":", "\n---\n"];
    // One of the three parts of state.
    over_corpus(3, "checkpoint_file", words, &checkpoint_file)
}

#[test]
fn any_source_is_read_alike_when_it_is_written_again_or_refused_with_its_line() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let words = &["\"", "\"\"", "\r\n", ",", "\u{feff}", "[source]\n", "columns = [\"a INT\"]\n"];
    over_corpus(1, "source", words, &|input| source(input, dir.path()))
}

/// A file as it is, or, if the input begins with a line `whole`, one around its two parts: the
/// engine's part and the sink's.
fn checkpoint_file(input: &[u8]) -> Result<String> {
    let around = input.strip_prefix(b"whole\n").map(file_around);
    let path = Path::new("checkpoint-7.state");
    match state::decode(around.as_deref().unwrap_or(input), path) {
        Ok(stored) => {
            let again = state::decode(&state::encode(&stored), path)?;
            ensure!(again == stored, "{stored:?} became {again:?}");
            Ok(format!("read {}", stored.job.files.len().min(3)))
        }
        Err(error) => {
            let message = error.to_string();
            let named = message.contains("checkpoint-7.state") && exit_code(&error) == 2;
            ensure!(named, "a checkpoint is refused as {message}");
            Ok(shape(&message))
        }
    }
}

fn file_around(parts: &[u8]) -> Vec<u8> {
    let mark = b"\n---\n";
    let middle = parts.windows(mark.len()).position(|window| window == mark);
    let job = &parts[..middle.unwrap_or(parts.len())];
    let sink = middle.map_or(&[][..], |at| &parts[at + mark.len()..]);
    Sealer::new(Kind::Job).bytes(job).bytes(sink).seal()
}

/// The first line says what the rest is.
fn source(input: &[u8], dir: &Path) -> Result<String> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (first, rest) = (&input[..end], input.get(end + 1..).unwrap_or_default());
    let text = String::from_utf8_lossy(rest);
    match first {
        b"json" => json(&text),
        b"job" => job(&text),
        b"column" => column(&text),
        b"tabs" => {
            let naming = Naming::Job(vec![String::from("a"), String::from("b")]);
            csv(rest, dir, CsvLayout { naming, delimiter: b'\t', ..layout(None) })
        }
        _ => csv(rest, dir, layout(Some(b'"'))),
    }
}

fn layout(quote: Option<u8>) -> CsvLayout {
    CsvLayout { naming: Naming::Header, delimiter: b',', quote, null_text: String::from("NULL") }
}

fn csv(bytes: &[u8], dir: &Path, layout: CsvLayout) -> Result<String> {
    let (batches, ends) = match read(bytes, dir, &layout, Offset::default()) {
        Ok(read) => read,
        Err(error) => {
            let message = format!("{error:#}");
            let named = message.contains("rows.csv, line ") && exit_code(&error) == 2;
            ensure!(named, "rows are refused as {message}");
            return Ok(shape(message.split("rows.csv").last().unwrap_or_default()));
        }
    };
    let rows = rows(&batches);
    for (number, (before, end)) in ends.iter().enumerate().take(3) {
        let (rest, _) = read(bytes, dir, &layout, *end)?;
        ensure!(self::rows(&rest) == rows[*before..], "after batch {number}, from {end:?}");
    }
    if layout.quote.is_some() {
        let written = written(&rows);
        let (again, _) = read(written.as_bytes(), dir, &layout, Offset::default())?;
        ensure!(self::rows(&again) == rows, "{rows:?} became {again:?} by way of {written:?}");
    }
    Ok(format!("{} rows", rows.len().min(5)))
}

type Row = Vec<Option<String>>;
type Ends = Vec<(usize, Offset)>;

fn read(
    bytes: &[u8],
    dir: &Path,
    layout: &CsvLayout,
    offset: Offset,
) -> Result<(Vec<RecordBatch>, Ends)> {
    let path = dir.join("rows.csv");
    std::fs::write(&path, bytes)?;
    let files = vec![InputFile::read(&path)?];
    let columns = ["a STRING", "b STRING"].map(|text| parse_column(text).expect("a column"));
    let schema = SchemaRef::new(Schema::new(columns.to_vec()));
    let reader = LineReader::new(files, offset, 4);
    let mut source = CsvSource::new(reader, schema, None, layout.clone());
    let (mut batches, mut ends, mut count) = (Vec::new(), Vec::new(), 0);
    while let Some(events) = source.next()? {
        count += events.rows.num_rows();
        ends.push((count, events.end));
        batches.push(events.rows);
    }
    Ok((batches, ends))
}

fn rows(batches: &[RecordBatch]) -> Vec<Row> {
    let row = |batch: &RecordBatch, row: usize| {
        let texts = batch.columns().iter().map(|column| column.as_string::<i32>());
        let value = |texts: &arrow_array::StringArray| {
            (!texts.is_null(row)).then(|| String::from(texts.value(row)))
        };
        texts.map(value).collect()
    };
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |at| row(batch, at))).collect()
}

/// Rows in the one spelling that needs no look at their text.
fn written(rows: &[Row]) -> String {
    let value = |value: &Option<String>| match value {
        None => String::from("NULL"),
        Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
    };
    let line = |row: &Row| row.iter().map(value).collect::<Vec<_>>().join(",") + "\n";
    String::from("a,b\n") + &rows.iter().map(line).collect::<String>()
}

fn json(text: &str) -> Result<String> {
    match value::parse(text) {
        Ok(found) => {
            let written = spelled(&found);
            let again = value::parse(&written);
            ensure!(again.as_ref() == Ok(&found), "{found:?} became {again:?} as {written}");
            Ok(shape(&written))
        }
        Err((at, what)) => {
            ensure!(at <= text.len() + 1 && !what.is_empty(), "byte {at} of {}", text.len());
            Ok(String::from(what))
        }
    }
}

fn spelled(value: &Json<'_>) -> String {
    let text = |text: &str| serde_json::to_string(text).expect("a string is JSON");
    match value {
        Json::Null => String::from("null"),
        Json::Bool(value) => value.to_string(),
        Json::Number(digits) => String::from(*digits),
        Json::Text(value) => text(value),
        Json::Array(values) => {
            format!("[{}]", values.iter().map(spelled).collect::<Vec<_>>().join(","))
        }
        Json::Object(fields) => {
            let field = |(name, value): &(Cow<'_, str>, Json<'_>)| {
                format!("{}:{}", text(name), spelled(value))
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
    }
}

fn job(text: &str) -> Result<String> {
    match Job::parse("job", text, &|name| (name == "FEED").then(|| String::from("/feed"))) {
        Ok(job) => {
            let rows = RowForm::of(&job.options);
            let table = job.table.as_ref().map(|table| table.new_table(rows)).transpose();
            let table = table.map_err(|error| anyhow::anyhow!("a checked table: {error}"))?;
            Ok(format!("a job {}", shape(&format!("{table:?}"))))
        }
        Err(error) => {
            let message = error.to_string();
            ensure!(!message.is_empty() && exit_code(&error) == 2, "refused as {message:?}");
            Ok(shape(&message))
        }
    }
}

fn column(text: &str) -> Result<String> {
    match parse_column(text) {
        Ok(field) => {
            let array = build_column(&field.clone().into(), &[Json::Null]);
            let array = array.map_err(|fault| anyhow::anyhow!("{field:?}: {}", fault.message))?;
            ensure!(array.data_type() == field.data_type() && array.is_null(0), "{array:?}");
            Ok(shape(&format!("{:?}", field.data_type())))
        }
        Err(message) => {
            let start: String = text.chars().take(1).collect();
            let quoted = format!("{start:?}");
            ensure!(message.contains(quoted.trim_matches('"')), "{text:?} is refused as {message}");
            Ok(shape(&message))
        }
    }
}
