//! The forms of columns, constraints, lists of names.

use icegate_pdp_model::{Effect, ObjectKind};

use crate::{
    gate::TokenKind,
    heads::{
        matcher::Matcher,
        objects::{OBJECTS, Object},
        options::literal,
        touch::Touch,
        words::TYPES,
    },
};

/// Words a column can have behind its type, with nothing that names an object.
const COLUMN_WORDS: &str = "NOT|NULL|PRIMARY|KEY|UNIQUE|FOREIGN|AUTOINCREMENT|IDENTITY|START|INCREMENT|BY|WITH|ORDER|NOORDER|ENABLE|DISABLE|\
    VALIDATE|NOVALIDATE|RELY|NORELY|ENFORCED|DEFERRABLE|INITIALLY|DEFERRED|IMMEDIATE|MATCH|FULL|SIMPLE|PARTIAL|ON|\
    UPDATE|DELETE|CASCADE|RESTRICT|SET|NO|ACTION|GENERATED|ALWAYS|VIRTUAL|INDEX|INCLUDE|VARYING|PRECISION|DEFAULT|\
    RENAME|TO|TYPE|DATA|HIDDEN|MASKED";
/// Words that end a default.
const DEFAULT_ENDS: [&str; 15] = [
    "NOT",
    "NULL",
    "COMMENT",
    "PRIMARY",
    "UNIQUE",
    "REFERENCES",
    "CONSTRAINT",
    "WITH",
    "MASKING",
    "PROJECTION",
    "TAG",
    "COLLATE",
    "VIRTUAL",
    "FOREIGN",
    "RENAME",
];
/// Words with brackets behind them that are no call.
const NO_CALLS: [&str; 30] = [
    "AND",
    "AS",
    "BY",
    "BETWEEN",
    "CASE",
    "CUBE",
    "ELSE",
    "EXCLUDING",
    "FILTER",
    "FROM",
    "IN",
    "INCLUDE",
    "INTERVAL",
    "KEY",
    "KEYS",
    "LABELS",
    "NOT",
    "ON",
    "OR",
    "OVER",
    "PARTITION",
    "RANGE",
    "REFERENCES",
    "ROWS",
    "SYNONYMS",
    "THEN",
    "UNIQUE",
    "USING",
    "WHEN",
    "WITH",
];

