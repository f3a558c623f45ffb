//! Results of earlier statements of a session, read again by `RESULT_SCAN('<query id>')`.
//!
//! Such a read is asked about everything the earlier statement read, anew. Its values are what the warehouse kept: masked
//! and filtered as they were then, and no mask can be added to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use icegate_pdp_model::{ColumnName, Effect, Mask, ObjectAccess, ObjectKind, RelationName, Transformation};
use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, ObjectName, Value};

use crate::{
    gate::{self, TokenKind},
    names,
    query::from::open_output,
    reader::{Lineage, Output, OutputColumn, Reader},
};

/// The result of an earlier statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierResult {
    /// Its columns; `None` when they are not known, as of what SHOW gives.
    pub columns: Option<Vec<EarlierColumn>>,
    /// What the statement did to which objects.
    pub objects: Vec<ObjectAccess>,
    /// Every column that had any influence on it.
    pub columns_read: BTreeSet<ColumnName>,
    /// The masks its values went through at their source.
    pub masks: BTreeMap<ColumnName, Mask>,
    /// Conditions of the rows that were read of filtered relations, as SQL.
    pub row_filters: BTreeMap<RelationName, String>,
}

/// One column of an earlier result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierColumn {
    /// Its name.
    pub name: String,
    /// Columns whose values can appear in it.
    pub sources: BTreeSet<ColumnName>,
    /// They could not be told.
    pub opaque: bool,
}

/// By query id; or why the result of that id is not read again.
pub type EarlierResults = BTreeMap<String, Result<Arc<EarlierResult>, String>>;

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

impl Reader<'_, '_> {
    /// `RESULT_SCAN('<query id>')`.
    pub(crate) fn result_scan(&mut self, name: &ObjectName, args: &[FunctionArg]) -> Option<Output> {
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = args else { return None };
        let Value::SingleQuotedString(text) = &value.value else { return None };
        if names::parts(name).is_none_or(|parts| parts != [RESULT_SCAN]) {
            return None;
        }
        let result = match self.request.beside.results.get(&query_id(text)?)? {
            Ok(result) => Arc::clone(result),
            Err(why) => {
                let said = format!("result {text}: {why}");
                self.miss_said(said);
                return Some(open_output());
            }
        };
        self.functions.insert(RESULT_SCAN.to_owned());
        for ObjectAccess { kind, name, effect } in &result.objects {
            self.touch(*kind, name.clone(), *effect);
            if let (ObjectKind::Table | ObjectKind::View, Effect::Read, [database, schema, relation]) =
                (kind, effect, name.parts())
            {
                self.relations.insert(RelationName::new(database, schema, relation));
            }
        }
        let read = self.column_ids(&result.columns_read);
        self.columns_read.unite(&read);
        // What is read of them was masked there.
        self.through_made.unite(&read);
        let output = match &result.columns {
            None => open_output(),
            Some(columns) => {
                let mut output = Output { rows: read, ..Output::default() };
                for EarlierColumn { name, sources, opaque } in columns {
                    let sources = self.column_ids(sources);
                    let lineage = Lineage {
                        sources,
                        transformation: Transformation::Identity,
                        opaque: *opaque,
                        ..Lineage::none()
                    };
                    output.columns.push(OutputColumn { name: name.clone(), lineage });
                }
                output
            }
        };
        self.earlier.push(result);
        Some(output)
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
