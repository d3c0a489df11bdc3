//! Signatures of requests, as the service checks them (version 2: HMAC-SHA1 over a canonical text).
//!
//! Used by `tunnel/endpoint.rs` for every request. Invariant: the secret is read here and goes
//! nowhere else.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::Hmac;
use hmac::Mac;
use sha1::Sha1;

use crate::settings::Credentials;

/// What is signed of one request.
pub(crate) struct Signed<'a> {
    /// `GET`, `PUT`, …
    pub(crate) method: &'a str,
    /// All headers; those that are not signed are passed over.
    pub(crate) headers: &'a [(&'a str, String)],
    /// The path below the endpoint, not encoded.
    pub(crate) path: &'a str,
    /// The parameters, not encoded.
    pub(crate) query: &'a [(&'a str, String)],
}

/// The value of the header `Authorization`.
pub(crate) fn authorization(credentials: &Credentials, signed: &Signed<'_>) -> String {
    let key = credentials.access_key.expose().as_bytes();
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("a key may have any length");
    mac.update(canonical(signed).as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    format!("ODPS {}:{signature}", credentials.access_id)
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

#[cfg(test)]
mod tests {
    use super::*;

    use percent_encoding::percent_decode_str;
    use serde_json::Value;

    use crate::settings::Secret;

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
        (canonical(&signed), authorization(credentials, &signed))
    }

    /// Recorded from both SDKs; those of version 4 have the date and the region in the
    /// authorization.
    #[test]
    fn every_recorded_request_of_version_2_is_signed_alike() {
        let fixtures = include_str!("../../../../tests/fixtures/signature_vectors.json");
        let fixtures: Value = serde_json::from_str(fixtures).expect("the vectors");
        let credentials = Credentials {
            access_id: text(&fixtures, "access_id").to_owned(),
            access_key: Secret::new(text(&fixtures, "access_key")),
            sts_token: None,
        };
        let vectors = fixtures["vectors"].as_array().expect("a list");
        let of_version_2 =
            vectors.iter().filter(|v| !text(v, "authorization").contains("aliyun_v4"));
        let mut with_token = 0;
        for (index, vector) in of_version_2.enumerate() {
            let (canonical, authorization) = sign(vector, &credentials);
            assert_eq!(canonical, text(vector, "canonical"), "vector {index}");
            assert_eq!(authorization, text(vector, "authorization"), "vector {index}");
            with_token += usize::from(!vector["sts"].is_null());
        }
        assert!(with_token > 0, "there are vectors with a security token");
    }
}
