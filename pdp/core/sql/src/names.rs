//! Identifiers to normalised names, completed from the session.

use icegate_pdp_model::{ObjectName, RelationName, SessionContext};
use sqlparser::ast::{self, Ident, ObjectNamePart};

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

/// Folded parts; in `db..t` the empty schema is `PUBLIC`.
pub(crate) fn parts(name: &ast::ObjectName) -> Option<Vec<String>> {
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
