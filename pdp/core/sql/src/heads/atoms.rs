//! The forms rows are made of: stages, files, lists, rights.

use icegate_pdp_model::{Effect, ObjectKind};

use crate::{
    gate::{Token, TokenKind},
    heads::{
        matcher::Matcher,
        objects::{OBJECTS, Object, Scope, Settings},
        options::{Keys, literal},
        touch::Touch,
        words::LISTS,
    },
    names,
};

/// Words that would make a list of plain words and names something else.
const NOT_PLAIN: [&str; 6] = ["AS", "CALL", "EXECUTE", "IDENTIFIER", "SELECT", "WITH"];

/// Words of a sequence's numbers.
const COUNTS: [&str; 8] = ["BY", "COMMENT", "INCREMENT", "NOORDER", "ORDER", "SET", "START", "WITH"];

impl Matcher<'_, '_> {
    /// Every form, by its name in the rows.
    #[cfg(test)]
    #[rustfmt::skip]
    pub(super) const FORMS: &'static [&'static str] = &[
        "account", "accounts", "action", "anonymous", "arguments", "bracketed_action", "bracketed_query", "code", "column", "column_default",
        "column_list", "column_type", "columns", "condition", "constraint", "contacts", "container", "counts", "current_warehouse", "definitions", "every_role",
        "exported_names", "expression", "expressions", "file", "function_body", "grantee", "idents", "keys", "language", "like", "list",
        "masked_using", "names", "names_with_brackets", "new", "number", "object", "options", "options_in_brackets", "or", "own_stage", "place",
        "plain", "plain_brackets", "policy_body", "policy_word", "predicate", "query", "relation", "remote", "remote_object", "result", "rights",
        "role_used", "routine", "run", "searches", "secrets", "semantic_tables", "service_role", "session", "setting", "settable", "several", "share",
        "signature", "specification", "stage", "stage_or_text", "tables", "tags", "tags_of_column", "tags_text", "tasks", "text", "text_name", "text_or_stage",
        "texts", "time", "type_of", "untags", "untags_of_column", "unuser", "user", "variable", "variables", "variables_listed", "when", "words",
    ];

    /// Matches one form.
    pub(super) fn form(&mut self, form: &str, effects: Vec<Effect>) -> Option<()> {
        match form {
            "or" => {
                self.besides = match (self.words("OR REPLACE"), self.words("OR ALTER")) {
                    (true, false) => Some(Effect::Drop),
                    (false, true) => Some(Effect::Alter),
                    (false, false) => None,
                    (true, true) => return None,
                };
                Some(())
            }
            "object" => self.some_object(effects, |_| true),
            "plain" => self.some_object(effects, |object| object.settings == Settings::Plain),
            "settable" => self.some_object(effects, |object| object.kind != ObjectKind::User),
            "relation" => {
                self.some_object(effects, |object| matches!(object.kind, ObjectKind::Table | ObjectKind::View))
            }
            "container" => {
                self.some_object(effects, |object| matches!(object.kind, ObjectKind::Database | ObjectKind::Schema))
            }
            "account" => {
                self.touched.push(Touch::Account(effects));
                Some(())
            }
            "new" => {
                let parts = self.name()?;
                self.touched.push(Touch::New { parts });
                Some(())
            }
            "file" => self.file(effects),
            "stage" => self.stage(effects),
            "result" => {
                let name = if self.word("LAST_QUERY_ID") {
                    self.balanced().map(|_| "LAST_QUERY_ID")?
                } else {
                    literal(self.next()?)?
                };
                let name = name.to_owned();
                self.touched.push(Touch::Missed { what: "result", name });
                Some(())
            }
            "share" => {
                let parts = self.name()?;
                self.touched.push(Touch::Named { kind: ObjectKind::Share, parts, effects });
                Some(())
            }
            "session" => {
                self.touched.push(Touch::Session(effects));
                Some(())
            }
            "every_role" => {
                let parts = vec!["ALL".to_owned()];
                self.touched.push(Touch::Named { kind: ObjectKind::Role, parts, effects });
                Some(())
            }
            "routine" => self.routine(),
            "options" => self.options(Keys::Any),
            "setting" => self.setting(Keys::Any, 0),
            "user" => self.options(Keys::User),
            "keys" => self.keys(Keys::Any),
            "unuser" => self.keys(Keys::User),
            "text" => literal(self.next()?).map(drop),
            "texts" => self.several_of(|matcher| literal(matcher.next()?).map(drop)),
            "number" => (self.next()?.kind == TokenKind::Number).then_some(()),
            "like" => {
                self.word("LIKE").then_some(())?;
                literal(self.next()?).map(drop)
            }
            "names" => self.several_of(|matcher| matcher.name().map(drop)),
            "column" => self.ident().map(drop),
            "columns" => self.brackets(),
            "searches" => self.several_of(|matcher| {
                if matcher.peek()?.kind == TokenKind::Number {
                    matcher.at += 1;
                    return Some(());
                }
                matcher.ident()?;
                matcher.peek().is_none_or(|token| token.text != "(").then_some(()).or_else(|| matcher.brackets())
            }),
            "time" => self.time(),
            "counts" => self.counts(),
            "tags" => {
                self.tagged()?;
                self.again(Self::tagged)
            }
            "untags" => self.several_of(|matcher| {
                matcher.tag()?;
                if matcher.word("=") { matcher.text_or_quoted() } else { Some(()) }
            }),
            "list" => LISTS.iter().any(|words| self.words(words)).then_some(()),
            "place" => self.place(),
            "rights" => self.rights(),
            "several" => self.several(),
            "grantee" => self.grantee(),
            other => self.code_form(other).unwrap_or_else(|| self.part(other, effects)),
        }
    }

    /// The words of any kind of object that fits, and a name of it.
    fn some_object(&mut self, effects: Vec<Effect>, fits: impl Fn(&Object) -> bool) -> Option<()> {
        let object = OBJECTS.iter().find(|object| self.words(object.words))?;
        if !fits(object) {
            return None;
        }
        self.exists();
        self.object(object, effects)
    }

    pub(super) fn several_of(&mut self, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        one(self)?;
        while self.word(",") {
            one(self)?;
        }
        Some(())
    }

    /// `tag = 'value'`.
    pub(super) fn tagged(&mut self) -> Option<()> {
        self.tag()?;
        self.word("=").then_some(())?;
        self.text_or_quoted()
    }

    pub(super) fn text_or_quoted(&mut self) -> Option<()> {
        let token = self.next()?;
        (token.kind == TokenKind::Quoted || literal(token).is_some()).then_some(())
    }

    pub(super) fn tag(&mut self) -> Option<()> {
        let parts = self.name()?;
        let object = OBJECTS.iter().find(|object| object.kind == ObjectKind::Tag)?;
        self.touched.push(Touch::Object { object, parts, effects: vec![Effect::Use] });
        Some(())
    }

    /// `file://…`, in quotes or without.
    fn file(&mut self, effects: Vec<Effect>) -> Option<()> {
        let token = self.next()?;
        let url = literal(token)?;
        let plain = url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("file://"));
        // Without quotes a backslash is one: `file://C:\temp`. In quotes it would begin an escape.
        let escaped = token.text.starts_with(['\'', '$']) && url.contains('\\');
        (plain && !escaped && !url.contains('\'')).then_some(())?;
        self.touched.push(Touch::Location { url: url.to_owned(), effects });
        Some(())
    }

    /// `@…` up to the next blank, or the same in quotes.
    pub(super) fn stage(&mut self, effects: Vec<Effect>) -> Option<()> {
        let first = self.peek()?;
        let text = if first.kind == TokenKind::Text {
            let text = literal(self.next()?)?.strip_prefix('@')?;
            (!text.contains(['\\', '\''])).then(|| text.to_owned())?
        } else {
            self.word("@").then_some(())?;
            let mut text = String::new();
            let mut end = first.start + 1;
            while let Some(token) = self.peek().filter(|token| token.start == end) {
                path_token(token).then_some(())?;
                text.push_str(token.text);
                end = token.end();
                self.at += 1;
            }
            text
        };
        self.touched.push(Touch::Stage { text, effects });
        Some(())
    }

    /// A procedure's name and literals for it: an expression could read.
    fn routine(&mut self) -> Option<()> {
        let parts = self.name()?;
        let from = self.at;
        self.arguments()?;
        let texts = self.tokens.get(from..self.at)?.iter().filter_map(literal).map(str::to_owned).collect();
        self.touched.push(Touch::Routine { parts, texts });
        Some(())
    }

    pub(super) fn arguments(&mut self) -> Option<()> {
        self.word("(").then_some(())?;
        if !self.word(")") {
            self.several_of(Self::argument)?;
            self.word(")").then_some(())?;
        }
        Some(())
    }

    fn argument(&mut self) -> Option<()> {
        let arrow = |matcher: &Self| {
            let next = |at| matcher.tokens.get(matcher.at + at).map(|token: &Token<'_>| token.text);
            next(1) == Some("=") && next(2) == Some(">")
        };
        if arrow(self) {
            self.next()?;
            self.at += 2;
        }
        self.expression_until(|_, token| token.text == ",", false)
    }

    /// `(NUMBER, VARCHAR(10))`.
    pub(super) fn types(&mut self) -> Option<()> {
        self.bracketed(|token| match token.kind {
            TokenKind::Word => !NOT_PLAIN.iter().any(|word| token.text.eq_ignore_ascii_case(word)),
            TokenKind::Number => true,
            TokenKind::Symbol => token.text == ",",
            TokenKind::Quoted | TokenKind::Text | TokenKind::Variable => false,
        })
    }

    /// Columns and what is computed of them, in brackets.
    pub(super) fn brackets(&mut self) -> Option<()> {
        self.bracketed(|token| match token.kind {
            TokenKind::Word => !NOT_PLAIN.iter().any(|word| token.text.eq_ignore_ascii_case(word)),
            TokenKind::Number | TokenKind::Quoted => true,
            TokenKind::Text => !token.text.contains('\\'),
            TokenKind::Symbol => [",", ".", ":", "*"].contains(&token.text),
            TokenKind::Variable => false,
        })
    }

    /// Nested brackets around tokens that fit.
    pub(super) fn bracketed(&mut self, fits: impl Fn(&Token<'_>) -> bool) -> Option<()> {
        self.word("(").then_some(())?;
        let mut depth = 1_usize;
        while depth > 0 {
            let token = self.next()?;
            match (token.kind, token.text) {
                (TokenKind::Symbol, "(") => depth += 1,
                (TokenKind::Symbol, ")") => depth -= 1,
                _ if fits(token) => {}
                _ => return None,
            }
        }
        Some(())
    }

    /// `AT (OFFSET => -60)`.
    fn time(&mut self) -> Option<()> {
        self.word("AT|BEFORE").then_some(())?;
        self.word("(").then_some(())?;
        let stream = self.word("STREAM");
        (stream || self.word("TIMESTAMP|OFFSET|STATEMENT")).then_some(())?;
        (self.word("=") && self.word(">")).then_some(())?;
        if stream {
            let parts = names::dotted(literal(self.next()?)?)?;
            self.touched.push(Touch::Named { kind: ObjectKind::Stream, parts, effects: vec![Effect::Metadata] });
            return self.word(")").then_some(());
        }
        if !self.word("-") && self.peek()?.kind == TokenKind::Word {
            self.expression_until(|_, _| false, false)?;
            return self.word(")").then_some(());
        }
        let token = self.next()?;
        (token.kind == TokenKind::Number || literal(token).is_some()).then_some(())?;
        while self.word("*|+") {
            (self.next()?.kind == TokenKind::Number).then_some(())?;
        }
        if self.word(":") {
            self.word(":").then_some(())?;
            self.word("TIMESTAMP|TIMESTAMP_LTZ|TIMESTAMP_NTZ|TIMESTAMP_TZ|DATE").then_some(())?;
        }
        self.word(")").then_some(())
    }

    fn counts(&mut self) -> Option<()> {
        let from = self.at;
        while let Some(token) = self.peek() {
            let fits = match token.kind {
                TokenKind::Word => COUNTS.iter().any(|word| token.text.eq_ignore_ascii_case(word)),
                TokenKind::Number | TokenKind::Text => true,
                TokenKind::Symbol => ["=", "-", ","].contains(&token.text),
                TokenKind::Quoted | TokenKind::Variable => false,
            };
            fits.then_some(())?;
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    /// What SHOW looks in; the account when it does not say.
    fn place(&mut self) -> Option<()> {
        let metadata = vec![Effect::Metadata];
        if !self.word("IN|FROM") {
            self.touched.push(Touch::Account(metadata));
            return Some(());
        }
        if self.word("ACCOUNT") {
            self.touched.push(Touch::Account(metadata));
            return Some(());
        }
        if self.word("CLASS") {
            let parts = self.name()?;
            self.touched.push(Touch::Named { kind: ObjectKind::Other, parts, effects: metadata });
            return Some(());
        }
        if let Some(object) = OBJECTS.iter().find(|object| self.words(object.words)) {
            let open = self.peek().is_none_or(|token| {
                ["LIKE", "LIMIT", "STARTS"].iter().any(|word| token.text.eq_ignore_ascii_case(word))
            });
            match object.kind {
                ObjectKind::Database | ObjectKind::Schema if open => self.touched.push(Touch::Current(object.kind)),
                // Which ones those are is not said: as good as all.
                ObjectKind::Table | ObjectKind::View if open => self.touched.push(Touch::Account(metadata)),
                _ => return self.object(object, metadata),
            }
            return Some(());
        }
        let listed = |words: &[&str]| {
            let head = self.tokens.iter().take(self.at);
            head.into_iter().any(|token| words.iter().any(|word| token.text.eq_ignore_ascii_case(word)))
        };
        // What has columns and keys is a table; schemas are in a database, and all else is in a schema.
        let (of_table, of_database) = (listed(&["COLUMNS", "KEYS"]), listed(&["SCHEMAS"]));
        let parts = self.name()?;
        let kind = match parts.len() {
            1 | 2 if of_table => ObjectKind::Table,
            1 if of_database => ObjectKind::Database,
            1 | 2 => ObjectKind::Schema,
            3 => ObjectKind::Table,
            _ => return None,
        };
        self.touched.push(Touch::Named { kind, parts, effects: metadata });
        Some(())
    }

    /// Words up to ON.
    fn rights(&mut self) -> Option<()> {
        self.several_of(|matcher| {
            let from = matcher.at;
            while let Some(token) = matcher.peek() {
                if token.kind != TokenKind::Word || token.text.eq_ignore_ascii_case("ON") {
                    break;
                }
                matcher.at += 1;
            }
            (matcher.at > from).then_some(())
        })
    }

    /// Words up to IN: the kinds of object a right is given on at once.
    fn several(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|token| token.kind == TokenKind::Word && !token.text.eq_ignore_ascii_case("IN")) {
            self.at += 1;
        }
        (1..=5).contains(&(self.at - from)).then_some(())
    }

    fn grantee(&mut self) -> Option<()> {
        let effects = vec![Effect::Grant];
        let kinds = ["APPLICATION ROLE", "DATABASE ROLE", "ROLE", "USER", "SHARE", "APPLICATION"];
        let words = kinds.into_iter().find(|words| self.words(words)).unwrap_or("ROLE");
        let object = OBJECTS.iter().find(|object| object.words == words)?;
        let parts = self.name()?;
        (object.scope != Scope::Account || parts.len() == 1).then_some(())?;
        self.touched.push(Touch::Object { object, parts, effects });
        Some(())
    }
}

fn path_token(token: &Token<'_>) -> bool {
    match token.kind {
        TokenKind::Word | TokenKind::Number | TokenKind::Quoted => true,
        TokenKind::Symbol => [".", "/", "-", "=", "+", "%", "*", "~", ":"].contains(&token.text),
        TokenKind::Text | TokenKind::Variable => false,
    }
}
