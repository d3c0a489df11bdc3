//! Signatures of requests, as the service checks them: HMAC-SHA1 over a canonical text, by the key
//! itself (version 2) or by one derived for a day and a region (version 4).
//!
//! Used by `endpoint.rs` for every request. Invariant: the secret is read here and goes
//! nowhere else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use crate::credentials::Credentials;

/// The part of one request that is signed.
pub(crate) struct Signed<'a> {
    /// `GET`, `PUT`, …
    pub(crate) method: &'a str,
    /// All headers; those that are not signed are left out.
    pub(crate) headers: &'a [(&'a str, String)],
    /// The path below the endpoint, not encoded.
    pub(crate) path: &'a str,
    /// The parameters, not encoded.
    pub(crate) query: &'a [(&'a str, String)],
}

/// The value of the header `Authorization`. With a region it is of version 4, and the headers must
/// have a date.
pub(crate) fn authorization(
    credentials: &Credentials,
    region: Option<&str>,
    signed: &Signed<'_>,
) -> String {
    let (id, secret) = (&credentials.access_id, credentials.access_key.expose());
    let (id, key) = match region {
        None => (id.clone(), secret.as_bytes().to_vec()),
        Some(region) => {
            let day = day_of(signed.headers);
            let scope = [day.as_str(), region, "odps", VERSION_4];
            (format!("{id}/{}", scope.join("/")), key_of_scope(secret, &scope))
        }
    };
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).expect(ANY_LENGTH);
    mac.update(canonical(signed).as_bytes());
    format!("ODPS {id}:{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Each part of the scope is signed by what came of the one before.
fn key_of_scope(secret: &str, scope: &[&str]) -> Vec<u8> {
    let mut key = format!("aliyun_v4{secret}").into_bytes();
    for part in scope {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect(ANY_LENGTH);
        mac.update(part.as_bytes());
        key = mac.finalize().into_bytes().to_vec();
    }
    key
}

/// The day of the header `Date` (`Mon, 23 Nov 2026 04:46:05 GMT`), as `20261123`.
fn day_of(headers: &[(&str, String)]) -> String {
    let date = headers.iter().find(|(name, _)| *name == "date").map(|(_, date)| date.as_str());
    let mut parts = date.unwrap_or_default().split_ascii_whitespace().skip(1);
    let mut part = || parts.next().unwrap_or_default();
    let (day, month, year) = (part(), part(), part());
    let month = MONTHS.iter().position(|name| *name == month).map_or(0, |index| index + 1);
    format!("{year}{month:02}{day}")
}

/// The text that is signed: method, three headers by value, the service's own by name and value,
/// the resource.
fn canonical(signed: &Signed<'_>) -> String {
    let mut entries: Vec<(String, String)> = Vec::new();
    for name in ["content-md5", "content-type", "date"] {
        let header = signed.headers.iter().find(|(header, _)| *header == name);
        entries.push((String::from(name), header.map_or(String::new(), |(_, v)| v.clone())));
    }
    for (name, value) in signed.headers.iter().chain(signed.query) {
        if name.starts_with("x-odps-") {
            entries.push((String::from(*name), format!("{name}:{value}")));
        }
    }
    entries.sort();
    let mut text = format!("{}\n", signed.method);
    for (_, line) in entries {
        text += &line;
        text.push('\n');
    }
    text + &resource(signed)
}

fn resource(signed: &Signed<'_>) -> String {
    let mut query: Vec<_> = signed.query.iter().collect();
    query.sort();
    let mut resource = String::from(signed.path);
    for (index, (name, value)) in query.into_iter().enumerate() {
        resource.push(if index == 0 { '?' } else { '&' });
        resource += name;
        if !value.is_empty() {
            resource.push('=');
            resource += value;
        }
    }
    resource
}

const VERSION_4: &str = "aliyun_v4_request";
const ANY_LENGTH: &str = "a key may have any length";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;
    use serde_json::Value;

    use super::*;
    use crate::credentials::Secret;

    /// A blank in a query is a plus for one of the two SDKs.
    fn decoded(text: &str) -> String {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().expect("UTF-8").into_owned()
    }

    fn text<'a>(value: &'a Value, name: &str) -> &'a str {
        value[name].as_str().unwrap_or_default()
    }

    /// The canonical text and the authorization of one recorded request.
    fn sign(vector: &Value, credentials: &Credentials) -> (String, String) {
        let target = text(vector, "target");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decoded(path.strip_prefix("/api").unwrap_or(path));
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        });
        let query: Vec<_> = query.collect();
        let query: Vec<_> = query.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
        let headers = vector["signed_headers"].as_object().expect("headers");
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let method = text(vector, "method");
        let signed = Signed { method, headers: &headers, path: &path, query: &query };
        let region = text(vector, "authorization").split('/').nth(2).filter(|_| is_4(vector));
        (canonical(&signed), authorization(credentials, region, &signed))
    }

    /// Those of version 4 have the date and the region in the authorization.
    fn is_4(vector: &Value) -> bool {
        text(vector, "authorization").contains("/aliyun_v4_request:")
    }

    #[test]
    fn every_recorded_request_of_both_sdks_is_signed_alike() {
        let fixtures = include_str!("../../../tests/fixtures/signature_vectors.json");
        let fixtures: Value = serde_json::from_str(fixtures).expect("the vectors");
        let credentials = Credentials {
            access_id: text(&fixtures, "access_id").to_owned(),
            access_key: Secret::new(text(&fixtures, "access_key")),
            sts_token: None,
        };
        let vectors = fixtures["vectors"].as_array().expect("a list");
        let (mut with_token, mut of_version_4) = (0, 0);
        for (index, vector) in vectors.iter().enumerate() {
            let (canonical, authorization) = sign(vector, &credentials);
            assert_eq!(canonical, text(vector, "canonical"), "vector {index}");
            assert_eq!(authorization, text(vector, "authorization"), "vector {index}");
            with_token += usize::from(!vector["sts"].is_null());
            of_version_4 += usize::from(is_4(vector));
        }
        assert_eq!((vectors.len(), of_version_4, with_token), (28, 6, 9));
    }

    #[test]
    fn the_day_of_a_signature_is_that_of_its_date() {
        let day = |date: &str| day_of(&[("date", String::from(date))]);
        assert_eq!(day("Mon, 05 Jan 2026 23:59:59 GMT"), "20260105");
        assert_eq!(day("Thu, 31 Dec 2026 00:00:00 GMT"), "20261231");
    }
}
