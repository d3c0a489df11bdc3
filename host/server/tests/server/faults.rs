//! Faults by rule: each kind does what it says to the client and to the table, and nothing else.

use upsert_sink_server::{FaultRules, Severed};

use crate::support::{Reply, Site, UPSERTS, row};

impl Site {
    fn faults(&self, rules: &str) {
        let rules = FaultRules::parse(&format!("{{\"rules\": [{rules}]}}")).expect(rules);
        self.service.faults().add(rules).expect("few rules");
    }

    fn fired(&self) -> Vec<(u64, u64)> {
        self.service.faults().status().iter().map(|rule| (rule.seen, rule.fired)).collect()
    }

    /// Asks where the connection may end without an answer.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, Option<Severed>) {
        let request = http::Request::builder().method(method).uri(path);
        let response = self.service.respond(request.body(Default::default()).unwrap()).await;
        let severed = response.extensions().get::<Severed>().copied();
        let body = String::from_utf8_lossy(response.body()).into_owned();
        (response.status().as_u16(), body, severed)
    }
}

fn of_session(id: &str) -> String {
    format!("{UPSERTS}?upsertid={id}")
}

#[tokio::test]
async fn a_rule_acts_on_the_requests_that_fit_it_on_its_occasion() {
    let site = Site::with_days(&["a"]).await;
    site.faults(
        "{\"match\": {\"operation\": \"put\", \"query\": {\"bucketid\": \"2\"}}, \
           \"when\": {\"nth\": 2}, \"do\": {\"slot-exceeded\": {\"status\": 400}}}, \
         {\"match\": {\"method\": \"PUT\", \"path\": \"/projects/local/*\", \
           \"query\": {\"upsertid\": \"*\", \"slotnum\": null}}, \"do\": \"flow-exceeded\", \
           \"when\": {\"every\": 4}}",
    );
    let id = site.session("a").await;
    let empty = |bucket| site.put_pack(&id, bucket, 0, crate::support::pack(&[]));
    let mut answers = Vec::new();
    for bucket in [2, 1, 2, 1, 2] {
        let reply = empty(bucket).await;
        let code = if reply.status == 200 { String::new() } else { reply.code() };
        answers.push((reply.status, code));
    }
    let ok = || (200, String::new());
    let refused = |status, code: &str| (status, code.to_owned());
    let expected = [ok(), ok(), refused(400, "SlotExceeded"), refused(429, "FlowExceeded"), ok()];
    assert_eq!(answers, expected);
    assert_eq!(site.fired(), [(3, 1), (5, 1)]);
}

#[tokio::test]
async fn a_page_of_the_proxy_has_no_request_id_and_may_come_after_the_request() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    site.faults(
        "{\"match\": {\"operation\": \"commit\"}, \"when\": {\"nth\": 1}, \
           \"do\": {\"tengine\": {\"status\": 502}}}, \
         {\"match\": {\"operation\": \"commit\"}, \"when\": {\"nth\": 2}, \
           \"do\": {\"tengine\": {\"status\": 504, \"at\": \"after\"}}}",
    );
    for (status, rows) in [(502, 0), (504, 1)] {
        let request = http::Request::post(of_session(&id)).body(Default::default()).unwrap();
        let response = site.service.respond(request).await;
        assert_eq!(response.status(), status);
        assert!(!response.headers().contains_key("x-odps-request-id"));
        assert_eq!(response.headers()["content-type"], "text/html");
        assert!(String::from_utf8_lossy(response.body()).contains("Tengine"));
        assert_eq!(site.rows().await.len(), rows, "status {status}");
    }
    assert_eq!(site.commit(&id).await.session_status(), "committed");
}

#[tokio::test]
async fn a_slot_moves_with_and_without_a_name() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    site.faults(
        "{\"match\": {\"operation\": \"reload\"}, \"when\": {\"nth\": 1}, \
           \"do\": {\"slot-moved\": {\"worker\": \"127.0.0.1:9\"}}}, \
         {\"match\": {\"operation\": \"reload\"}, \"do\": {\"slot-moved\": {}}}",
    );
    for worker in [Some("127.0.0.1:9"), None] {
        let request = http::Request::get(of_session(&id)).body(Default::default()).unwrap();
        let response = site.service.respond(request).await;
        assert_eq!(response.status(), 308);
        let named = response.headers().get("odps-tunnel-routed-server");
        assert_eq!(named.map(|value| value.to_str().unwrap()), worker);
        assert!(response.headers().contains_key("x-odps-request-id"));
    }
}

#[tokio::test]
async fn a_lost_reply_is_carried_out_and_a_cut_request_is_not() {
    let site = Site::with_days(&["a"]).await;
    site.faults(
        "{\"match\": {\"operation\": \"create\"}, \"when\": {\"nth\": 1}, \
           \"do\": {\"cut-request\": {\"bytes\": 0}}}, \
         {\"match\": {\"operation\": \"create\"}, \"when\": {\"nth\": 2}, \"do\": \"lost-reply\"}, \
         {\"match\": {\"operation\": \"create\"}, \"when\": {\"nth\": 3}, \
           \"do\": {\"cut-response\": {\"bytes\": 7}}}",
    );
    let create = format!("{UPSERTS}?partition=day%3Da");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let severed = site.ask("POST", &create).await.2;
        seen.push((severed, site.service.open_sessions().len()));
    }
    let unanswered = Some(Severed::Unanswered);
    assert_eq!(seen, [(unanswered, 0), (unanswered, 1), (Some(Severed::After(7)), 2)]);
}

