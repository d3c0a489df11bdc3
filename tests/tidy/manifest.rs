//! Manifests: who may depend on whom, and why each dependency is there.
//!
//! Reads `Cargo.toml` line by line, as people do.
//! Invariant: format ← core, tunnel; core ← guest; core, tunnel ← runtime; runtime, server ← cli,
//! tests; never back. DataFusion, half of what there is to compile, is the server's alone, and
//! never without being asked for.

use std::collections::BTreeMap;

use crate::Finding;

/// A manifest of one crate.
pub(crate) struct Manifest {
    /// From the top of the tree.
    pub(crate) path: String,
    /// Its text.
    pub(crate) text: String,
}

/// One line that names a dependency.
struct Dependency<'a> {
    line: usize,
    name: &'a str,
    /// Whether only tests of the crate see it.
    dev: bool,
    /// Whether a comment stands at its end or above it.
    explained: bool,
}

/// The crates that a crate may not depend on, and those that it may at most depend on.
struct Direction {
    crate_dir: &'static str,
    never: &'static [&'static str],
    only: Option<&'static [&'static str]>,
}

const DIRECTIONS: [Direction; 9] = [
    Direction { crate_dir: "guest/format", never: &[], only: Some(&["serde"]) },
    Direction {
        crate_dir: "guest/core",
        never: &[],
        only: Some(&["upsert-sink-format", "hashbrown", "serde", "serde_bytes"]),
    },
    Direction {
        crate_dir: "guest/component",
        never: &[],
        only: Some(&["upsert-sink-format", "upsert-sink-core", "wit-bindgen"]),
    },
    Direction { crate_dir: "host/tunnel", never: &[], only: Some(&TUNNEL) },
    Direction {
        crate_dir: "host/runtime",
        never: &[
            "upsert-sink-server",
            "upsert-sink-guest",
            "upsert-sink-cli",
            "datafusion",
            "sqlparser",
            "anyhow",
        ],
        only: None,
    },
    Direction {
        crate_dir: "host/server",
        never: &[
            "wasmtime",
            "upsert-sink",
            "upsert-sink-core",
            "upsert-sink-guest",
            "upsert-sink-cli",
            "anyhow",
        ],
        only: None,
    },
    Direction {
        crate_dir: "host/cli",
        never: &["upsert-sink-core", "upsert-sink-guest", "wasmtime", "datafusion", "sqlparser"],
        only: None,
    },
    Direction { crate_dir: "tests", never: &["datafusion", "sqlparser"], only: None },
    Direction {
        crate_dir: "tests/model",
        never: &[],
        only: Some(&["upsert-sink-format", "upsert-sink-core", "stateright"]),
    },
];

/// All that the client of the Tunnel may depend on: no machine, no sandbox, no server.
const TUNNEL: [&str; 26] = [
    "base64",
    "bytes",
    "csv",
    "flate2",
    "hmac",
    "http",
    "http-body-util",
    "httpdate",
    "hyper",
    "hyper-rustls",
    "hyper-util",
    "lz4_flex",
    "percent-encoding",
    "quick-xml",
    "rustls",
    "serde",
    "serde_json",
    "sha1",
    "sha2",
    "snap",
    "tempfile",
    "thiserror",
    "tokio",
    "tracing",
    "upsert-sink-format",
    "zstd",
];

/// Families that must be one version each: two would not be the same types, or the same contract.
const ONE_VERSION: [&str; 8] = [
    "arrow-",
    "object_store",
    "parquet",
    "wasmtime",
    "wit-component",
    "wit-parser",
    "datafusion",
    "sqlparser",
];

/// Who a newcomer's first command is built of, and what may not be in it unless it is asked for.
const FIRST_COMMAND: [&str; 4] = ["host/tunnel", "host/runtime", "host/server", "host/cli"];
const ON_DEMAND: [&str; 2] = ["datafusion", "async-trait"];
/// The feature that asks for it.
const ASKS: &str = "\"query\"";

/// Crates that have no job here: the component imports no WASI, and hyper tells whether bytes were
/// written.
const NEVER: [&str; 3] = ["wasi-common", "wasmtime-wasi", "reqwest"];

/// The line of dependencies is never crossed.
pub(crate) fn direction(manifests: &[Manifest]) -> Vec<Finding> {
    let mut found = Vec::new();
    for rule in &DIRECTIONS {
        let path = format!("{}/Cargo.toml", rule.crate_dir);
        let Some(manifest) = manifests.iter().find(|manifest| manifest.path == path) else {
            found.push(Finding::new(&path, 1, "no such manifest"));
            continue;
        };
        for dependency in dependencies(&manifest.text).iter().filter(|one| !one.dev) {
            let beyond = rule.only.is_some_and(|only| !only.contains(&dependency.name));
            if beyond || rule.never.contains(&dependency.name) {
                let rule = format!("{} may not depend on {}", rule.crate_dir, dependency.name);
                found.push(Finding::new(&path, dependency.line, rule));
            }
        }
    }
    for manifest in manifests {
        let crate_dir = manifest.path.trim_end_matches("/Cargo.toml");
        if !DIRECTIONS.iter().any(|rule| rule.crate_dir == crate_dir) {
            found.push(Finding::new(&manifest.path, 1, "a crate without a rule of direction"));
        }
    }
    found
}

