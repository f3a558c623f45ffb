//! What clients send to load, and several statements at once, said so that fakesnow can run it.
//!
//! It stands in front of fakesnow, behind everything that is tested: what the proxy sent is recorded before. fakesnow reads no
//! stage between quotes, no `$1` over VALUES, no name bound to a query, no `SCOPED` and no full name of a temporary relation; it
//! forgets the format of a stage and that a file is to be overwritten, and names no region; of keys it shows the imported ones.
//! It takes one statement at a time, and keeps no result. All of that Snowflake does by itself, so a load that ends well here
//! shows what passes through icegate, and nothing of how Snowflake would load it.

#![expect(
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "it reads what these clients send, and may fail its test"
)]

use std::ops::Range;

use serde_json::{Map, Value, json};

/// A statement's request in fakesnow's words.
pub(crate) fn request(body: &mut Value) {
    let Some(sql) = body.get("sqlText").and_then(Value::as_str).map(str::to_owned) else { return };
    let bindings = body.get("bindings").and_then(Value::as_object).cloned().unwrap_or_default();
    let (sql, bindings) = match bindings.get("1") {
        Some(stage) if sql.starts_with("PUT ") => {
            (sql.replace('?', &stage["value"].as_str().unwrap_or_default().replace('"', "")), Map::new())
        }
        _ => names_written(&sql, bindings),
    };
    body["sqlText"] = words(&sql).into();
    body["bindings"] = if bindings.is_empty() { Value::Null } else { bindings.into() };
}

/// The answer to a PUT with what Snowflake says in it, too.
pub(crate) fn reply(asked: &Value, told: &mut Value) {
    let sql = asked.get("sqlText").and_then(Value::as_str).unwrap_or_default();
    let Some(data) = told.get_mut("data").filter(|data| data["stageInfo"].is_object()) else { return };
    data["stageInfo"]["region"] = json!("us-central1");
    data["overwrite"] = sql.to_uppercase().contains("OVERWRITE = TRUE").into();
    if sql.contains('?') {
        // With a token connector 4 does not ask again for an address, which it would do without the bound stage; and it
        // does not look, with that token, for a file of this name at the real storage.
        data["stageInfo"]["creds"] = json!({ "GCS_ACCESS_TOKEN": "of no storage" });
        data["overwrite"] = true.into();
    }
}

/// The statements of a request that announces several, each as a request of its own.
pub(crate) fn pieces(body: &Value) -> Option<Vec<Value>> {
    if body["parameters"]["MULTI_STATEMENT_COUNT"] == 1 {
        return None;
    }
    // No text of these clients has a semicolon in it that ends nothing.
    let texts = body["sqlText"].as_str()?.split(';').map(str::trim).filter(|text| !text.is_empty());
    let pieces: Vec<Value> = texts
        .map(|text| {
            let mut piece = body.clone();
            piece["sqlText"] = text.into();
            piece["parameters"]["MULTI_STATEMENT_COUNT"] = 1.into();
            piece
        })
        .collect();
    (pieces.len() > 1).then_some(pieces)
}

