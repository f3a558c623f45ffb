//! The fixed list: one text for each topic. Names and keys of the PDP go in as quoted names and literals, nothing else.
//!
//! Snowflake docs, "Snowflake Information Schema", "`TAG_REFERENCES` view", "`TAG_REFERENCES_ALL_COLUMNS`", "`GET_DDL`",
//! read 2026-11. Not tried on an account.

use icegate_proto::v1::{CatalogQuestion, CatalogTopic};

/// Longest name or key that goes into a text, in bytes: an argument list is a key too.
const PART_BYTES_MAX: usize = 4096;
/// Most rows of one page.
const ROWS_MAX: u32 = 10_000;

/// The text that answers a question; `None` for one that is not on the list.
pub(super) fn of(question: &CatalogQuestion) -> Option<String> {
    let parts = [&question.database, &question.schema, &question.relation];
    if parts.into_iter().chain(&question.after).any(|part| part.len() > PART_BYTES_MAX || part.contains('\0'))
        || question.database.is_empty()
        || question.rows_max == 0
        || question.rows_max > ROWS_MAX
        || question.changed_since_unix_ms < 0
    {
        return None;
    }
    let one = !question.schema.is_empty() && !question.relation.is_empty();
    let from = format!("{}.INFORMATION_SCHEMA", name(&question.database));
    match question.topic() {
        CatalogTopic::Relations => page(
            question,
            "TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, DATE_PART(EPOCH_MILLISECOND, LAST_ALTERED)",
            &format!("{from}.TABLES"),
            &["TABLE_SCHEMA", "TABLE_NAME"],
            &of_relation(question, "", one),
        ),
        CatalogTopic::Columns => {
            let joined = format!(
                "{from}.COLUMNS c JOIN {from}.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME"
            );
            page(
                question,
                "c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME, c.ORDINAL_POSITION, c.DATA_TYPE, c.IS_NULLABLE, \
                 c.CHARACTER_MAXIMUM_LENGTH, c.NUMERIC_PRECISION, c.NUMERIC_SCALE, c.DATETIME_PRECISION",
                &joined,
                &["c.TABLE_SCHEMA", "c.TABLE_NAME", "c.ORDINAL_POSITION"],
                &of_relation(question, "t.", one),
            )
        }
        CatalogTopic::Views => {
            let joined = format!(
                "{from}.VIEWS v JOIN {from}.TABLES t ON t.TABLE_SCHEMA = v.TABLE_SCHEMA AND t.TABLE_NAME = v.TABLE_NAME"
            );
            page(
                question,
                "v.TABLE_SCHEMA, v.TABLE_NAME, v.VIEW_DEFINITION",
                &joined,
                &["v.TABLE_SCHEMA", "v.TABLE_NAME"],
                &of_relation(question, "t.", one),
            )
        }
        CatalogTopic::ViewText if one => {
            Some(format!("SELECT GET_DDL('VIEW', {}, TRUE)", literal(&full_name(question))))
        }
        CatalogTopic::Functions => page(
            question,
            "FUNCTION_SCHEMA, FUNCTION_NAME, ARGUMENT_SIGNATURE, FUNCTION_LANGUAGE, IS_EXTERNAL, EXTERNAL_ACCESS_INTEGRATIONS",
            &format!("{from}.FUNCTIONS"),
            &["FUNCTION_SCHEMA", "FUNCTION_NAME", "ARGUMENT_SIGNATURE"],
            &[],
        ),
        CatalogTopic::Procedures => page(
            question,
            "PROCEDURE_SCHEMA, PROCEDURE_NAME, ARGUMENT_SIGNATURE, PROCEDURE_LANGUAGE, NULL, EXTERNAL_ACCESS_INTEGRATIONS",
            &format!("{from}.PROCEDURES"),
            &["PROCEDURE_SCHEMA", "PROCEDURE_NAME", "ARGUMENT_SIGNATURE"],
            &[],
        ),
        CatalogTopic::Tags => {
            let database = literal(&question.database);
            page(
                question,
                "OBJECT_SCHEMA, OBJECT_NAME, COLUMN_NAME, DOMAIN, TAG_NAME, TAG_VALUE, TAG_DATABASE, TAG_SCHEMA",
                "SNOWFLAKE.ACCOUNT_USAGE.TAG_REFERENCES",
                &[
                    "COALESCE(OBJECT_SCHEMA, '')",
                    "OBJECT_NAME",
                    "COALESCE(COLUMN_NAME, '')",
                    "TAG_NAME",
                    "TAG_DATABASE",
                    "TAG_SCHEMA",
                ],
                &[
                    format!("(OBJECT_DATABASE = {database} OR DOMAIN = 'DATABASE' AND OBJECT_NAME = {database})"),
                    "OBJECT_DELETED IS NULL".to_owned(),
                    "DOMAIN IN ('DATABASE', 'SCHEMA', 'TABLE', 'COLUMN')".to_owned(),
                ],
            )
        }
        CatalogTopic::RelationTags if one => page(
            question,
            "COLUMN_NAME, TAG_NAME, TAG_VALUE, LEVEL",
            &format!("TABLE({from}.TAG_REFERENCES_ALL_COLUMNS({}, 'table'))", literal(&full_name(question))),
            &["COLUMN_NAME", "TAG_NAME", "TAG_VALUE"],
            &[],
        ),
        CatalogTopic::Unspecified | CatalogTopic::ViewText | CatalogTopic::RelationTags => None,
    }
}

/// Whether there can be more pages.
pub(super) fn is_paged(question: &CatalogQuestion) -> bool {
    !matches!(question.topic(), CatalogTopic::Unspecified | CatalogTopic::ViewText)
}

