//! The gate on bytes: our own small tokenizer, which splits statements and refuses what lexers disagree about.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TokenKind {
    /// An identifier or keyword without quotes.
    Word,
    /// An identifier in double quotes.
    Quoted,
    /// A literal in single quotes or dollars.
    Text,
    /// Digits.
    Number,
    /// `$name` or `$1`.
    Variable,
    /// One character of anything else.
    Symbol,
}

/// One token and where it starts in the whole text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind,
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

impl<'a> Token<'a> {
    /// The byte behind it.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// What stands between the quotes of a literal in single quotes, as written.
    pub(crate) fn in_quotes(&self) -> Option<&'a str> {
        self.text.strip_prefix('\'')?.strip_suffix('\'')
    }
}

/// One statement of the text, without its semicolon.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    pub(crate) start: usize,
    pub(crate) tokens: Vec<Token<'a>>,
    /// Tokens that can make a tree one level deeper without nesting in the text.
    pub(crate) operators: usize,
    /// Deepest nesting of brackets.
    pub(crate) nesting: usize,
}

/// Fewest bytes most texts have per token, to make room for them at once.
const BYTES_PER_TOKEN: usize = 4;

/// Splits a text into its statements, or says what no two lexers read alike.
pub(crate) fn split(sql: &str) -> Result<Vec<Piece<'_>>, String> {
    let mut cursor = Tokens::of(sql);
    let mut pieces = Vec::new();
    let mut tokens: Vec<Token<'_>> = Vec::with_capacity(sql.len() / BYTES_PER_TOKEN);
    let mut start = 0;
    loop {
        match cursor.next()? {
            Some(token) if token.kind == TokenKind::Symbol && token.text == ";" => {
                finish(sql, start, token.start, &mut tokens, &mut pieces);
                start = cursor.at;
            }
            Some(token) => tokens.push(token),
            None => {
                finish(sql, start, sql.len(), &mut tokens, &mut pieces);
                return Ok(pieces);
            }
        }
    }
}

/// One statement again, in other words of the same length.
pub(crate) fn again<'a>(text: &'a str, piece: &Piece<'_>) -> Option<Piece<'a>> {
    let mut pieces = split(text).ok()?;
    let mut again = pieces.pop().filter(|_| pieces.is_empty() && text.len() == piece.text.len())?;
    again.start += piece.start;
    for token in &mut again.tokens {
        token.start += piece.start;
    }
    Some(again)
}

/// A statement that stands `start` bytes into a longer text.
pub(crate) fn moved(mut piece: Piece<'_>, start: usize) -> Piece<'_> {
    piece.start += start;
    for token in &mut piece.tokens {
        token.start += start;
    }
    piece
}

/// The tokens of a text that is one statement or part of one.
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut cursor = Tokens::of(text);
    let mut tokens = Vec::new();
    while let Some(token) = cursor.next()? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// Where the gate stops in a text it does not let through: the byte its last token starts at.
pub(crate) fn stopped_at(text: &str) -> Option<usize> {
    let mut cursor = Tokens::of(text);
    loop {
        match cursor.next() {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(_) => return Some(cursor.at),
        }
    }
}

fn finish<'a>(sql: &'a str, start: usize, end: usize, tokens: &mut Vec<Token<'a>>, pieces: &mut Vec<Piece<'a>>) {
    if tokens.is_empty() {
        return;
    }
    let (operators, nesting) = depth(tokens);
    pieces.push(Piece {
        text: sql.get(start..end).unwrap_or_default(),
        start,
        tokens: std::mem::take(tokens),
        operators,
        nesting,
    });
}

