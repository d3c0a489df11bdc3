//! Authentication: anybody may ask, or only a client that signs with a key of the server.
//!
//! `admission.rs` checks a request before anything else reads it. Invariant: with keys, nothing but
//! the two health checks is answered to a request that is not signed, as the vendor's clients sign
//! (version 2 or 4, with its security token if it has one), within a quarter of an hour; and no
//! secret is ever shown.
//!
//! The text that is signed is put together here once more, and not shared with the runtime's
//! `tunnel/sign.rs`: this crate may know the core only, which knows no HTTP and no secrets, and two
//! readings of the vendor's recorded signatures find each other's mistakes.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use arrow_cast::parse::string_to_timestamp_nanos;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use sha1::Sha1;
use sha2::Sha256;
use upsert_sink_format::id::Millis;

use crate::error::{Error, Refusal};

/// Who may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Anybody, with any key or none. For servers that only their own machine reaches.
    #[default]
    Open,
    /// Who signs with one of these keys.
    Strict(Keys),
}

/// Keys, by their ids. Printing them shows the ids alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, Key>);

#[derive(Clone, PartialEq, Eq)]
struct Key {
    secret: String,
    token: Option<String>,
    expires_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct KeyJson {
    access_key_id: String,
    access_key_secret: String,
    #[serde(default)]
    security_token: Option<String>,
    #[serde(default)]
    expiration: Option<String>,
}

impl Keys {
    /// Reads a JSON list of keys with `AccessKeyId`, `AccessKeySecret` and, for temporary ones,
    /// `SecurityToken` and `Expiration`.
    ///
    /// # Errors
    /// `Keys` if it is no such list, if it is empty, or if an id is there twice.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        // The parser's own message may quote a secret.
        let keys: Vec<KeyJson> = serde_json::from_slice(text).map_err(|error| {
            Error::Keys(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let mut by_id = BTreeMap::new();
        for key in keys {
            let id = key.access_key_id;
            let sound =
                |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            let token = key.security_token.filter(|token| !token.is_empty());
            if !sound(&id) || id.contains(['/', ':']) {
                return Err(Error::Keys(String::from(
                    "an `AccessKeyId` has characters that none has",
                )));
            }
            if !sound(&key.access_key_secret) || !token.as_deref().is_none_or(sound) {
                return Err(Error::Keys(format!("key {id} has no sound secret or token")));
            }
            let expires_ms = key.expiration.map(|text| {
                let nanos = string_to_timestamp_nanos(&text).ok();
                nanos
                    .and_then(|nanos| u64::try_from(nanos / 1_000_000).ok())
                    .ok_or_else(|| Error::Keys(format!("the `Expiration` of key {id} is no time")))
            });
            let expires_ms = expires_ms.transpose()?;
            let key = Key { secret: key.access_key_secret, token, expires_ms };
            if by_id.insert(id.clone(), key).is_some() {
                return Err(Error::Keys(format!("key {id} is there twice")));
            }
        }
        match by_id.is_empty() {
            true => Err(Error::Keys(String::from("there is no key in it"))),
            false => Ok(Self(by_id)),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Auth {
    /// Lets a request in, or says why not.
    pub(crate) fn admit<B>(&self, request: &http::Request<B>, now: Millis) -> Result<(), Refusal> {
        match self {
            Self::Open => Ok(()),
            Self::Strict(_) if HEALTH_CHECKS.contains(&request.uri().path()) => Ok(()),
            Self::Strict(keys) => keys.admit(request, now),
        }
    }
}

/// The header `Authorization`, taken apart.
struct Authorization<'a> {
    id: &'a str,
    /// Day, region and the two words that end a scope of version 4.
    scope: Option<[&'a str; 4]>,
    signature: Vec<u8>,
}

impl Keys {
    fn admit<B>(&self, request: &http::Request<B>, now: Millis) -> Result<(), Refusal> {
        let headers = request.headers();
        let authorization = one(headers, "authorization")?
            .ok_or_else(|| missing("Authorization is missing; sign with a key of this server"))?;
        let authorization = parse(authorization).ok_or_else(|| {
            invalid(
                "Authorization is not of the form `ODPS id:signature`, with \
                     `id/day/region/odps/aliyun_v4_request` for an id in version 4",
            )
        })?;
        let date = one(headers, "date")?
            .ok_or_else(|| missing("Date is missing; it is part of the signature"))?;
        let signed_ms = read_date(date)
            .ok_or_else(|| invalid("Date is no date such as Thu, 26 Mar 2026 08:00:00 GMT"))?;
        if signed_ms.abs_diff(now.0) > SKEW_MS_MAX {
            return Err(expired(signed_ms, now.0));
        }
        if authorization.scope.is_some_and(|[day, ..]| day != day_of(signed_ms)) {
            return Err(invalid("the day in Authorization is not that of Date"));
        }
        let key = self.0.get(authorization.id);
        let key = key.ok_or_else(|| not_known("accessKeyId not found"))?;
        let text = canonical(request)?;
        if !key.has_signed(&text, &authorization) {
            let message = "ODPS-0410042:Invalid signature value - the signature is not that of \
                           this request by this key; check the secret, and what changes requests \
                           on their way";
            return Err(Refusal::unauthorized(message));
        }
        key.check_token(one(headers, "authorization-sts-token")?, now)
    }
}

impl Key {
    fn has_signed(&self, text: &str, authorization: &Authorization<'_>) -> bool {
        let key = match authorization.scope {
            None => self.secret.clone().into_bytes(),
            Some(scope) => {
                scope.iter().fold(format!("aliyun_v4{}", self.secret).into_bytes(), |key, part| {
                    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect(ANY_LENGTH);
                    mac.update(part.as_bytes());
                    mac.finalize().into_bytes().to_vec()
                })
            }
        };
        let mut mac = Hmac::<Sha1>::new_from_slice(&key).expect(ANY_LENGTH);
        mac.update(text.as_bytes());
        // In constant time.
        mac.verify_slice(&authorization.signature).is_ok()
    }

    fn check_token(&self, token: Option<&str>, now: Millis) -> Result<(), Refusal> {
        if self.expires_ms.is_some_and(|expires_ms| expires_ms <= now.0) {
            return Err(not_known("the security token has expired; get another"));
        }
        match (&self.token, token) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(not_known("the key has no security token; leave it out")),
            (Some(_), None) => {
                Err(missing("authorization-sts-token is missing; the key is a temporary one"))
            }
            // Who knows the secret could read the token anyway, so time betrays nothing new.
            (Some(expected), Some(token)) if expected == token => Ok(()),
            (Some(_), Some(_)) => Err(not_known("the security token is not that of the key")),
        }
    }
}

fn parse(authorization: &str) -> Option<Authorization<'_>> {
    let (who, signature) = authorization.strip_prefix("ODPS ")?.split_once(':')?;
    let signature = STANDARD.decode(signature).ok()?;
    let parts: Vec<&str> = who.split('/').collect();
    let (id, scope) = match parts.as_slice() {
        [id] => (*id, None),
        [id, day, region, "odps", "aliyun_v4_request"] if !region.is_empty() => {
            (*id, Some([*day, *region, "odps", "aliyun_v4_request"]))
        }
        _ => return None,
    };
    (!id.is_empty()).then_some(Authorization { id, scope, signature })
}

/// The text that is signed: method, three headers by value, the service's own by name and value,
/// and the resource below the endpoint with its parameters, decoded and sorted.
fn canonical<B>(request: &http::Request<B>) -> Result<String, Refusal> {
    let headers = request.headers();
    let uri = request.uri();
    let mut lines = BTreeMap::new();
    for name in ["content-md5", "content-type", "date"] {
        lines.insert(name.to_owned(), one(headers, name)?.unwrap_or_default().to_owned());
    }
    let own = headers.keys().filter(|name| name.as_str().starts_with(OWN));
    for name in own {
        let value = one(headers, name.as_str())?.unwrap_or_default();
        lines.insert(name.as_str().to_owned(), format!("{name}:{value}"));
    }
    let mut parameters = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decoded(name)?, decoded(&value.replace('+', " "))?);
        if name.starts_with(OWN) {
            lines.insert(name.clone(), format!("{name}:{value}"));
        }
        parameters.push((name, value));
    }
    parameters.sort();
    let path = uri.path();
    let below = path.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut text = format!("{}\n", request.method());
    for line in lines.values() {
        text.push_str(line);
        text.push('\n');
    }
    text.push_str(&decoded(below.unwrap_or(path))?);
    for (index, (name, value)) in parameters.iter().enumerate() {
        text.push(if index == 0 { '?' } else { '&' });
        text.push_str(name);
        if !value.is_empty() {
            text.push('=');
            text.push_str(value);
        }
    }
    Ok(text)
}

/// A header's only value.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(invalid(&format!("{name} is no UTF-8"))),
        },
        (Some(_), Some(_)) => Err(invalid(&format!("{name} is there twice"))),
    }
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| invalid("the address is no UTF-8"))
}

