//! Which rows of a relation: Cedar's conditions on a row, computed as far as they do not depend on it.
//!
//! Every part of a condition without a row in it is evaluated by Cedar itself. What is left compares attributes of the row,
//! each a column, with constants: a [`Predicate`]. What is no predicate is refused when the bundle is loaded.

use std::{
    collections::{BTreeSet, HashSet},
    str::FromStr,
};

use cedar_policy::{
    ActionConstraint, EntityUid, EvalResult, Expression, Policy, Request, ResourceConstraint, eval_expression,
    pst::{BinaryOp, Clause, Expr, Literal, PatternElem, UnaryOp, Var},
};
use icegate_pdp_model::{
    AttributeType, CatalogRelation, Comparison, Operand, PatternPart, Predicate, RelationName, RowFilter, RowValue,
};

use super::ask::Asking;
use crate::{
    annotation::Turn,
    compile::Compiled,
    facts::{Resource, Unaskable},
    vocabulary::{Action, Type, Vocabulary},
};

/// What the policies say of a relation's rows.
#[derive(Debug)]
pub(super) enum Rows {
    /// No policy filters them.
    All,
    /// Only these.
    Some(RowFilter),
    /// These policies could not be evaluated for any row.
    Erred(Vec<String>),
}

/// Which relations some policy filters.
#[derive(Debug, Clone, Default)]
pub(crate) struct RowScopes {
    /// Relations, schemas, databases, connections and tags that a policy about `read_row` names in its scope.
    named: HashSet<EntityUid>,
    /// Of each that names none: the row attributes it speaks of. It is about relations that have them all.
    unnamed: Vec<BTreeSet<String>>,
}

impl RowScopes {
    pub(crate) fn of(policies: &[Compiled], vocabulary: &Vocabulary) -> Self {
        let mut scopes = Self::default();
        for policy in policies.iter().map(|compiled| &compiled.policy) {
            if !is_about_rows(policy, vocabulary) {
                continue;
            }
            match policy.resource_constraint() {
                ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) | ResourceConstraint::Eq(uid) => {
                    scopes.named.insert(uid);
                }
                ResourceConstraint::Any | ResourceConstraint::Is(_) => scopes.unnamed.push(attributes(policy)),
            }
        }
        scopes
    }

    /// Whether any policy filters the rows of this relation, for whomever.
    fn meet(&self, resource: &Resource, relation: &CatalogRelation) -> bool {
        resource.ancestors.iter().any(|uid| self.named.contains(uid))
            || self.unnamed.iter().any(|wanted| has_all(relation, wanted))
    }
}

/// A relation without row attributes has none to ask for, whatever is asked.
fn has_all(relation: &CatalogRelation, wanted: &BTreeSet<String>) -> bool {
    !relation.row_attributes.is_empty() && wanted.iter().all(|name| relation.row_attributes.contains_key(name))
}

/// Whether `read_row` stands in the policy's scope.
pub(crate) fn is_about_rows(policy: &Policy, vocabulary: &Vocabulary) -> bool {
    let wanted = vocabulary.action(Action::ReadRow);
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => action == *wanted,
        ActionConstraint::In(actions) => actions.contains(wanted),
    }
}

/// Why the condition of a policy about rows cannot become a condition of a query; `None` when it can.
pub(crate) fn misfit(policy: &Policy) -> Option<String> {
    let Ok(pst) = policy.to_pst() else { return Some("it cannot be read".to_owned()) };
    let reading = Reading { relation: None, known: None };
    pst.body().clauses().iter().find_map(|clause| {
        let (Clause::When(condition) | Clause::Unless(condition)) = clause;
        match reading.condition(condition) {
            Ok(_) => None,
            Err(Stop::Shape(why)) => Some(why),
            Err(Stop::Erred) => Some("it cannot be evaluated".to_owned()),
        }
    })
}

