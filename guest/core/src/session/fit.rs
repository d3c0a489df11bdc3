//! The rules by which a session fits the rows of a writer.
//!
//! Under `asking`, which holds every granted session against them. Invariant: rows never enter a
//! session of another layout than the one that they are encoded and routed for.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::tunnel::SessionInfo;

/// Refuses a session that does not fit what rows are encoded and routed for.
///
/// Errors: `InvalidConfig` naming what differs and what to do.
pub(crate) fn check_fit(
    info: &SessionInfo,
    buckets: u32,
    hasher: &str,
    columns: &[(String, String)],
) -> Result<(), Error> {
    let at = format!("session {}", info.id);
    if info.buckets != buckets {
        let message = format!(
            "the session has {} buckets, the table had {buckets} when the sink was opened: its \
             layout has changed; start the sink again",
            info.buckets
        );
        return Err(Error::config(at, message));
    }
    if !info.hasher.eq_ignore_ascii_case(hasher) {
        let message = format!(
            "the service hashes keys with `{}`, rows were routed with `{hasher}`: set \
             sink.hasher = {}",
            info.hasher, info.hasher
        );
        return Err(Error::config(at, message));
    }
    let differs = info.columns.len() != columns.len()
        || (info.columns.iter().zip(columns)).any(|(theirs, (name, column_type))| {
            !theirs.name.eq_ignore_ascii_case(name)
                || !theirs.column_type.eq_ignore_ascii_case(column_type)
        });
    if differs {
        let theirs = info.columns.iter().map(|c| format!("{} {}", c.name, c.column_type));
        let theirs = theirs.collect::<Vec<_>>().join(", ");
        let message = format!(
            "the session's columns are ({theirs}), not those the table had when the sink was \
             opened: its schema has changed; start the sink again"
        );
        return Err(Error::config(at, message));
    }
    Ok(())
}

/// Refuses a session that does not take partial rows, or does not say how to name their columns.
///
/// Errors: `InvalidConfig` naming the option, the table's property and what to do.
pub(crate) fn check_partial(info: &SessionInfo, table: &str) -> Result<(), Error> {
    let at = "option `upsert.partial-column.enable`";
    let remedy = "or set the option to `false` and write whole rows";
    if !info.partial_update {
        let message = format!(
            "`true`, but session {} of table {table} takes whole rows only, because the table's \
             property `acid.partial.fields.update.enable` is not `true`: create the table with \
             TBLPROPERTIES ('acid.partial.fields.update.enable'='true'), {remedy}",
            info.id
        );
        return Err(Error::config(at, message));
    }
    let ids = &info.column_ids;
    let unique = ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id));
    if ids.len() != info.columns.len() || !unique {
        let message = format!(
            "`true`, but session {} of table {table} does not give each of its {} columns an id \
             of its own (`column_id`), so that none can be named: ask the service's operator, \
             {remedy}",
            info.id,
            info.columns.len()
        );
        return Err(Error::config(at, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use upsert_sink_format::tunnel::ColumnDescription;

    use super::*;
    use crate::session::tests::{grant, name};

    #[test]
    fn a_session_of_another_layout_is_refused_with_the_remedy() {
        let info = grant(&name(1, 0, 0), "a").info;
        assert!(check_fit(&info, 8, "default", &[]).is_ok());
        assert!(check_fit(&info, 4, "default", &[]).unwrap_err().message.contains("8 buckets"));
        let error = check_fit(&info, 8, "legacy", &[]).unwrap_err();
        assert!(error.message.contains("sink.hasher = default"), "{error}");
        let columns = [("id".into(), "bigint".into())];
        assert!(check_fit(&info, 8, "default", &columns).is_err());
        let column_type = "BIGINT".into();
        let nullable = false;
        let column = ColumnDescription { name: "Id".into(), column_type, nullable };
        let info = SessionInfo { columns: alloc::vec![column], ..info };
        assert!(check_fit(&info, 8, "default", &columns).is_ok());
        for (name, column_type) in [("id", "string"), ("key", "bigint")] {
            let error = check_fit(&info, 8, "default", &[(name.into(), column_type.into())]);
            assert!(error.is_err_and(|error| error.message.contains("its schema has changed")));
        }
    }

    #[test]
    fn partial_rows_need_a_session_that_takes_them_and_names_its_columns() {
        let mut info = grant(&name(1, 0, 0), "a").info;
        let column = |name: &str| ColumnDescription {
            name: name.into(),
            column_type: "bigint".into(),
            nullable: true,
        };
        info.columns = alloc::vec![column("id"), column("v")];
        let error = check_partial(&info, "shop.orders").unwrap_err().to_string();
        for part in
            ["`upsert.partial-column.enable`", "shop.orders", "'acid.partial.fields.update.enable'"]
        {
            assert!(error.contains(part), "{error} does not say {part}");
        }
        info.partial_update = true;
        for ids in [&[][..], &[1], &[4, 4], &[1, 2, 3]] {
            info.column_ids = ids.to_vec();
            let error = check_partial(&info, "shop.orders").unwrap_err();
            assert!(error.message.contains("`column_id`"), "{error}");
        }
        info.column_ids = alloc::vec![9, 4];
        assert!(check_partial(&info, "shop.orders").is_ok());
    }
}
