//! Relations that are no table and no view of the catalog: files on a stage, what a semantic view gives, what Snowflake
//! tells of itself. What they hold is not known, so it is opaque; that they are read is said, and a policy decides.

use std::ops::ControlFlow;

use icegate_pdp_model::{Effect, ObjectKind, ObjectName as Name, RelationName};
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, ObjectName, ObjectNamePart, TableAlias, TableFactor, Value,
    visit_expressions,
};

use crate::{
    names,
    query::from::open_output,
    reader::{Beyond, Columns, Lineage, Output, OutputColumn, Read, Reader, Role, stop},
    scope::{Scope, Visible, decide_rows},
    statement::Place,
};

impl Reader<'_, '_> {
    /// `@stage/path (FILE_FORMAT => …)`.
    pub(crate) fn files(
        &mut self,
        stage: Name,
        args: &[FunctionArg],
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
    ) -> Read<()> {
        check_stage_arguments(args)?;
        if self.reworded.is_some_and(|reworded| reworded.purges) {
            self.touch(ObjectKind::Stage, stage.clone(), Effect::Write);
        }
        // Files have no columns a policy could mask: whoever may read tables may not for that alone read them.
        self.touch(ObjectKind::Stage, stage, Effect::Import);
        self.add_open(alias, scope)
    }

