use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
};

use icegate_pdp_model::{Catalog, ColumnName, Effect, Kind, Level, ObjectAccess, OutputColumn, StatementAnalysis};
use icegate_pdp_sql::{Limits, analyze};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::InspectArgs,
    exit::{Exit, Failure, chain},
    lines::{self, Input},
};

/// Prints what each text is, one JSON object a line.
pub(crate) fn run(args: &InspectArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<Exit, Failure> {
    let catalog = lines::catalog(&args.catalog)?;
    let session = lines::session(&args.session)?;
    let mut exit = Exit::Ok;
    for input in lines::read(input, args.jsonl, &session) {
        let line = match input? {
            Ok(input) => inspect(&input, &catalog),
            Err(problem) => Inspected { id: Value::Null, statements: Vec::new(), error: Some(problem) },
        };
        if line.error.is_some() {
            exit = Exit::Failed;
        }
        let text = serde_json::to_string(&line).map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        writeln!(out, "{text}")?;
    }
    Ok(exit)
}

fn inspect(input: &Input, catalog: &Catalog) -> Inspected {
    let id = input.id.clone();
    match analyze(&input.sql, &input.session, catalog, &Limits::default()) {
        Ok(analyzed) => {
            let statements = analyzed.statements.iter().cloned().map(Statement::from).collect();
            Inspected { id, statements, error: None }
        }
        Err(error) => Inspected { id, statements: Vec::new(), error: Some(chain(&error)) },
    }
}

/// One line of output.
#[derive(Serialize)]
struct Inspected {
    id: Value,
    statements: Vec<Statement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
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
