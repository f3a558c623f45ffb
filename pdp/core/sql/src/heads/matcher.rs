//! Matches a row of the table against a whole statement.
//!
//! A row is a list of atoms. Upper case and signs stand for themselves, `A|B` for one of them, `[…]` for what may be
//! left out. `<kind:effects>` is the words of a kind of object and a name of it; `<=kind:effects>` the name alone. Lower
//! case is one of the forms in [`super::atoms`]. Nothing is tried twice: a row that could be read in two ways does not
//! match, and the statement stays unknown.

use icegate_pdp_model::Effect;

use crate::{
    gate::{Token, TokenKind},
    heads::{
        table::{NOT_NAMES, OBJECTS, Object},
        touch::Touch,
    },
};

/// A statement's tokens and how far they are matched.
#[derive(Debug)]
pub(super) struct Matcher<'t, 'a> {
    pub(super) tokens: &'t [Token<'a>],
    pub(super) at: usize,
    pub(super) touched: Vec<Touch>,
    /// What CREATE does besides, to what stands there.
    pub(super) besides: Option<Effect>,
}

impl<'t, 'a> Matcher<'t, 'a> {
    /// What a statement touches that this row matches from its first token to its last.
    pub(super) fn whole(row: &[&str], tokens: &'t [Token<'a>]) -> Option<Vec<Touch>> {
        let mut matcher = Self { tokens, at: 0, touched: Vec::new(), besides: None };
        matcher.row(row)?;
        matcher.end().then_some(matcher.touched)
    }

    fn row(&mut self, mut atoms: &[&str]) -> Option<()> {
        while let Some((&atom, rest)) = atoms.split_first() {
            atoms = rest;
            if atom == "[" {
                let close = closing(atoms)?;
                let (inside, after) = atoms.split_at_checked(close)?;
                let (at, touched) = (self.at, self.touched.len());
                if self.row(inside).is_none() {
                    self.at = at;
                    self.touched.truncate(touched);
                }
                atoms = after.get(1..)?;
            } else if atom.starts_with(|c: char| c.is_ascii_lowercase() || c == '<') {
                self.atom(atom)?;
            } else {
                self.word(atom).then_some(())?;
            }
        }
        Some(())
    }

    fn atom(&mut self, atom: &str) -> Option<()> {
        if let Some(inner) = atom.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')) {
            let (name, effects) = inner.split_once(':')?;
            let effects = self.effects(effects)?;
            let bare = name.strip_prefix('=');
            let object = object(bare.unwrap_or(name))?;
            if bare.is_none() {
                self.words(object.words).then_some(())?;
                self.exists();
            }
            return self.object(object, effects);
        }
        let (form, effects) = atom.split_once(':').unwrap_or((atom, ""));
        let effects = self.effects(effects)?;
        self.form(form, effects)
    }

    fn effects(&self, text: &str) -> Option<Vec<Effect>> {
        let words = text.split('+').filter(|word| !word.is_empty());
        let effects: Option<Vec<Effect>> =
            words.map(|word| Effect::ALL.iter().find(|effect| effect.as_str() == word).copied()).collect();
        let mut effects = effects?;
        if effects.contains(&Effect::Create) {
            effects.extend(self.besides);
        }
        Some(effects)
    }

    /// A name of this object, and its types when it has them.
    pub(super) fn object(&mut self, object: &'static Object, effects: Vec<Effect>) -> Option<()> {
        let parts = self.name()?;
        if object.typed {
            self.types()?;
        }
        self.touched.push(Touch::Object { object, parts, effects });
        Some(())
    }

    /// `IF EXISTS` or `IF NOT EXISTS`, when it is there.
    pub(super) fn exists(&mut self) {
        if !self.words("IF NOT EXISTS") {
            self.words("IF EXISTS");
        }
    }

    pub(super) fn peek(&self) -> Option<&'t Token<'a>> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'t Token<'a>> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    pub(super) fn end(&self) -> bool {
        self.at == self.tokens.len()
    }

    /// One of these words or signs, when it is next.
    pub(super) fn word(&mut self, words: &str) -> bool {
        let Some(token) = self.peek() else { return false };
        let here = matches!(token.kind, TokenKind::Word | TokenKind::Symbol)
            && words.split('|').any(|word| token.text.eq_ignore_ascii_case(word));
        self.at += usize::from(here);
        here
    }

    /// All of these words in a row, or none.
    pub(super) fn words(&mut self, words: &str) -> bool {
        let at = self.at;
        let all = words.split(' ').all(|word| self.word(word));
        if !all {
            self.at = at;
        }
        all
    }

    /// One to four dotted identifiers, folded.
    pub(super) fn name(&mut self) -> Option<Vec<String>> {
        let mut parts = vec![self.ident()?];
        while self.word(".") {
            parts.push(self.ident()?);
        }
        // A call, `IDENTIFIER(…)` among them, is no name; types are read by who expects them.
        (parts.len() <= 4).then_some(parts)
    }

    pub(super) fn ident(&mut self) -> Option<String> {
        let token = self.next()?;
        match token.kind {
            TokenKind::Quoted => {
                let inner = token.text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\""))
            }
            TokenKind::Word => {
                let folded = token.text.to_ascii_uppercase();
                (!NOT_NAMES.contains(&folded.as_str())).then_some(folded)
            }
            TokenKind::Text | TokenKind::Number | TokenKind::Variable | TokenKind::Symbol => None,
        }
    }
}

