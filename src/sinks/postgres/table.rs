//! What a table is, as the server's catalog describes it.

use super::message::Row;

/// Bits of `tgtype`: for each row, before, at INSERT.
const BEFORE_INSERT_OF_ROW: u8 = 1 | 2 | 4;
/// A longer name is cut by the server, in silence.
const NAME_BYTES_MAX: usize = 63;

/// `readings`, or `telemetry.readings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    pub schema: Option<String>,
    pub name: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

impl TableName {
    pub fn parse(text: &str) -> Result<TableName, &'static str> {
        let parts: Vec<&str> = text.split('.').collect();
        if parts.iter().any(|part| part.is_empty() || part.len() > NAME_BYTES_MAX) {
            return Err("names a table by parts of 1 to 63 characters");
        }
        let (schema, name) = match parts[..] {
            [name] => (None, name),
            [schema, name] => (Some(schema.to_owned()), name),
            _ => return Err("names a table as NAME or as SCHEMA.NAME"),
        };
        Ok(TableName { schema, name: name.to_owned() })
    }

    /// Whether both may be the same table: one without a schema is looked for in several.
    pub fn may_be(&self, other: &TableName) -> bool {
        self.name == other.name && (self.schema == other.schema || self.schema.is_none() || other.schema.is_none())
    }

    /// As statements have it. Nothing is folded to lower case.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => quoted(&self.name),
        }
    }
}

/// An identifier, whatever characters it has.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as statements have it, with standard_conforming_strings.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The type of a column; a domain is what it is based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Boolean,
    Json,
    Jsonb,
    Timestamp,
    Timestamptz,
    /// Any type of texts.
    Text,
    Other,
}

impl ColumnType {
    /// By the number of the type, and its category.
    fn of(number: &str, category: &str) -> ColumnType {
        match number {
            "16" => ColumnType::Boolean,
            "20" => ColumnType::Int8,
            "23" => ColumnType::Int4,
            "114" => ColumnType::Json,
            "700" => ColumnType::Float4,
            "701" => ColumnType::Float8,
            "1114" => ColumnType::Timestamp,
            "1184" => ColumnType::Timestamptz,
            "1700" => ColumnType::Numeric,
            "3802" => ColumnType::Jsonb,
            // The type `name` cuts what is longer than 63 bytes.
            "19" => ColumnType::Other,
            _ if category == "S" => ColumnType::Text,
            _ => ColumnType::Other,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Int4 => "integer",
            ColumnType::Int8 => "bigint",
            ColumnType::Float4 => "real",
            ColumnType::Float8 => "double precision",
            ColumnType::Numeric => "numeric",
            ColumnType::Boolean => "boolean",
            ColumnType::Json => "json",
            ColumnType::Jsonb => "jsonb",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Timestamptz => "timestamptz",
            ColumnType::Text => "text",
            ColumnType::Other => "another type",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_of: ColumnType,
    /// As the server calls it.
    pub type_name: String,
    pub is_not_null: bool,
    /// It has a value where a row has none: a default, or one that is generated.
    pub fills_itself: bool,
    /// No value may be given.
    pub is_generated: bool,
    pub may_insert: bool,
    pub may_select: bool,
}

/// A table, and what of the server concerns it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Ordinary, or divided into partitions.
    pub is_table: bool,
    /// Empty after a crash of the server.
    pub is_unlogged: bool,
    pub columns: Vec<Column>,
    /// The columns of each index that lets a row be there only once.
    pub unique: Vec<Vec<String>>,
    /// Those that come before a row and may put something else in its place.
    pub triggers: Vec<String>,
}

/// The server, as far as it matters to what it stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    pub version: String,
    /// It follows another one, and takes nothing itself.
    pub is_standby: bool,
    /// With `fsync = off` a crash may damage everything.
    pub is_synced: bool,
}

/// What the type of a column is based on: a domain may be over another one, and each of them may forbid null.
const BASE_TYPE: &str = "(WITH RECURSIVE under (oid, category, over, is_not_null) AS (\
    SELECT t.oid, t.typcategory, t.typbasetype, t.typnotnull FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid \
    UNION ALL SELECT t.oid, t.typcategory, t.typbasetype, under.is_not_null OR t.typnotnull \
    FROM under JOIN pg_catalog.pg_type t ON t.oid = under.over) \
    SELECT oid, category, is_not_null FROM under WHERE over = 0)";

