//! A table that is to be created, as types, and the statement that creates it.
//!
//! Used by `catalog.rs`. Invariant: every name and type in a statement was checked, and names are
//! quoted: nothing gets out of its place.

use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use crate::error::{Result, TunnelError, escape};
use crate::name::Name;

/// A Delta table that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewTable {
    /// The name, without project and schema.
    pub name: Name,
    /// The columns stored in rows.
    pub columns: Vec<NewColumn>,
    /// The names of the primary key's columns; they are created as not nullable.
    pub primary_key: Vec<String>,
    /// The columns that name a partition, outermost first; none by default.
    pub partition_columns: Vec<NewColumn>,
    /// Hash buckets of each partition, at least 1.
    pub buckets: u32,
    /// Whether rows may set some columns only. Default: no.
    pub partial_update: bool,
    /// The days after which the table vanishes. Default: never.
    pub lifecycle_days: Option<u32>,
}

/// A column that is to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NewColumn {
    /// The name.
    pub name: String,
    /// The type.
    pub column_type: ColumnType,
    /// Whether a row may leave it empty.
    pub nullable: bool,
}

impl NewColumn {
    /// A column that may be empty.
    pub fn new(name: impl Into<String>, column_type: ColumnType) -> Self {
        Self { name: name.into(), column_type, nullable: true }
    }

    /// A column of the form `name TYPE [NOT NULL]`, as in DDL; back quotes around the name are left
    /// out.
    ///
    /// # Errors
    /// `InvalidConfig` for a text of another form, or a type that no Delta table has.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = escape(text, 100);
        let wrong = |why: &str| {
            TunnelError::unusable(format!(
                "`{shown}`: {why}; write `name TYPE` or `name TYPE NOT NULL`"
            ))
        };
        let text = text.trim();
        let (name, rest) =
            text.split_once(char::is_whitespace).ok_or_else(|| wrong("it has no type"))?;
        let rest = rest.trim();
        let column_type = without_not_null(rest);
        let parsed = ColumnType::parse(column_type.unwrap_or(rest));
        Ok(Self {
            name: String::from(name.trim_matches('`')),
            column_type: parsed.map_err(|error| wrong(&error.to_string()))?,
            nullable: column_type.is_none(),
        })
    }

    /// The column in a statement.
    fn text(&self, nullable: bool) -> Result<String> {
        self.name.parse::<Name>().map_err(|error| error.at("columns"))?;
        let rule = if nullable { "" } else { " NOT NULL" };
        Ok(format!("`{}` {}{rule}", self.name, self.column_type))
    }
}

impl NewTable {
    /// A table without partitions.
    pub fn new(
        name: Name,
        columns: Vec<NewColumn>,
        primary_key: Vec<String>,
        buckets: u32,
    ) -> Self {
        Self {
            name,
            columns,
            primary_key,
            partition_columns: Vec::new(),
            buckets,
            partial_update: false,
            lifecycle_days: None,
        }
    }

    /// The table as its catalog will describe it.
    pub fn description(&self) -> TableDescription {
        let described = |column: &NewColumn| ColumnDescription {
            name: column.name.clone(),
            column_type: column.column_type.to_string(),
            nullable: column.nullable && !self.primary_key.contains(&column.name),
        };
        TableDescription {
            name: self.name.to_string(),
            columns: self.columns.iter().map(described).collect(),
            partition_columns: self.partition_columns.iter().map(described).collect(),
            primary_key: self.primary_key.clone(),
            buckets: self.buckets,
        }
    }

    /// The statement that creates it, if there is none yet, under a full name that is quoted.
    ///
    /// # Errors
    /// `InvalidConfig` for a name that is none, a key without columns or of columns that are not
    /// there, or no bucket.
    pub(crate) fn statement(&self, quoted_name: &str) -> Result<String> {
        self.check()?;
        let columns = self.columns.iter().map(|column| {
            let is_key = self.primary_key.contains(&column.name);
            column.text(column.nullable && !is_key)
        });
        let mut columns = columns.collect::<Result<Vec<_>>>()?;
        let key: Vec<_> = self.primary_key.iter().map(|name| format!("`{name}`")).collect();
        columns.push(format!("PRIMARY KEY ({})", key.join(", ")));
        let mut statement =
            format!("CREATE TABLE IF NOT EXISTS {quoted_name} ({})", columns.join(", "));
        if !self.partition_columns.is_empty() {
            let columns = self.partition_columns.iter().map(|column| column.text(true));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            statement += &format!(" PARTITIONED BY ({})", columns.join(", "));
        }
        let buckets = self.buckets;
        statement +=
            &format!(" TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='{buckets}'");
        statement += if self.partial_update { PARTIAL_UPDATE } else { "" };
        statement.push(')');
        if let Some(days) = self.lifecycle_days {
            statement += &format!(" LIFECYCLE {days}");
        }
        Ok(statement)
    }

