use super::Dice;

/// What may stand between two tokens.
const BLANKS: &[&str] = &[" ", "\n", "\t", "\r\n", " -- x;'\n", " /* ; ' é */ ", " // $$\n", "   "];

/// The same statement in another writing: other case, other blanks, comments between its tokens.
pub fn rewritten(sql: &str, dice: &mut Dice) -> String {
    let mut text = String::new();
    for token in sql.split(' ') {
        text.push_str(dice.pick::<&str>(BLANKS));
        if token.starts_with('\'') {
            text.push_str(token);
            continue;
        }
        for c in token.chars() {
            text.push(if dice.one_in(2) { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() });
        }
    }
    text.push_str(dice.pick::<&str>(BLANKS));
    text
}