/// The row attributes a policy speaks of.
pub(crate) fn attributes(policy: &Policy) -> BTreeSet<String> {
    fn gather(expr: &Expr, into: &mut BTreeSet<String>) {
        match expr {
            Expr::GetAttr { expr, attr } if is_row(expr) => drop(into.insert(attr.to_string())),
            Expr::HasAttr { expr, attrs } if is_row(expr) => drop(into.insert(attrs.head.to_string())),
            _ => parts(expr).into_iter().flatten().for_each(|part| gather(part, into)),
        }
    }
    let mut found = BTreeSet::new();
    if let Ok(pst) = policy.to_pst() {
        for clause in pst.body().clauses() {
            let (Clause::When(condition) | Clause::Unless(condition)) = clause;
            gather(condition, &mut found);
        }
    }
    found
}

impl Asking<'_> {
    /// What the policies say of this relation's rows.
    pub(super) fn rows(&self, name: &RelationName, resource: &Resource) -> Result<Rows, Unaskable> {
        let bundle = self.bundle;
        let Some(relation) = bundle.catalog().relation(name) else { return Ok(Rows::All) };
        if !bundle.row_scopes.meet(resource, relation) {
            return Ok(Rows::All);
        }
        let keys = bundle.index.resource_keys(Type::Row, &resource.uid, &resource.ancestors);
        let candidates = bundle.index.candidates(Action::ReadRow, &self.keys, &keys);
        let action = bundle.vocabulary.action(Action::ReadRow).clone();
        let request = Request::new(self.principal.clone(), action, resource.uid.clone(), self.context.clone(), None)
            .map_err(|_| Unaskable)?;
        let known = |expr: &Expr| {
            let expression = Expression::from_str(&expr.to_string()).map_err(|_| Stop::shape("a part of it"))?;
            eval_expression(&request, &self.entities, &expression).map_err(|_| Stop::Erred)
        };
        let reading = Reading { relation: Some(relation), known: Some(&known) };
        let mut filter =
            RowFilter { relation: name.clone(), permits: Vec::new(), forbids: Vec::new(), policies: BTreeSet::new() };
        let (mut erred, mut closed) = (Vec::new(), BTreeSet::new());
        for policy in candidates.into_iter().filter_map(|number| bundle.policy(number)) {
            let about = is_about_rows(&policy.policy, &bundle.vocabulary);
            if about && is_unnamed(&policy.policy) && !has_all(relation, &attributes(&policy.policy)) {
                continue;
            }
            let list = match policy.turn {
                Turn::Permit => &mut filter.permits,
                Turn::Forbid => &mut filter.forbids,
                // They are refused for rows; one about any action has been asked about the statement.
                Turn::Approval(_) | Turn::Mask(_) => continue,
            };
            match reading.policy(&policy.policy) {
                Ok(Predicate::Known(Some(false))) => {
                    if about {
                        closed.insert(policy.id.clone());
                    }
                }
                Ok(Predicate::Known(None)) | Err(_) => erred.push(policy.id.clone()),
                Ok(predicate) => {
                    list.push(predicate);
                    filter.policies.insert(policy.id.clone());
                }
            }
        }
        if !erred.is_empty() {
            return Ok(Rows::Erred(erred));
        }
        let always = &Predicate::Known(Some(true));
        if filter.forbids.contains(always) {
            filter.permits.clear();
        }
        if filter.permits.contains(always) {
            filter.permits = vec![always.clone()];
        }
        if filter.permits.is_empty() {
            filter.forbids.clear();
        }
        if filter.policies.is_empty() {
            filter.policies = closed;
        }
        Ok(if filter.shows_all() { Rows::All } else { Rows::Some(filter) })
    }
}

fn is_unnamed(policy: &Policy) -> bool {
    matches!(policy.resource_constraint(), ResourceConstraint::Any | ResourceConstraint::Is(_))
}

/// Why a condition did not become a predicate.
#[derive(Debug)]
enum Stop {
    /// Its form; what is in the way.
    Shape(String),
    /// Evaluating it fails, whatever the row.
    Erred,
}

impl Stop {
    fn shape(what: &str) -> Self {
        Self::Shape(format!("{what} cannot be a condition on rows"))
    }
}

/// Cedar's answer to an expression without a row in it.
type Known<'a> = &'a dyn Fn(&Expr) -> Result<EvalResult, Stop>;

/// Turns conditions into predicates. Without a relation and an evaluator only the form is looked at.
struct Reading<'a> {
    relation: Option<&'a CatalogRelation>,
    known: Option<Known<'a>>,
}

