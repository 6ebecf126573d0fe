//! Which columns of a table get what, and the statement that inserts rows. Pure.
//!
//! A column gets the field of a record that has its name; times are named without `_ms`. What the table does not have is left away, but for
//! what a row is of no use without. What it has beyond, it has to fill by itself.

use super::table::{Column, ColumnType, Table, TableName, quoted};
use crate::sinks::files::columns::{self, Kind};

/// What a column gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The field of this name.
    Field(&'static str),
    /// `value_exact`, else `value`.
    ExactValue,
    /// The time that all records have under one name or another.
    At,
    /// The name of the stream.
    Stream,
    /// The whole record.
    Record,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Text,
    Integer,
    Double,
    Boolean,
    Json,
    /// Milliseconds since 1970.
    Time,
}

/// A column that is known, whether or not a table has it.
#[derive(Clone, Debug)]
struct Known {
    name: &'static str,
    source: Source,
    content: Content,
    is_always_there: bool,
}

/// A column that gets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    pub source: Source,
    pub content: Content,
}

/// How rows of one stream are inserted into one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insertion {
    pub sql: String,
    /// Each has a parameter, an array with a text for each row.
    pub columns: Vec<Filled>,
}

const IDENTITY: [&str; 3] = ["gateway", "run", "position"];
/// What says it all, without which some of it has to be there.
const READING: [&str; 4] = ["device", "metric", "value", "measured_at"];
const OTHERS: [&str; 2] = ["type", "record"];

/// Where the statements that make a table are.
pub const STATEMENTS: &str = "docs/STORES.md has the statements that make it";

fn known_of_stream(stream: &str) -> Vec<Known> {
    let in_all = |name, source, content| Known { name, source, content, is_always_there: true };
    let mut known = vec![
        in_all("stream", Source::Stream, Content::Text),
        in_all("at", Source::At, Content::Time),
        in_all("record", Source::Record, Content::Json),
    ];
    for column in columns::of_stream(stream) {
        let (name, content) = match (column.name.strip_suffix("_ms"), column.kind) {
            (Some(name), Kind::Integer) => (name, Content::Time),
            (_, Kind::Text) => (column.name, Content::Text),
            (_, Kind::Json) => (column.name, Content::Json),
            (_, Kind::Integer) => (column.name, Content::Integer),
            (_, Kind::Double) => (column.name, Content::Double),
            (_, Kind::Boolean) => (column.name, Content::Boolean),
        };
        let in_readings = matches!(name, "device" | "metric" | "measured_at" | "received_at" | "time_quality");
        let in_rules = matches!(name, "rule" | "received_at");
        let is_always_there = column.is_required
            || match stream {
                "raw" => in_readings,
                "anomalies" => false,
                _ => in_rules,
            };
        // The name of the stream is the same as the field of that name.
        if known.iter().all(|known| known.name != name) {
            known.push(Known { name, source: Source::Field(column.name), content, is_always_there });
        }
    }
    known
}

impl Known {
    fn takes(&self, type_of: ColumnType) -> bool {
        match self.content {
            Content::Text if self.name == "value_exact" => matches!(type_of, ColumnType::Text | ColumnType::Numeric),
            Content::Text => type_of == ColumnType::Text,
            // An identity beyond four bytes comes soon.
            Content::Integer if self.name == "position" => matches!(type_of, ColumnType::Int8 | ColumnType::Numeric),
            Content::Integer => matches!(type_of, ColumnType::Int4 | ColumnType::Int8 | ColumnType::Numeric),
            Content::Double => matches!(type_of, ColumnType::Float4 | ColumnType::Float8 | ColumnType::Numeric),
            Content::Boolean => type_of == ColumnType::Boolean,
            Content::Json => matches!(type_of, ColumnType::Json | ColumnType::Jsonb | ColumnType::Text),
            Content::Time => matches!(type_of, ColumnType::Timestamp | ColumnType::Timestamptz),
        }
    }

