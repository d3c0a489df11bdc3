//! The promises of strict authentication, on the requests that the vendor's clients signed.
//!
//! Invariant: each refusal begins with a request that was let in.

use http::Request;
use serde_json::Value as Json;

use super::*;

const KEYS: &str = r#"[{"AccessKeyId":"testAccessId","AccessKeySecret":"testAccessKey"}]"#;
const TEMPORARY: &str = r#"[{"AccessKeyId":"testAccessId","AccessKeySecret":"testAccessKey",
    "SecurityToken":"testStsToken","Expiration":"2026-12-01T00:00:00Z"}]"#;

fn keys(json: &str) -> Auth {
    Auth::Strict(Keys::from_json(json.as_bytes()).expect("a list of keys"))
}

fn vectors() -> Vec<Json> {
    let text = include_str!("../../../../tests/fixtures/signature_vectors.json");
    let json: Json = serde_json::from_str(text).expect("the vectors");
    json["vectors"].as_array().expect("a list").clone()
}

/// A recorded request, and when it was made.
fn recorded(vector: &Json) -> (Request<()>, Millis) {
    let text = |name: &str| vector[name].as_str().unwrap_or_default();
    let mut request = Request::builder().method(text("method")).uri(text("target"));
    for (name, value) in vector["signed_headers"].as_object().expect("headers") {
        let value = value.as_str().unwrap_or_default();
        // The recording has an empty value for what was not sent.
        if !value.is_empty() {
            request = request.header(name, value);
        }
    }
    request = request.header("authorization", text("authorization"));
    if let Some(token) = vector["sts"].as_str() {
        request = request.header("authorization-sts-token", token);
    }
    let date = vector["signed_headers"]["date"].as_str().expect("a date");
    (request.body(()).expect("a request"), Millis(read_date(date).expect("a date")))
}

fn of_version(version: &str) -> (Request<()>, Millis) {
    let is = |vector: &&Json| {
        let authorization = vector["authorization"].as_str().unwrap_or_default();
        let found = if authorization.contains("aliyun_v4") { "4" } else { "2" };
        found == version && vector["sts"].is_null()
    };
    recorded(vectors().iter().find(is).expect("both versions were recorded"))
}

fn code(admitted: Result<(), Refusal>) -> (u16, String) {
    let refusal = admitted.expect_err("it is refused");
    let code = refusal.message.split(':').next().unwrap_or_default().to_owned();
    (refusal.status.as_u16(), code)
}

fn with(request: &Request<()>, name: &'static str, value: &str) -> Request<()> {
    let mut changed = request.clone();
    changed.headers_mut().insert(name, value.parse().expect("a header"));
    changed
}

#[test]
fn every_recorded_request_is_let_in_with_its_key_and_refused_with_another() {
    let other = KEYS.replace("testAccessKey", "testAccessKex");
    let mut with_token = 0;
    for vector in &vectors() {
        let (request, now) = recorded(vector);
        let text = canonical(&request).expect("it is UTF-8");
        assert_eq!(text, vector["canonical"].as_str().expect("a text"));
        let temporary = !vector["sts"].is_null();
        with_token += usize::from(temporary);
        let json = if temporary { TEMPORARY } else { KEYS };
        assert_eq!(keys(json).admit(&request, now), Ok(()), "{vector}");
        let refused = keys(&other).admit(&request, now);
        assert_eq!(code(refused), (401, String::from("ODPS-0410042")), "{vector}");
    }
    assert_eq!((vectors().len(), with_token), (28, 9));
}

#[test]
fn whatever_is_signed_cannot_be_changed() {
    for version in ["2", "4"] {
        let (request, now) = of_version(version);
        let auth = keys(KEYS);
        assert_eq!(auth.admit(&request, now), Ok(()));
        let uri = request.uri().to_string();
        let mut changed = vec![
            with(&request, "content-type", "text/x"),
            with(&request, "x-odps-more", "x"),
            with(&request, "x-odps-user-agent", "x"),
            with(&request, "date", "Mon, 23 Nov 2026 04:47:00 GMT"),
        ];
        for address in [uri.replace("proj", "prod"), format!("{uri}&x=y"), format!("{uri}/")] {
            let mut request = request.clone();
            *request.uri_mut() = address.parse().expect("a URI");
            changed.push(request);
        }
        let mut other = request.clone();
        *other.method_mut() = http::Method::PATCH;
        changed.push(other);
        for request in changed {
            let refused = auth.admit(&request, now);
            assert_eq!(code(refused), (401, String::from("ODPS-0410042")), "{request:?}");
        }
    }
}

#[test]
fn a_date_may_be_a_quarter_of_an_hour_off_and_not_more() {
    let (request, Millis(signed)) = of_version("2");
    let auth = keys(KEYS);
    for now in [signed - SKEW_MS_MAX, signed + SKEW_MS_MAX] {
        assert_eq!(auth.admit(&request, Millis(now)), Ok(()));
    }
    for now in [signed - SKEW_MS_MAX - 1, signed + SKEW_MS_MAX + 1] {
        let refusal = auth.admit(&request, Millis(now)).expect_err("too far off");
        assert_eq!((refusal.status.as_u16(), refusal.code), (400, "RequestTimeTooSkewd"));
        let told = format!("now_date:{}", iso(now));
        assert!(refusal.message.ends_with(&told), "{}", refusal.message);
    }
    assert_eq!(iso(1_774_512_000_007), "2026-03-26T08:00:00.007Z");
}

