use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use cedar_policy::Context;
use icegate_pdp_model::{
    Code, ColumnName, Effect, Level, MaskedColumn, ObjectAccess, ObjectKind, Outcome, Principal, Reason, RelationName,
    RowFilter, SessionContext, StatementAnalysis,
};

use self::{
    ask::{Asking, Selection},
    combine::Combination,
};
use crate::{
    compile::Bundle,
    facts::{About, Resource, Slice, Unaskable, person_context, statement_context},
    sentence,
    vocabulary::Action,
};

mod ask;
mod combine;
#[cfg(test)]
mod laws;
pub(crate) mod rows;

/// One request: who asks, in which session, to run what.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// Names the session resolves with.
    pub session: &'a SessionContext,
    /// Every statement of the request. All must pass.
    pub statements: &'a [StatementAnalysis],
    /// Groups that have approved exactly this request.
    pub approvals: &'a BTreeSet<String>,
}

/// What a person may do in icegate itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonAction<'a> {
    /// Approve or reject for this group.
    Approve(&'a str),
    /// Search and export the audit trail.
    SearchAudit,
    /// See everybody's sessions.
    ListSessions,
    /// End sessions.
    RevokeSessions,
}

/// What the policies say, over everything that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The strictest of all answers.
    pub outcome: Outcome,
    /// Why it is not a plain allow; each once, in the order of the statements.
    pub reasons: Vec<Reason>,
    /// Columns to mask, by name: with [`Outcome::Mask`], and with [`Outcome::NeedsApproval`] those to mask once approved.
    pub masks: Vec<MaskedColumn>,
    /// Relations of which only some rows may be read, by statement.
    pub row_filters: Vec<Vec<RowFilter>>,
    /// Groups that have to approve. Only with [`Outcome::NeedsApproval`].
    pub approval_groups: BTreeSet<String>,
    /// The policies that determined the outcome: what refused, asked for an approval or masks; for an allow and a mask also
    /// what permits.
    pub policies: BTreeSet<String>,
}

impl Verdict {
    /// A refusal no policy stands behind.
    fn refuse(reasons: Vec<Reason>) -> Self {
        Self {
            outcome: Outcome::Deny,
            reasons,
            masks: Vec::new(),
            row_filters: Vec::new(),
            approval_groups: BTreeSet::new(),
            policies: BTreeSet::new(),
        }
    }
}

impl Bundle {
    /// Decides a whole request.
    ///
    /// Total and fail-closed: no statements, unresolved names, a policy that errs and a fact Cedar does not take are all
    /// refusals.
    pub fn evaluate(&self, asked: &Asked<'_>) -> Verdict {
        evaluate(self, asked, Selection::Indexed)
    }

    /// Decides what a person asks of icegate itself.
    pub fn may(&self, principal: &Principal, action: PersonAction<'_>) -> Verdict {
        may(self, principal, action).unwrap_or_else(|Unaskable| unaskable())
    }

    /// Decides whether a session may open that uses these objects. What would have to wait for an approval is refused: a
    /// login cannot wait.
    pub fn may_use(&self, principal: &Principal, session: &SessionContext, objects: &[ObjectAccess]) -> Verdict {
        let mut verdict = may_use(self, principal, session, objects).unwrap_or_else(|Unaskable| unaskable());
        if verdict.outcome == Outcome::NeedsApproval {
            verdict.outcome = Outcome::Deny;
            verdict.approval_groups.clear();
        }
        verdict
    }
}

/// One question to Cedar.
#[derive(Debug)]
struct Question<'a> {
    action: Action,
    resource: Resource,
    subject: Subject<'a>,
}

