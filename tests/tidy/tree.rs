//! The tree as git knows it: its files, its map, and what must not be in it.
//!
//! Invariant: files that git ignores are not looked at; files not yet added are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Finding;
use crate::manifest::Manifest;
use crate::source::RustFile;

/// The largest file that is kept.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// Root files that tools demand, so that the map need not name them.
const DEMANDED: [&str; 11] = [
    ".ci",
    ".github",
    ".gitignore",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// The files of this project.
pub(crate) struct Tree {
    top: PathBuf,
    /// From the top, sorted.
    pub(crate) paths: Vec<String>,
}

impl Tree {
    /// The tree that this suite was built from.
    pub(crate) fn of_this_project() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the tree");
        let args = ["ls-files", "--cached", "--others", "--exclude-standard", "-z"];
        let listed = Command::new("git").args(args).current_dir(top).output().expect("git runs");
        assert!(listed.status.success(), "git ls-files: {:?}", listed.status);
        let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
        let paths = listed.split('\0').filter(|path| !path.is_empty());
        // A file that was deleted, but not yet from git's list, is not in the tree.
        let mut paths: Vec<String> =
            paths.filter(|path| top.join(path).is_file()).map(str::to_owned).collect();
        paths.sort();
        Self { top: top.into(), paths }
    }

    /// The text of one file; empty if there is none.
    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.top.join(path)).unwrap_or_default()
    }

    /// Files of one kind with their text.
    pub(crate) fn files_ending(&self, end: &str) -> Vec<(String, String)> {
        let paths = self.paths.iter().filter(|path| path.ends_with(end));
        paths.map(|path| (path.clone(), self.text(path))).collect()
    }

    /// The Rust files.
    pub(crate) fn rust_files(&self) -> Vec<RustFile> {
        self.files_ending(".rs").iter().map(|(path, text)| RustFile::new(path, text)).collect()
    }

    /// The manifests of the crates.
    pub(crate) fn manifests(&self) -> Vec<Manifest> {
        let files = self.files_ending("/Cargo.toml").into_iter();
        files.map(|(path, text)| Manifest { path, text }).collect()
    }

    /// Every text but the recordings, the lists of tools, and the data.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        let ends = [".rs", ".toml", ".md", ".wit", "/run", ".txt"];
        let kept = |path: &&String| ends.iter().any(|end| path.ends_with(end));
        let paths = self.paths.iter().filter(kept).filter(|path| !path.contains("fixtures/"));
        paths.map(|path| (path.clone(), self.text(path))).collect()
    }

    /// Files that make every clone slow.
    pub(crate) fn large_files(&self) -> Vec<Finding> {
        let size = |path: &String| fs::metadata(self.top.join(path)).map_or(0, |meta| meta.len());
        let large = self.paths.iter().filter(|path| size(path) > FILE_BYTES_MAX);
        large
            .map(|path| Finding::new(path, 1, format!("over {FILE_BYTES_MAX} bytes: fetch it")))
            .collect()
    }
}

/// Files that a build makes are not kept.
pub(crate) fn generated(paths: &[String]) -> Vec<Finding> {
    let ends =
        [".wasm", ".o", ".so", ".class", ".jar", ".orig", ".rej", ".log", ".snap.new", ".cwasm"];
    let places = ["target/", "node_modules/", "__pycache__/"];
    let made = paths.iter().filter(|path| {
        ends.iter().any(|end| path.ends_with(end))
            || places
                .iter()
                .any(|place| path.starts_with(place) || path.contains(&format!("/{place}")))
    });
    made.map(|path| Finding::new(path, 1, "made by a build: ignore it")).collect()
}

/// The map in README names each part that exists, and nothing else.
///
/// It is the fenced block after `## Map`: on each line a path from the top, then what it is.
pub(crate) fn map(path: &str, readme: &str, paths: &[String]) -> Vec<Finding> {
    let after = readme.split("\n## Map\n").nth(1).unwrap_or_default();
    let block = after.split("```").nth(1).unwrap_or_default();
    let named: Vec<&str> = block
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| name.trim_end_matches('/'))
        .collect();
    let mut found = Vec::new();
    if named.is_empty() {
        found.push(Finding::new(path, 1, "no fenced block after `## Map`"));
    }
    for name in &named {
        let inside = format!("{name}/");
        if !paths.iter().any(|file| file == name || file.starts_with(&inside)) {
            found.push(Finding::new(path, 1, format!("the map names {name}, which is not there")));
        }
    }
    for part in parts(paths) {
        if !named.contains(&part.as_str()) {
            found.push(Finding::new(path, 1, format!("the map does not name {part}")));
        }
    }
    found
}