/// Sets up a session, and asks for server and table, in one message. `timeout_ms` is how long a statement may take.
pub fn questions(table: &TableName, timeout_ms: u64) -> String {
    let class = format!("pg_catalog.to_regclass({})", literal(&table.quoted()));
    // What is accepted is forgotten here, so the server must not say so before its disk has it.
    format!(
        "SET statement_timeout = {timeout_ms}; SET TimeZone = 'UTC'; SET standard_conforming_strings = on; \
         SELECT pg_catalog.set_config('synchronous_commit', 'on', false) WHERE pg_catalog.current_setting('synchronous_commit') = 'off'; \
         SELECT 'server', pg_catalog.current_setting('server_version'), pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('fsync'); \
         SELECT 'table', relkind, relpersistence FROM pg_catalog.pg_class WHERE oid = {class}; \
         SELECT 'column', a.attname, base.oid, base.category, \
         pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull OR base.is_not_null, \
         a.atthasdef OR a.attidentity <> '', COALESCE(pg_catalog.to_jsonb(a)->>'attgenerated', '') <> '' OR a.attidentity = 'a', \
         pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT'), pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') \
         FROM pg_catalog.pg_attribute a CROSS JOIN LATERAL {BASE_TYPE} AS base \
         WHERE a.attrelid = {class} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum; \
         SELECT 'unique', i.indexrelid, a.attname FROM pg_catalog.pg_index i \
         CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, number) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = {class} AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL \
         AND k.number <= COALESCE((pg_catalog.to_jsonb(i)->>'indnkeyatts')::int, i.indnatts) ORDER BY i.indexrelid, k.number; \
         SELECT 'trigger', tgname FROM pg_catalog.pg_trigger \
         WHERE tgrelid = {class} AND NOT tgisinternal AND tgenabled <> 'D' AND tgname <> 'ts_insert_blocker' \
         AND tgtype & {BEFORE_INSERT_OF_ROW} = {BEFORE_INSERT_OF_ROW} ORDER BY tgname"
    )
}

/// The answer to [`questions`]; no table if there is none of that name.
pub fn answers(rows: &[Row]) -> (Server, Option<Table>) {
    let mut server = Server::default();
    let mut table: Option<Table> = None;
    let mut index = None;
    for row in rows {
        let value = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
        let is_true = |at: usize| value(at) == "t";
        match value(0) {
            "server" => {
                server = Server { version: value(1).to_owned(), is_standby: is_true(2), is_synced: value(3) != "off" };
            }
            "table" => {
                let is_table = matches!(value(1), "r" | "p");
                table = Some(Table { is_table, is_unlogged: value(2) == "u", ..Table::default() });
            }
            "column" => {
                let column = Column {
                    name: value(1).to_owned(),
                    type_of: ColumnType::of(value(2), value(3)),
                    type_name: value(4).to_owned(),
                    is_not_null: is_true(5),
                    fills_itself: is_true(6),
                    is_generated: is_true(7),
                    may_insert: is_true(8),
                    may_select: is_true(9),
                };
                table.iter_mut().for_each(|table| table.columns.push(column.clone()));
            }
            "unique" => {
                let Some(table) = &mut table else { continue };
                if index.as_deref() != Some(value(1)) {
                    index = Some(value(1).to_owned());
                    table.unique.push(Vec::new());
                }
                table.unique.iter_mut().last().expect("one was added").push(value(2).to_owned());
            }
            "trigger" => table.iter_mut().for_each(|table| table.triggers.push(value(1).to_owned())),
            // What a setting is now.
            _ => {}
        }
    }
    (server, table)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Row {
        values.iter().map(|value| Some((*value).to_owned())).collect()
    }

    #[test]
    fn a_table_has_a_name_and_perhaps_a_schema() {
        let quoted = |text| TableName::parse(text).map(|table| table.quoted());
        assert_eq!(quoted("readings"), Ok("\"readings\"".to_owned()));
        assert_eq!(quoted("Fleet.truck-readings"), Ok("\"Fleet\".\"truck-readings\"".to_owned()));
        for wrong in ["", ".", "a.", ".a", "a.b.c", &"x".repeat(64)] {
            assert!(quoted(wrong).is_err(), "{wrong}");
        }
        assert_eq!(super::quoted("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn two_names_may_be_one_table() {
        let may_be = |a, b| match (TableName::parse(a), TableName::parse(b)) {
            (Ok(a), Ok(b)) => a.may_be(&b),
            _ => panic!("{a} {b}"),
        };
        assert!(may_be("t", "t") && may_be("s.t", "t") && may_be("t", "s.t") && may_be("s.t", "s.t"));
        assert!(!may_be("t", "u") && !may_be("s.t", "r.t") && !may_be("s.t", "S.t"));
    }

    #[test]
    fn the_catalog_is_read() {
        let rows = [
            row(&["on"]),
            row(&["server", "15.18", "f", "on"]),
            row(&["table", "p", "u"]),
            row(&["column", "gateway", "25", "S", "text", "t", "f", "f", "t", "t"]),
            row(&["column", "n", "20", "N", "bigint", "t", "t", "t", "f", "f"]),
            row(&["unique", "7", "gateway"]),
            row(&["unique", "7", "n"]),
            row(&["unique", "8", "n"]),
            row(&["trigger", "redirects"]),
        ];
        let (server, table) = answers(&rows);
        assert_eq!(server, Server { version: "15.18".to_owned(), is_standby: false, is_synced: true });
        let table = table.expect("there is one");
        assert!(table.is_table && table.is_unlogged);
        assert_eq!(table.unique, [vec!["gateway", "n"], vec!["n"]]);
        assert_eq!(table.triggers, ["redirects"]);
        assert_eq!(table.columns[0].type_of, ColumnType::Text);
        assert_eq!(ColumnType::of("1043", "S"), ColumnType::Text);
        assert_eq!(ColumnType::of("19", "S"), ColumnType::Other, "it cuts");
        let Column { type_of, is_not_null, fills_itself, is_generated, may_insert, .. } = &table.columns[1];
        assert_eq!((*type_of, *is_not_null, *fills_itself), (ColumnType::Int8, true, true));
        assert_eq!((*is_generated, *may_insert), (true, false));
        assert_eq!(answers(&rows[..2]).1, None);
    }
}
