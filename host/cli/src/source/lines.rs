//! Lines of text files and of standard input, a batch at a time; or records, which may have several
//! lines.
//!
//! `json.rs`, `debezium.rs` and `csv.rs` parse what comes from here. Invariant: a batch never spans
//! two files, is bounded in lines and bytes, and knows the number of the line where each of its
//! events begins.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use anyhow::Context;

use crate::failure::bad_input;
use crate::source::position;
use crate::source::position::{InputFile, Offset};

/// A longer line or record is refused: it is not a row, but a file of another format.
const LINE_BYTES_MAX: usize = 64 << 20;
/// A batch ends after this many bytes even if it has few lines.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// The mark that some programs begin a UTF-8 file with. It is no part of the first line.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads files one after another.
pub(crate) struct LineReader {
    files: Vec<InputFile>,
    offset: Offset,
    reader: Option<Reader>,
    lines_max: usize,
    /// Within a pair of these an end of line is text.
    quote: Option<u8>,
}

/// Events of one file: lines, or records of one or more lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    path: String,
    text: String,
    ends: Vec<usize>,
    /// Lines before the one in which each event begins.
    numbers: Vec<u64>,
    /// Lines up to here, from the beginning of the file.
    read: u64,
    /// Whether the first event is the first of its file, or of standard input.
    pub(crate) begins_file: bool,
    /// Where the line after the last one begins.
    pub(crate) end: Offset,
}

impl Lines {
    /// How many events there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them, without its end of line.
    pub(crate) fn line(&self, index: usize) -> &str {
        let line = self.text[self.range(index)].trim_end_matches(['\n', '\r']);
        match index {
            0 if self.begins_file => line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line),
            _ => line,
        }
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// An error in one of the events: file, number of the line where it begins, and what is wrong.
    pub(crate) fn fault(&self, index: usize, message: &str) -> anyhow::Error {
        self.fault_after(self.numbers[index], message)
    }

    fn fault_after(&self, lines_before: u64, message: &str) -> anyhow::Error {
        bad_input(format!("{}, line {}: {message}", self.path, lines_before + 1))
    }
}

impl LineReader {
    /// Reads from `offset` on, at most `lines_max` events at once.
    pub(crate) fn new(files: Vec<InputFile>, offset: Offset, lines_max: usize) -> Self {
        Self { files, offset, reader: None, lines_max, quote: None }
    }

    /// Reads records: an end of line between two of these quotes does not end one.
    pub(crate) fn quoted_by(self, quote: Option<u8>) -> Self {
        Self { quote, ..self }
    }

    /// The next events; none at the end of the last file.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Lines>> {
        while let Some(file) = self.files.get(self.offset.file) {
            let file = file.clone();
            let lines = self.next_of(&file).with_context(|| name(&file))?;
            if lines.len() > 0 {
                return Ok(Some(lines));
            }
            self.reader = None;
            self.offset = Offset { file: self.offset.file + 1, event: 0, byte: 0 };
        }
        Ok(None)
    }

    /// The first event of a file that is being read from its middle.
    pub(crate) fn head(&self, file: usize) -> anyhow::Result<Lines> {
        let files = self.files.get(file).cloned().into_iter().collect();
        let head = Self::new(files, Offset::default(), 1).quoted_by(self.quote).next()?;
        head.context("a file of which lines were read is empty now")
    }

    fn next_of(&mut self, file: &InputFile) -> anyhow::Result<Lines> {
        let is_fresh = file.is_standard_input() || self.offset.byte == 0;
        let begins_file = is_fresh && self.reader.is_none();
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => open(file, self.offset.byte)?,
        };
        let (path, read) = (name(file), self.offset.event);
        let mut lines = Lines { path, read, begins_file, ..Lines::default() };
        while lines.len() < self.lines_max && lines.text.len() < BATCH_BYTES_MAX {
            // What a slow producer has sent so far must not wait for what it has not.
            if file.is_standard_input() && lines.len() > 0 && reader.buffer().is_empty() {
                break;
            }
            if !read_event(&mut reader, &mut lines, self.quote)? {
                break;
            }
        }
        self.offset.event = lines.read;
        self.offset.byte += lines.text.len() as u64;
        lines.end = self.offset;
        self.reader = Some(reader);
        Ok(lines)
    }
}

type Reader = BufReader<Box<dyn Read + Send>>;

/// Reads one event; false at the end of the file.
fn read_event(reader: &mut Reader, lines: &mut Lines, quote: Option<u8>) -> anyhow::Result<bool> {
    let (start, number) = (lines.text.len(), lines.read);
    let mut is_open = false;
    loop {
        let line = lines.text.len();
        if !read_line(reader, lines, start)? {
            if line == start {
                return Ok(false);
            }
            let message = "a quote is opened in this row and not closed before the file ends; \
                           close it, or double it if it is text";
            return Err(lines.fault_after(number, message));
        }
        let quotes = lines.text[line..].bytes().filter(|byte| Some(*byte) == quote).count();
        is_open ^= quotes % 2 == 1;
        if !is_open {
            lines.ends.push(lines.text.len());
            lines.numbers.push(number);
            return Ok(true);
        }
    }
}

