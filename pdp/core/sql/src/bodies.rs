//! SQL inside SQL: bodies of what is made, conditions, blocks, EXECUTE IMMEDIATE of a constant.
//!
//! Each is read by the same machinery as a statement of its own, and what it does belongs to the statement around it:
//! now for what runs now (a block, EXECUTE IMMEDIATE, an anonymous procedure), later and by others for what is stored (a
//! task, pipe, alert, view, policy, procedure, function). The objects are listed with their effects either way.
//! No mask can stand in a body: its text is not rewritten.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use icegate_pdp_model::{ObjectKind, RelationName, SessionContext};
use sqlparser::ast::{Expr, Query, Select, SelectItem, SetExpr, Statement};

use crate::{
    analyze::follow,
    columns::Columns,
    gate::{self, Piece, Token, TokenKind},
    heads::{self, Body, Head, Param},
    parse::{self, Unparsed},
    reader::{Lineage, Output, OutputColumn, Read, Reader, Request, Stop, stop},
    scope::{Ctes, Scope},
    scripting,
    stack::{OPERATORS_MAX, on_enough_stack},
    statement::{After, Draft},
};

/// Deepest bodies within bodies.
const BODIES_DEPTH_MAX: usize = 8;
/// Most statements in the bodies of one statement, those of loops counted twice.
const BODY_STATEMENTS_MAX: usize = 1000;

/// How far into bodies the reading is.
#[derive(Debug, Default)]
pub(crate) struct Depth {
    bodies: usize,
    statements: usize,
    /// In a block, where `:x` is a variable.
    pub(crate) scripting: bool,
}

