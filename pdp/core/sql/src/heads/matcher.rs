//! Matches a row of the table against a whole statement.
//!
//! A row is a list of atoms. Upper case and signs stand for themselves, `A|B` for one of them, `[…]` for what may be
//! left out. `<kind:effects>` is the words of a kind of object and a name of it; `<=kind:effects>` the name alone,
//! `<+kind:effects>` both without the list of types. Lower case is one of the forms in [`super::atoms`] and its fellows,
//! or a list of clauses: one of them, with `*` before it any number, with `+` at least one. What matched is not tried
//! again otherwise: a row that could be read in two ways does not match, and the statement stays unknown.

use icegate_pdp_model::Effect;

use crate::{
    gate::{Token, TokenKind},
    heads::{
        LISTED,
        objects::{OBJECTS, Object},
        touch::{Param, Touch},
        words::NOT_NAMES,
    },
    names,
};

/// A row cut into its atoms.
pub(super) type Row = Vec<&'static str>;

/// A statement's tokens and how far they are matched.
#[derive(Debug)]
pub(super) struct Matcher<'t, 'a> {
    /// The statement, and where it starts in the whole text.
    pub(super) text: (&'a str, usize),
    pub(super) tokens: &'t [Token<'a>],
    pub(super) at: usize,
    pub(super) touched: Vec<Touch>,
    /// What CREATE does besides, to what stands there.
    pub(super) besides: Option<Effect>,
    /// Parameters of the routine or policy that is made.
    pub(super) params: Vec<Param>,
    /// The language its code is in.
    pub(super) language: Option<String>,
    depth: usize,
}

/// Deepest clauses within clauses.
const CLAUSES_DEPTH_MAX: usize = 8;

