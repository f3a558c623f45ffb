use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use icegate_pdp_model::{Outcome, Principal, SessionContext};
use serde::Deserialize;
use serde_json::Value;

use super::CasesError;
use crate::lines;

/// Where cases stand in a bundle.
const CASES: &str = "cases";
/// Names of principals for all case files.
const PRINCIPALS: &str = "principals.yaml";
/// Most case files.
const FILES_MAX: usize = 1_000;
/// Longest case file, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One case, with its names resolved.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) file: String,
    pub(super) name: String,
    pub(super) principal: Principal,
    pub(super) asked: Asked,
    pub(super) expect: Expect,
}

/// What is asked for.
#[derive(Debug)]
pub(super) enum Asked {
    Sql { sql: String, session: SessionContext, statement_count: u32, approvals: BTreeSet<String> },
    May(May),
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql { sql, .. } => f.write_str(sql),
            Self::May(May::Approve(group)) => write!(f, "may approve for {group}"),
            Self::May(May::SearchAudit) => f.write_str("may search the audit trail"),
            Self::May(May::ListSessions) => f.write_str("may list sessions"),
            Self::May(May::RevokeSessions) => f.write_str("may revoke sessions"),
        }
    }
}

/// Something a person does in icegate itself.
#[derive(Debug)]
pub(super) enum May {
    Approve(String),
    SearchAudit,
    ListSessions,
    RevokeSessions,
}

/// What has to come out. What is absent is not compared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    pub(super) outcome: Outcome,
    pub(super) policies: Option<BTreeSet<String>>,
    pub(super) codes: Option<BTreeSet<String>>,
    pub(super) masks: Option<BTreeMap<String, String>>,
    pub(super) approval_groups: Option<BTreeSet<String>>,
    pub(super) sql: Option<String>,
}

/// A case as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    principal: Value,
    #[serde(default)]
    session: SessionContext,
    sql: Option<String>,
    may: Option<String>,
    #[serde(default)]
    approvals: BTreeSet<String>,
    #[serde(default)]
    statement_count: u32,
    expect: Expect,
}

type Principals = BTreeMap<String, Principal>;

/// Every case under `dir/cases`, in order of file and place.
pub(super) fn read(dir: &Path) -> Result<Vec<Case>, CasesError> {
    let mut files = Vec::new();
    find(&dir.join(CASES), CASES, &mut files)?;
    files.sort();
    let shared = format!("{CASES}/{PRINCIPALS}");
    let mut principals = Principals::new();
    if files.contains(&shared) {
        let given = parse(dir, &shared)?;
        principals = serde_json::from_value(given).map_err(|error| wrong(&shared, error.to_string()))?;
    }
    let mut cases = Vec::new();
    for file in files.iter().filter(|file| **file != shared) {
        let (own, written) = split(file, parse(dir, file)?)?;
        for (index, value) in written.into_iter().enumerate() {
            let name = value.get("name").and_then(Value::as_str).map(|name| format!(" (`{name}`)")).unwrap_or_default();
            let place = |problem: String| wrong(file, format!("case {}{name}: {problem}", index + 1));
            let written = Written::deserialize(value.clone()).map_err(|error| place(error.to_string()))?;
            cases.push(resolve(file, written, &[&own, &principals]).map_err(place)?);
        }
    }
    Ok(cases)
}

fn find(dir: &Path, prefix: &str, files: &mut Vec<String>) -> Result<(), CasesError> {
    let unreadable = |source| CasesError::Read { path: dir.display().to_string(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(error)),
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let full = format!("{prefix}/{name}");
        let ending = Path::new(&name).extension().and_then(|ending| ending.to_str());
        if entry.file_type().map_err(unreadable)?.is_dir() {
            find(&entry.path(), &full, files)?;
        } else if !name.starts_with('.') && matches!(ending, Some("yaml" | "yml")) {
            if files.len() == FILES_MAX {
                return Err(CasesError::Limit(format!("there are more than {FILES_MAX} case files")));
            }
            files.push(full);
        }
    }
    Ok(())
}

fn parse(dir: &Path, file: &str) -> Result<Value, CasesError> {
    let path = dir.join(file);
    let unreadable = |source| CasesError::Read { path: path.display().to_string(), source };
    if fs::metadata(&path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        return Err(wrong(file, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(&path).map_err(unreadable)?;
    serde_saphyr::from_str(&text).map_err(|error| wrong(file, error.to_string()))
}

/// A file is a list of cases, one case, or both `principals` and `cases`.
fn split(file: &str, value: Value) -> Result<(Principals, Vec<Value>), CasesError> {
    match value {
        Value::Array(cases) => Ok((Principals::new(), cases)),
        Value::Object(mut whole) if whole.contains_key("cases") => {
            let principals = match whole.remove("principals") {
                None => Principals::new(),
                Some(given) => {
                    serde_json::from_value(given).map_err(|error| wrong(file, format!("principals: {error}")))?
                }
            };
            let cases = whole.remove("cases");
            if let Some(other) = whole.keys().next() {
                return Err(wrong(file, format!("`{other}` is neither `principals` nor `cases`")));
            }
            match cases {
                Some(Value::Array(cases)) => Ok((principals, cases)),
                Some(_) | None => Err(wrong(file, "`cases` is not a list".into())),
            }
        }
        one @ Value::Object(_) => Ok((Principals::new(), vec![one])),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(wrong(file, "it is not a list of cases".into()))
        }
    }
}

fn resolve(file: &str, written: Written, named: &[&Principals]) -> Result<Case, String> {
    let principal = match written.principal {
        Value::String(name) => named
            .iter()
            .find_map(|principals| principals.get(&name))
            .cloned()
            .ok_or_else(|| format!("no principal is called `{name}`; add it under `principals`"))?,
        given => serde_json::from_value(given).map_err(|error| format!("principal: {error}"))?,
    };
    let asked = match (written.sql, written.may) {
        (Some(sql), None) => Asked::Sql {
            sql,
            session: lines::folded(&written.session)?,
            statement_count: written.statement_count,
            approvals: written.approvals,
        },
        (None, Some(may)) => Asked::May(parse_may(&may)?),
        _ => return Err("needs exactly one of `sql` and `may`".into()),
    };
    Ok(Case { file: file.to_owned(), name: written.name, principal, asked, expect: written.expect })
}

fn parse_may(text: &str) -> Result<May, String> {
    match text.split_once(' ') {
        Some(("approve", group)) if !group.trim().is_empty() => Ok(May::Approve(group.trim().to_owned())),
        None if text == "search_audit" => Ok(May::SearchAudit),
        None if text == "list_sessions" => Ok(May::ListSessions),
        None if text == "revoke_sessions" => Ok(May::RevokeSessions),
        _ => Err(format!(
            "`may` is `{text}`; write `approve GROUP`, `search_audit`, `list_sessions` or `revoke_sessions`"
        )),
    }
}

fn wrong(file: &str, problem: String) -> CasesError {
    CasesError::Case { file: file.to_owned(), problem }
}
