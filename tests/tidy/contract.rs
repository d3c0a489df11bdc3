//! The contract in `wit/`: documented, versioned, small.
//!
//! Invariant: every item carries `@since` and a sentence; more than half of the lines are
//! documentation.

use crate::Finding;

/// The widest line of WIT.
const COLUMNS_MAX: usize = 130;
/// Documentation lines in a hundred lines that are not empty.
const DOCS_SHARE_MIN: usize = 55;
/// Exported functions, roles and their shared verbs counted apart. It may fall, and not rise.
const EXPORTED_FUNCTIONS_MAX: usize = 16;
/// The interfaces that the component exports; the others are imports.
const EXPORTS: [&str; 5] = ["writer", "coordinator", "committer", "route", "describe"];

/// The rules of one file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if line.chars().count() > COLUMNS_MAX {
            let rule = format!("{} columns, at most {COLUMNS_MAX}", line.chars().count());
            found.push(Finding::new(path, number + 1, rule));
        }
        if line.contains("wasi:") {
            found.push(Finding::new(path, number + 1, "the component imports no WASI"));
        }
        if line.contains(", string>;") && line.contains("result<") {
            found.push(Finding::new(path, number + 1, "an error is a kind, never a bare string"));
        }
        if is_item(line) {
            let since = number > 0 && lines[number - 1].trim().starts_with("@since(version = ");
            let documented = number > 1 && lines[number - 2].trim().starts_with("///");
            if !since || !documented {
                found.push(Finding::new(path, number + 1, "a sentence, `@since`, then the item"));
            }
        }
    }
    found
}

/// The share of documentation, over all files.
pub(crate) fn docs_share(files: &[(String, String)]) -> Vec<Finding> {
    let lines = files.iter().flat_map(|(_, text)| text.lines()).map(str::trim);
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let docs = lines.iter().filter(|line| line.starts_with("///")).count();
    let share = 100 * docs / lines.len().max(1);
    let rule = format!("{share} % documentation, at least {DOCS_SHARE_MIN} %");
    (share < DOCS_SHARE_MIN).then(|| Finding::new("wit", 1, rule)).into_iter().collect()
}

/// Few functions make versions cheap.
pub(crate) fn exported_functions(files: &[(String, String)]) -> Vec<Finding> {
    let exported = files
        .iter()
        .filter(|(path, _)| EXPORTS.iter().any(|name| *path == format!("wit/{name}.wit")));
    let functions = exported.flat_map(|(_, text)| text.lines()).filter(|line| is_function(line));
    let count = functions.count();
    let rule = format!("{count} exported functions, at most {EXPORTED_FUNCTIONS_MAX}");
    (count > EXPORTED_FUNCTIONS_MAX || count == 0)
        .then(|| Finding::new("wit", 1, rule))
        .into_iter()
        .collect()
}

fn is_item(line: &str) -> bool {
    let line = line.trim();
    let words =
        ["interface ", "record ", "variant ", "enum ", "type ", "world ", "resource ", "flags "];
    words.iter().any(|word| line.starts_with(word)) || is_function(line)
}

fn is_function(line: &str) -> bool {
    !line.trim().starts_with("//") && line.contains(": func(")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_without_a_version_or_a_sentence_is_found() {
        assert_eq!(check("wit/a.wit", "/// A.\n@since(version = 0.2.0)\ninterface a {"), []);
        assert_eq!(check("wit/a.wit", "/// A.\ninterface a {").len(), 1);
        assert_eq!(check("wit/a.wit", "\n@since(version = 0.2.0)\n  b: func();").len(), 1);
    }

    #[test]
    fn a_bare_string_as_an_error_is_found() {
        let text = "/// A.\n@since(version = 0.2.0)\na: func() -> result<u8, string>;";
        assert_eq!(check("wit/a.wit", text).len(), 1);
        assert_eq!(check("wit/a.wit", "import wasi:clocks/wall-clock;").len(), 1);
    }

    #[test]
    fn a_contract_that_grows_is_found() {
        let files =
            |count: usize| vec![("wit/writer.wit".to_owned(), "a: func();\n".repeat(count))];
        assert_eq!(exported_functions(&files(16)), []);
        assert_eq!(exported_functions(&files(17)).len(), 1);
        assert_eq!(docs_share(&files(3)).len(), 1);
    }
}
