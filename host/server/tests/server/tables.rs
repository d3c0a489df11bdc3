//! Lists of tables and partitions, page by page.

use crate::support::Site;

const CREATE: &str = "(id BIGINT PRIMARY KEY) PARTITIONED BY (day STRING, hour INT) \
    TBLPROPERTIES ('transactional'='true')";

fn names(body: &str) -> Vec<String> {
    let parts = body.split("<Name>").skip(1).filter_map(|rest| rest.split_once("</Name>"));
    parts.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn tables_are_listed_page_by_page() {
    let site = Site::new().await;
    for name in ["b2", "a1", "b1", "c"] {
        site.sql(&format!("CREATE TABLE {name} {CREATE}")).await.unwrap();
    }
    let list = "/api/projects/local/tables?expectmarker=true";
    let all = site.get(list).await;
    assert_eq!(
        (names(&all.body), all.tag("Marker")),
        (["a1", "b1", "b2", "c"].map(String::from).to_vec(), String::new())
    );
    let mut found = Vec::new();
    let mut marker = String::new();
    loop {
        let page = site.get(&format!("{list}&maxitems=3&marker={marker}")).await;
        found.extend(names(&page.body));
        marker = page.tag("Marker");
        if marker.is_empty() {
            break;
        }
    }
    assert_eq!(found, names(&all.body));
    assert_eq!(names(&site.get(&format!("{list}&name=B")).await.body), ["b1", "b2"]);
    // The table that the marker names was dropped: the list goes on behind it.
    assert_eq!(names(&site.get(&format!("{list}&marker=b0")).await.body), ["b1", "b2", "c"]);
    assert!(names(&site.get(&format!("{list}&owner=other")).await.body).is_empty());
    let wrong = site.get(&format!("{list}&maxitems=x")).await;
    assert_eq!((wrong.status, wrong.tag("Code").as_str()), (400, "InvalidArgument"));
}

#[tokio::test]
async fn partitions_are_listed_found_and_described() {
    let site = Site::new().await;
    site.sql(&format!("CREATE TABLE t {CREATE}")).await.unwrap();
    for (day, hour) in [("a", 2), ("a", 10), ("it\\'s <b>", 3)] {
        site.sql(&format!("ALTER TABLE t ADD PARTITION (day='{day}', hour={hour})")).await.unwrap();
    }
    let table = "/api/projects/local/tables/t";
    let all = site.get(&format!("{table}?partitions&expectmarker=true")).await.body;
    assert_eq!(all.matches("<Partition>").count(), 3);
    assert!(all.contains("Value=\"it&apos;s &lt;b&gt;\""), "{all}");
    let of = site.get(&format!("{table}?partitions&partition=day%3D'a'")).await.body;
    assert_eq!(of.matches("<Partition>").count(), 2);
    let specs = site.get(&format!("{table}?partitions&name")).await.body;
    assert_eq!(names(&specs)[0], "day=&apos;a&apos;,hour=&apos;10&apos;");
    let first = site.get(&format!("{table}?partitions&maxitems=1")).await;
    let marker = "day%3D'a',hour%3D'2'";
    assert_eq!(first.tag("Marker"), "day=&apos;a&apos;,hour=&apos;2&apos;");
    let next = site.get(&format!("{table}?partitions&marker={marker}")).await.body;
    assert_eq!(next.matches("<Partition>").count(), 2);
    let one = site.get(&format!("{table}?partition=day%3D'a',hour%3D2")).await;
    assert!(one.status == 200 && one.body.contains("\"partitionSize\":0"), "{one:?}");
    for (path, status, code) in [
        ("?partition=day%3D'a',hour%3D7", 404, "NoSuchPartition"),
        ("?partition=day%3D'a'", 400, "InvalidPartitionSpec"),
        ("?partitions&partition=hour%3D1", 400, "InvalidPartitionSpec"),
        ("?shards", 405, "MethodNotAllowed"),
        ("?curr_schema=other", 404, "NoSuchSchema"),
    ] {
        let reply = site.get(&format!("{table}{path}")).await;
        assert_eq!((reply.status, reply.tag("Code").as_str()), (status, code), "{path}");
    }
}
