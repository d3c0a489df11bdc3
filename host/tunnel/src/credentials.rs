//! Credentials: keys and tokens, and where they come from.
//!
//! Part of the settings, used by `keyring.rs`. Invariant: a secret is never printed, and no message
//! has any part of one.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

use crate::date;

/// Where credentials come from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum CredentialSource {
    /// They were given, and stay.
    Given(Credentials),
    /// The environment variables that the vendor's clients read.
    Environment,
    /// A file with JSON, read again before what it holds expires, and every minute if that is not
    /// known.
    File(PathBuf),
    /// A program and its arguments, which prints JSON; run again before what it printed expires.
    Command(Vec<String>),
}

/// Credentials that sign requests. Printing them shows the id alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The id of the key.
    pub access_id: String,
    /// The key.
    pub access_key: Secret,
    /// A security token, for temporary keys.
    pub sts_token: Option<Secret>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, for the signature.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl CredentialSource {
    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Given(_) => String::from("the credentials that were given"),
            Self::Environment => String::from("the environment"),
            Self::File(path) => format!("the file {}", path.display()),
            // Without its arguments: nobody knows what they hold.
            Self::Command(command) => {
                format!("the program {}", command.first().map_or("", String::as_str))
            }
        }
    }
}

/// As the vendor's token service answers, and the metadata service of its machines.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CredentialsJson {
    access_key_id: String,
    access_key_secret: String,
    #[serde(default)]
    security_token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

impl Credentials {
    /// Reads what a file holds or a program prints: the credentials, and when they expire, in
    /// milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The mistake, without any of the text.
    pub(crate) fn from_json(text: &[u8]) -> Result<(Self, Option<u64>), String> {
        // The parser's own message may quote a value.
        let json: CredentialsJson = serde_json::from_slice(text).map_err(|error| {
            format!(
                "it is not JSON with `AccessKeyId` and `AccessKeySecret` (line {}, column {})",
                error.line(),
                error.column()
            )
        })?;
        let expires_ms = json.expiration.map(|text| {
            date::parse_rfc_3339(&text).ok_or_else(|| {
                String::from("its `Expiration` is no time such as 2026-03-26T08:00:00Z")
            })
        });
        let token = json.security_token.filter(|token| !token.is_empty());
        let credentials = Self {
            access_id: json.access_key_id,
            access_key: Secret::new(json.access_key_secret),
            sts_token: token.map(Secret::new),
        };
        credentials.check()?;
        Ok((credentials, expires_ms.transpose()?))
    }

    /// Whether they can be put into a request's headers.
    pub(crate) fn check(&self) -> Result<(), String> {
        let sound = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let token = self.sts_token.as_ref().map_or("", Secret::expose);
        for (name, text, may_be_empty) in [
            ("id of the key", self.access_id.as_str(), false),
            ("key", self.access_key.expose(), false),
            ("security token", token, true),
        ] {
            if !sound(text) || (text.is_empty() && !may_be_empty) {
                return Err(format!("its {name} is empty or has characters that none has"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_token_service_answers_is_read() {
        let text = br#"{"AccessKeyId":"STS.1","AccessKeySecret":"s","SecurityToken":"t",
            "Expiration":"2026-03-26T08:00:00Z","Code":"Success"}"#;
        let (credentials, expires_ms) = Credentials::from_json(text).expect("complete");
        assert_eq!(credentials.access_id, "STS.1");
        assert_eq!(credentials.sts_token, Some(Secret::new("t")));
        assert_eq!(expires_ms, Some(1_774_512_000_000));
        let text = br#"{"AccessKeyId":"a","AccessKeySecret":"s","SecurityToken":""}"#;
        let (credentials, expires_ms) = Credentials::from_json(text).expect("complete");
        assert_eq!((credentials.sts_token, expires_ms), (None, None));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for text in [
            r#"{"AccessKeyId":"a","AccessKeySecret":["hush"]}"#,
            r#"{"AccessKeyId":"a","AccessKeySecret":"hush\n"}"#,
            r#"{"AccessKeyId":"","AccessKeySecret":"hush"}"#,
            r#"{"AccessKeyId":"a","AccessKeySecret":"hush","Expiration":"hush"}"#,
            r#""hush""#,
            "hush",
        ] {
            let error = Credentials::from_json(text.as_bytes()).expect_err(text);
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
