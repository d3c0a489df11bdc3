//! The options that say where credentials come from.
//!
//! Used by `settings/mod.rs`. Invariant: an option that would be without effect is refused.

use std::path::PathBuf;

use upsert_sink_tunnel::{CredentialSource, Credentials, Secret};

use crate::error::{Error, Result};
use crate::settings::options::{Options, wrong};

/// Takes the options of credentials out of the others.
///
/// # Errors
/// `InvalidConfig` for an option that is missing, or set and without effect.
pub(super) fn read(options: &mut Options) -> Result<CredentialSource> {
    let provider = options.text(PROVIDER).to_ascii_lowercase();
    let given = Credentials {
        access_id: options.text("accessId"),
        access_key: Secret::new(options.text("accessKey")),
        sts_token: options.optional::<String>("stsToken")?.map(Secret::new),
    };
    let file = options.optional::<PathBuf>(FILE)?;
    let command = options.optional::<String>(COMMAND)?;
    let has_key = !given.access_id.is_empty() || !given.access_key.is_empty();
    for (option, is_set, of) in [
        ("accessId or accessKey", has_key, "options"),
        ("stsToken", given.sts_token.is_some(), "options"),
        (FILE, file.is_some(), "file"),
        (COMMAND, command.is_some(), "command"),
    ] {
        if is_set && provider != of {
            let message = format!(
                "{option} is set, and without effect, since {PROVIDER} = {provider}; leave it \
                 out, or set {PROVIDER} to {of}"
            );
            return Err(Error::config(option, message));
        }
    }
    let missing = |option: &str| {
        let message = format!("{PROVIDER} = {provider} needs `{option}`; set it");
        Error::config(option, message)
    };
    match provider.as_str() {
        "options" => Ok(CredentialSource::Given(given)),
        "environment" => Ok(CredentialSource::Environment),
        "file" => file.map(CredentialSource::File).ok_or_else(|| missing(FILE)),
        "command" => {
            let command = command.ok_or_else(|| missing(COMMAND))?;
            let words = command.split_whitespace().map(String::from);
            Ok(CredentialSource::Command(words.collect()))
        }
        other => Err(wrong(PROVIDER, other)),
    }
}

const PROVIDER: &str = "credentials.provider";
const FILE: &str = "credentials.file";
const COMMAND: &str = "credentials.command";
