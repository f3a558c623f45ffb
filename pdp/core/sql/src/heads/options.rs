//! Settings: `KEY = value`, with texts that may be places outside.

use icegate_pdp_model::Effect;

use crate::{
    gate::{Token, TokenKind},
    heads::{
        matcher::Matcher,
        table::{ESCAPED, MEANING, SETTING_OBJECTS, USER_SETTINGS},
        touch::Touch,
    },
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
            self.word(",");
            if !self.key_is_next() {
                return Some(());
            }
            self.setting(keys, 0)?;
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

    fn setting(&mut self, keys: Keys, depth: usize) -> Option<()> {
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
            TokenKind::Symbol | TokenKind::Variable => None,
        }
    }

    fn list(&mut self, key: &str, depth: usize) -> Option<()> {
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
        let object = SETTING_OBJECTS.iter().find(|(setting, _, _)| *setting == key);
        let none = ["NONE", "NULL"].map(str::to_owned);
        if let (Some(&(_, kind, effect)), false) = (object, parts.is_empty() || none.contains(parts.first()?)) {
            self.touched.push(Touch::Named { kind, parts, effects: vec![effect] });
        }
        Some(())
    }

    /// A text; data can come from and go to a place it names.
    fn place_in(&mut self, key: &str, token: &Token<'_>) -> Option<()> {
        let text = literal(token)?;
        if key == "COMMENT" {
            return Some(());
        }
        let escaped = text.contains('\\');
        (!escaped || ESCAPED.contains(&key)).then_some(())?;
        // An object named by a text is not followed.
        (!SETTING_OBJECTS.iter().any(|(setting, _, _)| *setting == key)).then_some(())?;
        if text.contains("://") {
            let effects = vec![Effect::Import, Effect::Export];
            self.touched.push(Touch::Location { url: text.replace("''", "'"), effects });
        } else if key.ends_with("URL") {
            return None;
        }
        Some(())
    }
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