fn of_relation(question: &CatalogQuestion, table: &str, one: bool) -> Vec<String> {
    let mut conditions = vec![format!("{table}TABLE_SCHEMA <> 'INFORMATION_SCHEMA'")];
    if one {
        conditions.push(format!("{table}TABLE_SCHEMA = {}", literal(&question.schema)));
        conditions.push(format!("{table}TABLE_NAME = {}", literal(&question.relation)));
    }
    if question.changed_since_unix_ms > 0 {
        conditions.push(format!("{table}LAST_ALTERED >= TO_TIMESTAMP_LTZ({}, 3)", question.changed_since_unix_ms));
    }
    conditions
}

/// One page, ordered by `key` and beginning after the last row of the page before.
fn page(question: &CatalogQuestion, columns: &str, from: &str, key: &[&str], conditions: &[String]) -> Option<String> {
    let mut conditions = conditions.to_vec();
    if !question.after.is_empty() {
        conditions.push(beyond(key, &question.after)?);
    }
    let conditions = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    Some(format!("SELECT {columns} FROM {from}{conditions} ORDER BY {} LIMIT {}", key.join(", "), question.rows_max))
}

/// `(a > 'x' OR a = 'x' AND (b > 'y' OR …))`: the rows after this key.
fn beyond(key: &[&str], after: &[String]) -> Option<String> {
    if key.len() != after.len() {
        return None;
    }
    let mut condition = String::new();
    for (column, value) in key.iter().zip(after).rev() {
        let value =
            if column.ends_with("ORDINAL_POSITION") { value.parse::<u64>().ok()?.to_string() } else { literal(value) };
        condition = if condition.is_empty() {
            format!("{column} > {value}")
        } else {
            format!("({column} > {value} OR {column} = {value} AND {condition})")
        };
    }
    Some(condition)
}

fn full_name(question: &CatalogQuestion) -> String {
    [&question.database, &question.schema, &question.relation].map(|part| name(part)).join(".")
}

fn name(part: &str) -> String {
    format!("\"{}\"", part.replace('"', "\"\""))
}

/// A text literal. Snowflake reads a backslash in one as an escape.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use icegate_proto::v1::{CatalogQuestion, CatalogTopic};

    use super::of;

    fn question(topic: CatalogTopic) -> CatalogQuestion {
        CatalogQuestion { topic: topic.into(), database: "SALES".into(), rows_max: 1000, ..CatalogQuestion::default() }
    }

    fn one(topic: CatalogTopic, relation: &str) -> CatalogQuestion {
        CatalogQuestion { schema: "PUBLIC".into(), relation: relation.into(), ..question(topic) }
    }

    #[test]
    fn texts_are_those_of_the_list() {
        for (question, wanted) in [
            (
                question(CatalogTopic::Relations),
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, DATE_PART(EPOCH_MILLISECOND, LAST_ALTERED) \
                 FROM \"SALES\".INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA <> 'INFORMATION_SCHEMA' \
                 ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT 1000",
            ),
            (
                CatalogQuestion {
                    after: vec!["PUBLIC".into(), "O'T\\".into()],
                    changed_since_unix_ms: 5,
                    rows_max: 10,
                    ..question(CatalogTopic::Relations)
                },
                "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, DATE_PART(EPOCH_MILLISECOND, LAST_ALTERED) \
                 FROM \"SALES\".INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA <> 'INFORMATION_SCHEMA' \
                 AND LAST_ALTERED >= TO_TIMESTAMP_LTZ(5, 3) \
                 AND (TABLE_SCHEMA > 'PUBLIC' OR TABLE_SCHEMA = 'PUBLIC' AND TABLE_NAME > 'O''T\\\\') \
                 ORDER BY TABLE_SCHEMA, TABLE_NAME LIMIT 10",
            ),
            (
                one(CatalogTopic::ViewText, "a\"b'c"),
                "SELECT GET_DDL('VIEW', '\"SALES\".\"PUBLIC\".\"a\"\"b''c\"', TRUE)",
            ),
            (
                one(CatalogTopic::RelationTags, "T"),
                "SELECT COLUMN_NAME, TAG_NAME, TAG_VALUE, LEVEL FROM TABLE(\"SALES\".INFORMATION_SCHEMA.\
                 TAG_REFERENCES_ALL_COLUMNS('\"SALES\".\"PUBLIC\".\"T\"', 'table')) \
                 ORDER BY COLUMN_NAME, TAG_NAME, TAG_VALUE LIMIT 1000",
            ),
        ] {
            assert_eq!(of(&question).unwrap(), wanted);
        }
    }

    #[test]
    fn what_is_not_on_the_list_is_not_sent() {
        for topic in [CatalogTopic::Unspecified, CatalogTopic::ViewText, CatalogTopic::RelationTags] {
            assert_eq!(of(&question(topic)), None, "{topic:?}");
        }
        for wrong in [
            CatalogQuestion { topic: 99, ..question(CatalogTopic::Relations) },
            CatalogQuestion { database: String::new(), ..question(CatalogTopic::Relations) },
            CatalogQuestion { rows_max: 0, ..question(CatalogTopic::Relations) },
            CatalogQuestion { rows_max: 1_000_000, ..question(CatalogTopic::Relations) },
            CatalogQuestion { after: vec!["PUBLIC".into()], ..question(CatalogTopic::Relations) },
            CatalogQuestion {
                after: vec!["S".into(), "T".into(), "1 OR 1=1".into()],
                ..question(CatalogTopic::Columns)
            },
            CatalogQuestion { database: "x".repeat(5000), ..question(CatalogTopic::Relations) },
        ] {
            assert_eq!(of(&wrong), None, "{wrong:?}");
        }
    }
}