impl Reading<'_> {
    fn policy(&self, policy: &Policy) -> Result<Predicate, Stop> {
        let pst = policy.to_pst().map_err(|_| Stop::shape("it"))?;
        let clauses = pst.body().clauses().iter().map(|clause| match clause {
            Clause::When(condition) => self.condition(condition),
            Clause::Unless(condition) => self.condition(condition).map(not),
        });
        let clauses: Vec<_> = clauses.collect::<Result<_, _>>()?;
        // One clause that is surely false settles it, also when Cedar would fail on another first: the policy then applies
        // to no row either way. So `unless { principal in … }` lifts a forbid for rows that lack the attribute, too.
        if let Some(settled) = clauses.iter().find(|clause| **clause == Predicate::Known(Some(false))) {
            return Ok(settled.clone());
        }
        let whole = clauses.into_iter().fold(Predicate::Known(Some(true)), and);
        Ok(whole)
    }

    /// A part that yields a boolean. A part whose evaluation fails is a predicate that cannot be computed: what stands
    /// before it may keep Cedar from reaching it.
    fn condition(&self, expr: &Expr) -> Result<Predicate, Stop> {
        match self.boolean(expr) {
            Err(Stop::Erred) => Ok(Predicate::Known(None)),
            other => other,
        }
    }

    fn boolean(&self, expr: &Expr) -> Result<Predicate, Stop> {
        if !meets_row(expr)? {
            check_bare(expr)?;
            return match self.known {
                // Only the form matters: not known, so that no part is left out.
                None => Ok(Predicate::Column(String::new())),
                Some(known) => match known(expr)? {
                    EvalResult::Bool(value) => Ok(Predicate::Known(Some(value))),
                    _ => Err(Stop::Erred),
                },
            };
        }
        match expr {
            Expr::GetAttr { expr, attr } if is_row(expr) => Ok(Predicate::Column(self.column(attr)?.0)),
            Expr::HasAttr { expr, attrs } if is_row(expr) && attrs.tail.is_empty() => match self.column(&attrs.head) {
                Ok((column, _)) => Ok(Predicate::Has(column)),
                Err(_) => Ok(Predicate::Known(Some(false))),
            },
            Expr::UnaryOp { op: UnaryOp::Not, expr } => Ok(not(self.condition(expr)?)),
            Expr::BinaryOp { op: BinaryOp::And, left, right } => {
                let left = self.condition(left)?;
                // What Cedar does not reach need not have a form.
                if left == Predicate::Known(Some(false)) {
                    return Ok(left);
                }
                Ok(and(left, self.condition(right)?))
            }
            Expr::BinaryOp { op: BinaryOp::Or, left, right } => {
                let left = self.condition(left)?;
                if left == Predicate::Known(Some(true)) {
                    return Ok(left);
                }
                Ok(or(left, self.condition(right)?))
            }
            Expr::BinaryOp { op: BinaryOp::Contains, left, right } => self.one_of(left, right),
            Expr::BinaryOp { op, left, right } => {
                let comparison = match op {
                    BinaryOp::Eq => Comparison::Equal,
                    BinaryOp::NotEq => Comparison::NotEqual,
                    BinaryOp::Less | BinaryOp::DecimalLessThan => Comparison::Less,
                    BinaryOp::LessEq | BinaryOp::DecimalLessEq => Comparison::LessOrEqual,
                    BinaryOp::Greater | BinaryOp::DecimalGreater => Comparison::Greater,
                    BinaryOp::GreaterEq | BinaryOp::DecimalGreaterEq => Comparison::GreaterOrEqual,
                    _ => return Err(Stop::Shape(format!("`{expr}` cannot be a condition on rows"))),
                };
                Ok(Predicate::Compare { left: self.operand(left)?, comparison, right: self.operand(right)? })
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => match self.condition(cond)? {
                Predicate::Known(Some(true)) => self.condition(then_expr),
                Predicate::Known(Some(false)) => self.condition(else_expr),
                Predicate::Known(None) => Err(Stop::Erred),
                condition => {
                    let (yes, no) = (self.condition(then_expr)?, self.condition(else_expr)?);
                    Ok(Predicate::If(Box::new(condition), Box::new(yes), Box::new(no)))
                }
            },
            Expr::Like { expr: text, pattern } => match text.as_ref() {
                Expr::GetAttr { expr, attr } if is_row(expr) => {
                    let part = |part: &PatternElem| match part {
                        PatternElem::Char(c) => PatternPart::Char(*c),
                        PatternElem::Wildcard => PatternPart::Any,
                    };
                    let pattern = pattern.iter().map(part).collect();
                    Ok(Predicate::Like { column: self.column(attr)?.0, pattern })
                }
                _ => Err(Stop::Shape(format!("`{expr}` cannot be a condition on rows"))),
            },
            _ => Err(Stop::Shape(format!("`{expr}` cannot be a condition on rows"))),
        }
    }

    /// `[…].contains(resource.x)`
    fn one_of(&self, set: &Expr, element: &Expr) -> Result<Predicate, Stop> {
        let Expr::GetAttr { expr, attr } = element else {
            return Err(Stop::shape("a set that holds something else than one attribute of the row"));
        };
        if !is_row(expr) || meets_row(set)? {
            return Err(Stop::shape("a set of a row's attributes"));
        }
        let (column, kind) = self.column(attr)?;
        check_bare(set)?;
        let Some(known) = self.known else { return Ok(Predicate::Has(column)) };
        let EvalResult::Set(set) = known(set)? else { return Err(Stop::Erred) };
        let values: BTreeSet<RowValue> =
            set.iter().filter_map(constant).filter(|value| kind.is_none_or(|kind| is_of(value, kind))).collect();
        if values.len() != set.len() {
            return Err(Stop::shape("a set of values of another type"));
        }
        Ok(Predicate::OneOf { column, values })
    }

    fn operand(&self, expr: &Expr) -> Result<Operand, Stop> {
        match expr {
            Expr::GetAttr { expr, attr } if is_row(expr) => Ok(Operand::Column(self.column(attr)?.0)),
            Expr::UnaryOp { op: UnaryOp::Decimal, expr: text } => match text.as_ref() {
                Expr::Literal(Literal::String(text)) => {
                    ten_thousandths(text).map(RowValue::Decimal).map(Operand::Value).ok_or(Stop::Erred)
                }
                _ => Err(Stop::shape("a decimal that is not written out")),
            },
            Expr::UnaryOp { op: UnaryOp::Datetime, expr: text } => match text.as_ref() {
                Expr::Literal(Literal::String(text)) => moment(text)
                    .map(|moment| Operand::Value(RowValue::Moment(moment)))
                    .ok_or_else(|| Stop::shape("a datetime with an offset, or one that is none,")),
                _ => Err(Stop::shape("a datetime that is not written out")),
            },
            _ if meets_row(expr)? => Err(Stop::Shape(format!("`{expr}` cannot be computed for rows"))),
            _ => {
                check_bare(expr)?;
                let Some(known) = self.known else { return Ok(Operand::Value(RowValue::Bool(true))) };
                constant(&known(expr)?).map(Operand::Value).ok_or_else(|| Stop::shape("a value of this type"))
            }
        }
    }

    /// The column of a row attribute. A relation that does not declare it never has it.
    fn column(&self, attribute: &str) -> Result<(String, Option<AttributeType>), Stop> {
        let Some(relation) = self.relation else { return Ok((attribute.to_owned(), None)) };
        let (column, kind) = relation.row_attribute(attribute).ok_or(Stop::Erred)?;
        Ok((column.to_owned(), Some(kind)))
    }
}

