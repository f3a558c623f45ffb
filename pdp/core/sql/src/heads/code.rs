//! The forms that hold SQL or code: bodies, conditions, signatures. What is in them is read when the head is known.

use icegate_pdp_model::{Effect, ObjectKind};

use crate::{
    gate::{Token, TokenKind},
    heads::{
        matcher::Matcher,
        options::literal,
        touch::{Body, Param, Touch},
    },
    names,
};

impl<'a> Matcher<'_, 'a> {
    /// Matches a form with SQL or code in it; the outer `None` is a form that is none of these.
    #[expect(clippy::option_option, reason = "no such form, and a form that does not match, are two answers")]
    pub(super) fn code_form(&mut self, form: &str) -> Option<Option<()>> {
        Some(match form {
            "query" => self.rest(Body::Query),
            "action" => self.rest(Body::Action),
            "bracketed_query" => self.inside(Body::Query),
            "bracketed_action" => self.inside(Body::Action),
            "code" => self.code(false),
            "run" => self.code(true),
            "function_body" => self.function_body(),
            "policy_body" => self.policy_body(),
            "expression" => self.expression_until(|_, _| false, false),
            "predicate" => self.expression_until(|_, _| false, true),
            "when" => self.expression_until(|_, token| token.text.eq_ignore_ascii_case("AS"), false),
            "condition" => self.condition(),
            "column_default" => self.expression_until(|_, token| token.text == ",", true),
            "expressions" => self.several_of(|matcher| matcher.expression_until(|_, token| token.text == ",", false)),
            "arguments" => self.arguments(),
            "anonymous" => self.anonymous(),
            "signature" => self.signature(),
            "type_of" => self.type_of(),
            "language" => self.code_language(),
            "remote" => self.remote(),
            "specification" => self.specification(),
            "semantic_tables" => self.semantic_tables(),
            _ => return None,
        })
    }

    /// Everything up to the end of the statement.
    fn rest(&mut self, body: Body) -> Option<()> {
        let text = self.slice(self.at, self.tokens.len())?;
        self.at = self.tokens.len();
        self.body(body, text)
    }

    /// Everything in a pair of brackets.
    fn inside(&mut self, body: Body) -> Option<()> {
        let (from, to) = self.balanced()?;
        let text = self.slice(from, to)?;
        self.body(body, text)
    }

    #[expect(clippy::unnecessary_wraps, reason = "it answers for a form, as the others do")]
    fn body(&mut self, body: Body, text: String) -> Option<()> {
        self.touched.push(Touch::Body { body, text, params: self.params.clone() });
        Some(())
    }

    /// A procedure's code in a literal, or a block as it is.
    fn code(&mut self, now: bool) -> Option<()> {
        let sql = self.language.as_deref().is_none_or(|language| language == "SQL");
        let token = self.peek()?;
        if token.kind == TokenKind::Text {
            self.at += 1;
            return match (sql, unescaped(token)) {
                (true, Some(text)) => self.body(if now { Body::Run } else { Body::Code }, text),
                _ if now => None,
                (true, None) => self.opaque("its body has escapes in its text"),
                (false, _) => self.foreign(),
            };
        }
        let block = token.kind == TokenKind::Word && self.word("BEGIN|DECLARE");
        if !(block && sql) {
            return None;
        }
        self.at -= 1;
        self.rest(if now { Body::Run } else { Body::Code })
    }

    fn function_body(&mut self) -> Option<()> {
        if self.language.as_deref().is_some_and(|language| language != "SQL") {
            literal(self.next()?)?;
            return self.foreign();
        }
        match unescaped(self.next()?) {
            Some(text) => self.body(Body::Function, text),
            None => self.opaque("its body has escapes in its text"),
        }
    }

    fn foreign(&mut self) -> Option<()> {
        let language = self.language.clone()?;
        self.opaque(&format!("its body is {language}, which is not read"))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it answers for a form, as the others do")]
    fn opaque(&mut self, why: &str) -> Option<()> {
        self.touched.push(Touch::Opaque(why.to_owned()));
        Some(())
    }

    fn code_language(&mut self) -> Option<()> {
        let language = self.ident()?;
        if language != "SQL" {
            self.opaque(&format!("its body is {language}, which is not read"))?;
        }
        self.language = Some(language);
        Some(())
    }

    /// A policy's expression, up to its settings.
    fn policy_body(&mut self) -> Option<()> {
        let from = self.at;
        self.until(|matcher, token| {
            let setting = ["COMMENT", "EXEMPT_OTHER_POLICIES"].iter().any(|key| token.text.eq_ignore_ascii_case(key));
            setting && matcher.tokens.get(matcher.at + 1).is_some_and(|next| next.text == "=")
        })?;
        let text = self.slice(from, self.at)?;
        self.body(Body::Policy, text)
    }

    /// An expression up to the token for which this holds. `own`: its names may be columns of what the statement is
    /// about.
    pub(super) fn expression_until(&mut self, stop: impl Fn(&Self, &Token<'a>) -> bool, own: bool) -> Option<()> {
        let from = self.at;
        self.until(stop)?;
        self.expression(from, self.at, own)
    }

    pub(super) fn expression(&mut self, from: usize, to: usize, own: bool) -> Option<()> {
        let mut text = self.slice(from, to)?;
        self.streams(from, to, &mut text);
        // Literals need no reading.
        let constant = match self.tokens.get(from..to)? {
            [one] => {
                matches!(one.kind, TokenKind::Text | TokenKind::Number)
                    || ["TRUE", "FALSE", "NULL", "?"].iter().any(|word| one.text.eq_ignore_ascii_case(word))
            }
            [sign, one] => ["-", "+"].contains(&sign.text) && one.kind == TokenKind::Number,
            _ => false,
        };
        if !constant {
            self.touched.push(Touch::Expression { text, own });
        }
        Some(())
    }

    /// `SYSTEM$STREAM_HAS_DATA('s')` looks at a stream, and is a truth for the rest of the expression.
    fn streams(&mut self, from: usize, to: usize, text: &mut String) {
        let mut found = Vec::new();
        for window in self.tokens.get(from..to).unwrap_or_default().windows(4) {
            let [function, open, name, close] = window else { continue };
            let asks = function.text.eq_ignore_ascii_case("SYSTEM$STREAM_HAS_DATA");
            if asks && open.text == "(" && close.text == ")" {
                let parts = literal(name).and_then(names::dotted);
                found.extend(parts.map(|parts| (parts, function.start, close.start + 1)));
            }
        }
        let start = self.tokens.get(from).map_or(0, |token| token.start);
        for (parts, first, end) in found.into_iter().rev() {
            let effects = vec![Effect::Metadata];
            self.touched.push(Touch::Named { kind: ObjectKind::Stream, parts, effects });
            text.replace_range(first - start..end - start, "TRUE");
        }
    }

    /// `(…)`, over columns of what the statement is about.
    fn condition(&mut self) -> Option<()> {
        let (from, to) = self.balanced()?;
        self.expression(from, to, true)
    }

    /// `p AS PROCEDURE (…) RETURNS … AS …`, run by the CALL behind it.
    fn anonymous(&mut self) -> Option<()> {
        let name = self.ident()?;
        self.words("AS PROCEDURE").then_some(())?;
        self.signature()?;
        self.word("RETURNS").then_some(())?;
        self.type_of()?;
        while !self.word("AS") {
            if self.word("LANGUAGE") {
                // Code that runs now and is not read hides all it does.
                self.word("SQL").then_some(())?;
            } else {
                let noted = self.words("EXECUTE AS CALLER")
                    || self.words("NOT NULL")
                    || self.words("CALLED ON NULL INPUT")
                    || self.word("STRICT");
                (noted || self.words("RETURNS NULL ON NULL INPUT")).then_some(())?;
            }
        }
        let token = self.peek()?;
        if token.kind == TokenKind::Text {
            self.at += 1;
            self.body(Body::Run, unescaped(token)?)?;
        } else {
            let from = self.at;
            self.word("BEGIN|DECLARE").then_some(())?;
            let call = self.tokens.iter().rposition(|token| token.text.eq_ignore_ascii_case("CALL"))?;
            let text = self.slice(from, call)?;
            self.at = call;
            self.body(Body::Run, text)?;
        }
        // Another name would be another procedure.
        (self.word("CALL") && self.ident()? == name).then_some(())?;
        self.arguments()
    }

    /// `(name type [DEFAULT value], …)`.
    fn signature(&mut self) -> Option<()> {
        self.word("(").then_some(())?;
        let mut params = Vec::new();
        while !self.word(")") {
            // A keyword is a parameter's name like any other.
            let token = self.next()?;
            let name = match token.kind {
                TokenKind::Word => token.text.to_ascii_uppercase(),
                TokenKind::Quoted => token.text.trim_matches('"').replace("\"\"", "\""),
                TokenKind::Text | TokenKind::Number | TokenKind::Variable | TokenKind::Symbol => return None,
            };
            self.word("IN|INPUT|OUT|OUTPUT|INOUT");
            let columns = if self.word("TABLE") {
                let (from, to) = self.balanced()?;
                let tokens = self.tokens.get(from..to)?;
                let firsts = std::iter::once(true).chain(tokens.iter().map(|token| token.text == ","));
                let columns = tokens.iter().zip(firsts).filter(|(_, first)| *first);
                Some(columns.map(|(token, _)| token.text.to_ascii_uppercase()).collect())
            } else {
                self.column_type()?;
                None
            };
            if self.word("DEFAULT") {
                self.expression_until(|_, token| token.text == ",", false)?;
            }
            params.push(Param { name, columns });
            if !self.word(",") && self.peek()?.text != ")" {
                return None;
            }
        }
        self.params = params;
        Some(())
    }

    /// A type, `TABLE (…)` among them.
    fn type_of(&mut self) -> Option<()> {
        if self.word("TABLE") {
            return self.brackets();
        }
        self.column_type()
    }

    /// The URL an external function sends its arguments to.
    fn remote(&mut self) -> Option<()> {
        let url = literal(self.next()?)?;
        (url.contains("://") && !url.contains(['\\', '\''])).then_some(())?;
        let effects = vec![Effect::Import, Effect::Export];
        self.touched.push(Touch::Location { url: url.to_owned(), effects });
        Some(())
    }

    fn specification(&mut self) -> Option<()> {
        literal(self.next()?)?;
        self.opaque("its specification is not read")
    }

    /// `([alias AS] table [clauses], …)`.
    fn semantic_tables(&mut self) -> Option<()> {
        self.word("(").then_some(())?;
        loop {
            let mut parts = self.name()?;
            if self.word("AS") {
                parts = self.name()?;
            }
            self.touched.push(Touch::Named { kind: ObjectKind::Table, parts, effects: vec![Effect::Read] });
            self.until(|_, token| token.text == ",")?;
            if self.word(")") {
                return Some(());
            }
            self.word(",").then_some(())?;
        }
    }
}

/// What is in a literal's quotes, when no escape is.
fn unescaped(token: &Token<'_>) -> Option<String> {
    let text = literal(token)?;
    if token.text.starts_with('$') {
        return Some(text.to_owned());
    }
    (!text.contains('\\')).then(|| text.replace("''", "'"))
}

/// The name in a literal: what a notification goes through.
pub(super) fn name_in(text: &str) -> Option<Vec<String>> {
    names::dotted(text)
}