impl<'t, 'a> Matcher<'t, 'a> {
    /// What a statement touches that this row matches from its first token to its last.
    pub(super) fn whole(row: &[&'static str], text: (&'a str, usize), tokens: &'t [Token<'a>]) -> Option<Vec<Touch>> {
        let mut matcher = Self::new(text, tokens);
        matcher.line(row)?;
        matcher.end().then_some(matcher.touched)
    }

    pub(super) fn new(text: (&'a str, usize), tokens: &'t [Token<'a>]) -> Self {
        let (at, depth) = (0, 0);
        Self { text, tokens, at, touched: Vec::new(), besides: None, params: Vec::new(), language: None, depth }
    }

    fn line(&mut self, row: &[&'static str]) -> Option<()> {
        let first = row.first().copied().unwrap_or_default();
        let stands = first.chars().all(|c| c.is_ascii_uppercase() || c == '|' || c == '_');
        // Most rows begin with another word: they cost no more than that.
        let here = self.peek().is_some_and(|token| first.split('|').any(|word| token.text.eq_ignore_ascii_case(word)));
        if stands && !here {
            return None;
        }
        self.row(row)
    }

    /// One clause of a list.
    pub(super) fn clause(&mut self, rows: &'static [Row]) -> bool {
        if self.depth == CLAUSES_DEPTH_MAX || self.end() {
            return false;
        }
        self.depth += 1;
        let found = rows.iter().any(|row| {
            let (at, touched) = (self.at, self.touched.len());
            let here = self.line(row).is_some() && self.at > at;
            if !here {
                self.at = at;
                self.touched.truncate(touched);
            }
            here
        });
        self.depth -= 1;
        found
    }

    /// Any number of clauses of a list.
    pub(super) fn clauses(&mut self, rows: &'static [Row]) -> usize {
        let mut count = 0;
        while self.clause(rows) {
            count += 1;
            self.word(",");
        }
        // A comma is only between clauses.
        if count > 0 && self.at > 0 && self.tokens.get(self.at - 1).is_some_and(|token| token.text == ",") {
            self.at -= 1;
        }
        count
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
            } else if let Some(rows) = atom.strip_prefix(['*', '+']).and_then(clauses) {
                (self.clauses(rows) > 0 || atom.starts_with('*')).then_some(())?;
            } else if let Some(rows) = clauses(atom) {
                self.clause(rows).then_some(())?;
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
            let (bare, untyped) = (name.starts_with('='), name.starts_with('+'));
            let object = object(name.trim_start_matches(['=', '+']))?;
            if !bare {
                self.words(object.words).then_some(())?;
                self.exists();
            }
            if bare || untyped {
                let parts = self.name()?;
                self.touched.push(Touch::Object { object, parts, effects });
                return Some(());
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

    /// One to four dotted identifiers, folded; `IDENTIFIER` of a constant is the name in the constant.
    pub(super) fn name(&mut self) -> Option<Vec<String>> {
        if self.words("IDENTIFIER (") {
            let text = self.next().filter(|token| token.text.starts_with('\''))?;
            self.word(")").then_some(())?;
            return names::dotted(text.text.trim_matches('\''));
        }
        let mut parts = vec![self.ident()?];
        while self.word(".") {
            // In `db..t` the empty schema is `PUBLIC`.
            if parts.len() == 1 && self.word(".") {
                parts.push("PUBLIC".to_owned());
            }
            parts.push(self.ident_after_dot()?);
        }
        // A call is no name; types are read by who expects them.
        (parts.len() <= 4).then_some(parts)
    }

    /// Behind a dot a keyword is a name like any other.
    fn ident_after_dot(&mut self) -> Option<String> {
        match self.peek() {
            Some(token) if token.kind == TokenKind::Word => {
                self.at += 1;
                Some(token.text.to_ascii_uppercase())
            }
            _ => self.ident(),
        }
    }

    /// The text from one token up to another.
    pub(super) fn slice(&self, from: usize, to: usize) -> Option<String> {
        let (text, start) = self.text;
        let first = self.tokens.get(from)?;
        let last = self.tokens.get(to.checked_sub(1)?).filter(|_| to > from)?;
        text.get(first.start.checked_sub(start)?..last.end().checked_sub(start)?).map(str::to_owned)
    }

    /// Where the brackets close that are open here.
    pub(super) fn balanced(&mut self) -> Option<(usize, usize)> {
        self.word("(").then_some(())?;
        let from = self.at;
        self.until(|_, _| false)?;
        self.word(")").then_some((from, self.at - 1))
    }

    /// Goes on to a token outside all brackets for which this holds, to the bracket that closes, or to the end.
    pub(super) fn until(&mut self, stop: impl Fn(&Self, &Token<'a>) -> bool) -> Option<()> {
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            let symbol = token.kind == TokenKind::Symbol;
            if depth == 0 && (symbol && matches!(token.text, ")" | "]" | "}") || stop(self, token)) {
                return Some(());
            }
            match token.text {
                "(" | "[" | "{" if symbol => depth += 1,
                ")" | "]" | "}" if symbol => depth = depth.checked_sub(1)?,
                _ => {}
            }
            self.at += 1;
        }
        (depth == 0).then_some(())
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

fn clauses(name: &str) -> Option<&'static [Row]> {
    LISTED.get(name).map(Vec::as_slice)
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
    use super::{Matcher, atoms, clauses, closing, object};
    use crate::heads::{
        objects::OBJECTS,
        table::{CLAUSES, HEADS},
        words::NOT_NAMES,
    };

    #[test]
    fn every_row_is_written_right() {
        for row in HEADS.iter().chain(CLAUSES.iter().flat_map(|(_, rows)| *rows)) {
            let atoms = atoms(row);
            for (at, atom) in atoms.iter().enumerate() {
                if *atom == "[" {
                    assert!(closing(&atoms[at + 1..]).is_some(), "{row}");
                }
                let effects = atom.trim_end_matches('>').split_once(':').map_or("", |(_, effects)| effects);
                if let Some(list) = atom.strip_prefix(['*', '+']).filter(|list| !list.is_empty()) {
                    assert!(clauses(list).is_some(), "{row}: {atom}");
                    continue;
                }
                let matcher = Matcher::new(("", 0), &[]);
                assert!(matcher.effects(effects).is_some(), "{row}: {atom}");
                if let Some(inner) = atom.strip_prefix('<') {
                    let name = inner.split(':').next().unwrap().trim_start_matches(['=', '+']);
                    assert!(object(name).is_some(), "{row}: {atom}");
                } else if atom.starts_with(|c: char| c.is_ascii_lowercase()) {
                    let form = atom.split(':').next().unwrap();
                    assert!(Matcher::FORMS.contains(&form) || clauses(atom).is_some(), "{row}: {atom}");
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
