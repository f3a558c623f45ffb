//! Text to tree, with the type of each part.

use super::{
    BYTES_MAX, DEPTH_MAX, ExpressionError, Node, PARTS_MAX, ValueType,
    functions::{self, COUNT_MAX, Function, Gives, Takes},
};

/// A whole text.
pub(super) fn tree(of: ValueType, text: &str) -> Result<Node, ExpressionError> {
    if text.len() > BYTES_MAX {
        return wrong(1, format!("it has {} bytes, and {BYTES_MAX} is the most", text.len()));
    }
    let mut reader =
        Reader { tokens: tokens(text)?, at: 0, end: text.chars().count() + 1, of, parts: 0, depth: 0, column: false };
    let start = reader.place();
    let (node, kind) = reader.any()?;
    must_be(start, kind, of)?;
    if reader.peek().is_some() {
        return wrong(reader.place(), "the expression is over before this");
    }
    match (kind, reader.column) {
        (Some(_), true) => Ok(node),
        (None, _) => wrong(start, "this is always NULL; the mask for that is `null`"),
        (_, false) => wrong(start, "`{column}` is nowhere in it; the mask for that is `constant`"),
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Column,
    Word(String),
    Text(String),
    Number(String),
    Sign(&'static str),
}

/// Longer ones first.
const SIGNS: [&str; 16] = ["||", "<>", "!=", "<=", ">=", "(", ")", ",", "+", "-", "*", "/", "%", "=", "<", ">"];
const COLUMN: &str = "{column}";

fn wrong<T>(at: usize, reason: impl Into<String>) -> Result<T, ExpressionError> {
    Err(ExpressionError { at, reason: reason.into() })
}

/// Tokens, each with the character it starts at.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, ExpressionError> {
    let mut tokens = Vec::new();
    let (mut rest, mut at) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let len = if first == ' ' {
            1
        } else if rest.starts_with("--") || rest.starts_with("/*") || rest.starts_with("//") {
            return wrong(at, "a comment cannot stand here");
        } else if rest.starts_with(COLUMN) {
            tokens.push((at, Token::Column));
            COLUMN.len()
        } else if first == '\'' {
            let (literal, len) = literal(rest, at)?;
            tokens.push((at, Token::Text(literal)));
            len
        } else if first.is_ascii_digit() {
            let whole = run(rest, |c| c.is_ascii_digit());
            let point = rest.get(whole..).and_then(|rest| rest.strip_prefix('.'));
            let digits = point.map_or(0, |rest| run(rest, |c| c.is_ascii_digit()));
            let len = if digits > 0 { whole + 1 + digits } else { whole };
            let number = rest.get(..len).unwrap_or_default();
            if number.len() > 18 {
                return wrong(at, "this number is longer than 18 characters");
            }
            tokens.push((at, Token::Number(number.to_owned())));
            len
        } else if first.is_ascii_alphabetic() {
            let len = run(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            tokens.push((at, Token::Word(rest.get(..len).unwrap_or_default().to_ascii_uppercase())));
            len
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((at, Token::Sign(sign)));
            sign.len()
        } else {
            let what =
                if first.is_ascii_graphic() { format!("`{first}`") } else { format!("U+{:04X}", u32::from(first)) };
            return wrong(at, format!("{what} cannot stand here; the column is written `{COLUMN}`"));
        };
        let (taken, left) = rest.split_at_checked(len).unwrap_or((rest, ""));
        at += taken.chars().count();
        rest = left;
    }
    Ok(tokens)
}

fn run(text: &str, of: impl Fn(char) -> bool) -> usize {
    text.find(|c: char| !of(c)).unwrap_or(text.len())
}

/// A text in quotes, and how many bytes it takes.
fn literal(rest: &str, at: usize) -> Result<(String, usize), ExpressionError> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((byte, c)) = chars.next() {
        match c {
            '\'' if chars.peek().is_some_and(|(_, next)| *next == '\'') => {
                chars.next();
                out.push('\'');
            }
            '\'' => return Ok((out, byte + 1)),
            '\\' => {
                return wrong(
                    at,
                    "a backslash means something else to everybody; write `[0-9]` and `[.]` in a pattern",
                );
            }
            '{' | '}' => return wrong(at, "`{` and `}` in quotes are no column; leave them out"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() || matches!(c, '•' | '…' | '×') => out.push(c),
            c => return wrong(at, format!("the text in quotes holds U+{:04X}, which does not show", u32::from(c))),
        }
    }
    wrong(at, "the text in quotes is not closed")
}

/// A part and its type; NULL is of any.
type Typed = (Node, Option<ValueType>);

fn must_be(at: usize, kind: Option<ValueType>, wanted: ValueType) -> Result<(), ExpressionError> {
    match kind {
        Some(kind) if kind != wanted => {
            let said = |kind: ValueType| match kind {
                ValueType::Text => "text",
                ValueType::Number => "a number",
                ValueType::Boolean => "a boolean",
                ValueType::Date => "a date",
                ValueType::Timestamp => "a timestamp",
            };
            wrong(at, format!("this is {}, and {} is needed", said(kind), said(wanted)))
        }
        Some(_) | None => Ok(()),
    }
}

/// The type of two values that must be of one.
fn of_one_type(
    at: usize,
    one: Option<ValueType>,
    other: Option<ValueType>,
) -> Result<Option<ValueType>, ExpressionError> {
    if let Some(one) = one {
        must_be(at, other, one)?;
    }
    Ok(one.or(other))
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// The place behind the text.
    end: usize,
    of: ValueType,
    parts: usize,
    depth: usize,
    column: bool,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn place(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(at, _)| *at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.at += 1;
        token
    }

    fn takes(&mut self, token: &Token) -> bool {
        let there = self.peek() == Some(token);
        self.at += usize::from(there);
        there
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Word(other)) if other == word);
        self.at += usize::from(there);
        there
    }

    fn needs(&mut self, sign: &'static str) -> Result<(), ExpressionError> {
        if self.takes(&Token::Sign(sign)) { Ok(()) } else { wrong(self.place(), format!("`{sign}` is missing here")) }
    }

    fn needs_word(&mut self, word: &str) -> Result<(), ExpressionError> {
        if self.takes_word(word) { Ok(()) } else { wrong(self.place(), format!("{word} is missing here")) }
    }

    /// One level deeper.
    fn deeper(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Typed, ExpressionError>,
    ) -> Result<Typed, ExpressionError> {
        self.depth += 1;
        self.parts += 1;
        if self.depth > DEPTH_MAX || self.parts > PARTS_MAX {
            return wrong(
                self.place(),
                format!("it is deeper than {DEPTH_MAX} levels or has more than {PARTS_MAX} parts"),
            );
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn any(&mut self) -> Result<Typed, ExpressionError> {
        self.deeper(Self::or)
    }

    fn typed(&mut self, wanted: ValueType) -> Result<Node, ExpressionError> {
        let at = self.place();
        let (node, kind) = self.any()?;
        must_be(at, kind, wanted)?;
        Ok(node)
    }

    fn or(&mut self) -> Result<Typed, ExpressionError> {
        self.logical("OR", |reader| reader.logical("AND", Self::not))
    }

    fn logical(
        &mut self,
        word: &'static str,
        part: impl Fn(&mut Self) -> Result<Typed, ExpressionError>,
    ) -> Result<Typed, ExpressionError> {
        let mut at = self.place();
        let (mut node, mut kind) = part(self)?;
        while self.takes_word(word) {
            must_be(at, kind, ValueType::Boolean)?;
            at = self.place();
            let (right, of) = self.deeper(&part)?;
            must_be(at, of, ValueType::Boolean)?;
            node = Node::Binary(Box::new(node), word, Box::new(right));
            kind = Some(ValueType::Boolean);
        }
        Ok((node, kind))
    }

    fn not(&mut self) -> Result<Typed, ExpressionError> {
        if !self.takes_word("NOT") {
            return self.comparison();
        }
        let at = self.place();
        let (node, kind) = self.deeper(Self::not)?;
        must_be(at, kind, ValueType::Boolean)?;
        Ok((Node::Not(Box::new(node)), Some(ValueType::Boolean)))
    }

    fn comparison(&mut self) -> Result<Typed, ExpressionError> {
        let (left, kind) = self.sum()?;
        let boolean = Some(ValueType::Boolean);
        if self.takes_word("IS") {
            let not = self.takes_word("NOT");
            self.needs_word("NULL")?;
            return Ok((Node::IsNull(Box::new(left), !not), boolean));
        }
        let not = self.takes_word("NOT");
        if self.takes_word("IN") {
            self.needs("(")?;
            let mut values = Vec::new();
            loop {
                let at = self.place();
                let (value, of) = self.deeper(Self::constant)?;
                of_one_type(at, kind, of)?;
                values.push(value);
                if !self.takes(&Token::Sign(",")) {
                    break;
                }
            }
            self.needs(")")?;
            return Ok((Node::In(Box::new(left), values, !not), boolean));
        }
        if self.takes_word("LIKE") {
            must_be(self.place(), kind, ValueType::Text)?;
            let pattern = self.argument(Takes::Constant, &mut None)?;
            let like = Node::Binary(Box::new(left), "LIKE", Box::new(pattern));
            return Ok((if not { Node::Not(Box::new(like)) } else { like }, boolean));
        }
        if not {
            return wrong(self.place(), "IN or LIKE is missing here");
        }
        let Some(sign) =
            ["=", "<>", "!=", "<=", ">=", "<", ">"].into_iter().find(|sign| self.takes(&Token::Sign(sign)))
        else {
            return Ok((left, kind));
        };
        let at = self.place();
        let (right, of) = self.deeper(Self::sum)?;
        of_one_type(at, kind, of)?;
        let sign = if sign == "!=" { "<>" } else { sign };
        Ok((Node::Binary(Box::new(left), sign, Box::new(right)), boolean))
    }

    /// `+`, `-` and `||` bind alike.
    fn sum(&mut self) -> Result<Typed, ExpressionError> {
        let mut at = self.place();
        let (mut node, mut kind) = self.product()?;
        while let Some(sign) = ["+", "-", "||"].into_iter().find(|sign| self.takes(&Token::Sign(sign))) {
            let of = if sign == "||" { ValueType::Text } else { ValueType::Number };
            must_be(at, kind, of)?;
            at = self.place();
            let (right, right_kind) = self.deeper(Self::product)?;
            must_be(at, right_kind, of)?;
            node = Node::Binary(Box::new(node), sign, Box::new(right));
            kind = Some(of);
        }
        Ok((node, kind))
    }

    fn product(&mut self) -> Result<Typed, ExpressionError> {
        let mut at = self.place();
        let (mut node, mut kind) = self.sign()?;
        while let Some(sign) = ["*", "/", "%"].into_iter().find(|sign| self.takes(&Token::Sign(sign))) {
            must_be(at, kind, ValueType::Number)?;
            at = self.place();
            let right = if sign == "*" {
                let (right, of) = self.deeper(Self::sign)?;
                must_be(at, of, ValueType::Number)?;
                right
            } else {
                self.argument(Takes::Divisor, &mut None)?
            };
            node = Node::Binary(Box::new(node), sign, Box::new(right));
            kind = Some(ValueType::Number);
        }
        Ok((node, kind))
    }

    fn sign(&mut self) -> Result<Typed, ExpressionError> {
        if !self.takes(&Token::Sign("-")) {
            return self.atom();
        }
        let at = self.place();
        let (node, kind) = self.deeper(Self::sign)?;
        must_be(at, kind, ValueType::Number)?;
        Ok((Node::Minus(Box::new(node)), Some(ValueType::Number)))
    }

    fn constant(&mut self) -> Result<Typed, ExpressionError> {
        let at = self.place();
        let minus = self.takes(&Token::Sign("-"));
        match (self.next(), minus) {
            (Some(Token::Number(digits)), false) => Ok((Node::Number(digits), Some(ValueType::Number))),
            (Some(Token::Number(digits)), true) => {
                Ok((Node::Minus(Box::new(Node::Number(digits))), Some(ValueType::Number)))
            }
            (Some(Token::Text(text)), false) => Ok((Node::Text(text), Some(ValueType::Text))),
            (Some(Token::Word(word)), false) if word == "DATE" => self.date(),
            _ => wrong(at, "a constant is needed here: a number, a text in quotes or DATE '2000-01-31'"),
        }
    }

    fn date(&mut self) -> Result<Typed, ExpressionError> {
        let at = self.place();
        match self.next() {
            Some(Token::Text(day)) if is_day(&day) => Ok((Node::Date(day), Some(ValueType::Date))),
            _ => wrong(at, "a date is needed here, as in DATE '2000-01-31'"),
        }
    }

    fn atom(&mut self) -> Result<Typed, ExpressionError> {
        let at = self.place();
        self.parts += 1;
        match self.next() {
            Some(Token::Column) => {
                self.column = true;
                Ok((Node::Column, Some(self.of)))
            }
            Some(Token::Text(text)) => Ok((Node::Text(text), Some(ValueType::Text))),
            Some(Token::Number(digits)) => Ok((Node::Number(digits), Some(ValueType::Number))),
            Some(Token::Sign("(")) => {
                let inner = self.any()?;
                self.needs(")")?;
                Ok(inner)
            }
            Some(Token::Word(word)) => match word.as_str() {
                "NULL" => Ok((Node::Null, None)),
                "TRUE" => Ok((Node::Boolean(true), Some(ValueType::Boolean))),
                "FALSE" => Ok((Node::Boolean(false), Some(ValueType::Boolean))),
                "DATE" => self.date(),
                "CASE" => self.case(),
                name => match functions::named(name) {
                    Some(function) => self.deeper(|reader| reader.call(function)),
                    None => wrong(at, format!("`{name}` is not a function that masks may use")),
                },
            },
            Some(Token::Sign(sign)) => wrong(at, format!("`{sign}` cannot stand here")),
            None => wrong(at, "something is missing here"),
        }
    }

    fn case(&mut self) -> Result<Typed, ExpressionError> {
        let (mut whens, mut kind) = (Vec::new(), None);
        while self.takes_word("WHEN") {
            let when = self.typed(ValueType::Boolean)?;
            self.needs_word("THEN")?;
            let at = self.place();
            let (then, of) = self.any()?;
            kind = of_one_type(at, kind, of)?;
            whens.push((when, then));
        }
        if whens.is_empty() {
            return wrong(self.place(), "WHEN is missing here");
        }
        let otherwise = if self.takes_word("ELSE") {
            let at = self.place();
            let (otherwise, of) = self.any()?;
            kind = of_one_type(at, kind, of)?;
            Some(Box::new(otherwise))
        } else {
            None
        };
        self.needs_word("END")?;
        Ok((Node::Case(whens, otherwise), kind))
    }

    fn call(&mut self, function: &'static Function) -> Result<Typed, ExpressionError> {
        self.needs("(")?;
        let (mut args, mut same) = (Vec::new(), None);
        let mut unit = None;
        for (number, takes) in function.takes.iter().enumerate() {
            if number >= function.least && self.peek() == Some(&Token::Sign(")")) {
                break;
            }
            if number > 0 {
                self.needs(",")?;
            }
            let at = self.place();
            args.push(self.argument(*takes, &mut same)?);
            if *takes == Takes::Unit {
                unit = Some(at);
            }
        }
        self.needs(")")?;
        if let (Some(at), Some(Node::Text(unit)), Some(ValueType::Date)) = (unit, args.first(), same)
            && functions::UNITS_OF_DAY.contains(&unit.as_str())
        {
            return wrong(at, format!("a date has no {unit}"));
        }
        let gives = match function.gives {
            Gives::Value(kind) => Some(kind),
            Gives::Same => same,
        };
        Ok((Node::Call(function, args), gives))
    }

    fn argument(&mut self, takes: Takes, same: &mut Option<ValueType>) -> Result<Node, ExpressionError> {
        let at = self.place();
        match takes {
            Takes::Value(wanted) => self.typed(wanted),
            Takes::Same => {
                let (node, kind) = self.any()?;
                *same = of_one_type(at, *same, kind)?;
                Ok(node)
            }
            Takes::Moment => {
                let (node, kind) = self.any()?;
                match kind {
                    Some(ValueType::Date | ValueType::Timestamp) => *same = kind,
                    _ => return wrong(at, "a date or timestamp is needed here"),
                }
                Ok(node)
            }
            Takes::Constant | Takes::Character | Takes::Unit => {
                let Some(Token::Text(text)) = self.next() else { return wrong(at, "a text in quotes is needed here") };
                let known = || functions::UNITS.iter().chain(&functions::UNITS_OF_DAY).any(|unit| *unit == text);
                match takes {
                    Takes::Character if text.chars().count() != 1 => {
                        wrong(at, "one character in quotes is needed here")
                    }
                    Takes::Unit if !known() => {
                        wrong(at, "'year', 'quarter', 'month', 'day', 'hour' or 'minute' is needed here")
                    }
                    _ => Ok(Node::Text(text)),
                }
            }
            Takes::Count => self.count(0),
            Takes::Place => self.count(1),
            Takes::Divisor => match self.next() {
                Some(Token::Number(digits)) if digits.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) => {
                    Ok(Node::Number(digits))
                }
                _ => wrong(at, "a number that is written here and is not 0 is needed, for what divides by 0 fails"),
            },
            Takes::Times if self.takes(&Token::Sign("(")) => {
                let times = self.deeper(|reader| Ok((reader.times()?, None)))?.0;
                self.needs(")")?;
                Ok(times)
            }
            Takes::Times => self.times(),
        }
    }

    /// A count, or a length that a count may be taken from.
    fn times(&mut self) -> Result<Node, ExpressionError> {
        let at = self.place();
        if let Some(Token::Number(_)) = self.peek() {
            return self.count(0);
        }
        let Some(length) = functions::named("LENGTH").filter(|_| self.takes_word("LENGTH")) else {
            return wrong(at, "a number, LENGTH(…) or LENGTH(…) less a number is needed here");
        };
        let (length, _) = self.deeper(|reader| reader.call(length))?;
        if !self.takes(&Token::Sign("-")) {
            return Ok(length);
        }
        let less = self.count(0)?;
        Ok(Node::Binary(Box::new(length), "-", Box::new(less)))
    }

    /// A whole number that is written.
    fn count(&mut self, least: u32) -> Result<Node, ExpressionError> {
        let at = self.place();
        match self.next() {
            Some(Token::Number(digits))
                if digits.parse().is_ok_and(|count: u32| (least..=COUNT_MAX).contains(&count)) =>
            {
                Ok(Node::Number(digits))
            }
            _ => wrong(at, format!("a whole number from {least} to {COUNT_MAX} is needed here")),
        }
    }
}

/// A day of the calendar, of four digits, two and two.
fn is_day(text: &str) -> bool {
    let shape = text.len() == 10
        && text.bytes().zip("0000-00-00".bytes()).all(|(c, s)| if s == b'0' { c.is_ascii_digit() } else { c == s });
    let part = |from: usize, to: usize| text.get(from..to).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    };
    shape && year > 0 && (1..=days).contains(&day)
}
