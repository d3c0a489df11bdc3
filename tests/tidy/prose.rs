//! Prose: the Markdown of the tree, the size of README, its links, and how sentences open; and how
//! the doc comments of Rust open.
//!
//! Fenced blocks are not looked at, and code between backticks for its paths only. Invariant: a
//! link is held against the files as git knows them, an anchor against the headings of its file.

use crate::Finding;
use crate::source::RustFile;

/// The size that a newcomer reads in some minutes.
const README_BYTES_MAX: usize = 8192;
/// Files that the program writes: their sentences are those of its options.
const WRITTEN: [&str; 1] = ["host/cli/options.md"];
/// Where paths from the top of the tree begin.
const TOPS: [&str; 6] = [".ci/", ".github/", "guest/", "host/", "tests/", "wit/"];
/// Words that put the subject of a sentence behind what is said of it.
const OPENINGS: [&str; 2] = ["Of ", "What "];

/// README is short: everything else is a link away.
pub(crate) fn readme_size(path: &str, text: &str) -> Vec<Finding> {
    let bytes = text.len();
    let rule = format!("{bytes} bytes, at most {README_BYTES_MAX}: move a part, and link to it");
    let wrong = bytes == 0 || bytes > README_BYTES_MAX;
    wrong.then(|| Finding::new(path, 1, rule)).into_iter().collect()
}

/// Each relative link leads to a file of the tree, and to a heading if it names one.
pub(crate) fn links(files: &[(String, String)], paths: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (path, text) in files {
        for (number, line) in unfenced(text) {
            for target in targets(&without_code(line)) {
                if let Some(rule) = broken(path, target, files, paths) {
                    found.push(Finding::new(path, number, rule));
                }
            }
        }
    }
    found
}

/// Each path that stands between backticks is in the tree.
pub(crate) fn named_paths(path: &str, text: &str, paths: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (number, line) in unfenced(text) {
        for name in line.split('`').skip(1).step_by(2).filter(|name| is_path(name)) {
            let name = name.trim_end_matches('/');
            let inside = format!("{name}/");
            if !paths.iter().any(|known| known == name || known.starts_with(&inside)) {
                found.push(Finding::new(path, number, format!("{name} is not in the tree")));
            }
        }
    }
    found
}

/// Whether a piece of code is a path from the top, and no pattern, command or place to be filled.
fn is_path(code: &str) -> bool {
    TOPS.iter().any(|top| code.starts_with(top)) && !code.contains([' ', '*', '<', '…'])
}

/// No sentence opens with `Of`, or with a clause that begins with `What`; a question may.
pub(crate) fn openings(path: &str, text: &str) -> Vec<Finding> {
    if WRITTEN.contains(&path) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (number, line) in unfenced(text).filter(|(_, line)| !line.starts_with('#')) {
        let line = without_code(line);
        for word in OPENINGS.iter().filter(|word| opens_a_sentence(&line, word)) {
            let rule = format!("a sentence opens with `{}`: begin with its subject", word.trim());
            found.push(Finding::new(path, number, rule));
        }
    }
    found
}

fn opens_a_sentence(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].trim_end().chars().next_back();
        let opens = before.is_none_or(|before| ".:;!?|*_>(-".contains(before));
        opens && !asks(&line[at..])
    })
}

/// Whether the first sentence of a text is a question.
fn asks(text: &str) -> bool {
    text.chars().find(|c| ".?!|".contains(*c)) == Some('?')
}

/// No paragraph of a doc comment opens with these words either; a question on one line may.
pub(crate) fn doc_openings(file: &RustFile) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut inside = false;
    for (at, line) in file.lines.iter().enumerate() {
        let text = doc_text(line);
        for word in OPENINGS {
            if !inside && text.starts_with(word) && !asks(text) {
                let rule = format!("a doc opens with `{}`: begin with its subject", word.trim());
                found.push(Finding::new(&file.path, at + 1, rule));
            }
        }
        // A heading ends where its line does.
        inside = !text.is_empty() && !text.starts_with('#');
    }
    found
}

/// The text of a doc comment on this line; empty if there is none.
fn doc_text(line: &str) -> &str {
    let line = line.trim();
    let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
    text.unwrap_or_default().trim()
}

/// The lines outside fenced blocks: number from one, text.
fn unfenced(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fence && !fenced).then_some((number + 1, line))
    })
}

