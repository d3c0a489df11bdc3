//! Jobs on the wire: what is posted, what is told of it, and what is refused.

use crate::support::{INSTANCES, Site};

async fn statuses(site: &Site, path: &str) -> (String, String) {
    let reply = site.get(&format!("{path}?taskstatus")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let task = reply.body.split_once("<Task ").map(|(_, task)| task.to_owned());
    let task = task.unwrap_or_default();
    let status = task.split_once("<Status>").and_then(|(_, rest)| rest.split_once('<'));
    (reply.tag("Status"), status.map(|(word, _)| word.to_owned()).unwrap_or_default())
}

#[tokio::test]
async fn a_query_is_told_as_text_with_its_columns() {
    let site = Site::with_days(&["a"]).await;
    site.write("a", &[(1, Some("one, \"two\"")), (2, Some("x")), (2, None)]).await;
    let path = site.job("SELECT id, v, day, NULL AS n, count(*) FROM t GROUP BY id, v, day").await;
    assert_eq!(statuses(&site, &path).await, ("Terminated".into(), "Success".into()));
    let result = site.get(&format!("{path}?result")).await;
    let expected = "<![CDATA[\"id\",\"v\",\"day\",\"n\",\"_c4\"\n\
                    1,\"one, \"\"two\"\"\",\"a\",\\N,1\n]]>";
    assert!(result.body.contains(expected), "{result:?}");
    assert!(result.body.contains("Format=\"csv\""), "{result:?}");
    let descriptor = result.tag("ResultDescriptor");
    assert!(descriptor.contains("\"SelectResultStatus\":\"FULL\""), "{descriptor}");
    assert!(descriptor.contains("{\"Name\":\"day\",\"Type\":\"string\"}"), "{descriptor}");
    let source = site.get(&format!("{path}?source")).await;
    assert!(source.body.contains("SELECT id, v, day"), "{source:?}");
    for (parameter, named) in
        [("instancesummary&taskname=n", "JsonSummary"), ("instanceprogress=n", "Progress")]
    {
        let reply = site.get(&format!("{path}?{parameter}")).await;
        assert!(reply.status == 200 && reply.body.contains(named), "{reply:?}");
    }
    let list = site.get(INSTANCES).await;
    assert!(list.body.contains(path.rsplit('/').next().unwrap()), "{list:?}");
}

#[tokio::test]
async fn text_that_xml_cannot_hold_comes_in_base64() {
    let site = Site::with_days(&["a"]).await;
    site.write("a", &[(1, Some("bell \u{7}\r"))]).await;
    let path = site.job("SELECT v FROM t").await;
    let result = site.get(&format!("{path}?result")).await;
    // "v", a line feed, and the text in quotes.
    let expected = "Transform=\"Base64\" Format=\"csv\">InYiCiJiZWxsIAcNIgo=</Result>";
    assert!(result.body.contains(expected), "{result:?}");
}

#[tokio::test]
async fn a_failure_has_the_vendors_code_and_is_the_jobs_result() {
    let site = Site::with_days(&["a"]).await;
    for (text, code) in [
        ("SELECT * FROM none", "ODPS-0130131:"),
        ("SELECT * FROM other.t", "ODPS-0130131:"),
        ("SELECT none FROM t", "ODPS-0130071:"),
        ("SELECT id FROM t WHERE id = 'x'", "ODPS-0130071:"),
        ("SELECT CAST('x' AS BIGINT)", "ODPS-0130071:"),
        ("SELEC 1", "ODPS-0130161:"),
        ("SELECT 'open", "ODPS-0130161:"),
        ("SELECT 1; DROP TABLE t", "ODPS-0130161:"),
        ("INSERT INTO t VALUES (1)", "ODPS-0130161:"),
        ("DROP TABLE none", "ODPS-0130131:"),
        ("DROP TABLE other.t", "ODPS-0130071:"),
        (
            "CREATE TABLE t (a BIGINT PRIMARY KEY) TBLPROPERTIES('transactional'='true')",
            "ODPS-0130071:",
        ),
        ("ALTER TABLE t ADD PARTITION (none='a')", "ODPS-0130071:"),
        ("ALTER TABLE t ADD PARTITION (day='a')", "ODPS-0130071:"),
    ] {
        let path = site.job(text).await;
        assert_eq!(statuses(&site, &path).await, ("Terminated".into(), "Failed".into()), "{text}");
        let result = site.get(&format!("{path}?result")).await;
        assert!(result.body.contains(&format!("<![CDATA[{code}")), "{text}: {result:?}");
        let download = site.call("POST", &format!("{path}?downloads"), Vec::new()).await;
        assert_eq!(download.code(), "InvalidArgument", "{text}");
    }
}

#[tokio::test]
async fn a_job_that_is_none_is_refused_in_the_vendors_shape() {
    let site = Site::new().await;
    let job = |tasks: &str| format!("<Instance><Job><Tasks>{tasks}</Tasks></Job></Instance>");
    for (body, code) in [
        ("", "InvalidArgument"),
        ("<Instance>", "MalformedXML"),
        ("<Instance></Job>", "MalformedXML"),
        (&job(""), "InvalidArgument"),
        (&job("<Merge><Name>m</Name></Merge>"), "InvalidArgument"),
        (&job("<Cupid><Name>m</Name></Cupid>"), "InvalidArgument"),
        (&job("<SQL><Name>n</Name></SQL>"), "InvalidArgument"),
        (&job("<SQL><Query>&lol;</Query></SQL>"), "MalformedXML"),
        ("{\"json\": true}", "InvalidArgument"),
    ] {
        let reply = site.call("POST", INSTANCES, body.into()).await;
        assert_eq!((reply.status, reply.tag("Code").as_str()), (400, code), "{body}: {reply:?}");
        assert!(!reply.tag("Message").is_empty() && !reply.tag("RequestId").is_empty());
    }
    let reply = site.call("POST", INSTANCES, vec![0xff, 0xfe]).await;
    assert_eq!(reply.tag("Code"), "MalformedXML");
    for (method, path, status, code) in [
        ("GET", "/api/projects/local/instances/none", 404, "NoSuchObject"),
        ("PUT", "/api/projects/local/instances/none", 404, "NoSuchObject"),
        ("GET", "/api/projects/other/instances/none", 404, "NoSuchProject"),
        ("DELETE", "/api/projects/local/instances/none", 404, "NoSuchResource"),
        ("POST", "/api/projects/local/authorization", 400, "InvalidArgument"),
    ] {
        let reply = site.call(method, path, Vec::new()).await;
        assert_eq!((reply.status, reply.tag("Code").as_str()), (status, code), "{method} {path}");
    }
}

#[tokio::test]
async fn names_cannot_break_out_of_an_answer() {
    let site = Site::new().await;
    let name = "a&lt;/Name&gt;&lt;x&gt;&#7;&#13;&#10;X-Evil: 1";
    let job = format!(
        "<Instance><Job><Tasks><SQL><Name>{name}</Name><Query>SELECT 1 AS `b]]&gt;&lt;`\
         </Query></SQL></Tasks></Job></Instance>"
    );
    let reply = site.call("POST", INSTANCES, job.into_bytes()).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    let path = reply.location.strip_prefix("http://h:1").unwrap().to_owned();
    for what in ["taskstatus", "result", "source"] {
        let reply = site.get(&format!("{path}?{what}")).await;
        assert!(reply.body.contains("<Name>a&lt;/Name&gt;&lt;x&gt;\u{fffd}"), "{reply:?}");
        assert!(!reply.body.contains("<x>"), "{reply:?}");
    }
    for path in [
        "/api/projects/local/tables/%0d%0aX-Evil:%201",
        "/api/projects/local/tables/%3Cx%3E%00",
        "/api/projects/%3Cx%3E/tables/t",
        "/api/projects/local/instances/%3Cx%3E",
        "/api/projects/local/tables/t?curr_schema=%3Cx%3E",
    ] {
        let reply = site.get(path).await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
        assert!(!reply.body.contains("<x>") && !reply.body.contains('\0'), "{path}: {reply:?}");
    }
    for path in ["/api/%ff", "/api/projects/local/tables?name=%ff"] {
        let reply = site.get(path).await;
        assert_eq!((reply.status, reply.tag("Code").as_str()), (400, "InvalidArgument"), "{path}");
    }
}

#[tokio::test]
async fn statements_before_the_one_that_fails_stay_done() {
    let site = Site::with_days(&["a"]).await;
    let text = "ALTER TABLE t ADD PARTITION (day='b'); DROP TABLE none; DROP TABLE t";
    assert!(site.sql(text).await.unwrap_err().contains("ODPS-0130131"));
    assert_eq!(site.create("b").await.status, 200);
}

#[tokio::test]
async fn a_job_that_has_ended_cannot_be_stopped_and_an_interactive_one_never_begins() {
    let site = Site::new().await;
    let path = site.job("SELECT 1 AS a").await;
    let stop = b"<Instance><Status>Terminated</Status></Instance>".to_vec();
    let reply = site.call("PUT", &path, stop.clone()).await;
    assert_eq!((reply.status, reply.tag("Code").as_str()), (409, "InvalidStateSetting"));
    for body in ["", "<Instance>", "<Instance><Status>Running</Status></Instance>"] {
        let reply = site.call("PUT", &path, body.into()).await;
        assert_eq!(reply.status, 400, "{body}: {reply:?}");
    }
    let job = "<Instance><Job><Tasks><SQLRT><Name>s</Name></SQLRT></Tasks></Job></Instance>";
    let reply = site.call("POST", INSTANCES, job.into()).await;
    let path = reply.location.strip_prefix("http://h:1").unwrap().to_owned();
    assert_eq!(statuses(&site, &path).await, ("Terminated".into(), "Failed".into()));
    let result = site.get(&format!("{path}?result")).await;
    assert!(result.body.contains("ODPS-185"), "{result:?}");
}

#[tokio::test]
async fn a_query_as_deep_as_is_allowed_is_planned_and_a_deeper_one_is_refused() {
    let site = Site::with_days(&["a"]).await;
    for (link, first) in [
        (" AND id = 1", "SELECT id FROM t WHERE id = 1"),
        (" + 1", "SELECT 1"),
        (" UNION ALL SELECT 1", "SELECT 1"),
        (" OR v LIKE 'a'", "SELECT id FROM t WHERE id = 1"),
    ] {
        let weight = if link.contains("UNION") || link.contains('=') || link.contains("LIKE") {
            2
        } else {
            1
        };
        let chain = |operators: usize| format!("{first}{}", link.repeat(operators / weight));
        assert!(site.sql(&chain(490)).await.is_ok(), "{link}");
        let refused = site.sql(&chain(100_000)).await.unwrap_err();
        assert!(refused.contains("operators"), "{link}: {refused}");
    }
    let nested = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(site.sql(&nested).await.unwrap_err().contains("ODPS-0130161"));
}

#[tokio::test]
async fn what_clients_ask_on_the_side_is_answered() {
    let site = Site::new().await;
    let tenant = site.get("/api/tenants").await.json();
    assert!(tenant["Tenant"]["TenantMeta"].is_string(), "{tenant}");
    assert_eq!(site.get("/api/logview/host").await.body, "http://h:1");
    assert_eq!(site.get("/api/webconsole/host").await.body, "http://h:1");
    assert_eq!(site.get("/api/projects").await.tag("Name"), "local");
    assert_eq!(site.get("/api/projects/LOCAL").await.tag("Name"), "local");
    let logs = site.call("PUT", "/api/projects/local/logs", b"anything".to_vec()).await;
    assert_eq!(logs.status, 200);
    let path = "/api/projects/local/authorization?sign_bearer_token";
    let token = site.call("POST", path, b"{\"policy\":{}}".to_vec()).await;
    assert_eq!(token.tag("Result"), "local");
    let refused = site.call("POST", path, b"no JSON".to_vec()).await;
    assert_eq!((refused.status, refused.tag("Code").as_str()), (400, "InvalidArgument"));
}
