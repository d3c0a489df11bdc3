//! The task that asks for a major compaction, as the vendor's connector posts it.
//!
//! Between `catalog.rs` and `instance.rs`. Invariant: what does not follow the grammar of
//! partitions goes into no task.

use serde_json::json;

use crate::error::Result;
use crate::name::Name;
use crate::settings::ClientSettings;
use crate::xml::escaped;
use crate::{instance, partition};

/// The job that compacts a table, or one partition of it, if that is not empty.
///
/// # Errors
/// `InvalidConfig` for a partition that is spelled otherwise.
pub(crate) fn job(settings: &ClientSettings, table: &Name, spec: &str) -> Result<String> {
    let mut target = match settings.schema {
        Some(_) => settings.full_name(table),
        None => table.to_string(),
    };
    if !spec.is_empty() {
        let spec = partition::canonical(spec).ok_or_else(|| partition::malformed(spec))?;
        target += &format!(" partition({spec})");
    }
    let mut hints = json!({
        "odps.merge.task.mode": "service",
        "odps.merge.quickmerge.flag": "false",
        "odps.merge.restructure.action": "hardlink",
        "odps.merge.txn.table.compact": "major_compact",
    });
    if settings.schema.is_some() {
        hints["odps.namespace.schema"] = json!("true");
    }
    Ok(instance::job(&format!(
        "<Merge><Name>merge_task_for_{table}</Name><Config><Property><Name>settings</Name>\
         <Value>{}</Value></Property></Config><TableName>{}</TableName></Merge>",
        escaped(&hints.to_string()),
        escaped(&target)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml;

    fn text(job: &str, element: &str) -> String {
        let root = xml::parse(job).expect("well-formed");
        root.find(element).map(|node| node.text.clone()).unwrap_or_default()
    }

    #[test]
    fn a_table_or_a_partition_is_named_as_the_vendors_connector_names_it() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let plain = ClientSettings::new("http://h/api".parse().expect("a URL"), name("p"));
        let target = |settings: &ClientSettings, spec: &str| {
            text(&job(settings, &name("t"), spec).expect("a job"), "TableName")
        };
        assert_eq!(target(&plain, ""), "t");
        assert_eq!(target(&plain, "day='a b',h='<1>'"), "t partition(day='a b',h='<1>')");
        let with_schema = ClientSettings { schema: Some(name("s")), ..plain.clone() };
        assert_eq!(target(&with_schema, "day='1'"), "p.s.t partition(day='1')");
        let settings = text(&job(&plain, &name("t"), "").expect("a job"), "Value");
        let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
        assert_eq!(settings["odps.merge.txn.table.compact"], "major_compact");
        for spec in ["day=1", "day='1') drop", "day='a'')"] {
            assert!(job(&plain, &name("t"), spec).is_err(), "{spec}");
        }
    }
}