impl<'r> Reader<'_, 'r> {
    /// Reads a body, and says where data leaves to. Bare names in what is stored may be looked for where it is stored or
    /// in the session, so both are read.
    pub(crate) fn embedded(
        &mut self,
        body: Body,
        text: &str,
        params: &[Param],
        home: Option<&[String]>,
    ) -> Result<Vec<String>, String> {
        let session = self.session.clone();
        let mut homes = Vec::with_capacity(2);
        if session.database.is_some() && session.schema.is_some() || body == Body::Run {
            homes.push(session.clone());
        }
        if let Some([database, schema, _]) = home {
            let stored =
                SessionContext { database: Some(database.clone()), schema: Some(schema.clone()), ..session.clone() };
            if body != Body::Run && !homes.contains(&stored) {
                homes.push(stored);
            }
        }
        if homes.is_empty() {
            homes.push(session.clone());
        }
        let mut exports = Vec::new();
        for home in homes {
            self.session = home;
            let stored = body != Body::Run;
            let request = stored.then(|| self.request.clone());
            let read = self.within(|reader| reader.body_here(body, text, params));
            if stored {
                self.session = session.clone();
            }
            if let Some(request) = request {
                self.request = request;
            }
            exports.extend(read.map_err(|Stop(why)| why)?);
        }
        Ok(exports)
    }

    /// Reads an expression of a head; with `own`, bare names may be columns of what the statement is about.
    pub(crate) fn fragment(&mut self, text: &str, own: bool) -> Result<Vec<String>, String> {
        let own = own || self.bodies.scripting;
        self.within(|reader| reader.expression_text(text, own, &[])).map_err(|Stop(why)| why)
    }

    /// Reads a block, and says where data leaves to.
    pub(crate) fn block(&mut self, piece: &Piece<'_>) -> Result<Vec<String>, String> {
        self.within(|reader| {
            let outer = std::mem::replace(&mut reader.bodies.scripting, true);
            let read = scripting::Script::new(piece).run(reader);
            reader.bodies.scripting = outer;
            read
        })
        .map_err(|Stop(why)| why)
    }

    /// Reads one level deeper, where nothing has a place in the text and nothing is masked.
    fn within<T>(&mut self, work: impl FnOnce(&mut Self) -> Read<T>) -> Read<T> {
        if self.bodies.bodies == BODIES_DEPTH_MAX {
            return stop(format!("bodies are nested deeper than {BODIES_DEPTH_MAX} levels"));
        }
        self.bodies.bodies += 1;
        let places = self.places.take();
        let read = self.attempt(work);
        self.places = places;
        self.bodies.bodies -= 1;
        // INVARIANT: in a body nothing is masked where it was stored earlier in the same body.
        self.through_made = Columns::new();
        read
    }

    fn body_here(&mut self, body: Body, text: &str, params: &[Param]) -> Read<Vec<String>> {
        let pieces = pieces(text)?;
        on_enough_stack(&pieces, || match (body, pieces.as_slice()) {
            (Body::Query, [piece]) => self.stored_query(piece, params),
            (Body::Function, [piece]) => match self.attempt(|reader| reader.stored_query(piece, params)) {
                Ok(exports) => Ok(exports),
                Err(Stop(_)) => self.expression_text(text, false, params),
            },
            (Body::Policy, [_]) => self.expression_text(text, false, params),
            (Body::Action | Body::Code | Body::Run, [piece]) => {
                let outer = self.bodies.scripting;
                self.bodies.scripting |= body == Body::Code;
                let read = self.inner(piece);
                self.bodies.scripting = outer;
                read
            }
            _ => stop("it is not one statement"),
        })
        .unwrap_or_else(|| stop("no memory to read it"))
    }

    /// One statement of a body: where data leaves to.
    pub(crate) fn inner(&mut self, piece: &Piece<'_>) -> Read<Vec<String>> {
        self.bodies.statements += 1;
        if self.bodies.statements > BODY_STATEMENTS_MAX {
            return stop(format!("there are more than {BODY_STATEMENTS_MAX} statements in it"));
        }
        if scripting::opens(&piece.tokens) {
            return self.block(piece).map_err(Stop);
        }
        let why = match self.attempt(|reader| reader.parsed(piece)) {
            Ok(Draft { exports, after, .. }) => {
                for after in after {
                    follow(after, self.world(), &mut self.session, self.request.to_mut());
                }
                return Ok(exports);
            }
            Err(Stop(why)) => why,
        };
        let before = self.touched_so_far();
        let head = self.attempt(|reader| match heads::classify(piece, reader) {
            Ok(head) => Ok(head),
            Err(better) => stop(better.unwrap_or(why)),
        })?;
        let Head { kind: _, exports, unmaskable: _, opaque: _, bodies: _, temporary: _ } = head;
        self.follow_head(&before);
        Ok(exports)
    }

    fn parsed(&mut self, piece: &Piece<'_>) -> Read<Draft> {
        match parse::parse(piece, self.depth_max) {
            Ok(statement) => self.statement(&statement),
            Err(Unparsed::TooDeep) => stop("it is nested too deep"),
            Err(Unparsed::Because(why)) => stop(why),
        }
    }

    /// What a head changed is not followed: later statements of the body may not use it.
    fn follow_head(&mut self, before: &BTreeSet<(ObjectKind, Vec<String>)>) {
        let after = self.touched_so_far();
        for (kind, parts) in after.difference(before) {
            match (kind, parts.as_slice()) {
                (ObjectKind::Table | ObjectKind::View, [database, schema, name]) => {
                    let name = RelationName::new(database, schema, name);
                    follow(After::Unsure(name), self.world(), &mut self.session, self.request.to_mut());
                }
                (ObjectKind::Database | ObjectKind::Schema, parts) => {
                    follow(
                        After::UnsureContainer(parts.to_vec()),
                        self.world(),
                        &mut self.session,
                        self.request.to_mut(),
                    );
                    self.session.schema = None;
                    if *kind == ObjectKind::Database {
                        self.session.database = None;
                    }
                }
                _ => {}
            }
        }
    }

    /// A query that is stored, which sees the parameters of what stores it.
    fn stored_query(&mut self, piece: &Piece<'_>, params: &[Param]) -> Read<Vec<String>> {
        let query = match parse::parse(piece, self.depth_max) {
            Ok(Statement::Query(query)) => query,
            Ok(_) => return stop("it is not a query"),
            Err(Unparsed::TooDeep) => return stop("it is nested too deep"),
            Err(Unparsed::Because(why)) => return stop(why),
        };
        let scope = parameters(params);
        let mut ctes = Ctes::default();
        for Param { name, columns } in params {
            if let Some(columns) = columns {
                let column = |name: &String| OutputColumn { name: name.clone(), lineage: Lineage::none() };
                let output = Output { columns: columns.iter().map(column).collect(), ..Output::default() };
                ctes.push(name.clone(), Arc::new(output));
            }
        }
        let outer = (!params.is_empty()).then_some(&scope);
        self.query(&query, outer, &ctes)?;
        Ok(Vec::new())
    }

    /// An expression by its text; with `own`, every bare name in it may be a column or variable that is no relation's.
    pub(crate) fn expression_text(&mut self, text: &str, own: bool, params: &[Param]) -> Read<Vec<String>> {
        let tokens = gate::tokens(text).map_err(Stop)?;
        let sql = if own { without_fields(text, &tokens) } else { text.to_owned() };
        let sql = format!("SELECT {sql}");
        let pieces = pieces(&sql)?;
        let [piece] = pieces.as_slice() else { return stop("it is not one expression") };
        let expression = match parse::parse(piece, self.depth_max) {
            Ok(Statement::Query(query)) => expression(*query)?,
            Ok(_) => return stop("it is not an expression"),
            Err(Unparsed::TooDeep) => return stop("it is nested too deep"),
            Err(Unparsed::Because(why)) => return stop(why),
        };
        let mut scope = parameters(params);
        if own {
            for token in &tokens {
                let name = match token.kind {
                    TokenKind::Word => token.text.to_ascii_uppercase(),
                    TokenKind::Quoted => token.text.trim_matches('"').replace("\"\"", "\""),
                    _ => continue,
                };
                scope.aliases.push((name, Lineage::none()));
            }
        }
        self.expr(&expression, &scope, &Ctes::default())?;
        Ok(Vec::new())
    }

    /// Runs a part whose changes to names may not happen: what it changed is not sure behind it. Says whether it did.
    pub(crate) fn perhaps(&mut self, work: impl FnOnce(&mut Self) -> Read<()>) -> Read<bool> {
        let before = self.names();
        work(self)?;
        self.unsure_since(&before)
    }

    /// What names mean now.
    pub(crate) fn names(&self) -> (SessionContext, Names<'r>) {
        (self.session.clone(), self.request.clone())
    }

    /// Makes unsure what names changed since; says whether any did.
    pub(crate) fn unsure_since(&mut self, (session, request): &(SessionContext, Names<'r>)) -> Read<bool> {
        if self.session != *session {
            return stop("a part that may not run changes what names mean");
        }
        let made = &self.request.made;
        let changed: Vec<RelationName> = made
            .iter()
            .filter(|&(name, now)| request.made.get(name) != Some(now))
            .map(|(name, _)| name.clone())
            .collect();
        let any = !changed.is_empty() || self.request.unsure != request.unsure;
        for name in changed {
            follow(After::Unsure(name), self.world(), &mut self.session, self.request.to_mut());
        }
        Ok(any)
    }
}

