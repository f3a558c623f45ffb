//! What a person reads of an analysis: a paragraph a statement, then what there is to say about places in the text.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use icegate_pdp_model::{ColumnName, Level, ObjectAccess, RelationName, StatementAnalysis, Transformation};
use icegate_pdp_sql::{Located, locate};

use crate::underline::{Look, Remark, Shown, Tone, listed, words};

/// Everything about a text, to be printed.
pub(crate) fn text(sql: &str, statements: &[StatementAnalysis], look: Look) -> String {
    let shown = Shown::of(sql);
    let mut text = String::new();
    let located = locate(sql, statements);
    for (number, (statement, located)) in (1..).zip(statements.iter().zip(&located)) {
        text.push_str(&paragraph(statement, number, statements.len(), look));
        text.push('\n');
        for remark in remarks(statement, located) {
            text.push_str(&shown.remark(look, &remark));
        }
    }
    text.push_str(&summary(statements, look));
    text
}

fn paragraph(statement: &StatementAnalysis, number: usize, of: usize, look: Look) -> String {
    let names = Names::of(statement);
    let title = if of == 1 { "statement".to_owned() } else { format!("statement {number} of {of}") };
    let level = look.toned(statement.level.as_str(), tone(statement.level));
    let mut text = match statement.level {
        Level::Unknown => format!("{}: {level}\n", look.bold(&title)),
        Level::Understood | Level::Classified => {
            format!("{}: {}, {level}\n", look.bold(&title), look.bold(&statement.kind.to_string()))
        }
    };
    for (effect, objects) in by_effect(&statement.objects) {
        text.push_str(&look.entry(effect, listed(objects)));
    }
    let mut relations: BTreeMap<&RelationName, Vec<&ColumnName>> = BTreeMap::new();
    for column in &statement.columns_read {
        relations.entry(&column.relation).or_default().push(column);
    }
    for (at, (relation, columns)) in relations.into_iter().enumerate() {
        let of = format!("{}:", names.relation(relation));
        let columns = listed(columns.into_iter().map(|column| part(&column.column)));
        text.push_str(&look.entry(if at == 0 { "columns" } else { "" }, std::iter::once(of).chain(columns)));
    }
    text.push_str(&look.entry("functions", listed(statement.facts.functions.iter().cloned())));
    let sets = statement.session_changes.iter().map(|change| match &change.value {
        Some(value) => format!("{} = {value}", change.name),
        None => change.name.clone(),
    });
    text.push_str(&look.entry("sets", listed(sets)));
    text.push_str(&outputs(statement, &names, look));
    text
}

/// The table of output columns. What decided all of them decided which rows there are, and is said once.
fn outputs(statement: &StatementAnalysis, names: &Names, look: Look) -> String {
    let Some((first, others)) = statement.projection.split_first() else { return String::new() };
    let mut rows = first.control.clone();
    rows.retain(|column| others.iter().all(|other| other.control.contains(column)));
    let own: Vec<BTreeSet<ColumnName>> =
        statement.projection.iter().map(|column| column.control.difference(&rows).cloned().collect()).collect();
    let mut head = vec!["#", "output", "how", "from"];
    if own.iter().any(|columns| !columns.is_empty()) {
        head.push("decided by");
    }
    let lines = statement.projection.iter().zip(&own).map(|(column, own)| {
        let from = match (column.opaque, column.sources.is_empty()) {
            (true, true) => "not known".to_owned(),
            (true, false) => format!("{}, and more that is not known", names.columns(&column.sources)),
            (false, _) => names.columns(&column.sources),
        };
        let how = match column.transformation {
            Transformation::Identity => "as it is",
            Transformation::Transformation if column.sources.is_empty() && !column.opaque => "constant",
            Transformation::Transformation => "computed",
            Transformation::Aggregation => "aggregated",
        };
        let mut line = vec![column.ordinal.to_string(), column.name.clone(), how.to_owned(), from];
        if head.len() > line.len() {
            line.push(names.columns(own));
        }
        line
    });
    let table = look.table(&head, lines.collect::<Vec<_>>());
    let by = if rows.is_empty() { Vec::new() } else { listed(names.list(&rows)) };
    format!("{}\n{table}", look.entry("rows by", by))
}

fn tone(level: Level) -> Tone {
    match level {
        Level::Understood => Tone::Good,
        Level::Classified => Tone::Warning,
        Level::Unknown => Tone::Error,
    }
}

/// Objects by what is done to them, in the order effects are listed.
fn by_effect(objects: &[ObjectAccess]) -> Vec<(&'static str, Vec<String>)> {
    let effects: BTreeSet<_> = objects.iter().map(|object| object.effect).collect();
    effects
        .into_iter()
        .map(|effect| {
            let objects = objects.iter().filter(|object| object.effect == effect);
            (effect.as_str(), objects.map(|object| format!("{} {}", object.kind, object.name)).collect())
        })
        .collect()
}

/// Short names where they cannot be mistaken: the full ones stand above.
struct Names {
    last: BTreeMap<String, BTreeSet<RelationName>>,
}

impl Names {
    fn of(statement: &StatementAnalysis) -> Self {
        let mut last: BTreeMap<String, BTreeSet<RelationName>> = BTreeMap::new();
        for column in &statement.columns_read {
            last.entry(column.relation.name.clone()).or_default().insert((*column.relation).clone());
        }
        Self { last }
    }