/// A line with nothing between its backticks.
fn without_code(line: &str) -> String {
    let plain: Vec<&str> = line.split('`').step_by(2).collect();
    plain.join("``")
}

/// Where the links of a line lead.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Why a link leads nowhere, if it does.
fn broken(
    path: &str,
    target: &str,
    files: &[(String, String)],
    paths: &[String],
) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = resolved(path, file);
    let inside = format!("{file}/");
    if !paths.iter().any(|known| *known == file || known.starts_with(&inside)) {
        return Some(format!("the link to {target} leads nowhere"));
    }
    let text = files.iter().find(|(known, _)| *known == file).map_or("", |(_, text)| text.as_str());
    let headed = anchor.is_empty() || headings(text).any(|heading| heading == anchor);
    (!headed).then(|| format!("no heading of {file} is #{anchor}"))
}

/// A link's file, from the top of the tree; the file itself if it names none.
fn resolved(path: &str, file: &str) -> String {
    if file.is_empty() {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The headings of a text, as anchors name them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let lines = unfenced(text).filter(|(_, line)| line.starts_with('#'));
    lines.map(|(_, line)| anchor(line.trim_start_matches('#').trim()))
}

fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_long_readme_is_found() {
        assert_eq!(readme_size("README.md", &"x".repeat(8192)), []);
        assert_eq!(readme_size("README.md", &"x".repeat(8193)).len(), 1);
        assert_eq!(readme_size("README.md", "").len(), 1);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let text = "[a](../b/c.md), [d](../b), [e](#here-it-is), [f](https://g/h)\n\
                    # Here: it `is`\n`[code](nowhere)`\n```\n[code](nowhere)\n```\n";
        let tree = files(&[("a/x.md", text), ("b/c.md", "# One\n## Two, three")]);
        let paths = [String::from("a/x.md"), String::from("b/c.md")];
        assert_eq!(links(&tree, &paths), []);
        for wrong in ["[a](c.md)", "[a](../b/c)", "[a](../b/c.md#two)", "[a](#there)"] {
            let tree = files(&[("a/x.md", wrong), ("b/c.md", "# One\n## Two, three")]);
            assert_eq!(links(&tree, &paths).len(), 1, "{wrong}");
        }
        let tree = files(&[("a/x.md", "[a](../b/c.md#two-three)"), ("b/c.md", "## Two, three")]);
        assert_eq!(links(&tree, &paths), []);
    }

    #[test]
    fn a_path_that_is_not_there_is_found() {
        let paths = [String::from("guest/core/src/lib.rs"), String::from("tests/run")];
        let text = "`guest/core/`, `tests/run`, `tests/run core`, `wit/<version>/`, `src/none.rs`";
        assert_eq!(named_paths("a.md", text, &paths), []);
        assert_eq!(named_paths("a.md", "see `guest/core/src/none.rs`", &paths).len(), 1);
        assert_eq!(named_paths("a.md", "see `guest/cor`", &paths).len(), 1);
    }

    #[test]
    fn a_sentence_whose_subject_comes_late_is_found() {
        for wrong in [
            "What it holds waits.",
            "It waits. What it holds is kept.",
            "- **What is held** waits.",
            "| a | Of these none is kept |",
            "Two things: Of these one is kept. Why?",
        ] {
            assert_eq!(openings("a.md", wrong).len(), 1, "{wrong}");
        }
        for right in ["# What it costs", "What is kept? Nothing.", "It is what [What](b) says."] {
            assert_eq!(openings("a.md", right), [], "{right}");
        }
        assert_eq!(openings("a.md", "```\nWhat it holds.\n```\nIt shows `What`."), []);
    }

    #[test]
    fn a_doc_comment_whose_subject_comes_late_is_found() {
        let found = |text: &str| doc_openings(&RustFile::new("a.rs", text)).len();
        for wrong in [
            "//! What it holds.",
            "struct A {\n    /// Of each writer its state.\n    states: Vec<u8>,\n}",
            "/// The states.\n///\n/// What they hold waits.",
            "/// # Errors\n/// What the service says.",
        ] {
            assert_eq!(found(wrong), 1, "{wrong}");
        }
        for right in [
            "/// What is kept? Nothing.",
            "/// It is what\n/// What Is Kept says.",
            "/// Whatever it holds.",
            "let text = \"/// What it holds.\";",
        ] {
            assert_eq!(found(right), 0, "{right}");
        }
    }
}