    fn wanted(&self) -> &'static str {
        match self.content {
            Content::Text => "text",
            Content::Integer => "bigint",
            Content::Double => "double precision",
            Content::Boolean => "boolean",
            Content::Json => "jsonb",
            Content::Time => "timestamptz",
        }
    }

    /// From the text of a parameter to the column's type. Texts are left as they are: a cast to a type with a length would cut them.
    fn expression(&self, column: &Column) -> String {
        let value = format!("r.{}", quoted(self.name));
        match (self.content, column.type_of) {
            (_, ColumnType::Text) => value,
            (Content::Time, _) => format!("timestamptz 'epoch' + {value}::bigint * interval '1 millisecond'"),
            (_, type_of) => format!("{value}::{}", type_of.name()),
        }
    }

    fn filled(&self, column: &Column) -> Filled {
        let is_exact = self.name == "value" && column.type_of == ColumnType::Numeric;
        Filled { source: if is_exact { Source::ExactValue } else { self.source }, content: self.content }
    }
}

impl Insertion {
    /// # Errors
    ///
    /// What is missing or does not fit, each for people.
    pub fn of(name: &TableName, stream: &str, table: &Table) -> Result<Insertion, Vec<String>> {
        if !table.is_table {
            return Err(vec!["it is no table".to_owned()]);
        }
        let known = known_of_stream(stream);
        let mut problems = missing(stream, &known, table);
        let mut filled: Vec<(&Known, &Column)> = Vec::new();
        for column in &table.columns {
            match known.iter().find(|known| known.name == column.name) {
                Some(known) => {
                    problems.extend(problem_of(known, column));
                    filled.push((known, column));
                }
                None if column.is_not_null && !column.fills_itself && !column.is_generated => problems.push(format!(
                    "its column {} is NOT NULL, has no default, and is none that records have",
                    column.name
                )),
                None => {}
            }
        }
        let identity = identity_of(table, &known);
        if identity.is_none() {
            problems.push(format!(
                "it needs a primary key or a unique index on {}, with columns beside them that are NOT NULL and of the record",
                IDENTITY.join(", ")
            ));
        }
        for name in identity.iter().copied().flatten() {
            if table.columns.iter().any(|column| column.name == *name && !column.may_select) {
                problems.push(format!("no permission to look for repeats; GRANT SELECT ({name})"));
            }
        }
        match identity {
            Some(identity) if problems.is_empty() => Ok(Insertion {
                sql: statement(name, &filled, identity),
                columns: filled.iter().map(|(known, column)| known.filled(column)).collect(),
            }),
            _ => Err(problems),
        }
    }
}

fn missing(stream: &str, known: &[Known], table: &Table) -> Vec<String> {
    let has = |name: &str| table.columns.iter().any(|column| column.name == name);
    let needed: &[&str] = match stream {
        "raw" if has("record") => &[],
        "raw" => &READING,
        _ => &OTHERS,
    };
    let absent = IDENTITY.iter().chain(needed).filter(|name| !has(name));
    let wanted = |name: &str| known.iter().find(|known| known.name == name).map_or("", Known::wanted);
    absent.map(|name| format!("it has no column {name} {}", wanted(name))).collect()
}

fn problem_of(known: &Known, column: &Column) -> Option<String> {
    let name = &column.name;
    if column.is_generated {
        return Some(format!("its column {name} is generated, and records have one of that name"));
    }
    if !known.takes(column.type_of) {
        return Some(format!(
            "its column {name} is {}, which does not fit; make it {}",
            column.type_name,
            known.wanted()
        ));
    }
    if column.is_not_null && !known.is_always_there {
        return Some(format!("its column {name} is NOT NULL, and not every record has it"));
    }
    if !column.may_insert {
        return Some(format!("no permission to write its column {name}; GRANT INSERT"));
    }
    None
}

