//! Names and addresses as they go into paths, queries, headers and SQL.
//!
//! The types of `settings.rs`. Invariant: whoever holds one of them need not check it again; a text
//! that could carry a path, a header or a statement never becomes one.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::error::{Result, TunnelError, escape};

/// The name of a project, a schema, a table, a column, a region, a quota or a tag: 1 to 128
/// letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self> {
        let sound = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        if (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(sound) {
            return Ok(Self(String::from(text)));
        }
        Err(wrong(text, "made of 1 to 128 letters, digits, _ and -"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The address of a service: an http or https URL with a host and without a query, such as
/// `http://service.cn.maxcompute.aliyun.com/api`. It ends without `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.0.split_once("://").map_or("", |(scheme, _)| scheme)
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        let uri: Option<http::Uri> = self.0.parse().ok();
        let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|a| a.is_loopback())
    }
}

impl FromStr for ServiceUrl {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self> {
        let uri: Option<http::Uri> = text.parse().ok();
        let sound = uri.is_some_and(|uri| {
            let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
            scheme && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none()
        });
        if sound {
            return Ok(Self(String::from(text.trim_end_matches('/'))));
        }
        Err(wrong(text, "an http or https URL"))
    }
}

impl fmt::Display for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tags of the Tunnel's requests, for the service's own statistics: at most 16 names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Vec<Name>);

impl Tags {
    /// The tags, in the order in which they were written.
    pub fn as_slice(&self) -> &[Name] {
        &self.0
    }
}

/// Names with commas between them; blanks and empty ones are left out.
impl FromStr for Tags {
    type Err = TunnelError;

    fn from_str(text: &str) -> Result<Self> {
        let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
        let tags = tags.map(Name::from_str).collect::<Result<Vec<_>>>()?;
        match tags.len() {
            0..=TAGS_MAX => Ok(Self(tags)),
            count => Err(wrong(text, &format!("at most {TAGS_MAX} names, not {count}"))),
        }
    }
}

impl fmt::Display for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tags: Vec<_> = self.0.iter().map(Name::as_str).collect();
        f.write_str(&tags.join(","))
    }
}

fn wrong(text: &str, rule: &str) -> TunnelError {
    TunnelError::unusable(format!("`{}`: it must be {rule}; correct it", escape(text, 100)))
}

const NAME_BYTES_MAX: usize = 128;
const TAGS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_carries_a_path_a_header_or_a_statement() {
        for text in ["", "p/../q", "a\r\nx: y", "t; drop", "a b", "`t`", &"n".repeat(129)] {
            let refused = text.parse::<Name>().expect_err(text).to_string();
            assert!(refused.contains("1 to 128 letters"), "{refused}");
        }
        assert_eq!("cn-hangzhou_1".parse::<Name>().expect("a name").as_str(), "cn-hangzhou_1");
    }

    #[test]
    fn at_most_16_tags() {
        let sixteen = ["t"; 16].join(" , ");
        assert_eq!(sixteen.parse::<Tags>().expect("16").as_slice().len(), 16);
        let refused = (sixteen + ",t").parse::<Tags>().expect_err("17").to_string();
        assert!(refused.contains("at most 16 names, not 17"), "{refused}");
        assert!("a b".parse::<Tags>().is_err());
        assert_eq!(" nightly,, team-a ".parse::<Tags>().expect("2").to_string(), "nightly,team-a");
    }

    #[test]
    fn a_service_is_asked_by_http() {
        for text in ["ftp://x", "", "service", "http://", "http:///api", "http://h/?a=b"] {
            assert!(text.parse::<ServiceUrl>().is_err(), "{text}");
        }
        let url = "https://service.example/api/".parse::<ServiceUrl>().expect("a URL");
        assert_eq!((url.as_str(), url.scheme()), ("https://service.example/api", "https"));
    }

    #[test]
    fn loopback_is_local_and_nothing_else() {
        let local = |text: &str| text.parse::<ServiceUrl>().expect("a URL").is_local();
        assert!(local("http://127.0.0.1:80/api") && local("http://localhost/api"));
        assert!(local("http://[::1]:80/api"));
        assert!(!local("http://service.cn.maxcompute.aliyun.com/api"));
        assert!(!local("http://127.0.0.1.evil.com/api"));
    }
}
