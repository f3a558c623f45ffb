//! What people are told. Full sentences that say what to do, and name only what was asked for.

use icegate_pdp_model::{ColumnName, Mask, ObjectAccess, ObjectKind};

use crate::{
    evaluate::{PersonAction, Subject},
    vocabulary::Action,
};

/// Names listed in one sentence at most.
const NAMES_MAX: usize = 5;
/// Characters of what stopped the reading that are shown.
const WHY_CHARS_MAX: usize = 200;

/// There is nothing to decide.
pub(crate) const NO_STATEMENT: &str = "There is no statement in this text; send one.";
/// Cedar does not take a fact.
pub(crate) const UNASKABLE: &str =
    "The policies could not be asked about this statement; report it to the operators of icegate.";

pub(crate) fn unresolved(names: &[String]) -> String {
    let mut shown: Vec<_> = names.iter().take(NAMES_MAX).map(|name| format!("`{name}`")).collect();
    if names.len() > NAMES_MAX {
        shown.push(format!("{} more", names.len() - NAMES_MAX));
    }
    format!(
        "The catalog does not know {}; check the spelling and the session's database and schema, or ask for it to be added.",
        shown.join(", ")
    )
}

pub(crate) fn not_permitted(action: Action, subject: &Subject<'_>) -> String {
    if let (Action::Unknown, Subject::Statement(statement)) = (action, subject) {
        let why: String = statement.why.iter().flat_map(|why| why.chars()).take(WHY_CHARS_MAX).collect();
        let why = if why.is_empty() { why } else { format!(" ({})", crate::problem::one_line(&why)) };
        return format!(
            "This statement could not be read{why}, and no policy lets you run what cannot be read; write it in a simpler \
             form, or ask the owners of the policies."
        );
    }
    format!("No policy lets you {}; ask the owners of the policies for a permit.", deed(action, subject))
}

pub(crate) fn forbidden(policy: &str, action: Action, subject: &Subject<'_>) -> String {
    format!(
        "Policy `{policy}` does not let you {}; ask the owners of the policies for an exception.",
        deed(action, subject)
    )
}

pub(crate) fn approval(group: &str, action: Action, subject: &Subject<'_>) -> String {
    format!("You may {} once a person of `{group}` has approved it; ask one of them.", deed(action, subject))
}

pub(crate) fn masked(column: &ColumnName, mask: &Mask) -> String {
    format!("Column `{column}` is masked (`{mask}`); ask the owners of the policies if you need its values.")
}

pub(crate) fn unmaskable(column: &ColumnName) -> String {
    format!(
        "Column `{column}` is masked for you, and this form of statement cannot be masked; read it with a plain query \
         instead."
    )
}

pub(crate) fn erred(policy: &str) -> String {
    format!("Policy `{policy}` could not be evaluated, so nothing is let through; its owners have to correct it.")
}

/// What is asked for, to follow "you may".
fn deed(action: Action, subject: &Subject<'_>) -> String {
    match subject {
        Subject::Statement(statement) => match action {
            Action::Unknown => "run statements that cannot be read".to_owned(),
            _ => format!("run `{}` statements here", statement.kind),
        },
        Subject::Object(access) => format!("{} {}", verb(action), object(access)),
        Subject::Column(column) => format!("read the column `{column}`"),
        Subject::Person(PersonAction::Approve(group)) => format!("approve statements for `{group}`"),
        Subject::Person(PersonAction::SearchAudit) => "search the audit trail".to_owned(),
        Subject::Person(PersonAction::ListSessions) => "list sessions".to_owned(),
        Subject::Person(PersonAction::RevokeSessions) => "end sessions".to_owned(),
    }
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Read | Action::ReadColumn | Action::ReadRow => "read",
        Action::Write => "write",
        Action::Create => "create",
        Action::Alter => "alter",
        Action::Drop => "drop",
        Action::Grant => "grant or revoke rights on",
        Action::Export => "export data to",
        Action::Import => "import data from",
        Action::Execute => "execute",
        // The others are not asked of objects.
        Action::Use
        | Action::Run
        | Action::Unknown
        | Action::Approve
        | Action::SearchAudit
        | Action::ListSessions
        | Action::RevokeSessions => "use",
        Action::Metadata => "see the description of",
    }
}

fn object(access: &ObjectAccess) -> String {
    let name = match (access.kind, access.name.parts()) {
        (ObjectKind::Location | ObjectKind::Stage, [one]) => one.clone(),
        _ => access.name.to_string(),
    };
    match access.kind {
        ObjectKind::Table | ObjectKind::View | ObjectKind::Other | ObjectKind::Location => format!("`{name}`"),
        kind => format!("the {} `{name}`", kind.as_str().replace('_', " ")),
    }
}