/// The columns of an index by which a repeat is told: the identity, and others that are the same in every repeat and never null.
fn identity_of<'a>(table: &'a Table, known: &[Known]) -> Option<&'a [String]> {
    let is_of_record = |name: &String| {
        let known = known.iter().any(|known| known.name == *name && known.source != Source::Record);
        known && table.columns.iter().any(|column| column.name == *name && (column.is_not_null || is_identity(name)))
    };
    let tells = |index: &&Vec<String>| {
        IDENTITY.iter().all(|name| index.iter().any(|column| column == name)) && index.iter().all(is_of_record)
    };
    table.unique.iter().find(tells).map(Vec::as_slice)
}

fn is_identity(name: &str) -> bool {
    IDENTITY.contains(&name)
}

fn statement(name: &TableName, filled: &[(&Known, &Column)], identity: &[String]) -> String {
    let list = |texts: Vec<String>| texts.join(", ");
    let columns = list(filled.iter().map(|(known, _)| quoted(known.name)).collect());
    let expressions = list(filled.iter().map(|(known, column)| known.expression(column)).collect());
    let parameters = list((1..=filled.len()).map(|number| format!("${number}")).collect());
    let identity = list(identity.iter().map(|name| quoted(name)).collect());
    format!(
        "INSERT INTO {} ({columns}) SELECT {expressions} FROM unnest({parameters}) AS r ({columns}) ON CONFLICT ({identity}) DO NOTHING",
        name.quoted()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, type_of: ColumnType) -> Column {
        let is_not_null = is_identity(name);
        Column {
            name: name.to_owned(),
            type_of,
            type_name: type_of.name().to_owned(),
            is_not_null,
            fills_itself: false,
            is_generated: false,
            may_insert: true,
            may_select: true,
        }
    }

    fn table(more: &[(&str, ColumnType)]) -> Table {
        let identity = [("gateway", ColumnType::Text), ("run", ColumnType::Text), ("position", ColumnType::Int8)];
        Table {
            is_table: true,
            is_unlogged: false,
            columns: identity.iter().chain(more).map(|(name, type_of)| column(name, *type_of)).collect(),
            unique: vec![IDENTITY.map(str::to_owned).to_vec()],
            triggers: Vec::new(),
        }
    }

    fn readings() -> Table {
        table(&[
            ("device", ColumnType::Text),
            ("metric", ColumnType::Text),
            ("value", ColumnType::Float8),
            ("measured_at", ColumnType::Timestamptz),
        ])
    }

    fn of(stream: &str, table: &Table) -> Result<Insertion, Vec<String>> {
        Insertion::of(&TableName { schema: None, name: "t".to_owned() }, stream, table)
    }

    fn problems(stream: &str, table: &Table) -> String {
        of(stream, table).expect_err("it does not fit").join("; ")
    }

    fn set(mut table: Table, name: &str, change: fn(&mut Column)) -> Table {
        change(table.columns.iter_mut().find(|column| column.name == name).expect("there"));
        table
    }

    #[test]
    fn a_table_of_readings_has_a_statement() {
        let insertion = of("raw", &readings()).expect("it fits");
        assert_eq!(
            insertion.sql,
            concat!(
                r#"INSERT INTO "t" ("gateway", "run", "position", "device", "metric", "value", "measured_at") "#,
                r#"SELECT r."gateway", r."run", r."position"::bigint, r."device", r."metric", r."value"::double precision, "#,
                r#"timestamptz 'epoch' + r."measured_at"::bigint * interval '1 millisecond' "#,
                r#"FROM unnest($1, $2, $3, $4, $5, $6, $7) AS r ("gateway", "run", "position", "device", "metric", "value", "measured_at") "#,
                r#"ON CONFLICT ("gateway", "run", "position") DO NOTHING"#
            )
        );
        assert_eq!(insertion.columns[6], Filled { source: Source::Field("measured_at_ms"), content: Content::Time });
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = problems("raw", &table(&[("device", ColumnType::Text)]));
        assert_eq!(
            text,
            "it has no column metric text; it has no column value double precision; it has no column measured_at timestamptz"
        );
        assert_eq!(problems("anomalies", &table(&[("type", ColumnType::Text)])), "it has no column record jsonb");
        assert!(of("raw", &table(&[("record", ColumnType::Jsonb)])).is_ok(), "a record says it all");
        assert!(of("trips", &table(&[("type", ColumnType::Text), ("record", ColumnType::Jsonb)])).is_ok());
        assert_eq!(problems("raw", &Table { is_table: false, ..readings() }), "it is no table");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (name, change, words) in [
            ("value", (|column| column.type_of = ColumnType::Int8) as fn(&mut Column), "make it double precision"),
            ("position", |column| column.type_of = ColumnType::Int4, "make it bigint"),
            ("measured_at", |column| column.type_of = ColumnType::Other, "make it timestamptz"),
            ("value", |column| column.is_not_null = true, "not every record has it"),
            ("value", |column| column.is_generated = true, "is generated"),
            ("device", |column| column.may_insert = false, "GRANT INSERT"),
            ("position", |column| column.may_select = false, "GRANT SELECT (position)"),
        ] {
            let text = problems("raw", &set(readings(), name, change));
            assert!(text.contains(words) && text.contains(name), "{text}");
        }
        for (name, change) in [
            ("device", (|column| column.is_not_null = true) as fn(&mut Column)),
            ("device", |column| column.may_select = false),
            ("value", |column| column.type_of = ColumnType::Float4),
            ("measured_at", |column| column.type_of = ColumnType::Timestamp),
        ] {
            assert!(of("raw", &set(readings(), name, change)).is_ok(), "{name}");
        }
    }

    #[test]
    fn columns_of_others_have_to_fill_themselves() {
        let mut table = readings();
        table.columns.push(Column { is_not_null: true, ..column("site", ColumnType::Text) });
        assert!(problems("raw", &table).contains("its column site is NOT NULL"));
        assert!(of("raw", &set(table.clone(), "site", |column| column.fills_itself = true)).is_ok());
        assert!(of("raw", &set(table, "site", |column| column.is_not_null = false)).is_ok());
    }

    #[test]
    fn a_repeat_is_told_by_an_index_that_every_repeat_meets() {
        let with = |unique: &[&[&str]]| {
            let unique = unique.iter().map(|index| index.iter().map(|name| (*name).to_owned()).collect()).collect();
            Table { unique, ..readings() }
        };
        let others: [&[&[&str]]; 3] = [&[], &[&["gateway", "run"]], &[&["gateway", "run", "position", "site"]]];
        for unique in others {
            assert!(problems("raw", &with(unique)).contains("primary key or a unique index"), "{unique:?}");
        }
        // Nulls are not equal to each other.
        let partitioned = with(&[&["device"], &["gateway", "run", "position", "measured_at"]]);
        assert!(problems("raw", &partitioned).contains("NOT NULL"));
        let partitioned = set(partitioned, "measured_at", |column| column.is_not_null = true);
        let sql = of("raw", &partitioned).expect("it fits").sql;
        assert!(sql.ends_with(r#"ON CONFLICT ("gateway", "run", "position", "measured_at") DO NOTHING"#), "{sql}");
    }

    #[test]
    fn a_numeric_value_is_exact() {
        let exact = set(readings(), "value", |column| column.type_of = ColumnType::Numeric);
        let insertion = of("raw", &exact).expect("it fits");
        assert_eq!(insertion.columns[5].source, Source::ExactValue);
        assert!(insertion.sql.contains(r#"r."value"::numeric"#));
    }

    #[test]
    fn every_stream_has_a_time_a_type_and_its_own_fields() {
        for (stream, names) in [
            ("raw", &["at", "received_at", "device_time", "seq", "attributes", "time_quality"][..]),
            ("anomalies", &["severity", "raised_at", "cleared_at", "score", "late", "uptime_s", "at", "raw_position"]),
            ("trips", &["rule", "topic", "payload", "payload_base64", "at", "stream"]),
        ] {
            let known = known_of_stream(stream);
            for name in names.iter().chain(&["type", "record", "stream"]) {
                let found = known.iter().filter(|known| known.name == *name).count();
                assert_eq!(found, 1, "{stream}: {name}");
            }
        }
    }
}
