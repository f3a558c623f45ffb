pub(crate) mod text;

use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
};

use icegate_pdp_model::{ColumnName, Effect, Kind, Level, ObjectAccess, OutputColumn, StatementAnalysis};
use icegate_pdp_sql::{Limits, analyze};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::InspectArgs,
    exit::{Exit, Failure, chain},
    lines,
    underline::Look,
};

/// Prints what each text is: for people, or one JSON object a line.
pub(crate) fn run(
    args: &InspectArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    look: Look,
) -> Result<Exit, Failure> {
    let catalog = lines::catalog(&args.catalog)?;
    let session = lines::session(&args.session)?;
    let mut exit = Exit::Ok;
    for input in lines::read(input, args.jsonl, &session) {
        let (line, sound) = match input? {
            Ok(input) => {
                let (id, read) = (input.id, analyze(&input.sql, &input.session, &catalog, &Limits::default()));
                let read = read.map(|analyzed| analyzed.statements).map_err(|error| chain(&error));
                if !(args.jsonl || args.json) {
                    let (text, sound) = match &read {
                        Ok(statements) => (text::text(&input.sql, statements, look), statements.iter().all(is_sound)),
                        Err(problem) => (text::unread(problem, look), false),
                    };
                    out.write_all(text.as_bytes())?;
                    return Ok(if sound { Exit::Ok } else { Exit::Failed });
                }
                // A day of history holds lines that are not understood: each says so, and that is no failure of the run.
                let sound = args.jsonl || read.as_ref().is_ok_and(|statements| statements.iter().all(is_sound));
                (Inspected::new(id, read), sound)
            }
            Err(problem) => (Inspected::new(problem.id, Err(problem.why)), false),
        };
        if !sound || line.error.is_some() {
            exit = Exit::Failed;
        }
        lines::write(out, &line)?;
    }
    Ok(exit)
}

/// Everything in it is known.
fn is_sound(statement: &StatementAnalysis) -> bool {
    statement.level == Level::Understood && statement.unresolved.is_empty()
}

/// One line of output.
#[derive(Serialize)]
struct Inspected {
    id: Value,
    statements: Vec<Statement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Inspected {
    fn new(id: Value, read: Result<Vec<StatementAnalysis>, String>) -> Self {
        match read {
            Ok(statements) => {
                Self { id, statements: statements.into_iter().map(Statement::from).collect(), error: None }
            }
            Err(problem) => Self { id, statements: Vec::new(), error: Some(problem) },
        }
    }
}

/// One statement, in the order people read it.
#[derive(Serialize)]
struct Statement {
    level: Level,
    kind: Kind,
    effects: BTreeSet<Effect>,
    objects: Vec<ObjectAccess>,
    columns_read: BTreeSet<ColumnName>,
    projection: Vec<OutputColumn>,
    exports: Vec<String>,
    unresolved: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<StatementAnalysis> for Statement {
    fn from(analysis: StatementAnalysis) -> Self {
        Self {
            level: analysis.level,
            kind: analysis.kind,
            effects: analysis.effects,
            objects: analysis.objects,
            columns_read: analysis.columns_read,
            projection: analysis.projection,
            exports: analysis.exports,
            unresolved: analysis.unresolved,
            why: analysis.why,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::run;
    use crate::{
        args::{InspectArgs, SessionArgs},
        exit::Exit,
        underline::Look,
    };

    const SQL: &str = include_str!("inspect/example.sql");

    fn inspect(input: &str, jsonl: bool, json: bool, look: Look) -> (Exit, String) {
        let session =
            SessionArgs { database: Some("sales".into()), schema: Some("public".into()), ..SessionArgs::default() };
        let catalog = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/catalog.yaml"));
        let mut out = Vec::new();
        let args = InspectArgs { catalog, jsonl, json, session };
        let exit = run(&args, &mut input.as_bytes(), &mut out, look).unwrap();
        (exit, String::from_utf8(out).unwrap())
    }

    #[test]
    fn inspect_text() {
        let (exit, text) = inspect(SQL, false, false, Look::new(false, 80));
        assert_eq!(exit, Exit::Failed);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
    }

    #[test]
    fn colours_change_no_word() {
        let (_, plain) = inspect(SQL, false, false, Look::new(false, 80));
        let (_, coloured) = inspect(SQL, false, false, Look::new(true, 80));
        assert_ne!(plain, coloured);
        let stripped: String = coloured
            .split('\u{1b}')
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect();
        assert_eq!(stripped, plain);
    }

    #[test]
    fn inspect_json() {
        let (exit, line) = inspect("select id from customers", false, true, Look::new(false, 80));
        assert_eq!(exit, Exit::Ok);
        insta::assert_snapshot!(line);
    }

    #[test]
    fn a_bad_line_does_not_stop_the_others() {
        let lines = concat!(
            r#"{"id":"a","sql":"select id from customers"}"#,
            "\nnothing\n",
            r#"{"id":"b","query":"select 1"}"#,
            "\n",
            r#"{"id":"c","sql":"gibberish","rows":12}"#,
            "\n",
        );
        let (exit, text) = inspect(lines, true, false, Look::new(false, 80));
        assert_eq!(exit, Exit::Failed);
        let read: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            read.iter().map(|line| &line["id"]).collect::<Vec<_>>(),
            ["a".into(), serde_json::Value::Null, "b".into(), "c".into()].iter().collect::<Vec<_>>()
        );
        assert!(read[1]["error"].as_str().unwrap().starts_with("line 2 is no input: "));
        assert!(read[2]["error"].as_str().unwrap().starts_with("line 3 is no input: missing field `sql`"));
        assert_eq!(read[3]["statements"][0]["level"], "unknown");
        // A line that is read is an answer, whatever it says.
        let (exit, _) = inspect(lines.lines().last().unwrap(), true, false, Look::new(false, 80));
        assert_eq!(exit, Exit::Ok);
    }
}