/// The kind of object a row means by `file_format`.
fn object(name: &str) -> Option<&'static Object> {
    // Which sort of policy it is makes no difference to its name.
    let name = if name == "policy" { "masking_policy" } else { name };
    let sign = |byte: u8| if byte == b'_' { b' ' } else { byte.to_ascii_uppercase() };
    OBJECTS.iter().find(|object| object.words.bytes().eq(name.bytes().map(sign)))
}

/// A row cut into its atoms: brackets stand alone, blanks part the rest.
pub(super) fn atoms(row: &str) -> Vec<&str> {
    let mut atoms = Vec::new();
    for word in row.split_whitespace() {
        let mut rest = word;
        while let Some(at) = rest.find(['[', ']']) {
            let (before, from) = rest.split_at(at);
            let (bracket, after) = from.split_at(1);
            atoms.extend([before, bracket].into_iter().filter(|atom| !atom.is_empty()));
            rest = after;
        }
        atoms.extend(Some(rest).filter(|atom| !atom.is_empty()));
    }
    atoms
}

/// Where the group that is open closes.
fn closing(atoms: &[&str]) -> Option<usize> {
    let mut depth = 1_usize;
    atoms.iter().position(|&atom| {
        depth = match atom {
            "[" => depth + 1,
            "]" => depth - 1,
            _ => depth,
        };
        depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::{Matcher, atoms, closing, object};
    use crate::heads::table::{HEADS, NOT_NAMES, OBJECTS};

    #[test]
    fn every_row_is_written_right() {
        for row in HEADS {
            let atoms = atoms(row);
            for (at, atom) in atoms.iter().enumerate() {
                if *atom == "[" {
                    assert!(closing(&atoms[at + 1..]).is_some(), "{row}");
                }
                let effects = atom.trim_end_matches('>').split_once(':').map_or("", |(_, effects)| effects);
                let matcher = Matcher { tokens: &[], at: 0, touched: Vec::new(), besides: None };
                assert!(matcher.effects(effects).is_some(), "{row}: {atom}");
                if let Some(inner) = atom.strip_prefix('<') {
                    let name = inner.split(':').next().unwrap().trim_start_matches('=');
                    assert!(object(name).is_some(), "{row}: {atom}");
                } else if atom.starts_with(|c: char| c.is_ascii_lowercase()) {
                    assert!(Matcher::FORMS.contains(&atom.split(':').next().unwrap()), "{row}: {atom}");
                }
            }
        }
    }

    #[test]
    fn longer_words_stand_before_their_beginnings() {
        for (at, object) in OBJECTS.iter().enumerate() {
            let shadowed = OBJECTS[..at].iter().any(|earlier| object.words.starts_with(&format!("{} ", earlier.words)));
            assert!(!shadowed, "{}", object.words);
        }
        assert!(NOT_NAMES.is_sorted());
    }
}
