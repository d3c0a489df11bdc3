//! Names: the field's words with one meaning each, and tests named as promises.
//!
//! Looks at definitions only: what other crates are called is not ours.
//! Invariant: a word is judged as a whole segment of a name, so `Handle` is not `Handler`.

use crate::Finding;
use crate::source::{RustFile, is_word, word_places};

/// Words that say nothing about what a thing is.
const EMPTY: [&str; 8] =
    ["manager", "helper", "helpers", "util", "utils", "common", "handler", "impl"];

/// Words of other fields for what has a word here.
const FOREIGN: [(&str, &str); 8] = [
    ("txn", "session or commit"),
    ("transaction", "session or commit"),
    ("shard", "bucket or partition"),
    ("subtask", "writer"),
    ("savepoint", "checkpoint"),
    ("topic", "table"),
    ("offsetlog", "journal"),
    ("watermark", "barrier"),
];

/// Words with a meaning that holds in some places only.
const PLACED: [(&str, &str, &str); 2] = [
    ("epoch", "host/runtime/src/", "checkpoint id; an epoch is wasmtime's interruption"),
    ("store", "host/runtime/src/", "table or file cache; a store is wasmtime's"),
];

/// A defined name and the line it stands on, from one.
struct Defined {
    name: String,
    line: usize,
    keyword: &'static str,
    public: bool,
}

/// Names that say nothing: of types, functions, modules, files.
pub(crate) fn empty_names(file: &RustFile) -> Vec<Finding> {
    let stem = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
    let mut found = Vec::new();
    if EMPTY.contains(&stem.as_str()) {
        found.push(Finding::new(
            &file.path,
            1,
            format!("`{stem}.rs` says nothing: name the thing"),
        ));
    }
    for defined in definitions(file) {
        let parts = segments(&defined.name);
        let empty = parts.iter().any(|part| EMPTY.contains(&part.as_str()));
        // `common` inside a function's name may be English; as a type or a module it is not.
        let weighs = defined.keyword != "fn" || parts.len() == 1;
        if empty && weighs {
            let rule = format!("`{}` says nothing: name the thing", defined.name);
            found.push(Finding::new(&file.path, defined.line, rule));
        }
        // A private one may be what a foreign trait asks for.
        if defined.keyword == "fn" && defined.public && parts.len() > 1 && parts[0] == "get" {
            let rule = format!("`{}`: a getter is named as what it returns", defined.name);
            found.push(Finding::new(&file.path, defined.line, rule));
        }
    }
    found
}

/// Words that already mean something else here.
pub(crate) fn words_of_other_fields(file: &RustFile) -> Vec<Finding> {
    let mut found = Vec::new();
    for defined in definitions(file).iter().filter(|defined| defined.keyword != "fn") {
        for part in segments(&defined.name) {
            let foreign = FOREIGN.iter().find(|(word, _)| *word == part).map(|(_, say)| *say);
            let placed = PLACED
                .iter()
                .find(|(word, place, _)| *word == part && !file.path.starts_with(place))
                .map(|(_, _, say)| *say);
            if let Some(say) = foreign.or(placed) {
                let rule = format!("`{}`: for `{part}` say {say}", defined.name);
                found.push(Finding::new(&file.path, defined.line, rule));
            }
        }
    }
    found
}

/// A test is a promise: no `test_` before it, and more than one word.
pub(crate) fn test_names(file: &RustFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut attribute = false;
    for (line, code) in file.all() {
        let text = code.trim();
        attribute |= text.starts_with("#[test]") || text.starts_with("#[tokio::test");
        let Some(at) = word_places(code, "fn").first().copied().filter(|_| attribute) else {
            continue;
        };
        attribute = false;
        let name: String = code[at + 2..].trim().chars().take_while(|c| is_word(*c)).collect();
        if name.starts_with("test_") || segments(&name).len() < 2 {
            let rule = format!("`{name}`: a test is named as the promise it proves");
            found.push(Finding::new(&file.path, line, rule));
        }
    }
    found
}

fn definitions(file: &RustFile) -> Vec<Defined> {
    let mut found = Vec::new();
    for (line, code) in file.all() {
        for keyword in ["struct", "enum", "trait", "union", "type", "mod", "fn"] {
            for at in word_places(code, keyword) {
                let rest = code[at + keyword.len()..].trim_start();
                let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
                if !name.is_empty() {
                    let public = !word_places(&code[..at], "pub").is_empty();
                    found.push(Defined { name, line, keyword, public });
                }
            }
        }
    }
    found
}

/// `FlushQueue` and `flush_queue` are both flush, queue.
fn segments(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        let last = parts.len() - 1;
        let breaks = c == '_' || c.is_uppercase();
        if breaks && !parts[last].is_empty() {
            parts.push(String::new());
        }
        if c != '_' {
            let last = parts.len() - 1;
            parts[last].extend(c.to_lowercase());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: impl Fn(&RustFile) -> Vec<Finding>, path: &str, text: &str) -> usize {
        rule(&RustFile::new(path, text)).len()
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        assert_eq!(count(empty_names, "a/session.rs", "pub struct SessionManager;"), 1);
        assert_eq!(count(empty_names, "a/session.rs", "mod utils;"), 1);
        assert_eq!(count(empty_names, "a/utils.rs", ""), 1);
        assert_eq!(count(empty_names, "a/session.rs", "pub fn get_id() {}"), 1);
        assert_eq!(count(empty_names, "a/session.rs", "struct WriterHandle; fn target() {}"), 0);
    }

    #[test]
    fn words_of_other_fields_are_found() {
        assert_eq!(count(words_of_other_fields, "guest/x.rs", "struct TxnState;"), 1);
        assert_eq!(count(words_of_other_fields, "guest/x.rs", "enum EpochState {}"), 1);
        assert_eq!(
            count(words_of_other_fields, "host/runtime/src/sandbox.rs", "type Store = u8;"),
            0
        );
        assert_eq!(count(words_of_other_fields, "guest/x.rs", "struct Session; // a Txn"), 0);
    }

    #[test]
    fn tests_without_a_promise_are_found() {
        assert_eq!(count(test_names, "a.rs", "#[test]\nfn test_commit_2() {}"), 1);
        assert_eq!(count(test_names, "a.rs", "#[test]\nfn basic() {}"), 1);
        assert_eq!(count(test_names, "a.rs", "#[test]\nfn a_lost_reply_is_asked_again() {}"), 0);
        assert_eq!(count(test_names, "a.rs", "fn test_table() {}"), 0);
    }
}