/// The row itself may only be asked what it is in: it has no id of its own.
fn check_bare(expr: &Expr) -> Result<(), Stop> {
    match expr {
        Expr::Var(Var::Resource) => Err(Stop::shape("the row as a whole")),
        Expr::BinaryOp { op: BinaryOp::In, left, right } if is_row(left) => check_bare(right),
        Expr::Is { expr, in_expr, .. } if is_row(expr) => in_expr.as_deref().map_or(Ok(()), check_bare),
        _ => parts(expr).into_iter().flatten().try_for_each(check_bare),
    }
}

fn is_row(expr: &Expr) -> bool {
    matches!(expr, Expr::Var(Var::Resource))
}

/// Whether an attribute of the row is asked for.
fn meets_row(expr: &Expr) -> Result<bool, Stop> {
    match expr {
        Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } if is_row(expr) => Ok(true),
        Expr::BinaryOp { op: BinaryOp::HasTag | BinaryOp::GetTag, .. } => Err(Stop::shape("a tag of an entity")),
        _ => {
            let parts = parts(expr).ok_or_else(|| Stop::Shape(format!("`{expr}` is not understood")))?;
            parts.into_iter().try_fold(false, |any, part| Ok(meets_row(part)? || any))
        }
    }
}

/// What an expression is made of; `None` for what this version does not know.
fn parts(expr: &Expr) -> Option<Vec<&Expr>> {
    Some(match expr {
        Expr::Literal(_) | Expr::Var(_) => Vec::new(),
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => vec![expr],
        Expr::BinaryOp { left, right, .. } => vec![left, right],
        Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).map(AsRef::as_ref).collect(),
        Expr::IfThenElse { cond, then_expr, else_expr } => vec![cond, then_expr, else_expr],
        Expr::Set(elements) => elements.iter().map(AsRef::as_ref).collect(),
        Expr::Record(fields) => fields.values().map(AsRef::as_ref).collect(),
        _ => return None,
    })
}