/// How deep a tree the tokens can make: the most operators that can stand in one another, and the nesting of brackets.
fn depth(tokens: &[Token<'_>]) -> (usize, usize) {
    // Per open bracket: operators in it since the last comma, and whether a query is in it, whose commas end nothing.
    let mut levels = vec![(0_usize, true)];
    let (mut standing, mut operators, mut nesting) = (0_usize, 0, 0);
    for token in tokens {
        let word = token.kind == TokenKind::Word;
        match (token.kind, token.text) {
            (TokenKind::Symbol, "(" | "[" | "{") => {
                levels.push((0, false));
                nesting = nesting.max(levels.len() - 1);
            }
            (TokenKind::Symbol, ")" | "]" | "}") => {
                standing -= levels.pop().map_or(0, |(count, _)| count);
                if levels.is_empty() {
                    levels.push((0, true));
                }
            }
            (TokenKind::Symbol, ",") => {
                if let Some((count, false)) = levels.last_mut() {
                    standing -= *count;
                    *count = 0;
                }
            }
            (TokenKind::Symbol, ".") => {}
            (TokenKind::Symbol | TokenKind::Word, _) if !word || deepens(token.text) => {
                if let Some((count, query)) = levels.last_mut() {
                    *count += 1;
                    *query |= token.text.eq_ignore_ascii_case("select");
                }
                standing += 1;
                operators = operators.max(standing);
            }
            _ => {}
        }
    }
    (operators, nesting)
}

fn deepens(word: &str) -> bool {
    (2..=9).contains(&word.len()) && DEEPENING.iter().any(|it| word.eq_ignore_ascii_case(it))
}

/// Words of two to nine letters that join two operands or open a level, so that a row of them is a tree as deep as it is long.
#[rustfmt::skip]
const DEEPENING: [&str; 25] = [
    "and", "or", "not", "union", "except", "minus", "intersect", "is", "like", "ilike", "rlike", "regexp", "in",
    "between", "div", "xor", "collate", "at", "pivot", "unpivot", "prior", "overlaps", "case", "select", "interval",
];

/// Reads one token after the other.
pub(crate) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// Where the tokens end that stand without a blank behind an `@`: the name and path of a stage.
    path: Option<usize>,
}

impl<'a> Tokens<'a> {
    pub(crate) fn of(text: &'a str) -> Self {
        Self { text, at: 0, path: None }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The next token; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Token<'a>>, String> {
        self.skip_blanks_and_comments()?;
        let start = self.at;
        let rest = self.rest();
        let Some(&first) = rest.as_bytes().first() else { return Ok(None) };
        let (kind, len) = match first {
            b'\'' => (TokenKind::Text, text_len(rest)?),
            b'"' => (TokenKind::Quoted, quoted_len(rest)?),
            b'$' if rest.as_bytes().get(1) == Some(&b'$') => (TokenKind::Text, dollar_len(rest)?),
            // The end of a pattern; nothing else has it alone.
            b'$' if rest.as_bytes().get(1).is_some_and(|&next| next == b')' || next.is_ascii_whitespace()) => {
                (TokenKind::Symbol, 1)
            }
            b'$' => (TokenKind::Variable, variable_len(rest)?),
            b'0'..=b'9' => (TokenKind::Number, number_len(rest)),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => (TokenKind::Word, word_len(rest)?),
            b'#' => return Err("`#` outside a literal: some lexers read it as a comment".into()),
            b'`' => return Err("a back-quote outside a literal: not Snowflake syntax".into()),
            b'\\' => return Err("a backslash outside a literal".into()),
            other if other.is_ascii() => (TokenKind::Symbol, 1),
            _ => return Err(rest.chars().next().map(foreign).unwrap_or_default()),
        };
        self.at += len;
        if first == b'@' || self.path == Some(start) {
            self.path = Some(self.at);
        }
        let text = rest.get(..len).unwrap_or_default();
        Ok(Some(Token { kind, text, start }))
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), String> {
        let bytes = self.text.as_bytes();
        loop {
            let Some(&first) = bytes.get(self.at) else { return Ok(()) };
            match (first, bytes.get(self.at + 1)) {
                (b' ' | b'\t' | b'\n' | b'\r', _) => self.at += 1,
                (b'-', Some(b'-')) | (b'/', Some(b'/' | b'*')) => self.skip_comment()?,
                (b'\0', _) => return Err("a NUL character".into()),
                (control, _) if control.is_ascii_control() => {
                    return Err(format!("control character U+{control:04X} outside a literal"));
                }
                _ => return Ok(()),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), String> {
        if self.path == Some(self.at) {
            return Err("a comment right behind a stage: lexers disagree whether its path goes on".into());
        }
        let rest = self.rest();
        if let Some(body) = rest.strip_prefix("/*") {
            let Some((inside, _)) = body.split_once("*/") else {
                return Err("a block comment is not closed".into());
            };
            if inside.contains("/*") {
                return Err("a block comment holds `/*`: lexers disagree where it ends".into());
            }
            check_comment(inside)?;
            self.at += inside.len() + 4;
        } else {
            let line = rest.split('\n').next().unwrap_or(rest);
            if line.trim_end_matches('\r').contains('\r') {
                return Err("a bare carriage return in a comment: lexers disagree whether it ends there".into());
            }
            check_comment(line)?;
            self.at += line.len();
        }
        Ok(())
    }
}

fn check_comment(text: &str) -> Result<(), String> {
    match text.chars().find(|&c| c == '\0' || is_deceptive(c)) {
        Some(c) => {
            Err(format!("character U+{:04X} in a comment: it does not show, or ends a line for some", u32::from(c)))
        }
        None => Ok(()),
    }
}

fn foreign(c: char) -> String {
    let code = u32::from(c);
    if is_deceptive(c) || c.is_whitespace() {
        format!("character U+{code:04X} outside a literal: it does not show")
    } else {
        format!("character U+{code:04X} outside a literal: put such a name in double quotes")
    }
}

/// Zero-width, bidirectional and line-ending characters: what is seen is not what is read.
fn is_deceptive(c: char) -> bool {
    matches!(
        c,
        '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1f}' | '\u{85}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}'
    )
}

/// `'…'` with `''` and backslash escapes. All that matters in it is one byte, and no byte of another character.
fn text_len(rest: &str) -> Result<usize, String> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\0' => return Err("a NUL character".into()),
            b'\\' => at += 2,
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 2,
            b'\'' => return Ok(at + 1),
            _ => at += 1,
        }
    }
    Err("a text literal is not closed".into())
}