    fn check(&self) -> Result<()> {
        let wrong = |message: String| Err(TunnelError::unusable(message).at(self.name.as_str()));
        if self.primary_key.is_empty() {
            return wrong(String::from("a Delta table needs a primary key; name its columns"));
        }
        let is_there = |key: &&String| self.columns.iter().any(|column| column.name == **key);
        if let Some(key) = self.primary_key.iter().find(|key| !is_there(key)) {
            let key = escape(key, 100);
            return wrong(format!("`{key}` is of the primary key, and none of the columns"));
        }
        if self.buckets == 0 {
            return wrong(String::from("a table has at least one bucket"));
        }
        Ok(())
    }
}

/// The type before `NOT NULL`; none without it.
fn without_not_null(text: &str) -> Option<&str> {
    let word = |text: &'_ str, word: &str| {
        let at = text.len().checked_sub(word.len())?;
        let (rest, last) = (text.get(..at)?, text.get(at..)?);
        let stands_alone = rest.ends_with(char::is_whitespace) || rest.ends_with([')', '>']);
        (last.eq_ignore_ascii_case(word) && stands_alone).then(|| rest.trim_end().len())
    };
    let before_null = text.get(..word(text, "NULL")?)?;
    before_null.get(..word(before_null, "NOT")?)
}

const PARTIAL_UPDATE: &str = ", 'acid.partial.fields.update.enable'='true'";

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> NewTable {
        let column = |text: &str| NewColumn::parse(text).expect("a column");
        let columns = vec![column("id BIGINT"), column("v STRING"), column("n INT not  null")];
        NewTable::new("t".parse().expect("a name"), columns, vec![String::from("id")], 4)
    }

    #[test]
    fn a_table_is_created_with_its_key_buckets_and_partitions() {
        let plain = table().statement("`p`.`t`").expect("a statement");
        assert_eq!(
            plain,
            "CREATE TABLE IF NOT EXISTS `p`.`t` (`id` bigint NOT NULL, `v` string, \
             `n` int NOT NULL, PRIMARY KEY (`id`)) TBLPROPERTIES ('transactional'='true', \
             'write.bucket.num'='4')"
        );
        let partition_columns = vec![NewColumn::new("day", ColumnType::String)];
        let lifecycle_days = Some(1);
        let all = NewTable { partition_columns, partial_update: true, lifecycle_days, ..table() };
        let all = all.statement("`t`").expect("a statement");
        assert!(
            all.ends_with(
                "PRIMARY KEY (`id`)) PARTITIONED BY (`day` string) TBLPROPERTIES \
                 ('transactional'='true', 'write.bucket.num'='4', \
                 'acid.partial.fields.update.enable'='true') LIFECYCLE 1"
            ),
            "{all}"
        );
    }

    #[test]
    fn columns_are_written_as_in_ddl() {
        for (text, name, column_type, nullable) in [
            ("id BIGINT NOT NULL", "id", "bigint", false),
            (" `a b`  x", "", "", false),
            ("price DECIMAL(10, 2)", "price", "decimal(10,2)", true),
            ("d DECIMAL(10, 2)NOT NULL", "d", "decimal(10,2)", false),
            ("`v` string", "v", "string", true),
            ("m map<string, array<int>> not null", "m", "map<string,array<int>>", false),
        ] {
            match NewColumn::parse(text) {
                Ok(column) => {
                    assert_eq!((column.name.as_str(), column.nullable), (name, nullable), "{text}");
                    assert_eq!(column.column_type.to_string(), column_type, "{text}");
                }
                Err(error) => assert!(name.is_empty(), "{text}: {error}"),
            }
        }
        for text in
            ["", "id", "id BIGINTY", "id BIGINT NULL", "id BIGINT COMMENT 'x'", "a NOT NULL"]
        {
            let error = NewColumn::parse(text).expect_err(text);
            assert!(error.message.contains("name TYPE"), "{error}");
        }
    }

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        let column = NewColumn::new("id` int, `x", ColumnType::Int);
        let injected = NewTable { columns: vec![column], ..table() };
        for table in [
            NewTable { primary_key: vec![String::from("id` int, `x")], ..injected },
            NewTable { partition_columns: vec![NewColumn::new("", ColumnType::Int)], ..table() },
            NewTable { primary_key: Vec::new(), ..table() },
            NewTable { primary_key: vec![String::from("nope")], ..table() },
            NewTable { buckets: 0, ..table() },
        ] {
            let error = table.statement("`t`").expect_err("it is refused");
            assert!(matches!(error.not_done(), crate::error::NotDone::Unusable(_)), "{error}");
        }
    }
}
