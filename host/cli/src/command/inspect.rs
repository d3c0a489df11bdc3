//! `inspect`: what a plugin is, before anyone runs it.
//!
//! Invariant: what is told is read from the component itself; a component that imports more than it
//! may is refused.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::json;
use upsert_sink::Plugin;

use crate::failure::bad_input;
use crate::report::ReportForm;
use crate::{plugin, report};

/// The arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArguments {
    /// A component; without it, the one inside this program
    component: Option<PathBuf>,
    /// Write the one inside this program to a file, to keep it beside recordings
    #[arg(long, value_name = "FILE", conflicts_with = "component")]
    write: Option<PathBuf>,
    /// How to print what it is
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Loads the component and tells about it.
pub(crate) fn run(arguments: &InspectArguments) -> anyhow::Result<()> {
    let plugin = load(arguments.component.as_deref())?;
    if let Some(path) = &arguments.write {
        std::fs::write(path, Plugin::embedded_bytes())
            .with_context(|| format!("component {}", path.display()))?;
    }
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

/// The component of a file, or the one inside this program.
pub(crate) fn load(component: Option<&Path>) -> anyhow::Result<Plugin> {
    let Some(path) = component else { return plugin::embedded() };
    let bytes = std::fs::read(path).map_err(|error| {
        bad_input(format!("component {}: {error}; name a component", path.display()))
    })?;
    Ok(Plugin::load(&bytes)?)
}
