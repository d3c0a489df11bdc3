//! The house rules as tests: what a reviewer should never have to say twice.
//!
//! Reads the files of the tree as git knows them; needs no other crate of the workspace.
//! Each rule is a function from text to findings, with a unit test on a small bad sample beside it,
//! so that a rule which stops finding anything is found.
//! Invariant: a finding names the file, the line and the rule.

mod contract;
mod manifest;
mod names;
mod prose;
mod purity;
mod size;
mod source;
mod tree;

use std::fmt;

use crate::source::RustFile;
use crate::tree::Tree;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    line: usize,
    rule: String,
}

impl Finding {
    fn new(path: &str, line: usize, rule: impl Into<String>) -> Self {
        Self { path: path.into(), line, rule: rule.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.rule)
    }
}

/// Fails with the list of all findings, not with the first.
fn expect_none(findings: &[Finding]) {
    let list: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{} findings:\n{}", list.len(), list.join("\n"));
}

/// Applies one rule to every Rust file.
fn check_rust(rule: impl Fn(&RustFile) -> Vec<Finding>) {
    let tree = Tree::of_this_project();
    let files = tree.rust_files();
    assert!(files.len() > 20, "only {} Rust files: the tree was not read", files.len());
    let findings: Vec<Finding> = files.iter().flat_map(rule).collect();
    expect_none(&findings);
}

#[test]
fn every_rust_file_opens_by_telling_what_it_is() {
    check_rust(size::header);
}

#[test]
fn rust_lines_have_at_most_100_columns() {
    check_rust(size::line_length);
}

#[test]
fn rust_files_have_at_most_600_lines() {
    check_rust(size::file_length);
}

#[test]
fn functions_have_at_most_70_lines() {
    check_rust(size::function_length);
}

#[test]
fn no_name_says_nothing() {
    check_rust(names::empty_names);
}

#[test]
fn words_have_one_meaning() {
    check_rust(names::words_of_other_fields);
}

#[test]
fn tests_are_named_as_promises() {
    check_rust(names::test_names);
}

#[test]
fn no_unwrap_where_input_could_reach_it() {
    check_rust(purity::unwraps);
}

#[test]
fn time_threads_and_endless_queues_only_in_components() {
    check_rust(purity::time_and_threads);
}

#[test]
fn nothing_is_left_for_later() {
    check_rust(purity::leftovers);
}

#[test]
fn the_core_is_pure() {
    check_rust(purity::core);
}

#[test]
fn the_core_never_iterates_a_hash_map() {
    check_rust(purity::hash_map_iteration);
}

#[test]
fn the_shell_is_small() {
    let tree = Tree::of_this_project();
    expect_none(&size::shell(&tree.rust_files()));
}

#[test]
fn dependencies_point_one_way() {
    let tree = Tree::of_this_project();
    expect_none(&manifest::direction(&tree.manifests()));
}

#[test]
fn the_first_command_is_compiled_without_datafusion() {
    let tree = Tree::of_this_project();
    expect_none(&manifest::on_demand(&tree.manifests()));
}

#[test]
fn every_dependency_says_why() {
    let tree = Tree::of_this_project();
    let findings: Vec<Finding> = tree.manifests().iter().flat_map(manifest::reasons).collect();
    expect_none(&findings);
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let tree = Tree::of_this_project();
    expect_none(&manifest::lints(&tree.manifests()));
}

#[test]
fn one_version_of_what_must_be_one() {
    let tree = Tree::of_this_project();
    expect_none(&manifest::lock("Cargo.lock", &tree.text("Cargo.lock")));
}

#[test]
fn the_contract_is_documented_and_versioned() {
    let tree = Tree::of_this_project();
    let files = tree.files_ending(".wit");
    assert!(files.len() > 5, "only {} WIT files: the tree was not read", files.len());
    let findings: Vec<Finding> =
        files.iter().flat_map(|(path, text)| contract::check(path, text)).collect();
    expect_none(&findings);
}

#[test]
fn the_contract_stays_small() {
    let files = Tree::of_this_project().files_ending(".wit");
    expect_none(&contract::exported_functions(&files));
    expect_none(&contract::docs_share(&files));
}

#[test]
fn the_map_is_the_tree() {
    let tree = Tree::of_this_project();
    expect_none(&tree::map("README.md", &tree.text("README.md"), &tree.paths));
}

#[test]
fn the_example_in_readme_is_the_doc_test() {
    let tree = Tree::of_this_project();
    expect_none(&tree::example(&tree.text("README.md"), &tree.text("host/runtime/src/lib.rs")));
}

#[test]
fn every_suite_is_in_the_table_of_guarantees() {
    let tree = Tree::of_this_project();
    let (manifest, modules) = (tree.text("tests/Cargo.toml"), tree.text("tests/suites.rs"));
    let findings = tree::suites(&manifest, &modules, &tree.text("tests/README.md"));
    expect_none(&findings);
}

#[test]
fn nothing_large_or_generated_is_kept() {
    let tree = Tree::of_this_project();
    expect_none(&tree.large_files());
    expect_none(&tree::generated(&tree.paths));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    let tree = Tree::of_this_project();
    let findings: Vec<Finding> =
        tree.texts().iter().flat_map(|(path, text)| tree::machine_paths(path, text)).collect();
    expect_none(&findings);
}

#[test]
fn readme_is_read_in_minutes() {
    let tree = Tree::of_this_project();
    expect_none(&prose::readme_size("README.md", &tree.text("README.md")));
}

#[test]
fn every_link_leads_somewhere() {
    let tree = Tree::of_this_project();
    let files = tree.files_ending(".md");
    assert!(files.len() > 5, "only {} Markdown files: the tree was not read", files.len());
    expect_none(&prose::links(&files, &tree.paths));
}

#[test]
fn every_path_that_is_named_is_there() {
    let tree = Tree::of_this_project();
    let files = tree.files_ending(".md");
    let findings: Vec<Finding> =
        files.iter().flat_map(|(path, text)| prose::named_paths(path, text, &tree.paths)).collect();
    expect_none(&findings);
}

#[test]
fn sentences_open_with_their_subject() {
    let files = Tree::of_this_project().files_ending(".md");
    let findings: Vec<Finding> =
        files.iter().flat_map(|(path, text)| prose::openings(path, text)).collect();
    expect_none(&findings);
}

#[test]
fn doc_comments_open_with_their_subject() {
    check_rust(prose::doc_openings);
}
