//! upsert-sink: keeps MaxCompute Delta tables up to date from a stream engine.
#![allow(dead_code)]
mod bindings;
mod capability;
pub mod components;
mod error;
mod frame;
mod instance;
pub mod journal;
mod journal_record;
mod metrics;
mod plugin;
mod sandbox;
mod settings;
mod settings_options;
mod transport;
mod tunnel;
pub use error::Error;
pub use plugin::Plugin;
pub use settings::Settings;
