use std::{
    fs,
    io::{BufRead, Read, Write},
    path::Path,
};

use icegate_pdp_model::{Catalog, ObjectName, SessionContext};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
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

/// A line that is no input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NoInput {
    /// As given, where the line has one.
    pub(crate) id: Value,
    /// Which line, and why.
    pub(crate) why: String,
}

/// Reads standard input: one JSON object a line, or all of it as one text. A line that is no input says why in its place.
pub(crate) fn read<'a>(
    input: &'a mut dyn BufRead,
    jsonl: bool,
    session: &'a SessionContext,
) -> Box<dyn Iterator<Item = Result<Result<Input, NoInput>, Failure>> + 'a> {
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

impl Lines<'_> {
    /// The next line, without more of it in memory than a line may have; `false` at the end of the input.
    fn line(&mut self, line: &mut Vec<u8>) -> std::io::Result<bool> {
        self.number += 1;
        let read = Read::take(&mut *self.input, INPUT_BYTES_MAX + 1).read_until(b'\n', line)?;
        let mut whole = read as u64 <= INPUT_BYTES_MAX;
        while !whole {
            // Only its end is wanted.
            let rest = self.input.fill_buf()?;
            let end = rest.iter().position(|&byte| byte == b'\n');
            whole = end.is_some() || rest.is_empty();
            let used = end.map_or(rest.len(), |end| end + 1);
            self.input.consume(used);
        }
        Ok(read > 0)
    }
}

impl Iterator for Lines<'_> {
    type Item = Result<Result<Input, NoInput>, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut line = Vec::new();
            match self.line(&mut line) {
                Ok(false) => return None,
                Ok(true) if line.len() as u64 > INPUT_BYTES_MAX => {
                    return Some(Ok(Err(self.not(Value::Null, &format!("holds more than {INPUT_BYTES_MAX} bytes")))));
                }
                Ok(true) => {}
                Err(error) => return Some(Err(unreadable(&error))),
            }
            match std::str::from_utf8(&line) {
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => return Some(Ok(self.parse(line))),
                Err(_) => return Some(Ok(Err(self.not(Value::Null, "is not UTF-8")))),
            }
        }
    }
}

impl Lines<'_> {
    fn parse(&self, text: &str) -> Result<Input, NoInput> {
        #[derive(Deserialize)]
        struct Line {
            #[serde(default)]
            id: Value,
            sql: String,
            session: Option<SessionContext>,
        }
        #[derive(Deserialize)]
        struct Named {
            id: Value,
        }
        let line: Line = serde_json::from_str(text).map_err(|error| {
            let id = serde_json::from_str(text).map_or(Value::Null, |named: Named| named.id);
            self.not(id, &format!("is no input: {error}"))
        })?;
        let session = match line.session {
            None => self.session.clone(),
            Some(session) => match folded(&session) {
                Ok(session) => session,
                Err(problem) => return Err(self.not(line.id, &format!("is no input: {problem}"))),
            },
        };
        Ok(Input { id: line.id, sql: line.sql, session })
    }

    fn not(&self, id: Value, why: &str) -> NoInput {
        NoInput { id, why: format!("line {} {why}", self.number) }
    }
}

/// Writes one line of JSON.
pub(crate) fn write(out: &mut dyn Write, line: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, line).map_err(|error| Failure::from(std::io::Error::from(error)))?;
    Ok(out.write_all(b"\n")?)
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
        // A catalog is as large as the warehouse; how long the file may be is limited above.
        let options = serde_saphyr::options! { budget: None };
        serde_saphyr::from_str_with_options(&text, options).map_err(|error| error.to_string())
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
        let read: Vec<Result<Input, NoInput>> = read(&mut input, true, &own).map(Result::unwrap).collect();
        assert_eq!(read[0], Ok(Input { id: "a".into(), sql: "SELECT 1".into(), session: own.clone() }));
        let second = read[1].as_ref().unwrap();
        assert_eq!((second.id.as_u64(), second.session.database.as_deref()), (Some(7), Some("SALES")));
        assert_eq!((second.session.role.as_deref(), second.session.schema.as_deref()), (Some("x"), None));
        assert!(read[2].as_ref().unwrap_err().why.starts_with("line 4 is no input: missing field `sql`"));
        let last = read[3].as_ref().unwrap_err();
        assert_eq!(last.id, "b");
        assert_eq!(last.why, "line 5 is no input: the session's database `a.b` is more than one name");
    }

    #[test]
    fn no_line_stops_the_others() {
        let mut text = b"\xff\xfe\n".to_vec();
        text.extend(std::iter::repeat_n(b'x', 5 * 1024 * 1024));
        text.extend(b"\n{\"sql\":\"SELECT 1\"}");
        let own = SessionContext::default();
        let mut input = text.as_slice();
        let read: Vec<Result<Input, NoInput>> = read(&mut input, true, &own).map(Result::unwrap).collect();
        assert_eq!(read[0].as_ref().unwrap_err().why, "line 1 is not UTF-8");
        assert_eq!(read[1].as_ref().unwrap_err().why, "line 2 holds more than 4194304 bytes");
        assert_eq!(read[2].as_ref().unwrap().sql, "SELECT 1");
        assert_eq!(read.len(), 3);
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
