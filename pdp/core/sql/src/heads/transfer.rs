//! Tokens of a statement, with the unquoted `file://` of PUT and GET as one literal: elsewhere `//` is a comment.

use crate::gate::{self, Piece, Token, TokenKind};

/// Its tokens, or nothing when a file's place is not plain.
pub(super) fn tokens<'a>(piece: &Piece<'a>) -> Option<Vec<Token<'a>>> {
    let transfer = |token: &Token<'_>| ["PUT", "GET"].iter().any(|word| token.text.eq_ignore_ascii_case(word));
    let at = piece.tokens.windows(2).position(|pair| match pair {
        [word, colon] => word.kind == TokenKind::Word && word.text.eq_ignore_ascii_case("file") && colon.text == ":",
        _ => false,
    });
    let (Some(at), true) = (at, piece.tokens.first().is_some_and(transfer)) else { return Some(piece.tokens.clone()) };
    let start = piece.tokens.get(at)?.start;
    let from = piece.text.get(start.checked_sub(piece.start)?..)?;
    let len = from.find(|c: char| c.is_ascii_whitespace()).unwrap_or(from.len());
    let (url, rest) = from.split_at_checked(len)?;
    let path = url.get("file:".len()..)?.strip_prefix("//")?;
    // INVARIANT: nothing in the path begins a comment, a literal or a statement for any lexer but the `//` itself.
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/\\._-*?%=+~:,@".contains(c));
    if !plain || path.is_empty() || ["--", "*/"].iter().any(|odd| path.contains(odd)) {
        return None;
    }
    let mut tokens = piece.tokens.get(..at)?.to_vec();
    tokens.push(Token { kind: TokenKind::Text, text: url, start });
    let after = gate::tokens(rest).ok()?;
    tokens.extend(after.into_iter().map(|token| Token { start: token.start + start + len, ..token }));
    Some(tokens)
}