/// `"…"` with `""`.
fn quoted_len(rest: &str) -> Result<usize, String> {
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
            }
            '"' if at == 1 => return Err("an empty quoted identifier".into()),
            '"' => return Ok(at + 1),
            c if c.is_control() || is_deceptive(c) => {
                return Err(format!("character U+{:04X} in a quoted identifier", u32::from(c)));
            }
            _ => {}
        }
    }
    Err("a quoted identifier is not closed".into())
}

fn dollar_len(rest: &str) -> Result<usize, String> {
    let body = rest.get(2..).unwrap_or_default();
    match body.split_once("$$") {
        Some((inside, _)) if inside.contains('\0') => Err("a NUL character".into()),
        // `$$a$$$`: lexers disagree which dollars close it.
        Some((inside, after)) if inside.ends_with('$') || after.starts_with('$') => {
            Err("dollars beside a `$$` literal: lexers disagree where it ends".into())
        }
        Some((inside, _)) => Ok(inside.len() + 4),
        None => Err("a `$$` literal is not closed".into()),
    }
}

fn variable_len(rest: &str) -> Result<usize, String> {
    let body = rest.get(1..).unwrap_or_default();
    let len = body.bytes().take_while(|&b| b.is_ascii_alphanumeric() || b == b'_').count();
    match body.as_bytes().get(len) {
        _ if len == 0 => Err("a single `$`".into()),
        Some(b'$') => Err("a `$tag$` literal: not Snowflake syntax".into()),
        _ => Ok(len + 1),
    }
}

fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut len = digits(0);
    if bytes.get(len) == Some(&b'.') {
        len += 1 + digits(len + 1);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        let exponent = digits(len + 1 + sign);
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    len
}