/// What Snowflake answers to several statements at once: an id for each.
pub(crate) fn together(replies: &[Value]) -> Value {
    let each = |field: &str| {
        let told = replies.iter().map(|reply| match &reply["data"][field] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        told.collect::<Vec<_>>().join(",")
    };
    let last = replies.last().map(|reply| &reply["data"]);
    json!({ "success": true, "code": null, "message": null, "data": {
        "queryId": uuid::Uuid::new_v4().to_string(), "queryResultFormat": "json", "statementTypeId": 0xA000,
        "resultIds": each("queryId"), "resultTypes": each("statementTypeId"),
        "rowtype": [{ "name": "multiple statement execution", "type": "text", "nullable": false, "length": 100,
            "byteLength": 400, "precision": null, "scale": null, "database": "", "schema": "", "table": "" }],
        "rowset": [["Multiple statements executed successfully."]], "total": 1, "returned": 1, "parameters": [],
        "finalDatabaseName": last.map(|data| &data["finalDatabaseName"]),
        "finalSchemaName": last.map(|data| &data["finalSchemaName"]),
    } })
}

/// `IDENTIFIER(?)` with the name in it, and the other values in their new places.
fn names_written(sql: &str, bindings: Map<String, Value>) -> (String, Map<String, Value>) {
    const NAMED: &str = "IDENTIFIER(?)";
    let pieces: Vec<&str> = sql.split('?').collect();
    if pieces.len() != bindings.len() + 1 || !sql.to_uppercase().contains(NAMED) {
        return (sql.to_owned(), bindings);
    }
    let (mut text, mut left) = (String::new(), Map::new());
    for (position, piece) in pieces.into_iter().enumerate() {
        if position > 0 {
            let value = bindings.get(&position.to_string()).cloned().unwrap_or_default();
            if text.to_uppercase().ends_with("IDENTIFIER(") && piece.starts_with(')') {
                text.truncate(text.len() - "IDENTIFIER(".len());
                text.push_str(value["value"].as_str().unwrap_or_default());
                text.push_str(&piece[1..]);
                continue;
            }
            left.insert((left.len() + 1).to_string(), value);
            text.push('?');
        }
        text.push_str(piece);
    }
    (text, left)
}

fn words(sql: &str) -> String {
    // There are no keys in it, whichever way one looks.
    let mut sql = lasting(sql).replace("exported keys in", "imported keys in");
    let said: Vec<String> = sql.split_whitespace().map(str::to_uppercase).collect();
    let says = |words: &[&str]| said.windows(words.len()).any(|window| window == words);
    if says(&["FROM", "VALUES"]) {
        for digit in '1'..='9' {
            sql = sql.replace(&format!("${digit}"), &format!("COLUMN{digit}"));
        }
    }
    if said.first().is_some_and(|first| first == "COPY") {
        while let Some(quoted) = quoted_stage(&sql) {
            let stage = sql[quoted.clone()].replace(['\'', '"'], "");
            sql.replace_range(quoted, &stage);
        }
        if says(&["MATCH_BY_COLUMN_NAME"]) && !sql.to_uppercase().contains("FILE_FORMAT") {
            sql.push_str(" FILE_FORMAT = (TYPE = PARQUET)");
        }
    }
    sql
}

/// `DuckDB` keeps temporary relations in a database of their own, where no full name leads: they are made as any other.
fn lasting(sql: &str) -> String {
    let (mut head, mut rest) = (String::new(), sql.trim_start());
    while let Some((word, behind)) = rest.split_once(char::is_whitespace) {
        match word.to_uppercase().as_str() {
            "CREATE" | "OR" | "REPLACE" => {
                head.push_str(word);
                head.push(' ');
            }
            "SCOPED" | "TEMP" | "TEMPORARY" => {}
            "TABLE" | "VIEW" if !head.is_empty() => return head + rest,
            _ => break,
        }
        rest = behind.trim_start();
    }
    sql.replace("SCOPED TEMPORARY ", "TEMPORARY ")
}

fn quoted_stage(sql: &str) -> Option<Range<usize>> {
    let start = sql.find("'@")?;
    let len = sql[start + 1..].find('\'')?;
    Some(start..start + len + 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_statements_are_each_a_request_and_one_answer() {
        let body = |count: u32, sql: &str| json!({ "sqlText": sql, "parameters": { "MULTI_STATEMENT_COUNT": count } });
        assert_eq!(pieces(&body(0, "BEGIN; COMMIT;")), Some(vec![body(1, "BEGIN"), body(1, "COMMIT")]));
        assert_eq!(pieces(&body(0, "BEGIN;")), None);
        assert_eq!(pieces(&body(1, "SELECT ';'")), None);
        let reply = |id: &str| json!({ "data": { "queryId": id, "statementTypeId": 4096 } });
        let data = &together(&[reply("a"), reply("b")])["data"];
        assert_eq!([&data["resultIds"], &data["resultTypes"]], ["a,b", "4096,4096"]);
    }

    #[test]
    fn loads_in_other_words() {
        let text = |value: &str| json!({ "type": "TEXT", "value": value });
        for (sql, bound, wanted, left) in [
            (
                "COPY INTO identifier(?) (\"ID\") FROM (SELECT $1:\"ID\" FROM '@\"S\".\"X\"') ON_ERROR=?",
                vec!["\"T\"", "abort"],
                "COPY INTO \"T\" (\"ID\") FROM (SELECT $1:\"ID\" FROM @S.X) ON_ERROR=?",
                json!({ "1": text("abort") }),
            ),
            (
                "COPY INTO IDENTIFIER(?) FROM @B MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE",
                vec!["T"],
                "COPY INTO T FROM @B MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE FILE_FORMAT = (TYPE = PARQUET)",
                Value::Null,
            ),
            ("SELECT $1 AS \"A\" FROM  VALUES (1)", vec![], "SELECT COLUMN1 AS \"A\" FROM  VALUES (1)", Value::Null),
            ("PUT 'file:///x' ? parallel=4", vec!["@\"S\".\"X\""], "PUT 'file:///x' @S.X parallel=4", Value::Null),
            ("SELECT '@x', ? FROM t", vec!["y"], "SELECT '@x', ? FROM t", json!({ "1": text("y") })),
        ] {
            let bound: Map<String, Value> =
                bound.iter().zip(1..).map(|(value, at)| (at.to_string(), text(value))).collect();
            let mut body = json!({ "sqlText": sql, "bindings": bound });
            request(&mut body);
            assert_eq!((&body["sqlText"], &body["bindings"]), (&json!(wanted), &left));
        }
    }
}