/// Reads one line of the event that began at `start`; false at the end of the file.
fn read_line(reader: &mut Reader, lines: &mut Lines, start: usize) -> anyhow::Result<bool> {
    let room = LINE_BYTES_MAX - (lines.text.len() - start);
    let mut bytes = Vec::new();
    reader.by_ref().take(room as u64).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(false);
    }
    if bytes.len() == room {
        let message = format!(
            "longer than {LINE_BYTES_MAX} bytes, which no row is; is an end of line missing, or a \
             quote?"
        );
        return Err(lines.fault_after(lines.read, &message));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to() + 1;
        let message = format!("byte {at} is not UTF-8; convert the file to UTF-8");
        lines.fault_after(lines.read, &message)
    })?;
    lines.text.push_str(text);
    lines.read += 1;
    Ok(true)
}

fn open(file: &InputFile, byte: u64) -> anyhow::Result<Reader> {
    let input: Box<dyn Read + Send> = if file.is_standard_input() {
        Box::new(std::io::stdin())
    } else {
        let mut opened = position::open(Path::new(&file.path))?;
        opened.seek(SeekFrom::Start(byte))?;
        Box::new(opened)
    };
    Ok(BufReader::with_capacity(READ_BYTES, input))
}

fn name(file: &InputFile) -> String {
    if file.is_standard_input() {
        return String::from("standard input");
    }
    file.path.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> InputFile {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        InputFile::read(&path).expect("readable")
    }

    #[test]
    fn reading_goes_on_at_any_offset() {
        let dir = tempfile::tempdir().expect("a directory");
        let files =
            vec![file(&dir, "a", b"1\n2\r\n3\n"), file(&dir, "b", b""), file(&dir, "c", b"4")];
        let mut reader = LineReader::new(files.clone(), Offset::default(), 2);
        let mut seen = Vec::new();
        let mut ends = vec![(0, Offset::default())];
        while let Some(lines) = reader.next().expect("readable") {
            seen.extend((0..lines.len()).map(|index| lines.line(index).to_owned()));
            ends.push((seen.len(), lines.end));
        }
        assert_eq!(seen, ["1", "2", "3", "4"]);
        for (count, end) in ends {
            let mut reader = LineReader::new(files.clone(), end, 100);
            let mut rest = Vec::new();
            while let Some(lines) = reader.next().expect("readable") {
                rest.extend((0..lines.len()).map(|index| lines.line(index).to_owned()));
            }
            assert_eq!(rest, seen[count..]);
        }
    }

    #[test]
    fn a_quoted_end_of_line_ends_no_record_and_still_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = vec![file(&dir, "a", b"1,\"x\ny\"\"\n\"\n2,z\n3,\"\xff\"\n")];
        let mut reader = LineReader::new(files.clone(), Offset::default(), 2).quoted_by(Some(b'"'));
        let lines = reader.next().expect("readable").expect("two records");
        assert_eq!((lines.line(0), lines.line(1)), ("1,\"x\ny\"\"\n\"", "2,z"));
        assert_eq!((lines.end.event, lines.numbers.as_slice()), (4, &[0, 3][..]));
        let error = format!("{:#}", reader.next().expect_err("not UTF-8"));
        assert!(error.contains("line 5") && error.contains("byte 4"), "{error}");
        let mut rest = LineReader::new(files, lines.end, 2).quoted_by(Some(b'"'));
        assert!(format!("{:#}", rest.next().expect_err("not UTF-8")).contains("line 5"));
    }

    #[test]
    fn a_quote_that_stays_open_is_named_where_it_was_opened() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = vec![file(&dir, "a", b"1,x\n2,\"y\n3,z\n")];
        let mut reader = LineReader::new(files, Offset::default(), 9).quoted_by(Some(b'"'));
        let error = format!("{:#}", reader.next().expect_err("it is open"));
        assert!(error.contains("line 2") && error.contains("not closed"), "{error}");
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = vec![file(&dir, "a", b"\xef\xbb\xbf1\n\xef\xbb\xbf2\n")];
        let mut reader = LineReader::new(files, Offset::default(), 9);
        let lines = reader.next().expect("readable").expect("two lines");
        assert_eq!((lines.line(0), lines.line(1)), ("1", "\u{feff}2"));
        assert_eq!(lines.end.byte, 10);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_named_by_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = vec![file(&dir, "a", b"ok\nb\xffd\n")];
        let mut reader = LineReader::new(files, Offset::default(), 100);
        let error = format!("{:#}", reader.next().expect_err("not UTF-8"));
        assert!(error.contains("line 2") && error.contains("byte 2 is not UTF-8"), "{error}");
    }
}
