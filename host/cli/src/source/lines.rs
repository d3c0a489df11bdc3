//! Lines of text files and of standard input, a batch at a time.
//!
//! `json.rs` and `debezium.rs` parse what comes from here. Invariant: a batch never spans two
//! files, is bounded in lines and bytes, and knows the number of each of its lines.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;

use anyhow::Context;

use crate::failure::bad_input;
use crate::source::position;
use crate::source::position::InputFile;
use crate::source::position::Offset;

/// A longer line is refused: it is not a row, but a file of another format.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// A batch ends after this many bytes even if it has few lines.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Bytes read from a file at once.
const READ_BYTES: usize = 256 << 10;

/// Reads files one after another.
pub(crate) struct LineReader {
    files: Vec<InputFile>,
    offset: Offset,
    reader: Option<BufReader<Box<dyn Read + Send>>>,
    lines_max: usize,
}

/// Lines of one file.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    path: String,
    text: String,
    ends: Vec<usize>,
    first: u64,
    /// Where the line after the last one begins.
    pub(crate) end: Offset,
}

impl Lines {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them, without its end of line.
    pub(crate) fn line(&self, index: usize) -> &str {
        self.text[self.range(index)].trim_end_matches(['\n', '\r'])
    }

    fn range(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        start..self.ends[index]
    }

    /// An error in one of the lines: file, line number, and what is wrong.
    pub(crate) fn fault(&self, index: usize, message: &str) -> anyhow::Error {
        bad_input(format!("{}, line {}: {message}", self.path, self.first + index as u64 + 1))
    }
}

impl LineReader {
    /// Reads from `offset` on, at most `lines_max` lines at once.
    pub(crate) fn new(files: Vec<InputFile>, offset: Offset, lines_max: usize) -> Self {
        Self { files, offset, reader: None, lines_max }
    }

    /// The next lines; none at the end of the last file.
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

    fn next_of(&mut self, file: &InputFile) -> anyhow::Result<Lines> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => open(file, self.offset.byte)?,
        };
        let mut lines = Lines { path: name(file), first: self.offset.event, ..Lines::default() };
        while lines.len() < self.lines_max && lines.text.len() < BATCH_BYTES_MAX {
            // What a slow producer has sent so far must not wait for what it has not.
            if file.is_standard_input() && lines.len() > 0 && reader.buffer().is_empty() {
                break;
            }
            if !read_line(&mut reader, &mut lines)? {
                break;
            }
        }
        self.offset.event += lines.len() as u64;
        self.offset.byte += lines.text.len() as u64;
        lines.end = self.offset;
        self.reader = Some(reader);
        Ok(lines)
    }
}

/// Reads one line; false at the end of the file.
fn read_line(
    reader: &mut BufReader<Box<dyn Read + Send>>,
    lines: &mut Lines,
) -> anyhow::Result<bool> {
    let mut bytes = Vec::new();
    reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(false);
    }
    let index = lines.len();
    if bytes.len() as u64 == LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
        let message = format!("longer than {LINE_BYTES_MAX} bytes; write one JSON value per line");
        return Err(lines.fault(index, &message));
    }
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to() + 1;
        lines.fault(index, &format!("byte {at} is not UTF-8; convert the file to UTF-8"))
    })?;
    lines.text.push_str(text);
    lines.ends.push(lines.text.len());
    Ok(true)
}

fn open(file: &InputFile, byte: u64) -> anyhow::Result<BufReader<Box<dyn Read + Send>>> {
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
    fn bytes_that_are_not_utf8_are_named_by_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = vec![file(&dir, "a", b"ok\nb\xffd\n")];
        let mut reader = LineReader::new(files, Offset::default(), 100);
        let error = format!("{:#}", reader.next().expect_err("not UTF-8"));
        assert!(error.contains("line 2") && error.contains("byte 2 is not UTF-8"), "{error}");
    }
}