#[test]
fn headers_that_are_missing_garbled_or_there_twice_are_refused() {
    let (request, now) = of_version("4");
    let auth = keys(KEYS);
    let signature = "S3HDKKJdJu9XpCQb4oZ0ekKpaCQ=";
    for garbled in [
        "",
        "ODPS",
        "ODPS testAccessId",
        "ODPS testAccessId:",
        "odps testAccessId:AAAA",
        "ODPS testAccessId:not base64",
        "Basic dGVzdDp0ZXN0",
    ] {
        let refused = code(auth.admit(&with(&request, "authorization", garbled), now));
        assert!(refused.0 == 400 || refused.0 == 401, "{garbled}: {refused:?}");
    }
    for scope in [
        "20261123/cn-hangzhou/odps/aliyun_v5_request",
        "20261123/cn-hangzhou/oss/aliyun_v4_request",
        "20261123//odps/aliyun_v4_request",
        "20261123/cn-hangzhou/odps",
        "20261124/cn-hangzhou/odps/aliyun_v4_request",
    ] {
        let value = format!("ODPS testAccessId/{scope}:{signature}");
        let refused = auth.admit(&with(&request, "authorization", &value), now);
        assert_eq!(code(refused), (400, String::from("ODPS-0410011")), "{scope}");
    }
    for name in ["authorization", "date"] {
        let mut without = request.clone();
        without.headers_mut().remove(name);
        assert_eq!(code(auth.admit(&without, now)), (400, String::from("ODPS-0410001")));
        let mut twice = request.clone();
        let value = twice.headers()[name].clone();
        twice.headers_mut().append(name, value);
        assert_eq!(code(auth.admit(&twice, now)), (400, String::from("ODPS-0410011")));
    }
    let refused = auth.admit(&with(&request, "date", "yesterday"), now);
    assert_eq!(code(refused), (400, String::from("ODPS-0410011")));
}

#[test]
fn a_key_that_is_not_known_and_a_token_that_is_not_its_own_are_refused() {
    let (request, now) = of_version("2");
    let unknown = keys(&KEYS.replace("testAccessId", "otherAccessId"));
    assert_eq!(code(unknown.admit(&request, now)), (401, String::from("ODPS-0410051")));
    let with_token = with(&request, "authorization-sts-token", "testStsToken");
    let refused = keys(KEYS).admit(&with_token, now);
    assert_eq!(code(refused), (401, String::from("ODPS-0410051")), "the key has none");
    let auth = keys(TEMPORARY);
    assert_eq!(auth.admit(&with_token, now), Ok(()));
    assert_eq!(code(auth.admit(&request, now)), (400, String::from("ODPS-0410001")));
    let other = with(&request, "authorization-sts-token", "testStsTokex");
    assert_eq!(code(auth.admit(&other, now)), (401, String::from("ODPS-0410051")));
    let expired = keys(&TEMPORARY.replace("2026-12-01", "2026-11-23"));
    assert_eq!(code(expired.admit(&with_token, now)), (401, String::from("ODPS-0410051")));
}

#[test]
fn health_checks_need_no_key_and_nothing_else_goes_without() {
    let ask = |auth: &Auth, path: &str| {
        let request = Request::get(path).body(()).expect("a request");
        auth.admit(&request, Millis(0)).is_ok()
    };
    let auth = keys(KEYS);
    assert!(ask(&auth, "/healthz") && ask(&auth, "/readyz"));
    for path in ["/", "/stats", "/capabilities", "/api/projects/local", "/healthz/../stats"] {
        assert!(!ask(&auth, path) && ask(&Auth::Open, path), "{path}");
    }
}

#[test]
fn keys_are_read_and_never_printed() {
    let printed = format!("{:?}", keys(TEMPORARY));
    assert_eq!(printed, r#"Strict({"testAccessId"})"#);
    for text in [
        "[]",
        "{}",
        "hush",
        r#"["hush"]"#,
        r#"[{"AccessKeyId":"a"}]"#,
        r#"[{"AccessKeyId":"a","AccessKeySecret":""}]"#,
        r#"[{"AccessKeyId":"a/b","AccessKeySecret":"hush"}]"#,
        r#"[{"AccessKeyId":"a","AccessKeySecret":"hush","Expires":"hush"}]"#,
        r#"[{"AccessKeyId":"a","AccessKeySecret":"hush","Expiration":"hush"}]"#,
        r#"[{"AccessKeyId":"a","AccessKeySecret":"1"},{"AccessKeyId":"a","AccessKeySecret":"2"}]"#,
    ] {
        let error = Keys::from_json(text.as_bytes()).expect_err(text).to_string();
        assert!(!error.contains("hush"), "{error}");
    }
}
