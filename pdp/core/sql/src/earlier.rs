//! What earlier statements of a session left, read again: results, by `RESULT_SCAN('<query id>')`, and temporary relations,
//! by their names.
//!
//! Such a read is asked about everything the earlier statements read, anew. Its values are what the warehouse kept: masked
//! and filtered as they were then, and no mask can be added to them. A temporary view has no values of its own: its text is
//! read each time it is named.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use icegate_pdp_model::{
    CatalogColumn, CatalogRelation, EarlierColumn, EarlierRows, Effect, ObjectAccess, ObjectKind, RelationKind,
    RelationName, Temporary, Transformation,
};
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, ObjectName, Value};

use crate::{
    gate::{self, TokenKind},
    names,
    query::from::open_output,
    reader::{Columns, Lineage, Output, OutputColumn, Reader},
};

/// What earlier statements of a session left that a later one may read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Results by query id; or why the result of that id is not read again.
    pub results: BTreeMap<String, Result<Arc<EarlierRows>, String>>,
    /// Temporary relations by full name; or why the one of that name is not read.
    pub relations: BTreeMap<RelationName, Result<EarlierRelation, String>>,
}

impl Earlier {
    /// Nothing.
    pub fn none() -> &'static Self {
        static NONE: Earlier = Earlier { results: BTreeMap::new(), relations: BTreeMap::new() };
        &NONE
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty() && self.relations.is_empty()
    }
}

/// A temporary relation, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EarlierRelation {
    /// A table's rows.
    Rows(Arc<EarlierRows>),
    /// A view's text and columns.
    View(Box<CatalogRelation>),
}

impl EarlierRelation {
    /// As it is read, when it is known.
    pub fn of(temporary: Temporary) -> Option<Self> {
        match temporary {
            Temporary::Unknown => None,
            Temporary::Table(rows) => Some(Self::Rows(Arc::new(rows))),
            Temporary::View { text, columns } => {
                let column = |name| CatalogColumn {
                    name,
                    // Nobody said; no mask of a type can stand there.
                    data_type: String::new(),
                    nullable: true,
                    tags: BTreeSet::new(),
                    paths: Vec::new(),
                };
                Some(Self::View(Box::new(CatalogRelation {
                    kind: RelationKind::View,
                    definition: Some(text),
                    tags: BTreeSet::new(),
                    columns: columns.into_iter().map(column).collect(),
                    row_attributes: BTreeMap::new(),
                })))
            }
        }
    }
}

/// The function that reads one.
const RESULT_SCAN: &str = "RESULT_SCAN";
/// Most results that one text may read again.
const RESULTS_MAX: usize = 8;

/// The query ids whose results a text reads again.
pub fn results_asked(sql: &str) -> BTreeSet<String> {
    // Few texts do, and every text is asked about: it is not split for nothing.
    if !sql.as_bytes().windows(RESULT_SCAN.len()).any(|word| word.eq_ignore_ascii_case(RESULT_SCAN.as_bytes())) {
        return BTreeSet::new();
    }
    let pieces = gate::split(sql).unwrap_or_default();
    let windows = pieces.iter().flat_map(|piece| piece.tokens.windows(3));
    let asked = windows.filter_map(|window| match window {
        [word, open, id]
            if word.text.eq_ignore_ascii_case(RESULT_SCAN) && open.text == "(" && id.kind == TokenKind::Text =>
        {
            query_id(id.in_quotes()?)
        }
        _ => None,
    });
    asked.take(RESULTS_MAX).collect()
}

/// An id as Snowflake gives them: hexadecimal digits and dashes.
pub(crate) fn query_id(text: &str) -> Option<String> {
    let plain = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    plain.then(|| text.to_owned())
}

/// Why what was made of something is not read.
const GONE: &str = "what was made of it is read, and it is not there any more";

