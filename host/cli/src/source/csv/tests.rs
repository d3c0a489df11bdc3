//! Promises of CSV sources: what is read, what is refused with its line, and where reading goes on.

use arrow_schema::Schema;

use super::*;
use crate::source::position::{InputFile, Offset};
use crate::source::types::parse_column;

const COLUMNS: &[&str] = &["id BIGINT", "name STRING"];

fn layout() -> CsvLayout {
    CsvLayout {
        naming: Naming::Header,
        delimiter: b',',
        quote: Some(b'"'),
        null_text: String::new(),
    }
}

struct Input {
    _dir: tempfile::TempDir,
    files: Vec<InputFile>,
}

impl Input {
    fn new(texts: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut files = Vec::new();
        for (number, text) in texts.iter().enumerate() {
            let path = dir.path().join(format!("rows-{number}.csv"));
            std::fs::write(&path, text).expect("written");
            files.push(InputFile::read(&path).expect("readable"));
        }
        Self { _dir: dir, files }
    }

    fn source(&self, offset: Offset, columns: &[&str], op: bool, layout: CsvLayout) -> CsvSource {
        let columns: Vec<_> =
            columns.iter().map(|text| parse_column(text).expect("valid")).collect();
        let schema = SchemaRef::new(Schema::new(columns));
        let reader = LineReader::new(self.files.clone(), offset, 3);
        CsvSource::new(reader, schema, op.then(|| OpColumn::new("op")), layout)
    }
}

/// How many rows were read when a batch ended, and where that is.
type BatchEnd = (usize, Offset);

/// All values as text, and where each batch ends.
fn read(source: &mut CsvSource) -> Result<(Vec<String>, Vec<BatchEnd>), String> {
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    while let Some(events) = source.next().map_err(|error| format!("{error:#}"))? {
        for row in 0..events.rows.num_rows() {
            let value = |column: &arrow_array::ArrayRef| {
                let text = arrow_cast::display::array_value_to_string(column, row);
                if column.is_null(row) { String::from("-") } else { text.expect("printable") }
            };
            let values: Vec<String> = events.rows.columns().iter().map(value).collect();
            rows.push(values.join("|"));
        }
        ends.push((rows.len(), events.end));
    }
    Ok((rows, ends))
}

fn all(text: &str) -> Result<Vec<String>, String> {
    let input = Input::new(&[text]);
    read(&mut input.source(Offset::default(), COLUMNS, false, layout())).map(|(rows, _)| rows)
}

#[test]
fn fields_are_found_by_the_names_in_the_header() {
    let rows = all("\u{feff}name,other,id\r\nann,x,1\r\n\"b,\"\"o\"\"\nb\",,2\r\n").expect("valid");
    assert_eq!(rows, ["1|ann", "2|b,\"o\"\nb"]);
}

#[test]
fn null_is_never_quoted_and_text_may_be_empty() {
    assert_eq!(all("id,name\n1,\n2,\"\"\n3,x").expect("valid"), ["1|-", "2|", "3|x"]);
    let input = Input::new(&["id;name\n1;\\N\n2;\n3;'\\N'\n"]);
    let layout = CsvLayout {
        delimiter: b';',
        quote: Some(b'\''),
        null_text: String::from("\\N"),
        ..layout()
    };
    let (rows, _) =
        read(&mut input.source(Offset::default(), COLUMNS, false, layout)).expect("valid");
    assert_eq!(rows, ["1|-", "2|", "3|\\N"]);
}

#[test]
fn without_quoting_every_character_is_text() {
    let input = Input::new(&["1\tsix\" nails\n"]);
    let naming = Naming::Job(vec![String::from("id"), String::from("name")]);
    let layout = CsvLayout { naming, delimiter: b'\t', quote: None, ..layout() };
    let (rows, _) =
        read(&mut input.source(Offset::default(), COLUMNS, false, layout)).expect("valid");
    assert_eq!(rows, ["1|six\" nails"]);
}

