//! Identifiers to normalised names, completed from the session.

use icegate_pdp_model::{ObjectName, RelationName, SessionContext};
use sqlparser::ast::{self, Expr, FunctionArg, FunctionArgExpr, Ident, ObjectNamePart, ObjectNamePartFunction, Value};

use crate::gate::{self, TokenKind};

/// The name an identifier means, or `None` when it is not a name: a literal, a variable, a stage.
pub(crate) fn fold(ident: &Ident) -> Option<String> {
    match ident.quote_style {
        // Unescaping is off, so a doubled quote is still doubled.
        Some('"') => Some(ident.value.replace("\"\"", "\"")),
        None if is_word(&ident.value) => Some(ident.value.to_ascii_uppercase()),
        None | Some(_) => None,
    }
}

fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$')
}

/// The identifiers of a plain dotted name; `None` when a part is computed.
pub(crate) fn idents(name: &ast::ObjectName) -> Option<Vec<&Ident>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Some(ident),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// Folded parts; in `db..t` the empty schema is `PUBLIC`. `IDENTIFIER` of a constant is the name in the constant.
pub(crate) fn parts(name: &ast::ObjectName) -> Option<Vec<String>> {
    if let [ObjectNamePart::Function(ObjectNamePartFunction { name, args })] = name.0.as_slice() {
        return if is_identifier(name) { constant(args) } else { None };
    }
    let idents = idents(name)?;
    let len = idents.len();
    idents
        .into_iter()
        .enumerate()
        .map(|(at, ident)| match fold(ident) {
            None if ident.value.is_empty() && ident.quote_style.is_none() && len == 3 && at == 1 => {
                Some("PUBLIC".into())
            }
            folded => folded,
        })
        .collect()
}

/// The word that makes a name of a text.
pub(crate) fn is_identifier(word: &Ident) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case("identifier")
}

/// The name that one constant argument holds.
pub(crate) fn constant(args: &[FunctionArg]) -> Option<Vec<String>> {
    match args {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => match &value.value {
            Value::SingleQuotedString(text) => dotted(text),
            _ => None,
        },
        _ => None,
    }
}

/// A name written in a text: words and quoted names between dots, nothing else. What an escape could change is no name.
pub(crate) fn dotted(text: &str) -> Option<Vec<String>> {
    if text.contains(['\\', '\'']) {
        return None;
    }
    let tokens = gate::tokens(text).ok()?;
    if tokens.iter().map(|token| token.text.len()).sum::<usize>() != text.len() {
        return None;
    }
    let mut parts = Vec::new();
    let mut due = true;
    for token in &tokens {
        match (token.kind, due) {
            (TokenKind::Word, true) if is_word(token.text) => parts.push(token.text.to_ascii_uppercase()),
            (TokenKind::Quoted, true) => {
                let inner = token.text.strip_prefix('"').and_then(|text| text.strip_suffix('"'))?;
                parts.push(inner.replace("\"\"", "\""));
            }
            (TokenKind::Symbol, false) if token.text == "." => {}
            (TokenKind::Symbol, true) if token.text == "." && parts.len() == 1 => {
                parts.push("PUBLIC".to_owned());
                continue;
            }
            _ => return None,
        }
        due = !due;
    }
    let empty_schema = text.contains("..");
    (!due && parts.len() <= 3 && (!empty_schema || parts.len() == 3)).then_some(parts)
}

/// A full relation name, completed from the session.
pub(crate) fn relation(name: &ast::ObjectName, session: &SessionContext) -> Option<RelationName> {
    match <[String; 3]>::try_from(in_schema(name, session)?) {
        Ok([database, schema, name]) => Some(RelationName { database, schema, name }),
        Err(_) => None,
    }
}

/// Database, schema and name of anything that lives in a schema.
pub(crate) fn in_schema(name: &ast::ObjectName, session: &SessionContext) -> Option<Vec<String>> {
    complete_in_schema(parts(name)?, session)
}

/// Database, schema and name from one to three folded parts.
pub(crate) fn complete_in_schema(parts: Vec<String>, session: &SessionContext) -> Option<Vec<String>> {
    match parts.len() {
        1 => Some([session.database.clone()?, session.schema.clone()?].into_iter().chain(parts).collect()),
        2 => Some(std::iter::once(session.database.clone()?).chain(parts).collect()),
        3 => Some(parts),
        _ => None,
    }
}

/// Database and schema.
pub(crate) fn schema(name: &ast::ObjectName, session: &SessionContext) -> Option<ObjectName> {
    let parts = parts(name)?;
    match parts.len() {
        1 => Some(ObjectName::new(std::iter::once(session.database.clone()?).chain(parts))),
        2 => Some(ObjectName::new(parts)),
        _ => None,
    }
}

/// A name of exactly one part: databases, warehouses, roles, users.
pub(crate) fn single(name: &ast::ObjectName) -> Option<ObjectName> {
    let parts = parts(name)?;
    (parts.len() == 1).then(|| ObjectName::new(parts))
}