#[tokio::test]
async fn a_session_that_expires_by_rule_takes_nothing_more() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    site.faults(
        "{\"match\": {\"operation\": \"put\"}, \"when\": {\"nth\": 2}, \
          \"do\": \"session-expired\"}",
    );
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    assert_eq!(site.put(&id, &[(1, Some("y"))]).await.code(), "StatusConflict");
    assert_eq!(site.commit(&id).await.session_status(), "expired");
    assert!(site.rows().await.is_empty());
}

#[tokio::test]
async fn a_crash_at_the_log_record_leaves_all_of_the_commit_or_none() {
    for (record, expected) in [("before", vec![]), ("after", vec![row("a", 1, "x")])] {
        let site = Site::with_days(&["a"]).await;
        let id = site.session("a").await;
        assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
        site.faults(&format!(
            "{{\"match\": {{\"operation\": \"commit\"}}, \
               \"do\": {{\"crash\": {{\"record\": \"{record}\"}}}}}}"
        ));
        let (_, _, severed) = site.ask("POST", &of_session(&id)).await;
        assert_eq!(severed, Some(Severed::Unanswered), "{record}");
        site.service.crashed().await;
        let (_, _, severed) = site.ask("GET", "/healthz").await;
        assert_eq!(severed, Some(Severed::Unanswered), "the dead answer nothing");
        let (clock, disk) = (site.clock.clone(), site.disk.clone());
        drop(site);
        let site = Site::on(clock, disk).await.expect("the directory is free again");
        assert_eq!(site.rows().await, expected, "{record}");
        assert_eq!(site.commit(&id).await.session_status(), "committed", "{record}");
        assert_eq!(site.rows().await, [row("a", 1, "x")], "{record}");
    }
}

#[tokio::test]
async fn a_delayed_request_goes_on_when_its_time_comes_or_its_rule_goes() {
    let site = Site::with_days(&["a"]).await;
    let rule = "{\"match\": {\"path\": \"/healthz\"}, \"do\": {\"delay\": {\"ms\": 5000}}}";
    for released_by_time in [true, false] {
        site.faults(rule);
        let asked = site.ask("GET", "/healthz");
        tokio::pin!(asked);
        while site.service.faults().status()[0].holding == 0 {
            assert!(futures::poll!(&mut asked).is_pending());
            tokio::task::yield_now().await;
        }
        match released_by_time {
            true => site.clock.advance(upsert_sink_format::id::Millis(5000)),
            false => site.service.faults().clear(),
        }
        assert_eq!(asked.await.0, 200);
        site.service.faults().clear();
    }
}

#[tokio::test]
async fn rules_are_set_listed_and_removed_over_http_and_end_by_themselves() {
    let site = Site::with_days(&["a"]).await;
    let before = site.service.stats().http_requests;
    let post = |rules: &'static str| site.call("POST", "/__faults", rules.into());
    let posted = post(
        "{\"rules\": [{\"name\": \"one\", \"do\": \"flow-exceeded\", \"ttl_seconds\": 60}, \
         {\"name\": \"two\", \"do\": \"lost-reply\"}]}",
    );
    assert_eq!(posted.await.json()["rules"].as_array().unwrap().len(), 2);
    let refused = site.create("a").await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "FlowExceeded"));
    let rules = |reply: Reply| reply.json()["rules"].clone();
    let listed = rules(site.call("GET", "/__faults", Vec::new()).await);
    assert_eq!((&listed[0]["name"], &listed[0]["fired"]), (&"one".into(), &1.into()));
    assert_eq!((&listed[1]["seen"], &listed[1]["fired"]), (&1.into(), &0.into()));
    assert_eq!(listed[0]["rule"]["do"], "flow-exceeded");
    let gone = site.call("DELETE", &format!("/__faults/{}", listed[1]["id"]), Vec::new()).await;
    assert_eq!(rules(gone).as_array().unwrap().len(), 1);
    let again = site.call("DELETE", &format!("/__faults/{}", listed[1]["id"]), Vec::new()).await;
    assert_eq!((again.status, again.code().as_str()), (404, "NoSuchResource"));
    let wrong = post("{\"rules\": [{\"do\": \"lost-reply\"}, {\"do\": \"x\"}]}").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "InvalidArgument"));
    assert_eq!(site.service.faults().status().len(), 1, "all of them, or none");
    assert_eq!(site.service.stats().http_requests, before + 1, "these requests are not counted");
    site.clock.advance(upsert_sink_format::id::Millis(60_000));
    assert_eq!(site.create("a").await.status, 200, "its time is over");
    assert!(site.service.faults().status().is_empty());
}

#[tokio::test]
async fn rules_that_stand_are_bounded() {
    let site = Site::with_days(&[]).await;
    for _ in 0..64 {
        site.faults("{\"do\": \"flow-exceeded\", \"match\": {\"path\": \"/none\"}}");
    }
    let more = FaultRules::parse("{\"rules\": [{\"do\": \"lost-reply\"}]}").unwrap();
    let error = site.service.faults().add(more).unwrap_err().to_string();
    assert!(error.contains("DELETE"), "{error}");
}