impl Matcher<'_, '_> {
    /// Matches one of these forms.
    #[expect(clippy::too_many_lines, reason = "one arm per form")]
    pub(super) fn part(&mut self, form: &str, effects: Vec<Effect>) -> Option<()> {
        match form {
            "definitions" => self.definitions(),
            "column_list" => {
                if self.peek()?.text == "(" {
                    return self.definitions();
                }
                self.several_of(|matcher| {
                    matcher.word("COLUMN");
                    matcher.exists();
                    matcher.definition()
                })
            }
            "column_type" => {
                self.column_type()?;
                self.column_options(",")
            }
            "constraint" => self.definition(),
            "idents" => {
                self.word("(").then_some(())?;
                self.several_of(|matcher| matcher.next().map(drop))?;
                self.word(")").then_some(())
            }
            "variables" => self.several_of(|matcher| {
                matcher.word(":");
                matcher.next().filter(|token| token.kind == TokenKind::Word).map(drop)
            }),
            "variable" => self.ident().map(drop),
            "variables_listed" => {
                self.word("(").then_some(())?;
                self.several_of(|matcher| matcher.ident().map(drop))?;
                self.word(")").then_some(())
            }
            "role_used" => {
                let parts = self.name()?;
                self.touched.push(Touch::Named { kind: ObjectKind::Role, parts, effects });
                let used = self.touched.last_mut()?;
                if let Touch::Named { effects, .. } = used {
                    *effects = vec![Effect::Use];
                }
                Some(())
            }
            "tables" => self.listed(ObjectKind::Table, &effects),
            "tasks" => self.listed(ObjectKind::Task, &effects),
            "accounts" => self.listed(ObjectKind::Account, &effects),
            "exported_names" => {
                let at = self.at;
                self.until(|_, token| token.text.eq_ignore_ascii_case("TO"))?;
                let shares = self.tokens.get(self.at + 1)?.text.eq_ignore_ascii_case("ALLOWED_SHARES");
                self.at = at;
                self.listed(if shares { ObjectKind::Share } else { ObjectKind::Database }, &[Effect::Export])
            }
            "own_stage" => self.own_stage(),
            "current_warehouse" => {
                self.touched.push(Touch::Current(ObjectKind::Warehouse));
                Some(())
            }
            "remote_object" => {
                let kind = self.touched.first().and_then(Touch::kind)?;
                let parts = self.name()?;
                self.touched.push(Touch::Remote { kind, parts, effects });
                Some(())
            }
            "text_name" => {
                let parts = match self.peek()?.kind {
                    TokenKind::Text => vec![literal(self.next()?)?.to_owned()],
                    _ => self.name()?,
                };
                self.touched.push(Touch::Remote { kind: ObjectKind::Listing, parts, effects: vec![Effect::Import] });
                Some(())
            }
            "text_or_stage" | "stage_or_text" => {
                let token = self.peek()?;
                let url = literal(token).filter(|text| text.contains("://"));
                if let Some(url) = url {
                    self.at += 1;
                    let effects = vec![Effect::Import];
                    self.touched.push(Touch::Location { url: url.to_owned(), effects });
                    return Some(());
                }
                self.stage(vec![Effect::Read])
            }
            "service_role" => {
                let mut parts = self.name()?;
                self.word("!").then_some(())?;
                parts.push(self.ident()?);
                self.touched.push(Touch::Remote { kind: ObjectKind::Role, parts, effects: vec![Effect::Grant] });
                Some(())
            }
            "contacts" => {
                let bracket = self.word("(");
                self.several_of(|matcher| {
                    matcher.ident()?;
                    matcher.word("=").then_some(())?;
                    let parts = matcher.name()?;
                    matcher.touched.push(Touch::Object {
                        object: object(ObjectKind::Contact)?,
                        parts,
                        effects: vec![Effect::Use],
                    });
                    Some(())
                })?;
                (!bracket || self.word(")")).then_some(())
            }
            "secrets" => {
                self.word("(").then_some(())?;
                self.several_of(|matcher| {
                    literal(matcher.next()?)?;
                    matcher.word("=").then_some(())?;
                    let parts = matcher.name()?;
                    matcher.touched.push(Touch::Object {
                        object: object(ObjectKind::Secret)?,
                        parts,
                        effects: vec![Effect::Use],
                    });
                    Some(())
                })?;
                self.word(")").then_some(())
            }
            "tags_of_column" => {
                self.tagged()?;
                self.again(Self::tagged)
            }
            "untags_of_column" => {
                self.tag()?;
                self.again(|matcher| {
                    matcher.tag()?;
                    (matcher.end() || matcher.peek()?.text == ",").then_some(())
                })
            }
            "tags_text" => self.several_of(|matcher| {
                matcher.ident()?;
                matcher.word("=").then_some(())?;
                matcher.text_or_quoted()
            }),
            "policy_word" => self.word("PASSWORD|SESSION|AUTHENTICATION|PACKAGES|FEATURE|NETWORK").then_some(()),
            "options_in_brackets" => {
                self.word("(").then_some(())?;
                self.list("", 1)
            }
            "words" => self.several_of(|matcher| {
                let from = matcher.at;
                while matcher.peek().is_some_and(|token| token.kind == TokenKind::Word)
                    && matcher.tokens.get(matcher.at + 1).is_none_or(|token| token.text != "=")
                {
                    matcher.at += 1;
                }
                (matcher.at > from).then_some(())
            }),
            "names_with_brackets" => self.several_of(|matcher| {
                matcher.ident()?;
                if matcher.peek().is_some_and(|token| token.text == "(") { matcher.brackets() } else { Some(()) }
            }),
            "plain_brackets" | "masked_using" => self.plain_brackets(),
            _ => None,
        }
    }

    /// The same again behind commas, as long as it fits.
    pub(super) fn again(&mut self, mut one: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        loop {
            let (at, touched) = (self.at, self.touched.len());
            if !self.word(",") || one(self).is_none() {
                self.at = at;
                self.touched.truncate(touched);
                return Some(());
            }
        }
    }

    fn listed(&mut self, kind: ObjectKind, effects: &[Effect]) -> Option<()> {
        self.several_of(|matcher| {
            matcher.exists();
            let parts = matcher.name()?;
            matcher.touched.push(match object(kind).filter(|_| kind != ObjectKind::Account) {
                Some(object) => Touch::Object { object, parts, effects: effects.to_vec() },
                None => Touch::Named { kind, parts, effects: effects.to_vec() },
            });
            Some(())
        })
    }

    /// A table loaded from its own stage.
    fn own_stage(&mut self) -> Option<()> {
        let mut parts = self.name()?;
        let written = parts.clone();
        self.touched.push(Touch::Named { kind: ObjectKind::Table, parts: written, effects: vec![Effect::Write] });
        let last = parts.last_mut()?;
        last.insert(0, '%');
        self.touched.push(Touch::Remote { kind: ObjectKind::Stage, parts, effects: vec![Effect::Import] });
        Some(())
    }

    /// `(column …, constraint …)`.
    fn definitions(&mut self) -> Option<()> {
        self.word("(").then_some(())?;
        loop {
            self.definition()?;
            if self.word(")") {
                return Some(());
            }
            self.word(",").then_some(())?;
            // A comma too many is forgiven.
            if self.word(")") {
                return Some(());
            }
        }
    }

