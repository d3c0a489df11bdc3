//! `/__faults`: sets, lists and removes the rules of faults.
//!
//! For tests and for people who want to see their client fail; no rule applies to it.
//! Invariant: only a process on this machine may ask.

use http::Method;
use serde_json::json;

use crate::answer::Answer;
use crate::error::Refusal;
use crate::fault::{FaultRules, Faults};
use crate::request::Request;

/// Answers a request to `/__faults…`.
pub(crate) fn respond(
    faults: &Faults,
    request: &Request,
    rest: &[&str],
) -> Result<Answer, Refusal> {
    if request.peer.is_some_and(|peer| !peer.to_canonical().is_loopback()) {
        let message = "fault rules are set from this machine only; use a loopback address";
        return Err(Refusal::denied(message));
    }
    match (&request.method, rest) {
        (&Method::GET, []) => {}
        (&Method::POST, []) => {
            let text = std::str::from_utf8(&request.body);
            let text = text.map_err(|_| Refusal::invalid("fault rules are JSON, in UTF-8"))?;
            let rules = FaultRules::parse(text).and_then(|rules| faults.add(rules));
            rules.map_err(|error| Refusal::invalid(error.to_string()))?;
        }
        (&Method::DELETE, []) => faults.clear(),
        (&Method::DELETE, [id]) => {
            let removed = id.parse().is_ok_and(|id| faults.remove(id));
            if !removed {
                let message = format!("there is no fault rule {id}; GET /__faults lists them");
                return Err(Refusal::no_such("NoSuchResource", message));
            }
        }
        (method, _) => {
            return Err(Refusal::method(format!(
                "{method} /__faults/{}: GET lists the rules, POST adds some, DELETE removes all, \
                 or one by its id",
                rest.join("/")
            )));
        }
    }
    Ok(Answer::json(json!({ "rules": faults.status() }).to_string()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::components::ServerComponents;
    use crate::request::Peer;

    fn status(peer: Option<&str>) -> u16 {
        let mut request = http::Request::get("/__faults").body(Bytes::new()).expect("a request");
        if let Some(peer) = peer {
            request.extensions_mut().insert(Peer(peer.parse().expect("an address")));
        }
        let request = Request::new(request).expect("its address is UTF-8");
        let faults = Faults::new(FaultRules::default(), &ServerComponents::system());
        match respond(&faults, &request, &[]) {
            Ok(answer) => answer.status.as_u16(),
            Err(refusal) => refusal.status.as_u16(),
        }
    }

    #[test]
    fn only_this_machine_sets_rules() {
        for peer in ["127.0.0.1:9", "[::1]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(status(Some(peer)), 200, "{peer}");
        }
        assert_eq!(status(None), 200, "without a network it is the program itself");
        for peer in ["192.0.2.1:9", "[2001:db8::1]:9"] {
            assert_eq!(status(Some(peer)), 403, "{peer}");
        }
    }
}