fn word_len(rest: &str) -> Result<usize, String> {
    let bytes = rest.as_bytes();
    let len = bytes.iter().take_while(|&&b| b.is_ascii_alphanumeric() || b == b'_' || b == b'$').count();
    let word = rest.get(..len).unwrap_or_default();
    let prefixes = ["n", "e", "r", "b", "u", "q", "br", "rb", "nq"];
    if bytes.get(len) == Some(&b'\'') && prefixes.iter().any(|p| word.eq_ignore_ascii_case(p)) {
        return Err(format!("a literal with the prefix `{word}`: not Snowflake syntax"));
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::{TokenKind, split};

    fn pieces(sql: &str) -> Vec<String> {
        split(sql).unwrap().iter().map(|piece| piece.text.trim().to_owned()).collect()
    }

    #[test]
    fn a_comment_is_never_taken_for_a_path() {
        for text in ["list @st//x; drop table t", "list @st/a--b", "copy into @~/x/*y*/ from t", "get @\"a\"//"] {
            assert!(split(text).is_err(), "{text}");
        }
        assert_eq!(pieces("list @st // x; y").len(), 1);
        assert_eq!(pieces("select 'a@b'--; c").len(), 1);
        assert_eq!(pieces("select 1//; c\n; select @x - 1").len(), 2);
    }

    #[test]
    fn semicolons_split_only_outside_literals_and_comments() {
        assert_eq!(pieces("select 1; select 2;"), ["select 1", "select 2"]);
        assert_eq!(pieces("select ';' ; select $$;$$ ;; -- ;\n"), ["select ';'", "select $$;$$"]);
        assert_eq!(pieces(r#"select ";" /* ; */ // ;"#).len(), 1);
        assert_eq!(pieces(r"select '\\', ' FROM x; DROP TABLE y; --'").len(), 1);
        assert_eq!(pieces(r"select '\'; drop table y; --'").len(), 1);
        assert_eq!(pieces("select 'it''s; ok'").len(), 1);
        assert!(pieces(" ; -- nothing\n;").is_empty());
    }

    #[test]
    fn what_lexers_disagree_about_is_refused() {
        for sql in [
            "select 1 # x",
            "select `a`",
            "select 'a",
            "select \"a",
            "select $$a",
            "select /* a",
            "select /* /* */ */ 1",
            "select\u{a0}1",
            "select \u{200b}1",
            "select 1 -- \u{202e}",
            "select a\0",
            "select 'a\0'",
            "select $t$x$t$",
            "select n'x'",
            "select E'x'",
            "select \u{b}1",
            "select größe",
            "select 1 -- x\ry",
            "select \"\"",
            "select $",
            "select $$a$$$",
            "select \"a\u{200b}\"",
            "select \\ 1",
        ] {
            assert!(split(sql).is_err(), "`{}`", sql.escape_debug());
        }
    }

    #[test]
    fn depth_counts_what_can_stand_in_one_another() {
        for (sql, operators, nesting) in [
            ("select 1 + 1 + 1", 3, 0),
            ("values (-1, -2, -3), (-4, -5, -6)", 1, 1),
            ("select a in (-1, -2, 3 + 4 + 5)", 4, 1),
            ("select f(a, b) + f(a, b) + f(a, b)", 3, 1),
            ("(select a, b union select a, b union select a, b)", 5, 1),
            (") ) - ( (", 1, 2),
        ] {
            let piece = &split(sql).unwrap()[0];
            assert_eq!((piece.operators, piece.nesting), (operators, nesting), "{sql}");
        }
    }

    #[test]
    fn tokens_know_their_place() {
        let piece = &split("  select \"É\", 'ü' , $x, 1.5e3").unwrap()[0];
        let kinds: Vec<_> = piece.tokens.iter().map(|token| (token.kind, token.text, token.start)).collect();
        assert_eq!(kinds[1], (TokenKind::Quoted, "\"É\"", 9));
        assert_eq!(kinds[3], (TokenKind::Text, "'ü'", 15));
        assert_eq!(kinds[5], (TokenKind::Variable, "$x", 22));
        assert_eq!(kinds[7], (TokenKind::Number, "1.5e3", 26));
    }
}
