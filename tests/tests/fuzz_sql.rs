//! Any text at all: the analysis answers it, keeps its laws, and stays within time and size.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use icegate_pdp_model::{
    Catalog, ColumnName, Effect, Level, Mask, ObjectAccess, RelationName, SessionContext, StatementAnalysis, Verb,
};
use icegate_pdp_sql::{AnalyzeError, Analyzed, Limits, analyze, locate};
use icegate_tests::{
    fuzz::{Seeds, sql},
    fuzz_target,
    generated::Dice,
    policies::root,
};

/// An answer may be longer than its text by this factor, and by this much: a `*` over a wide relation is short to write.
const ANSWER_BYTES_PER_BYTE: usize = 2000;
const ANSWER_BYTES: usize = 64 * 1024;

static SEEDS: LazyLock<Seeds> = LazyLock::new(Seeds::of_cases);
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let text = std::fs::read_to_string(root().join("pdp/core/sql/tests/cases/catalog.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
});

fn session() -> SessionContext {
    SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..SessionContext::default() }
}

fn read(text: &str) -> Option<Analyzed<'_>> {
    match analyze(text, &session(), &CATALOG, &Limits::default()) {
        Ok(analyzed) => Some(analyzed),
        Err(
            AnalyzeError::TooLong { .. }
            | AnalyzeError::TooManyStatements { .. }
            | AnalyzeError::TooDeep { .. }
            | AnalyzeError::TooManyOperators { .. },
        ) => None,
        Err(error @ AnalyzeError::NoStack) => panic!("{error}"),
    }
}

/// What no analysis may say, whatever the text.
fn lawful(statements: &[StatementAnalysis], text: &str) {
    assert!(!statements.is_empty(), "no answer: {text:?}");
    let mut all_understood = true;
    for statement in statements {
        let effects: BTreeSet<Effect> = statement.objects.iter().map(|object| object.effect).collect();
        assert_eq!(effects, statement.effects, "{text:?}");
        assert_eq!(statement.why.is_none(), statement.level == Level::Understood, "{text:?}");
        match statement.level {
            Level::Understood => {
                assert_ne!(statement.kind.verb, Verb::Unknown, "{text:?}");
                for column in &statement.projection {
                    let used = column.sources.union(&column.control);
                    assert!(used.clone().all(|it| statement.columns_read.contains(it)), "{column:?}: {text:?}");
                }
                let ordinals: Vec<u32> = statement.projection.iter().map(|column| column.ordinal).collect();
                assert!(ordinals.iter().copied().eq(1..=u32::try_from(ordinals.len()).unwrap()), "{text:?}");
                // A column that is read belongs to a relation that is touched.
                for column in &statement.columns_read {
                    let RelationName { database, schema, name } = &*column.relation;
                    // The relation, or the schema or database that is copied whole.
                    let touched = |object: &ObjectAccess| {
                        [database, schema, name].into_iter().zip(object.name.parts()).all(|(one, other)| one == other)
                    };
                    let view = statement.objects.iter().any(|object| object.kind.as_str() == "view");
                    let found = statement.objects.iter().any(touched);
                    assert!(found || view || statements.len() > 1, "{column}: {text:?}");
                }
            }
            Level::Classified => {
                let reads = [Verb::Select, Verb::Insert, Verb::Update, Verb::Delete, Verb::Merge, Verb::CopyUnload];
                assert!(!reads.contains(&statement.kind.verb) || !statement.unresolved.is_empty(), "{text:?}");
                // Code that was read with its body may touch nothing; any other statement does something to something.
                let code = [Verb::Execute, Verb::Call].contains(&statement.kind.verb);
                assert!(code || !statement.objects.is_empty() || !statement.unresolved.is_empty(), "{text:?}");
            }
            Level::Unknown => {
                assert_eq!(statement.kind.verb, Verb::Unknown, "{text:?}");
                assert!(statement.objects.is_empty() && statement.projection.is_empty(), "{text:?}");
            }
        }
        // What follows a statement that is not understood is not understood either.
        assert!(all_understood || statement.level == Level::Unknown, "{text:?}");
        all_understood &= statement.level == Level::Understood;
    }
}