    /// A column with what stands behind its name, or a constraint.
    pub(super) fn definition(&mut self) -> Option<()> {
        if self.word("CONSTRAINT") {
            self.ident()?;
        }
        let constraint = self.peek()?.kind == TokenKind::Word
            && ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK", "INDEX"]
                .iter()
                .any(|word| self.peek().is_some_and(|token| token.text.eq_ignore_ascii_case(word)));
        if constraint {
            if self.word("INDEX") {
                self.ident()?;
            }
            if self.word("PRIMARY|FOREIGN") {
                self.word("KEY").then_some(())?;
            } else {
                self.word("UNIQUE|CHECK");
            }
            if self.peek().is_some_and(|token| token.text == "(") {
                self.plain_brackets()?;
            }
            return self.column_options(",");
        }
        // Behind a column's name a keyword ends it: in a view or in CREATE TABLE … AS it has no type.
        let token = self.next()?;
        matches!(token.kind, TokenKind::Word | TokenKind::Quoted).then_some(())?;
        if self.type_is_next() {
            self.column_type()?;
        }
        self.column_options(",")
    }

    fn type_is_next(&self) -> bool {
        self.peek().is_some_and(|token| {
            token.kind == TokenKind::Word && TYPES.iter().any(|name| token.text.eq_ignore_ascii_case(name))
        })
    }

    /// `NUMBER(38, 0)`, `DOUBLE PRECISION`, `MAP(VARCHAR, INT)`.
    pub(super) fn column_type(&mut self) -> Option<()> {
        self.type_is_next().then_some(())?;
        self.at += 1;
        self.word("PRECISION|VARYING");
        if self.peek().is_some_and(|token| token.text == "(") { self.types() } else { Some(()) }
    }

    /// What stands behind a column's type, up to the comma or bracket that ends it.
    fn column_options(&mut self, end: &str) -> Option<()> {
        while let Some(token) = self.peek() {
            if token.text == end || token.text == ")" {
                break;
            }
            // A change of another column may stand behind a comma only.
            if self.words("MASKING POLICY") || self.words("PROJECTION POLICY") {
                let parts = self.name()?;
                let policy = OBJECTS.iter().find(|object| object.words == "MASKING POLICY")?;
                self.touched.push(Touch::Object { object: policy, parts, effects: vec![Effect::Use] });
                if self.word("USING") {
                    self.plain_brackets()?;
                }
            } else if self.words("TAG (") {
                self.several_of(Self::tagged)?;
                self.word(")").then_some(())?;
            } else if self.word("REFERENCES") {
                let parts = self.name()?;
                let effects = vec![Effect::Metadata];
                self.touched.push(Touch::Named { kind: ObjectKind::Table, parts, effects });
                if self.peek().is_some_and(|token| token.text == "(") {
                    self.plain_brackets()?;
                }
            } else if self.word("CONSTRAINT") {
                self.ident()?;
            } else if self.word("COMMENT|COLLATE") {
                literal(self.next()?)?;
            } else if self.word("CHECK") {
                self.plain_brackets()?;
            } else if self.words("ON UPDATE SET DEFAULT") || self.words("ON DELETE SET DEFAULT") {
                // The default it already has.
            } else if self.word("DEFAULT|AS") {
                self.expression_until(
                    |matcher, token| {
                        let started = matcher.at > 0
                            && matcher.tokens.get(matcher.at - 1).is_some_and(|before| {
                                !["DEFAULT", "AS", "IS", "NOT"].iter().any(|it| before.text.eq_ignore_ascii_case(it))
                            });
                        token.text == ","
                            || started && DEFAULT_ENDS.iter().any(|word| token.text.eq_ignore_ascii_case(word))
                    },
                    true,
                )?;
            } else if self.word(COLUMN_WORDS) || token.kind == TokenKind::Number {
                if token.kind == TokenKind::Number {
                    self.at += 1;
                }
            } else if token.text == "(" {
                // Numbers of an identity, columns of a key.
                self.plain_brackets()?;
            } else {
                return None;
            }
        }
        Some(())
    }

    /// Brackets with columns and what is computed of them, never with a query.
    fn plain_brackets(&mut self) -> Option<()> {
        let (from, to) = self.balanced()?;
        let tokens = self.tokens.get(from..to)?;
        for (at, token) in tokens.iter().enumerate() {
            let is = |words: &[&str]| {
                token.kind == TokenKind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
            };
            if token.kind == TokenKind::Variable || is(&["SELECT", "CALL", "EXECUTE", "IDENTIFIER"]) {
                return None;
            }
            let calls = tokens.get(at + 1).is_some_and(|next| next.text == "(")
                && matches!(token.kind, TokenKind::Word | TokenKind::Quoted);
            if calls && !is(&NO_CALLS) && !is(TYPES) {
                let dotted = at > 0 && tokens.get(at - 1).is_some_and(|before| before.text == ".");
                self.touched.push(Touch::Called { name: token.text.to_owned(), dotted });
            }
        }
        Some(())
    }
}

/// The first object of this kind in the table.
fn object(kind: ObjectKind) -> Option<&'static Object> {
    let words = match kind {
        ObjectKind::Table => "TABLE",
        ObjectKind::View => "VIEW",
        ObjectKind::Database => "DATABASE",
        other => return OBJECTS.iter().find(|object| object.kind == other),
    };
    OBJECTS.iter().find(|object| object.words == words)
}
