//! Settings: `KEY = value`, with texts that may be places outside.

use icegate_pdp_model::{Effect, ObjectKind};

use crate::{
    gate::{Token, TokenKind},
    heads::{
        matcher::Matcher,
        touch::Touch,
        words::{ESCAPED, MEANING, SETTING_BARRED, SETTING_OBJECTS, SETTING_PLACES, SETTING_SHOWN, USER_SETTINGS},
    },
    names,
};

/// Which settings may stand there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keys {
    /// All that leave the meaning of names and texts alone.
    Any,
    /// Those of a user that are not parameters of its sessions.
    User,
}

impl Keys {
    fn allow(self, key: &str) -> bool {
        match self {
            Self::Any => !MEANING.contains(&key),
            Self::User => USER_SETTINGS.contains(&key),
        }
    }
}

impl Matcher<'_, '_> {
    /// At least one setting.
    pub(super) fn options(&mut self, keys: Keys) -> Option<()> {
        self.setting(keys, 0)?;
        loop {
            let (at, touched) = (self.at, self.touched.len());
            self.word(",");
            if !self.key_is_next() || self.setting(keys, 0).is_none() {
                // What is no setting is another clause, or the row does not match.
                self.at = at;
                self.touched.truncate(touched);
                return Some(());
            }
        }
    }

    /// `KEY, KEY` after UNSET.
    pub(super) fn keys(&mut self, keys: Keys) -> Option<()> {
        loop {
            let token = self.next()?;
            let plain = token.kind == TokenKind::Word && keys.allow(&token.text.to_ascii_uppercase());
            plain.then_some(())?;
            if !self.word(",") {
                return Some(());
            }
        }
    }

    fn key_is_next(&self) -> bool {
        let equals = self.tokens.get(self.at + 1).is_some_and(|token| token.text == "=");
        equals && self.peek().is_some_and(|token| token.kind == TokenKind::Word)
    }

    pub(super) fn setting(&mut self, keys: Keys, depth: usize) -> Option<()> {
        self.key_is_next().then_some(())?;
        let key = self.next()?.text.to_ascii_uppercase();
        keys.allow(&key).then_some(())?;
        self.word("=").then_some(())?;
        self.value(&key, depth)?;
        // A list without brackets goes on until the next setting.
        while self.peek().is_some_and(|token| token.text == ",") {
            self.at += 1;
            if self.key_is_next() || self.end() {
                self.at -= 1;
                return Some(());
            }
            self.value(&key, depth)?;
        }
        Some(())
    }

    fn value(&mut self, key: &str, depth: usize) -> Option<()> {
        let token = self.peek()?;
        match token.kind {
            TokenKind::Text => {
                self.at += 1;
                self.place_in(key, token)
            }
            TokenKind::Number => {
                self.at += 1;
                Some(())
            }
            TokenKind::Symbol if token.text == "-" => {
                self.at += 1;
                (self.next()?.kind == TokenKind::Number).then_some(())
            }
            TokenKind::Symbol if token.text == "(" && depth < DEPTH_MAX => {
                self.at += 1;
                self.list(key, depth + 1)
            }
            TokenKind::Word | TokenKind::Quoted => self.named(key),
            // A variable's value is not seen, so it may name no place and no object.
            TokenKind::Variable if !key.ends_with("URL") && object(key).is_none() && !SETTING_PLACES.contains(&key) => {
                self.at += 1;
                Some(())
            }
            TokenKind::Symbol if token.text == "@" => self.stage(vec![Effect::Read]),
            TokenKind::Symbol | TokenKind::Variable => None,
        }
    }

    pub(super) fn list(&mut self, key: &str, depth: usize) -> Option<()> {
        while !self.word(")") {
            if self.key_is_next() {
                self.setting(Keys::Any, depth)?;
            } else {
                self.value(key, depth)?;
            }
            self.word(",");
        }
        Some(())
    }