/// What a question is about, in our words.
#[derive(Debug)]
pub(crate) enum Subject<'a> {
    /// Running this statement at all.
    Statement(&'a StatementAnalysis),
    /// An effect on an object.
    Object(&'a ObjectAccess),
    /// Reading a column.
    Column(ColumnName),
    /// A person's own action.
    Person(PersonAction<'a>),
}

fn evaluate(bundle: &Bundle, asked: &Asked<'_>, selection: Selection) -> Verdict {
    if asked.statements.is_empty() {
        return Verdict::refuse(vec![Reason::new(Code::SqlUnknown, sentence::NO_STATEMENT)]);
    }
    let unresolved: Vec<_> = asked
        .statements
        .iter()
        .filter(|statement| statement.level != Level::Unknown && !statement.unresolved.is_empty())
        .map(|statement| Reason::new(Code::SqlUnresolved, sentence::unresolved(&statement.unresolved)))
        .collect();
    if !unresolved.is_empty() {
        return Verdict::refuse(unresolved);
    }
    statements(bundle, asked, selection).unwrap_or_else(|Unaskable| unaskable())
}

fn statements(bundle: &Bundle, asked: &Asked<'_>, selection: Selection) -> Result<Verdict, Unaskable> {
    let mut slice = bundle.slice();
    let principal = slice.principal(asked.principal, &bundle.settings().principal_attributes)?;
    let mut rounds: Vec<Round<'_>> = Vec::with_capacity(asked.statements.len());
    for statement in asked.statements {
        let about = About::Statement(statement, asked.statements.len());
        let context = statement_context(asked.principal, asked.session, about, asked.approvals, bundle.catalog())?;
        let rows = statement.rows_met.iter().map(|relation| Ok((relation, slice.row(relation)?)));
        let rows = rows.collect::<Result<_, Unaskable>>()?;
        rounds.push(Round { statement, context, questions: questions(bundle, &mut slice, statement)?, rows });
    }
    let mut asking = Asking::new(bundle, principal, slice, selection)?;
    let mut combination = Combination::default();
    for Round { statement, context, questions, rows } in rounds {
        combination.next_statement(statement.level);
        asking.set_context(context);
        for question in &questions {
            let answer = asking.ask(question.action, &question.resource)?;
            combination.add(bundle, question, answer);
        }
        for (relation, resource) in rows {
            combination.add_rows(asking.rows(relation, &resource)?);
        }
    }
    Ok(combination.verdict())
}

/// What is asked for one statement, in its context.
#[derive(Debug)]
struct Round<'a> {
    statement: &'a StatementAnalysis,
    context: Context,
    questions: Vec<Question<'a>>,
    rows: Vec<(&'a RelationName, Resource)>,
}

/// What is asked for one statement, each question once.
fn questions<'a>(
    bundle: &Bundle,
    slice: &mut Slice<'_>,
    statement: &'a StatementAnalysis,
) -> Result<Vec<Question<'a>>, Unaskable> {
    let about_itself =
        |action| Question { action, resource: slice.connection(), subject: Subject::Statement(statement) };
    if statement.level == Level::Unknown {
        return Ok(vec![about_itself(Action::Unknown)]);
    }
    let mut questions = vec![about_itself(Action::Run)];
    let mut asked: HashSet<(Action, _)> = HashSet::with_capacity(statement.objects.len());
    for access in &statement.objects {
        let Some(resource) = slice.object(access)? else { continue };
        let action = Action::from(access.effect);
        if asked.insert((action, resource.uid.clone())) {
            questions.push(Question { action, resource, subject: Subject::Object(access) });
        }
    }
    let mut columns = statement.columns_read.clone();
    if statement.level == Level::Classified {
        columns.extend(columns_possible(bundle, statement));
    }
    for column in columns {
        let resource = slice.column(&column)?;
        questions.push(Question { action: Action::ReadColumn, resource, subject: Subject::Column(column) });
    }
    Ok(questions)
}

/// Every catalogued column of every relation read. Of a statement whose head alone was read, the columns are not known:
/// any could be among them.
fn columns_possible<'b>(bundle: &'b Bundle, statement: &StatementAnalysis) -> impl Iterator<Item = ColumnName> + 'b {
    let read: BTreeSet<RelationName> = statement
        .objects
        .iter()
        .filter(|access| access.effect == Effect::Read && matches!(access.kind, ObjectKind::Table | ObjectKind::View))
        .filter_map(|access| RelationName::of(access.name.parts()))
        .collect();
    read.into_iter().map(Arc::new).flat_map(|relation| {
        let columns = bundle.catalog().relation(&relation).map_or(&[][..], |found| &found.columns);
        columns.iter().map(move |column| ColumnName::new(Arc::clone(&relation), column.name.as_str()))
    })
}

fn may(bundle: &Bundle, principal: &Principal, person: PersonAction<'_>) -> Result<Verdict, Unaskable> {
    let mut slice = bundle.slice();
    let asker = slice.principal(principal, &bundle.settings().principal_attributes)?;
    let (action, resource) = match person {
        PersonAction::Approve(group) => (Action::Approve, slice.approval_group(group)),
        PersonAction::SearchAudit => (Action::SearchAudit, slice.system()),
        PersonAction::ListSessions => (Action::ListSessions, slice.system()),
        PersonAction::RevokeSessions => (Action::RevokeSessions, slice.system()),
    };
    let mut asking = Asking::new(bundle, asker, slice, Selection::Indexed)?;
    asking.set_context(person_context(principal)?);
    let answer = asking.ask(action, &resource)?;
    let mut combination = Combination::default();
    combination.add(bundle, &Question { action, resource, subject: Subject::Person(person) }, answer);
    Ok(combination.verdict())
}

fn may_use(
    bundle: &Bundle,
    principal: &Principal,
    session: &SessionContext,
    objects: &[ObjectAccess],
) -> Result<Verdict, Unaskable> {
    let mut slice = bundle.slice();
    let asker = slice.principal(principal, &bundle.settings().principal_attributes)?;
    let context = statement_context(principal, session, About::Login, &BTreeSet::new(), bundle.catalog())?;
    let mut questions = Vec::with_capacity(objects.len());
    for access in objects {
        if let Some(resource) = slice.object(access)? {
            questions.push(Question { action: access.effect.into(), resource, subject: Subject::Object(access) });
        }
    }
    let mut asking = Asking::new(bundle, asker, slice, Selection::Indexed)?;
    asking.set_context(context);
    let mut combination = Combination::default();
    for question in &questions {
        combination.add(bundle, question, asking.ask(question.action, &question.resource)?);
    }
    Ok(combination.verdict())
}

fn unaskable() -> Verdict {
    Verdict::refuse(vec![Reason::new(Code::PolicyError, sentence::UNASKABLE)])
}
