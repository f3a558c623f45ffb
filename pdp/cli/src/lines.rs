use std::{
    fs,
    io::{BufRead, Read},
    path::Path,
};

use icegate_pdp_model::{Catalog, ObjectName, SessionContext};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    args::SessionArgs,
    exit::{Exit, Failure},
};

/// Longest input line, or whole input without `--jsonl`, in bytes.
const INPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest catalog or principal file, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One text to look at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Input {
    /// As given; `"1"` when the whole input is one text.
    pub(crate) id: Value,
    pub(crate) sql: String,
    pub(crate) session: SessionContext,
}

/// Reads standard input: one JSON object a line, or all of it as one text. A line that is no input says why in its place.
pub(crate) fn read<'a>(
    input: &'a mut dyn BufRead,
    jsonl: bool,
    session: &'a SessionContext,
) -> Box<dyn Iterator<Item = Result<Result<Input, String>, Failure>> + 'a> {
    if jsonl {
        Box::new(Lines { input, session, number: 0 })
    } else {
        Box::new(std::iter::once_with(move || whole(input, session).map(Ok)))
    }
}

fn whole(input: &mut dyn BufRead, session: &SessionContext) -> Result<Input, Failure> {
    let mut sql = String::new();
    input.take(INPUT_BYTES_MAX + 1).read_to_string(&mut sql).map_err(|error| unreadable(&error))?;
    if sql.len() as u64 > INPUT_BYTES_MAX {
        return Err(Failure::new(Exit::Usage, format!("standard input holds more than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(Input { id: "1".into(), sql, session: session.clone() })
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    session: &'a SessionContext,
    number: u64,
}

impl Iterator for Lines<'_> {
    type Item = Result<Result<Input, String>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = String::new();
            self.number += 1;
            match Read::take(&mut *self.input, INPUT_BYTES_MAX + 1).read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.len() as u64 > INPUT_BYTES_MAX => {
                    let message = format!("line {} holds more than {INPUT_BYTES_MAX} bytes", self.number);
                    return Some(Err(Failure::new(Exit::Usage, message)));
                }
                Ok(_) if line.trim().is_empty() => {}
                Ok(_) => return Some(Ok(self.parse(&line))),
                Err(error) => return Some(Err(unreadable(&error))),
            }
        }
    }
}

impl Lines<'_> {
    fn parse(&self, line: &str) -> Result<Input, String> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            id: Value,
            sql: String,
            session: Option<SessionContext>,
        }
        let line: Line =
            serde_json::from_str(line).map_err(|error| format!("line {} is no input: {error}", self.number))?;
        let session = match line.session {
            None => self.session.clone(),
            Some(session) => folded(&session).map_err(|problem| format!("line {}: {problem}", self.number))?,
        };
        Ok(Input { id: line.id, sql: line.sql, session })
    }
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Exit::Usage, format!("standard input cannot be read: {error}"))
}

/// The session named on the command line.
pub(crate) fn session(args: &SessionArgs) -> Result<SessionContext, Failure> {
    let given = SessionContext {
        database: args.database.clone(),
        schema: args.schema.clone(),
        role: args.role.clone(),
        warehouse: args.warehouse.clone(),
    };
    folded(&given).map_err(|problem| Failure::new(Exit::Usage, problem))
}

/// Names as SQL reads them: unquoted folds to upper case.
pub(crate) fn folded(session: &SessionContext) -> Result<SessionContext, String> {
    let fold = |what: &str, name: &Option<String>| match name.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<ObjectName>() {
            Ok(name) if name.parts().len() == 1 => Ok(Some(name.last().to_owned())),
            Ok(_) => Err(format!("the session's {what} `{text}` is more than one name")),
            Err(error) => Err(format!("the session's {what}: {error}")),
        },
    };
    Ok(SessionContext {
        database: fold("database", &session.database)?,
        schema: fold("schema", &session.schema)?,
        role: fold("role", &session.role)?,
        warehouse: fold("warehouse", &session.warehouse)?,
    })
}

/// Reads a catalog file.
pub(crate) fn catalog(path: &Path) -> Result<Catalog, Failure> {
    file(path, "--catalog")
}

/// Reads a file of YAML, or of JSON when its name says so.
pub(crate) fn file<T: DeserializeOwned>(path: &Path, option: &str) -> Result<T, Failure> {
    let text = text(path, option)?;
    let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let read = if json {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        serde_saphyr::from_str(&text).map_err(|error| error.to_string())
    };
    read.map_err(|problem| Failure::new(Exit::Config, format!("`{option}`: {}: {problem}", path.display())))
}

/// Reads a text file.
pub(crate) fn text(path: &Path, option: &str) -> Result<String, Failure> {
    let wrong = |problem: String| Failure::new(Exit::Config, format!("`{option}`: `{}` {problem}", path.display()));
    let length = fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if length > FILE_BYTES_MAX {
        return Err(wrong(format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_inputs_or_say_why_not() {
        let text = concat!(
            r#"{"id":"a","sql":"SELECT 1"}"#,
            "\n\n",
            r#"{"id":7,"sql":"SELECT 2","session":{"database":"sales","role":"\"x\""},"technique":"ignored"}"#,
            "\n{}\n",
            r#"{"id":"b","sql":"x","session":{"database":"a.b"}}"#,
        );
        let own = SessionContext { schema: Some("PUBLIC".into()), ..SessionContext::default() };
        let mut input = text.as_bytes();
        let read: Vec<Result<Input, String>> = read(&mut input, true, &own).map(Result::unwrap).collect();
        assert_eq!(read[0], Ok(Input { id: "a".into(), sql: "SELECT 1".into(), session: own.clone() }));
        let second = read[1].as_ref().unwrap();
        assert_eq!((second.id.as_u64(), second.session.database.as_deref()), (Some(7), Some("SALES")));
        assert_eq!((second.session.role.as_deref(), second.session.schema.as_deref()), (Some("x"), None));
        assert!(read[2].as_ref().unwrap_err().starts_with("line 4 is no input: missing field `sql`"));
        assert!(read[3].as_ref().unwrap_err().contains("line 5: the session's database `a.b` is more than one name"));
    }

    #[test]
    fn without_lines_all_of_it_is_one_text() {
        let mut input = "SELECT 1;\nSELECT 2;\n".as_bytes();
        let own = SessionContext::default();
        let read: Vec<_> = read(&mut input, false, &own).collect();
        assert_eq!(read.len(), 1);
        let input = read.into_iter().next().unwrap().unwrap().unwrap();
        assert_eq!((input.id, input.sql.as_str()), (Value::from("1"), "SELECT 1;\nSELECT 2;\n"));
    }
}
