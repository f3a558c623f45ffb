//! Masks that are applied to results: which output columns wear them, and every place where such a column must not be read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use icegate_pdp_model::{Catalog, ColumnName, Mask, SessionContext};
use icegate_pdp_sql::{Limits, ResultPlace, Rewriting, Unmaskable, analyze};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    /// Masked columns of every case.
    masks: BTreeMap<String, Mask>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    sql: String,
    /// Masks besides, or instead.
    #[serde(default)]
    masks: BTreeMap<String, Mask>,
    /// `statement.ordinal COLUMN mask`: what the result wears.
    #[serde(default)]
    wears: Vec<String>,
    /// Why it is refused: the place, or another refusal's kind.
    #[serde(default)]
    refused: Option<String>,
    /// The text that is sent, where a case is about it.
    #[serde(default)]
    sent: Option<String>,
}

fn full(name: &str) -> ColumnName {
    name.parse().or_else(|_| format!("SALES.PUBLIC.{name}").parse()).unwrap()
}

fn short(name: &ColumnName) -> String {
    let name = name.to_string();
    name.strip_prefix("SALES.PUBLIC.").map_or(name.clone(), str::to_owned)
}

fn kind(refusal: &Unmaskable) -> String {
    match refusal {
        Unmaskable::Result { place, .. } => match place {
            ResultPlace::Statement => "statement",
            ResultPlace::Computed => "computed",
            ResultPlace::Decides => "decides",
            ResultPlace::Unsure => "unsure",
        }
        .to_owned(),
        Unmaskable::Type { .. } => "type".to_owned(),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_lowercase(),
    }
}

#[test]
fn a_column_masked_in_the_result_only_passes() {
    let cases: Cases = serde_saphyr::from_str(include_str!("cases/results.yaml")).unwrap();
    let catalog: Catalog = serde_saphyr::from_str(include_str!("cases/catalog.yaml")).unwrap();
    let session =
        SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..SessionContext::default() };
    let mut wrong = Vec::new();
    for case in &cases.cases {
        let masks: BTreeMap<ColumnName, Mask> =
            cases.masks.iter().chain(&case.masks).map(|(name, mask)| (full(name), mask.clone())).collect();
        let analyzed = analyze(&case.sql, &session, &catalog, &Limits::default()).unwrap();
        let rewriting = Rewriting {
            masks: &masks,
            row_filters: &[],
            names: &[],
            hash_salt: "pepper",
            expressions: &BTreeMap::new(),
        };
        let (wears, refused, sent) = match analyzed.rewrite_by(&rewriting) {
            Ok(rewritten) => {
                let worn = rewritten.result_masks.iter();
                let wears = worn.map(|it| format!("{}.{} {} {}", it.statement, it.ordinal, short(&it.column), it.mask));
                (wears.collect(), None, Some(rewritten.sql))
            }
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(text.ends_with('.') && text.contains('`'), "a full sentence that names the column: {text}");
                (Vec::new(), Some(kind(&refusal)), None)
            }
        };
        let same = wears == case.wears && refused == case.refused && (case.sent.is_none() || sent == case.sent);
        if !same {
            wrong.push(format!("{}\n  wears {wears:?} refused {refused:?}\n  sent {sent:?}", case.sql));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.cases.iter().filter(|case| case.refused.is_some()).count() > 40);
}
