//! Purity: where time, threads, panics and leftovers may stand.
//!
//! The compiler bans the same calls by `clippy.toml`; these rules also see code that is not
//! compiled on this target. Invariant: the banned words are put together from parts here, so that a
//! plain search of the tree does not find this list.

use crate::Finding;
use crate::source::{RustFile, is_word, word_places};

/// Crates that rows and requests reach.
const NO_UNWRAP: [&str; 6] = [
    "guest/format/src/",
    "guest/core/src/",
    "guest/component/src/",
    "host/tunnel/src/",
    "host/runtime/src/",
    "host/server/src/",
];

/// Crates that hold no std, and do nothing by themselves.
const PURE: [&str; 2] = ["guest/format/src/", "guest/core/src/"];

/// Time, threads and queues without a bound.
const SEAMS: [&str; 8] = [
    concat!("SystemTime::", "now"),
    concat!("Instant::", "now"),
    concat!("time::", "sleep"),
    concat!("thread::", "sleep"),
    concat!("thread::", "spawn"),
    concat!("unbounded_", "channel"),
    concat!("thread_", "rng("),
    concat!("mpsc::", "channel::<"),
];

/// Promises to come back.
const LEFTOVERS: [&str; 6] = [
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("FIX", "ME"),
    concat!("X", "XX"),
    concat!("#[", "ignore"),
    concat!("TO", "DO"),
];

/// No `unwrap` outside tests: a panic is a bug of ours, and says why it could not happen.
pub(crate) fn unwraps(file: &RustFile) -> Vec<Finding> {
    if !NO_UNWRAP.iter().any(|place| file.path.starts_with(place)) {
        return Vec::new();
    }
    let call = concat!(".unwrap", "()");
    let lines = file.shipped().filter(|(_, code)| code.contains(call));
    lines.map(|(line, _)| Finding::new(&file.path, line, "`expect` with the reason")).collect()
}

