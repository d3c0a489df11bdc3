//! `options`: every option of the sink, from the two that own them.
//!
//! The guest's come from its own `describe`, the host's from its settings. Invariant: the two sets
//! have no name in common, and a job's options are checked against both, so that a misspelt one is
//! told its nearest name whoever owns that.

use serde::Serialize;
use upsert_sink::{OptionDoc, Plugin, Settings};

use crate::failure::bad_input;
use crate::{plugin, report};

/// The arguments of `options`.
#[derive(Debug, clap::Args)]
pub(crate) struct OptionsArguments {
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    report: OptionsForm,
}

/// How the options are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum OptionsForm {
    /// For people
    #[default]
    Text,
    /// One JSON document on standard output
    Json,
    /// The whole of `host/cli/options.md`
    Markdown,
}

#[derive(Debug, Serialize)]
struct OptionRow {
    owner: &'static str,
    name: String,
    value_type: String,
    default: String,
    bounds: String,
    doc: String,
}

#[derive(Debug, Serialize)]
struct OptionsDocument {
    options: Vec<OptionRow>,
}

impl OptionRow {
    fn text(&self) -> String {
        format!(
            "{} ({}; {})\n    default {}; {}\n    {}\n",
            self.name,
            self.value_type,
            self.owner,
            shown(&self.default),
            shown(&self.bounds),
            self.doc
        )
    }

    fn table_row(&self) -> String {
        let code = |value: &str| match value {
            "" => String::new(),
            value => format!("`{value}`"),
        };
        let (name, default) = (code(&self.name), code(&self.default));
        let cells = [&name, &self.value_type, &default, &self.bounds, &self.doc];
        let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
        format!("| {} |\n", cells.join(" | "))
    }
}

const MARKDOWN_HEAD: &str = "\
# Options

<!-- Written by `cargo run --release -- options --report markdown > host/cli/options.md`. -->
<!-- `bash tests/run demo` compares this file with the program. -->

The options of the sink come from the component itself (its export `describe`), those of the host
from its settings. A job sets both in its section `[sink]`. An option that does not exist is
refused, with the nearest name.
";
const TABLE_HEAD: &str = "\
| option | type | default | allowed | what it does |
|---|---|---|---|---|
";

/// Prints all options.
pub(crate) fn run(arguments: &OptionsArguments) -> anyhow::Result<()> {
    let plugin = plugin::embedded()?;
    let mut options: Vec<OptionRow> =
        plugin.options()?.into_iter().map(|doc| row("guest", doc)).collect();
    options.extend(Settings::describe().into_iter().map(|doc| row("host", doc)));
    options.sort_by(|a, b| a.name.cmp(&b.name));
    match arguments.report {
        OptionsForm::Json => report::print_json(&OptionsDocument { options }),
        OptionsForm::Markdown => report::print(&markdown(&options)),
        OptionsForm::Text => {
            let text: String = options.iter().map(OptionRow::text).collect();
            report::print(&text)
        }
    }
}

/// The file `host/cli/options.md`: the sink's options, then the host's, each in a table.
fn markdown(options: &[OptionRow]) -> String {
    let mut text = String::from(MARKDOWN_HEAD);
    for (owner, title) in [("guest", "Options of the sink"), ("host", "Options of the host")] {
        text.push_str(&format!("\n## {title}\n\n{TABLE_HEAD}"));
        for option in options.iter().filter(|option| option.owner == owner) {
            text.push_str(&option.table_row());
        }
    }
    text
}

fn row(owner: &'static str, doc: OptionDoc) -> OptionRow {
    OptionRow {
        owner,
        name: doc.name,
        value_type: doc.value_type,
        default: doc.default_value,
        bounds: doc.bounds,
        doc: doc.doc,
    }
}

fn shown(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// Refuses names that nobody knows.
pub(crate) fn check_names<'n>(
    names: impl Iterator<Item = &'n String>,
    plugin: &Plugin,
) -> anyhow::Result<()> {
    let mut docs = plugin.options()?;
    docs.extend(Settings::describe());
    // An alias stands in the documentation of its option only.
    let is_alias = |name: &str| {
        let written = format!("Also written `{name}`");
        docs.iter().any(|doc| doc.doc.contains(&written))
    };
    let known: Vec<&String> = docs.iter().map(|doc| &doc.name).collect();
    for name in names {
        if known.contains(&name) || is_alias(name) {
            continue;
        }
        let nearest = known.iter().min_by_key(|known| distance(name, known));
        let nearest = nearest.map(|name| name.as_str()).unwrap_or_default();
        return Err(bad_input(format!(
            "[sink] {name}: there is no such option; did you mean `{nearest}`? `upsert-sink \
            options` lists all"
        )));
    }
    Ok(())
}

/// Edits (insert, delete, replace a character) from one name to the other, upper and lower case
/// alike.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_a_row_in_the_table_of_its_owner() {
        let option = |owner, name: &str| OptionRow {
            owner,
            name: String::from(name),
            value_type: String::from("a|b"),
            default: String::new(),
            bounds: String::new(),
            doc: String::from("It\ndoes."),
        };
        let text = markdown(&[option("host", "a"), option("guest", "b")]);
        let (guest, host) = text.split_once("## Options of the host").expect("two tables");
        assert!(guest.ends_with("|---|\n| `b` | a\\|b |  |  | It does. |\n\n"), "{guest}");
        assert!(host.ends_with("|---|\n| `a` | a\\|b |  |  | It does. |\n"), "{host}");
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("endpoint", "endpoint"), 0);
        assert_eq!(distance("endpiont", "endpoint"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("upsert.flush.concurent", "upsert.flush.concurrent"), 1);
    }
}
