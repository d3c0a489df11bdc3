//! From the paths of a job to the list of files it reads.
//!
//! `command/run.rs` resolves once per start, and gives the list to a source and to the state.
//! Invariant: files that a checkpoint knows come first, in its order, and unchanged; new ones
//! follow in the order of their names.

use std::path::PathBuf;

use crate::failure::bad_input;
use crate::source::position::InputFile;

/// More files than this are refused: each one is in every checkpoint.
const FILES_MAX: usize = 10_000;

/// Replaces each `${NAME}` by an environment variable.
///
/// Errors: a variable that is not set, with its name.
pub(crate) fn expand(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else {
            return Err(bad_input(format!("path {text:?}: `${{` without `}}`")));
        };
        let name = &rest[start + 2..start + length];
        let Some(value) = variable(name) else {
            return Err(bad_input(format!(
                "path {text:?}: the environment variable {name} is not set; set {name} to a path, \
                or write the path into the job file"
            )));
        };
        expanded.push_str(&rest[..start]);
        expanded.push_str(&value);
        rest = &rest[start + length + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Finds the files of expanded paths: globs are matched and sorted, `-` is standard input.
///
/// Errors: a pattern without a file, a file that is missing, too many files, standard input beside
/// files.
pub(crate) fn resolve(paths: &[String]) -> anyhow::Result<Vec<InputFile>> {
    let mut files = Vec::new();
    for path in paths {
        if path == "-" {
            files.push(InputFile::standard_input());
            continue;
        }
        for found in matches(path)? {
            files.push(InputFile::read(&found)?);
        }
        if files.len() > FILES_MAX {
            return Err(bad_input(format!(
                "path {path:?}: more than {FILES_MAX} files; join them into larger ones"
            )));
        }
    }
    if files.len() > 1 && files.iter().any(InputFile::is_standard_input) {
        return Err(bad_input("path \"-\": standard input cannot be mixed with files"));
    }
    Ok(files)
}

/// Only a path with a wildcard is a pattern: any other is a file's name, whatever it contains.
fn matches(path: &str) -> anyhow::Result<Vec<PathBuf>> {
    if !path.contains(['*', '?', '[']) || PathBuf::from(path).is_file() {
        return Ok(vec![PathBuf::from(path)]);
    }
    let found = glob::glob(path)
        .map_err(|error| bad_input(format!("path {path:?}: {error}; correct the pattern")))?;
    let mut paths = Vec::new();
    for entry in found {
        let entry = entry.map_err(|error| bad_input(format!("path {path:?}: {error}")))?;
        if entry.is_file() {
            paths.push(entry);
        }
    }
    if paths.is_empty() {
        return Err(bad_input(format!(
            "path {path:?}: no file matches; correct the pattern, or put the files there first"
        )));
    }
    paths.sort();
    Ok(paths)
}

/// Joins what a checkpoint knows with what is there now.
///
/// Errors: a known file that is gone or changed.
pub(crate) fn continued(
    known: &[InputFile],
    found: Vec<InputFile>,
) -> anyhow::Result<Vec<InputFile>> {
    let mut files = known.to_vec();
    for file in known {
        file.check_unchanged()?;
    }
    files
        .extend(found.into_iter().filter(|file| known.iter().all(|known| known.path != file.path)));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_or_named() {
        let variable = |name: &str| (name == "FEED").then(|| String::from("/data/feed"));
        assert_eq!(expand("${FEED}.parquet", &variable).expect("set"), "/data/feed.parquet");
        assert_eq!(expand("plain", &variable).expect("plain"), "plain");
        let error = expand("${OTHER}", &variable).expect_err("unset").to_string();
        assert!(error.contains("OTHER is not set"), "{error}");
        assert!(expand("${OPEN", &variable).is_err());
    }

    #[test]
    fn globs_are_sorted_and_may_not_be_empty() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.json", "a.json", "c.txt"] {
            std::fs::write(dir.path().join(name), name).expect("written");
        }
        let pattern = |end: &str| vec![dir.path().join(end).display().to_string()];
        let files = resolve(&pattern("*.json")).expect("two files");
        let names: Vec<&str> =
            files.iter().filter_map(|file| file.path.rsplit('/').next()).collect();
        assert_eq!(names, ["a.json", "b.json"]);
        let error = resolve(&pattern("*.csv")).expect_err("none").to_string();
        assert!(error.contains("no file matches"), "{error}");
    }

    #[test]
    fn files_that_came_later_follow_those_already_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let pattern = vec![dir.path().join("*").display().to_string()];
        std::fs::write(dir.path().join("b"), "b").expect("written");
        let known = resolve(&pattern).expect("one");
        std::fs::write(dir.path().join("a"), "a").expect("written");
        let files = continued(&known, resolve(&pattern).expect("two")).expect("unchanged");
        assert_eq!(files[0], known[0]);
        assert_eq!(files.len(), 2);
        std::fs::write(dir.path().join("b"), "B").expect("written");
        assert!(continued(&known, resolve(&pattern).expect("two")).is_err());
    }

    #[test]
    fn standard_input_stands_alone() {
        assert!(resolve(&[String::from("-")]).expect("alone")[0].is_standard_input());
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        std::fs::write(&path, "a").expect("written");
        assert!(resolve(&[String::from("-"), path.display().to_string()]).is_err());
    }
}