fn calm(dice: &mut Dice) {
    let text = sql(&SEEDS, dice);
    let Some(analyzed) = read(&text) else { return };
    lawful(&analyzed.statements, &text);
    let said = serde_json::to_vec(&analyzed.statements).unwrap().len();
    assert!(said <= ANSWER_BYTES + ANSWER_BYTES_PER_BYTE * text.len(), "{said} bytes: {text:?}");
    for place in locate(&text, &analyzed.statements) {
        let columns = place.columns.into_values().flatten();
        let named = place.unresolved.into_iter().chain(place.objects).chain(place.exports).flatten();
        let others = place.stopped.into_iter().chain(place.projection.into_iter().flatten()).chain([place.statement]);
        for bytes in columns.chain(named).chain(others) {
            assert!(text.get(bytes.clone()).is_some(), "{bytes:?}: {text:?}");
        }
    }
}

/// One statement more in the text is one more in the answer, unless the gate stops the text, which then is one.
fn counted(dice: &mut Dice) {
    let text = sql(&SEEDS, dice);
    let Some(before) = read(&text) else { return };
    let longer = format!("{text}\n;\nSELECT 1");
    let Some(after) = read(&longer) else { return };
    let (before, after) = (&before.statements, &after.statements);
    let gated = after.len() == 1 && after[0].level == Level::Unknown;
    let empty = before.len() == 1 && before[0].why.as_deref().is_some_and(|why| why.contains("no statement"));
    if gated {
        assert_eq!(before.len(), 1, "{text:?}");
        assert_eq!(before[0].level, Level::Unknown, "{text:?}");
    } else if empty {
        assert_eq!(after.len(), 1, "{text:?}");
    } else {
        assert_eq!(after.len(), before.len() + 1, "{text:?}");
        let without_bytes = |statement: &StatementAnalysis| {
            let mut statement = statement.clone();
            statement.facts.bytes = 0;
            statement
        };
        for (one, other) in before.iter().zip(after) {
            assert_eq!(without_bytes(one), without_bytes(other), "{text:?}");
        }
    }
}

/// What is no part of a name, in its order: rewriting may add to it and take nothing away.
fn skeleton(text: &str) -> impl Iterator<Item = char> + '_ {
    text.chars().filter(|c| !(c.is_alphanumeric() || matches!(c, '_' | '$' | '"' | '.')))
}

/// `TABLE('t')` and `IDENTIFIER('t')` are names too, brackets, quotes and blanks among them.
fn names_by_constant(text: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    let text = text.to_ascii_uppercase();
    ["TABLE('", "IDENTIFIER('"].iter().any(|name| text.contains(name))
}

fn rewritten(dice: &mut Dice) {
    let text = sql(&SEEDS, dice);
    let Some(analyzed) = read(&text) else { return };
    assert_eq!(analyzed.rewrite(&BTreeMap::new(), "").as_deref(), Ok(text.as_str()));
    let read_columns: Vec<&ColumnName> = analyzed.statements.iter().flat_map(|it| &it.columns_read).collect();
    if read_columns.is_empty() {
        return;
    }
    let masked: BTreeMap<ColumnName, Mask> =
        (0..=dice.below(2)).map(|_| ((*dice.pick(&read_columns)).clone(), Mask::Null)).collect();
    let Ok(sent) = analyzed.rewrite(&masked, "salt") else { return };
    let mut left = skeleton(&sent);
    let lost = skeleton(&text).find(|&c| !left.any(|it| it == c));
    assert!(lost.is_none() || names_by_constant(&text), "lost {lost:?} from {text:?} in {sent:?}");
    let again = read(&sent).unwrap_or_else(|| panic!("over a limit once masked: {sent:?}"));
    lawful(&again.statements, &sent);
    assert_eq!(again.statements.len(), analyzed.statements.len(), "{sent:?}");
    for (before, after) in analyzed.statements.iter().zip(&again.statements) {
        assert_eq!((before.level, before.kind), (after.level, after.kind), "{text:?}: {sent:?}");
        assert_eq!(before.objects, after.objects, "{text:?}: {sent:?}");
    }
    for (before, after) in analyzed.statements.iter().zip(&again.statements) {
        // A NULL in its place: no output column holds the column any more, except what an earlier statement stored.
        let bare = after.projection.iter().flat_map(|it| &it.sources).find(|it| masked.contains_key(*it));
        assert!(bare.is_none() || before.level != Level::Understood, "{bare:?}: {text:?}: {sent:?}");
    }
}

fuzz_target!(any_text_is_answered_lawfully, 2500, calm);
fuzz_target!(statements_are_counted_alike, 1500, counted);
fuzz_target!(rewriting_takes_nothing_away, 2500, rewritten);