#[test]
fn every_type_is_read_as_from_other_text() {
    let columns = [
        "a BOOLEAN",
        "b TINYINT",
        "c DOUBLE",
        "d DECIMAL(5,2)",
        "e BYTES",
        "f DATE",
        "g TIMESTAMP(3)",
        "h ARRAY<INT>",
        "i ROW<x INT>",
        "j DATE",
    ];
    let text = "a,b,c,d,e,f,g,h,i,j\nTRUE,-5,NaN,1.50,aGk=,2013-01-01,2013-01-01 00:00:01.5,\
                \"[1,null]\",\"{\"\"x\"\":7}\",15706\n";
    let input = Input::new(&[text]);
    let (rows, _) =
        read(&mut input.source(Offset::default(), &columns, false, layout())).expect("valid");
    let expected =
        "true|-5|NaN|1.50|6869|2013-01-01|2013-01-01T00:00:01.500|[1, ]|{x: 7}|2013-01-01";
    assert_eq!(rows, [expected]);
}

#[test]
fn an_op_column_says_what_a_row_does() {
    let input = Input::new(&["op,id,name\nI,1,a\nD,1,\n"]);
    let mut source = input.source(Offset::default(), COLUMNS, true, layout());
    let events = source.next().expect("valid").expect("two rows");
    assert_eq!(events.kinds, [RowKind::Insert, RowKind::Delete]);
    let input = Input::new(&["op,id,name\nI,1,a\n,1,\n"]);
    let error = read(&mut input.source(Offset::default(), COLUMNS, true, layout()));
    assert!(error.expect_err("null").contains("line 3: op column `op` = \"null\""));
}

#[test]
fn reading_goes_on_at_the_end_of_any_batch() {
    let second = "name,id\n\"x\n\n,y\",7\nz,8\n";
    let input = Input::new(&["id,name\n1,a\n\n2,\"b\nc\"\n3,d\n4,e\n5,f\n", "", second]);
    let mut source = input.source(Offset::default(), COLUMNS, false, layout());
    let (rows, ends) = read(&mut source).expect("valid");
    assert_eq!(rows, ["1|a", "2|b\nc", "3|d", "4|e", "5|f", "7|x\n\n,y", "8|z"]);
    assert!(ends.len() > 3, "{ends:?}");
    for (count, end) in ends {
        let (rest, _) = read(&mut input.source(end, COLUMNS, false, layout())).expect("valid");
        assert_eq!(rest, rows[count..], "from {end:?}");
    }
}

#[test]
fn an_empty_line_is_an_event_without_a_row_and_a_header_is_none() {
    let input = Input::new(&["id,name\n\n1,a\n"]);
    let mut source = input.source(Offset::default(), COLUMNS, false, layout());
    let events = source.next().expect("valid").expect("two events");
    assert_eq!((events.events, events.rows.num_rows()), (2, 1));
}

#[test]
fn faults_are_named_by_line() {
    for (text, line, part) in [
        ("id,name\n1,a\nx,b\n", "line 3", "column `id`: \"x\" is no BIGINT"),
        ("id,name\n1,\"a\nb\"\n2\n", "line 4", "1 fields, but 2 are named"),
        ("id,name\n1,a,b\n", "line 2", "3 fields, but 2 are named"),
        ("id,name\n1,a\"b\"\n", "line 2", "byte 4: a quote within a field"),
        ("id,name\n1,\"a\"b\n", "line 2", "byte 6: text follows a closing quote"),
        ("id,name\n1,\"a\n2,b\n", "line 2", "not closed before the file ends"),
        ("id,name\n1,a\rb\n", "line 2", "an end of line within a field"),
        ("id,nam\n1,a\n", "line 1", "no field is named `name`, only id, nam"),
        ("id,name,id\n1,a,2\n", "line 1", "two fields are named `id`"),
        ("\nid,name\n", "line 1", "it is empty"),
        ("id,\"name\n", "line 1", "not closed"),
    ] {
        let error = all(text).expect_err(text);
        assert!(error.contains(line) && error.contains(part), "{text:?}: {error}");
    }
}

#[test]
fn a_nested_value_that_is_no_json_is_named_with_its_column() {
    let input = Input::new(&["id,tags\n1,\"[1,\"\n"]);
    let columns = ["id BIGINT", "tags ARRAY<INT>"];
    let error = read(&mut input.source(Offset::default(), &columns, false, layout()));
    let error = error.expect_err("no JSON");
    assert!(error.contains("line 2") && error.contains("column `tags`: malformed JSON"), "{error}");
}
