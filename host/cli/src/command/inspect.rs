//! `inspect`: what a plugin is, before anyone runs it.
//!
//! Invariant: what is told is read from the component itself; a component that imports more than it
//! may is refused.

use std::path::PathBuf;

use serde_json::json;
use upsert_sink::Plugin;

use crate::failure::bad_input;
use crate::report;
use crate::report::ReportForm;

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A component; without it, the one inside this program
    component: Option<PathBuf>,
    /// How to print what it is
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Loads the component and tells about it.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let plugin = match &arguments.component {
        None => Plugin::embedded()?,
        Some(path) => {
            let bytes = std::fs::read(path).map_err(|error| {
                bad_input(format!("component {}: {error}; name a component", path.display()))
            })?;
            Plugin::load(&bytes)?
        }
    };
    let inspection = plugin.inspect();
    match arguments.report {
        ReportForm::Json => report::print_json(&json!({
            "sha256": inspection.sha256,
            "bytes": inspection.bytes,
            "imports": inspection.imports,
            "exports": inspection.exports,
        })),
        ReportForm::Text => {
            println!("sha256  {}", inspection.sha256);
            println!("bytes   {}", inspection.bytes);
            println!("imports {}", inspection.imports.join("\n        "));
            println!("exports {}", inspection.exports.join("\n        "));
            Ok(())
        }
    }
}