impl Reader<'_, '_> {
    /// `RESULT_SCAN('<query id>')`.
    pub(crate) fn result_scan(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Option<Output> {
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = args else { return None };
        let Value::SingleQuotedString(text) = &value.value else { return None };
        if names::parts(name).is_none_or(|parts| parts != [RESULT_SCAN]) {
            return None;
        }
        let result = match self.earlier.results.get(&query_id(text)?)? {
            Ok(result) => Arc::clone(result),
            Err(why) => {
                let said = format!("result {text}: {why}");
                self.miss_said(said);
                return Some(open_output());
            }
        };
        self.functions.insert(RESULT_SCAN.to_owned());
        let read = self.read_again(&result);
        let Some(columns) = &result.columns else { return Some(open_output()) };
        let mut output = Output { rows: read, ..Output::default() };
        for EarlierColumn { name, sources, opaque } in columns {
            let sources = self.column_ids(sources);
            let lineage =
                Lineage { sources, transformation: Transformation::Identity, opaque: *opaque, ..Lineage::none() };
            output.columns.push(OutputColumn { name: name.clone(), lineage });
        }
        Some(output)
    }

    /// Reads all that these rows were made of; gives the columns.
    pub(crate) fn read_again(&mut self, rows: &Arc<EarlierRows>) -> Columns {
        for ObjectAccess { kind, name, effect } in &rows.objects {
            self.touch(*kind, name.clone(), *effect);
            if let (ObjectKind::Table | ObjectKind::View, Effect::Read, [database, schema, relation]) =
                (kind, effect, name.parts())
            {
                let name = RelationName::new(database, schema, relation);
                // Which of its rows are shown may be a matter of policy, whether or not a column of it was read.
                if let Some(entry) = self.catalog.relation(&name) {
                    self.know(&name, entry);
                }
                self.relations.insert(name);
            }
        }
        for name in &rows.columns_read {
            let entry = self.catalog.relation(&name.relation);
            if entry.is_none_or(|entry| entry.tags_of(&name.column).is_none()) {
                // How it is protected is not known any more.
                self.miss("column", format_args!("{name}: {GONE}"));
            }
        }
        let catalog = self.catalog;
        for name in &rows.rows_met {
            // As above: a view that showed them may be gone, or show others since.
            match catalog.relation(name) {
                Some(entry) => {
                    self.know(name, entry);
                }
                None => self.miss("relation", format_args!("{name}: {GONE}")),
            }
        }
        let read = self.column_ids(&rows.columns_read);
        self.columns_read.unite(&read);
        // What is read of them was masked there.
        self.through_made.unite(&read);
        self.read_again.push(Arc::clone(rows));
        read
    }
}

#[cfg(test)]
mod tests {
    use super::results_asked;

    #[test]
    fn only_ids_in_the_text_are_asked_for() {
        for (sql, wanted) in [
            ("select * from table(result_scan('01b0-AB'))", &["01b0-AB"][..]),
            ("SELECT 1 FROM TABLE(RESULT_SCAN( '01' )) a, TABLE(RESULT_SCAN('02'))", &["01", "02"]),
            ("SELECT * FROM TABLE(RESULT_SCAN(LAST_QUERY_ID()))", &[]),
            ("SELECT 'RESULT_SCAN(''01'')' -- RESULT_SCAN('01')", &[]),
            ("SELECT * FROM TABLE(RESULT_SCAN('x'' or 1'))", &[]),
            ("SELECT * FROM TABLE(RESULT_SCAN(''))", &[]),
            ("SELECT * FROM TABLE(RESULT_SCAN('0\\x31'))", &[]),
        ] {
            assert_eq!(results_asked(sql).into_iter().collect::<Vec<_>>(), wanted, "{sql}");
        }
        let many: Vec<String> = (10..40).map(|id| format!("TABLE(RESULT_SCAN('{id}')), ")).collect();
        assert_eq!(results_asked(&format!("SELECT 1 FROM {} x", many.concat())).len(), super::RESULTS_MAX);
    }
}