fn constant(value: &EvalResult) -> Option<RowValue> {
    match value {
        EvalResult::Bool(value) => Some(RowValue::Bool(*value)),
        EvalResult::Long(value) => Some(RowValue::Long(*value)),
        EvalResult::String(value) => Some(RowValue::Text(value.clone())),
        EvalResult::EntityUid(_) | EvalResult::Set(_) | EvalResult::Record(_) | EvalResult::ExtensionValue(_) => None,
    }
}

fn is_of(value: &RowValue, kind: AttributeType) -> bool {
    matches!(
        (value, kind),
        (RowValue::Bool(_), AttributeType::Bool)
            | (RowValue::Long(_), AttributeType::Long)
            | (RowValue::Text(_), AttributeType::String)
    )
}

fn not(predicate: Predicate) -> Predicate {
    match predicate {
        Predicate::Known(known) => Predicate::Known(known.map(|known| !known)),
        Predicate::Not(inner) => *inner,
        other => Predicate::Not(Box::new(other)),
    }
}

fn and(left: Predicate, right: Predicate) -> Predicate {
    match (left, right) {
        (known @ Predicate::Known(Some(false) | None), _) => known,
        (Predicate::Known(Some(true)), other) | (other, Predicate::Known(Some(true))) => other,
        (left, right) => Predicate::And(Box::new(left), Box::new(right)),
    }
}

fn or(left: Predicate, right: Predicate) -> Predicate {
    match (left, right) {
        (known @ Predicate::Known(Some(true) | None), _) => known,
        (Predicate::Known(Some(false)), other) | (other, Predicate::Known(Some(false))) => other,
        (left, right) => Predicate::Or(Box::new(left), Box::new(right)),
    }
}

/// Cedar's decimals: an optional minus, digits, a point, one to four digits.
fn ten_thousandths(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole.strip_prefix('-').unwrap_or(whole)) || !digits(fraction) || fraction.len() > 4 {
        return None;
    }
    format!("{whole}{fraction:0<4}").parse().ok()
}