/// The world's time, threads and endless queues enter through `components.rs` alone.
pub(crate) fn time_and_threads(file: &RustFile) -> Vec<Finding> {
    let seam = file.path.ends_with("/components.rs")
        || file.path.contains("/components/")
        || file.path == "tests/support/clock.rs";
    if seam {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (line, code) in file.all() {
        for word in SEAMS.iter().filter(|word| code.contains(**word)) {
            let rule = format!("`{word}` only in `components.rs`");
            found.push(Finding::new(&file.path, line, rule));
        }
    }
    found
}

/// Nothing is put off, and no test is switched off.
pub(crate) fn leftovers(file: &RustFile) -> Vec<Finding> {
    let lines = file.lines.iter().enumerate();
    lines
        .filter(|(_, line)| LEFTOVERS.iter().any(|word| line.contains(word)))
        .map(|(line, _)| {
            Finding::new(&file.path, line + 1, "finish it, refuse it, or leave it out")
        })
        .collect()
}

/// The pure crates have no std, no async, no unsafe and no way to the outside.
pub(crate) fn core(file: &RustFile) -> Vec<Finding> {
    let Some(in_crate) = PURE.iter().find_map(|pure| file.path.strip_prefix(pure)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if in_crate == "lib.rs" {
        for attribute in ["#![no_std]", "#![forbid(unsafe_code)]"] {
            // An attribute may be conditional for tests, so only its words are asked for.
            let words = attribute.trim_start_matches("#![").trim_end_matches(']');
            if !file.code.iter().any(|code| code.starts_with("#![") && code.contains(words)) {
                found.push(Finding::new(&file.path, 1, format!("`{attribute}` is missing")));
            }
        }
    }
    for (line, code) in file.shipped() {
        let std = word_places(code, "std").iter().any(|at| code[*at..].starts_with("std::"));
        if std || code.contains("async fn") || !word_places(code, "static mut").is_empty() {
            found.push(Finding::new(&file.path, line, "no std, async or global state in the core"));
        }
    }
    found
}

/// A hash map's order differs from process to process, so the core only looks things up in one.
pub(crate) fn hash_map_iteration(file: &RustFile) -> Vec<Finding> {
    if !PURE.iter().any(|pure| file.path.starts_with(pure)) {
        return Vec::new();
    }
    let maps = hash_map_names(file);
    let walks = [
        ".iter()",
        ".iter_mut()",
        ".keys()",
        ".values()",
        ".values_mut()",
        ".drain(",
        ".into_iter()",
        ".retain(",
        ".into_values()",
        ".into_keys()",
    ];
    let mut found = Vec::new();
    for (line, code) in file.shipped() {
        for map in &maps {
            let walked = word_places(code, map).iter().any(|at| {
                let rest = &code[at + map.len()..];
                walks.iter().any(|walk| rest.starts_with(walk)) || is_looped(code, *at)
            });
            if walked {
                found.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{map}` is a hash map: its order is random"),
                ));
            }
        }
    }
    found
}

/// Names that are declared with the type of a hash map.
fn hash_map_names(file: &RustFile) -> Vec<String> {
    let mut names = Vec::new();
    for (_, code) in file.all() {
        for kind in ["HashMap<", "HashSet<"] {
            let Some(before) = code.find(kind).map(|at| code[..at].trim_end()) else { continue };
            let Some(before) = before.strip_suffix(':') else { continue };
            let name: String = before.chars().rev().take_while(|c| is_word(*c)).collect();
            names.push(name.chars().rev().collect());
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

/// Whether the name here is what a `for` walks: `for x in &self.name {`.
fn is_looped(code: &str, at: usize) -> bool {
    let path = code[..at].trim_end_matches(|c: char| is_word(c) || c == '.' || c == '&');
    path.trim_end().ends_with(" in") && code[at..].trim_start_matches(is_word).starts_with(" {")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(rule: impl Fn(&RustFile) -> Vec<Finding>, path: &str, text: &str) -> usize {
        rule(&RustFile::new(path, text)).len()
    }

    #[test]
    fn an_unwrap_is_found_outside_tests_only() {
        let call = concat!("a.unwrap", "();");
        let tested = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{call}\n}}");
        assert_eq!(count(unwraps, "host/server/src/x.rs", &format!("fn a() {{ {call} }}")), 1);
        assert_eq!(count(unwraps, "host/server/src/x.rs", &tested), 0);
        assert_eq!(count(unwraps, "host/cli/src/x.rs", call), 0);
        assert_eq!(count(unwraps, "guest/core/src/x.rs", &format!("// {call}")), 0);
    }

    #[test]
    fn a_wall_clock_is_found() {
        let text = concat!("let now = std::time::SystemTime::", "now();");
        assert_eq!(count(time_and_threads, "host/runtime/src/driver.rs", text), 1);
        assert_eq!(count(time_and_threads, "host/runtime/src/components.rs", text), 0);
        let text = concat!("thread::", "sleep(Duration::ZERO);");
        assert_eq!(count(time_and_threads, "tests/x.rs", text), 1);
    }

    #[test]
    fn what_is_left_for_later_is_found() {
        assert_eq!(count(leftovers, "a.rs", concat!("to", "do!()")), 1);
        assert_eq!(count(leftovers, "a.rs", concat!("// FIX", "ME later")), 1);
        assert_eq!(count(leftovers, "a.rs", concat!("#[", "ignore]")), 1);
        assert_eq!(count(leftovers, "a.rs", "// finished"), 0);
    }

    #[test]
    fn an_impure_core_is_found() {
        assert_eq!(count(core, "guest/core/src/x.rs", "use std::fs;"), 1);
        assert_eq!(count(core, "guest/core/src/x.rs", "async fn a() {}"), 1);
        assert_eq!(count(core, "guest/core/src/lib.rs", ""), 2);
        let good = "#![cfg_attr(not(test), no_std)]\n#![forbid(unsafe_code)]";
        assert_eq!(count(core, "guest/core/src/lib.rs", good), 0);
        assert_eq!(count(core, "host/server/src/x.rs", "use std::fs;"), 0);
    }

    #[test]
    fn a_walk_over_a_hash_map_is_found() {
        let declared = "struct A { seen: HashMap<u8, u8> }";
        let walks = ["for x in &self.seen {}", "self.seen.iter()", "self.seen.values().sum()"];
        for walk in walks {
            let text = format!("{declared}\nfn b() {{ {walk} }}");
            assert_eq!(count(hash_map_iteration, "guest/core/src/x.rs", &text), 1, "{walk}");
        }
        let text = format!("{declared}\nfn b() {{ self.seen.get(&1); }}");
        assert_eq!(count(hash_map_iteration, "guest/core/src/x.rs", &text), 0);
    }
}