    /// A word or the name of another object; never a call.
    fn named(&mut self, key: &str) -> Option<()> {
        let parts = if self.word("NULL|ALL") { Vec::new() } else { self.name()? };
        if self.peek().is_some_and(|token| token.text == "(") {
            return None;
        }
        // A place must be a text, to be seen.
        (!key.ends_with("URL")).then_some(())?;
        if key == "PURGE" && parts == ["TRUE"] {
            self.purged();
        }
        self.object_of(key, parts)
    }

    /// What was loaded is removed from its stage.
    fn purged(&mut self) {
        for touch in &mut self.touched {
            if let Touch::Stage { effects, .. } | Touch::Remote { kind: ObjectKind::Stage, effects, .. } = touch {
                effects.push(Effect::Write);
            }
        }
    }

    /// The object a setting names.
    fn object_of(&mut self, key: &str, parts: Vec<String>) -> Option<()> {
        let none = ["NONE", "NULL"];
        let managed = key == "CATALOG" && parts == ["SNOWFLAKE"];
        match object(key) {
            Some((kind, effects)) => {
                if !managed && parts.first().is_some_and(|first| !none.contains(&first.as_str())) {
                    self.touched.push(Touch::Named { kind, parts, effects: effects.to_vec() });
                }
                Some(())
            }
            // A dotted name names something, and it must be known what.
            None => (parts.len() <= 1 || SETTING_PLACES.contains(&key)).then_some(()),
        }
    }

    /// A text; data can come from and go to a place it names.
    fn place_in(&mut self, key: &str, token: &Token<'_>) -> Option<()> {
        let text = literal(token)?;
        if SETTING_SHOWN.contains(&key) || SETTING_BARRED.contains(&key) {
            return Some(());
        }
        let escaped = text.contains('\\');
        (!escaped || ESCAPED.contains(&key)).then_some(())?;
        if object(key).is_some() {
            return self.object_of(key, names::dotted(text)?);
        }
        if key == "TARGET_PATH" {
            self.touched.push(Touch::Stage { text: text.strip_prefix('@')?.to_owned(), effects: vec![Effect::Write] });
            return Some(());
        }
        let anywhere = text == "*" && key == "STORAGE_ALLOWED_LOCATIONS";
        let egress = key == "VALUE_LIST" && self.follows("MODE = EGRESS");
        if anywhere || text.contains("://") || SETTING_PLACES.contains(&key) || egress {
            let sent = egress || key == "ALLOWED_RECIPIENTS";
            let effects = if sent { vec![Effect::Export] } else { vec![Effect::Import, Effect::Export] };
            self.touched.push(Touch::Location { url: text.replace("''", "'"), effects });
        } else if key.ends_with("URL") {
            return None;
        } else if text.starts_with('@') && !ESCAPED.contains(&key) {
            self.touched.push(Touch::Stage { text: text.strip_prefix('@')?.to_owned(), effects: vec![Effect::Read] });
        }
        Some(())
    }

    /// Whether these words stand anywhere in the statement.
    fn follows(&self, words: &str) -> bool {
        let words: Vec<&str> = words.split(' ').collect();
        self.tokens
            .windows(words.len())
            .any(|window| window.iter().zip(&words).all(|(token, word)| token.text.eq_ignore_ascii_case(word)))
    }
}

/// What a setting names, and what is done to it.
fn object(key: &str) -> Option<(ObjectKind, &'static [Effect])> {
    SETTING_OBJECTS.iter().find(|(setting, _, _)| *setting == key).map(|&(_, kind, effects)| (kind, effects))
}

/// Deepest brackets in settings.
const DEPTH_MAX: usize = 4;

/// What is in the quotes of a literal, or a file's URL without any.
pub(super) fn literal<'a>(token: &Token<'a>) -> Option<&'a str> {
    let text = token.text;
    if token.kind != TokenKind::Text {
        return None;
    }
    let inside = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    Some(inside("'").or_else(|| inside("$$")).unwrap_or(text))
}