fn read_date(text: &str) -> Option<u64> {
    let since = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// Such as 20260326.
fn day_of(at_ms: u64) -> String {
    iso(at_ms).get(..10).unwrap_or_default().replace('-', "")
}

/// Such as 2026-03-26T08:00:00.000Z.
fn iso(at_ms: u64) -> String {
    // Thu, 26 Mar 2026 08:00:00 GMT: the crate of dates in headers knows the calendar.
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(at_ms));
    let parts: Vec<&str> = date.split(' ').collect();
    let [_, day, month, year, time, _] = parts.as_slice() else { return date };
    let month = MONTHS.iter().position(|name| name == month).map_or(0, |index| index + 1);
    format!("{year}-{month:02}-{day}T{time}.{:03}Z", at_ms % 1000)
}

fn missing(what: &str) -> Refusal {
    Refusal::unsigned(format!("ODPS-0410001:Missing authentication parameters - {what}"))
}

fn invalid(what: &str) -> Refusal {
    Refusal::unsigned(format!("ODPS-0410011:Invalid authentication parameters - {what}"))
}

fn not_known(what: &str) -> Refusal {
    Refusal::unauthorized(format!("ODPS-0410051:Invalid credentials - {what}"))
}

/// The vendor's clients take the two times out of this message.
fn expired(signed_ms: u64, now_ms: u64) -> Refusal {
    Refusal::skewed(format!(
        "ODPS-0410031:Authentication request expired - the expire time interval exceeds the max \
         limitation: {SKEW_MS_MAX}, max_interval_date:{SKEW_MS_MAX},expire_date:{},now_date:{}",
        iso(signed_ms),
        iso(now_ms)
    ))
}

const HEALTH_CHECKS: [&str; 2] = ["/healthz", "/readyz"];
/// How the names of the service's own headers and parameters begin.
const OWN: &str = "x-odps-";
const SKEW_MS_MAX: u64 = 15 * 60_000;
const ANY_LENGTH: &str = "a key may have any length";
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests;