/// The request as bodies change it.
pub(crate) type Names<'r> = Cow<'r, Request>;

fn parameters(params: &[Param]) -> Scope<'static> {
    let mut scope = Scope::default();
    for Param { name, columns: _ } in params {
        scope.aliases.push((name.clone(), Lineage::none()));
    }
    scope
}

/// The statements of a body's text.
pub(crate) fn pieces(text: &str) -> Read<Vec<Piece<'_>>> {
    let pieces = scripting::group(text, gate::split(text).map_err(Stop)?);
    let operators = pieces.iter().map(|piece| piece.operators).max().unwrap_or_default();
    if operators > OPERATORS_MAX { stop(format!("it has more than {OPERATORS_MAX} operators")) } else { Ok(pieces) }
}

/// `record.field` becomes `record`: a variable as a whole stands for what is in it.
fn without_fields(text: &str, tokens: &[Token<'_>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    let mut at = 0;
    let mut depth = Vec::new();
    while let Some(token) = tokens.get(at) {
        let next = |ahead: usize| tokens.get(at + ahead).map_or("", |token| token.text);
        match token.text {
            // In a query of its own dots are what they are everywhere.
            "(" => depth.push(["SELECT", "WITH"].iter().any(|word| next(1).eq_ignore_ascii_case(word))),
            ")" => drop(depth.pop()),
            _ => {}
        }
        let query = depth.contains(&true);
        let field = !query && token.kind == TokenKind::Word && next(1) == "." && next(3) != "." && next(3) != "(";
        if field && !next(2).eq_ignore_ascii_case("NEXTVAL") {
            let end = token.end();
            out.push_str(text.get(from..end).unwrap_or_default());
            from = tokens.get(at + 2).map_or(end, Token::end);
            at += 3;
        } else {
            at += 1;
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out
}

/// The one expression of `SELECT expression`.
fn expression(query: Query) -> Read<Expr> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.locks.is_empty()
        && query.for_clause.is_none();
    let SetExpr::Select(select) = *query.body else { return stop("it is not an expression") };
    let Select { projection, from, selection, into, having, qualify, distinct, top, .. } = *select;
    let bare = from.is_empty() && selection.is_none() && into.is_none() && having.is_none();
    let bare = bare && qualify.is_none() && distinct.is_none() && top.is_none();
    let mut projection = projection;
    match (projection.pop(), projection.is_empty(), plain && bare) {
        (Some(SelectItem::UnnamedExpr(expression)), true, true) => Ok(expression),
        _ => stop("it is not one expression"),
    }
}

#[cfg(test)]
mod tests {
    use super::without_fields;
    use crate::gate;

    #[test]
    fn fields_of_variables_are_the_variables() {
        for (text, without) in [
            ("a.b + 1", "a + 1"),
            ("f(rec.x, rec.y)", "f(rec, rec)"),
            ("db.s.f(1)", "db.s.f(1)"),
            ("(SELECT t.x FROM t)", "(SELECT t.x FROM t)"),
            ("seq.nextval", "seq.nextval"),
        ] {
            assert_eq!(without_fields(text, &gate::tokens(text).unwrap()), without);
        }
    }
}
