//! Sizes: lines, files, functions, the shell; and the words every file opens with.
//!
//! Invariant: a size is counted as a reader sees it, tests and comments included.

use crate::Finding;
use crate::source::RustFile;

/// The widest line of Rust.
const COLUMNS_MAX: usize = 100;
/// A file of so few lines may say what it is in one.
const SHORT_FILE_LINES: usize = 80;
/// The longest Rust file.
const FILE_LINES_MAX: usize = 600;
/// The longest function.
const FUNCTION_LINES_MAX: usize = 70;
/// All of `guest/component/src` together: exports, and four powers.
const SHELL_LINES_MAX: usize = 440;

/// A file opens with `//!`: what it is; and, where rows pass, where it stands and its invariant.
pub(crate) fn header(file: &RustFile) -> Vec<Finding> {
    let doc = file.lines.iter().map_while(|line| line.strip_prefix("//!"));
    let doc: Vec<&str> = doc.map(str::trim).collect();
    if doc.first().is_none_or(|line| line.is_empty()) {
        return vec![Finding::new(&file.path, 1, "opens with `//!` and what it is")];
    }
    let shipped = !file.in_tests.iter().all(|test| *test);
    let large = file.lines.len() > SHORT_FILE_LINES;
    let says = doc.iter().any(|line| line.to_lowercase().contains("invariant"));
    let rule = "`//!` says where it stands and the invariant it keeps";
    (shipped && large && !says).then(|| Finding::new(&file.path, 1, rule)).into_iter().collect()
}

/// No line is wider than the page.
pub(crate) fn line_length(file: &RustFile) -> Vec<Finding> {
    let lines = file.lines.iter().enumerate();
    lines
        .filter(|(_, line)| line.chars().count() > COLUMNS_MAX)
        .map(|(number, line)| {
            let rule = format!("{} columns, at most {COLUMNS_MAX}", line.chars().count());
            Finding::new(&file.path, number + 1, rule)
        })
        .collect()
}

/// No file is longer than a reader's patience.
pub(crate) fn file_length(file: &RustFile) -> Vec<Finding> {
    let lines = file.lines.len();
    let rule = format!("{lines} lines, at most {FILE_LINES_MAX}");
    (lines > FILE_LINES_MAX).then(|| Finding::new(&file.path, lines, rule)).into_iter().collect()
}

/// No function is longer than a screen.
pub(crate) fn function_length(file: &RustFile) -> Vec<Finding> {
    let functions = file.functions().into_iter();
    functions
        .filter(|function| function.last - function.first + 1 > FUNCTION_LINES_MAX)
        .map(|function| {
            let lines = function.last - function.first + 1;
            let rule = format!("fn {}: {lines} lines, at most {FUNCTION_LINES_MAX}", function.name);
            Finding::new(&file.path, function.first + 1, rule)
        })
        .collect()
}

/// The shell decides nothing, so it has no room to.
pub(crate) fn shell(files: &[RustFile]) -> Vec<Finding> {
    let shell = files.iter().filter(|file| file.path.starts_with("guest/component/src/"));
    let lines: usize = shell.map(|file| file.lines.len()).sum();
    let rule = format!("{lines} lines in all, between 1 and {SHELL_LINES_MAX}");
    let wrong = lines == 0 || lines > SHELL_LINES_MAX;
    wrong.then(|| Finding::new("guest/component/src", 1, rule)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> RustFile {
        RustFile::new("guest/core/src/x.rs", text)
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let long = "\n".repeat(81);
        assert_eq!(header(&file("use std::fmt;")).len(), 1);
        assert_eq!(header(&file("//! Only what it is.\nfn a() {}")), []);
        assert_eq!(header(&file(&format!("//! Only what it is.{long}"))).len(), 1);
        assert_eq!(header(&file(&format!("//! What.\n//!\n//! Where. Invariant: x.{long}"))), []);
    }

    #[test]
    fn a_wide_line_is_found() {
        let wide = format!("fn a() {{}}\n// {}", "é".repeat(98));
        assert_eq!(line_length(&file(&wide))[0].line, 2);
        assert_eq!(line_length(&file(&"é".repeat(100))), []);
    }

    #[test]
    fn a_long_file_and_a_long_function_are_found() {
        let body = "\n".repeat(69);
        assert_eq!(function_length(&file(&format!("fn a() {{{body}}}"))), []);
        assert_eq!(function_length(&file(&format!("fn a() {{{body}\n}}"))).len(), 1);
        assert_eq!(file_length(&file(&"x\n".repeat(601))).len(), 1);
        assert_eq!(file_length(&file(&"x\n".repeat(600))), []);
    }

    #[test]
    fn a_shell_that_grows_is_found() {
        let shell = |lines| RustFile::new("guest/component/src/lib.rs", &"x\n".repeat(lines));
        assert_eq!(shell_findings(&[shell(440)]), 0);
        assert_eq!(shell_findings(&[shell(250), shell(191)]), 1);
        assert_eq!(shell_findings(&[]), 1);
    }

    fn shell_findings(files: &[RustFile]) -> usize {
        shell(files).len()
    }
}