/// The first command is compiled without the dependencies that stand behind the feature `query`:
/// they are optional, and neither a default nor a dependency that is always there switches the
/// feature on.
pub(crate) fn on_demand(manifests: &[Manifest]) -> Vec<Finding> {
    let mut found = Vec::new();
    let first = manifests
        .iter()
        .filter(|manifest| FIRST_COMMAND.contains(&manifest.path.trim_end_matches("/Cargo.toml")));
    for manifest in first {
        let mut on_demand = Vec::new();
        for dependency in dependencies(&manifest.text).iter().filter(|one| !one.dev) {
            let text = manifest.text.lines().nth(dependency.line - 1).unwrap_or_default();
            let always = ON_DEMAND.contains(&dependency.name) && !text.contains("optional = true");
            if always || text.contains(ASKS) {
                on_demand.push((dependency.line, dependency.name));
            }
        }
        for (number, line) in manifest.text.lines().enumerate() {
            if line.starts_with("default = ") && line.contains(ASKS) {
                on_demand.push((number + 1, "a default"));
            }
        }
        found.extend(on_demand.into_iter().map(|(line, name)| {
            let rule = format!("{name} brings DataFusion into the first command");
            Finding::new(&manifest.path, line, rule)
        }));
    }
    found
}

/// Each dependency says why it is there: at the end of its line, or on the line above.
pub(crate) fn reasons(manifest: &Manifest) -> Vec<Finding> {
    let all = dependencies(&manifest.text);
    all.iter()
        .filter(|one| !one.explained)
        .map(|one| Finding::new(&manifest.path, one.line, format!("why {}?", one.name)))
        .collect()
}

/// Every crate takes the lints of the workspace.
pub(crate) fn lints(manifests: &[Manifest]) -> Vec<Finding> {
    manifests
        .iter()
        .filter(|manifest| !manifest.text.contains("[lints]\nworkspace = true"))
        .map(|manifest| Finding::new(&manifest.path, 1, "`[lints] workspace = true` is missing"))
        .collect()
}

/// `Cargo.lock` holds one version of each such family, and nothing that has no job here.
pub(crate) fn lock(path: &str, text: &str) -> Vec<Finding> {
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("name = \"") {
            *versions.entry(name.trim_end_matches('"')).or_default() += 1;
        }
    }
    let mut found = Vec::new();
    for (name, count) in versions {
        if count > 1 && ONE_VERSION.iter().any(|family| name.starts_with(family)) {
            found.push(Finding::new(path, 1, format!("{count} versions of {name}, one allowed")));
        }
        if NEVER.contains(&name) {
            found.push(Finding::new(path, 1, format!("{name} has no job here")));
        }
    }
    found
}

fn dependencies(text: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut section = "";
    let mut comment_above = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line;
        }
        let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
        if section.ends_with("dependencies]") && !name.is_empty() && !line.starts_with(['[', '#']) {
            let explained = comment_above || line.contains(" # ");
            let dev = section.contains("dev-");
            found.push(Dependency { line: number + 1, name, dev, explained });
        }
        comment_above = line.starts_with('#');
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, text: &str) -> Manifest {
        Manifest { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let text =
            "[dependencies]\na.workspace = true # it does x\n# it does y\nb = \"1\"\nc = \"1\"";
        let found = reasons(&manifest("x/Cargo.toml", text));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 5);
    }

    #[test]
    fn a_dependency_against_the_line_is_found() {
        let crates = [
            "guest/core",
            "guest/component",
            "host/runtime",
            "host/server",
            "host/cli",
            "guest/format",
            "host/tunnel",
        ];
        let mut manifests: Vec<Manifest> =
            crates.iter().map(|dir| manifest(&format!("{dir}/Cargo.toml"), "")).collect();
        manifests.push(manifest("tests/Cargo.toml", ""));
        manifests.push(manifest("tests/model/Cargo.toml", ""));
        assert_eq!(direction(&manifests), []);
        manifests[0].text = "[dependencies]\nserde_json = \"1\"".into();
        manifests[3].text = "[dependencies]\nwasmtime.workspace = true".into();
        manifests[2].text = "[dev-dependencies]\nupsert-sink-server.workspace = true".into();
        assert_eq!(direction(&manifests).len(), 2);
        manifests.push(manifest("host/other/Cargo.toml", ""));
        assert_eq!(direction(&manifests).len(), 3);
    }

    #[test]
    fn what_slows_the_first_command_down_is_found() {
        let server = "upsert-sink-server = { workspace = true, features = [\"query\"] }";
        for (text, count) in [
            ("[dependencies]\ndatafusion = { workspace = true, optional = true }".to_owned(), 0),
            ("[dependencies]\ndatafusion.workspace = true".to_owned(), 1),
            (format!("[dependencies]\n{server}"), 1),
            (format!("[dev-dependencies]\n{server}"), 0),
            ("[features]\ndefault = [\"query\"]".to_owned(), 1),
        ] {
            assert_eq!(on_demand(&[manifest("host/cli/Cargo.toml", &text)]).len(), count, "{text}");
            assert_eq!(on_demand(&[manifest("tests/Cargo.toml", &text)]), [], "{text}");
        }
    }

    #[test]
    fn two_versions_of_arrow_are_found() {
        let text =
            "name = \"arrow-array\"\nname = \"arrow-array\"\nname = \"rand\"\nname = \"rand\"";
        assert_eq!(lock("Cargo.lock", text).len(), 1);
        assert_eq!(lock("Cargo.lock", "name = \"wasi-common\"").len(), 1);
    }

    #[test]
    fn a_crate_without_lints_is_found() {
        assert_eq!(lints(&[manifest("x/Cargo.toml", "[package]")]).len(), 1);
        assert_eq!(lints(&[manifest("x/Cargo.toml", "[lints]\nworkspace = true\n")]), []);
    }
}