/// The parts that a map must name: top-level entries that are ours, and crates.
fn parts(paths: &[String]) -> Vec<String> {
    let tops = paths.iter().map(|path| path.split('/').next().unwrap_or_default());
    let tops = tops.filter(|top| !DEMANDED.contains(top)).map(str::to_owned);
    let crates =
        paths.iter().filter_map(|path| path.strip_suffix("/Cargo.toml")).map(str::to_owned);
    let mut parts: Vec<String> = tops.chain(crates).collect();
    parts.sort();
    parts.dedup();
    parts
}

/// README's example is the library's doc test, without the lines that a doc test hides.
pub(crate) fn example(readme: &str, library: &str) -> Vec<Finding> {
    let doc = library.lines().filter_map(|line| line.strip_prefix("//!"));
    let doc: Vec<&str> = doc.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let mut fences = doc.iter().enumerate().filter(|(_, line)| line.starts_with("```"));
    let (Some((first, _)), Some((last, _))) = (fences.next(), fences.next()) else {
        return vec![Finding::new("host/runtime/src/lib.rs", 1, "no example in its documentation")];
    };
    let shown = doc[first + 1..last].iter().filter(|line| !line.starts_with('#'));
    let shown: Vec<&str> = shown.copied().collect();
    let rule = "its Rust example is not the doc test of host/runtime/src/lib.rs";
    let same = readme.contains(&format!("```rust\n{}\n```\n", shown.join("\n")));
    (!same).then(|| Finding::new("README.md", 1, rule)).into_iter().collect()
}

/// Each suite, a module of `tests/suites.rs` or an executable of its own, has its row in
/// `tests/README.md`.
pub(crate) fn suites(manifest: &str, modules: &str, readme: &str) -> Vec<Finding> {
    let mut named = Vec::new();
    let mut in_suite = false;
    for (number, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            in_suite = line == "[[test]]";
        }
        let name = line.strip_prefix("name = \"").filter(|name| in_suite && *name != "suites\"");
        named.extend(name.map(|name| ("tests/Cargo.toml", number, name.replace('"', ""))));
    }
    for (number, line) in modules.lines().enumerate() {
        let name = line.strip_prefix("mod ").and_then(|name| name.strip_suffix(';'));
        named.extend(name.map(|name| ("tests/suites.rs", number, name.replace('_', "-"))));
    }
    let missing = named.iter().filter(|(_, _, name)| !readme.contains(&format!("`{name}`")));
    let finding = |(path, number, name): &(&str, usize, String)| {
        let rule = format!("tests/README.md has no row for the suite `{name}`");
        Finding::new(path, number + 1, rule)
    };
    missing.map(finding).collect()
}

/// Paths of the machine a text was written on, and hosts that only it can reach.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<Finding> {
    let words = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/tmp/", "te", "am"),
        concat!("index.crates", ".io"),
    ];
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for word in words.iter().filter(|word| line.contains(**word)) {
            found.push(Finding::new(path, number + 1, format!("`{word}` is of one machine")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<String> {
        list.iter().map(|path| (*path).to_owned()).collect()
    }

    #[test]
    fn a_map_that_is_not_the_tree_is_found() {
        let readme = "# x\n\n## Map\n\n```\nwit/  the contract\nguest/core/  logic\n```\n";
        let files = paths(&["README.md", "wit/a.wit", "guest/core/Cargo.toml"]);
        assert_eq!(map("README.md", readme, &files).len(), 1, "guest itself is not named");
        let fewer = paths(&["wit/a.wit"]);
        assert_eq!(map("README.md", readme, &fewer).len(), 1, "guest/core is gone");
        assert!(!map("README.md", "# x", &files).is_empty());
    }

    #[test]
    fn an_example_that_is_not_the_doc_test_is_found() {
        let library = "//! What.\n//!\n//! ```\n//! # hidden();\n//! shown();\n//! ```\n";
        assert_eq!(example("```rust\nshown();\n```\n", library), []);
        assert_eq!(example("```rust\nother();\n```\n", library).len(), 1);
        assert_eq!(example("", "//! What.").len(), 1);
    }

    #[test]
    fn a_suite_without_a_row_is_found() {
        let manifest =
            "[[test]]\nname = \"tidy\"\n[[test]]\nname = \"suites\"\n[[bin]]\nname = \"b\"";
        let modules = "mod bad_input;\n";
        assert_eq!(suites(manifest, modules, "| x | `tidy` |\n| y | `bad-input` |"), []);
        assert_eq!(suites(manifest, modules, "| x | `bad-input` |").len(), 1);
        assert_eq!(suites(manifest, modules, "| x | `tidy` |").len(), 1);
    }

    #[test]
    fn what_a_build_made_is_found() {
        assert_eq!(generated(&paths(&["a/b.wasm", "target/x", "host/target/y", "a.rs"])).len(), 3);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        assert_eq!(machine_paths("a.md", concat!("see /wo", "rk/x")).len(), 1);
        assert_eq!(machine_paths("a.md", "see ../shared/data"), []);
    }
}