    /// `DIRECTORY(@stage)`: which files there are.
    pub(crate) fn directory(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Read<Option<Output>> {
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(stage)))] = args else { return Ok(None) };
        let stage = match &stage.value {
            Value::Placeholder(stage) => stage.strip_prefix('@'),
            _ => None,
        };
        let directory = names::parts(name).is_some_and(|parts| parts == ["DIRECTORY"]);
        let Some(stage) = stage.filter(|_| directory) else { return Ok(None) };
        match self.stage(stage)? {
            Place::Stage { object, shown: _ } => {
                self.touch(ObjectKind::Stage, object, Effect::Metadata);
                Ok(Some(open_output()))
            }
            Place::Location(_) | Place::Named => stop("a stage that is not a name"),
        }
    }

    /// `INFER_SCHEMA(LOCATION => '@stage', FILE_FORMAT => 'f')`: which columns the files of a stage have.
    pub(crate) fn infer_schema(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Read<Option<Output>> {
        if names::parts(name).is_none_or(|parts| parts != ["INFER_SCHEMA"]) {
            return Ok(None);
        }
        let mut stage = None;
        for arg in args {
            let FunctionArg::Named { name, arg: FunctionArgExpr::Expr(Expr::Value(value)), operator: _ } = arg else {
                return stop("this form of INFER_SCHEMA is not understood");
            };
            match (name.value.to_ascii_uppercase().as_str(), &value.value) {
                ("LOCATION", Value::SingleQuotedString(text) | Value::Placeholder(text)) => {
                    // What an escape could change is no name.
                    stage = text.strip_prefix('@').filter(|text| !text.contains(['\\', '\'']));
                }
                ("FILE_FORMAT", Value::SingleQuotedString(text)) => {
                    let parts = names::dotted(text);
                    match parts.and_then(|parts| names::complete_in_schema(parts, &self.session)) {
                        Some(parts) => self.touch(ObjectKind::FileFormat, Name::new(parts), Effect::Use),
                        None => self.miss(ObjectKind::FileFormat.as_str(), text),
                    }
                }
                ("IGNORE_CASE" | "MAX_FILE_COUNT" | "MAX_RECORDS_PER_FILE" | "KIND", _) => {}
                _ => return stop("this form of INFER_SCHEMA is not understood"),
            }
        }
        let Some(stage) = stage else { return stop("INFER_SCHEMA without a stage is not understood") };
        match self.stage(stage)? {
            Place::Stage { object, shown: _ } => self.touch(ObjectKind::Stage, object, Effect::Import),
            Place::Location(_) | Place::Named => return stop("a stage that is not a name"),
        }
        self.functions.insert("INFER_SCHEMA".to_owned());
        let columns = ["COLUMN_NAME", "TYPE", "NULLABLE", "EXPRESSION", "FILENAMES", "ORDER_ID"];
        let columns = columns.map(|name| OutputColumn { name: name.to_owned(), lineage: Lineage::opaque() });
        Ok(Some(Output { columns: columns.into(), ..Output::default() }))
    }

    /// What a dimension or a metric is made of is told by the view's definition, which is not read: any column can be in
    /// it.
    pub(crate) fn semantic_view(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        rows: &mut Columns,
    ) -> Read<()> {
        let TableFactor::SemanticView { name, dimensions, metrics, facts, where_clause, alias } = factor else {
            return stop("this is no SEMANTIC_VIEW");
        };
        let visible = self.relation(name, None, Role::Clone)?;
        for column in &visible.columns {
            decide_rows(rows, self.origin(&column.origin, visible.site));
        }
        for expr in dimensions.iter().chain(metrics).chain(facts).chain(where_clause) {
            self.calls_of(expr)?;
        }
        self.add_open(alias.as_ref(), scope)
    }

    /// The functions an expression calls whose names belong to something that is not read.
    fn calls_of(&mut self, expr: &Expr) -> Read<()> {
        let flow = visit_expressions(expr, |inner| match inner {
            Expr::Function(Function { name, .. }) => {
                self.called(name);
                ControlFlow::Continue(())
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        if flow.is_break() { stop("a query inside SEMANTIC_VIEW is not understood") } else { Ok(()) }
    }

    /// The stage a name means.
    pub(crate) fn staged(&mut self, name: &ObjectName) -> Read<Option<Name>> {
        let Some(ObjectNamePart::Identifier(first)) = name.0.first() else { return Ok(None) };
        let stage = match first.quote_style {
            None | Some('\'') => first.value.starts_with('@'),
            Some(_) => false,
        };
        if !stage {
            return Ok(None);
        }
        match self.place(name)? {
            Place::Stage { object, shown: _ } => Ok(Some(object)),
            Place::Location(_) | Place::Named => stop("a stage that is not a name"),
        }
    }

    /// A relation whose columns nobody knows: files, what a semantic view makes.
    fn add_open(&mut self, alias: Option<&TableAlias>, scope: &mut Scope<'_>) -> Read<()> {
        let mut visible = Visible {
            qualifier: Vec::new(),
            columns: Vec::new(),
            site: None,
            open: true,
            beyond: Beyond::default(),
            silent: false,
        };
        self.rename(&mut visible, alias)?;
        scope.visible.push(visible);
        Ok(())
    }
}

/// `FILE_FORMAT => 'x'`, `PATTERN => '…'`: what files are read, and how.
fn check_stage_arguments(args: &[FunctionArg]) -> Read<()> {
    for arg in args {
        let FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator: _ } = arg else {
            return stop("this form of reading a stage is not understood");
        };
        let known = name.value.eq_ignore_ascii_case("file_format") || name.value.eq_ignore_ascii_case("pattern");
        let plain = matches!(value, Expr::Value(_) | Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        if !known || !plain {
            return stop("this form of reading a stage is not understood");
        }
    }
    Ok(())
}

/// Whether it describes what a database holds. Its columns are not catalogued, so what is read of it is opaque. What tells
/// of what others did (histories, `ACCOUNT_USAGE`) shows their texts and values, and does not resolve unless catalogued.
pub(crate) fn is_description(name: &RelationName) -> bool {
    name.schema == "INFORMATION_SCHEMA" && INFORMATION_SCHEMA_VIEWS.binary_search(&name.name.as_str()).is_ok()
}

/// Views of every `INFORMATION_SCHEMA` (Snowflake docs, "Snowflake Information Schema", read 2026-11), but
/// for `LOAD_HISTORY`, whose error messages quote what was loaded. Sorted.
#[rustfmt::skip]
const INFORMATION_SCHEMA_VIEWS: &[&str] = &[
    "APPLICABLE_ROLES", "APPLICATION_CONFIGURATIONS", "CLASSES", "CLASS_INSTANCES", "CLASS_INSTANCE_FUNCTIONS",
    "CLASS_INSTANCE_PROCEDURES", "COLUMNS", "CORTEX_SEARCH_SERVICES", "CURRENT_PACKAGES_POLICY", "DATABASES",
    "ELEMENT_TYPES", "ENABLED_ROLES", "EVENT_TABLES", "EXTERNAL_TABLES", "FIELDS", "FILE_FORMATS", "FUNCTIONS",
    "GIT_REPOSITORIES", "HYBRID_TABLES", "INDEXES", "INDEX_COLUMNS", "INFORMATION_SCHEMA_CATALOG_NAME",
    "MODEL_VERSIONS", "OBJECT_PRIVILEGES", "PACKAGES", "PIPES", "PROCEDURES",
    "REFERENTIAL_CONSTRAINTS", "REPLICATION_DATABASES", "REPLICATION_GROUPS", "SCHEMATA", "SEMANTIC_DIMENSIONS",
    "SEMANTIC_FACTS", "SEMANTIC_METRICS", "SEMANTIC_RELATIONSHIPS", "SEMANTIC_TABLES", "SEMANTIC_VIEWS",
    "SEQUENCES", "SERVICES", "SHARES", "STAGES", "STREAMLITS", "TABLES", "TABLE_CONSTRAINTS", "TABLE_PRIVILEGES",
    "TABLE_STORAGE_METRICS", "USAGE_PRIVILEGES", "VIEWS",
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_sorted() {
        assert!(super::INFORMATION_SCHEMA_VIEWS.is_sorted());
    }
}