    fn relation(&self, name: &RelationName) -> String {
        if self.last.get(&name.name).is_some_and(|named| named.len() == 1) {
            part(&name.name)
        } else {
            name.to_string()
        }
    }

    fn columns(&self, columns: &BTreeSet<ColumnName>) -> String {
        let names = self.list(columns);
        if names.is_empty() { "-".into() } else { names.join(", ") }
    }

    fn list(&self, columns: &BTreeSet<ColumnName>) -> Vec<String> {
        columns.iter().map(|column| format!("{}.{}", self.relation(&column.relation), part(&column.column))).collect()
    }
}

/// One part of a name, quoted where SQL would.
fn part(name: &str) -> String {
    icegate_pdp_model::ObjectName::new([name]).to_string()
}

/// What there is to say about a statement, worst first.
pub(crate) fn remarks(statement: &StatementAnalysis, located: &Located) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if let (Some(why), Some(stopped)) = (&statement.why, &located.stopped) {
        remarks.push(stop(statement.level, why, stopped.clone()));
    }
    for (name, places) in statement.unresolved.iter().zip(&located.unresolved) {
        remarks.push(Remark {
            tone: Tone::Error,
            title: unresolved(name),
            marks: places.iter().map(|place| (place.clone(), String::new())).collect(),
            help: remedy(name).map(str::to_owned),
        });
    }
    for (to, places) in statement.exports.iter().zip(&located.exports) {
        remarks.push(Remark {
            tone: Tone::Warning,
            title: format!("data would leave to `{to}`"),
            marks: places.iter().map(|place| (place.clone(), String::new())).collect(),
            help: None,
        });
    }
    if statement.unresolved.is_empty() {
        let opaque = statement.projection.iter().zip(&located.projection).filter(|(column, _)| column.opaque);
        for (column, place) in opaque {
            remarks.push(Remark {
                tone: Tone::Warning,
                title: format!(
                    "where output column {} comes from cannot be told; take it as any column",
                    column.ordinal
                ),
                marks: place.iter().map(|place| (place.clone(), String::new())).collect(),
                help: None,
            });
        }
    }
    remarks
}

fn stop(level: Level, why: &str, stopped: Range<usize>) -> Remark {
    let why = why.strip_prefix("told by its head alone: ").unwrap_or(why);
    // The place is underlined: counting to it is for programs.
    let here = match why {
        why if why.starts_with("the parser lost a word at byte ") => "the parser lost this word",
        why => why.split(" at line: ").next().unwrap_or(why),
    };
    let (tone, title, help) = match level {
        Level::Understood | Level::Unknown => (
            Tone::Error,
            "this statement is not understood",
            Some("it is denied, unless a policy permits what cannot be read".to_owned()),
        ),
        Level::Classified => {
            (Tone::Warning, "of this statement only the head is read: its columns are not known", None)
        }
    };
    Remark { tone, title: title.into(), marks: vec![(stopped, here.to_owned())], help }
}

/// What sort of name it is, its name, and what more is said of it.
fn parts(unresolved: &str) -> (&str, &str, Option<&str>) {
    let (subject, more) = match unresolved.split_once(": ") {
        Some((subject, more)) => (subject, Some(more)),
        None => (unresolved, None),
    };
    let what = ["variable or position"].into_iter().find(|what| subject.starts_with(what));
    let what = what.or_else(|| subject.split(' ').next()).unwrap_or(subject);
    (what, subject.get(what.len()..).unwrap_or_default().trim_start(), more)
}

fn unresolved(name: &str) -> String {
    match parts(name) {
        (what, "", _) => format!("a {what} that is not named does not resolve"),
        (what, name, None) => format!("{what} `{name}` does not resolve"),
        (what, name, Some(more)) => format!("{what} `{name}` does not resolve: {more}"),
    }
}

fn remedy(name: &str) -> Option<&'static str> {
    match parts(name) {
        ("relation", name, None) if name.split('.').count() < 3 => {
            Some("name it in full, or say the session's names with `--database` and `--schema`")
        }
        ("relation", _, None) => Some("add it to the catalog, or correct the name"),
        ("function", _, _) => Some("say in the catalog, under `functions`, whether it is pure, reads or leaves"),
        ("procedure", _, _) => Some("say in the catalog, under `procedures`, what it does"),
        ("column", _, _) => Some("no relation of the catalog in scope has it"),
        _ => None,
    }
}

fn summary(statements: &[StatementAnalysis], look: Look) -> String {
    let count = |level: Level| statements.iter().filter(|statement| statement.level == level).count();
    let mut said: Vec<String> = [Level::Understood, Level::Classified, Level::Unknown]
        .into_iter()
        .filter(|&level| count(level) > 0)
        .map(|level| look.toned(&format!("{} {level_word}", count(level), level_word = level.as_str()), tone(level)))
        .collect();
    let unresolved: usize = statements.iter().map(|statement| statement.unresolved.len()).sum();
    if unresolved > 0 {
        said.push(look.toned(&format!("{} unresolved", crate::show::count(unresolved, "name")), Tone::Error));
    }
    format!("{}: {}\n", crate::show::count(statements.len(), "statement"), said.join(", "))
}

/// A text that was not read at all.
pub(crate) fn unread(problem: &str, look: Look) -> String {
    format!("{}\n{}", look.toned("not read", Tone::Error), look.entry("because", words(problem)))
}