/// Cedar's datetimes in UTC: a date, or a date and a time with `Z`.
fn moment(text: &str) -> Option<String> {
    let (date, time) = match text.split_once('T') {
        None => (text, "00:00:00.000".to_owned()),
        Some((date, time)) => {
            let time = time.strip_suffix('Z')?;
            let (seconds, fraction) = time.split_once('.').unwrap_or((time, "000"));
            (date, format!("{seconds}.{fraction}"))
        }
    };
    let shaped = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(c, s)| if s == b'0' { c.is_ascii_digit() } else { c == s })
    };
    (shaped(date, "0000-00-00") && shaped(&time, "00:00:00.000")).then(|| format!("{date} {time}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

    use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

    use cedar_policy::{Decision, Entities, Entity, PolicySet, Request, RestrictedExpression};
    use icegate_pdp_model::{
        Catalog, Facts, Kind, Level, Outcome, Principal, RowValue, SessionContext, StatementAnalysis, Verb,
    };
    use proptest::prelude::*;

    use super::{moment, ten_thousandths};
    use crate::{
        annotation::Turn,
        compile::Bundle,
        evaluate::{Asked, ask::Selection, evaluate},
        facts::{About, statement_context},
        vocabulary::{Action, Type},
    };

    const CATALOG: &str = "
databases: { d: { s: { t: {
  rows: { a: a, n: n, f: f },
  columns: { a: { type: VARCHAR }, n: { type: INT }, f: { type: BOOLEAN } }
} } } }
";
    const ALL: &str = r#"permit (principal, action in [Icegate::Action::"run", Icegate::Action::"read"], resource);"#;

    /// Conditions of every form that can be one on rows, and parts that do not speak of the row, one of which errs.
    fn condition() -> impl Strategy<Value = String> {
        let part = prop::sample::select(vec![
            r#"resource.a == "x""#,
            r#""y" != resource.a"#,
            r#"resource.a like "*'_%*""#,
            r#"["x", "", "it's _%"].contains(resource.a)"#,
            r"[].contains(resource.a)",
            "resource.n < 5",
            "5 <= resource.n",
            "resource.n == resource.n",
            "resource.f",
            "resource.f != true",
            "resource has a",
            "resource has n",
            "resource has elsewhere",
            r#"principal in Icegate::Group::"g""#,
            r#"principal in Icegate::Group::"h""#,
            r#"resource in Icegate::Schema::"D.S""#,
            "resource is Icegate::Relation",
            "context.statement.bytes == 10",
            "context.statement.bytes * 9223372036854775807 > 0",
            "resource.elsewhere == 1",
        ]);
        part.prop_map(str::to_owned).prop_recursive(4, 12, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|a| format!("!({a})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) || ({b})")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("if ({a}) then ({b}) else ({c})")),
            ]
        })
    }

    fn policies() -> impl Strategy<Value = Vec<(String, Turn)>> {
        let policy = (any::<bool>(), any::<bool>(), condition()).prop_map(|(permit, when, condition)| {
            let (effect, turn) = if permit { ("permit", Turn::Permit) } else { ("forbid", Turn::Forbid) };
            let clause = if when { "when" } else { "unless" };
            let action = r#"action == Icegate::Action::"read_row""#;
            let scope = r#"resource in Icegate::Relation::"D.S.T""#;
            (format!("{effect} (principal, {action}, {scope}) {clause} {{ {condition} }};"), turn)
        });
        prop::collection::vec(policy, 1..4)
    }

    type Row = HashMap<String, RowValue>;

    fn rows() -> Vec<Row> {
        let texts = [None, Some("x"), Some("it's _%"), Some("")].map(|text| text.map(|it| RowValue::Text(it.into())));
        let numbers = [None, Some(4), Some(5)].map(|number| number.map(RowValue::Long));
        let flags = [None, Some(true), Some(false)].map(|flag| flag.map(RowValue::Bool));
        let mut rows = Vec::new();
        for a in &texts {
            for n in &numbers {
                for f in &flags {
                    let named = [("A", a), ("N", n), ("F", f)];
                    rows.push(named.into_iter().filter_map(|(k, v)| Some((k.to_owned(), v.clone()?))).collect());
                }
            }
        }
        rows
    }

    /// Whether Cedar, given the row as an entity, allows it and no forbid errs.
    fn cedar_shows(bundle: &Bundle, principal: &Principal, statement: &StatementAnalysis, row: &Row) -> bool {
        let mut slice = bundle.slice();
        let (user, _) = slice.principal(principal, &BTreeMap::new()).unwrap();
        let resource = slice.row(&"D.S.T".parse().unwrap()).unwrap();
        let context = statement_context(
            principal,
            &SessionContext::default(),
            About::Statement(statement, 1),
            &BTreeSet::new(),
            bundle.catalog(),
        );
        let attributes = row.iter().map(|(name, value)| {
            let value = match value {
                RowValue::Bool(value) => RestrictedExpression::new_bool(*value),
                RowValue::Long(value) => RestrictedExpression::new_long(*value),
                RowValue::Text(value) => RestrictedExpression::new_string(value.clone()),
                RowValue::Decimal(_) | RowValue::Moment(_) => unreachable!(),
            };
            (name.to_lowercase(), value)
        });
        let parents = HashSet::from([bundle.vocabulary.uid(Type::Relation, "D.S.T")]);
        let entity = Entity::new(resource.uid.clone(), attributes.collect(), parents).unwrap();
        let known = slice.entities(&[]).unwrap();
        let others = known.iter().filter(|other| other.uid() != resource.uid).cloned();
        let entities = Entities::from_entities(others.chain([entity]), None).unwrap();
        let action = bundle.vocabulary.action(Action::ReadRow).clone();
        let request = Request::new(user, action, resource.uid.clone(), context.unwrap(), None).unwrap();
        let about = bundle.policies.iter().filter(|one| super::is_about_rows(&one.policy, &bundle.vocabulary));
        let set = PolicySet::from_policies(about.map(|one| one.policy.clone())).unwrap();
        let response = bundle.authorizer.is_authorized(&request, &set, &entities);
        let erred: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
        let forbids = bundle.policies.iter().filter(|one| one.turn == Turn::Forbid);
        let mut forbids = forbids.filter(|one| erred.iter().any(|error| error.contains(&format!("`{}`", one.id))));
        response.decision() == Decision::Allow && forbids.next().is_none()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_filter_shows_the_rows_cedar_allows(policies in policies()) {
            let catalog: Catalog = serde_saphyr::from_str(CATALOG).unwrap();
            let bundle = Bundle::of(catalog, policies.iter().cloned().chain([(ALL.to_owned(), Turn::Permit)]));
            let principal = Principal {
                id: "u".into(),
                issuer: String::new(),
                subject: String::new(),
                groups: ["g".to_owned()].into(),
                agent: None,
                attributes: BTreeMap::new(),
            };
            let statement = StatementAnalysis {
                level: Level::Understood,
                kind: Kind::of(Verb::Select),
                effects: BTreeSet::new(),
                objects: Vec::new(),
                columns_read: BTreeSet::new(),
                rows_met: ["D.S.T".parse().unwrap()].into(),
                projection: Vec::new(),
                exports: Vec::new(),
                unresolved: Vec::new(),
                why: None,
                facts: Facts { bytes: 10, ..Facts::default() },
                session_changes: Vec::new(),
                stops: None,
                makes: None,
            };
            let statements = std::slice::from_ref(&statement);
            let session = SessionContext::default();
            let approvals = BTreeSet::new();
            let asked = Asked { principal: &principal, session: &session, statements, approvals: &approvals };
            let verdict = evaluate(&bundle, &asked, Selection::Indexed);
            for row in rows() {
                let wanted = cedar_shows(&bundle, &principal, &statement, &row);
                // A policy that errs whatever the row refuses the whole statement: less than Cedar would show.
                if verdict.outcome == Outcome::Deny {
                    prop_assert!(verdict.reasons.iter().all(|reason| reason.policy.is_some()));
                    continue;
                }
                let shown = match verdict.row_filters.concat().as_slice() {
                    [] => true,
                    [filter] => filter.shows(&|column| row.get(column).cloned()),
                    filters => panic!("{filters:?}"),
                };
                prop_assert_eq!(shown, wanted, "{:?} {:?}", row, verdict.row_filters);
            }
        }
    }

    #[test]
    fn constants_are_read_as_cedar_reads_them() {
        for (text, wanted) in [
            ("1.5", Some(15_000)),
            ("-0.0001", Some(-1)),
            ("12", None),
            ("1.23456", None),
            (".5", None),
            ("--1.0", None),
            ("922337203685477.5807", Some(i64::MAX)),
            ("922337203685477.5808", None),
        ] {
            assert_eq!(ten_thousandths(text), wanted, "{text}");
        }
        for (text, wanted) in [
            ("2026-01-31", Some("2026-01-31 00:00:00.000")),
            ("2026-01-31T23:59:58Z", Some("2026-01-31 23:59:58.000")),
            ("2026-01-31T23:59:58.123Z", Some("2026-01-31 23:59:58.123")),
            ("2026-01-31T23:59:58+0100", None),
            ("2026-01-31' OR 1=1", None),
        ] {
            assert_eq!(moment(text).as_deref(), wanted, "{text}");
        }
    }
}
